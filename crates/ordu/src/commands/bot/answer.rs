//! One mention: what is asked of the horde, and what is said in reply.

use std::sync::Arc;
use std::time::Duration;

use ordu_api::RequestId;
use ordu_api::image::{Generation, ImageParams, ImageRequest};
use ordu_client::{Error, Horde, Pace};
use tokio::time::{sleep, timeout};

use super::mastodon::{Mastodon, Reply, Status, Trouble};
use super::memory::{Journal, Open};
use super::mention::{self, Wish};
use crate::cli::{MastodonBot, Size};

/// The largest picture that is taken from a horde, in bytes.
const MAX_PICTURE_BYTES: usize = 64 << 20;

/// Descriptions of pictures that Mastodon takes, in characters.
const MAX_ALT: usize = 1500;

/// What is said beside a picture is short, in characters.
const MAX_TEXT: usize = 400;

/// How often what failed for a moment is tried again, and after how long.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(30);

/// Who asks the horde, and says what came of it.
pub(super) struct Painter {
    horde: Horde,
    mastodon: Arc<Mastodon>,
    style: Option<String>,
    models: Vec<String>,
    size: Size,
    max_side: u32,
    nsfw: bool,
    patience: Duration,
}

/// What is said.
struct Answer {
    text: String,
    picture: Option<Picture>,
}

struct Picture {
    webp: Vec<u8>,
    alt: String,
    /// Whether its worker says that not everybody may want to see it.
    nsfw: bool,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self {
            text,
            picture: None,
        }
    }
}

impl Painter {
    pub(super) fn new(args: &MastodonBot, horde: Horde, mastodon: Arc<Mastodon>) -> Self {
        Self {
            horde,
            mastodon,
            style: args.bot_style.clone(),
            models: args.bot_model.clone(),
            size: args.bot_size,
            max_side: args.bot_max_side,
            nsfw: args.bot_nsfw,
            patience: Duration::from_secs(args.bot_timeout),
        }
    }

    /// Answers a mention, whatever happens.
    pub(super) async fn answer(&self, open: &Open, journal: &Journal) {
        let id = &open.status.id;
        let answer = match self.find(open, journal).await {
            Ok(answer) => answer,
            Err(words) => words.into(),
        };
        for _ in 0..TRIES {
            match self.say(open, &answer).await {
                Ok(()) => {
                    let picture = answer.picture.is_some();
                    tracing::info!(status = %id, picture, "answered a mention");
                    return;
                }
                Err(Trouble::Refused(reason)) => {
                    tracing::warn!(status = %id, reason, "Mastodon refused an answer");
                    return;
                }
                Err(error) => {
                    tracing::warn!(status = %id, %error, "an answer could not be given yet");
                    sleep(PAUSE).await;
                }
            }
        }
        tracing::error!(status = %id, "an answer was given up: Mastodon did not take it");
    }

    async fn say(&self, open: &Open, answer: &Answer) -> Result<(), Trouble> {
        let to = &open.status;
        let media = match &answer.picture {
            Some(picture) => Some(
                self.mastodon
                    .upload(picture.webp.clone(), &picture.alt)
                    .await?,
            ),
            None => None,
        };
        let is_nsfw = answer.picture.as_ref().is_some_and(|picture| picture.nsfw);
        let reply = Reply {
            to,
            text: format!("@{} {}", open.account, answer.text),
            media,
            sensitive: to.sensitive || is_nsfw,
            warning: warning(to, is_nsfw),
        };
        self.mastodon.reply(&reply).await
    }

    /// What to say to a mention; the error is words for who wrote it.
    async fn find(&self, open: &Open, journal: &Journal) -> Result<Answer, String> {
        if open.too_many {
            return Err("That was a lot in one hour. Please ask again later.".to_owned());
        }
        let wish = mention::read(&open.status.content).map_err(|words| harmless(&words))?;
        let request = self.request(&wish)?;
        let generation = self.generation(open, &request, journal).await?;
        if generation.censored {
            return Err("The worker did not want to show what came of this.".to_owned());
        }
        let webp = self
            .horde
            .download(&generation.img, MAX_PICTURE_BYTES)
            .await;
        let webp = webp.map_err(|error| unlucky(&error))?;
        let says_nsfw = |it: &ordu_api::image::Metadata| it.value == "nsfw";
        Ok(Answer {
            text: harmless(&format!("{}, seed {}", generation.model, generation.seed)),
            picture: Some(Picture {
                webp: webp.to_vec(),
                alt: wish.prompt.chars().take(MAX_ALT).collect(),
                nsfw: generation.gen_metadata.iter().any(says_nsfw),
            }),
        })
    }

