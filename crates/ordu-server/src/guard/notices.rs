//! What moderators are told: kept in the database, and posted to a webhook of theirs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ordu_core::Millis;
use ordu_store::Notice;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::app::App;

/// Posts that may wait; what comes while the queue is full is kept, but not posted.
const QUEUE: usize = 256;

/// How long a post may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// The longest text that is posted, in characters: what chat servers take.
const MAX_POST_CHARS: usize = 1_900;

/// The longest prompt that is kept, in characters.
const MAX_PROMPT_CHARS: usize = 10_000;

/// How long notices are kept.
const KEPT_FOR: Millis = Millis::from_minutes(30 * 24 * 60);

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    /// Somebody sent a corrupt prompt. Kept as evidence, never posted.
    CorruptPrompt,
    /// A worker was paused by itself.
    WorkerPaused,
    /// Many jobs of somebody were reported as illegal.
    ProblemJobs,
    /// A service passes on many corrupt prompts.
    CorruptService,
}

impl NoticeKind {
    /// Its name, as it is stored.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CorruptPrompt => "corrupt-prompt",
            Self::WorkerPaused => "worker-paused",
            Self::ProblemJobs => "problem-jobs",
            Self::CorruptService => "corrupt-service",
        }
    }
}

/// Something that moderators should know.
pub(crate) struct News {
    pub(crate) kind: NoticeKind,
    pub(crate) subject: String,
    pub(crate) message: String,
    pub(crate) prompt: Option<String>,
}

/// The way to the moderators' webhook, if they have one.
pub(crate) struct Notices {
    sender: mpsc::Sender<String>,
    waiting: Mutex<Option<mpsc::Receiver<String>>>,
    webhook: Option<Url>,
    client: reqwest::Client,
}

impl Notices {
    pub(crate) fn new(webhook: Option<Url>) -> Result<Self, reqwest::Error> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let client = crate::outgoing::client().timeout(DEADLINE).build()?;
        Ok(Self {
            sender,
            waiting: Mutex::new(Some(receiver)),
            webhook,
            client,
        })
    }

    fn post_later(&self, news: &News) {
        if self.webhook.is_none() {
            return;
        }
        let mut text = news.message.clone();
        if let Some(prompt) = &news.prompt {
            text.push_str("\nPrompt: ");
            text.push_str(prompt);
        }
        let text: String = text.chars().take(MAX_POST_CHARS).collect();
        if self.sender.try_send(text).is_err() {
            tracing::warn!("too many notices wait to be posted: one is only kept");
        }
    }

    async fn post(&self, text: &str) {
        let Some(url) = &self.webhook else {
            return;
        };
        let sent = self
            .client
            .post(url.clone())
            .json(&json!({ "content": text }));
        let answered = sent
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        if let Err(error) = answered {
            // The URL is a secret.
            let error = error.without_url();
            tracing::warn!(%error, "a notice could not be posted");
        }
    }
}

/// Posts notices until the shutdown begins.
pub(crate) async fn post_notices(app: Arc<App>, shutdown: CancellationToken) {
    let notices = &app.guard.notices;
    let receiver = notices
        .waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut receiver) = receiver else {
        return;
    };
    while let Some(Some(text)) = shutdown.run_until_cancelled(receiver.recv()).await {
        notices.post(&text).await;
    }
}

impl App {
    /// Keeps a notice, posts it, and says in the log that there is one.
    pub(crate) async fn tell_moderators(&self, news: News) {
        tracing::warn!(
            kind = news.kind.name(),
            subject = news.subject,
            "moderators should look at this"
        );
        self.guard.notices.post_later(&news);
        self.keep_evidence(news).await;
    }

    /// Keeps a notice that moderators find when they look for it.
    pub(crate) async fn keep_evidence(&self, news: News) {
        let cut = |prompt: String| prompt.chars().take(MAX_PROMPT_CHARS).collect();
        let notice = Notice {
            id: Uuid::new_v4(),
            kind: news.kind.name().to_owned(),
            subject: news.subject,
            message: news.message,
            // Neither database stores NUL.
            prompt: news.prompt.map(|prompt| cut(prompt.replace('\0', ""))),
            happened_at: self.clock.now().0,
        };
        if let Err(error) = self.store.insert_notice(&notice).await {
            tracing::warn!(%error, kind = notice.kind, "a notice is not stored");
        }
    }

    /// Deletes notices that are old enough.
    pub(crate) async fn delete_old_notices(&self) -> Result<(), ordu_store::Error> {
        self.store
            .delete_notices(self.clock.now() - KEPT_FOR)
            .await?;
        Ok(())
    }
}
