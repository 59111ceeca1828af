//! Two nodes on one database, in whatever order things happen: what they know ends up the same, and
//! no result is given away, delivered or charged twice.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, UserId};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use super::world::{World, request_id};
use crate::horde::{
    Aftermath, Assignment, Blame, Content, Effect, Job, JobState, Lapse, Neighbours, Outcome,
    Owner, Renewal, Request, Settlement, Stage, Stored,
};
use crate::ledger::Account;
use crate::{Kudos, Millis, Roles, Timestamp};

/// One random event; the first number chooses a node, the others among what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(usize, usize),
    Pop(usize, usize),
    /// A claim reaches the database, and its answer the node.
    Claim(usize, usize),
    Submit(usize, usize, u8),
    /// A result reaches the database, and the answer the node.
    Settle(usize, usize),
    Cancel(usize, usize),
    /// A node reads rows …
    Look(usize, usize),
    /// … and takes them in, perhaps much later.
    Hear(usize, usize),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..2_usize;
    let number = 0..1000_usize;
    let both = || (node.clone(), number.clone());
    let step = prop_oneof![
        4 => both().prop_map(|(n, a)| Step::Ask(n, a)),
        8 => both().prop_map(|(n, a)| Step::Pop(n, a)),
        8 => both().prop_map(|(n, a)| Step::Claim(n, a)),
        6 => (node.clone(), number.clone(), any::<u8>()).prop_map(|(n, a, b)| Step::Submit(n, a, b)),
        6 => both().prop_map(|(n, a)| Step::Settle(n, a)),
        1 => both().prop_map(|(n, a)| Step::Cancel(n, a)),
        8 => both().prop_map(|(n, a)| Step::Look(n, a)),
        8 => both().prop_map(|(n, a)| Step::Hear(n, a)),
        3 => (0..130_i64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..160)
}

const WORKERS: &[&str] = &[
    "worker w1 models=sd,sdxl amount=2",
    "worker w2 models=sd owner=2",
    "worker w3 text models=13b,7b amount=2",
    "worker w4 alchemy forms=caption,nsfw,GFPGAN amount=3",
    "worker w5 alchemy forms=caption,palette owner=2 amount=2",
];

const REQUESTS: &[&str] = &[
    "models=sd",
    "models=sdxl,sd n=3",
    "models=sd n=2",
    "text models= n=3",
    "text models=7b",
    "alchemy forms=caption",
    "alchemy forms=caption,nsfw,palette",
];

/// What the statements of the store do to a request.
struct Row {
    request: Request,
    is_live: bool,
    faulted: bool,
    cancelled: bool,
    open: u32,
    consumed: Kudos,
    expires: Timestamp,
    jobs: Vec<Job>,
    dropped: BTreeSet<JobId>,
}

#[derive(Default)]
struct Database {
    rows: BTreeMap<RequestId, Row>,
    /// What was paid for each job: what leaves the mint, what returns.
    paid: BTreeMap<JobId, Kudos>,
}

impl Row {
    fn count(&self, is_so: fn(&JobState) -> bool) -> u32 {
        let those = self.jobs.iter().filter(|job| is_so(&job.state));
        u32::try_from(those.count()).unwrap()
    }

    fn running(&self) -> u32 {
        self.count(|state| *state == JobState::Running)
    }

    fn done(&self) -> u32 {
        self.count(|state| matches!(state, JobState::Done(_)))
    }

    fn running_job(&mut self, id: JobId) -> Option<&mut Job> {
        let mut jobs = self.jobs.iter_mut();
        jobs.find(|job| job.id == id && job.state == JobState::Running)
    }

    fn end(&mut self) {
        self.is_live = false;
        self.open = 0;
        let running = self
            .jobs
            .extract_if(.., |job| job.state == JobState::Running);
        self.dropped.extend(running.map(|job| job.id));
    }

    fn end_if_over(&mut self) {
        if self.open == 0 && self.running() == 0 {
            self.is_live = false;
        }
    }

