//! Movements: counted once, folded exactly, zero in sum.

use ordu_api::UserId;
use ordu_api::worker::WorkKind;
use ordu_core::Kudos;
use ordu_core::ledger::{Account, Entry, Event, Reason};
use ordu_store::{Bucket, Error, Folded, NewUser, Record, Recorded, Store, UserChange};

use crate::database::{Database, NOW};
use crate::world::{Dice, id, new_user, new_worker, request, running, settlement, user};

on_both!(
    an_event_is_recorded_once,
    an_id_with_another_content_is_a_conflict,
    negative_and_empty_events_are_refused,
    escrow_counts_as_earned_when_it_is_freed,
    the_fold_moves_balances_and_buckets,
    a_debit_below_the_floor_is_forgiven,
    the_fold_counts_what_users_and_workers_did,
    a_fold_takes_bounded_bites,
    folds_at_once_count_every_line_once,
    the_books_balance_after_random_events,
    a_balance_that_is_set_may_lie_below_the_floor,
    an_account_is_read_with_what_it_spent_in_one_trip,
);

fn event(entries: Vec<Entry>) -> Event {
    Event {
        id: id(),
        at: NOW,
        kind: None,
        entries,
    }
}

fn transfer(from: UserId, to: UserId, amount: Kudos) -> Entry {
    Entry {
        from: Account::Spendable(from),
        to: Account::Spendable(to),
        amount,
        reason: Reason::Transfer,
    }
}

async fn account(store: &Store, name: &str, kudos: i64) -> UserId {
    let user = store.insert_user(&new_user(name)).await.unwrap();
    let opening = event(vec![Entry::reward(user, Kudos::new(kudos), Reason::Admin)]);
    store.record(&opening).await.unwrap();
    user
}

async fn assert_books_balance(store: &Store) {
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    assert_eq!(store.audit().await.unwrap(), []);
}

async fn an_account_is_read_with_what_it_spent_in_one_trip(database: &Database) {
    let store = database.open().await;
    let giver = account(&store, "giver", 100).await;
    let taker = account(&store, "taker", 100).await;
    while store.fold(1000, NOW).await.unwrap().lines > 0 {}
    let gift = event(vec![transfer(giver, taker, Kudos::new(30))]);
    store.record(&gift).await.unwrap();
    let (found, trips) = ordu_store::counted(store.find_account(giver)).await;
    let (user, unfolded) = found.unwrap().unwrap();
    assert_eq!(trips, 1);
    assert_eq!((user.id, user.spendable), (giver, Kudos::new(100)));
    assert_eq!(unfolded, Kudos::new(30));
    let ids = [giver, taker, crate::world::user(77)];
    let (listed, trips) = ordu_store::counted(store.list_accounts(&ids)).await;
    let mut listed = listed.unwrap();
    listed.sort_by_key(|(user, _)| user.id);
    assert_eq!(trips, 1);
    let each = [store.find_account(giver), store.find_account(taker)];
    let each = futures::future::try_join_all(each).await.unwrap();
    assert_eq!(listed, each.into_iter().flatten().collect::<Vec<_>>());
    // What came in does not count before it is folded.
    let (user, unfolded) = store.find_account(taker).await.unwrap().unwrap();
    assert_eq!((user.spendable, unfolded), (Kudos::new(100), Kudos::ZERO));
    while store.fold(1000, NOW).await.unwrap().lines > 0 {}
    let by_key = store.find_account_by_key("hash of giver").await.unwrap();
    let (user, unfolded) = by_key.unwrap();
    assert_eq!((user.id, user.spendable), (giver, Kudos::new(70)));
    assert_eq!(unfolded, Kudos::ZERO);
    assert!(
        store
            .find_account(crate::world::user(77))
            .await
            .unwrap()
            .is_none()
    );
}

