//! The loop of a role: offer, pop, start, count; and the way it ends.

mod popping;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use ordu_api::JobId;
use ordu_api::worker::WorkKind;
use ordu_client::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;

use self::popping::{Came, HEARD_OUT, Leaving, Popping, Wait, arrival, farewell};
use crate::Level;
use crate::effort::{Load, Pending, Speed};
use crate::health::{Blame, Consequence, Health};
use crate::pacing::{Pacing, Popped, jitter};
use crate::role::{Answer, Cause, End, Fit, Office, Order, Role, Verdict};
use crate::seats::Seats;
use crate::status::{JobStatus, Phase, Stage};

/// Jobs that may be on their way back while others are popped. More means that the horde or the store
/// does not keep up.
const MAX_DELIVERING: usize = 8;

/// Kudos per second, from the pop to the submit, below which a worker counts as slow.
const SLOW: f64 = 0.1;

/// Reasons for which requests were left out that are kept.
const MAX_SKIPPED: usize = 50;

/// What the last pop found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nobody knows, or the offer is another one now.
    Unknown,
    Nothing,
    Job,
}

/// One role at work. It alone starts jobs and learns from their ends.
pub(crate) struct Desk<R: Role> {
    role: Arc<R>,
    office: Office,
    jobs: JoinSet<End>,
    /// One for each job that was popped and is not sampled yet.
    seats: Arc<Seats>,
    /// The jobs that have not ended.
    pending: BTreeMap<JobId, (Pending, Instant)>,
    health: Health,
    pacing: Pacing,
    speed: Speed,
    /// The time that the last job had.
    ttl: Duration,
    next_pop: Instant,
    /// Nothing is popped before, whatever the horde says.
    rest_until: Instant,
    popping: Option<Popping<R>>,
    leaving: Option<Leaving<R>>,
    found: Found,
}

/// Why a worker ends although nobody told it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Quit {
    /// The horde refuses its key.
    KeyRefused(String),
    /// Too many jobs failed.
    Failing,
}

impl<R: Role> Desk<R> {
    pub(crate) fn new(role: R, office: Office) -> Self {
        let room = role.room();
        Self {
            speed: Speed::known(role.speeds()),
            role: Arc::new(role),
            jobs: JoinSet::new(),
            seats: Arc::new(Seats::new((room.threads + room.ahead) as usize)),
            pending: BTreeMap::new(),
            health: Health::default(),
            pacing: Pacing::default(),
            ttl: office.timing.ttl,
            next_pop: Instant::now(),
            rest_until: Instant::now(),
            popping: None,
            leaving: None,
            found: Found::Unknown,
            office,
        }
    }

    /// Works until it is told to stop, or until there is a reason to quit, which is returned. Everything
    /// that was popped has been handed back then.
    pub(crate) async fn run(mut self) -> Option<Quit> {
        let quit = self.serve().await;
        let last = self.hear_last().await;
        let quit = quit.or(last);
        if quit.is_some() {
            // The other roles have the same key and the same machine.
            self.office.shutdown.raise(Level::Drain);
        }
        self.drain().await;
        self.office.board.phase(Phase::Stopped);
        quit
    }

    /// Pops until it is told to stop, or until there is a reason to quit.
    async fn serve(&mut self) -> Option<Quit> {
        self.show_name();
        self.role.open().await;
        let mut current = self.office.current.clone();
        loop {
            tokio::select! {
                biased;
                () = self.office.shutdown.reached(Level::Drain) => return None,
                Some(end) = self.jobs.join_next() => {
                    if let Some(quit) = self.settle(end) {
                        return Some(quit);
                    }
                }
                () = current.changed() => self.adapt(),
                answer = arrival(&mut self.popping) => {
                    if let Some(quit) = self.popped(answer) {
                        return Some(quit);
                    }
                }
                answer = farewell(&mut self.leaving) => self.heard_out(answer),
                seat = turn(self.seats.clone(), self.next_pop.max(self.rest_until)), if self.may_pop() => {
                    self.pop(seat).await;
                }
            }
        }
    }

