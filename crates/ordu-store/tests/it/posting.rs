//! The ledger as one account sees it.

use ordu_api::UserId;
use ordu_core::ledger::{Account, Entry, Event, Reason};
use ordu_core::{Kudos, Millis, Timestamp};
use ordu_store::{Posting, Store};

use crate::database::{Database, NOW};
use crate::world::{id, new_user};

on_both!(
    an_account_sees_its_movements_newest_first,
    pages_leave_nothing_out_and_show_nothing_twice,
    who_shares_an_account_shares_no_history,
);

async fn record(store: &Store, at: Timestamp, entries: Vec<Entry>) {
    let event = Event {
        id: id(),
        at,
        kind: None,
        entries,
    };
    store.record(&event).await.unwrap();
}

fn amounts(postings: &[Posting]) -> Vec<i64> {
    let amounts = postings.iter().map(|posting| posting.amount.milli());
    amounts.collect()
}

async fn an_account_sees_its_movements_newest_first(database: &Database) {
    let store = database.open().await;
    let mine = store.insert_user(&new_user("mine")).await.unwrap();
    let other = store.insert_user(&new_user("other")).await.unwrap();
    let later = |millis| NOW + Millis(millis);
    let reward = |user, kudos| Entry::reward(user, Kudos::from_milli(kudos), Reason::Generation);
    let escrow = |from, to, reason| Entry {
        from,
        to,
        amount: Kudos::from_milli(3),
        reason,
    };
    record(&store, NOW, vec![reward(mine, 1_000_000)]).await;
    record(&store, later(1), vec![reward(other, 2)]).await;
    let (mint, held) = (Account::Mint, Account::Escrow(mine));
    record(
        &store,
        later(2),
        vec![escrow(mint, held, Reason::Generation)],
    )
    .await;
    let freed = escrow(held, Account::Spendable(mine), Reason::Promotion);
    record(&store, later(3), vec![freed]).await;
    let gift = Entry {
        from: Account::Spendable(mine),
        to: Account::Spendable(other),
        amount: Kudos::from_milli(4),
        reason: Reason::Transfer,
    };
    record(&store, later(4), vec![gift.clone()]).await;
    store.fold(100, NOW).await.unwrap();
    record(
        &store,
        later(5),
        vec![Entry::burn(mine, Kudos::from_milli(5), Reason::Admin)],
    )
    .await;
    let all = store.list_postings(mine, None, 10).await.unwrap();
    assert_eq!(amounts(&all), [5, 4, 3, 3, 1_000_000], "folded and not");
    assert_eq!(all[2].mark.reason, "promotion");
    assert_eq!((all[1].from, all[1].to), (gift.from, gift.to));
    let theirs = store.list_postings(other, None, 10).await.unwrap();
    assert_eq!(amounts(&theirs), [4, 2]);
}

async fn pages_leave_nothing_out_and_show_nothing_twice(database: &Database) {
    let store = database.open().await;
    let mine = store.insert_user(&new_user("mine")).await.unwrap();
    // Several at the same time, several in the same event.
    for number in 0..6 {
        let at = NOW + Millis(number / 3);
        let entry = |kudos| Entry::reward(mine, Kudos::from_milli(kudos), Reason::Award);
        record(&store, at, vec![entry(2 * number), entry(2 * number + 1)]).await;
    }
    let whole = store.list_postings(mine, None, 100).await.unwrap();
    assert_eq!(whole.len(), 12);
    let mut paged = Vec::new();
    let mut mark = None;
    loop {
        let page = store.list_postings(mine, mark.as_ref(), 5).await.unwrap();
        let Some(last) = page.last() else {
            break;
        };
        mark = Some(last.mark.clone());
        paged.extend(page);
    }
    assert_eq!(paged, whole);
}

async fn who_shares_an_account_shares_no_history(database: &Database) {
    let store = database.open().await;
    let reward = Entry::reward(UserId::ANONYMOUS, Kudos::new(5), Reason::Award);
    record(&store, NOW, vec![reward]).await;
    let seen = store
        .list_postings(UserId::ANONYMOUS, None, 10)
        .await
        .unwrap();
    assert_eq!(seen, []);
}
