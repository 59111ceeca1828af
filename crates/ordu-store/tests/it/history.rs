//! Random histories of rows: asked, assigned, settled, faulted, paid and folded, often twice and
//! at once.
//!
//! `ORDU_TEST_HISTORIES=10000` for the long run.

use std::collections::BTreeMap;

use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, UserId};
use ordu_core::Kudos;
use ordu_core::ledger::{Account, Entry, Event, Reason};
use ordu_core::pricing::{Share, credit};
use ordu_store::{
    Claim, Fault, Faulted, NewRequest, NewUser, Recorded, Settled, Settlement, Store,
};

use crate::database::{Database, NOW, variable};
use crate::world::{Dice, assignment, id, new_user, request, settlement};

on_both!(
    random_histories_keep_the_books,
    random_histories_settle_each_job_once
);

/// So many histories unless `ORDU_TEST_HISTORIES` says otherwise.
const HISTORIES: u64 = 12;
/// Events of one history.
const EVENTS: usize = 40;

fn histories() -> u64 {
    variable("ORDU_TEST_HISTORIES").map_or(HISTORIES, |number| number.parse().unwrap())
}

/// One user, what it may fall to, and what it should have in escrow.
#[derive(Debug, Clone, Copy)]
struct Person {
    user: UserId,
    floor: Kudos,
    escrow: Kudos,
    has_spent: bool,
}

struct History<'a> {
    store: &'a Store,
    dice: Dice,
    people: Vec<Person>,
    recorded: Vec<Event>,
    /// Jobs at workers, of which request.
    running: Vec<(RequestId, JobId)>,
    ended: BTreeMap<JobId, RequestId>,
    consumed: BTreeMap<RequestId, Kudos>,
}

impl<'a> History<'a> {
    async fn new(store: &'a Store, number: u64) -> Self {
        let mut people = Vec::new();
        for person in 0..4 {
            let name = format!("h{number}p{person}");
            let (subject, floor) = match person {
                0 => (id().to_string(), Kudos::new(14)),
                _ => (format!("g_{name}"), Kudos::new(25)),
            };
            let row = NewUser {
                subject,
                ..new_user(&name)
            };
            people.push(Person {
                user: store.insert_user(&row).await.unwrap(),
                floor,
                escrow: Kudos::ZERO,
                has_spent: false,
            });
        }
        Self {
            store,
            dice: Dice(number),
            people,
            recorded: Vec::new(),
            running: Vec::new(),
            ended: BTreeMap::new(),
            consumed: BTreeMap::new(),
        }
    }

    fn one_of(&mut self, count: usize) -> usize {
        usize::try_from(self.dice.roll(count as u64)).unwrap()
    }

    async fn step(&mut self) {
        match self.dice.roll(10) {
            0 | 1 => self.ask().await,
            2..=4 => self.settle().await,
            5 => self.fault().await,
            6 => self.transfer().await,
            7 => self.repeat().await,
            8 => self.promote().await,
            _ => {
                let limit = u32::try_from(self.dice.roll(30) + 1).unwrap();
                self.store.fold(limit, NOW).await.unwrap();
            }
        }
    }

    async fn record(&mut self, entry: Entry) {
        let event = Event {
            id: id(),
            at: NOW,
            kind: None,
            entries: vec![entry],
        };
        let recorded = self.store.record(&event).await.unwrap();
        assert_eq!(recorded, Recorded::Now);
        self.recorded.push(event);
    }

    /// A request with its activation, and all of its slots given away.
    async fn ask(&mut self) {
        let who = self.one_of(self.people.len());
        let payer = self.people[who].user;
        let slots = u32::try_from(self.dice.roll(3) + 1).unwrap();
        let tax = Kudos::new(3);
        let row = request(slots);
        let row = NewRequest {
            owner: payer,
            consumed: tax,
            activation: Some(Event {
                id: row.id.uuid(),
                at: NOW,
                kind: Some(WorkKind::Image),
                entries: vec![Entry::burn(payer, tax, Reason::Activation)],
            }),
            ..row
        };
        self.store.insert_request(&row).await.unwrap();
        self.people[who].has_spent = true;
        self.consumed.insert(row.id, tax);
        let jobs = assignment(row.id, 0..slots);
        assert_eq!(self.store.assign(&jobs).await.unwrap(), Claim::Won);
        let jobs = jobs.jobs.iter().map(|job| (row.id, job.id));
        self.running.extend(jobs);
    }

    fn take_running(&mut self) -> Option<(RequestId, JobId)> {
        let count = self.running.len();
        (count > 0).then(|| {
            let which = self.one_of(count);
            self.running.swap_remove(which)
        })
    }

    fn settlement(&mut self, request: RequestId, job: JobId) -> (usize, Settlement) {
        let owner = self.one_of(self.people.len());
        let reward = Kudos::from_milli(self.dice.amount(20_000) + 1);
        let mut settlement = settlement(request, job, self.people[owner].user);
        let share = if self.dice.roll(2) == 0 {
            Share::Full
        } else {
            Share::Half
        };
        let event = settlement.event.as_mut().unwrap();
        event.entries = credit(self.people[owner].user, reward, share, Reason::Generation);
        event.entries.push(Entry::burn(
            UserId::ANONYMOUS,
            settlement.consumed,
            Reason::Generation,
        ));
        (owner, settlement)
    }

