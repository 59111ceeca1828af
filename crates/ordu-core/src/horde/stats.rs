//! What the horde as a whole is doing: queue, workers and speed by model.
//!
//! # Source
//! `community.md` § 7.2, § 7.3.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ordu_api::status::{ModelStatus, Performance};
use ordu_api::worker::WorkKind;

use super::rank::Load;
use super::request::divisor;
use super::{Declared, Horde, JobState, Offer, Statistics};
use crate::model_reference::is_special;
use crate::text::Vision;
use crate::{Millis, Timestamp};

/// Speeds of a model count for so long.
const MODEL_WINDOW: Millis = Millis::from_minutes(60);
/// The most speeds of a model that are kept.
const MAX_MODEL_SAMPLES: usize = 500;
/// What "the past minute" means, in seconds.
const MINUTE: i64 = 60;
/// What is shown as waiting time when nobody serves a model.
const NEVER: i64 = 10_000;

/// What was delivered lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    /// Raw units by second.
    by_second: BTreeMap<(WorkKind, i64), u64>,
    /// Raw units a second of each job, oldest first.
    by_model: BTreeMap<(WorkKind, String), VecDeque<(Timestamp, f64)>>,
}

impl Recent {
    pub(super) fn add(&mut self, statistics: &Statistics, speed: f64, now: Timestamp) {
        let kind = statistics.kind;
        *self.by_second.entry((kind, now.seconds())).or_default() += statistics.things;
        let key = (kind, statistics.model.clone());
        let samples = self.by_model.entry(key).or_default();
        samples.push_back((now, speed));
        if samples.len() > MAX_MODEL_SAMPLES {
            samples.pop_front();
        }
    }

    pub(super) fn prune(&mut self, now: Timestamp) {
        let oldest = now.seconds() - MINUTE;
        self.by_second.retain(|(_, second), _| *second > oldest);
        for samples in self.by_model.values_mut() {
            while samples
                .front()
                .is_some_and(|(at, _)| now.since(*at) > MODEL_WINDOW)
            {
                samples.pop_front();
            }
        }
        self.by_model.retain(|_, samples| !samples.is_empty());
    }

    /// Raw units that were delivered in the past minute.
    fn past_minute(&self, kind: WorkKind, now: Timestamp) -> u64 {
        let (from, to) = (now.seconds() - MINUTE + 1, now.seconds());
        let seconds = self.by_second.range((kind, from)..=(kind, to));
        seconds.map(|(_, things)| things).sum()
    }

    /// The mean speed of a model, in raw units a second; 0 if it is not known.
    fn speed(&self, kind: WorkKind, model: &str, now: Timestamp) -> f64 {
        let Some(samples) = self.by_model.get(&(kind, model.to_owned())) else {
            return 0.0;
        };
        let is_recent = |sample: &&(Timestamp, f64)| now.since(sample.0) <= MODEL_WINDOW;
        let (mut sum, mut count) = (0.0, 0.0);
        for (_, speed) in samples.iter().filter(is_recent) {
            sum += speed;
            count += 1.0;
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }
}

/// What a model is asked for and offered.
#[derive(Debug, Clone, Copy, Default)]
struct Market {
    threads: u64,
    asked: Load,
}

/// How much a text worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextReach {
    /// The longest text, in tokens.
    pub max_length: i64,
    /// The longest prompt and text, in tokens.
    pub max_context_length: i64,
}

/// How much there is of one kind of work just now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Results that no worker has.
    pub waiting: u64,
    /// Results that a worker has.
    pub running: u64,
    /// Workers that are online.
    pub workers: u64,
}

impl Horde {
    /// How much there is of a kind of work.
    pub fn traffic(&self, kind: WorkKind, now: Timestamp) -> Traffic {
        let online = self.workers.online(now);
        let workers = online.filter(|worker| worker.record.kind == kind).count();
        let running = self.deadlines.iter().filter(|(_, id)| {
            let job = self.jobs.get(id);
            let job = job.filter(|job| job.state == JobState::Running);
            job.and_then(|job| self.workers.get(job.worker))
                .is_some_and(|worker| worker.record.kind == kind)
        });
        Traffic {
            waiting: self.queues.of(kind).totals().slots,
            running: running.count() as u64,
            workers: workers as u64,
        }
    }

    /// All models that workers serve, and those that are known and asked for, by name.
    pub fn models(&self, kind: WorkKind, now: Timestamp) -> Vec<ModelStatus> {
        let mut markets = self.asked_models(kind);
        markets.retain(|name, _| self.is_listed(kind, name));
        let workers = self.workers.online(now);
        for worker in workers.filter(|worker| worker.record.kind == kind) {
            let Some(offer) = &worker.offer else {
                continue;
            };
            if worker.record.maintenance.is_some() {
                continue;
            }
            for name in offer.models().iter().filter(|name| !is_special(name)) {
                let market = markets.entry(name.clone()).or_default();
                market.threads += u64::from(offer.threads());
            }
        }
        let show = |(name, market)| self.model_status(kind, name, market, now);
        markets.into_iter().map(show).collect()
    }

