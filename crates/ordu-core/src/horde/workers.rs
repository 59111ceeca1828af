//! The workers: who they are, when they were last seen, how fast they are, what they did wrong.
//!
//! # Source
//! `generation.md` § 6.4 (check-in), § 6.13 (drops), § 6.14 (speed).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, UserId, WorkerId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::needs::Switch;
use super::offer::{Capacity, Offer};
use super::queue::Names;
use super::{Alert, WORKER_LIFETIME, kinds};
use crate::ledger::{Event, Reason};
use crate::model_reference::ModelReference;
use crate::pricing::{self, Share, UPTIME_REWARD_SECONDS};
use crate::{Kudos, Millis, Timestamp};

/// How many of a worker's newest speeds count.
const SPEED_SAMPLES: usize = 20;
/// The speed of a worker that has none yet, in shown units a second.
const BASELINE_SPEED: f64 = 1.0;
/// What was seen of a worker is worth storing this often.
const STORE_INTERVAL: Millis = Millis::from_seconds(30);
/// Drops are counted from the first one for this long.
const DROP_WINDOW: Millis = Millis::from_minutes(60);
/// More drops than this bring maintenance.
const MAX_DROPS: u32 = 20;
/// The same during a raid.
const MAX_DROPS_RAID: u32 = 10;
/// The same for alchemists, always.
const MAX_DROPS_ALCHEMIST: u32 = 100;

/// More excuses than this within the same time help no more.
const MAX_EXCUSES: u32 = 20;

/// Why the horde itself sent a worker into maintenance, and what to do. Workers look for the words
/// of the first sentence.
fn dropped_too_many(drops: u32) -> String {
    format!(
        "This worker has been dropping too many jobs and was put into maintenance mode. {drops} \
         jobs within an hour came back without a result, or too late. Look at its log for the \
         reason: often it is too little memory, or more threads or larger pictures than it can do \
         in time. Then end maintenance, by the worker's page or with `maintenance: false`"
    )
}

/// What must survive of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its id.
    pub id: WorkerId,
    /// What it does.
    pub kind: WorkKind,
    /// Its name.
    pub name: String,
    /// Who it belongs to.
    pub owner: UserId,
    /// Why it serves its owner only; `None` if it serves everybody.
    pub maintenance: Option<String>,
    /// Whether it is only kept busy.
    pub paused: bool,
    /// When it was seen last.
    pub checked_in: Timestamp,
    /// How long it was online in all.
    pub uptime: Millis,
    /// How much of that is rewarded or lost.
    pub uptime_counted: Millis,
    /// Raw units a second of its newest jobs, of an alchemist seconds for a form; oldest first.
    pub speeds: VecDeque<f64>,
    /// Jobs finished.
    pub fulfilled: u64,
    /// Jobs dropped.
    pub uncompleted: u64,
    /// Of these, those since [`Self::drops_since`]: too many bring maintenance.
    pub drops: u32,
    /// When the first of them was dropped.
    pub drops_since: Timestamp,
    /// Work done, in raw units.
    pub things: u64,
    /// Earned by jobs.
    pub kudos_generated: Kudos,
    /// Earned by being there.
    pub kudos_uptime: Kudos,
}

impl WorkerRecord {
    /// A worker that was never seen.
    pub fn new(id: WorkerId, kind: WorkKind, name: String, owner: UserId) -> Self {
        Self {
            id,
            kind,
            name,
            owner,
            maintenance: None,
            paused: false,
            checked_in: Timestamp::default(),
            uptime: Millis(0),
            uptime_counted: Millis(0),
            speeds: VecDeque::new(),
            fulfilled: 0,
            uncompleted: 0,
            drops: 0,
            drops_since: Timestamp::default(),
            things: 0,
            kudos_generated: Kudos::ZERO,
            kudos_uptime: Kudos::ZERO,
        }
    }

    /// Its speed, in raw units a second, or of an alchemist in seconds for a form: the mean of the
    /// newest jobs.
    pub fn speed(&self) -> f64 {
        let mean = mean(&self.speeds);
        if mean > 0.0 {
            mean
        } else {
            BASELINE_SPEED * super::request::divisor(self.kind)
        }
    }
}