    /// Something has changed: the settings, or what there is to offer.
    fn adapt(&mut self) {
        let room = self.role.room();
        self.seats.resize((room.threads + room.ahead) as usize);
        self.office.turns.stir();
        self.show_name();
        let board = self.office.board.clone();
        if self.office.current.is_paused() {
            board.phase(Phase::OnHold);
            self.hang_up();
            return self.rest_if_idle();
        }
        match board.phase_now() {
            Phase::OnHold => board.phase(Phase::Serving),
            // It may be over.
            Phase::Maintenance(_) => self.next_pop = Instant::now(),
            _ => {}
        }
        self.call_off();
    }

    /// Whoever only works for its owner, or not at all, takes no memory meanwhile.
    fn rest_if_idle(&self) {
        let phase = self.office.board.phase_now();
        if self.jobs.is_empty() && matches!(phase, Phase::Maintenance(_) | Phase::OnHold) {
            self.role.rest();
        }
    }

    fn show_name(&self) {
        let kind = self.role.kind();
        let config = self.office.current.now();
        self.office.board.name(config.name(kind).trim());
    }

    /// Whether one more job can be taken. Asked again after each end of a job.
    fn may_pop(&self) -> bool {
        if self.popping.is_some() || self.office.current.is_paused() {
            return false;
        }
        let room = self.role.room();
        let most = (room.threads + room.ahead) as usize + MAX_DELIVERING;
        if self.jobs.is_empty() {
            return true;
        }
        // The first job must come back before a second one is risked.
        self.health.is_proven() && self.jobs.len() < most && self.is_in_time(room.threads)
    }

    fn is_in_time(&self, threads: u32) -> bool {
        let waiting = self.waiting();
        let load = Load {
            threads,
            ttl: self.ttl,
            haste: self.office.current.read(|config| config.haste),
        };
        self.speed.allows(&waiting.iter().collect::<Vec<_>>(), load)
    }

    /// The jobs that have not ended, and how far they are.
    fn waiting(&self) -> Vec<Pending> {
        let jobs = self.pending.iter();
        jobs.map(|(id, (work, _))| Pending {
            done: self.office.board.share_done(*id),
            ..work.clone()
        })
        .collect()
    }

    /// Asks for a job, and goes on. Who got none before asks the horde to wait, if it can.
    async fn pop(&mut self, seat: Option<OwnedSemaphorePermit>) {
        let asked = Instant::now();
        self.next_pop = asked + self.office.timing.pop_interval;
        let (Some(seat), Some(ability)) = (seat, self.role.ability().await) else {
            self.office.board.engine(|engine| engine.is_up = false);
            return self.show(None);
        };
        let fit = Fit {
            health: &self.health,
            board: &self.office.board,
            now: asked,
            most: self.role.room().threads as usize + 1,
            busy: self.found == Found::Job,
        };
        let Some(offer) = self.role.offer(&ability, &fit) else {
            self.office.board.phase(Phase::NothingToOffer);
            self.show(None);
            return;
        };
        self.show(Some(R::models(&offer)));
        let same = |leaving: &mut Leaving<R>| *leaving.offer == offer;
        if let Some(leaving) = self.leaving.take_if(same) {
            return self.go_on(leaving, seat);
        }
        let Office { horde, extras, .. } = &self.office;
        let is_idle = self.found == Found::Nothing;
        let (horde, wait) = if is_idle && extras.of(horde).await.lets_wait() {
            (horde.patient(self.office.timing.longest_pop), Wait::Yes)
        } else {
            (horde.clone(), Wait::No)
        };
        let offer = Arc::new(offer);
        let (role, offered) = (self.role.clone(), offer.clone());
        let answer = Box::pin(async move { role.pop(&horde, &offered, ability).await });
        self.popping = Some(Popping {
            answer,
            seat,
            offer,
            asked: Instant::now(),
            wait,
        });
    }

    /// Nothing has changed after all: the pop that waits may go on.
    fn go_on(&mut self, leaving: Leaving<R>, seat: OwnedSemaphorePermit) {
        self.found = Found::Nothing;
        self.popping = Some(Popping {
            answer: leaving.answer,
            seat,
            offer: leaving.offer,
            asked: leaving.asked,
            wait: Wait::Yes,
        });
    }

