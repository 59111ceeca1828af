//! Users, workers and models as they are shown.

use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, deliver_all, pop, request};

async fn get_as(horde: &TestHorde, key: &ordu_api::ApiKey, path: &str) -> Answer {
    let url = format!("{}/api/v2{path}", horde.url);
    Answer::read(horde.http.get(url).header("apikey", key.reveal())).await
}

#[tokio::test]
async fn private_fields_stay_private() {
    let horde = TestHorde::start().await;
    let user = horde.user("user", 50.0).await;
    let other = horde.user("other", 0.0).await;
    let path = format!("/users/{}", user.user_id);
    let has = |view: &Value, field: &str| view.get(field).is_some();
    let own = get_as(&horde, &user.api_key, &path).await.body;
    let foreign = get_as(&horde, &other.api_key, &path).await.body;
    let public = horde.get(&path).await.body;
    for private in ["sharedkey_ids", "vpn", "special", "worker_ids"] {
        assert!(has(&own, private), "{private}");
        assert!(
            !has(&foreign, private) && !has(&public, private),
            "{private}"
        );
    }
    for moderators in [
        "evaluating_kudos",
        "suspicious",
        "admin_comment",
        "monthly_kudos",
    ] {
        assert!(
            !has(&own, moderators) && !has(&public, moderators),
            "{moderators}"
        );
    }
    assert_eq!(own["username"], format!("user#{}", user.user_id));
    assert_eq!(
        get_as(&horde, &user.api_key, "/find_user").await.body["id"],
        own["id"]
    );
    let nobody = ordu_api::ApiKey::new("nobody has this one");
    assert_eq!(get_as(&horde, &nobody, "/find_user").await.status, 404);
    assert_eq!(horde.get("/find_user").await.status, 401);
}

#[tokio::test]
async fn a_worker_and_its_model_are_listed_while_it_is_online() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    horde.anonymous().async_image(&request()).await.unwrap();
    let job = worker.pop_image(&pop("w")).await.unwrap();
    horde.later(10);
    deliver_all(&worker, &job).await;
    let listed = horde.get("/workers").await.body;
    assert_eq!(listed[0]["name"], "w");
    assert_eq!(listed[0]["type"], "image");
    assert_eq!(listed[0]["team"], json!({ "id": null, "name": null }));
    assert_eq!(listed[0]["requests_fulfilled"], 1);
    assert_eq!(listed[0]["performance"], "0.8 megapixelsteps per second");
    assert_eq!(listed[0]["megapixelsteps_generated"], 8);
    assert!(listed[0].get("owner").is_none());
    let models = horde.get("/status/models?type=image").await.body;
    assert_eq!(
        (&models[0]["name"], &models[0]["count"]),
        (&json!("ordu-tiny"), &json!(1))
    );
    assert_eq!(
        horde.get("/status/models?model_state=none").await.status,
        400
    );
    assert_eq!(
        horde.get("/status/models?min_count=2").await.body,
        json!([])
    );
    let named = horde.get("/workers/name/w").await.body;
    let id = named["id"].as_str().unwrap();
    assert_eq!(
        horde.get(&format!("/workers/{id}")).await.body["online"],
        true
    );
    horde.later(301);
    assert_eq!(horde.get("/workers").await.body, json!([]));
    assert_eq!(
        horde.get(&format!("/workers/{id}")).await.body["online"],
        false
    );
}

#[tokio::test]
async fn raid_mode_is_for_moderators() {
    let horde = TestHorde::start().await;
    let user = horde.user("user", 0.0).await;
    let public = horde.get("/status/modes").await.body;
    assert_eq!(
        public,
        json!({ "maintenance_mode": false, "invite_only_mode": false })
    );
    assert_eq!(
        get_as(&horde, &user.api_key, "/status/modes").await.rc(),
        "NotModerator"
    );
    let body = json!({ "username": "mod", "oauth_id": "mod" });
    let moderator = horde.post("/dev/test-user", None, &body).await.body;
    let key = ordu_api::ApiKey::new(moderator["api_key"].as_str().unwrap());
    assert_eq!(
        get_as(&horde, &key, "/status/modes").await.body["raid_mode"],
        false
    );
}

#[tokio::test]
async fn test_users_are_minted_only_when_that_is_switched_on() {
    let horde = TestHorde::start_with(|config| ordu_server::Config {
        test_users: false,
        ..config
    })
    .await;
    assert_eq!(
        horde.post("/dev/test-user", None, &json!({})).await.status,
        404
    );
    let horde = TestHorde::start().await;
    let body = json!({ "username": "a", "oauth_id": "a", "kudos": 5 });
    assert_eq!(horde.post("/dev/test-user", None, &body).await.status, 201);
    let again = horde.post("/dev/test-user", None, &body).await;
    assert_eq!((again.status, &again.body["kudos"]), (200, &json!(5.0)));
    for wrong in [
        json!({ "moderator": 1 }),
        json!({ "kudos": -1 }),
        json!([]),
        json!({ "username": 5 }),
    ] {
        assert_eq!(
            horde.post("/dev/test-user", None, &wrong).await.status,
            400,
            "{wrong}"
        );
    }
}