/// A worker: what must survive of it, and what it declared last.
#[derive(Debug, Clone)]
pub struct Worker {
    /// What must survive.
    pub record: WorkerRecord,
    /// What it declared; `None` until it pops for the first time since the start.
    pub offer: Option<Offer>,
    pub(super) capacity: Option<Capacity>,
    /// Whether the models are known differently since it was judged.
    pub(super) outdated: bool,
    /// Requests that it is given no more: it got decoys of them, or the operator's rules forbid it.
    pub(super) withheld: BTreeSet<RequestId>,
    /// How often it blamed something else, since when.
    pub(super) excuses: u32,
    pub(super) excuses_since: Timestamp,
    pub(super) stored: Timestamp,
}

impl Worker {
    /// Whether it was seen lately and said what it can do.
    pub fn is_online(&self, now: Timestamp) -> bool {
        self.offer.is_some() && now.since(self.record.checked_in) <= WORKER_LIFETIME
    }

    /// Whether it may serve a user's requests, as far as maintenance and pauses go.
    pub(super) fn may_serve(&self, user: UserId) -> bool {
        let is_free = self.record.maintenance.is_none() && !self.record.paused;
        is_free || user == self.record.owner
    }

    fn is_working(&self) -> bool {
        self.record.maintenance.is_none() && !self.record.paused
    }

    fn judge_speed(&mut self) -> Changed {
        let speed = self.record.speed();
        let Some(capacity) = &mut self.capacity else {
            return Changed::No;
        };
        let is_fast = capacity.fast.is(speed);
        let before = capacity.held;
        if is_fast {
            capacity.held.switch(Switch::Fast);
        } else {
            capacity.held.switch_off(Switch::Fast);
        }
        if capacity.held == before {
            Changed::No
        } else {
            Changed::Yes
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
}

/// What a check-in led to.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckIn {
    /// Whether what is known of the worker should be stored now: it is new, changed, or the last
    /// time is a while ago.
    pub store: bool,
    /// The reward that became due by being online.
    pub reward: Option<UptimeReward>,
}

/// A reward for being online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UptimeReward {
    /// Whose uptime.
    pub worker: WorkerId,
    /// How much.
    pub amount: Kudos,
    /// Its movements. The id follows from worker and uptime, so a repeated event is recognised.
    pub event: Event,
}

/// What the horde did to a worker for its drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sanction {
    /// Which worker.
    pub worker: WorkerId,
    /// The maintenance that it was put into; `None` during a raid, when it is only suspected.
    pub maintenance: Option<String>,
}

/// Who counts how long a worker is online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UptimeClock {
    /// This node, whichever the worker comes to.
    Here,
    /// Another one.
    Elsewhere,
}

/// All workers by id.
#[derive(Debug, Clone, Default)]
pub(super) struct Workers {
    by_id: BTreeMap<WorkerId, Worker>,
    /// Changes whenever a worker could serve other requests than before.
    pub(super) epoch: u64,
    pulses: BTreeMap<WorkKind, Pulse>,
}

/// What all workers of a kind amount to, computed at most once a second.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    second: i64,
    epoch: u64,
    threads: u64,
    /// Raw units a second, the mean over all samples.
    speed: f64,
}

impl Workers {
    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Worker> {
        self.by_id.values()
    }

    /// The workers after one, by id; all if none is given.
    pub(super) fn after(&self, last: Option<WorkerId>) -> impl Iterator<Item = &Worker> {
        let start = last.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.by_id.range((start, Bound::Unbounded));
        rest.map(|(_, worker)| worker)
    }

    pub(super) fn online(&self, now: Timestamp) -> impl Iterator<Item = &Worker> {
        self.all().filter(move |worker| worker.is_online(now))
    }

    pub(super) fn restore(&mut self, record: WorkerRecord) {
        let worker = Worker {
            stored: record.checked_in,
            record,
            offer: None,
            capacity: None,
            outdated: false,
            withheld: BTreeSet::new(),
            excuses: 0,
            excuses_since: Timestamp::default(),
        };
        self.by_id.entry(worker.record.id).or_insert(worker);
    }

    /// Lets every worker be judged anew at its next check-in.
    pub(super) fn forget_capacities(&mut self) {
        for worker in self.by_id.values_mut() {
            worker.outdated = true;
        }
    }