    fn renewal(&self) -> Renewal {
        Renewal {
            stored: Stored {
                request: self.request.clone(),
                open: self.open,
                asked: if self.cancelled {
                    self.done()
                } else {
                    self.request.work.asked()
                },
                kudos: self.consumed,
                expires: self.expires,
                faulted: self.faulted,
                jobs: self.jobs.clone(),
            },
            dropped: self.dropped.iter().copied().collect(),
            stage: match (self.is_live, self.cancelled) {
                (true, false) => Stage::Live,
                (true, true) => Stage::Cancelled,
                (false, _) => Stage::Over,
            },
        }
    }
}

impl Database {
    fn assign(&mut self, assignment: &Assignment) -> bool {
        let Some(row) = self.rows.get_mut(&assignment.request) else {
            return false;
        };
        let count = u32::try_from(assignment.jobs.len()).unwrap();
        let is_taken = |job: &Job| {
            let others = row.jobs.iter().filter(|other| other.slot == job.slot);
            let mut taken = others.filter(|other| other.state != JobState::Faulted);
            job.slot.is_some() && taken.next().is_some()
        };
        if !row.is_live || row.open < count || assignment.jobs.iter().any(is_taken) {
            return false;
        }
        row.open -= count;
        row.expires = row.expires.max(assignment.expires);
        row.jobs.extend(assignment.jobs.iter().cloned());
        assert!(row.running() + row.done() <= row.request.work.asked());
        true
    }

    fn settle(&mut self, settlement: &Settlement) -> bool {
        let Some(row) = self.rows.get_mut(&settlement.request) else {
            return false;
        };
        let Some(job) = row.running_job(settlement.job) else {
            return false;
        };
        match &settlement.effect {
            Effect::Nothing => return true,
            Effect::Delivered(delivery) => {
                job.state = JobState::Done(delivery.delivered.clone());
                job.kudos = Some(settlement.reward);
                row.consumed += delivery.charged;
                row.expires = row.expires.max(delivery.expires);
                let made = delivery.event.entries.iter();
                let made = made.filter(|entry| entry.from == Account::Mint);
                let paid: Kudos = made.map(|entry| entry.amount).sum();
                let before = self.paid.insert(settlement.job, paid);
                assert_eq!(before, None, "a job was paid twice");
            }
            Effect::Faulted(aftermath) => return self.fault(settlement.job, *aftermath),
        }
        row.end_if_over();
        true
    }

    fn fault(&mut self, id: JobId, aftermath: Aftermath) -> bool {
        let mut rows = self.rows.values_mut();
        let runs = |job: &Job| job.id == id && job.state == JobState::Running;
        let Some(row) = rows.find(|row| row.jobs.iter().any(runs)) else {
            return false;
        };
        match aftermath {
            Aftermath::Returned => {
                row.jobs.retain(|job| job.id != id);
                row.dropped.insert(id);
            }
            Aftermath::Reopened | Aftermath::GivenUp => {
                let job = row.running_job(id).unwrap();
                job.state = JobState::Faulted;
                job.blame = Blame::Worker;
            }
        }
        if row.is_live && !row.cancelled && aftermath != Aftermath::GivenUp {
            row.open += 1;
        }
        row.end_if_over();
        true
    }
}

/// A node with what it is in the middle of.
struct Node {
    world: World,
    claiming: Vec<Assignment>,
    settling: Vec<Settlement>,
    read: Vec<Renewal>,
}

struct Cluster {
    nodes: [Node; 2],
    database: Database,
    asked: Vec<RequestId>,
    given: Vec<JobId>,
}

