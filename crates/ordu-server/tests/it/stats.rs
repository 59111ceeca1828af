//! What the horde made, counted, and what it says about itself.

use ordu_server::Config;
use serde_json::{Value, json};

use crate::support::{
    TestHorde, deliver_all, delivered, on_each_database, pop, request, text_pop, text_request,
    written,
};

/// What a path answers once everything that happens by itself has happened.
async fn settled(horde: &TestHorde, path: &str) -> Value {
    horde.server.settle_down().await.unwrap();
    horde.later(30);
    let answer = horde.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

#[tokio::test]
async fn what_was_made_is_counted_by_kind_and_model() {
    on_each_database(async |database| {
        let database = database.to_owned();
        let horde = TestHorde::start_with(|config| Config { database, ..config }).await;
        let owner = horde.user("owner", 10_000.0).await;
        let worker = horde.client(&owner.api_key);
        let nothing = json!({ "images": 0, "ps": 0 });
        let before = settled(&horde, "/stats/img/totals").await;
        assert_eq!(before["total"], nothing);
        assert_eq!(before["minute"], nothing);

        for _ in 0..2 {
            worker.async_image(&request()).await.unwrap();
            let job = worker.pop_image(&pop("w")).await.unwrap();
            deliver_all(&worker, &job).await;
        }
        worker.async_text(&text_request()).await.unwrap();
        let job = worker.pop_text(&text_pop("scribe")).await.unwrap();
        worker.submit_text(&written(job.ids[0])).await.unwrap();

        let images = settled(&horde, "/stats/img/totals").await;
        let two = json!({ "images": 2, "ps": 2 * 512 * 512 * 30 });
        for period in ["minute", "hour", "day", "month", "total"] {
            assert_eq!(images[period], two, "{period}");
        }
        let models = settled(&horde, "/stats/img/models").await;
        for period in ["day", "month", "total"] {
            assert_eq!(models[period], json!({ "ordu-tiny": 2 }), "{period}");
        }
        let custom = settled(&horde, "/stats/img/models?model_state=custom").await;
        assert_eq!(custom["total"], json!({}));
        let texts = settled(&horde, "/stats/text/totals").await;
        assert_eq!(texts["hour"]["requests"], 1);
        assert_eq!(texts["minute"]["requests"], 0, "a minute is over");
        let models = settled(&horde, "/stats/text/models").await;
        assert_eq!(models["total"].as_object().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn counts_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    horde.anonymous().async_image(&request()).await.unwrap();
    let job = worker.pop_image(&pop("w")).await.unwrap();
    deliver_all(&worker, &job).await;
    // Not folded before the end.
    horde.server.stop().await;
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let images = settled(&horde, "/stats/img/totals").await;
    assert_eq!(images["total"]["images"], 1);
}

#[tokio::test]
async fn jobs_that_ended_are_archived_without_their_prompt() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    for _ in 0..2 {
        horde.anonymous().async_image(&request()).await.unwrap();
    }
    let job = worker.pop_image(&pop("w")).await.unwrap();
    deliver_all(&worker, &job).await;
    let job = worker.pop_image(&pop("w")).await.unwrap();
    let mut fault = delivered(job.id.unwrap());
    fault.state = ordu_api::image::SubmitState::Faulted;
    worker.submit_image(&fault).await.unwrap();
    horde.server.settle_down().await.unwrap();
    let kind = ordu_api::worker::WorkKind::Image;
    let archived = horde.server.store().archived(kind).await.unwrap();
    assert_eq!((archived["ok"], archived["faulted"]), (1, 1));
}

#[tokio::test]
async fn news_are_the_operators_document() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("news.json");
    let news = Some(file.clone());
    let horde = TestHorde::start_with(|config| Config { news, ..config }).await;
    let read = async || horde.get("/status/news").await.body;
    assert_eq!(read().await, json!([]), "there is none");
    let pieces = json!([
        { "date_published": "2026-01-02", "title": "old" },
        { "date_published": "2026-03-04", "newspiece": "**new**", "tags": ["a"], "extra": 1 },
    ]);
    std::fs::write(&file, pieces.to_string()).unwrap();
    let shown = read().await;
    let new = json!({
        "date_published": "2026-03-04", "newspiece": "**new**", "importance": null,
        "tags": ["a"], "title": null, "more_info_urls": null,
    });
    assert_eq!((&shown[0], &shown[1]["title"]), (&new, &json!("old")));
    std::fs::write(&file, "not json").unwrap();
    assert_eq!(read().await, json!([]));
}