    pub(super) fn check_in(
        &mut self,
        offer: Offer,
        reference: &ModelReference,
        (names, clock): (&mut Names, UptimeClock),
        now: Timestamp,
    ) -> CheckIn {
        let id = offer.worker;
        let is_new = !self.by_id.contains_key(&id);
        if is_new {
            let record =
                WorkerRecord::new(id, offer.kind(), offer.name().to_owned(), offer.owner.user);
            self.restore(record);
        }
        let Some(worker) = self.by_id.get_mut(&id) else {
            return CheckIn {
                store: false,
                reward: None,
            };
        };
        let was_online = worker.is_online(now);
        let changed = worker.outdated || worker.offer.as_ref() != Some(&offer);
        if changed {
            worker.outdated = false;
            if let Some(before) = &worker.capacity {
                before.let_go(names);
            }
            worker.capacity = Some(Capacity::new(&offer, reference, names));
            offer.name().clone_into(&mut worker.record.name);
            worker.record.owner = offer.owner.user;
            worker.offer = Some(offer);
            worker.judge_speed();
        }
        let reward = if is_new || clock == UptimeClock::Elsewhere {
            None
        } else {
            worker.grow_uptime(reference, now)
        };
        // What another node saw may be older than what was seen here.
        worker.record.checked_in = now.max(worker.record.checked_in);
        let store = changed || now.since(worker.stored) >= STORE_INTERVAL;
        if store {
            worker.stored = now;
        }
        if changed || !was_online {
            self.epoch += 1;
        }
        CheckIn { store, reward }
    }

    /// Records how fast a job was, and what came of it.
    pub(super) fn deliver(&mut self, id: WorkerId, work: &Finished) {
        let Some(worker) = self.by_id.get_mut(&id) else {
            return;
        };
        let record = &mut worker.record;
        record.fulfilled += 1;
        record.things = record.things.saturating_add(work.things);
        record.kudos_generated += work.kudos;
        record.speeds.push_back(work.speed);
        if record.speeds.len() > SPEED_SAMPLES {
            record.speeds.pop_front();
        }
        if worker.judge_speed() == Changed::Yes {
            self.epoch += 1;
        }
    }

    /// Counts a dropped job; too many in an hour bring maintenance.
    pub(super) fn drop_job(
        &mut self,
        id: WorkerId,
        alert: Alert,
        now: Timestamp,
    ) -> Option<Sanction> {
        let worker = self.by_id.get_mut(&id)?;
        worker.record.uncompleted += 1;
        if worker.record.drops == 0 || now.since(worker.record.drops_since) > DROP_WINDOW {
            worker.record.drops = 0;
            worker.record.drops_since = now;
        }
        worker.record.drops += 1;
        let limit = match (worker.record.kind, alert) {
            (WorkKind::Interrogation, _) => MAX_DROPS_ALCHEMIST,
            (_, Alert::Calm) => MAX_DROPS,
            (_, Alert::Raid) => MAX_DROPS_RAID,
        };
        if worker.record.drops <= limit {
            return None;
        }
        let maintenance = (alert == Alert::Calm).then(|| dropped_too_many(worker.record.drops));
        worker.record.drops = 0;
        if let Some(reason) = &maintenance {
            worker.record.maintenance = Some(reason.clone());
            self.epoch += 1;
        }
        Some(Sanction {
            worker: id,
            maintenance,
        })
    }

    /// Takes over what another node counts of a worker.
    pub(super) fn follow(&mut self, record: &WorkerRecord) {
        if let Some(worker) = self.by_id.get_mut(&record.id) {
            let known = &mut worker.record;
            known.uptime = known.uptime.max(record.uptime);
            known.uptime_counted = known.uptime;
            known.kudos_uptime = known.kudos_uptime.max(record.kudos_uptime);
        }
    }

    /// Counts a job that came to nothing at another node, which judges it.
    pub(super) fn note_uncompleted(&mut self, id: WorkerId) {
        if let Some(worker) = self.by_id.get_mut(&id) {
            worker.record.uncompleted += 1;
        }
    }

    /// Takes a drop back that turned out not to be the worker's fault.
    pub(super) fn take_drop_back(&mut self, id: WorkerId) {
        if let Some(worker) = self.by_id.get_mut(&id) {
            worker.record.drops = worker.record.drops.saturating_sub(1);
        }
    }

    /// Whether a worker may blame something else for a drop. Who does so all the time may not.
    pub(super) fn excuse(&mut self, id: WorkerId, now: Timestamp) -> bool {
        let Some(worker) = self.by_id.get_mut(&id) else {
            return true;
        };
        if worker.excuses == 0 || now.since(worker.excuses_since) > DROP_WINDOW {
            worker.excuses = 0;
            worker.excuses_since = now;
        }
        worker.excuses = worker.excuses.saturating_add(1);
        worker.excuses <= MAX_EXCUSES
    }

