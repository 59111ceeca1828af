//! What is counted: at hand for those who ask, and a row for every job that ended.

use std::sync::{Arc, Mutex, PoisonError};

use ordu_api::JobId;
use ordu_api::worker::WorkKind;
use ordu_core::horde::{Job, JobState, Work};
use ordu_core::model_reference::is_special;
use ordu_core::{Millis, Timestamp};
use ordu_store::{Archived, Statistics};
use serde::Serialize;

use crate::app::App;
use crate::error::ApiResult;

/// How old a count may be that is shown.
const FRESH: Millis = Millis::from_seconds(20);

/// The last count.
#[derive(Default)]
pub(crate) struct LastCount(Mutex<Option<(Timestamp, Arc<Statistics>)>>);

impl App {
    /// Everything that is counted, at most [`FRESH`] old.
    pub(crate) async fn statistics(&self) -> ApiResult<Arc<Statistics>> {
        let now = self.clock.now();
        if let Some(fresh) = self.last_count.fresh(now) {
            return Ok(fresh);
        }
        let counted = Arc::new(self.store.statistics(now).await?);
        self.last_count.set(now, Arc::clone(&counted));
        Ok(counted)
    }

    /// Keeps what a job was that ended, for a week. Never what it showed.
    pub(crate) fn archive(&self, job: JobId, ended: Timestamp) {
        let found = {
            let live = self.live();
            let job = live.horde.job(job).filter(|job| !job.decoy).cloned();
            job.and_then(|job| {
                let request = live.horde.request(job.request)?;
                Some((job, request.work.clone()))
            })
        };
        let Some((job, work)) = found.filter(|(job, _)| !is_special(&job.model)) else {
            return;
        };
        let agent = self.registry.by_id(job.worker);
        let agent = agent.map(|worker| worker.declared.common().agent.to_owned());
        let detail = Detail::new(&work, agent);
        self.store.archive_later(Archived {
            job: job.id,
            kind: work.kind(),
            state: state(&job),
            assigned_at: job.assigned,
            finished_at: ended,
            detail: serde_json::to_string(&detail).unwrap_or_default(),
            model: job.model,
        });
    }
}

impl LastCount {
    fn fresh(&self, now: Timestamp) -> Option<Arc<Statistics>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (counted, statistics) = last.as_ref()?;
        (now.since(*counted) <= FRESH).then(|| Arc::clone(statistics))
    }

    fn set(&self, now: Timestamp, statistics: Arc<Statistics>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((now, statistics));
    }
}

/// The model under which a job is counted; none if it is not counted.
pub(crate) fn counted_model(kind: WorkKind, model: &str) -> Option<String> {
    let is_counted = kind != WorkKind::Interrogation && !is_special(model);
    is_counted.then(|| model.to_owned())
}

const fn state(job: &Job) -> &'static str {
    match &job.state {
        JobState::Done(delivered) if delivered.censored => "censored",
        JobState::Done(_) | JobState::Running => "ok",
        JobState::Faulted => "faulted",
    }
}

/// What is kept of a job besides its model and times.
///
/// # Source
/// `community.md` § 10.
#[derive(Debug, Default, Serialize)]
struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    bridge_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<TextDetail>,
}

#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the request, independent of the others"
)]
struct ImageDetail {
    width: u32,
    height: u32,
    steps: u32,
    cfg: f64,
    sampler: String,
    prompt_length: usize,
    negative: bool,
    img2img: bool,
    hires_fix: bool,
    tiling: bool,
    nsfw: bool,
    control_type: Option<String>,
    post_processing: Vec<String>,
    loras: Vec<String>,
    tis: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TextDetail {
    max_length: u32,
    max_context_length: u32,
    prompt_length: usize,
    softprompt: Option<String>,
}

impl Detail {
    fn new(work: &Work, bridge_agent: Option<String>) -> Self {
        let empty = Self {
            bridge_agent,
            ..Self::default()
        };
        match work {
            Work::Image(spec) => Self {
                image: Some(ImageDetail {
                    width: spec.width,
                    height: spec.height,
                    steps: spec.steps,
                    cfg: spec.cfg_scale,
                    sampler: spec.sampler_name.clone(),
                    prompt_length: spec.prompt.chars().count(),
                    negative: spec.prompt.contains("###"),
                    img2img: spec.source_image.is_some(),
                    hires_fix: spec.hires_fix,
                    tiling: spec.tiling,
                    nsfw: spec.nsfw,
                    control_type: spec.control_type.value(),
                    post_processing: spec.post_processing.value(),
                    loras: spec.loras.iter().map(|lora| lora.name.clone()).collect(),
                    tis: spec
                        .tis
                        .iter()
                        .map(|inversion| inversion.name.clone())
                        .collect(),
                }),
                ..empty
            },
            Work::Text(spec) => Self {
                text: Some(TextDetail {
                    max_length: spec.max_length,
                    max_context_length: spec.max_context_length,
                    prompt_length: spec.prompt.chars().count(),
                    softprompt: spec.softprompt.value(),
                }),
                ..empty
            },
            Work::Alchemy(_) => empty,
        }
    }
}