async fn an_event_is_recorded_once(database: &Database) {
    let store = database.open().await;
    let gift = event(vec![Entry::reward(
        UserId::ANONYMOUS,
        Kudos::new(5),
        Reason::Award,
    )]);
    assert_eq!(store.record(&gift).await.unwrap(), Recorded::Now);
    assert_eq!(store.record(&gift).await.unwrap(), Recorded::Already);
    let (one, two) = tokio::join!(store.record(&gift), store.record(&gift));
    assert_eq!(
        (one.unwrap(), two.unwrap()),
        (Recorded::Already, Recorded::Already)
    );
    let balance = store.balance(UserId::ANONYMOUS).await.unwrap();
    assert_eq!(balance.unfolded_credit, Kudos::new(5));
    let uptime = Event {
        entries: vec![Entry::reward(
            UserId::ANONYMOUS,
            Kudos::new(1),
            Reason::Uptime,
        )],
        ..gift
    };
    assert_eq!(store.record(&uptime).await.unwrap(), Recorded::Now);
}

async fn an_id_with_another_content_is_a_conflict(database: &Database) {
    let store = database.open().await;
    let mut gift = event(vec![Entry::reward(
        UserId::ANONYMOUS,
        Kudos::new(5),
        Reason::Award,
    )]);
    store.record(&gift).await.unwrap();
    gift.entries[0].amount = Kudos::new(6);
    assert_eq!(store.record(&gift).await.unwrap(), Recorded::Conflict);
}

async fn negative_and_empty_events_are_refused(database: &Database) {
    let store = database.open().await;
    let negative = event(vec![Entry::burn(
        UserId::ANONYMOUS,
        Kudos::new(-5),
        Reason::Admin,
    )]);
    assert!(matches!(
        store.record(&negative).await,
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        store.record(&event(vec![])).await,
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        store.balance(user(77)).await,
        Err(Error::NotFound)
    ));
}

async fn escrow_counts_as_earned_when_it_is_freed(database: &Database) {
    let store = database.open().await;
    let taker = account(&store, "taker", 0).await;
    let (mint, held, free) = (
        Account::Mint,
        Account::Escrow(taker),
        Account::Spendable(taker),
    );
    let steps = [
        (mint, held, Reason::Uptime, Kudos::ZERO),
        (held, free, Reason::Promotion, Kudos::new(7)),
    ];
    for (from, to, reason, accumulated) in steps {
        let amount = Kudos::new(7);
        let movement = event(vec![Entry {
            from,
            to,
            amount,
            reason,
        }]);
        store.record(&movement).await.unwrap();
        store.fold(100, NOW).await.unwrap();
        let totals = store.totals(&[taker]).await.unwrap();
        let found = totals
            .get(&taker)
            .map(|totals| totals.kudos(Bucket::Accumulated));
        assert_eq!(found.unwrap_or_default(), accumulated, "{reason:?}");
    }
}

async fn the_fold_moves_balances_and_buckets(database: &Database) {
    let store = database.open().await;
    let giver = account(&store, "giver", 1000).await;
    let taker = account(&store, "taker", 0).await;
    let school = account(&store, "school", 0).await;
    let education = UserChange {
        education: Some(true),
        ..UserChange::default()
    };
    store.update_user(school, &education).await.unwrap();
    store
        .record(&event(vec![transfer(giver, taker, Kudos::new(100))]))
        .await
        .unwrap();
    store
        .record(&event(vec![transfer(giver, school, Kudos::new(40))]))
        .await
        .unwrap();
    let earned = event(vec![
        Entry {
            from: Account::Mint,
            to: Account::Escrow(taker),
            amount: Kudos::new(7),
            reason: Reason::Uptime,
        },
        Entry::burn(giver, Kudos::new(3), Reason::Generation),
    ]);
    store.record(&earned).await.unwrap();
    assert_books_balance(&store).await;
    let folded = store.fold(100, NOW).await.unwrap();
    assert_eq!(
        folded,
        Folded {
            lines: 7,
            activities: 0,
            floors: 0,
            minted: Kudos::new(1007),
            burnt: Kudos::new(3),
        }
    );
    let balance = store.balance(taker).await.unwrap();
    assert_eq!(
        (balance.spendable, balance.escrow),
        (Kudos::new(100), Kudos::new(7))
    );
    assert_eq!(
        (balance.unfolded_credit, balance.unfolded_escrow),
        (Kudos::ZERO, Kudos::ZERO)
    );
    assert_eq!(
        store.balance(giver).await.unwrap().spendable,
        Kudos::new(857)
    );
    let totals = store.totals(&[giver, taker, school]).await.unwrap();
    assert_eq!(totals[&giver].kudos(Bucket::Gifted), Kudos::new(-100));
    assert_eq!(totals[&giver].kudos(Bucket::Donated), Kudos::new(-40));
    assert_eq!(totals[&giver].kudos(Bucket::Admin), Kudos::new(1000));
    assert_eq!(totals[&giver].kudos(Bucket::Accumulated), Kudos::new(-3));
    assert_eq!(totals[&taker].kudos(Bucket::Received), Kudos::new(100));
    assert_eq!(totals[&taker].kudos(Bucket::Accumulated), Kudos::ZERO);
    assert_eq!(totals[&school].kudos(Bucket::Received), Kudos::new(40));
    assert_books_balance(&store).await;
}