    pub(super) fn is_in_maintenance(&self, id: WorkerId) -> bool {
        let worker = self.by_id.get(&id);
        worker.is_some_and(|worker| worker.record.maintenance.is_some())
    }

    pub(super) fn set_maintenance(&mut self, id: WorkerId, reason: Option<String>) {
        if let Some(worker) = self.by_id.get_mut(&id) {
            worker.record.maintenance = reason;
            self.epoch += 1;
        }
    }

    pub(super) fn set_paused(&mut self, id: WorkerId, paused: bool) {
        if let Some(worker) = self.by_id.get_mut(&id) {
            worker.record.paused = paused;
            self.epoch += 1;
        }
    }

    pub(super) fn forget(&mut self, id: WorkerId, names: &mut Names) {
        if let Some(worker) = self.by_id.remove(&id) {
            if let Some(capacity) = &worker.capacity {
                capacity.let_go(names);
            }
            self.epoch += 1;
        }
    }

    /// A request is gone: from whom it was withheld need not be remembered.
    pub(super) fn forget_withheld(&mut self, request: RequestId) {
        for worker in self.by_id.values_mut() {
            worker.withheld.remove(&request);
        }
    }

    /// Threads of the workers of a kind that are online.
    pub(super) fn threads(&mut self, kind: WorkKind, now: Timestamp) -> u64 {
        self.pulse(kind, now).threads
    }

    /// The mean of all retained speeds of a kind, in raw units a second; 0 without any.
    pub(super) fn mean_speed(&mut self, kind: WorkKind, now: Timestamp) -> f64 {
        self.pulse(kind, now).speed
    }

    fn pulse(&mut self, kind: WorkKind, now: Timestamp) -> Pulse {
        let is_fresh = |pulse: &&Pulse| pulse.second == now.seconds() && pulse.epoch == self.epoch;
        if let Some(pulse) = self.pulses.get(&kind).filter(is_fresh) {
            return *pulse;
        }
        let of_kind = |worker: &&Worker| worker.record.kind == kind;
        let threads = |worker: &Worker| worker.offer.as_ref().map_or(0, Offer::threads);
        let online = self.online(now).filter(of_kind);
        let pulse = Pulse {
            second: now.seconds(),
            epoch: self.epoch,
            threads: online.map(|worker| u64::from(threads(worker))).sum(),
            speed: mean(
                self.all()
                    .filter(of_kind)
                    .flat_map(|worker| &worker.record.speeds),
            ),
        };
        self.pulses.insert(kind, pulse);
        pulse
    }
}

impl Worker {
    /// Adds the time since the last check-in, and rewards it when enough has come together.
    ///
    /// # Source
    /// `generation.md` § 6.4, § 7.9.
    fn grow_uptime(&mut self, reference: &ModelReference, now: Timestamp) -> Option<UptimeReward> {
        let elapsed = now.since(self.record.checked_in);
        if elapsed > WORKER_LIFETIME || !self.is_working() {
            self.record.uptime_counted = self.record.uptime;
            return None;
        }
        self.record.uptime = Millis(self.record.uptime.0.saturating_add(elapsed.0.max(0)));
        let uncounted = self.record.uptime.0 - self.record.uptime_counted.0;
        if uncounted <= Millis::from_seconds(UPTIME_REWARD_SECONDS).0 {
            return None;
        }
        self.record.uptime_counted = self.record.uptime;
        let offer = self.offer.as_ref()?;
        let amount = kinds::uptime_reward(offer, reference);
        let share = Share::of_uptime(self.record.kind, offer.owner.user, offer.owner.roles);
        self.record.kudos_uptime += amount;
        let marker = u128::try_from(self.record.uptime.0).unwrap_or(0);
        Some(UptimeReward {
            worker: self.record.id,
            amount,
            event: Event {
                id: Uuid::from_u128(self.record.id.uuid().as_u128() ^ marker),
                at: now,
                kind: Some(self.record.kind),
                entries: pricing::credit(offer.owner.user, amount, share, Reason::Uptime),
            },
        })
    }
}

/// A job that a worker delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) things: u64,
    /// Raw units a second.
    pub(super) speed: f64,
    /// What the worker is shown to have earned.
    pub(super) kudos: Kudos,
}

fn mean<'a>(samples: impl IntoIterator<Item = &'a f64>) -> f64 {
    let (sum, count) = samples
        .into_iter()
        .fold((0.0, 0.0), |(sum, count), sample| {
            (sum + sample, count + 1.0)
        });
    if count > 0.0 { sum / count } else { 0.0 }
}
