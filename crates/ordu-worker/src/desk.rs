//! The loop of a role: offer, pop, start, count; and the way it ends.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ordu_api::JobId;
use ordu_api::worker::WorkKind;
use ordu_client::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;

use crate::Level;
use crate::effort::Speed;
use crate::health::Health;
use crate::pacing::{Pacing, Popped, jitter};
use crate::role::{Answer, End, Office, Order, Role, Verdict};
use crate::status::{JobStatus, Phase, Stage};

/// Jobs that may be on their way back while others are popped. More means that the horde or the store
/// does not keep up.
const MAX_DELIVERING: usize = 8;

/// How long the answer to a pop may have been on its way, when only its arrival is known.
const JOURNEY: Duration = Duration::from_secs(1);

/// A pop that is under way.
struct Popping<J> {
    answer: BoxFuture<'static, Result<Answer<J>, Error>>,
    slot: OwnedSemaphorePermit,
    models: Vec<String>,
    asked: Instant,
    wait: Wait,
}

/// What the horde was asked to do when it has no job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Say so.
    No,
    /// Wait for one. It takes a job back whose answer nobody hears.
    Yes,
}

/// One role at work. It alone starts jobs and learns from their ends.
pub(crate) struct Desk<R: Role> {
    role: Arc<R>,
    office: Office,
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
    popping: Option<Popping<R::Job>>,
    /// Whether there was no job the last time.
    is_idle: bool,
}

impl<R: Role> Desk<R> {
    pub(crate) fn new(role: R, office: Office) -> Self {
        let room = role.room();
        Self {
            role: Arc::new(role),
            jobs: JoinSet::new(),
            slots: Arc::new(Semaphore::new((room.threads + room.ahead) as usize)),
            pending: BTreeMap::new(),
            health: Health::default(),
            pacing: Pacing::default(),
            speed: Speed::default(),
            ttl: office.timing.ttl,
            next_pop: Instant::now(),
            popping: None,
            is_idle: false,
            office,
        }
    }

    /// Works until it is told to stop, or until the horde refuses the key, for the reason returned.
    /// Everything that was popped has been handed back then.
    pub(crate) async fn run(mut self) -> Option<String> {
        let refused = self.serve().await;
        if refused.is_some() {
            // The other roles have the same key.
            self.office.shutdown.raise(Level::Drain);
        }
        self.drain().await;
        self.office.board.phase(Phase::Stopped);
        refused
    }

    /// Pops until it is told to stop, or until the horde refuses the key, for the reason returned.
    async fn serve(&mut self) -> Option<String> {
        self.role.open().await;
        loop {
            tokio::select! {
                biased;
                () = self.office.shutdown.reached(Level::Drain) => return self.hear_last().await,
                Some(end) = self.jobs.join_next() => self.settle(end),
                answer = arrival(&mut self.popping) => {
                    if let Err(reason) = self.popped(answer) {
                        return Some(reason);
                    }
                }
                slot = turn(self.slots.clone(), self.next_pop),
                    if self.popping.is_none() && self.may_pop() => self.pop(slot).await,
            }
        }
    }

    /// Whether one more job can be taken. Asked again after each end of a job.
    fn may_pop(&self) -> bool {
        let room = self.role.room();
        let waiting = self.pending.values().sum();
        let alone = self.jobs.is_empty();
        let in_time = self.speed.allows(waiting, room.threads, self.ttl);
        let most = (room.threads + room.ahead) as usize + MAX_DELIVERING;
        // The first job must come back before a second one is risked.
        (alone || (self.health.is_proven() && in_time)) && self.jobs.len() < most
    }