async fn a_debit_below_the_floor_is_forgiven(database: &Database) {
    let store = database.open().await;
    let named = store.insert_user(&new_user("named")).await.unwrap();
    let pseudonymous = NewUser {
        subject: id().to_string(),
        ..new_user("pseudonymous")
    };
    let pseudonymous = store.insert_user(&pseudonymous).await.unwrap();
    let waiting = account(&store, "waiting", 1).await;
    let users = [UserId::ANONYMOUS, pseudonymous, named];
    for user in users {
        let price = event(vec![Entry::burn(user, Kudos::new(60), Reason::Activation)]);
        store.record(&price).await.unwrap();
    }
    assert_eq!(store.fold(100, NOW).await.unwrap().floors, 3);
    let mut balances = Vec::new();
    for user in users {
        balances.push(store.balance(user).await.unwrap().spendable);
    }
    assert_eq!(balances, [Kudos::new(-50), Kudos::new(14), Kudos::new(25)]);
    let untouched = store.balance(waiting).await.unwrap();
    assert_eq!(
        untouched.spendable,
        Kudos::new(1),
        "the floor waits for the first debit"
    );
    assert_books_balance(&store).await;
    assert_eq!(store.fold(100, NOW).await.unwrap(), Folded::default());
}

async fn the_fold_counts_what_users_and_workers_did(database: &Database) {
    let store = database.open().await;
    let owner = store.insert_user(&new_user("owner")).await.unwrap();
    let worker = new_worker("w", owner);
    store.insert_worker(&worker).await.unwrap();
    let (request, jobs) = running(&store, 2).await;
    for job in jobs {
        let mut settlement = settlement(request, job, owner);
        settlement.activity.as_mut().unwrap().worker = Some(worker.id);
        store.settle(&settlement).await.unwrap();
    }
    assert_eq!(store.fold(100, NOW).await.unwrap().activities, 2);
    let totals = store.totals(&[owner, UserId::ANONYMOUS]).await.unwrap();
    let record = |user: UserId, record| totals[&user].record(record, WorkKind::Image);
    assert_eq!(record(owner, Record::Fulfillment), 2);
    assert_eq!(record(owner, Record::Contribution), 2000);
    assert_eq!(record(owner, Record::Request), 0);
    assert_eq!(record(UserId::ANONYMOUS, Record::Request), 2);
    assert_eq!(record(UserId::ANONYMOUS, Record::Usage), 1000);
    assert_eq!(
        totals[&owner].record(Record::Fulfillment, WorkKind::Text),
        0
    );
    let worker = store.find_worker(worker.id).await.unwrap().unwrap();
    assert_eq!((worker.fulfilled, worker.things), (2, 2000));
    assert_eq!(worker.kudos_generated, Kudos::new(24));
}

async fn a_fold_takes_bounded_bites(database: &Database) {
    let store = database.open().await;
    for _ in 0..5 {
        account(&store, &id().to_string(), 1).await;
    }
    let mut bites = Vec::new();
    while bites.last() != Some(&0) {
        bites.push(store.fold(2, NOW).await.unwrap().lines);
    }
    assert_eq!(bites, [2, 2, 1, 0]);
}

