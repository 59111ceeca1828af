//! Pop: the first waiting request that a worker can serve, or the reasons why there is none.
//!
//! A pop first looks at the head of the queue request by request, because that is where most
//! matches are. Only if nothing there fits, it looks at all groups of equal demand.
//!
//! # Source
//! `generation.md` § 6.6 (selection), § 6.7 (checks), § 6.10 (batch and time), § 6.11 (decoys).

use std::collections::BTreeMap;

use ordu_api::worker::{Skipped, WorkKind};
use ordu_api::{JobId, RequestId, ReturnCode, WorkerId};
use rand::Rng;
use uuid::Uuid;

use super::demand::Demand;
use super::needs::{Needs, Reason, Reasons, Switch, Tally};
use super::offer::{Capacity, Offer, Pace};
use super::queue::{Group, Queue};
use super::rank::Place;
use super::workers::Worker;
use super::{
    Assignment, Blame, EXTRA_SLOW_LIFETIME, Entry, Happening, Horde, Job, JobState,
    REQUEST_LIFETIME, Request, Turn, Work, kinds,
};
use crate::agent::Agent;
use crate::{Millis, Refusal, Role, Timestamp};

/// So many requests at the head of the queue are looked at one by one. Fewer in tests, so that
/// their small worlds reach the groups.
const HEAD: usize = if cfg!(test) { 2 } else { 64 };

/// So many if what fits is at home at other nodes: what is at home here stands among it.
const WIDE_HEAD: usize = 4 * HEAD;

/// So many prompts a pop compares with a worker's refused words before it gives up.
const MAX_PROMPTS: usize = 2000;

/// Why a pop found nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idle {
    /// How many waiting requests were passed over, by reason.
    Skipped(Skipped),
    /// The worker is in maintenance and its owner wants nothing: refused with the reason.
    Maintenance(Refusal),
}

/// How a request was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Its requester comes first for this worker.
    Priority,
    /// It was its turn.
    General,
}

/// A request that a worker can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    place: Place,
    request: RequestId,
}

impl Horde {
    /// Gives the first request that the worker can serve to it, as far as one batch reaches; to an
    /// alchemist, forms of as many requests as it takes. Answers at least one assignment.
    /// The worker must have [checked in](Self::check_in) for this very pop.
    ///
    /// # Errors
    /// [`Idle`] if there is nothing for it.
    pub fn pop(
        &mut self,
        worker: WorkerId,
        dice: &mut impl Rng,
        now: Timestamp,
    ) -> Result<Vec<Assignment>, Idle> {
        let Some(mut room) = self.room_for_forms(worker) else {
            return Ok(vec![self.pop_one(worker, u32::MAX, dice, now)?]);
        };
        let mut assignments = Vec::new();
        while room > 0 {
            match self.pop_one(worker, room, dice, now) {
                Ok(assignment) => {
                    let taken = u32::try_from(assignment.jobs.len()).unwrap_or(u32::MAX);
                    room = room.saturating_sub(taken);
                    assignments.push(assignment);
                }
                Err(idle) if assignments.is_empty() => return Err(idle),
                Err(_) => break,
            }
        }
        Ok(assignments)
    }

    /// How many forms an alchemist takes at once, at least one; `None` for other workers.
    fn room_for_forms(&self, worker: WorkerId) -> Option<u32> {
        let worker = self.workers.get(worker)?;
        let amount = worker.capacity.as_ref()?.amount.max(1);
        (worker.record.kind == WorkKind::Interrogation).then_some(amount)
    }

    /// The first request that the worker can serve, at most `room` results of it.
    fn pop_one(
        &mut self,
        worker: WorkerId,
        room: u32,
        dice: &mut impl Rng,
        now: Timestamp,
    ) -> Result<Assignment, Idle> {
        let Some((record, capacity)) = self.workers.get(worker).and_then(|found| {
            let capacity = found.capacity.as_ref()?;
            Some((found, capacity))
        }) else {
            return Err(Idle::Skipped(Tally::default().skipped(WorkKind::Image)));
        };
        let kind = record.record.kind;
        let matcher = self.matcher(record, capacity, now);
        let mut tally = Tally::default();
        if let Some(found) = matcher.search(&mut tally) {
            let models = matcher.models_for(found.request);
            let choice = Choice {
                worker,
                request: found.request,
                model: pick(&models, dice).cloned().unwrap_or_default(),
                room,
            };
            return self
                .assign(&choice, dice, now)
                .ok_or_else(|| Idle::Skipped(tally.skipped(kind)));
        }
        match &record.record.maintenance {
            Some(reason) => Err(Idle::Maintenance(maintenance(reason))),
            None => Err(Idle::Skipped(tally.skipped(kind))),
        }
    }

