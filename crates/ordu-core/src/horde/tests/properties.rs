//! Random events, compared with the obvious way to do it: look at every request, in order.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::image::ImagePop;
use ordu_api::text::TextPop;
use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, UserId};
use proptest::prelude::*;

use super::world::{World, request_id, worker_id};
use crate::horde::{
    Blame, Content, Declared, Effect, Entry, Happening, Idle, JobState, Lapse, MAX_FAULTS, Outcome,
    Owner, Renewal, Request, Stage, Turn, Work,
};
use crate::image::ImageSpec;
use crate::ledger::Account;
use crate::text::TextSpec;
use crate::{Kudos, Role, Roles};

/// One random event; the numbers choose among what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(usize, usize),
    /// For a worker that waits; stored or not.
    AskStraight((usize, usize), usize, bool),
    Pop(usize),
    Release(usize),
    Submit(usize, Hand),
    Confirm(usize),
    Unsettle(usize),
    Cancel(usize),
    Wait(i64),
    Maintenance(usize),
    Work(usize),
}

#[derive(Debug, Clone, Copy)]
enum Hand {
    Result,
    Censored,
    Fault,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = 0..1000_usize;
    let hand = prop_oneof![
        4 => Just(Hand::Result),
        1 => Just(Hand::Censored),
        2 => Just(Hand::Fault)
    ];
    let step = prop_oneof![
        6 => (any.clone(), any.clone()).prop_map(|(a, b)| Step::Ask(a, b)),
        3 => ((any.clone(), any.clone()), any.clone(), proptest::bool::ANY)
            .prop_map(|(ask, to, stored)| Step::AskStraight(ask, to, stored)),
        8 => any.clone().prop_map(Step::Pop),
        1 => any.clone().prop_map(Step::Release),
        5 => (any.clone(), hand).prop_map(|(a, hand)| Step::Submit(a, hand)),
        5 => any.clone().prop_map(Step::Confirm),
        1 => any.clone().prop_map(Step::Unsettle),
        1 => any.clone().prop_map(Step::Cancel),
        2 => (0..400_i64).prop_map(Step::Wait),
        1 => any.clone().prop_map(Step::Maintenance),
        1 => any.prop_map(Step::Work),
    ];
    proptest::collection::vec(step, 1..160)
}

const WORKERS: &[&str] = &[
    "worker w1 models=sd,sdxl amount=2",
    "worker w2 models=sdxl nsfw=false owner=2",
    "worker w3 models=sd limit_steps first=user#3",
    "worker w4 models=sd,flux max_pixels=300000 lora=false blacklist=dog owner=3 amount=4",
    "worker w5 text models=13b,7b amount=2",
    "worker w6 text models=7b owner=2 length=100 agent=Nobody first=user#3",
    "worker w7 text models= owner=3 context=1024 softprompts=s,t amount=3",
    "worker w8 alchemy forms=caption,nsfw,GFPGAN amount=3",
    "worker w9 alchemy forms=caption,palette owner=2 tiles=4 first=user#3 amount=2",
];

const REQUESTS: &[&str] = &[
    "models=sd",
    "models=sdxl,sd n=3",
    "models= nsfw=false",
    "models=sd steps=40 n=2",
    "models=sd loras=a",
    "models=sdxl size=1024x1024 nsfw=false trusted_workers",
    "models=sd size=1024x576 n=2",
    "models=flux steps=4 prompt=hotdog",
    "models=sd prompt=dog workers=w1,w3",
    "models=sd workers=w1 worker_blacklist n=4",
    "text",
    "text models= n=3 context=1000",
    "text models=7b,70b n=2 length=200 trusted_workers",
    "text models=7b validated_backends",
    "text models= softprompt=t",
    "alchemy forms=caption",
    "alchemy forms=caption,nsfw,palette",
    "alchemy forms=GFPGAN,caption tiles=6 trusted_workers",
    "alchemy forms=palette slow_workers=false",
    "text models=13b,7b workers=w5,w7 worker_blacklist n=4 disable_batching",
];

/// A world and what must be true of it.
struct Checked {
    world: World,
    /// Requests in the order in which they came.
    asked: Vec<RequestId>,
    settling: BTreeSet<JobId>,
    /// Jobs that ended, and how often.
    ended: BTreeMap<JobId, u32>,
    charged: BTreeMap<RequestId, Kudos>,
    /// How each request looked after the last step: open slots, and the states of its jobs.
    looks: BTreeMap<RequestId, (u32, Vec<JobState>)>,
    /// Jobs that were told to have begun, less those that were told to have ended.
    told_running: usize,
}