    /// Takes the answer to the pop that was under way.
    fn popped(&mut self, answer: Result<Answer<R::Job>, Error>) -> Option<Quit> {
        let popping = self.popping.take()?;
        let asked = popping.asked;
        let popped = match answer {
            Ok(answer) => {
                let came = Came::now(asked, popping.wait);
                if popping.wait == Wait::No {
                    self.office.board.waited("popping", asked);
                }
                self.answered(answer, Some(popping.seat), came);
                Popped::Answered
            }
            Err(error) => {
                tracing::debug!(error = %error, "a pop failed");
                let popped = Popped::failed(&error);
                self.found = Found::Unknown;
                self.office.board.popped(popped.name());
                popped
            }
        };
        let pause = self.pacing.pause(&popped, &self.office.timing, jitter());
        self.next_pop = asked + pause;
        self.heed(popped, R::models(&popping.offer))
    }

    /// Takes what a pop brought that was not waited for any more, if it brought anything in time.
    fn heard_out(&mut self, answer: Option<Result<Answer<R::Job>, Error>>) {
        let leaving = self.leaving.take();
        let (Some(leaving), Some(Ok(answer))) = (leaving, answer) else {
            return;
        };
        if answer.ticket.is_some() {
            let seat = self.seats.take().now_or_never().flatten();
            self.answered(answer, seat, Came::now(leaving.asked, Wait::Yes));
        }
    }

    /// The end of popping. The horde may have given a job out already, so its answer is waited for,
    /// unless it waits itself.
    async fn hear_last(&mut self) -> Option<Quit> {
        self.hang_up();
        self.popping.as_ref()?;
        let answer = arrival(&mut self.popping).await;
        self.popped(answer)
    }

    /// What whoever watches should know about what does the work; what is `offered`, if that is anything.
    fn show(&self, offered: Option<&[String]>) {
        let now = Instant::now();
        let quarantined = self.health.quarantines(now).into_iter();
        let quarantined = quarantined.map(|(name, left)| (name, now + left)).collect();
        let backlog = self
            .speed
            .backlog(&self.waiting(), self.role.room().threads);
        self.office.board.engine(|engine| {
            if let Some(offered) = offered {
                engine.is_up = true;
                engine.offered = offered.to_vec();
            }
            engine.quarantined = quarantined;
            if engine.speeds != *self.speed.models() {
                engine.speeds.clone_from(self.speed.models());
            }
            engine.backlog = backlog.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        });
    }

    /// Starts a job, if there is one.
    fn answered(&mut self, answer: Answer<R::Job>, seat: Option<OwnedSemaphorePermit>, came: Came) {
        let board = &self.office.board;
        for news in board.hear(answer.messages) {
            tracing::info!(
                message.id = news.id,
                text = news.message,
                "news from the horde"
            );
        }
        if self.rest_until <= Instant::now() && !self.office.current.is_paused() {
            board.phase(Phase::Serving);
        }
        let (found, result) = match answer.ticket {
            Some(_) => (Found::Job, "job"),
            None => (Found::Nothing, "nothing"),
        };
        self.found = found;
        board.popped(result);
        let Some(ticket) = answer.ticket else {
            let skipped = answer.skipped.into_iter().filter(|(_, count)| *count > 0);
            let skipped: BTreeMap<_, _> = skipped.take(MAX_SKIPPED).collect();
            tracing::debug!(?skipped, "no job");
            return board.update(|status| status.skipped = skipped);
        };
        let (id, model, parts) = (ticket.id, ticket.work.model.clone(), ticket.parts);
        tracing::debug!(job.id = %id, model, parts, ttl_s = ticket.ttl.as_secs(), "popped a job");
        self.ttl = ticket.ttl;
        self.pending.insert(id, (ticket.work.clone(), came.here));
        let span = tracing::info_span!("job", job.id = %id, model);
        board.update(|status| {
            status.jobs.push(JobStatus {
                id,
                kind: self.role.kind(),
                model,
                parts,
                stage: Stage::Fetching,
                popped: came.here,
                since: came.here,
            });
        });
        let order = Order {
            ticket,
            popped: came.earliest,
            slot: seat,
        };
        self.jobs
            .spawn(self.role.clone().work(order).instrument(span));
    }