    /// Puts a new request into the queue with all of it in the hands of one worker, so that nobody else
    /// is given any of it. `find` names a worker that waits and [would serve all](Self::would_serve_all)
    /// of it. `None`, and no request, if there is none, or if the worker would find another one first.
    ///
    /// Until it is stored, nobody is told of it but who looks at everything;
    /// [`forget_request`](Self::forget_request) undoes it.
    pub fn enqueue_assigned(
        &mut self,
        request: Request,
        find: impl FnOnce(&Self) -> Option<WorkerId>,
        dice: &mut impl Rng,
        now: Timestamp,
    ) -> Option<Assignment> {
        let (id, kind, results) = (request.id, request.work.kind(), request.work.asked());
        if self.requests.contains_key(&id) {
            return None;
        }
        self.place(request, now);
        let found = find(self).and_then(|worker| self.choice_of_all(worker, id, dice, now));
        let assignment = found.and_then(|choice| self.assign(&choice, dice, now));
        self.changes.opened.remove(&id);
        if assignment.is_none() {
            self.displace(id);
            self.changes.touched.remove(&id);
        } else {
            self.changes.tell(Happening::Accepted { kind, results });
        }
        assignment
    }

    /// Whether a worker that checked in could take all of this request at once, if nothing else waited.
    pub fn would_serve_all(&self, worker: WorkerId, request: RequestId) -> bool {
        let (found, entry) = (self.workers.get(worker), self.requests.get(&request));
        let (Some(found), Some(entry)) = (found, entry) else {
            return false;
        };
        // Of forms, a worker may know some and not others.
        let is_alike = found.record.kind != WorkKind::Interrogation;
        let has_room = found.capacity.as_ref().is_some_and(|capacity| {
            kinds::batch(&entry.request.work, capacity, &self.reference) >= entry.open.count()
        });
        is_alike && has_room && found.is_paying(entry) && self.would_serve(worker, request)
    }

    /// With which model a worker serves all of a request, if that is what it would find.
    fn choice_of_all(
        &self,
        worker: WorkerId,
        request: RequestId,
        dice: &mut impl Rng,
        now: Timestamp,
    ) -> Option<Choice> {
        if !self.would_serve_all(worker, request) {
            return None;
        }
        let found = self.workers.get(worker)?;
        let capacity = found.capacity.as_ref()?;
        let matcher = self.matcher(found, capacity, now);
        // It finds nothing if another node has a head start with this one.
        let first = matcher.search(&mut Tally::default());
        if first.is_some_and(|first| first.request != request) {
            return None;
        }
        let models = matcher.models_for(request);
        Some(Choice {
            worker,
            request,
            model: pick(&models, dice).cloned().unwrap_or_default(),
            room: u32::MAX,
        })
    }

