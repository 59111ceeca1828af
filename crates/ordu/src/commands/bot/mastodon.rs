//! Mastodon's API as far as a bot needs it.
//!
//! A client of our own: those of others send no `Idempotency-Key`, put the token into addresses and write
//! what people say into logs, each of which would break a promise of this program.
//!
//! # Source
//! `docs.joinmastodon.org`: methods `accounts`, `notifications`, `media`, `statuses`, `streaming`.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_client::{Frames, http_client};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;
use url::Url;

/// How long a call may take.
const WITHIN: Duration = Duration::from_mins(1);

/// So many mentions are asked for at once.
const PAGE: &str = "40";

/// How often a call is repeated that Mastodon could not answer.
const TRIES: u32 = 4;

/// Before the first repetition; each further one waits twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at a picture that Mastodon works on, and how many of them.
const MEDIA_PAUSE: Duration = Duration::from_secs(1);
const MEDIA_LOOKS: u32 = 120;

/// Before a stream that cannot be had is tried again.
const NO_STREAM: Duration = Duration::from_mins(5);

/// Before a stream that broke off is.
const STREAM_AGAIN: Duration = Duration::from_secs(3);

/// The largest answer that is read.
const MAX_ANSWER: usize = 8 << 20;

/// Why a call came to nothing. No text holds the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Mastodon said no.
    #[error("{0}")]
    Refused(String),
    /// It did not answer, or not as it should.
    #[error("{0}")]
    Away(String),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Self::Away(format!("{error}{}", cause.unwrap_or_default()))
    }
}

/// Somebody's account.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Account {
    pub(super) id: String,
    /// The name, with the server unless it is this one.
    pub(super) acct: String,
    #[serde(default)]
    pub(super) bot: bool,
}

/// What happened to an account.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Notification {
    pub(super) id: String,
    #[serde(rename = "type")]
    kind: String,
    pub(super) account: Account,
    #[serde(default)]
    pub(super) status: Option<Status>,
}

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) id: String,
    /// HTML.
    pub(super) content: String,
    pub(super) visibility: String,
    #[serde(default)]
    pub(super) sensitive: bool,
    #[serde(default)]
    pub(super) spoiler_text: String,
    #[serde(default)]
    pub(super) language: Option<String>,
}

/// A picture that was uploaded.
#[derive(Debug, Deserialize)]
struct Media {
    id: String,
}

/// What is said in reply.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) to: &'a Status,
    pub(super) text: String,
    pub(super) media: Option<String>,
    pub(super) sensitive: bool,
    /// Why not everybody may want to see it.
    pub(super) warning: Option<String>,
}

/// A server of Mastodon as one account sees it.
pub(super) struct Mastodon {
    http: Client,
    base: Url,
    /// Marked sensitive: it prints nowhere.
    token: HeaderValue,
}

impl Mastodon {
    /// Nothing is sent yet.
    pub(super) fn new(base: &Url, token: &str) -> Result<Self> {
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .context("`--mastodon-token` holds characters that no token has")?;
        token.set_sensitive(true);
        Ok(Self {
            http: http_client(|builder| builder)?,
            base: base.clone(),
            token,
        })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let before = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{before}{path}"));
        url
    }

    fn signed(&self, call: RequestBuilder) -> RequestBuilder {
        call.header(AUTHORIZATION, self.token.clone())
            .header("User-Agent", concat!("ordu/", env!("CARGO_PKG_VERSION")))
    }

    /// Who the token belongs to.
    pub(super) async fn account(&self) -> Result<Account, Trouble> {
        let url = self.url("/api/v1/accounts/verify_credentials");
        read(self.send(|| self.http.get(url.clone())).await?).await
    }

    /// The newest notification about a mention.
    pub(super) async fn newest_mention(&self) -> Result<Option<String>, Trouble> {
        let newest = self.notifications(&[("limit", "1")]).await?;
        Ok(newest.into_iter().next().map(|mention| mention.id))
    }

    /// The mentions that follow a notification, oldest first.
    pub(super) async fn mentions(&self, since: &str) -> Result<Vec<Notification>, Trouble> {
        let query = [("min_id", since), ("limit", PAGE)];
        let mut mentions = self.notifications(&query).await?;
        mentions.reverse();
        Ok(mentions)
    }

    async fn notifications(&self, query: &[(&str, &str)]) -> Result<Vec<Notification>, Trouble> {
        let mut url = self.url("/api/v1/notifications");
        url.query_pairs_mut()
            .append_pair("types[]", "mention")
            .extend_pairs(query);
        let all: Vec<Notification> = read(self.send(|| self.http.get(url.clone())).await?).await?;
        Ok(all.into_iter().filter(|it| it.kind == "mention").collect())
    }

    /// Says each time that Mastodon tells of something new.
    pub(super) async fn listen(&self, news: &Notify) -> Infallible {
        loop {
            let Some(mut frames) = self.stream().await else {
                sleep(NO_STREAM).await;
                continue;
            };
            // What came before was told to nobody.
            news.notify_one();
            while let Ok(Some(frame)) = frames.next().await {
                if frame.name == "notification" {
                    news.notify_one();
                }
            }
            sleep(STREAM_AGAIN).await;
        }
    }