    /// One model, whatever its name, also if nobody serves it or asks for it.
    pub fn model(&self, kind: WorkKind, name: &str, now: Timestamp) -> ModelStatus {
        let mut market = self.asked_models(kind).remove(name).unwrap_or_default();
        let workers = self.workers.online(now);
        let working = workers
            .filter(|worker| worker.record.kind == kind && worker.record.maintenance.is_none());
        for offer in working.filter_map(|worker| worker.offer.as_ref()) {
            if offer.models().iter().any(|offered| offered == name) {
                market.threads += u64::from(offer.threads());
            }
        }
        self.model_status(kind, name.to_owned(), market, now)
    }

    /// The models with which text workers look at pictures.
    pub fn seeing_models(&self, now: Timestamp) -> BTreeSet<String> {
        let offers = self.working(now).filter(|offer| offer.sees());
        let texts = offers.filter(|offer| offer.kind() == WorkKind::Text);
        texts.flat_map(Offer::models).cloned().collect()
    }

    /// What workers offer that are online and not in maintenance.
    fn working(&self, now: Timestamp) -> impl Iterator<Item = &Offer> {
        let working = self.workers.online(now);
        let working = working.filter(|worker| worker.record.maintenance.is_none());
        working.filter_map(|worker| worker.offer.as_ref())
    }

    /// How long a text the best of the workers writes that serve one of these models, of those that
    /// look at pictures if it brings some; `None` if none does.
    pub fn text_reach(
        &self,
        models: &[String],
        vision: Vision,
        now: Timestamp,
    ) -> Option<TextReach> {
        let offers = self.working(now);
        let offers = offers.filter(|offer| vision == Vision::Off || offer.sees());
        let reaches = offers.filter_map(|offer| match &offer.declared {
            Declared::Text(pop) if pop.models.iter().any(|name| models.contains(name)) => {
                Some(TextReach {
                    max_length: pop.max_length,
                    max_context_length: pop.max_context_length,
                })
            }
            _ => None,
        });
        reaches.max()
    }

    /// The numbers of the whole horde.
    #[expect(clippy::cast_precision_loss, reason = "work is far below 2^53 units")]
    pub fn performance(&mut self, now: Timestamp) -> Performance {
        let count = |kind| {
            let online = self.workers.online(now);
            online.filter(|worker| worker.record.kind == kind).count() as u64
        };
        let (worker_count, text_worker_count) = (count(WorkKind::Image), count(WorkKind::Text));
        let interrogator_count = count(WorkKind::Interrogation);
        let queued = |kind: WorkKind| self.queues.of(kind).totals();
        let (image, text) = (queued(WorkKind::Image), queued(WorkKind::Text));
        let forms = queued(WorkKind::Interrogation);
        let shown = |kind, things: u64| hundredths(things as f64 / divisor(kind));
        Performance {
            queued_requests: image.jobs,
            queued_text_requests: text.jobs,
            queued_megapixelsteps: shown(WorkKind::Image, image.job_things),
            queued_tokens: shown(WorkKind::Text, text.job_things),
            queued_forms: forms.jobs as f64,
            past_minute_megapixelsteps: shown(
                WorkKind::Image,
                self.recent.past_minute(WorkKind::Image, now),
            ),
            past_minute_tokens: shown(WorkKind::Text, self.recent.past_minute(WorkKind::Text, now)),
            worker_count,
            text_worker_count,
            interrogator_count,
            thread_count: self.workers.threads(WorkKind::Image, now),
            text_thread_count: self.workers.threads(WorkKind::Text, now),
            interrogator_thread_count: self.workers.threads(WorkKind::Interrogation, now),
        }
    }

    /// How many results no worker has, by the model that was asked for; a request that names several
    /// counts under each. Models that nobody vouches for are `None` together.
    pub fn waiting_by_model(&self, kind: WorkKind) -> BTreeMap<Option<String>, u64> {
        let mut waiting = BTreeMap::new();
        for (name, market) in self.asked_models(kind) {
            let name = Some(name).filter(|name| self.is_listed(kind, name));
            *waiting.entry(name).or_default() += market.asked.slots;
        }
        waiting
    }

    /// What is asked for by model; a request that names several counts under each.
    fn asked_models(&self, kind: WorkKind) -> BTreeMap<String, Market> {
        let queue = self.queues.of(kind);
        let mut markets: BTreeMap<String, Market> = BTreeMap::new();
        for group in queue.groups() {
            let set = group.demand.models.map(|set| queue.model_set(set));
            for number in set.unwrap_or_default() {
                let Some(name) = queue.names.models.get(*number) else {
                    continue;
                };
                let market = markets.entry(name.clone()).or_default();
                market.asked.add(group.load);
            }
        }
        markets
    }

    /// Whether a model is shown though nobody serves it.
    fn is_listed(&self, kind: WorkKind, name: &str) -> bool {
        self.reference.knows(kind, name) && !is_special(name)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "work is far below 2^53 units; `as` saturates"
    )]
    fn model_status(
        &self,
        kind: WorkKind,
        name: String,
        market: Market,
        now: Timestamp,
    ) -> ModelStatus {
        let performance = (self.recent.speed(kind, &name, now) * 10.0).round() / 10.0;
        let queued = market.asked.job_things as f64;
        let capacity = market.threads as f64 * performance;
        let eta = match (market.asked.job_things, capacity > 0.0) {
            (0, _) => 0,
            (_, true) => (queued / capacity) as i64,
            (_, false) => NEVER,
        };
        ModelStatus {
            performance,
            queued,
            jobs: market.asked.jobs as f64,
            eta,
            kind,
            name,
            count: market.threads,
        }
    }
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