impl Checked {
    fn new() -> Self {
        let mut world = World::new();
        world.run("user 3 kudos=40");
        for worker in WORKERS {
            world.run(worker);
        }
        Self {
            world,
            asked: Vec::new(),
            settling: BTreeSet::new(),
            ended: BTreeMap::new(),
            charged: BTreeMap::new(),
            looks: BTreeMap::new(),
            told_running: 0,
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Ask(user, what) => self.ask(user, what),
            Step::AskStraight(ask, worker, stored) => {
                self.ask_straight(ask, WORKERS[worker % WORKERS.len()], stored);
            }
            Step::Pop(worker) => self.pop(WORKERS[worker % WORKERS.len()]),
            Step::Submit(job, hand) => self.submit(job, hand),
            Step::Confirm(job) => self.confirm(job),
            Step::Wait(seconds) => self.wait(seconds),
            Step::Release(job) => {
                if let Some(id) = self.some_job(job) {
                    self.world.horde.release(&[id]);
                }
            }
            Step::Unsettle(job) => {
                if let Some(id) = self.some_job(job) {
                    self.world.horde.unsettle(id);
                    self.settling.remove(&id);
                }
            }
            Step::Cancel(request) => {
                if let Some(id) = pick(&self.asked, request) {
                    self.world.horde.cancel(id);
                }
            }
            Step::Maintenance(worker) => {
                let line = format!("maintenance w{}", worker % WORKERS.len() + 1);
                self.world.run(&line);
            }
            Step::Work(worker) => {
                let line = format!("work w{}", worker % WORKERS.len() + 1);
                self.world.run(&line);
            }
        }
        self.assert_invariants();
        self.assert_told();
    }

    /// Whoever watches from outside is told of every request that looks different now, and whoever
    /// waits for work of every one with more slots open.
    fn assert_told(&mut self) {
        let horde = &mut self.world.horde;
        let changes = horde.take_changes();
        for id in &self.asked {
            let states = horde.jobs(*id).map(|job| job.state.clone()).collect();
            let look = (horde.open_slots_of(*id), states);
            let before = self.looks.insert(*id, look.clone());
            if before.as_ref() != Some(&look) {
                assert!(changes.touched.contains(id), "{before:?} {look:?}");
            }
            if before.map_or(0, |(open, _)| open) < look.0 {
                assert!(changes.opened.contains(id), "{look:?}");
            }
        }
        for happening in changes.happenings {
            match happening {
                Happening::Job {
                    turn: Turn::Begun, ..
                } => self.told_running += 1,
                Happening::Job { .. } => self.told_running -= 1,
                Happening::Accepted { .. } => {}
            }
        }
        let running = horde.jobs.values();
        let running = running.filter(|job| job.state == JobState::Running);
        assert_eq!(running.count(), self.told_running, "every light goes out");
    }

    fn some_job(&self, number: usize) -> Option<JobId> {
        pick(&self.world.jobs, number)
    }

    fn ask(&mut self, user: usize, what: usize) {
        let name = format!("r{}", self.asked.len() + 1);
        let what = REQUESTS[what % REQUESTS.len()];
        self.world
            .run(&format!("request {name} user={} {what}", user % 3 + 1));
        self.note_asked(&name, what);
    }

    /// A worker that waits is given all of a request that it would find first, or nothing is left of it.
    fn ask_straight(&mut self, (user, what): (usize, usize), line: &str, stored: bool) {
        let worker = line.split_whitespace().nth(1).unwrap();
        // It checks in.
        self.obvious_match(worker);
        let name = format!("r{}", self.asked.len() + 1);
        let what = REQUESTS[what % REQUESTS.len()];
        let before = self.world.horde.to_string();
        let ask = format!("{name} user={} {what}", user % 3 + 1);
        let jobs = self.world.jobs.len();
        let answer = self.world.run(&format!("straight {ask} to={worker}"));
        let found = &self.world.jobs[jobs..];
        let id = request_id(&name);
        let is_given = !found.is_empty();
        if is_given {
            let entry = &self.world.horde.requests[&id];
            assert_eq!(entry.open.count(), 0);
            assert_eq!(
                (entry.asked, entry.jobs.len()),
                (entry.running, found.len())
            );
            assert!(!self.world.horde.changes.opened.contains(&id));
            if stored {
                return self.note_asked(&name, what);
            }
            self.world.jobs.truncate(jobs);
            self.world.horde.forget_request(id);
        } else {
            assert_eq!(answer.unwrap(), format!("{name}: nobody"));
        }
        assert_eq!(self.world.horde.to_string(), before);
        self.world.run(&format!("request {ask}"));
        self.note_asked(&name, what);
        let is_first = self.obvious_match(worker) == Some(id);
        let horde = &self.world.horde;
        let all = is_first && horde.would_serve_all(worker_id(worker), id);
        assert_eq!(is_given, all, "{ask}");
        if is_first && !all {
            let many = horde.requests[&id].open.count() > 1;
            assert!(many || what.starts_with("alchemy"), "{ask}");
        }
    }