impl Cluster {
    fn new() -> Self {
        let ids = [Uuid::from_u128(7), Uuid::from_u128(8)];
        let node = |own: Uuid| {
            let mut world = World::new();
            world.dice = ChaCha8Rng::seed_from_u64(own.as_u64_pair().1);
            for worker in WORKERS {
                world.run(worker);
            }
            let alive = ids.to_vec();
            world.horde.set_neighbours(Some(Neighbours { own, alive }));
            Node {
                world,
                claiming: Vec::new(),
                settling: Vec::new(),
                read: Vec::new(),
            }
        };
        Self {
            nodes: ids.map(node),
            database: Database::default(),
            asked: Vec::new(),
            given: Vec::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Ask(node, what) => self.ask(node, what),
            Step::Pop(node, worker) => {
                let name = format!("w{}", worker % WORKERS.len() + 1);
                let node = &mut self.nodes[node];
                if let Ok(found) = node.world.try_pop(&name) {
                    node.claiming.extend(found);
                }
            }
            Step::Claim(node, which) => self.claim(node, which),
            Step::Submit(node, job, hand) => self.submit(node, job, hand),
            Step::Settle(node, which) => self.settle(node, which),
            Step::Cancel(node, which) => self.cancel(node, which),
            Step::Look(node, which) => {
                let request = pick(&self.asked, which);
                let row = request.and_then(|id| self.database.rows.get(&id));
                self.nodes[node].read.extend(row.map(Row::renewal));
            }
            Step::Hear(node, which) => {
                let node = &mut self.nodes[node];
                if let Some(renewal) = take(&mut node.read, which) {
                    node.world.horde.renew(renewal, node.world.now);
                }
            }
            Step::Wait(seconds) => self.wait(seconds),
        }
        for node in &mut self.nodes {
            node.assert_invariants();
        }
    }

    fn ask(&mut self, node: usize, what: usize) {
        let name = format!("r{}", self.asked.len() + 1);
        let what = REQUESTS[what % REQUESTS.len()];
        let world = &mut self.nodes[node].world;
        world.run(&format!("request {name} {what}"));
        let id = request_id(&name);
        let request = world.horde.request(id).unwrap().clone();
        let row = Row {
            is_live: true,
            faulted: false,
            cancelled: false,
            open: request.work.asked(),
            consumed: request.work.activation_tax(),
            expires: world.now + super::super::REQUEST_LIFETIME,
            jobs: Vec::new(),
            dropped: BTreeSet::new(),
            request,
        };
        self.database.rows.insert(id, row);
        self.asked.push(id);
    }

    fn claim(&mut self, node: usize, which: usize) {
        let Some(assignment) = take(&mut self.nodes[node].claiming, which) else {
            return;
        };
        if self.database.assign(&assignment) {
            self.given.extend(assignment.ids());
        } else {
            let horde = &mut self.nodes[node].world.horde;
            horde.release(&assignment.ids());
            self.refresh(node, assignment.request);
        }
    }

    /// Reads a request and takes it in at once.
    fn refresh(&mut self, node: usize, request: RequestId) {
        let World { horde, now, .. } = &mut self.nodes[node].world;
        match self.database.rows.get(&request) {
            Some(row) => {
                horde.renew(row.renewal(), *now);
            }
            None => horde.forget_request(request),
        }
    }

    fn submit(&mut self, node: usize, job: usize, hand: u8) {
        let node = &mut self.nodes[node];
        let known = pick(&self.given, job).and_then(|id| node.world.horde.job(id).cloned());
        let Some(job) = known else {
            return;
        };
        let by = Owner {
            user: job.owner,
            roles: Roles::NONE,
        };
        let outcome = match hand {
            0..100 => Outcome::Faulted(match hand % 3 {
                0 => Blame::Request,
                1 => Blame::Nobody,
                _ => Blame::Worker,
            }),
            _ => Outcome::Delivered {
                content: match (job.kudos, job.slot) {
                    (None, _) => Content::Text("word ".repeat(50)),
                    (_, None) => Content::Uploaded,
                    (_, Some(_)) => Content::Form(serde_json::Map::new()),
                },
                seed: 1,
                censored: hand < 120,
                metadata: Vec::new(),
            },
        };
        let settled = node.world.horde.submit(job.id, by, outcome, node.world.now);
        if let Ok(settlement) = settled
            && settlement.effect != Effect::Nothing
        {
            node.settling.push(settlement);
        }
    }

    fn settle(&mut self, node: usize, which: usize) {
        let Some(settlement) = take(&mut self.nodes[node].settling, which) else {
            return;
        };
        let is_stored = self.database.settle(&settlement);
        let horde = &mut self.nodes[node].world.horde;
        if is_stored {
            horde.confirm(settlement.job);
        } else {
            horde.unsettle(settlement.job);
            self.refresh(node, settlement.request);
        }
    }

