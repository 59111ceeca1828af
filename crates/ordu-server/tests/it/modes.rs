//! The switches of the whole horde, and the models that can be looked up.

use ordu_api::user::TestUser;
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, deliver_all, on_each_database, pop, request};

/// A horde with an admin, who is no moderator.
async fn start(database: &str) -> (TestHorde, TestUser) {
    let horde = TestHorde::start_with(|config| Config {
        admins: vec![ordu_api::UserId::new(1).unwrap()],
        database: database.to_owned(),
        ..config
    })
    .await;
    let admin = horde.mint("admin", json!({})).await;
    (horde, admin)
}

async fn switch(horde: &TestHorde, by: &TestUser, modes: Value) -> Answer {
    let key = Some(by.api_key.reveal());
    horde
        .call(Method::PUT, "/status/modes", key, Some(&modes))
        .await
}

#[tokio::test]
async fn maintenance_aborts_what_waits_and_lets_end_what_runs() {
    on_each_database(async |database| {
        let (horde, admin) = start(database).await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let asked = horde.anonymous();
        let running = asked.async_image(&request()).await.unwrap().id;
        let job = worker.pop_image(&pop("w")).await.unwrap();
        let waiting = asked.async_image(&request()).await.unwrap().id;
        let answer = switch(&horde, &admin, json!({ "maintenance_mode": true })).await;
        assert_eq!(answer.body, json!({ "maintenance_mode": true }));
        let check = async |id| horde.get(&format!("/generate/check/{id}")).await.body;
        // It goes on behind the answer.
        while check(waiting).await["done"] == false {
            tokio::task::yield_now().await;
        }
        assert_eq!(check(waiting).await["waiting"], 0);
        let body = serde_json::to_value(request()).unwrap();
        let anonymous = ordu_api::ApiKey::anonymous();
        let refused = horde.post("/generate/async", Some(&anonymous), &body).await;
        assert_eq!((refused.status, refused.rc()), (400, "MaintenanceMode"));
        assert_eq!(check(running).await["processing"], 1);
        deliver_all(&worker, &job).await;
        assert_eq!(check(running).await["finished"], 1);
        switch(&horde, &admin, json!({ "maintenance_mode": false })).await;
        asked.async_image(&request()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_body_without_modes_switches_nothing() {
    let (horde, admin) = start("sqlite::memory:").await;
    let key = Some(admin.api_key.reveal());
    for body in [json!({}), json!([]), json!("x"), Value::Null] {
        let answer = horde
            .call(Method::PUT, "/status/modes", key, Some(&body))
            .await;
        assert_eq!(
            (answer.status, answer.rc()),
            (400, "NoHordeModSelected"),
            "{body}"
        );
    }
    let answer = switch(&horde, &admin, json!({ "raid_mode": "x" })).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["errors"]["raid_mode"].is_string());
    let seen = horde
        .call(Method::GET, "/status/modes", key, None)
        .await
        .body;
    let off = json!({ "maintenance_mode": false, "invite_only_mode": false, "raid_mode": false });
    assert_eq!(seen, off);
    let other = horde.user("other", 0.0).await;
    let refused = switch(&horde, &other, json!({ "maintenance_mode": true })).await;
    assert_eq!((refused.status, refused.rc()), (403, "NotAdmin"));
    let refused = switch(&horde, &other, json!({ "raid_mode": true })).await;
    assert_eq!((refused.status, refused.rc()), (403, "NotModerator"));
}

#[tokio::test]
async fn known_and_special_models_can_be_looked_up() {
    let (horde, admin) = start("sqlite::memory:").await;
    let owner = horde.user("owner", 0.0).await;
    let roles = json!({ "special": true, "customizer": true });
    let path = format!("/users/{}", owner.user_id);
    horde
        .call(
            Method::PUT,
            &path,
            Some(admin.api_key.reveal()),
            Some(&roles),
        )
        .await;
    let special = format!("horde_special::{}", owner.alias);
    let mut pop = pop("w");
    pop.models = vec!["custom".to_owned(), "ordu-tiny".to_owned(), special.clone()];
    horde.client(&owner.api_key).pop_image(&pop).await.unwrap();
    let one = async |name: &str| {
        let name = name.replace('#', "%23");
        horde.get(&format!("/status/models/{name}")).await.body
    };
    assert_eq!(one("ordu-tiny").await[0]["count"], 1);
    assert_eq!(one(&special).await[0]["count"], 1);
    assert_eq!(one("custom").await, json!([]));
    let known = one("stable_diffusion").await;
    assert_eq!(
        (&known[0]["count"], &known[0]["eta"]),
        (&json!(0), &json!(0))
    );
    let list = async |query: &str| {
        let list = horde.get(&format!("/status/models{query}")).await.body;
        let names = list.as_array().unwrap().iter();
        names
            .map(|model| model["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["custom", "ordu-tiny"]);
    assert_eq!(list("?model_state=custom&min_count=-1").await, ["custom"]);
    assert!(list("?max_count=-1").await.is_empty());
}