    fn note_asked(&mut self, name: &str, what: &str) {
        let id = request_id(name);
        let tax = match what.split(' ').next() {
            Some("text") => 1,
            Some("alchemy") => 0,
            _ => 3,
        };
        self.charged.insert(id, Kudos::new(tax));
        self.asked.push(id);
    }

    /// A pop finds exactly what looking at every request in order finds.
    fn pop(&mut self, line: &str) {
        let name = line.split_whitespace().nth(1).unwrap();
        let expected = self.obvious_match(name);
        let horde = &self.world.horde;
        let is_for_it = |id: &RequestId| horde.would_serve(worker_id(name), *id);
        assert_eq!(expected.is_some(), self.asked.iter().any(is_for_it));
        match self.world.try_pop(name) {
            Ok(assignments) => {
                assert_eq!(assignments.first().map(|first| first.request), expected);
                for assignment in assignments {
                    assert!(!assignment.jobs.is_empty());
                    self.world.jobs.extend(assignment.ids());
                }
            }
            Err(Idle::Skipped(_) | Idle::Maintenance(_)) => assert_eq!(None, expected),
        }
    }

    fn obvious_match(&mut self, name: &str) -> Option<RequestId> {
        let offer = self.world.offer(name);
        self.world.horde.check_in(offer.clone(), self.world.now);
        let horde = &self.world.horde;
        let resting = horde.worker(worker_id(name))?.record.maintenance.is_some();
        let comes_first = |user: UserId| {
            user == offer.owner.user || !resting && offer.priority_users.contains(&user)
        };
        let fits = |entry: &&&Entry| {
            let terms = entry.request.work.terms();
            let names_worker = terms.workers.contains(&worker_id(name));
            !entry.open.is_empty()
                && (terms.workers.is_empty() || names_worker != terms.worker_blacklist)
                && (!terms.trusted_workers || offer.owner.roles.has(Role::Trusted))
                && match (&entry.request.work, &offer.declared) {
                    (Work::Image(spec), Declared::Image(pop)) => fits_image(spec, pop),
                    (Work::Text(spec), Declared::Text(pop)) => fits_text(spec, pop),
                    (Work::Alchemy(spec), Declared::Alchemy(pop)) => {
                        let is_open = |slot: &u32| entry.open.has(*slot);
                        let mut open = spec.slots().filter(is_open);
                        let fast = horde.worker(worker_id(name)).unwrap().record.speed() < 10.0;
                        spec.tiles <= pop.max_tiles
                            && (spec.slow_workers || fast)
                            && open.any(|slot| pop.forms.contains(&spec.form(slot).unwrap().name))
                    }
                    _ => false,
                }
        };
        let waiting = self.in_order();
        let fitting: Vec<&&Entry> = waiting.iter().filter(fits).collect();
        let user = |entry: &&&&Entry| comes_first(entry.request.requester.user);
        let first = fitting.iter().find(user);
        let found = if resting {
            first
        } else {
            first.or(fitting.first())
        };
        found.map(|entry| entry.request.id)
    }

    /// Everything that waits, sorted the obvious way.
    fn in_order(&self) -> Vec<&Entry> {
        let now = self.world.now;
        let horde = &self.world.horde;
        let mut waiting: Vec<&Entry> = self
            .asked
            .iter()
            .filter_map(|id| horde.requests.get(id).map(|entry| &**entry))
            .filter(|entry| !entry.open.is_empty())
            .collect();
        // Fifty kudos for each ten seconds of age.
        let urgency =
            |request: &Request| request.priority.milli() + now.since(request.created).0 * 5;
        waiting.sort_by_key(|entry| (-urgency(&entry.request), entry.request.created));
        waiting
    }