async fn folds_at_once_count_every_line_once(database: &Database) {
    let (here, there) = (database.open().await, database.open().await);
    let one = account(&here, "one", 0).await;
    for _ in 0..20 {
        let gift = event(vec![Entry::reward(one, Kudos::new(1), Reason::Award)]);
        here.record(&gift).await.unwrap();
    }
    let (a, b, c, d) = tokio::join!(
        here.fold(15, NOW),
        there.fold(15, NOW),
        here.fold(15, NOW),
        there.fold(15, NOW),
    );
    let lines: usize = [a, b, c, d]
        .into_iter()
        .map(|folded| folded.unwrap().lines)
        .sum();
    assert_eq!(lines, 21);
    assert_eq!(here.balance(one).await.unwrap().spendable, Kudos::new(20));
    assert_books_balance(&here).await;
}

fn random_entry(dice: &mut Dice, users: &[UserId]) -> Entry {
    let account = |dice: &mut Dice| {
        let user = users[usize::try_from(dice.roll(users.len() as u64)).unwrap()];
        match dice.roll(4) {
            0 => Account::Mint,
            1 => Account::Escrow(user),
            _ => Account::Spendable(user),
        }
    };
    let reasons = [
        Reason::Generation,
        Reason::Transfer,
        Reason::Promotion,
        Reason::Style,
        Reason::Admin,
    ];
    Entry {
        from: account(dice),
        to: account(dice),
        amount: Kudos::from_milli(dice.amount(200_000)),
        reason: reasons[usize::try_from(dice.roll(5)).unwrap()],
    }
}

async fn the_books_balance_after_random_events(database: &Database) {
    let store = database.open().await;
    let mut dice = Dice(7);
    let mut users = vec![UserId::ANONYMOUS];
    for number in 0..6 {
        users.push(
            store
                .insert_user(&new_user(&format!("u{number}")))
                .await
                .unwrap(),
        );
    }
    let mut recorded: Vec<Event> = Vec::new();
    for _ in 0..200 {
        match dice.roll(8) {
            0 => {
                store
                    .fold(u32::try_from(dice.roll(20) + 1).unwrap(), NOW)
                    .await
                    .unwrap();
            }
            1 if !recorded.is_empty() => {
                let known = &recorded[usize::try_from(dice.roll(recorded.len() as u64)).unwrap()];
                assert_eq!(store.record(known).await.unwrap(), Recorded::Already);
            }
            2 => {
                let (request, jobs) = running(&store, 1).await;
                let owner = users[usize::try_from(dice.roll(7)).unwrap()];
                store
                    .settle(&settlement(request, jobs[0], owner))
                    .await
                    .unwrap();
            }
            3 => {
                store.insert_request(&request(1)).await.unwrap();
            }
            _ => {
                let entries = (0..=dice.roll(3)).map(|_| random_entry(&mut dice, &users));
                let event = event(entries.collect());
                assert_eq!(store.record(&event).await.unwrap(), Recorded::Now);
                recorded.push(event);
            }
        }
        assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    }
    while store.fold(50, NOW).await.unwrap().lines > 0 {}
    assert_books_balance(&store).await;
    for user in users {
        let balance = store.balance(user).await.unwrap();
        assert_eq!(balance.unfolded_credit, Kudos::ZERO);
    }
}

async fn a_balance_that_is_set_may_lie_below_the_floor(database: &Database) {
    let store = database.open().await;
    let id = store.insert_user(&new_user("a")).await.unwrap();
    let set = |entry| Event {
        id: crate::world::id(),
        at: NOW,
        kind: None,
        entries: vec![entry],
    };
    let give = Entry::reward(id, Kudos::new(100), Reason::Reconciliation);
    store.record(&set(give)).await.unwrap();
    store.fold(10, NOW).await.unwrap();
    let take = Entry::burn(id, Kudos::new(95), Reason::Reconciliation);
    store.record(&set(take)).await.unwrap();
    assert_eq!(store.fold(10, NOW).await.unwrap().floors, 0);
    let found = store.find_user(id).await.unwrap().unwrap();
    assert_eq!(found.spendable, Kudos::new(5));
}