    fn cancel(&mut self, node: usize, which: usize) {
        let Some(id) = pick(&self.asked, which) else {
            return;
        };
        self.nodes[node].world.horde.cancel(id);
        let row = self.database.rows.get_mut(&id);
        if let Some(row) = row.filter(|row| row.is_live) {
            row.cancelled = true;
            row.open = 0;
            row.end_if_over();
        }
    }

    /// The first node keeps the time. The database answers a claim within seconds, and a job has
    /// minutes: whoever popped it has hung up long before.
    fn wait(&mut self, seconds: i64) {
        for node in 0..self.nodes.len() {
            while !self.nodes[node].claiming.is_empty() {
                self.claim(node, 0);
            }
        }
        for node in &mut self.nodes {
            node.world.now = node.world.now + Millis::from_seconds(seconds);
            node.world.horde.tick_aside(node.world.now);
        }
        let now = self.nodes[0].world.now;
        for lapse in self.nodes[0].world.horde.tick(now) {
            let request = match lapse {
                Lapse::JobFaulted {
                    job,
                    request,
                    aftermath,
                    ..
                } => (!self.database.fault(job, aftermath)).then_some(request),
                Lapse::RequestFaulted { request } => {
                    let row = self.database.rows.get_mut(&request);
                    if let Some(row) = row.filter(|row| row.is_live) {
                        row.faulted = true;
                        row.end();
                    }
                    None
                }
                Lapse::RequestExpired { request, .. } => {
                    let row = self.database.rows.get(&request);
                    let is_due = |row: &Row| row.is_live && row.expires <= now;
                    if row.is_some_and(is_due) {
                        self.database.rows.remove(&request);
                    }
                    row_is_there(&self.database, request)
                }
            };
            if let Some(request) = request {
                self.refresh(0, request);
            }
        }
    }

    /// Everything under way arrives, and both nodes read everything.
    fn come_to_rest(&mut self) {
        for node in 0..2 {
            while !self.nodes[node].claiming.is_empty() {
                self.claim(node, 0);
            }
            while !self.nodes[node].settling.is_empty() {
                self.settle(node, 0);
            }
        }
        for node in 0..2 {
            for id in self.asked.clone() {
                self.refresh(node, id);
            }
            self.nodes[node].assert_invariants();
        }
    }

    fn assert_agreed(&self) {
        for (id, row) in &self.database.rows {
            let looks = self.nodes.each_ref().map(|node| node.look(*id));
            if row.is_live {
                assert_eq!(looks[0], looks[1], "{id} is seen alike");
                assert!(looks[0].is_some());
            }
            for look in looks.iter().flatten() {
                let (running, done) = (row.running(), row.done());
                assert_eq!((look.running, look.finished), (running, done));
                assert_eq!(look.kudos, row.consumed);
                assert!(row.is_live || look.is_done);
            }
        }
    }
}

fn row_is_there(database: &Database, request: RequestId) -> Option<RequestId> {
    database.rows.contains_key(&request).then_some(request)
}

/// How a node sees a request.
#[derive(Debug, PartialEq)]
struct Look {
    open: u32,
    running: u32,
    finished: u32,
    faults: u32,
    kudos: Kudos,
    is_done: bool,
    states: BTreeMap<JobId, JobState>,
}

impl Node {
    fn look(&self, id: RequestId) -> Option<Look> {
        let horde = &self.world.horde;
        let entry = horde.requests.get(&id)?;
        // What was dropped counts nowhere, and is not known everywhere.
        let counts = |job: &&Job| job.state != JobState::Faulted || job.is_abort();
        let jobs = horde.jobs(id).filter(counts);
        Some(Look {
            open: entry.open.count(),
            running: entry.running,
            finished: entry.finished,
            faults: entry.faults,
            kudos: entry.kudos,
            is_done: entry.is_done(),
            states: jobs.map(|job| (job.id, job.state.clone())).collect(),
        })
    }