    /// Compares a worker with what waits.
    pub(super) fn matcher<'a>(
        &'a self,
        worker: &'a Worker,
        capacity: &'a Capacity,
        now: Timestamp,
    ) -> Matcher<'a> {
        Matcher {
            queue: self.queues.of(worker.record.kind),
            requests: &self.requests,
            worker,
            capacity,
            near: self.near(),
            behind: self.behind,
            now,
        }
    }

    /// Does not give a request to a worker any more, as long as the request lives.
    pub fn withhold(&mut self, worker: WorkerId, request: RequestId) {
        let is_known = self.requests.contains_key(&request);
        if let Some(worker) = self.workers.get_mut(worker).filter(|_| is_known) {
            worker.withheld.insert(request);
        }
    }

    /// Undoes an assignment that could not be stored: its slots are open again, nobody is blamed.
    pub fn release(&mut self, jobs: &[JobId]) {
        for id in jobs {
            let is_running = self
                .jobs
                .get(id)
                .is_some_and(|job| job.state == JobState::Running);
            if !is_running || self.pending.contains_key(id) {
                continue;
            }
            self.tell(*id, Turn::Returned);
            let Some(job) = self.jobs.remove(id) else {
                continue;
            };
            self.deadlines.remove(&(job.deadline, *id));
            if job.decoy {
                if let Some(worker) = self.workers.get_mut(job.worker) {
                    worker.withheld.remove(&job.request);
                }
                continue;
            }
            if let Some(entry) = self.requests.get_mut(&job.request) {
                entry.jobs.retain(|other| other != id);
                entry.running = entry.running.saturating_sub(1);
                entry.reopen(job.slot);
                self.changes.opened.insert(job.request);
            }
            self.requeue(job.request);
        }
    }

    /// Makes the jobs of a batch.
    fn assign(
        &mut self,
        choice: &Choice,
        dice: &mut impl Rng,
        now: Timestamp,
    ) -> Option<Assignment> {
        let entry = self.requests.get(&choice.request)?;
        let worker = self.workers.get(choice.worker)?;
        let capacity = worker.capacity.as_ref()?;
        let work = entry.request.work.clone();
        let batch = kinds::batch(&work, capacity, &self.reference).min(choice.room);
        let ttl = kinds::ttl(&work, capacity.pace, &self.reference);
        let seed = kinds::seeds(&work).next(choice.request, entry.open.count(), dice);
        let decoy = !worker.is_paying(entry);
        let agent = worker.offer.as_ref().map(|offer| &offer.agent);
        let template = Job {
            id: JobId::from_uuid(Uuid::nil()),
            request: choice.request,
            slot: None,
            worker: choice.worker,
            worker_name: worker.record.name.clone(),
            owner: worker.record.owner,
            kudos: None,
            reward_percent: agent.map_or(100, |agent| work.reward_percent(agent)),
            validated: agent.is_some_and(Agent::is_validated_backend),
            things: work.things(),
            assigned: now,
            deadline: now + Millis::from_seconds(i64::try_from(ttl).unwrap_or(i64::MAX)),
            model: String::new(),
            decoy,
            state: JobState::Running,
            blame: Blame::Worker,
        };
        let lifetime = capacity.pace.lifetime();
        let to_job = |part: Part| Job {
            id: job_id(dice),
            kudos: work.job_kudos(&part.model, &self.reference),
            model: part.model,
            slot: part.slot,
            ..template.clone()
        };
        let parts = parts(entry, worker, batch, &choice.model);
        let jobs: Vec<Job> = parts.into_iter().map(to_job).collect();
        let model = jobs.first()?.model.clone();
        self.begin(&jobs, now + lifetime);
        let expires = self.requests.get(&choice.request)?.expires;
        Some(Assignment {
            request: choice.request,
            jobs,
            work,
            model,
            seed,
            ttl,
            decoy,
            expires,
        })
    }

    /// Lets jobs of one request run; it lives until `expires` at least. Decoys take no slots.
    fn begin(&mut self, jobs: &[Job], expires: Timestamp) {
        for job in jobs {
            self.deadlines.insert((job.deadline, job.id));
            self.jobs.insert(job.id, job.clone());
            self.tell(job.id, Turn::Begun);
            if job.decoy {
                if let Some(worker) = self.workers.get_mut(job.worker) {
                    worker.withheld.insert(job.request);
                }
            } else if let Some(entry) = self.requests.get_mut(&job.request) {
                entry.open.take(job.slot);
                entry.running += 1;
                entry.jobs.push(job.id);
            }
        }
        if let Some(job) = jobs.first().filter(|job| !job.decoy) {
            self.refresh(job.request, expires);
            self.requeue(job.request);
        }
    }
}

/// Which model of which worker serves which request.
struct Choice {
    worker: WorkerId,
    request: RequestId,
    model: String,
    /// How many results of it at most.
    room: u32,
}

/// One of the jobs that an assignment is made of.
struct Part {
    model: String,
    slot: Option<u32>,
}

/// What a worker gets of a request, at most `batch` parts: results that are alike, or those of the
/// open forms that it knows.
fn parts(entry: &Entry, worker: &Worker, batch: u32, model: &str) -> Vec<Part> {
    let Work::Alchemy(spec) = &entry.request.work else {
        let alike = |_| Part {
            model: model.to_owned(),
            slot: None,
        };
        return (0..batch.min(entry.open.count())).map(alike).collect();
    };
    let offered = worker.offer.as_ref().map_or(&[][..], Offer::models);
    let open = spec.slots().filter(|slot| entry.open.has(*slot));
    let forms = open.filter_map(|slot| Some((slot, spec.form(slot)?)));
    let known = forms.filter(|(_, form)| offered.contains(&form.name));
    let parts = known.map(|(slot, form)| Part {
        model: form.name.clone(),
        slot: Some(slot),
    });
    parts.take(batch as usize).collect()
}

