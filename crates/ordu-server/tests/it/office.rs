//! A running server notices what the command line changes in its database.

use ordu_api::WorkerId;
use ordu_store::WorkerChange;
use serde_json::json;

use crate::support::{TestHorde, on_each_database, pop};

/// A horde with one worker that has just popped.
async fn with_worker(url: &str) -> (TestHorde, ordu_client::Horde, WorkerId) {
    let horde = TestHorde::start_with(|config| ordu_server::Config {
        database: url.to_owned(),
        ..config
    })
    .await;
    let owner = horde.user("owner", 100.0).await;
    let client = horde.client(&owner.api_key);
    client.pop_image(&pop("Painter")).await.unwrap();
    let listed = horde.get("/workers").await.body;
    let id = listed[0]["id"].as_str().unwrap().parse().unwrap();
    (horde, client, id)
}

/// What the command line does.
async fn change(horde: &TestHorde, id: WorkerId, change: WorkerChange) {
    let store = horde.server.store();
    store.update_worker(id, &change).await.unwrap();
    let now = horde.clock.now();
    store.note_worker_edit(id, now).await.unwrap();
    horde.server.settle_down().await.unwrap();
}

#[tokio::test]
async fn maintenance_is_noticed_and_ended() {
    on_each_database(async |url| {
        let (horde, client, id) = with_worker(url).await;
        let maintenance = |on, reason: &str| WorkerChange {
            maintenance: Some(on),
            maintenance_message: Some(reason.to_owned()),
            ..WorkerChange::default()
        };
        change(&horde, id, maintenance(true, "dust in the fans")).await;
        let refused = client.pop_image(&pop("Painter")).await.unwrap_err();
        assert!(
            refused.to_string().contains("dust in the fans"),
            "{refused}"
        );
        horde.later(1);
        change(&horde, id, maintenance(false, "")).await;
        client.pop_image(&pop("Painter")).await.unwrap();
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn each_change_is_noticed_once() {
    on_each_database(async |url| {
        let (horde, _, id) = with_worker(url).await;
        let paused = WorkerChange {
            paused: Some(true),
            ..WorkerChange::default()
        };
        change(&horde, id, paused).await;
        let moderator = horde.mint("mod", json!({ "moderator": true })).await;
        let key = Some(moderator.api_key.reveal());
        let path = format!("/workers/{id}");
        let shown = horde.call(reqwest::Method::GET, &path, key, None).await;
        assert_eq!(shown.body["paused"], true);
        // What the API changes after it is not taken back by a second look.
        let body = json!({ "paused": false });
        let put = horde
            .call(reqwest::Method::PUT, &path, key, Some(&body))
            .await;
        assert_eq!(put.status, 200, "{}", put.body);
        horde.server.settle_down().await.unwrap();
        horde.later(60);
        let shown = horde.call(reqwest::Method::GET, &path, key, None).await;
        assert_eq!(shown.body["paused"], false);
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_worker_is_gone() {
    on_each_database(async |url| {
        let (horde, client, id) = with_worker(url).await;
        assert!(horde.server.store().delete_worker(id).await.unwrap());
        let now = horde.clock.now();
        horde
            .server
            .store()
            .note_worker_edit(id, now)
            .await
            .unwrap();
        horde.server.settle_down().await.unwrap();
        assert_eq!(
            horde.get(&format!("/workers/{id}")).await.rc(),
            "WorkerNotFound"
        );
        client.pop_image(&pop("Painter")).await.unwrap();
        let again = horde.get("/workers/name/Painter").await.body;
        assert_ne!(again["id"], json!(id), "it is a new worker then");
        horde.server.stop().await;
    })
    .await;
}
