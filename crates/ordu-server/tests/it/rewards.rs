//! Escrow, trust and monthly grants.

use ordu_api::UserId;
use ordu_api::user::TestUser;
use ordu_core::Kudos;
use ordu_server::Config;
use ordu_store::{Bucket, Record, User, UserChange};
use serde_json::json;

use crate::support::{TestHorde, deliver_all, pop, request};

const DAY: i64 = 24 * 3600;

async fn user(horde: &TestHorde, who: &TestUser) -> User {
    let id = who.user_id.parse().unwrap();
    horde.server.store().find_user(id).await.unwrap().unwrap()
}

/// Lets an owner's worker paint one picture; answers its reward.
async fn paint(horde: &TestHorde, owner: &TestUser, name: &str) -> f64 {
    horde.anonymous().async_image(&request()).await.unwrap();
    let worker = horde.client(&owner.api_key);
    let job = worker.pop_image(&pop(name)).await.unwrap();
    deliver_all(&worker, &job).await[0]
}

/// Folds, trusts, grants, and folds what came of it.
async fn settle(horde: &TestHorde) {
    for _ in 0..2 {
        horde.server.settle_down().await.unwrap();
    }
}

async fn with_threshold(threshold: i64) -> TestHorde {
    TestHorde::start_with(|config| Config {
        trust_threshold: Some(Kudos::new(threshold)),
        ..config
    })
    .await
}

#[tokio::test]
async fn who_earned_enough_for_long_enough_becomes_trusted() {
    let horde = with_threshold(5).await;
    let owner = horde.mint("owner", json!({})).await;
    let mut earned = 0.0;
    for _ in 0..2 {
        earned += paint(&horde, &owner, "w").await;
    }
    settle(&horde).await;
    let young = user(&horde, &owner).await;
    assert!(
        young.escrow > Kudos::new(5) && !young.roles.trusted,
        "{young:?}"
    );

    horde.later(7 * DAY);
    settle(&horde).await;
    let trusted = user(&horde, &owner).await;
    assert!(trusted.roles.trusted);
    assert_eq!(trusted.escrow, Kudos::ZERO);
    assert_eq!(trusted.spendable, Kudos::round(earned));
    settle(&horde).await;
    assert_eq!(user(&horde, &owner).await, trusted, "nothing moves twice");
    let reward = paint(&horde, &owner, "w").await;
    settle(&horde).await;
    let paid = user(&horde, &owner).await.spendable;
    assert_eq!(
        paid,
        Kudos::round(earned + reward),
        "all of it at once from now on"
    );
    let sum = horde.server.store().ledger_sum().await.unwrap();
    assert_eq!(sum, Kudos::ZERO);
}

#[tokio::test]
async fn without_a_threshold_nobody_becomes_trusted() {
    let horde = TestHorde::start().await;
    let owner = horde.mint("owner", json!({})).await;
    paint(&horde, &owner, "w").await;
    horde.later(30 * DAY);
    settle(&horde).await;
    let owner = user(&horde, &owner).await;
    assert!(!owner.roles.trusted && owner.escrow > Kudos::ZERO);
}

#[tokio::test]
async fn escrow_of_the_trusted_is_freed_whenever_they_became_so() {
    let horde = TestHorde::start().await;
    let owner = horde.mint("owner", json!({})).await;
    let reward = paint(&horde, &owner, "w").await;
    settle(&horde).await;
    let change = UserChange {
        trusted: Some(true),
        ..UserChange::default()
    };
    let id: UserId = owner.user_id.parse().unwrap();
    horde.server.store().update_user(id, &change).await.unwrap();
    horde.later(11);
    settle(&horde).await;
    let owner = user(&horde, &owner).await;
    assert_eq!(
        (owner.escrow, owner.spendable),
        (Kudos::ZERO, Kudos::round(reward))
    );
}

#[tokio::test]
async fn monthly_grants_come_on_the_day_once_a_month() {
    let horde = TestHorde::start().await;
    let store = horde.server.store();
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let granted = horde.mint("granted", json!({})).await;
    let change = UserChange {
        monthly_kudos: Some(Kudos::new(500)),
        ..UserChange::default()
    };
    let id: UserId = granted.user_id.parse().unwrap();
    store.update_user(id, &change).await.unwrap();
    let balances = async || {
        settle(&horde).await;
        horde.server.settle_down().await.unwrap();
        let (moderator, granted) = (user(&horde, &moderator).await, user(&horde, &granted).await);
        (
            moderator.spendable.as_f64().round(),
            granted.spendable.as_f64().round(),
        )
    };
    assert_eq!(balances().await, (300_000.0, 500.0), "the first at once");
    assert_eq!(balances().await, (300_000.0, 500.0), "and once");
    // The clock starts on the 15th of January 2027.
    horde.later(31 * DAY - 1);
    assert_eq!(balances().await, (300_000.0, 500.0));
    horde.later(1);
    assert_eq!(balances().await, (600_000.0, 1000.0));
    let stamped = user(&horde, &granted).await.monthly_received.unwrap();
    assert_eq!(stamped, horde.clock.now());
    // Two months overdue: one grant a round, and two rounds in this look.
    horde.later(60 * DAY);
    assert_eq!(balances().await, (1_200_000.0, 2000.0));
    assert_eq!(balances().await, (1_200_000.0, 2000.0));
    let totals = store.totals(&[id]).await.unwrap();
    assert_eq!(totals[&id].kudos(Bucket::Recurring), Kudos::new(2000));
}

#[tokio::test]
async fn the_usage_multiplier_scales_the_statistic_and_not_the_price() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let mut spent = Vec::new();
    for (name, multiplier) in [("plain", 1.0), ("doubled", 2.0)] {
        let asker = horde.user(name, 1000.0).await;
        let id: UserId = asker.user_id.parse().unwrap();
        let change = UserChange {
            usage_multiplier: Some(multiplier),
            ..UserChange::default()
        };
        horde.server.store().update_user(id, &change).await.unwrap();
        let client = horde.client(&asker.api_key);
        client.async_image(&request()).await.unwrap();
        let worker = horde.client(&owner.api_key);
        let job = worker.pop_image(&pop("w")).await.unwrap();
        deliver_all(&worker, &job).await;
        settle(&horde).await;
        let totals = horde.server.store().totals(&[id]).await.unwrap();
        let usage = totals[&id].record(Record::Usage, ordu_api::worker::WorkKind::Image);
        spent.push((user(&horde, &asker).await.spendable, usage));
        assert_eq!(user(&horde, &asker).await.last_active, horde.clock.now());
    }
    assert_eq!(spent[0].0, spent[1].0);
    assert_eq!(spent[0].1 * 2, spent[1].1);
}

#[tokio::test]
async fn a_hold_survives_a_restart_and_ends_with_its_request() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let asker = horde.user("asker", 50.0).await;
    let mut dear = request();
    dear.params.steps = Some(50);
    let id = horde
        .client(&asker.api_key)
        .async_image(&dear)
        .await
        .unwrap()
        .id;
    horde.server.stop().await;

    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let client = horde.client(&asker.api_key);
    assert!(
        client.async_image(&dear).await.is_err(),
        "the first holds what is there"
    );
    client.cancel(id).await.unwrap();
    client.async_image(&dear).await.unwrap();
}