    /// Asks for a job, and goes on. Who got none before asks the horde to wait, if it can.
    async fn pop(&mut self, slot: Option<OwnedSemaphorePermit>) {
        let asked = Instant::now();
        self.next_pop = asked + self.office.timing.pop_interval;
        let (Some(slot), Some(ability)) = (slot, self.role.ability().await) else {
            return;
        };
        let most = self.role.room().threads as usize + 1;
        let may_offer = |model: &str| {
            self.health.may_offer(model, asked) && self.office.board.unfinished(model) < most
        };
        let Some(offer) = self.role.offer(&ability, &may_offer) else {
            self.office.board.phase(Phase::NothingToOffer);
            return;
        };
        let Office { horde, extras, .. } = &self.office;
        let (horde, wait) = if self.is_idle && extras.of(horde).await.lets_wait() {
            (horde.patient(self.office.timing.longest_pop), Wait::Yes)
        } else {
            (horde.clone(), Wait::No)
        };
        let models = R::models(&offer).to_vec();
        let role = self.role.clone();
        let answer = Box::pin(async move { role.pop(&horde, &offer, ability).await });
        self.popping = Some(Popping {
            answer,
            slot,
            models,
            asked: Instant::now(),
            wait,
        });
    }

    /// Takes the answer to the pop that was under way.
    fn popped(&mut self, answer: Result<Answer<R::Job>, Error>) -> Result<(), String> {
        let Some(popping) = self.popping.take() else {
            return Ok(());
        };
        let asked = popping.asked;
        let popped = match answer {
            Ok(answer) => {
                self.is_idle = answer.ticket.is_none();
                // The horde's clock starts when it has a job, which may be long after it was asked.
                let since = match popping.wait {
                    Wait::No => asked,
                    Wait::Yes => Instant::now()
                        .checked_sub(JOURNEY)
                        .map_or(asked, |at| at.max(asked)),
                };
                self.answered(answer, popping.slot, since);
                Popped::Answered
            }
            Err(error) => {
                tracing::debug!(error = %error, "a pop failed");
                self.is_idle = false;
                Popped::failed(&error)
            }
        };
        let pause = self.pacing.pause(&popped, &self.office.timing, jitter());
        self.next_pop = asked + pause;
        self.heed(popped, &popping.models)
    }

    /// The end of popping. The horde may have given a job out already, so its answer is waited for,
    /// unless it waits itself.
    async fn hear_last(&mut self) -> Option<String> {
        if self.popping.as_ref()?.wait == Wait::Yes {
            self.popping = None;
            return None;
        }
        let answer = arrival(&mut self.popping).await;
        self.popped(answer).err()
    }

    /// Starts a job, if there is one.
    fn answered(&mut self, answer: Answer<R::Job>, slot: OwnedSemaphorePermit, popped: Instant) {
        let board = &self.office.board;
        for news in board.hear(answer.messages) {
            tracing::info!(
                message.id = news.id,
                text = news.message,
                "news from the horde"
            );
        }
        board.phase(Phase::Serving);
        let Some(ticket) = answer.ticket else {
            let skipped: Vec<_> = answer
                .skipped
                .iter()
                .filter(|(_, count)| **count > 0)
                .collect();
            tracing::debug!(?skipped, "no job");
            return;
        };
        let (id, model, parts) = (ticket.id, ticket.model.clone(), ticket.parts);
        tracing::info!(job.id = %id, model, parts, ttl_s = ticket.ttl.as_secs(), "popped a job");
        self.ttl = ticket.ttl;
        self.pending.insert(id, ticket.effort);
        let span = tracing::info_span!("job", job.id = %id, model);
        board.update(|status| {
            status.jobs.push(JobStatus {
                id,
                kind: self.role.kind(),
                model,
                parts,
                stage: Stage::Fetching,
            });
        });
        let order = Order {
            ticket,
            popped,
            slot,
        };
        self.jobs
            .spawn(self.role.clone().work(order).instrument(span));
    }