    fn assert_invariants(&mut self) {
        let horde = &mut self.world.horde;
        let changes = horde.take_changes();
        assert!(
            changes
                .opened
                .iter()
                .all(|id| horde.requests.contains_key(id))
        );
        for kind in WorkKind::ALL {
            for user in 1..=2 {
                let user = UserId::new(user).unwrap();
                let of_user = horde.requests.values().filter(|entry| {
                    let request = &entry.request;
                    request.requester.user == user && request.work.kind() == kind
                });
                let jobs = of_user.map(|entry| u64::from(entry.open.count() + entry.running));
                assert_eq!(horde.pending_jobs(user, kind), jobs.sum::<u64>());
            }
            let waiting = horde.queues.of(kind).in_order();
            let waiting: BTreeSet<RequestId> = waiting.map(|item| item.request).collect();
            let open = horde.open_requests().filter(|id| {
                let request = horde.request(*id);
                request.is_some_and(|request| request.work.kind() == kind)
            });
            assert_eq!(waiting, open.collect::<BTreeSet<_>>());
        }
        for entry in horde.requests.values() {
            let running = entry.jobs.iter().filter_map(|job| horde.jobs.get(job));
            let running = running.filter(|job| job.state == JobState::Running);
            let running: Vec<_> = running.map(|job| (job.deadline, job.id)).collect();
            assert_eq!(running.len(), entry.running as usize);
            assert!(running.iter().all(|at| horde.deadlines.contains(at)));
        }
    }
}

fn pick<T: Copy>(items: &[T], number: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[number % items.len()])
}

fn take<T>(items: &mut Vec<T>, number: usize) -> Option<T> {
    (!items.is_empty()).then(|| items.remove(number % items.len()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nodes_agree_when_they_have_read_everything(steps in steps()) {
        let mut nodes = Cluster::new();
        for step in steps {
            nodes.run(step);
        }
        nodes.come_to_rest();
        nodes.assert_agreed();
    }
}

/// Two nodes that live, seen by one that is the home of nothing, or of everything that it can be.
fn with_neighbour(world: &mut World, own: u128) {
    let alive = vec![Uuid::from_u128(7), Uuid::from_u128(8)];
    let own = Uuid::from_u128(own);
    world.horde.set_neighbours(Some(Neighbours { own, alive }));
}

#[test]
fn a_node_leaves_others_requests_alone_for_a_moment() {
    let mut world = World::new();
    world.run("worker w1 models=sd");
    let homes: Vec<bool> = [7, 8]
        .into_iter()
        .map(|own| {
            with_neighbour(&mut world, own);
            world.horde.turn_of_id(request_id("r1")) > 0
        })
        .collect();
    assert_ne!(homes[0], homes[1], "a request has one home");
    let stranger = if homes[0] { 7 } else { 8 };
    with_neighbour(&mut world, stranger);
    world.run("request r1 models=sd");
    assert!(world.try_pop("w1").is_err(), "its home comes first");
    world.now = world.now + Millis(199);
    assert!(world.try_pop("w1").is_err());
    world.now = world.now + Millis(1);
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id("r1"));
}

#[test]
fn of_equals_a_node_takes_its_own() {
    let mut world = World::new();
    world.run("worker w1 models=sd");
    with_neighbour(&mut world, 7);
    let names: Vec<String> = (1..40).map(|number| format!("r{number}")).collect();
    let is_own = |name: &&String| world.horde.turn_of_id(request_id(name)) == 0;
    let own = names.iter().find(is_own).unwrap().clone();
    let foreign = names.iter().find(|name| !is_own(name)).unwrap().clone();
    world.run(&format!("request {foreign} models=sd"));
    world.now = world.now + Millis(900);
    world.run(&format!("request {own} models=sd"));
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(&own), "they are near");
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(&foreign));
    // Who waits longer than a moment goes first, wherever it is at home.
    let late = names.iter().rfind(is_own_of(&world)).unwrap().clone();
    let early = names.iter().rfind(|name| !is_own_of(&world)(name)).unwrap();
    world.run(&format!("request {early} models=sd"));
    world.now = world.now + Millis(1200);
    world.run(&format!("request {late} models=sd"));
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(early));
}

