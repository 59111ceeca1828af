//! Prices without requests: what they are made of, and the advice that goes with them.

use ordu_api::image::{DryRun, ImageRequest, Lora};
use ordu_server::Config;
use serde_json::{Value, json};

use crate::support::{
    TINY_PNG, TestHorde, alchemy_request, on_each_database, request, text_request,
};

/// In hundredths, so that sums are exact.
#[expect(clippy::cast_possible_truncation, reason = "prices are small")]
fn cents(kudos: f64) -> i64 {
    (kudos * 100.0).round() as i64
}

#[track_caller]
fn assert_adds_up(price: &DryRun) {
    let items = price.breakdown.iter().map(|item| cents(item.kudos));
    assert_eq!(items.sum::<i64>(), cents(price.kudos), "{price:?}");
}

fn names(price: &DryRun) -> Vec<&str> {
    let items = price.breakdown.iter();
    items.map(|item| item.name.as_str()).collect()
}

#[tokio::test]
async fn prices_of_all_kinds_are_itemised() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let client = horde.anonymous();
        let mut dear = request();
        dear.params.width = Some(1024);
        dear.params.n = Some(3);
        dear.params.post_processing = vec!["RealESRGAN_x4plus".to_owned()];
        dear.params.loras = vec![Lora {
            name: "a".to_owned(),
            model: 1.0,
            clip: 1.0,
            inject_trigger: None,
            is_version: false,
        }];
        let price = client.price_image(&dear).await.unwrap();
        assert_adds_up(&price);
        for name in ["drawing", "tax", "size", "post_processing", "loras", "n"] {
            assert!(names(&price).contains(&name), "{name}: {price:?}");
        }
        let upscaler = price
            .breakdown
            .iter()
            .find(|item| item.name == "post_processing");
        assert_eq!(
            upscaler.unwrap().detail.as_deref(),
            Some("RealESRGAN_x4plus")
        );
        let load = horde.get("/status/performance").await.body;
        assert_eq!(load["queued_requests"].as_f64(), Some(0.0));

        let price = client.price_text(&text_request()).await.unwrap();
        assert_adds_up(&price);
        assert_eq!(names(&price)[..2], ["max_length", "tax"]);

        let forms = alchemy_request(&["caption", "RealESRGAN_x4plus"]);
        let price = client.price_alchemy(&forms).await.unwrap();
        assert_adds_up(&price);
        assert_eq!(names(&price), ["forms", "forms", "tax"]);
        assert!((price.kudos - 8.0).abs() < f64::EPSILON, "{price:?}");
        let load = horde.get("/status/performance").await;
        assert_eq!(load.body["queued_forms"].as_f64(), Some(0.0));
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_dry_alchemy_request_needs_a_picture_and_a_key() {
    let horde = TestHorde::start().await;
    let body = json!({ "forms": [{ "name": "caption" }], "source_image": "!", "dry_run": true });
    let key = ordu_api::ApiKey::anonymous();
    let answer = horde.post("/interrogate/async", Some(&key), &body).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let body =
        json!({ "forms": [{ "name": "caption" }], "source_image": TINY_PNG, "dry_run": true });
    let answer = horde.post("/interrogate/async", None, &body).await;
    assert_eq!(answer.status, 400);
    let wrong = json!({ "forms": [{ "name": "caption" }], "source_image": TINY_PNG, "dry_run": 1 });
    let answer = horde.post("/interrogate/async", Some(&key), &wrong).await;
    assert!(
        answer.body["errors"]["dry_run"].is_string(),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn advice_comes_with_the_price_and_what_a_model_needs_is_public() {
    let horde = TestHorde::start().await;
    let moderator = horde.mint("keeper", json!({ "moderator": true })).await;
    let entry = json!({ "baseline": "flux_1", "requirements": {
        "min_steps": 4, "max_steps": 8, "cfg_scale": 1, "samplers": ["k_euler"],
    } });
    let path = "/operations/models/quick%20one?type=image";
    let key = Some(moderator.api_key.reveal());
    let put = horde
        .call(reqwest::Method::PUT, path, key, Some(&entry))
        .await;
    assert_eq!(put.status, 200, "{}", put.body);

    let mut asked = ImageRequest {
        models: vec!["quick one".to_owned()],
        ..request()
    };
    asked.params.steps = Some(20);
    let client = horde.client(&moderator.api_key);
    let price = client.preview_image(&asked).await.unwrap();
    let advice: Vec<&str> = price
        .warnings
        .iter()
        .map(|one| one.message.as_str())
        .collect();
    assert_eq!(
        advice,
        [
            "`quick one` works best with `steps` 8 or fewer",
            "`quick one` works best with `cfg_scale` 1",
            "`quick one` works best with `sampler_name` `k_euler`",
        ]
    );
    let known = horde.get("/reference/models/quick%20one").await;
    assert_eq!(known.status, 200, "{}", known.body);
    assert_eq!(known.body["baseline"], "flux_1");
    assert_eq!(known.body["requirements"]["max_steps"], 8);
    assert_eq!(horde.get("/reference/models/nobody").await.status, 404);
    assert_eq!(
        horde
            .get("/reference/models/quick%20one?type=text")
            .await
            .status,
        404
    );
    assert_eq!(horde.get("/reference/models/x?type=y").await.status, 400);
    let text = horde
        .get("/reference/models/koboldcpp%2FLLaMA2-13B-Tiefighter?type=text")
        .await;
    assert_eq!(text.status, 200, "{}", text.body);
    assert!(
        text.body["parameters"]
            .as_f64()
            .is_some_and(|count| count > 1e9)
    );
    assert_eq!(text.body.get("requirements"), None::<&Value>);
}
