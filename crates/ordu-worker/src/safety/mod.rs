//! Every picture is looked at before it leaves: what is said of it, and what is sent in its place.
//!
//! [`Classifier`] says what a picture shows, `verdict` what follows from it, [`Safety`] brings both
//! together. A picture that could not be looked at does not leave. Without a classifier, and
//! with models that could draw anything, the worker takes only requests without adult content.
//!
//! # Source
//! `worker.md` § 4.

mod engine;
pub(crate) mod remote;
mod verdict;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use image::DynamicImage;
use ordu_api::image::{Metadata, SubmitState};

use crate::controls::Current;
use crate::encode::webp;

pub use engine::EngineClassifier;
pub use remote::RemoteClassifier;
use verdict::{Conditions, Reason, Rules, Verdict, verdict};

/// Says what a picture shows.
pub trait Classifier: Send + Sync + fmt::Debug {
    /// Looks at one picture.
    ///
    /// # Errors
    /// If it cannot be looked at; the picture is then not delivered.
    fn judge<'a>(&'a self, view: View<'a>) -> BoxFuture<'a, Result<Judgement, ClassifierError>>;
}

/// What a classifier gets to see.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The picture as WebP, as it would be delivered.
    pub picture: &'a Bytes,
    /// The whole prompt.
    pub prompt: &'a str,
    /// The model that made it.
    pub model: &'a str,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Judgement {
    /// It is for adults.
    pub nsfw: bool,
    /// It shows the abuse of children.
    pub csam: bool,
}

/// A picture could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a picture could not be classified: {0}")]
pub struct ClassifierError(pub String);

/// Looks at the pictures of a worker.
#[derive(Debug)]
pub(crate) struct Safety {
    classifier: Option<Arc<dyn Classifier>>,
    /// Whose rules hold.
    current: Current,
}

/// A job, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) model: &'a str,
    /// Whether its requester wants to see nothing for adults.
    pub(crate) censors: bool,
}

/// A picture that may leave, or what leaves in its place.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) picture: Bytes,
    pub(crate) state: SubmitState,
    pub(crate) remark: Option<Metadata>,
}

/// Why a picture does not leave.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Kept {
    #[error("a picture could not be encoded")]
    Unreadable,
    #[error(transparent)]
    Unclassified(#[from] ClassifierError),
}

impl Safety {
    pub(crate) fn new(classifier: Option<Arc<dyn Classifier>>, current: Current) -> Self {
        Self {
            classifier,
            current,
        }
    }

    /// Whether anybody looks at all.
    pub(crate) fn looks(&self) -> bool {
        self.classifier.is_some()
    }

    /// Encodes a picture and looks at it.
    pub(crate) async fn pass(&self, picture: DynamicImage, job: Job<'_>) -> Result<Passed, Kept> {
        let size = (picture.width(), picture.height());
        let picture = encode(picture).await?;
        let Some(classifier) = &self.classifier else {
            return Ok(Passed {
                picture,
                state: SubmitState::Ok,
                remark: None,
            });
        };
        let view = View {
            picture: &picture,
            prompt: job.prompt,
            model: job.model,
        };
        let judgement = classifier.judge(view).await?;
        let rules = self.current.read(Rules::of);
        let conditions = Conditions {
            job_censors: job.censors,
            is_listed: rules.lists(job.prompt),
        };
        match verdict(judgement, &rules, conditions) {
            Verdict::Clean => Ok(Passed {
                picture,
                state: SubmitState::Ok,
                remark: None,
            }),
            Verdict::Nsfw => Ok(Passed {
                picture,
                state: SubmitState::Ok,
                remark: Some(remark("information", "nsfw")),
            }),
            Verdict::Withheld(reason) => {
                drop(picture);
                withhold(reason, size).await
            }
        }
    }
}

/// What is delivered in place of a picture. It has the picture's size.
async fn withhold(reason: Reason, (width, height): (u32, u32)) -> Result<Passed, Kept> {
    let notice = image::load_from_memory(reason.notice()).map_err(|_| Kept::Unreadable)?;
    let filter = image::imageops::FilterType::Triangle;
    let picture = encode(notice.resize_exact(width.max(1), height.max(1), filter)).await?;
    let (state, value) = match reason {
        Reason::Csam => (SubmitState::Csam, "csam"),
        _ => (SubmitState::Censored, "nsfw"),
    };
    Ok(Passed {
        picture,
        state,
        remark: Some(remark("censorship", value)),
    })
}

async fn encode(picture: DynamicImage) -> Result<Bytes, Kept> {
    let encoded = tokio::task::spawn_blocking(move || webp(picture)).await;
    encoded
        .map_err(|_| Kept::Unreadable)?
        .map_err(|_| Kept::Unreadable)
}

fn remark(kind: &str, value: &str) -> Metadata {
    Metadata {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reference: None,
    }
}