impl Pace {
    /// How long a request lives from a pop on.
    const fn lifetime(self) -> Millis {
        match self {
            Self::Usual => REQUEST_LIFETIME,
            Self::ExtraSlow => EXTRA_SLOW_LIFETIME,
        }
    }
}

impl Worker {
    /// Whether serving this request is real: paused workers are only kept busy, except by their
    /// owner.
    fn is_paying(&self, entry: &Entry) -> bool {
        !self.record.paused || entry.request.requester.user == self.record.owner
    }
}

/// Compares one worker with what waits.
pub(super) struct Matcher<'a> {
    pub(super) queue: &'a Queue,
    pub(super) requests: &'a BTreeMap<RequestId, Box<Entry>>,
    pub(super) worker: &'a Worker,
    pub(super) capacity: &'a Capacity,
    /// Requests that wait so long one after the other are as good as equal.
    pub(super) near: Millis,
    /// Whether nobody knows which requests of other nodes still wait.
    pub(super) behind: bool,
    pub(super) now: Timestamp,
}

impl Matcher<'_> {
    fn search(&self, tally: &mut Tally) -> Option<Found> {
        if let Some(found) = self.prioritised() {
            return Some(found);
        }
        if self.worker.record.maintenance.is_some() {
            return None;
        }
        self.at_head().or_else(|| self.in_groups(tally))
    }

    /// The first request of the worker's owner and of the users that it prefers.
    fn prioritised(&self) -> Option<Found> {
        let mut users = vec![self.worker.record.owner];
        if self.worker.record.maintenance.is_none() {
            let preferred = self.worker.offer.iter();
            users.extend(preferred.flat_map(|offer| &offer.priority_users));
        }
        let first_of = |user| {
            let waiting = self.queue.places_of(user);
            let waiting = waiting.map(|(place, request)| Found { place, request });
            let fitting = waiting.filter(|found| self.serves(found.request, Pass::Priority));
            self.prefer_own(fitting, |_| true)
        };
        users
            .into_iter()
            .filter_map(first_of)
            .min_by_key(|found| found.place)
    }

    /// The first of the requests at the head of the queue that fits.
    fn at_head(&self) -> Option<Found> {
        let waiting = self.queue.in_order().map(|item| Found {
            place: item.place,
            request: item.request,
        });
        self.prefer_own(waiting, |request| self.serves(request, Pass::General))
    }

    /// What to take of those of these that fit.
    fn prefer_own(
        &self,
        waiting: impl Iterator<Item = Found>,
        fits: impl Fn(RequestId) -> bool,
    ) -> Option<Found> {
        let mut preference = Preference::new(self.near);
        for (number, found) in waiting.take(WIDE_HEAD).enumerate() {
            if number >= HEAD && preference.best.is_none() {
                break;
            }
            if fits(found.request) && preference.is_clear(found, self.turn(found.request)) {
                break;
            }
        }
        preference.best()
    }

    fn turn(&self, request: RequestId) -> u8 {
        let entry = self.requests.get(&request);
        entry.map_or(0, |entry| entry.turn)
    }

    fn is_kept_back(&self, request: RequestId) -> bool {
        let entry = self.requests.get(&request);
        entry.is_some_and(|entry| self.keeps_back(entry))
    }

    fn keeps_back(&self, entry: &Entry) -> bool {
        entry.is_kept_back(self.now) || (self.behind && entry.is_foreign())
    }

    /// What to take of a group of which every request fits.
    fn first_of(&self, group: &Group) -> Option<Found> {
        let waiting = group.members();
        let waiting = waiting.map(|(place, request)| Found { place, request });
        self.prefer_own(waiting, |request| !self.is_kept_back(request))
    }

    /// The first request of all groups that fits; counts why the others do not.
    fn in_groups(&self, tally: &mut Tally) -> Option<Found> {
        let looks_closer = self.capacity.is_picky() || !self.worker.withheld.is_empty();
        let mut best: Option<Found> = None;
        let mut prompts = MAX_PROMPTS;
        for group in self.queue.groups() {
            let reasons = self.demand_reasons(group.demand, self.capacity.held);
            if !reasons.is_empty() {
                tally.add(
                    self.kind(),
                    reasons,
                    group.len() * self.weight(group.demand),
                );
            } else if looks_closer {
                best = self.in_group(group, best, tally, &mut prompts);
            } else {
                best = earlier(best, self.first_of(group));
            }
        }
        best
    }

    /// Looks at the requests of one group one by one, as long as they could come before `best`.
    fn in_group(
        &self,
        group: &Group,
        best: Option<Found>,
        tally: &mut Tally,
        prompts: &mut usize,
    ) -> Option<Found> {
        let mut preference = Preference::new(self.near);
        for (place, request) in group.members() {
            if best.is_some_and(|best| best.place < place) || *prompts == 0 {
                break;
            }
            let Some(entry) = self.requests.get(&request) else {
                continue;
            };
            if !self.capacity.image.blacklist.is_empty() {
                *prompts -= 1;
            }
            let reasons = self.request_reasons(entry, Pass::General);
            if self.keeps_back(entry) {
                continue;
            }
            if !reasons.is_empty() || self.worker.withheld.contains(&request) {
                tally.add(self.kind(), reasons, self.weight(entry.demand));
            } else if preference.is_clear(Found { place, request }, entry.turn) {
                break;
            }
        }
        earlier(best, preference.best())
    }

    /// Whether the worker can serve a request.
    fn serves(&self, request: RequestId, pass: Pass) -> bool {
        self.requests
            .get(&request)
            .is_some_and(|entry| !self.keeps_back(entry) && self.serves_entry(entry, pass))
    }

    pub(super) fn serves_entry(&self, entry: &Entry, pass: Pass) -> bool {
        self.demand_reasons(entry.demand, self.capacity.held)
            .is_empty()
            && self.request_reasons(entry, pass).is_empty()
            && !self.worker.withheld.contains(&entry.request.id)
    }

    /// Whether the worker could serve a request if it popped now, for the verdict on requests.
    pub(super) fn could_serve(&self, entry: &Entry) -> bool {
        self.worker.may_serve(entry.request.requester.user)
            && self.obstacles(entry).is_empty()
            && !self.refuses_words(entry)
    }

    /// Why the worker could not serve a request if it popped now, as far as the worker as a whole
    /// may and the words of the prompt do not matter.
    pub(super) fn obstacles(&self, entry: &Entry) -> Reasons {
        let mut held = self.capacity.held;
        if self.capacity.hopeful.is(self.worker.record.speed()) {
            held.switch(Switch::Fast);
        }
        let mut reasons = self.demand_reasons(entry.demand, held);
        reasons.add_all(self.other_reasons(entry, Pass::General));
        reasons
    }

    const fn kind(&self) -> WorkKind {
        self.worker.record.kind
    }

    /// For how much a request with this demand counts when it is passed over: each form that the
    /// worker knows counts.
    fn weight(&self, demand: Demand) -> u64 {
        match (self.kind(), demand.models) {
            (WorkKind::Interrogation, Some(set)) => {
                self.capacity.offers_of(self.queue.model_set(set))
            }
            _ => 1,
        }
    }

    /// Why a worker that holds so much cannot serve any request with this demand; empty if it can.
    fn demand_reasons(&self, demand: Demand, held: Needs) -> Reasons {
        let missing = demand.needs.missing_from(held);
        let set = demand.models.map(|set| self.queue.model_set(set));
        let mut reasons = self.capacity.model_reasons(set, demand.needs);
        if !missing.is_empty() {
            reasons.add_all(missing.reasons());
        }
        if demand.size.extent > self.capacity.max_size.extent {
            reasons.add(kinds::too_large(self.kind()));
        }
        if demand.size.length > self.capacity.max_size.length {
            reasons.add(Reason::MaxLength);
        }
        let lacks = |softprompt| !self.capacity.has_softprompt(softprompt);
        if demand.softprompt.is_some_and(lacks) {
            reasons.add(Reason::MatchingSoftprompt);
        }
        let list = demand.list.and_then(|list| self.queue.worker_list(list));
        if list.is_some_and(|list| !list.allows(self.worker.record.id)) {
            reasons.add(Reason::WorkerId);
        }
        reasons
    }

    /// Why the worker cannot serve this one of the requests with its demand; empty if it can.
    fn request_reasons(&self, entry: &Entry, pass: Pass) -> Reasons {
        if !self.capacity.is_picky() {
            return Reasons::default();
        }
        let mut reasons = self.other_reasons(entry, pass);
        if self.refuses_words(entry) {
            reasons.add(Reason::Blacklist);
        }
        reasons
    }

    /// Whether the worker refuses a word of the prompt.
    fn refuses_words(&self, entry: &Entry) -> bool {
        let refused = &self.capacity.image.blacklist;
        !refused.is_empty() && has_word(&entry.request.work.prompt().to_lowercase(), refused)
    }

    /// What the worker is particular about besides words.
    fn other_reasons(&self, entry: &Entry, pass: Pass) -> Reasons {
        let mut reasons = Reasons::default();
        if self.capacity.image.limit_steps && self.usable(entry).next().is_none() {
            reasons.add(Reason::StepCount);
        }
        if self.capacity.require_upfront && pass == Pass::General && !can_pay(entry) {
            reasons.add(Reason::Kudos);
        }
        reasons
    }

    /// The names of the models that the worker may use for a request.
    fn models_for(&self, request: RequestId) -> Vec<String> {
        let Some(entry) = self.requests.get(&request) else {
            return Vec::new();
        };
        self.usable(entry).cloned().collect()
    }

    fn usable(&self, entry: &Entry) -> impl Iterator<Item = &String> {
        let demand = entry.demand;
        let set = demand.models.map(|set| self.queue.model_set(set));
        self.capacity
            .usable(set, demand.needs, entry.request.work.steps())
            .map(|model| &model.name)
    }
}

