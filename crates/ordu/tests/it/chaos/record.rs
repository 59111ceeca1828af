//! What the horde said yes to, and what it must not have said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ordu_api::{JobId, RequestId};
use tokio::sync::mpsc::UnboundedReceiver;

/// After which nobody asks for a request any more: it may have expired, with a clock that jumped.
const MEMORY: Duration = Duration::from_secs(90);

/// What somebody heard.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A request was accepted.
    Request(RequestId),
    /// A job was given away.
    Job(JobId),
    /// A result was accepted: whose, what it says if it is a text, its reward.
    Reward(JobId, Option<String>, f64),
    /// That result was accepted by another node than the one that gave the job away.
    Elsewhere,
    /// Kudos were given away; or nobody knows, because the answer was lost.
    Gift { acknowledged: bool },
    /// An answer that must not be.
    Breach(String),
}

/// A result that was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// `None`: it is a picture.
    pub(crate) text: Option<String>,
    pub(crate) reward: f64,
    /// Whether the picture was looked at.
    pub(crate) seen: bool,
}

/// Everything the horde said yes to and that it must still know, and what it did wrong.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) requests: BTreeMap<RequestId, Instant>,
    pub(crate) jobs: BTreeMap<JobId, Instant>,
    pub(crate) rewards: BTreeMap<JobId, Delivered>,
    pub(crate) elsewhere: usize,
    pub(crate) gifts: usize,
    pub(crate) doubtful_gifts: usize,
    pub(crate) breaches: Vec<String>,
    pub(crate) requests_ever: usize,
    pub(crate) jobs_ever: usize,
    pub(crate) rewards_ever: usize,
    ids: BTreeSet<JobId>,
    /// Every request that was accepted.
    accepted: BTreeSet<RequestId>,
}

impl Record {
    pub(crate) fn take(&mut self, heard: &mut UnboundedReceiver<Heard>) {
        while let Ok(heard) = heard.try_recv() {
            self.hear(heard);
        }
    }

    pub(crate) fn hear(&mut self, heard: Heard) {
        let now = Instant::now();
        match heard {
            Heard::Request(id) => {
                self.requests_ever += 1;
                self.requests.insert(id, now);
                if !self.accepted.insert(id) {
                    self.breaches
                        .push(format!("request {id} was accepted twice"));
                }
            }
            Heard::Job(id) => {
                self.jobs_ever += 1;
                if !self.ids.insert(id) {
                    self.breaches.push(format!("job {id} was given away twice"));
                }
                self.jobs.insert(id, now);
            }
            Heard::Reward(id, text, reward) => {
                self.rewards_ever += 1;
                let delivered = Delivered {
                    text,
                    reward,
                    seen: false,
                };
                if self.rewards.insert(id, delivered).is_some() {
                    self.breaches.push(format!("job {id} was rewarded twice"));
                }
            }
            Heard::Elsewhere => self.elsewhere += 1,
            Heard::Gift { acknowledged: true } => self.gifts += 1,
            Heard::Gift {
                acknowledged: false,
            } => self.doubtful_gifts += 1,
            Heard::Breach(what) => self.breaches.push(what),
        }
    }

    /// Lets go of what the horde may forget, too.
    pub(crate) fn forget(&mut self) {
        self.requests.retain(|_, since| since.elapsed() < MEMORY);
        self.jobs.retain(|_, since| since.elapsed() < MEMORY);
        let jobs = &self.jobs;
        self.rewards.retain(|id, _| jobs.contains_key(id));
    }

    /// The breaches, with when they happened.
    pub(crate) fn told(&self, when: &str) -> Vec<String> {
        let told = self
            .breaches
            .iter()
            .map(|breach| format!("{when}: {breach}"));
        told.collect()
    }
}