    /// Tells the owner what a failed pop means.
    fn heed(&mut self, popped: Popped, offered: &[String]) -> Result<(), String> {
        let board = &self.office.board;
        match popped {
            Popped::Answered => {}
            Popped::Outage(_) => {
                tracing::warn!("the horde is not available");
                self.office.extras.forget();
                board.error("the horde is not available");
            }
            Popped::RateLimited(_) => tracing::debug!("the horde wants fewer pops"),
            Popped::Maintenance(reason) => {
                let phase = Phase::Maintenance(reason);
                if board.phase_now() != phase {
                    tracing::warn!(?phase, "the horde keeps this worker in maintenance");
                }
                board.phase(phase);
            }
            Popped::ModelsRefused(reason) => {
                self.quarantine_named(&reason, offered);
                tracing::error!(reason, "the horde does not accept a model");
                self.office.board.error(reason);
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
        let until = Instant::now() + self.office.timing.quarantine;
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
                return self.office.board.error("a job was lost");
            }
        };
        self.office.board.remove(end.id);
        let effort = self.pending.remove(&end.id).unwrap_or_default();
        if let Some(sampled) = end.sampled {
            self.speed.learn(effort, sampled);
        }
        if end.delivered > 0 {
            self.health.delivered();
        }
        log(&end);
        self.count(&end);
        match &end.verdict {
            Verdict::Done => self.health.succeeded(&end.model),
            Verdict::ModelFailed(_) => self.punish(Some(&end.model)),
            Verdict::Failed(_) => self.punish(None),
            Verdict::Unreachable(_) | Verdict::HandedBack(_) | Verdict::Lost => {}
        }
    }

    fn count(&self, end: &End) {
        self.office.board.update(|status| {
            match self.role.kind() {
                WorkKind::Image => status.pictures += end.delivered,
                WorkKind::Text => status.texts += end.delivered,
                WorkKind::Interrogation => status.forms += end.delivered,
            }
            status.kudos += end.reward;
            match &end.verdict {
                Verdict::Done => status.done += 1,
                Verdict::Lost => status.lost += 1,
                Verdict::HandedBack(_) => status.faulted += 1,
                Verdict::Unreachable(reason)
                | Verdict::Failed(reason)
                | Verdict::ModelFailed(reason) => {
                    status.faulted += 1;
                    status.last_error = Some(reason.clone());
                }
            }
        });
    }

    fn punish(&mut self, model: Option<&str>) {
        let timing = self.office.timing;
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
            drop(self.popping.take_if(|popping| popping.wait == Wait::Yes));
            self.office.board.phase(Phase::Paused(timing.failure_pause));
        }
    }

    /// Waits for what was popped, not for ever.
    async fn drain(&mut self) {
        self.office.board.phase(Phase::Draining);
        let office = self.office.clone();
        let waiting = self.jobs.len();
        tracing::info!(waiting, "finishing what was popped");
        let mut out_of_time = std::pin::pin!(async {
            sleep(office.timing.drain).await;
            office.shutdown.raise(Level::Abort);
            // What is told the horde in these seconds is all that it will hear.
            sleep(office.timing.abort * 2).await;
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
}

/// Ends when it is time to pop and there is room for a job.
async fn turn(slots: Arc<Semaphore>, at: Instant) -> Option<OwnedSemaphorePermit> {
    sleep_until(at).await;
    slots.acquire_owned().await.ok()
}

/// The answer to the pop that is under way; never if none is.
async fn arrival<J>(popping: &mut Option<Popping<J>>) -> Result<Answer<J>, Error> {
    match popping {
        Some(popping) => (&mut popping.answer).await,
        None => pending().await,
    }
}

fn log(end: &End) {
    let duration_ms = end.sampled.map(|sampled| sampled.as_millis());
    #[expect(clippy::cast_possible_truncation, reason = "a reward is small")]
    let kudos_milli = (end.reward * 1000.0).round() as i64;
    let verdict = &end.verdict;
    tracing::info!(
        job.id = %end.id, model = end.model, ?verdict, duration_ms, kudos_milli,
        delivered = end.delivered, "a job ended"
    );
}