    /// The same settlement twice at once: one of them wins.
    async fn settle(&mut self) {
        let Some((request, job)) = self.take_running() else {
            return;
        };
        let (owner, settlement) = self.settlement(request, job);
        let (one, two) = tokio::join!(
            self.store.settle(&settlement),
            self.store.settle(&settlement)
        );
        let won = [one.unwrap(), two.unwrap()].map(|settled| settled == Settled::Now);
        assert!(won[0] != won[1], "{won:?}");
        self.count(owner, &settlement);
    }

    fn count(&mut self, owner: usize, settlement: &Settlement) {
        for entry in &settlement.event.as_ref().unwrap().entries {
            if matches!(entry.to, Account::Escrow(_)) {
                self.people[owner].escrow += entry.amount;
            }
        }
        *self.consumed.get_mut(&settlement.request).unwrap() += settlement.consumed;
        self.ended.insert(settlement.job, settlement.request);
    }

    /// A fault and a settlement at once: one of them wins.
    async fn fault(&mut self) {
        let Some((request, job)) = self.take_running() else {
            return;
        };
        let (owner, settlement) = self.settlement(request, job);
        let fault = Fault {
            job,
            request,
            at: NOW,
            how: Faulted::Retry,
        };
        let (settled, faulted) =
            tokio::join!(self.store.settle(&settlement), self.store.fault(&fault));
        let settled = settled.unwrap() == Settled::Now;
        assert!(settled != faulted.unwrap());
        if settled {
            self.count(owner, &settlement);
        }
    }

    async fn transfer(&mut self) {
        let (from, to) = (self.one_of(4), self.one_of(4));
        let amount = Kudos::from_milli(self.dice.amount(90_000));
        self.people[from].has_spent |= amount > Kudos::ZERO;
        self.record(Entry {
            from: Account::Spendable(self.people[from].user),
            to: Account::Spendable(self.people[to].user),
            amount,
            reason: Reason::Transfer,
        })
        .await;
    }

    /// What counted does not count again.
    async fn repeat(&mut self) {
        if !self.recorded.is_empty() {
            let which = self.one_of(self.recorded.len());
            let again = self.store.record(&self.recorded[which]).await.unwrap();
            assert_eq!(again, Recorded::Already);
        }
        if let Some((job, request)) = self.ended.iter().next().map(|(job, of)| (*job, *of)) {
            let (_, settlement) = self.settlement(request, job);
            let again = self.store.settle(&settlement).await.unwrap();
            assert!(matches!(again, Settled::Already(_)), "{again:?}");
        }
    }

    async fn promote(&mut self) {
        let who = self.one_of(self.people.len());
        let Person { user, escrow, .. } = self.people[who];
        if escrow > Kudos::ZERO {
            self.people[who].escrow = Kudos::ZERO;
            self.record(Entry {
                from: Account::Escrow(user),
                to: Account::Spendable(user),
                amount: escrow,
                reason: Reason::Promotion,
            })
            .await;
        }
    }

    /// Everything is folded, and everybody has what the history says.
    async fn assert_balances(&self) {
        while self.store.fold(50, NOW).await.unwrap().lines > 0 {}
        for person in &self.people {
            let balance = self.store.balance(person.user).await.unwrap();
            assert_eq!(balance.escrow, person.escrow, "{person:?}");
            let unfolded = [
                balance.unfolded_credit,
                balance.unfolded_debit,
                balance.unfolded_escrow,
            ];
            assert_eq!(unfolded, [Kudos::ZERO; 3]);
            let least = if person.has_spent {
                person.floor
            } else {
                Kudos::ZERO
            };
            assert!(balance.spendable >= least, "{balance:?} of {person:?}");
        }
        let anonymous = self.store.balance(UserId::ANONYMOUS).await.unwrap();
        assert!(anonymous.spendable >= Kudos::new(-50));
    }

    /// Each request consumed its activation and each of its settled jobs, once.
    async fn assert_requests(&self) {
        for (request, consumed) in &self.consumed {
            let row = self.store.find_request(*request).await.unwrap().unwrap();
            let settled = self.ended.values().filter(|of| *of == request).count();
            assert_eq!(row.consumed, *consumed);
            assert_eq!(row.done, i64::try_from(settled).unwrap());
        }
    }
}

async fn random_histories_keep_the_books(database: &Database) {
    let store = database.open().await;
    for number in 0..histories() {
        let mut history = History::new(&store, number).await;
        for _ in 0..EVENTS {
            history.step().await;
        }
        history.assert_balances().await;
        if number % 10 == 0 {
            assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
        }
    }
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    assert_eq!(store.audit().await.unwrap(), []);
}

async fn random_histories_settle_each_job_once(database: &Database) {
    let store = database.open().await;
    for number in 0..histories() {
        let mut history = History::new(&store, number).await;
        for _ in 0..EVENTS / 2 {
            match history.dice.roll(5) {
                0 => history.ask().await,
                1 | 2 => history.settle().await,
                3 => history.fault().await,
                _ => history.repeat().await,
            }
        }
        history.assert_requests().await;
    }
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
}