    /// Tells the owner what a failed pop means.
    fn heed(&mut self, popped: Popped, offered: &[String]) -> Option<Quit> {
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
                let is_new = board.phase_now() != phase;
                if is_new {
                    tracing::warn!(
                        ?phase,
                        "the horde keeps this worker in maintenance: too many threads, too large a \
                         queue, batch or picture, or too slow a machine may be why"
                    );
                }
                board.phase(phase);
                if is_new {
                    self.rest_if_idle();
                }
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
                return Some(Quit::KeyRefused(reason));
            }
        }
        None
    }

    fn quarantine_named(&mut self, reason: &str, offered: &[String]) {
        let until = Instant::now() + self.office.timing.quarantine;
        for model in offered.iter().filter(|model| reason.contains(*model)) {
            self.health.quarantine(model, until);
        }
    }

    /// Counts the end of a job, and learns from it.
    fn settle(&mut self, end: Result<End, JoinError>) -> Option<Quit> {
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                tracing::error!(%error, "a job was lost");
                self.office.board.error("a job was lost");
                return None;
            }
        };
        self.office.board.remove(end.id);
        self.rest_if_idle();
        let now = Instant::now();
        let (mut work, popped) = self
            .pending
            .remove(&end.id)
            .unwrap_or((Pending::default(), now));
        if let Some(sampled) = end.sampled {
            self.speed.learn(&work, sampled);
        }
        if end.delivered > 0 {
            self.health.delivered();
        }
        let took = now.saturating_duration_since(popped);
        log(&end, took);
        self.count(&end);
        self.judge_speed(&end, took);
        self.mind_memory(&end, &work);
        // Of several forms, the one that failed is to blame.
        work.model.clone_from(&end.model);
        self.offer_more(&work.model);
        let blame = match &end.verdict {
            Verdict::Done => {
                self.health.succeeded(&work.model, &work.shape.extras);
                return None;
            }
            Verdict::HandedBack(_) | Verdict::Lost => return None,
            Verdict::EngineAway(reason) => {
                self.engine_is_away(&work.model, reason.clone());
                return None;
            }
            Verdict::ModelFailed(_) => Blame::Model(&work.model, &work.shape.extras),
            Verdict::ProgramFailed(_) => Blame::Program(&work.model),
            Verdict::Failed(_) => Blame::Nothing,
        };
        self.punish(blame)
    }

    fn count(&self, end: &End) {
        self.office.board.update(|status| {
            match self.role.kind() {
                WorkKind::Image => status.pictures += end.delivered,
                WorkKind::Text => status.texts += end.delivered,
                WorkKind::Interrogation => status.forms += end.delivered,
            }
            status.kudos += end.reward;
            status.earned.add(end.reward, Instant::now());
            match &end.verdict {
                Verdict::Done => status.done += 1,
                Verdict::Lost => status.lost += 1,
                _ => {
                    status.faulted += 1;
                    *status.faults.entry(end.cause()).or_default() += 1;
                }
            }
            if let Verdict::Failed(reason)
            | Verdict::ModelFailed(reason)
            | Verdict::ProgramFailed(reason)
            | Verdict::EngineAway(reason) = &end.verdict
            {
                status.last_error = Some(reason.clone());
            }
        });
    }

    /// A picture for which memory was not enough is not offered again for a while, nor are larger ones.
    fn mind_memory(&mut self, end: &End, work: &Pending) {
        let pixels = work
            .pixels
            .filter(|_| end.cause == Some(Cause::OutOfMemory));
        let until = Instant::now() + self.office.timing.quarantine;
        if pixels.is_some_and(|pixels| self.health.outgrew(pixels, until)) {
            tracing::warn!(
                pixels,
                "memory is not enough: only smaller pictures are offered"
            );
            self.call_off();
        }
    }

    /// A word about a picture that earned little for its time, unless the owner knows.
    fn judge_speed(&self, end: &End, took: Duration) {
        let is_slow = end.reward > 0.0 && end.reward / took.as_secs_f64() < SLOW;
        let quiet = self
            .office
            .current
            .read(|config| config.suppress_speed_warnings);
        if self.role.kind() == WorkKind::Image && is_slow && !quiet {
            tracing::warn!(
                job.id = %end.id, took_s = took.as_secs(),
                "a job took long for what it earned: offer smaller pictures, fewer threads or a shorter queue"
            );
        }
    }

    /// Waits for what does the work, ever longer.
    fn engine_is_away(&mut self, model: &str, reason: String) {
        let until = self.health.away(Instant::now(), &self.office.timing);
        if self.role.engines() > 1 {
            tracing::warn!(
                reason,
                model,
                "an engine is away: this is not offered for a while"
            );
            self.health.quarantine(model, until);
            return self.call_off();
        }
        self.hang_up();
        tracing::warn!(reason, "the engine is away: nothing is popped for a while");
        self.rest_until = self.rest_until.max(until);
        self.office.board.phase(Phase::NoEngine(reason));
    }

    /// What the horde was offered may not hold any more: if it still waits for a job to give, it is
    /// asked anew. Until it has heard that, it may give the job to the pop that waits.
    fn call_off(&mut self) {
        self.found = Found::Unknown;
        let waiting = self.popping.take_if(|popping| popping.wait == Wait::Yes);
        if let Some(popping) = waiting {
            self.leaving = Some(Leaving {
                answer: popping.answer,
                offer: popping.offer,
                asked: popping.asked,
                until: Instant::now() + HEARD_OUT,
            });
        }
    }

    /// Nothing will be asked for a while: if the horde waits for a job to give, it is left waiting, and
    /// takes a job back whose answer nobody hears. What is here already is taken.
    fn hang_up(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            let answer = (&mut leaving.answer).now_or_never();
            self.heard_out(answer);
        }
        let waiting = self.popping.as_mut();
        if let Some(popping) = waiting.filter(|popping| popping.wait == Wait::Yes) {
            match (&mut popping.answer).now_or_never() {
                // A refusal comes again with the next pop.
                Some(answer) => drop(self.popped(answer)),
                None => self.popping = None,
            }
        }
        self.found = Found::Unknown;
    }

    /// A job with this model ended, of which there may have been too many to offer it.
    fn offer_more(&mut self, model: &String) {
        let popping = self.popping.as_ref();
        if popping.is_some_and(|popping| !R::models(&popping.offer).contains(model)) {
            self.call_off();
        }
    }

    fn punish(&mut self, blame: Blame<'_>) -> Option<Quit> {
        let timing = self.office.timing;
        let consequence = self.health.failed(blame, Instant::now(), &timing);
        for name in &consequence.quarantined {
            tracing::error!(name, "it failed too often and is not offered for a while");
        }
        if consequence != Consequence::default() {
            self.call_off();
        }
        let until = consequence.pause_until?;
        self.hang_up();
        if self
            .office
            .current
            .read(|config| config.exit_on_unhandled_faults)
        {
            tracing::error!("too many jobs failed: the worker ends");
            return Some(Quit::Failing);
        }
        tracing::error!("too many jobs failed: nothing is popped for a while");
        self.rest_until = self.rest_until.max(until);
        self.office.board.phase(Phase::Paused(timing.failure_pause));
        None
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
                    Some(end) => drop(self.settle(end)),
                    None => return,
                },
                () = &mut out_of_time => return self.jobs.abort_all(),
            }
        }
    }
}

/// Ends when it is time to pop and there is room for a job.
async fn turn(seats: Arc<Seats>, at: Instant) -> Option<OwnedSemaphorePermit> {
    sleep_until(at).await;
    seats.take().await
}

fn log(end: &End, took: Duration) {
    let duration_ms = end.sampled.map(|sampled| sampled.as_millis());
    #[expect(clippy::cast_possible_truncation, reason = "a reward is small")]
    let kudos_milli = (end.reward * 1000.0).round() as i64;
    let verdict = &end.verdict;
    tracing::info!(
        job.id = %end.id, model = end.model, ?verdict, duration_ms, took_ms = took.as_millis(),
        kudos_milli, delivered = end.delivered, "a job ended"
    );
}
