//! Jobs that workers report as illegal.

use ordu_core::{Millis, Timestamp};
use ordu_server::GuardConfig;
use ordu_store::ProblemJob;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Caller, friend, id_of, moderator, start, stranger};
use crate::support::TestHorde;

/// Asks, and has the job reported; answers the request.
async fn reported(asker: &Caller<'_>, worker: &Caller<'_>) -> String {
    let request = asker.ask("a bad thing").await.body["id"].clone();
    let job = worker.pop("w").await.body["id"].clone();
    let remarks = json!([{ "type": "censorship", "value": "csam" }]);
    let answer = worker
        .submit(&job, json!({ "state": "csam", "gen_metadata": remarks }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    request.as_str().unwrap().to_owned()
}

async fn notices(moderator: &Caller<'_>) -> Vec<Value> {
    let notices = moderator.get("/operations/notices?kind=problem-jobs").await;
    notices.body.as_array().unwrap().clone()
}

/// Reports of the past, so many, of an account or from an address.
async fn past(horde: &TestHorde, many: usize, owner: ordu_api::UserId, address: &str) {
    for _ in 0..many {
        let problem = ProblemJob {
            job: ordu_api::JobId::from_uuid(Uuid::new_v4()),
            owner,
            proxied_account: None,
            address: Some(address.to_owned()),
            worker: ordu_api::WorkerId::from_uuid(Uuid::new_v4()),
            at: Timestamp(horde.clock.now().0) - Millis::from_minutes(5),
        };
        let store = horde.server.store();
        store.insert_problem_job(&problem).await.unwrap();
    }
}

#[tokio::test]
async fn a_reported_job_is_censored_and_costs_next_to_nothing() {
    let horde = start(GuardConfig::default()).await;
    let (asker, owner) = (
        stranger(&horde, "asker").await,
        friend(&horde, "owner").await,
    );
    let request = reported(&asker, &owner).await;
    let status = asker.get(&format!("/generate/status/{request}")).await.body;
    assert_eq!(status["generations"][0]["censored"], true);
    assert_eq!(status["done"], true);
    assert_eq!(
        status["kudos"], 4.0,
        "the activation, and the burn of nothing"
    );
    let store = horde.server.store();
    let (user, ever) = (id_of(&asker).await, Timestamp(0));
    assert_eq!(store.count_problems_of(user, None, ever).await.unwrap(), 1);
    let from = store
        .count_problems_from("203.0.113.1", ever)
        .await
        .unwrap();
    assert_eq!(from, 1);
}

#[tokio::test]
async fn moderators_are_told_once_in_a_window() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let (asker, owner) = (
        stranger(&horde, "asker").await,
        friend(&horde, "owner").await,
    );
    let user = id_of(&asker).await;
    past(&horde, 49, user, "203.0.113.99").await;
    reported(&asker, &owner).await;
    assert!(
        notices(&moderator).await.is_empty(),
        "50 in an hour are no notice"
    );
    for _ in 0..3 {
        reported(&asker, &owner).await;
    }
    let told = notices(&moderator).await;
    assert_eq!(told.len(), 1);
    let message = told[0]["message"].as_str().unwrap();
    assert!(message.contains(&format!("user {user}")) && message.contains("203.0.113.1"));
    assert_eq!(told[0]["prompt"], "a bad thing");

    horde.later(3_601);
    reported(&asker, &owner).await;
    assert_eq!(notices(&moderator).await.len(), 1);
    past(&horde, 50, user, "203.0.113.99").await;
    reported(&asker, &owner).await;
    assert_eq!(notices(&moderator).await.len(), 2);
}

#[tokio::test]
async fn the_anonymous_account_is_counted_by_address() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let owner = friend(&horde, "owner").await;
    let anonymous = Caller::new(&horde, &ordu_api::ApiKey::anonymous());
    past(&horde, 60, ordu_api::UserId::ANONYMOUS, "198.51.100.1").await;
    reported(&anonymous, &owner).await;
    assert!(
        notices(&moderator).await.is_empty(),
        "everybody else's reports do not count"
    );
    let anonymous = anonymous.from("2001:db8:7:7:1::1");
    past(&horde, 50, ordu_api::UserId::ANONYMOUS, "2001:db8:7:7::/64").await;
    reported(&anonymous, &owner).await;
    let told = notices(&moderator).await;
    assert_eq!(told.len(), 1);
    let message = told[0]["message"].as_str().unwrap();
    assert!(message.contains("address 2001:db8:7:7::/64"), "{message}");
}

#[tokio::test]
async fn a_job_that_is_only_nsfw_is_not_recorded() {
    let horde = start(GuardConfig::default()).await;
    let (asker, owner) = (
        stranger(&horde, "asker").await,
        friend(&horde, "owner").await,
    );
    asker.ask("a cat").await;
    let job = owner.pop("w").await.body["id"].clone();
    let remarks = json!([{ "type": "censorship", "value": "nsfw" }]);
    owner.submit(&job, json!({ "gen_metadata": remarks })).await;
    let user = id_of(&asker).await;
    let store = horde.server.store();
    let count = store.count_problems_of(user, None, Timestamp(0)).await;
    assert_eq!(count.unwrap(), 0);
}
