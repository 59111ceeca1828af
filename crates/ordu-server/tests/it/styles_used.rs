//! Styles made over HTTP as requests use them: changed, paid for by a key, left behind.

use reqwest::Method;
use serde_json::json;

use crate::studio::{ANONYMOUS, Studio, image_style, in_each_studio, outcome};
use crate::support::pop;

/// The worked example of `community.md` § 8.5.
#[tokio::test]
async fn a_worker_gets_what_the_style_makes_of_a_request() {
    in_each_studio(async |studio| {
        let params = json!({ "width": 1024, "height": 512, "sampler_name": "k_euler_a" });
        let prompt = "{p}, impasto impressionism###no blur, {np}";
        let more = json!({ "prompt": prompt, "params": params });
        let id = studio.image(&studio.owner, "impasto", more).await;
        let asked = json!({
            "prompt": "robots###organic", "models": ["something else"],
            "params": { "width": 1024, "height": 1024, "sampler_name": "k_euler" },
        });
        let key = studio.newcomer.api_key.reveal();
        let answer = studio.ask(key, "impasto", asked).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let worker = studio.horde.client(&studio.other.api_key);
        let job = worker.pop_image(&pop("painter")).await.unwrap();
        let payload = job.payload;
        let wanted = "robots, impasto impressionism###no blur, organic";
        assert_eq!(payload.prompt.as_deref(), Some(wanted));
        assert_eq!((payload.width, payload.height), (1024, 512));
        assert_eq!(payload.sampler_name, "k_euler_a");
        assert_eq!(job.model.as_deref(), Some("ordu-tiny"));
        studio.horde.server.settle_down().await.unwrap();
        let path = format!("/styles/image/{id}");
        assert_eq!(studio.horde.get(&path).await.body["use_count"], 1);
        assert_eq!(studio.delete(&path, &studio.owner).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn what_is_changed_counts_at_once() {
    in_each_studio(async |studio| {
        let more = json!({ "prompt": "old {p}{np}" });
        let id = studio.image(&studio.owner, "oil", more).await;
        let path = format!("/styles/image/{id}");
        for style in [id.as_str(), "oil"] {
            assert_eq!(studio.prompt(style).await, "old x###y");
        }
        let change = json!({ "prompt": "new {p}{np}" });
        studio.patch(&path, &studio.owner, &change).await;
        for style in [id.as_str(), "oil"] {
            assert_eq!(studio.prompt(style).await, "new x###y");
        }
        studio
            .patch(&path, &studio.owner, &json!({ "name": "acrylic" }))
            .await;
        let gone = studio.ask(ANONYMOUS, "oil", json!({})).await;
        assert_eq!(outcome(&gone), (404, "StyleNotFound"));
        // A name that is free again may mean another style.
        studio
            .image(&studio.other, "oil", json!({ "prompt": "mine {p}{np}" }))
            .await;
        assert_eq!(studio.prompt("oil").await, "mine x###y");
        studio.delete(&path, &studio.owner).await;
        let gone = studio.ask(ANONYMOUS, &id, json!({})).await;
        assert_eq!(outcome(&gone), (404, "StyleNotFound"));
    })
    .await;
}

/// Asks with a shared key itself.
async fn direct(studio: &Studio, key: &str) -> (u16, String) {
    let body = serde_json::to_value(crate::support::request()).unwrap();
    let answer = studio
        .horde
        .call(Method::POST, "/generate/async", Some(key), Some(&body))
        .await;
    (answer.status, answer.rc().to_owned())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table and a walk through one life")]
async fn a_style_has_its_owners_key() {
    in_each_studio(async |studio| {
        let assigned = (403, "SharedKeyAssignedStyles".to_owned());
        let fine = (202, String::new());
        let key = studio
            .shared_key(&studio.owner, &json!({ "kudos": 500 }))
            .await;
        let foreign = studio
            .shared_key(&studio.other, &json!({ "kudos": 500 }))
            .await;
        let empty = studio
            .shared_key(&studio.owner, &json!({ "kudos": 0 }))
            .await;
        let short = studio
            .shared_key(&studio.owner, &json!({ "expiry": 1 }))
            .await;
        studio.horde.later(24 * 3600);
        let cases = [
            (foreign.as_str(), "SharedKeyInvalid"),
            (&empty, "SharedKeyEmpty"),
            (&short, "SharedKeyExpired"),
        ];
        let id = studio.image(&studio.owner, "oil", json!({})).await;
        let path = format!("/styles/image/{id}");
        for (refused, rc) in cases {
            let attach = json!({ "sharedkey": refused });
            let body = image_style("new", attach.clone());
            let made = studio.post("/styles/image", &studio.owner, &body).await;
            assert_eq!(outcome(&made), (400, rc));
            let changed = studio.patch(&path, &studio.owner, &attach).await;
            assert_eq!(outcome(&changed), (400, rc));
        }

        assert_eq!(direct(studio, &key).await, fine);
        let attach = json!({ "sharedkey": key });
        studio.patch(&path, &studio.owner, &attach).await;
        assert_eq!(direct(studio, &key).await, assigned, "at once");
        let shown = studio.horde.get(&path).await.body;
        assert_eq!(shown["shared_key"]["id"], key.as_str());
        assert_eq!(shown["shared_key"]["username"], studio.owner.alias.as_str());
        let text = studio.text(&studio.owner, "text", attach).await;
        let text = format!("/styles/text/{text}");
        assert!(
            studio
                .horde
                .get(&text)
                .await
                .body
                .get("shared_key")
                .is_none()
        );

        // What is not said stays; nothing at all takes the key off.
        studio
            .patch(&path, &studio.owner, &json!({ "nsfw": true }))
            .await;
        assert_eq!(
            studio.horde.get(&path).await.body["shared_key"]["id"],
            key.as_str()
        );
        studio
            .patch(&path, &studio.owner, &json!({ "sharedkey": "" }))
            .await;
        assert!(
            studio
                .horde
                .get(&path)
                .await
                .body
                .get("shared_key")
                .is_none()
        );
        assert_eq!(
            direct(studio, &key).await,
            assigned,
            "the other style has it"
        );
        studio.delete(&text, &studio.owner).await;
        assert_eq!(direct(studio, &key).await, fine, "free again");
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_deleted_leaves_its_styles() {
    in_each_studio(async |studio| {
        let key = studio
            .shared_key(&studio.owner, &json!({ "kudos": 500 }))
            .await;
        let id = studio
            .image(&studio.owner, "oil", json!({ "sharedkey": key }))
            .await;
        assert_eq!(studio.prompt("oil").await, "x###y");
        studio
            .delete(&format!("/sharedkeys/{key}"), &studio.owner)
            .await;
        let shown = studio.horde.get(&format!("/styles/image/{id}")).await.body;
        assert!(shown.get("shared_key").is_none(), "{shown}");
        assert_eq!(studio.ask(ANONYMOUS, &id, json!({})).await.status, 202);
    })
    .await;
}

#[tokio::test]
async fn who_leaves_makes_nothing_more_and_who_left_leaves_nothing() {
    in_each_studio(async |studio| {
        let key = studio
            .shared_key(&studio.owner, &json!({ "kudos": 500 }))
            .await;
        let id = studio
            .image(&studio.owner, "oil", json!({ "sharedkey": key }))
            .await;
        let group = json!({ "name": "group", "styles": [id] });
        let group = studio.make("/collections", &studio.owner, &group).await;
        let foreign = json!({ "name": "foreign", "styles": [id] });
        let foreign = studio.make("/collections", &studio.other, &foreign).await;
        let account = format!("/users/{}", studio.owner.user_id);
        assert_eq!(studio.delete(&account, &studio.owner).await.status, 200);

        let body = image_style("new", json!({}));
        let made = studio.post("/styles/image", &studio.owner, &body).await;
        assert_eq!(outcome(&made), (403, "DeletedUser"));
        let path = format!("/styles/image/{id}");
        let changed = studio
            .patch(&path, &studio.owner, &json!({ "nsfw": true }))
            .await;
        assert_eq!(outcome(&changed), (403, "DeletedUser"));
        let body = json!({ "name": "new", "styles": [id] });
        let made = studio.post("/collections", &studio.owner, &body).await;
        assert_eq!(outcome(&made), (403, "DeletedUser"));
        // The style still serves, but its owner does not pay any more.
        let asked = studio.ask(ANONYMOUS, &id, json!({})).await;
        assert_eq!(asked.status, 202, "{}", asked.body);
        let utilized =
            studio.horde.get(&format!("/sharedkeys/{key}")).await.body["utilized"].clone();
        assert_eq!(utilized, 0);

        studio.horde.server.settle_down().await.unwrap();
        studio.horde.later(31 * 24 * 3600);
        assert_eq!(studio.delete(&account, &studio.moderator).await.status, 200);
        let gone = studio.ask(ANONYMOUS, &id, json!({})).await;
        assert_eq!(outcome(&gone), (404, "StyleNotFound"));
        assert_eq!(
            outcome(&studio.horde.get(&path).await),
            (404, "StyleNotFound")
        );
        let gone = studio.horde.get(&format!("/collections/{group}")).await;
        assert_eq!(outcome(&gone), (404, "CollectionNotFound"));
        let left = studio.horde.get(&format!("/collections/{foreign}")).await;
        assert_eq!(left.body["styles"], json!([]));
    })
    .await;
}
