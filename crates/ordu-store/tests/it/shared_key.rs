//! Shared keys.

use ordu_api::{SharedKeyId, UserId};
use ordu_core::shared_key::Terms;
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Error, NewRequest, NewSharedKey, SharedKeyChange, Store};

use crate::database::{Database, NOW};
use crate::world::{assignment, id, new_user, request, settlement, user};

on_both!(
    a_key_comes_back_as_it_was_made,
    an_owner_has_so_many_keys,
    activation_and_results_are_charged_to_the_key,
    a_settlement_that_lost_charges_nothing,
    a_new_budget_replaces_what_is_left,
    a_limit_can_be_taken_away,
    a_deleted_key_takes_its_requests_along,
    wiping_a_user_deletes_its_keys,
    what_somebody_else_pays_is_not_charged,
);

fn new_key(owner: UserId, budget: Option<i64>) -> NewSharedKey {
    NewSharedKey {
        id: SharedKeyId::from_uuid(id()),
        owner,
        name: Some("a key".to_owned()),
        terms: Terms {
            budget: budget.map(Kudos::new),
            expires: Some(NOW),
            max_image_pixels: Some(4_194_304),
            max_image_steps: Some(0),
            max_text_tokens: None,
        },
        created: NOW,
    }
}

/// A key of the first user.
async fn made(store: &Store, budget: Option<i64>) -> SharedKeyId {
    let owner = store.insert_user(&new_user("owner")).await.unwrap();
    let key = new_key(owner, budget);
    assert!(store.insert_shared_key(&key, 9).await.unwrap());
    key.id
}

fn through(key: SharedKeyId) -> NewRequest {
    NewRequest {
        owner: user(1),
        shared_key: Some(key),
        consumed: Kudos::new(3),
        ..request(1)
    }
}

/// Budget and sum, as they read.
async fn tab(store: &Store, key: SharedKeyId) -> (Option<Kudos>, Kudos) {
    let key = store.find_shared_key(key).await.unwrap().unwrap();
    (key.terms.budget, key.utilized)
}

fn kudos(budget: i64, utilized: i64) -> (Option<Kudos>, Kudos) {
    (Some(Kudos::new(budget)), Kudos::new(utilized))
}

async fn a_key_comes_back_as_it_was_made(database: &Database) {
    let store = database.open().await;
    let key = new_key(user(7), Some(5000));
    assert!(store.insert_shared_key(&key, 1).await.unwrap());
    let found = store.find_shared_key(key.id).await.unwrap().unwrap();
    assert_eq!((found.id, found.owner), (key.id, user(7)));
    assert_eq!((found.name, found.terms), (key.name, key.terms));
    assert_eq!((found.utilized, found.attached), (Kudos::ZERO, false));
    let unknown = SharedKeyId::from_uuid(id());
    assert_eq!(store.find_shared_key(unknown).await.unwrap(), None);
    let change = SharedKeyChange::default();
    let missing = store.update_shared_key(unknown, &change).await;
    assert!(matches!(missing, Err(Error::NotFound)));
    let missing = store.delete_shared_key(unknown).await;
    assert!(matches!(missing, Err(Error::NotFound)));
}

async fn an_owner_has_so_many_keys(database: &Database) {
    let store = database.open().await;
    let keys: Vec<_> = (0..3).map(|_| new_key(user(7), None)).collect();
    assert!(store.insert_shared_key(&keys[0], 2).await.unwrap());
    assert!(store.insert_shared_key(&keys[1], 2).await.unwrap());
    assert!(!store.insert_shared_key(&keys[2], 2).await.unwrap());
    let other = new_key(user(8), None);
    assert!(store.insert_shared_key(&other, 2).await.unwrap());
    let mut ids = vec![keys[0].id, keys[1].id];
    ids.sort();
    assert_eq!(store.list_shared_keys_of(user(7)).await.unwrap(), ids);
}

async fn activation_and_results_are_charged_to_the_key(database: &Database) {
    let store = database.open().await;
    let key = made(&store, Some(10)).await;
    let request = through(key);
    store.insert_request(&request).await.unwrap();
    assert_eq!(tab(&store, key).await, kudos(7, 3));
    let assigned = assignment(request.id, 0..1);
    store.assign(&assigned).await.unwrap();
    let mut settled = settlement(request.id, assigned.jobs[0].id, user(7));
    settled.consumed = Kudos::new(9);
    store.settle(&settled).await.unwrap();
    assert_eq!(tab(&store, key).await, kudos(0, 12));
    store.fold(100, NOW).await.unwrap();
    assert_eq!(tab(&store, key).await, kudos(0, 12), "folded");
    store.insert_request(&through(key)).await.unwrap();
    store.fold(100, NOW).await.unwrap();
    assert_eq!(
        tab(&store, key).await,
        kudos(0, 12),
        "an empty key counts nothing"
    );
}

