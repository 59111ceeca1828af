//! Accounts from one place.

use ordu_core::Timestamp;
use ordu_store::{Allowance, NewUser, Registered};

use crate::database::{Database, NOW};
use crate::world::{new_user, user};

on_both!(
    a_place_makes_so_many_accounts,
    accounts_made_at_once_are_counted_too,
);

fn allowance(place: &str, since: i64) -> Allowance {
    Allowance {
        place: place.to_owned(),
        since: Timestamp(NOW.0 + since),
        most: 2,
    }
}

fn at(name: &str, millis: i64) -> NewUser {
    NewUser {
        created: Timestamp(NOW.0 + millis),
        ..new_user(name)
    }
}

async fn a_place_makes_so_many_accounts(database: &Database) {
    let store = database.open().await;
    let here = allowance("here", -10);
    let made = async |new: NewUser, allowance: &Allowance| {
        store.register_user(&new, allowance).await.unwrap()
    };
    assert_eq!(made(at("a", 0), &here).await, Registered::Account(user(1)));
    assert_eq!(made(at("b", 5), &here).await, Registered::Account(user(2)));
    assert_eq!(made(at("c", 6), &here).await, Registered::TooMany(NOW));
    assert!(
        store
            .find_user_by_subject(&new_user("c").subject)
            .await
            .unwrap()
            .is_none()
    );
    let there = allowance("there", -10);
    assert_eq!(made(at("d", 6), &there).await, Registered::Account(user(3)));
    let later = allowance("here", 0);
    assert_eq!(
        made(at("e", 10), &later).await,
        Registered::Account(user(4))
    );
    assert_eq!(
        store
            .delete_registrations(Timestamp(NOW.0 + 5))
            .await
            .unwrap(),
        2
    );
    assert_eq!(made(at("f", 11), &here).await, Registered::Account(user(5)));
}

async fn accounts_made_at_once_are_counted_too(database: &Database) {
    let store = database.open().await;
    let here = allowance("here", -10);
    let users = ["a", "b", "c", "d"].map(|name| at(name, 0));
    let made = tokio::join!(
        store.register_user(&users[0], &here),
        store.register_user(&users[1], &here),
        store.register_user(&users[2], &here),
        store.register_user(&users[3], &here),
    );
    let all = [made.0, made.1, made.2, made.3].map(Result::unwrap);
    let accounts = all
        .iter()
        .filter(|made| matches!(made, Registered::Account(_)));
    assert_eq!(accounts.count(), 2, "{all:?}");
}
