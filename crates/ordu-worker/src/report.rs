//! Telling the horde how far a job is, for whoever looks on: steps, the text so far, rough pictures.
//!
//! A report never holds a job up, and a lost one does no harm: the next one says more. As long as the
//! horde says that nobody looks on, only steps are told, and nothing else is kept.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use ordu_api::JobId;
use ordu_api::event::{JobProgress, MAX_REPORT_CHARS};
use ordu_api::image::Steps;
use ordu_client::{Extensions, Horde};
use tokio::time::{Instant, sleep};

use crate::Timing;
use crate::encode;

/// The longest text that is sent at the usual pace, in bytes; twice that at half of it, and so on.
const EASY_BYTES: usize = 8 << 10;

/// What a horde has beyond the protocol. It is asked once, and again after it was away.
#[derive(Debug, Default)]
pub(crate) struct Extras(Mutex<Option<Extensions>>);

impl Extras {
    /// Nothing while the horde does not answer.
    pub(crate) async fn of(&self, horde: &Horde) -> Extensions {
        self.asked(horde).await.unwrap_or_default()
    }

    /// The same; `None` while the horde does not answer.
    pub(crate) async fn asked(&self, horde: &Horde) -> Option<Extensions> {
        if let Some(known) = self.known().clone() {
            return Some(known);
        }
        match horde.extensions().await {
            Ok(found) => Some(self.known().insert(found).clone()),
            Err(error) => {
                tracing::debug!(%error, "what the horde can do is not known");
                None
            }
        }
    }

    /// The horde was away: it may be another version now.
    pub(crate) fn forget(&self) {
        *self.known() = None;
    }

    fn known(&self) -> MutexGuard<'_, Option<Extensions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine shows of a job. Its thread writes, the reporter reads.
#[derive(Debug, Default)]
pub(crate) struct Showing {
    latest: Mutex<Latest>,
    /// Set when nobody will ever ask for the text.
    spares_text: AtomicBool,
    wants_preview: AtomicBool,
}

/// How far it is.
#[derive(Debug, Default)]
struct Latest {
    steps: Option<Steps>,
    text: Option<String>,
    preview: Option<RgbImage>,
    /// Whether there is something that was not told yet.
    is_new: bool,
}

impl Showing {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn step(&self, steps: Steps, preview: Option<RgbImage>) {
        let mut latest = self.latest();
        latest.is_new |= latest.steps != Some(steps) || preview.is_some();
        latest.steps = Some(steps);
        if preview.is_some() {
            latest.preview = preview;
            self.wants_preview.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn text(&self, so_far: &str) {
        let mut latest = self.latest();
        latest.is_new = true;
        latest.text = Some(so_far.to_owned());
    }

    pub(crate) fn wants_text(&self) -> bool {
        !self.spares_text.load(Ordering::Relaxed)
    }

    pub(crate) fn wants_preview(&self) -> bool {
        self.wants_preview.load(Ordering::Relaxed)
    }
}

/// What of a job is told besides its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing.
    Steps,
    /// Rough pictures, where the engine has some.
    Previews,
    /// The text so far.
    Text,
}

/// Tells of one job.
pub(crate) struct Reporter<'a> {
    pub(crate) horde: &'a Horde,
    pub(crate) extras: &'a Extras,
    pub(crate) timing: &'a Timing,
    pub(crate) job: JobId,
    pub(crate) showing: Arc<Showing>,
    pub(crate) shown: Shown,
}

/// What the horde was told last, and what it said.
struct Told {
    at: Instant,
    watched: bool,
    /// Whether it was told all that may be seen.
    whole: bool,
    next_preview: Instant,
}

impl Reporter<'_> {
    /// Tells until it is dropped; for ever does nothing if the horde does not take reports.
    pub(crate) async fn keep_telling(&self) -> Infallible {
        if !self.extras.of(self.horde).await.takes_progress() {
            self.showing.spares_text.store(true, Ordering::Relaxed);
            return pending().await;
        }
        let now = Instant::now();
        let mut told = Told {
            // The first time at once: it tells whether somebody looks on.
            at: now.checked_sub(self.timing.report_interval).unwrap_or(now),
            watched: false,
            whole: false,
            next_preview: now,
        };
        loop {
            sleep(self.pace()).await;
            let Some(report) = self.report(&told).await else {
                continue;
            };
            told.at = Instant::now();
            told.whole = told.watched;
            match self.horde.report_progress(&report).await {
                Ok(heard) => told.watched = heard.watched,
                Err(error) if error.is_passing() => {}
                Err(error) => {
                    tracing::debug!(%error, "the horde takes no reports of this job");
                    return pending().await;
                }
            }
            if self.shown == Shown::Previews && told.watched && told.at >= told.next_preview {
                told.next_preview = told.at + self.timing.preview_interval;
                self.showing.wants_preview.store(true, Ordering::Relaxed);
            }
        }
    }

    /// What is to be told now. While nobody looks on, that is little and not often; but it is told
    /// also when nothing is new, to hear of somebody who looks on now.
    async fn report(&self, told: &Told) -> Option<JobProgress> {
        let (steps, text, preview) = {
            let mut latest = self.showing.latest();
            let steps = latest.steps.filter(|steps| steps.of > 0)?;
            let is_wanted = if told.watched {
                latest.is_new || !told.whole
            } else {
                told.at.elapsed() >= self.timing.report_interval
            };
            if !is_wanted {
                return None;
            }
            latest.is_new = false;
            let text = latest.text.as_ref().filter(|_| told.watched);
            (steps, text.cloned(), latest.preview.take())
        };
        let fits = |text: &String| text.chars().count() <= MAX_REPORT_CHARS;
        Some(JobProgress {
            id: self.job.to_string(),
            steps,
            preview: encoded(preview).await,
            text: text.filter(fits),
        })
    }

    /// How long to wait before the next look at the engine.
    fn pace(&self) -> Duration {
        if self.shown != Shown::Text {
            return self.timing.report_interval;
        }
        let bytes = self.showing.latest().text.as_ref().map_or(0, String::len);
        let factor = u32::try_from(bytes / EASY_BYTES).unwrap_or(u32::MAX);
        self.timing
            .token_interval
            .saturating_mul(factor.saturating_add(1))
    }
}

/// A picture as it is sent; none if it cannot be.
async fn encoded(preview: Option<RgbImage>) -> Option<String> {
    let preview = preview?;
    let encoding = tokio::task::spawn_blocking(move || encode::preview(preview));
    let bytes = encoding.await.ok()?.ok()?;
    let text = STANDARD.encode(bytes);
    (text.len() <= MAX_REPORT_CHARS).then_some(text)
}
