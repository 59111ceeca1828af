//! What is under way: one result of a request, given to one worker.

use ordu_api::alchemy::AlchemySubmit;
use ordu_api::image::{ImageSubmit, Metadata, SubmitState};
use ordu_api::text::TextSubmit;
use ordu_api::{JobId, RequestId, UserId, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Blame, Work};
use crate::{Kudos, Timestamp};

/// One result of a request, given to one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it is part of.
    pub request: RequestId,
    /// Which form of the request it is; `None` where results are alike.
    pub slot: Option<u32>,
    /// Who does it.
    pub worker: WorkerId,
    /// The worker's name when it took the job.
    pub worker_name: String,
    /// Who earns by it.
    pub owner: UserId,
    /// The model that is used, or the name of the form.
    pub model: String,
    /// What it is worth before agent and burn; `None` if only the result will tell.
    pub kudos: Option<Kudos>,
    /// The agent's share of that, in percent.
    pub reward_percent: u8,
    /// Whether its worker's backend is known to be honest; matters for texts.
    pub validated: bool,
    /// Work in it, in raw units.
    pub things: u64,
    /// When it was given away.
    pub assigned: Timestamp,
    /// When the horde gives up on it.
    pub deadline: Timestamp,
    /// Whether it only keeps a paused worker busy: it takes no slot and earns nothing.
    pub decoy: bool,
    /// How far it is.
    pub state: JobState,
    /// Whose fault it is, if it faulted.
    #[serde(default)]
    pub blame: Blame,
}

impl Job {
    /// Whether it came to nothing, and that counts against what was asked.
    pub fn is_abort(&self) -> bool {
        self.state == JobState::Faulted && self.blame != Blame::Nobody
    }
}

/// How far a job is. A job leaves `Running` exactly once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// A worker has it.
    Running,
    /// There is a result.
    Done(Delivered),
    /// It was given up, by the worker or by time.
    Faulted,
}

/// A result, or where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A picture, which lies elsewhere under the job's name.
    #[default]
    Uploaded,
    /// A text.
    Text(String),
    /// What came of a form, by its name.
    Form(Map<String, Value>),
    /// Nothing: its requester gave it up while a worker had it. Paid for all the same.
    Withdrawn,
}

/// A result and what its worker said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// When it came.
    pub at: Timestamp,
    /// The result.
    #[serde(default)]
    pub content: Content,
    /// The seed that was used.
    pub seed: i64,
    /// Whether it was replaced for what it showed.
    pub censored: bool,
    /// Remarks, in the worker's order.
    pub metadata: Vec<Metadata>,
}

/// How a worker hands a job back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Delivered {
        /// The result.
        content: Content,
        /// The seed that was used.
        seed: i64,
        /// Whether the result was replaced.
        censored: bool,
        /// Remarks.
        metadata: Vec<Metadata>,
    },
    /// Without one, and whom the worker blames.
    Faulted(Blame),
}

impl Outcome {
    /// Reads a submit of a picture: censored is what a remark says, never the state alone.
    ///
    /// # Source
    /// `generation.md` § 6.12.
    pub fn image(submit: &ImageSubmit) -> Self {
        let censored = submit
            .gen_metadata
            .iter()
            .any(|remark| remark.kind == "censorship");
        if submit.state == SubmitState::Faulted && !censored {
            return Self::Faulted(Blame::of_remarks(&submit.gen_metadata));
        }
        Self::Delivered {
            content: Content::Uploaded,
            seed: submit.seed,
            censored,
            metadata: submit.gen_metadata.clone(),
        }
    }

    /// Reads a submit of a form.
    pub fn form(submit: &AlchemySubmit) -> Self {
        let censored = match submit.state {
            SubmitState::Faulted => return Self::Faulted(Blame::Worker),
            SubmitState::Censored | SubmitState::Csam => true,
            SubmitState::Ok => false,
        };
        Self::Delivered {
            content: Content::Form(submit.result.clone()),
            seed: 0,
            censored,
            metadata: Vec::new(),
        }
    }

    /// A form that its requester gave up while a worker had it: settled as if it were delivered.
    ///
    /// # Source
    /// `generation.md` § 5.2.
    pub const fn withdrawn() -> Self {
        Self::Delivered {
            content: Content::Withdrawn,
            seed: 0,
            censored: false,
            metadata: Vec::new(),
        }
    }

    /// Reads a submit of a text: censored by its state or by a remark; the state `csam` leaves a
    /// remark.
    ///
    /// # Source
    /// `generation.md` § 6.12.
    pub fn text(submit: &TextSubmit) -> Self {
        let mut metadata = submit.gen_metadata.clone();
        let is_marked = metadata.iter().any(is_csam);
        if submit.state == SubmitState::Csam && !is_marked {
            metadata.push(Metadata {
                kind: "censorship".to_owned(),
                value: "csam".to_owned(),
                reference: None,
            });
        }
        let censored = match submit.state {
            SubmitState::Faulted => {
                return Self::Faulted(Blame::of_remarks(&submit.gen_metadata));
            }
            SubmitState::Censored | SubmitState::Csam => true,
            SubmitState::Ok => is_marked,
        };
        Self::Delivered {
            content: Content::Text(submit.generation.replace('\0', "\u{fffd}")),
            seed: submit.seed,
            censored,
            metadata,
        }
    }
}

/// Whether a remark says that a result must not be seen.
pub fn is_csam(remark: &Metadata) -> bool {
    remark.kind == "censorship" && remark.value == "csam"
}

/// Jobs of one request, given to one worker at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// What they are part of.
    pub request: RequestId,
    /// The jobs, at least one; all of the same model, kudos and deadline, unless they are forms.
    pub jobs: Vec<Job>,
    /// What to do.
    pub work: Work,
    /// Which model to use; of forms the first.
    pub model: String,
    /// The seed of the batch.
    pub seed: u32,
    /// Seconds until the horde gives up on it.
    pub ttl: u64,
    /// Whether it only keeps a paused worker busy. Decoys are not stored.
    pub decoy: bool,
    /// When the request expires from now on.
    pub expires: Timestamp,
}

impl Assignment {
    /// The ids of the jobs, in the order of their results.
    pub fn ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.id).collect()
    }
}