    fn request(&self, wish: &Wish) -> Result<ImageRequest, String> {
        let size = wish.size.unwrap_or(self.size);
        let side = size.width.max(size.height);
        if wish.size.is_some() && side > self.max_side {
            return Err(format!(
                "{side} pixels are too many here: {} at most.",
                self.max_side
            ));
        }
        Ok(ImageRequest {
            prompt: wish.prompt.clone(),
            params: ImageParams {
                width: Some(size.width),
                height: Some(size.height),
                n: Some(1),
                ..ImageParams::default()
            },
            models: self.models.clone(),
            style: wish.style.clone().or_else(|| self.style.clone()),
            nsfw: self.nsfw,
            censor_nsfw: !self.nsfw,
            ..ImageRequest::default()
        })
    }

    /// Asks the horde, unless it was asked before, and waits.
    async fn generation(
        &self,
        open: &Open,
        request: &ImageRequest,
        journal: &Journal,
    ) -> Result<Generation, String> {
        let id = match open.request {
            Some(id) if self.horde.check(id).await.is_ok() => id,
            _ => self.ask(request).await?,
        };
        if let Err(error) = journal.asked(&open.status.id, id) {
            tracing::error!(%error, "what was asked could not be written down");
        }
        let pace = Pace::default();
        let waited = self.horde.wait_for(id, &pace, |_| {});
        let Ok(progress) = timeout(self.patience, waited).await else {
            // What nobody waits for should not be painted.
            self.horde.cancel(id).await.ok();
            return Err("Nobody had time for this. Please ask again later.".to_owned());
        };
        if progress.map_err(|error| unlucky(&error))?.faulted {
            return Err(
                "The horde tried three times and failed. Maybe say it otherwise?".to_owned(),
            );
        }
        let status = self
            .horde
            .status(id)
            .await
            .map_err(|error| unlucky(&error))?;
        let first = status.generations.into_iter().next();
        first.ok_or_else(|| "The horde made nothing of this.".to_owned())
    }

    async fn ask(&self, request: &ImageRequest) -> Result<RequestId, String> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.horde.async_image(request).await {
                Ok(accepted) => return Ok(accepted.id),
                Err(Error::Refused(refusal)) => {
                    return Err(harmless(&format!("The horde says no: {}", refusal.message)));
                }
                Err(error @ (Error::RateLimited { .. } | Error::Unavailable { .. }))
                    if tries < TRIES =>
                {
                    tracing::warn!(%error, "the horde has no time yet");
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(unlucky(&error)),
            }
        }
    }
}

/// What stands before a picture that not everybody may want to see.
fn warning(to: &Status, is_nsfw: bool) -> Option<String> {
    if !to.spoiler_text.is_empty() {
        return Some(to.spoiler_text.clone());
    }
    is_nsfw.then(|| "NSFW".to_owned())
}

/// What went wrong is for whoever runs the bot.
fn unlucky(error: &Error) -> String {
    tracing::warn!(%error, "the horde did not get done with a picture");
    "Something went wrong on the way. Please ask again later.".to_owned()
}

/// A short text that calls nobody: what others wrote may hold their names.
fn harmless(text: &str) -> String {
    let short: String = text.chars().take(MAX_TEXT).collect();
    short.replace('@', "@\u{200b}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_called() {
        assert_eq!(
            harmless("no @bob@x.example"),
            "no @\u{200b}bob@\u{200b}x.example"
        );
        assert_eq!(harmless(&"é".repeat(900)).chars().count(), MAX_TEXT);
    }
}