/// Which of several that fit to take: the first; or, if it is at home at another node, one that is
/// as good as equal to it and at home here; or else the one that its home, which begins in front,
/// comes to last, and that is left to as few nodes as can be.
#[derive(Debug)]
struct Preference {
    near: Millis,
    first: Option<Place>,
    best: Option<(u8, Found)>,
}

impl Preference {
    const fn new(near: Millis) -> Self {
        Self {
            near,
            first: None,
            best: None,
        }
    }

    /// Looks at the next one in the order of the queue; says whether nothing after it can be better.
    fn is_clear(&mut self, found: Found, turn: u8) -> bool {
        let first = *self.first.get_or_insert(found.place);
        if !found.place.is_near(first, self.near) {
            return true;
        }
        if self.best.is_none_or(|(least, _)| turn <= least) {
            self.best = Some((turn, found));
        }
        turn == 0
    }

    fn best(self) -> Option<Found> {
        self.best.map(|(_, found)| found)
    }
}

/// Whether one of these words is part of a prompt in lower case.
pub(super) fn has_word(prompt: &str, words: &[String]) -> bool {
    words.iter().any(|word| prompt.contains(word))
}

/// Whether a requester could pay the base price upfront, or need not.
fn can_pay(entry: &Entry) -> bool {
    let requester = &entry.request.requester;
    requester.roles.has(Role::Trusted) || requester.available >= entry.base_price
}

fn earlier(best: Option<Found>, other: Option<Found>) -> Option<Found> {
    match (best, other) {
        (Some(best), Some(other)) if other.place < best.place => Some(other),
        (Some(best), _) => Some(best),
        (None, other) => other,
    }
}

/// Refuses the pop of a worker in maintenance. Workers look for the words "maintenance mode".
fn maintenance(reason: &str) -> Refusal {
    let message = if reason.is_empty() {
        "This worker is in maintenance mode, end it to get jobs again"
    } else {
        reason
    };
    Refusal::new(ReturnCode::WorkerMaintenance, message)
}

/// One of several, each as likely as the others.
fn pick<'a, T>(choices: &'a [T], dice: &mut impl Rng) -> Option<&'a T> {
    let count = u64::try_from(choices.len())
        .ok()
        .filter(|count| *count > 0)?;
    // The bias of the remainder is below 2^-55 for the 300 models that a worker may have.
    let index = dice.next_u64() % count;
    choices.get(usize::try_from(index).ok()?)
}

fn job_id(dice: &mut impl Rng) -> JobId {
    let random = u128::from(dice.next_u64()) << 64 | u128::from(dice.next_u64());
    let id = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
    JobId::from_uuid(id)
}