    fn submit(&mut self, job: usize, hand: Hand) {
        let Some(id) = self.some_job(job) else {
            return;
        };
        let Some(job) = self.world.horde.job(id).cloned() else {
            return;
        };
        let by = Owner {
            user: job.owner,
            roles: Roles::NONE,
        };
        let outcome = match hand {
            Hand::Fault => Outcome::Faulted(match job.id.uuid().as_u128() % 3 {
                0 => Blame::Worker,
                1 => Blame::Request,
                _ => Blame::Nobody,
            }),
            Hand::Result | Hand::Censored => Outcome::Delivered {
                content: match (job.kudos, job.slot) {
                    (None, _) => Content::Text("word ".repeat(50)),
                    (_, None) => Content::Uploaded,
                    (_, Some(_)) => Content::Form(serde_json::Map::new()),
                },
                seed: 1,
                censored: matches!(hand, Hand::Censored),
                metadata: Vec::new(),
            },
        };
        let was_settling = self.settling.contains(&id);
        let settled = self.world.horde.submit(id, by, outcome, self.world.now);
        let Ok(settlement) = settled else {
            return;
        };
        assert!(!was_settling, "two submits of one job won");
        match settlement.effect {
            Effect::Nothing => assert_eq!(job.state, JobState::Faulted),
            Effect::Faulted(_) => {
                self.settling.insert(id);
            }
            Effect::Delivered(delivery) => {
                self.settling.insert(id);
                assert_eq!(delivery.event.id, id.uuid());
                let burnt: Kudos = amounts(&delivery.event.entries, |entry| {
                    entry.to == Account::Mint && entry.from != Account::Mint
                });
                let made: Kudos = amounts(&delivery.event.entries, |entry| {
                    entry.from == Account::Mint && entry.to != Account::Mint
                });
                assert_eq!(burnt, delivery.charged);
                assert_eq!(made, delivery.statistics.worker_kudos);
            }
        }
    }

    fn confirm(&mut self, job: usize) {
        let Some(id) = self.some_job(job) else {
            return;
        };
        let charged_before = self.request_of(id).map(|entry| entry.kudos);
        self.world.horde.confirm(id);
        if !self.settling.remove(&id) {
            return;
        }
        *self.ended.entry(id).or_default() += 1;
        let Some(entry) = self.request_of(id) else {
            panic!("a request was forgotten while a result was stored");
        };
        let (request, kudos) = (entry.request.id, entry.kudos);
        let grown = kudos - charged_before.unwrap();
        let charged = self.charged.get_mut(&request).unwrap();
        *charged += grown;
        assert_eq!(*charged, kudos);
    }

    fn request_of(&self, job: JobId) -> Option<&Entry> {
        let job = self.world.horde.job(job)?;
        let entry = self.world.horde.requests.get(&job.request);
        entry.map(|entry| &**entry)
    }

    fn wait(&mut self, seconds: i64) {
        self.world.now = self.world.now + crate::Millis::from_seconds(seconds);
        for lapse in self.world.horde.tick(self.world.now) {
            if let Lapse::JobFaulted { job, .. } = lapse {
                assert!(!self.settling.contains(&job));
                *self.ended.entry(job).or_default() += 1;
            }
        }
    }

    fn assert_invariants(&mut self) {
        assert!(
            self.ended.values().all(|times| *times == 1),
            "a job ended twice"
        );
        let horde = &self.world.horde;
        for entry in horde.requests.values() {
            let open = entry.open.count();
            let taken = open + entry.running + entry.finished;
            assert!(entry.faulted || taken <= entry.asked.max(entry.finished + entry.running));
            let states = entry.jobs.iter().map(|job| &horde.jobs[job].state);
            let running = states.filter(|state| **state == JobState::Running);
            assert_eq!(running.count(), entry.running as usize);
            let jobs = entry.jobs.iter().map(|job| &horde.jobs[job]);
            let faults = jobs.filter(|job| job.state == JobState::Faulted);
            let faults = faults.filter(|job| job.blame != Blame::Nobody);
            assert_eq!(faults.count(), entry.faults as usize);
            let given_up = entry.faults as usize >= MAX_FAULTS;
            assert!(!entry.faulted || given_up && open == 0);
        }
        for kind in WorkKind::ALL {
            self.assert_order(kind);
            for user in 1..=3 {
                self.assert_pending(UserId::new(user).unwrap(), kind);
            }
        }
    }

    fn assert_pending(&self, user: UserId, kind: WorkKind) {
        let requests = self.world.horde.requests.values();
        let of_user = requests.filter(|entry| {
            let request = &entry.request;
            request.requester.user == user && request.work.kind() == kind
        });
        let jobs = of_user.map(|entry| u64::from(entry.open.count() + entry.running));
        let pending = self.world.horde.pending_jobs(user, kind);
        assert_eq!(pending, jobs.sum::<u64>());
    }

