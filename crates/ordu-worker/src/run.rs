//! The worker's loop: offer, pop, start, count; and the way it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordu_api::JobId;
use ordu_api::image::ImageJob;
use ordu_client::{Fetcher, Horde, Trust};
use ordu_engine::{Capabilities, Engine, Limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;

use crate::config::{Config, ConfigError};
use crate::effort::{Speed, effort};
use crate::health::Health;
use crate::inputs::Larder;
use crate::job::{End, Order, Verdict, Workshop, work};
use crate::offer::{allowed_models, image_offer};
use crate::pacing::{Pacing, Popped, jitter};
use crate::report::Reports;
use crate::status::{Board, JobStatus, Phase, Stage, Status};
use crate::{Level, Shutdown};

/// Jobs that may be on their way back while others are popped. More means that the horde or the store
/// does not keep up.
const MAX_DELIVERING: usize = 8;

/// Why a worker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Change the settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Change the address, the key or the agent.
    #[error(transparent)]
    Client(#[from] ordu_client::Error),
    /// Use another key: the horde does not know this one. Everything popped before was handed back.
    #[error("the horde does not accept the key: {0}")]
    KeyRefused(String),
}

/// Works for a horde until it is told to stop, and returns when everything popped was handed back.
///
/// `status` always shows what it is doing; the last status is also the result. Of `shutdown`, the first
/// level finishes what was popped, the second hands back what is not being sampled, the third hands
/// back everything.
///
/// # Errors
/// If the configuration cannot work, or if the horde refuses the key.
pub async fn run(
    config: Config,
    engine: Arc<dyn Engine>,
    shutdown: Shutdown,
    status: watch::Sender<Status>,
) -> Result<Status, RunError> {
    config.check()?;
    let mut dreamer = Dreamer::new(config, engine, shutdown, status)?;
    let refused = dreamer.serve().await;
    dreamer.drain().await;
    dreamer.shop.board.phase(Phase::Stopped);
    match refused {
        Some(reason) => Err(RunError::KeyRefused(reason)),
        None => Ok(dreamer.shop.board.snapshot()),
    }
}

/// The image worker. It alone starts jobs and learns from their ends.
struct Dreamer {
    config: Config,
    shop: Arc<Workshop>,
    jobs: JoinSet<End>,
    /// One permit per job that was popped and is not sampled yet.
    slots: Arc<Semaphore>,
    /// Effort of the jobs that have not ended.
    pending: BTreeMap<JobId, f64>,
    health: Health,
    pacing: Pacing,
    speed: Speed,
    /// The time that the last job had.
    ttl: Duration,
    next_pop: Instant,
}

impl Dreamer {
    fn new(
        config: Config,
        engine: Arc<dyn Engine>,
        shutdown: Shutdown,
        status: watch::Sender<Status>,
    ) -> Result<Self, RunError> {
        let key = config.api_key.clone();
        let horde = Horde::new(&config.horde_url, key, &config.bridge_agent)?;
        let trust = Trust::horde(&horde);
        let timing = config.timing;
        let shop = Workshop {
            larder: Larder {
                fetcher: Fetcher::new(&horde)?,
                trust: config
                    .trusted_hosts
                    .iter()
                    .fold(trust, |trust, url| trust.and(url)),
                timing,
            },
            horde,
            engine,
            threads: Arc::new(Semaphore::new(config.threads() as usize)),
            reports: Reports::default(),
            board: Arc::new(Board::new(status)),
            shutdown,
            timing,
            blacklist: words(&config.blacklist),
        };
        let slots = config.threads() + config.queue();
        Ok(Self {
            shop: Arc::new(shop),
            jobs: JoinSet::new(),
            slots: Arc::new(Semaphore::new(slots as usize)),
            pending: BTreeMap::new(),
            health: Health::default(),
            pacing: Pacing::default(),
            speed: Speed::default(),
            ttl: timing.ttl,
            next_pop: Instant::now(),
            config,
        })
    }

    /// Pops until it is told to stop, or until the horde refuses the key, for the reason returned.
    async fn serve(&mut self) -> Option<String> {
        self.warn_of_absent_models().await;
        loop {
            tokio::select! {
                biased;
                () = self.shop.shutdown.reached(Level::Drain) => return None,
                Some(end) = self.jobs.join_next() => self.settle(end),
                slot = turn(self.slots.clone(), self.next_pop), if self.may_pop() => {
                    if let Err(reason) = self.pop(slot).await {
                        return Some(reason);
                    }
                }
            }
        }
    }

    /// Whether one more job can be taken. Asked again after each end of a job.
    fn may_pop(&self) -> bool {
        let waiting = self.pending.values().sum();
        let alone = self.jobs.is_empty();
        let in_time = self.speed.allows(waiting, self.config.threads(), self.ttl);
        let room = self.config.threads() + self.config.queue();
        // The first job must come back before a second one is risked.
        (alone || (self.health.is_proven() && in_time))
            && self.jobs.len() < room as usize + MAX_DELIVERING
    }

    async fn pop(&mut self, slot: Option<OwnedSemaphorePermit>) -> Result<(), String> {
        let asked = Instant::now();
        self.next_pop = asked + self.shop.timing.pop_interval;
        let (Some(slot), Some(engine)) = (slot, self.capabilities().await) else {
            return Ok(());
        };
        let most = self.config.threads() as usize + 1;
        let may_offer = |model: &str| {
            self.health.may_offer(model, asked) && self.shop.board.unfinished(model) < most
        };
        let Some(offer) = image_offer(&self.config, &engine, may_offer) else {
            self.shop.board.phase(Phase::NothingToOffer);
            return Ok(());
        };
        // Never dropped half-way: the horde may have given a job out already.
        let popped = match self.shop.horde.pop_image(&offer).await {
            Ok(job) => {
                self.answered(job, engine.limits, slot, asked);
                Popped::Answered
            }
            Err(error) => {
                tracing::debug!(error = %error, "a pop failed");
                Popped::failed(&error)
            }
        };
        let pause = self.pacing.pause(&popped, &self.shop.timing, jitter());
        self.next_pop = asked + pause;
        self.heed(popped, &offer.models)
    }

    /// Starts a job, if there is one.
    fn answered(
        &mut self,
        mut job: ImageJob,
        limits: Limits,
        slot: OwnedSemaphorePermit,
        popped: Instant,
    ) {
        for news in self.shop.board.hear(std::mem::take(&mut job.messages)) {
            tracing::info!(
                message.id = news.id,
                text = news.message,
                "news from the horde"
            );
        }
        self.shop.board.phase(Phase::Serving);
        let Some(id) = job.ids.first().copied() else {
            let skipped: Vec<_> = job
                .skipped
                .iter()
                .filter(|(_, count)| **count > 0)
                .collect();
            tracing::debug!(?skipped, "no job");
            return;
        };
        let model = job.model.clone().unwrap_or_default();
        let pictures = job.ids.len();
        tracing::info!(job.id = %id, model, pictures, ttl_s = job.ttl, "popped a job");
        self.ttl = job.ttl.map_or(self.shop.timing.ttl, Duration::from_secs);
        self.pending.insert(id, effort(&job.payload, pictures));
        let span = tracing::info_span!("job", job.id = %id, model);
        self.shop.board.update(|status| {
            let stage = Stage::Fetching;
            status.jobs.push(JobStatus {
                id,
                model,
                pictures,
                stage,
            });
        });
        let order = Order {
            job,
            id,
            limits,
            popped,
            slot,
        };
        self.jobs
            .spawn(work(self.shop.clone(), order).instrument(span));
    }

    /// Tells the owner what a failed pop means.
    fn heed(&mut self, popped: Popped, offered: &[String]) -> Result<(), String> {
        let board = &self.shop.board;
        match popped {
            Popped::Answered => {}
            Popped::Outage(_) => {
                tracing::warn!("the horde is not available");
                board.error("the horde is not available");
            }
            Popped::RateLimited(_) => tracing::debug!("the horde wants fewer pops"),
            Popped::Maintenance(reason) => {
                let phase = Phase::Maintenance(reason);
                if board.snapshot().phase != phase {
                    tracing::warn!(?phase, "the horde keeps this worker in maintenance");
                }
                board.phase(phase);
            }
            Popped::ModelsRefused(reason) => {
                self.quarantine_named(&reason, offered);
                tracing::error!(reason, "the horde does not accept a model");
                self.shop.board.error(reason);
            }
            Popped::Refused(reason) => {
                tracing::error!(reason, "the horde refuses this worker");
                board.error(reason);
            }
            Popped::KeyRefused(reason) => {
                board.error(reason.clone());
                return Err(reason);
            }
        }
        Ok(())
    }

    fn quarantine_named(&mut self, reason: &str, offered: &[String]) {
        let until = Instant::now() + self.shop.timing.quarantine;
        for model in offered.iter().filter(|model| reason.contains(*model)) {
            self.health.quarantine(model, until);
        }
    }

    /// Counts the end of a job, and learns from it.
    fn settle(&mut self, end: Result<End, JoinError>) {
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                tracing::error!(%error, "a job was lost");
                return self.shop.board.error("a job was lost");
            }
        };
        self.shop.board.remove(end.id);
        let effort = self.pending.remove(&end.id).unwrap_or_default();
        if let Some(sampled) = end.sampled {
            self.speed.learn(effort, sampled);
        }
        if end.pictures > 0 {
            self.health.delivered();
        }
        log(&end);
        self.count(&end);
        match &end.verdict {
            Verdict::Done => self.health.succeeded(&end.model),
            Verdict::ModelFailed(_) => self.punish(Some(&end.model)),
            Verdict::Failed(_) => self.punish(None),
            Verdict::HandedBack(_) | Verdict::Lost => {}
        }
    }

    fn count(&self, end: &End) {
        self.shop.board.update(|status| {
            status.pictures += end.pictures;
            status.kudos += end.reward;
            match &end.verdict {
                Verdict::Done => status.done += 1,
                Verdict::Lost => status.lost += 1,
                Verdict::HandedBack(_) => status.faulted += 1,
                Verdict::Failed(reason) | Verdict::ModelFailed(reason) => {
                    status.faulted += 1;
                    status.last_error = Some(reason.clone());
                }
            }
        });
    }

    fn punish(&mut self, model: Option<&str>) {
        let timing = self.shop.timing;
        let consequence = self.health.failed(model, Instant::now(), &timing);
        if consequence.quarantined {
            tracing::error!(
                model,
                "the model failed too often and is not offered for a while"
            );
        }
        if let Some(until) = consequence.pause_until {
            tracing::error!("too many jobs failed: nothing is popped for a while");
            self.next_pop = self.next_pop.max(until);
            self.shop.board.phase(Phase::Paused(timing.failure_pause));
        }
    }

    /// Waits for what was popped, not for ever.
    async fn drain(&mut self) {
        self.shop.board.phase(Phase::Draining);
        let shop = self.shop.clone();
        let waiting = self.jobs.len();
        tracing::info!(waiting, "finishing what was popped");
        let mut out_of_time = std::pin::pin!(async {
            sleep(shop.timing.drain).await;
            shop.shutdown.raise(Level::Abort);
            // What is told the horde in these seconds is all that it will hear.
            sleep(shop.timing.abort * 2).await;
        });
        loop {
            tokio::select! {
                end = self.jobs.join_next() => match end {
                    Some(end) => self.settle(end),
                    None => return,
                },
                () = &mut out_of_time => return self.jobs.abort_all(),
            }
        }
    }

    /// What the engine can do; `None` if it panicked.
    async fn capabilities(&self) -> Option<Capabilities> {
        let engine = self.shop.engine.clone();
        tokio::task::spawn_blocking(move || engine.capabilities())
            .await
            .ok()
    }

    async fn warn_of_absent_models(&self) {
        let Some(engine) = self.capabilities().await else {
            return;
        };
        let offered = allowed_models(&self.config, &engine);
        tracing::info!(models = offered.len(), "the worker starts");
        for model in &self.config.models_to_load {
            if engine.model(model).is_none() {
                tracing::warn!(model, "the engine has no model of this name");
            }
        }
    }
}

/// Ends when it is time to pop and there is room for a job.
async fn turn(slots: Arc<Semaphore>, at: Instant) -> Option<OwnedSemaphorePermit> {
    sleep_until(at).await;
    slots.acquire_owned().await.ok()
}

fn words(blacklist: &[String]) -> Vec<String> {
    let words = blacklist.iter().map(|word| word.trim().to_lowercase());
    words.filter(|word| !word.is_empty()).collect()
}

fn log(end: &End) {
    let duration_ms = end.sampled.map(|sampled| sampled.as_millis());
    #[expect(clippy::cast_possible_truncation, reason = "a reward is small")]
    let kudos_milli = (end.reward * 1000.0).round() as i64;
    let verdict = &end.verdict;
    tracing::info!(
        job.id = %end.id, model = end.model, ?verdict, duration_ms, kudos_milli,
        pictures = end.pictures, "a job ended"
    );
}