#[test]
fn of_others_requests_a_node_takes_what_their_home_comes_to_last() {
    let mut world = World::new();
    world.run("worker w1 models=sd");
    with_neighbour(&mut world, 7);
    let names: Vec<String> = (1..40).map(|number| format!("r{number}")).collect();
    let foreign: Vec<&String> = names
        .iter()
        .filter(|name| !is_own_of(&world)(name))
        .collect();
    for name in &foreign[..2] {
        world.run(&format!("request {name} models=sd"));
        world.now = world.now + Millis(300);
    }
    let found = world.try_pop("w1").unwrap();
    assert_eq!(
        found[0].request,
        request_id(foreign[1]),
        "its home begins in front"
    );
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(foreign[0]));
    // What waits for more than a moment longer goes first all the same.
    for name in &foreign[2..4] {
        world.run(&format!("request {name} models=sd"));
        world.now = world.now + Millis(1200);
    }
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(foreign[2]));
}

#[test]
fn a_node_that_is_behind_leaves_others_requests_alone() {
    let mut world = World::new();
    world.run("worker w1 models=sd");
    with_neighbour(&mut world, 7);
    let names: Vec<String> = (1..40).map(|number| format!("r{number}")).collect();
    let own = names.iter().find(is_own_of(&world)).unwrap().clone();
    let foreign = names.iter().find(|name| !is_own_of(&world)(name)).unwrap();
    world.run(&format!("request {foreign} models=sd"));
    world.now = world.now + Millis(5000);
    world.run(&format!("request {own} models=sd"));
    world.horde.set_behind(true);
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(&own));
    assert!(world.try_pop("w1").is_err());
    let waiting: Vec<RequestId> = world.horde.foreign_requests().collect();
    assert_eq!(waiting, [request_id(foreign)]);
    world.horde.set_behind(false);
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(foreign));
    assert_eq!(world.horde.foreign_requests().count(), 0);
}

#[test]
fn the_requests_of_a_workers_owner_have_homes_as_well() {
    let mut world = World::new();
    world.run("worker w1 models=sd");
    with_neighbour(&mut world, 7);
    let names: Vec<String> = (1..40).map(|number| format!("r{number}")).collect();
    let own = names.iter().find(is_own_of(&world)).unwrap().clone();
    let foreign = names.iter().find(|name| !is_own_of(&world)(name)).unwrap();
    world.run(&format!("request {foreign} models=sd user=1"));
    world.now = world.now + Millis(900);
    world.run(&format!("request {own} models=sd user=1"));
    let found = world.try_pop("w1").unwrap();
    assert_eq!(found[0].request, request_id(&own));
}

#[test]
fn who_is_slow_to_hear_waits_longer_and_who_comes_third_twice_as_long() {
    let mut world = World::new();
    let alive: Vec<Uuid> = [7, 8, 9].map(Uuid::from_u128).to_vec();
    let own = alive[0];
    world.horde.set_neighbours(Some(Neighbours { own, alive }));
    let id = request_id("r1");
    let with_turn = |turn: u8| {
        let names = (1..99).map(|number| format!("r{number}"));
        let mut names = names.filter(|name| world.horde.turn_of_id(request_id(name)) == turn);
        names.next().unwrap()
    };
    let names = [with_turn(0), with_turn(1), with_turn(2)];
    assert_eq!(
        world.horde.head_start_of(id),
        Millis(0),
        "nobody knows it yet"
    );
    for name in &names {
        world.run(&format!("request {name} models=sd"));
    }
    let mut starts = |long: Millis| {
        world.horde.set_head_start(long);
        names
            .each_ref()
            .map(|name| world.horde.head_start_of(request_id(name)).0)
    };
    assert_eq!(starts(Millis(0)), [0, 200, 400], "never less");
    assert_eq!(starts(Millis(500)), [0, 500, 1000]);
    assert_eq!(starts(Millis(60_000)), [0, 3000, 6000], "never more");
    assert_eq!(world.horde.near(), Millis(9000));
    world.horde.set_head_start(Millis(0));
    assert_eq!(world.horde.near(), Millis(1000));
}

fn is_own_of(world: &World) -> impl Fn(&&String) -> bool + use<'_> {
    move |name| world.horde.turn_of_id(request_id(name)) == 0
}
