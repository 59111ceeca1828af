//! Random histories of asking, working and paying, kept in books of our own: nothing is made or
//! lost on the way.
//!
//! 256 histories; `PROPTEST_CASES=10000` for the long run.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::{JobId, RequestId, UserId};
use proptest::prelude::*;
use uuid::Uuid;

use super::world::{World, request_id};
use crate::horde::{Assignment, Blame, Content, Effect, Outcome, Owner};
use crate::ledger::{Account, Entry, Event, Reason};
use crate::pricing::forgive;
use crate::{Kudos, Millis, Role, Roles, standing};

/// One random event; the numbers choose among what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(usize, usize),
    Pop(usize),
    Submit(usize, Hand),
    /// The settlement is stored, or could not be.
    Store(usize, Written),
    Wait(i64),
    Fold,
    Promote(usize),
}

#[derive(Debug, Clone, Copy)]
enum Hand {
    Result,
    Censored,
    Fault,
}

#[derive(Debug, Clone, Copy)]
enum Written {
    Yes,
    No,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = 0..1000_usize;
    let hand = prop_oneof![
        4 => Just(Hand::Result),
        1 => Just(Hand::Censored),
        1 => Just(Hand::Fault)
    ];
    let written = prop_oneof![4 => Just(Written::Yes), 1 => Just(Written::No)];
    let step = prop_oneof![
        5 => (any.clone(), any.clone()).prop_map(|(a, b)| Step::Ask(a, b)),
        6 => any.clone().prop_map(Step::Pop),
        6 => (any.clone(), hand).prop_map(|(a, hand)| Step::Submit(a, hand)),
        6 => (any.clone(), written).prop_map(|(a, written)| Step::Store(a, written)),
        2 => (0..700_i64).prop_map(Step::Wait),
        2 => Just(Step::Fold),
        1 => any.prop_map(Step::Promote),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Users 1 to 4: trusted, two that are not, and one without an identity.
const USERS: [i64; 4] = [1, 2, 3, 4];

const WORKERS: &[&str] = &[
    "worker w1 models=sd,sdxl amount=2",
    "worker w2 models=sd,sdxl,flux owner=2",
    "worker w3 models=sd owner=3 amount=3",
    "worker w4 models=sd,qwen owner=4 agent=unknown:0:x",
    "worker w5 text models=13b,7b owner=2 amount=2",
    "worker w6 alchemy forms=caption,nsfw,GFPGAN owner=3 amount=3",
];

const REQUESTS: &[&str] = &[
    "models=sd",
    "models=sdxl,sd n=3",
    "models= n=2",
    "models=flux steps=4",
    "models=sd loras=a size=1024x576",
    "models=qwen",
    "text models=7b",
    "text models= n=2",
    "alchemy forms=caption,GFPGAN",
];

/// What everybody has, by adding up movements.
#[derive(Default)]
struct Books {
    accounts: BTreeMap<Account, Kudos>,
    /// What counted already, and must not count again.
    events: BTreeSet<(Uuid, Reason)>,
    /// What ever went into escrow, and what came out of it.
    escrowed: BTreeMap<UserId, Kudos>,
    promoted: BTreeMap<UserId, Kudos>,
    /// Who spent since the last fold, and who ever did.
    spent: BTreeSet<UserId>,
    spenders: BTreeSet<UserId>,
    burnt: Kudos,
}

impl Books {
    fn post(&mut self, event: &Event) {
        let reasons: BTreeSet<Reason> = event.entries.iter().map(|entry| entry.reason).collect();
        for reason in reasons {
            assert!(
                self.events.insert((event.id, reason)),
                "{event:?} counts twice"
            );
        }
        for entry in &event.entries {
            self.move_amount(entry);
        }
        let sum: Kudos = self.accounts.values().copied().sum();
        assert_eq!(sum, Kudos::ZERO, "after {event:?}");
    }

    fn move_amount(&mut self, entry: &Entry) {
        assert!(entry.amount >= Kudos::ZERO, "{entry:?}");
        *self.accounts.entry(entry.from).or_default() -= entry.amount;
        *self.accounts.entry(entry.to).or_default() += entry.amount;
        if let Account::Spendable(user) = entry.from {
            self.spent.insert(user);
            if entry.to == Account::Mint {
                self.burnt += entry.amount;
            }
        }
        if let Account::Escrow(user) = entry.to {
            *self.escrowed.entry(user).or_default() += entry.amount;
        }
        if let Account::Escrow(user) = entry.from {
            assert_eq!(entry.reason, Reason::Promotion);
            *self.promoted.entry(user).or_default() += entry.amount;
        }
    }

    fn has(&self, account: Account) -> Kudos {
        self.accounts.get(&account).copied().unwrap_or_default()
    }

    /// Forgives what is below a floor, as the fold of the store does.
    fn fold(&mut self) {
        self.spenders.append(&mut self.spent.clone());
        for user in std::mem::take(&mut self.spent) {
            let balance = self.has(Account::Spendable(user));
            if let Some(entry) = forgive(user, roles(user), balance) {
                self.move_amount(&entry);
            }
        }
        for user in &self.spenders {
            let balance = self.has(Account::Spendable(*user));
            assert!(
                balance >= standing::floor(*user, roles(*user)),
                "{user} has {balance}"
            );
        }
    }

    fn promote(&mut self, user: UserId) {
        let amount = self.has(Account::Escrow(user));
        self.move_amount(&Entry {
            from: Account::Escrow(user),
            to: Account::Spendable(user),
            amount,
            reason: Reason::Promotion,
        });
    }

    fn assert_escrow_is_conserved(&self) {
        for (user, escrowed) in &self.escrowed {
            let left = self.has(Account::Escrow(*user));
            let promoted = self.promoted.get(user).copied().unwrap_or_default();
            assert!(left >= Kudos::ZERO);
            assert_eq!(*escrowed, promoted + left, "the escrow of {user}");
        }
    }
}

fn user(number: i64) -> UserId {
    UserId::new(number).unwrap()
}

fn roles(of: UserId) -> Roles {
    match of.get() {
        1 => Roles::NONE.with(Role::Trusted),
        4 => Roles::NONE.with(Role::Pseudonymous),
        _ => Roles::NONE,
    }
}

/// A world, its books, and what is on its way into them.
struct Kept {
    world: World,
    books: Books,
    asked: Vec<RequestId>,
    unstored: BTreeMap<JobId, Option<Event>>,
    settled: BTreeSet<JobId>,
    /// What each request has been charged, by the books.
    charged: BTreeMap<RequestId, Kudos>,
}

impl Kept {
    fn new() -> Self {
        let mut world = World::new();
        world.run("user 3 kudos=30");
        world.run("user 4 kudos=0");
        for worker in WORKERS {
            world.run(worker);
        }
        Self {
            world,
            books: Books::default(),
            asked: Vec::new(),
            unstored: BTreeMap::new(),
            settled: BTreeSet::new(),
            charged: BTreeMap::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Ask(who, what) => self.ask(who, what),
            Step::Pop(worker) => self.pop(worker),
            Step::Submit(job, hand) => self.submit(job, hand),
            Step::Store(job, written) => self.store(job, written),
            Step::Wait(seconds) => {
                self.world.now = self.world.now + Millis::from_seconds(seconds);
                self.world.horde.tick(self.world.now);
            }
            Step::Fold => self.books.fold(),
            Step::Promote(who) => self.books.promote(user(USERS[who % USERS.len()])),
        }
        self.books.assert_escrow_is_conserved();
    }

    fn ask(&mut self, who: usize, what: usize) {
        let name = format!("r{}", self.asked.len() + 1);
        let (who, what) = (USERS[who % USERS.len()], REQUESTS[what % REQUESTS.len()]);
        self.world.run(&format!("request {name} user={who} {what}"));
        let id = request_id(&name);
        let activation = self.world.horde.requests[&id].request.activation();
        let burnt_before = self.books.burnt;
        if let Some(activation) = activation {
            self.books.post(&activation);
        }
        self.charged.insert(id, self.books.burnt - burnt_before);
        self.asked.push(id);
    }

    fn pop(&mut self, worker: usize) {
        let name = format!("w{}", worker % WORKERS.len() + 1);
        let offer = self.world.offer(&name);
        let checked = self.world.horde.check_in(offer, self.world.now);
        if let Some(reward) = checked.reward {
            self.books.post(&reward.event);
        }
        if let Ok(assignments) = self.world.try_pop(&name) {
            let jobs = assignments.iter().flat_map(Assignment::ids);
            self.world.jobs.extend(jobs);
        }
    }

    fn submit(&mut self, job: usize, hand: Hand) {
        let jobs = &self.world.jobs;
        let Some(id) = (!jobs.is_empty()).then(|| jobs[job % jobs.len()]) else {
            return;
        };
        let Some(job) = self.world.horde.job(id).cloned() else {
            return;
        };
        let by = Owner {
            user: job.owner,
            roles: roles(job.owner),
        };
        let outcome = match hand {
            Hand::Fault => Outcome::Faulted(Blame::Worker),
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
        let Ok(settlement) = self.world.horde.submit(id, by, outcome, self.world.now) else {
            return;
        };
        match settlement.effect {
            Effect::Nothing => {}
            Effect::Faulted(_) => {
                self.unstored.insert(id, None);
            }
            Effect::Delivered(delivery) => {
                self.unstored.insert(id, Some(delivery.event));
            }
        }
    }

    fn store(&mut self, number: usize, written: Written) {
        let count = self.unstored.len().max(1);
        let Some(id) = self.unstored.keys().nth(number % count).copied() else {
            return;
        };
        let event = self.unstored.remove(&id).flatten();
        let Written::Yes = written else {
            self.world.horde.unsettle(id);
            return;
        };
        let request = self.world.horde.job(id).map(|job| job.request).unwrap();
        if let Some(event) = event {
            assert!(self.settled.insert(id), "a job was settled twice");
            let burnt_before = self.books.burnt;
            self.books.post(&event);
            *self.charged.get_mut(&request).unwrap() += self.books.burnt - burnt_before;
        }
        self.world.horde.confirm(id);
        let shown = self.world.horde.requests[&request].kudos;
        assert_eq!(shown, self.charged[&request], "what a request says it cost");
    }

    /// Everything on its way arrives, everybody is trusted, and the books are closed.
    fn close(mut self) {
        while !self.unstored.is_empty() {
            self.store(0, Written::Yes);
        }
        for number in USERS {
            self.books.promote(user(number));
        }
        self.books.fold();
        self.books.assert_escrow_is_conserved();
        for number in USERS {
            assert_eq!(self.books.has(Account::Escrow(user(number))), Kudos::ZERO);
        }
    }
}

proptest! {
    #[test]
    fn random_histories_keep_the_books(steps in steps()) {
        let mut kept = Kept::new();
        for step in steps {
            kept.run(step);
        }
        kept.close();
    }
}