    async fn stream(&self) -> Option<Frames> {
        let url = self.streaming_url().await;
        let call = self.signed(self.http.get(url));
        match Frames::open(call).await {
            Ok(frames) => frames,
            Err(error) => {
                tracing::info!(%error, "Mastodon does not tell what happens: the bot looks from time to time");
                None
            }
        }
    }

    /// Some servers stream from a place of its own.
    async fn streaming_url(&self) -> Url {
        const PATH: &str = "/api/v1/streaming/user/notification";
        let own = self.url(PATH);
        let asked = self.http.get(self.url("/api/v2/instance")).timeout(WITHIN);
        let Ok(answer) = asked.send().await else {
            return own;
        };
        let Ok(told) = read::<Value>(answer).await else {
            return own;
        };
        let place = told.pointer("/configuration/urls/streaming");
        let place = place.and_then(Value::as_str).unwrap_or_default();
        let place = place.replacen("ws", "http", 1);
        let place = format!("{}{PATH}", place.trim_end_matches('/'));
        // The token goes nowhere that is less private than where it came from.
        match place.parse::<Url>() {
            Ok(url) if url.scheme() == own.scheme() => url,
            _ => own,
        }
    }

    /// Uploads a picture and waits until Mastodon is done with it.
    pub(super) async fn upload(&self, picture: Vec<u8>, alt: &str) -> Result<String, Trouble> {
        let url = self.url("/api/v2/media");
        let form = Form::new(&picture, alt);
        let answer = self.send(|| {
            let call = self.http.post(url.clone());
            call.header(CONTENT_TYPE, form.content_type())
                .body(form.body.clone())
        });
        let answer = answer.await?;
        let is_done = answer.status() == StatusCode::OK;
        let media: Media = read(answer).await?;
        if is_done {
            return Ok(media.id);
        }
        let url = self.url(&format!("/api/v1/media/{}", media.id));
        for _ in 0..MEDIA_LOOKS {
            sleep(MEDIA_PAUSE).await;
            let answer = self.send(|| self.http.get(url.clone())).await?;
            if answer.status() == StatusCode::OK {
                return Ok(media.id);
            }
        }
        Err(Trouble::Away(
            "Mastodon does not get done with the picture".to_owned(),
        ))
    }

    /// Says something in reply. The same reply to the same status is said once, however often this is
    /// called within an hour.
    pub(super) async fn reply(&self, reply: &Reply<'_>) -> Result<(), Trouble> {
        let url = self.url("/api/v1/statuses");
        let mut body = json!({
            "status": reply.text,
            "in_reply_to_id": reply.to.id,
            "visibility": reply.to.visibility,
            "sensitive": reply.sensitive,
        });
        if let Some(media) = &reply.media {
            body["media_ids"] = json!([media]);
        }
        if let Some(warning) = &reply.warning {
            body["spoiler_text"] = json!(warning);
        }
        if let Some(language) = &reply.to.language {
            body["language"] = json!(language);
        }
        let key = format!("ordu-{}", reply.to.id);
        let call = || {
            let call = self.http.post(url.clone()).json(&body);
            call.header("Idempotency-Key", key.as_str())
        };
        self.send(call).await.map(|_| ())
    }

    /// Sends a call, more than once if Mastodon is away.
    async fn send(&self, call: impl Fn() -> RequestBuilder) -> Result<Response, Trouble> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let sent = self.signed(call()).timeout(WITHIN).send().await;
            let trouble = match sent {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => refused(answer).await,
                Err(error) => error.into(),
            };
            if tries == TRIES || matches!(trouble, Trouble::Refused(_)) {
                return Err(trouble);
            }
            sleep(pause).await;
            pause *= 2;
            tries += 1;
        }
    }
}

/// What an answer means that is no success.
async fn refused(answer: Response) -> Trouble {
    let status = answer.status();
    let told: Option<Value> = read(answer).await.ok();
    let told = told
        .as_ref()
        .and_then(|told| told.get("error"))
        .and_then(Value::as_str);
    let reason = format!("{status}: {}", told.unwrap_or("no reason"));
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Trouble::Away(reason)
    } else {
        Trouble::Refused(reason)
    }
}

async fn read<T: DeserializeOwned>(mut answer: Response) -> Result<T, Trouble> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > MAX_ANSWER {
            return Err(Trouble::Away("the answer is too large".to_owned()));
        }
        body.extend_from_slice(&piece);
    }
    // What is wrong with it is left out: it would show what people said.
    serde_json::from_slice(&body).map_err(|_| Trouble::Away("the answer cannot be read".to_owned()))
}

/// A picture with its description, as forms are sent.
struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    fn new(picture: &[u8], alt: &str) -> Self {
        // Nobody must be able to end a part early.
        let boundary = format!("ordu-{}", unguessable());
        let mut body = Vec::with_capacity(picture.len() + alt.len() + 512);
        let part =
            |name: &str| format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"");
        body.extend_from_slice(part("description").as_bytes());
        body.extend_from_slice(format!("\r\n\r\n{alt}\r\n").as_bytes());
        body.extend_from_slice(part("file").as_bytes());
        body.extend_from_slice(b"; filename=\"picture.webp\"\r\nContent-Type: image/webp\r\n\r\n");
        body.extend_from_slice(picture);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        Self { boundary, body }
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }
}

/// What nobody can guess, unless the system has no randomness.
fn unguessable() -> String {
    let random = ordu_server::random_bytes::<16>();
    let number = random.map_or(0, u128::from_ne_bytes);
    format!("{number:032x}")
}