async fn a_settlement_that_lost_charges_nothing(database: &Database) {
    let store = database.open().await;
    let key = made(&store, None).await;
    let request = through(key);
    store.insert_request(&request).await.unwrap();
    let assigned = assignment(request.id, 0..1);
    store.assign(&assigned).await.unwrap();
    let mut settled = settlement(request.id, assigned.jobs[0].id, user(7));
    settled.consumed = Kudos::new(9);
    let (first, second) = tokio::join!(store.settle(&settled), store.settle(&settled));
    assert_ne!(first.unwrap(), second.unwrap());
    store.fold(100, NOW).await.unwrap();
    assert_eq!(tab(&store, key).await, (None, Kudos::new(12)));
}

async fn a_new_budget_replaces_what_is_left(database: &Database) {
    let store = database.open().await;
    let key = made(&store, Some(10)).await;
    store.insert_request(&through(key)).await.unwrap();
    let change = SharedKeyChange {
        budget: Some(Some(Kudos::new(100))),
        name: Some("other".to_owned()),
        ..SharedKeyChange::default()
    };
    store.update_shared_key(key, &change).await.unwrap();
    assert_eq!(tab(&store, key).await, kudos(100, 3));
    store.fold(100, NOW).await.unwrap();
    assert_eq!(
        tab(&store, key).await,
        kudos(100, 3),
        "nothing is charged twice"
    );
    let found = store.find_shared_key(key).await.unwrap().unwrap();
    assert_eq!(found.name.as_deref(), Some("other"));
    assert_eq!(found.terms.expires, Some(NOW), "what is not named stays");
}

async fn a_limit_can_be_taken_away(database: &Database) {
    let store = database.open().await;
    let key = made(&store, Some(10)).await;
    let change = SharedKeyChange {
        budget: Some(None),
        expires: Some(None),
        max_image_pixels: Some(None),
        max_image_steps: Some(Some(7)),
        max_text_tokens: Some(Some(8)),
        ..SharedKeyChange::default()
    };
    store.update_shared_key(key, &change).await.unwrap();
    let found = store.find_shared_key(key).await.unwrap().unwrap();
    let wanted = Terms {
        max_image_steps: Some(7),
        max_text_tokens: Some(8),
        ..Terms::default()
    };
    assert_eq!(found.terms, wanted);
}

async fn a_deleted_key_takes_its_requests_along(database: &Database) {
    let store = database.open().await;
    let key = made(&store, Some(100)).await;
    let (first, second, other) = (through(key), through(key), request(1));
    for request in [&first, &second, &other] {
        store.insert_request(request).await.unwrap();
    }
    let assigned = assignment(first.id, 0..1);
    store.assign(&assigned).await.unwrap();
    let mut deleted = store.delete_shared_key(key).await.unwrap();
    deleted.sort();
    let mut wanted = vec![first.id, second.id];
    wanted.sort();
    assert_eq!(deleted, wanted);
    assert_eq!(store.list_live().await.unwrap(), [other.id]);
    assert_eq!(store.find_job(assigned.jobs[0].id).await.unwrap(), None);
    assert_eq!(store.find_shared_key(key).await.unwrap(), None);
    store.fold(100, Timestamp(NOW.0 + 1)).await.unwrap();
}

async fn wiping_a_user_deletes_its_keys(database: &Database) {
    let store = database.open().await;
    let key = made(&store, Some(100)).await;
    let owner = store.find_shared_key(key).await.unwrap().unwrap().owner;
    store.wipe_user(owner).await.unwrap();
    assert_eq!(store.find_shared_key(key).await.unwrap(), None);
}

async fn what_somebody_else_pays_is_not_charged(database: &Database) {
    let store = database.open().await;
    let key = made(&store, Some(100)).await;
    let request = NewRequest {
        owner: UserId::ANONYMOUS,
        ..through(key)
    };
    store.insert_request(&request).await.unwrap();
    let assigned = assignment(request.id, 0..1);
    store.assign(&assigned).await.unwrap();
    let settled = settlement(request.id, assigned.jobs[0].id, user(7));
    store.settle(&settled).await.unwrap();
    assert_eq!(tab(&store, key).await, kudos(100, 0));
    let deleted = store.delete_shared_key(key).await.unwrap();
    assert_eq!(deleted, [request.id], "it goes with the key all the same");
}