    fn assert_order(&mut self, kind: WorkKind) {
        let of_kind = |entry: &&&Entry| entry.request.work.kind() == kind;
        let waiting = self.in_order();
        let waiting = waiting.iter().filter(of_kind);
        let order: Vec<RequestId> = waiting.map(|entry| entry.request.id).collect();
        let queue = self.world.horde.queues.of(kind).in_order();
        let queue: Vec<RequestId> = queue.map(|item| item.request).collect();
        assert_eq!(order, queue);
        let now = self.world.now;
        for (place, id) in order.iter().enumerate() {
            let progress = self.world.horde.progress(*id, now).unwrap();
            assert_eq!(progress.queue_position, place as u64 + 1);
            assert!(!progress.done);
        }
    }
}

fn fits_image(spec: &ImageSpec, pop: &ImagePop) -> bool {
    spec.pixels() <= u64::try_from(pop.max_pixels).unwrap()
        && (!spec.nsfw || pop.nsfw)
        && (spec.loras.is_empty() || pop.allow_lora)
        && pop.blacklist.iter().all(|word| !spec.prompt.contains(word))
        && (!pop.limit_max_steps || spec.steps <= 30)
        && names_model(&spec.models, &pop.models)
}

fn fits_text(spec: &TextSpec, pop: &TextPop) -> bool {
    i64::from(spec.max_length) <= pop.max_length
        && i64::from(spec.max_context_length) <= pop.max_context_length
        && (!spec.validated_backends || pop.bridge_agent.starts_with("Kobold"))
        && (spec.softprompt.iter()).all(|name| pop.softprompts.contains(name))
        && names_model(&spec.models, &pop.models)
}

fn names_model(asked: &[String], offered: &[String]) -> bool {
    asked.is_empty() || asked.iter().any(|model| offered.contains(model))
}

fn amounts(
    entries: &[crate::ledger::Entry],
    counts: impl Fn(&crate::ledger::Entry) -> bool,
) -> Kudos {
    let counted = entries.iter().filter(|entry| counts(entry));
    counted.map(|entry| entry.amount).sum()
}

fn pick<T: Copy>(items: &[T], number: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[number % items.len()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_events_keep_the_rules(steps in steps()) {
        let mut checked = Checked::new();
        for step in steps {
            checked.run(step);
        }
    }

    #[test]
    fn the_same_events_lead_to_the_same_state(steps in steps()) {
        let state = || {
            let mut checked = Checked::new();
            for step in &steps {
                checked.run(*step);
            }
            checked.world.horde.to_string()
        };
        prop_assert_eq!(state(), state());
    }

    /// What was stored leads to the same queue as what was lived through.
    #[test]
    fn restored_requests_stand_where_they_stood(steps in steps()) {
        let mut checked = Checked::new();
        for step in steps {
            checked.run(step);
        }
        let horde = &checked.world.horde;
        let mut again = World::new();
        for id in &checked.asked {
            if let Some(entry) = horde.requests.get(id) {
                again.horde.restore(stored(entry, horde));
            }
        }
        let order = |world: &World| -> Vec<(RequestId, u64)> {
            let kinds = WorkKind::ALL.into_iter();
            let items = kinds.flat_map(|kind| world.horde.queues.of(kind).in_order());
            items.map(|item| (item.request, item.load.things)).collect()
        };
        prop_assert_eq!(order(&again), order(&checked.world));
        prop_assert_eq!(&again.horde.deadlines, &horde.deadlines);
        prop_assert_eq!(&again.horde.expiries, &horde.expiries);
    }
}

fn stored(entry: &Entry, horde: &crate::horde::Horde) -> crate::horde::Stored {
    crate::horde::Stored {
        request: entry.request.clone(),
        open: entry.open.count(),
        // The rows do not know which forms failed too often.
        asked: entry.asked + entry.given_up(&horde.jobs),
        kudos: entry.kudos,
        expires: entry.expires,
        faulted: entry.faulted,
        jobs: entry
            .jobs
            .iter()
            .map(|job| horde.jobs[job].clone())
            .collect(),
    }
}

#[test]
fn forms_that_were_given_up_stay_so_when_the_request_is_read_again() {
    let mut world = World::new();
    world.run("request r1 alchemy forms=caption,nsfw,palette");
    let mut job = 0;
    for (worker, form) in [("w1", "caption"), ("w2", "nsfw")] {
        world.run(&format!("worker {worker} alchemy forms={form}"));
        for _ in 0..4 {
            job += 1;
            world.run(&format!("pop {worker}"));
            world.run(&format!("submit j{job} state=faulted"));
        }
    }
    let id = request_id("r1");
    for _ in 0..3 {
        let entry = &world.horde.requests[&id];
        assert_eq!(entry.asked, 1, "the palette");
        let renewal = Renewal {
            stored: stored(entry, &world.horde),
            dropped: Vec::new(),
            stage: Stage::Live,
        };
        world.horde.renew(renewal, world.now);
    }
}
