//! Bad input: a clear no, with the right code, and nothing lost.

use serde_json::{Value, json};

use crate::support::{TestHorde, delivered, pop, request};

/// A valid body with one member replaced.
fn with(member: &str, value: Value) -> Value {
    let mut body = json!({ "prompt": "a", "models": ["ordu-tiny"], "params": {} });
    match member.split_once('.') {
        Some((outer, inner)) => body[outer][inner] = value,
        None => body[member] = value,
    }
    body
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let horde = TestHorde::start().await;
    let key = ordu_api::ApiKey::anonymous();
    let cases = [
        ("prompt", json!(""), "prompt"),
        ("prompt", json!(5), "prompt"),
        ("prompt", json!(null), "prompt"),
        ("params", json!(null), "params"),
        ("params.width", json!(500), "params.width"),
        ("params.width", json!(1_000_000), "params.width"),
        ("params.height", json!(-64), "params.height"),
        ("params.steps", json!(0), "params.steps"),
        ("params.steps", json!(501), "params.steps"),
        ("params.steps", json!("30"), "params.steps"),
        ("params.steps", json!(1e300), "params.steps"),
        ("params.n", json!(21), "params.n"),
        ("params.seed", json!(7), "params.seed"),
        ("params.cfg_scale", json!(101), "params.cfg_scale"),
        ("params.sampler_name", json!("none"), "params.sampler_name"),
        (
            "params.post_processing",
            json!(["foo"]),
            "params.post_processing.0",
        ),
        ("params.loras", json!([{}]), "params.loras.0.name"),
        ("params.control_type", json!("mlsd"), "params.control_type"),
        ("nsfw", json!("true"), "nsfw"),
        ("models", json!("ordu-tiny"), "models"),
        ("source_processing", json!("txt2img"), "source_processing"),
        ("webhook", json!("short"), "webhook"),
    ];
    for (member, value, field) in cases {
        let answer = horde
            .post("/generate/async", Some(&key), &with(member, value.clone()))
            .await;
        assert_eq!(answer.status, 400, "{member} = {value}");
        assert!(
            answer.body["errors"].get(field).is_some(),
            "{member} = {value}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn rules_refuse_with_their_code() {
    let horde = TestHorde::start().await;
    let key = ordu_api::ApiKey::anonymous();
    let cases = [
        ("prompt", json!("a\u{0}b"), 400, "NulByteInPayload"),
        ("webhook", json!("http://example.org/"), 400, "BadRequest"),
        ("workers", json!(["garbage"]), 404, "WorkerNotFound"),
        (
            "workers",
            json!(["6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958"]),
            404,
            "WorkerNotFound",
        ),
        ("params.cfg_scale", json!(7.123), 400, "BadCFGDecimals"),
        ("params.n", json!(20), 202, ""),
        ("params.transparent", json!(true), 202, ""),
        (
            "params.control_type",
            json!("canny"),
            400,
            "ControlNetSourceMissing",
        ),
        ("source_mask", json!("AAAA"), 400, "SourceMaskUnnecessary"),
        (
            "source_image",
            json!("not base64!"),
            400,
            "ImageValidationFailed",
        ),
        ("source_image", json!("AAAA"), 400, "ImageValidationFailed"),
        (
            "source_image",
            json!("http://127.0.0.1/a.png"),
            400,
            "SourceImageUrlInvalid",
        ),
        (
            "proxied_account",
            json!("x"),
            400,
            "OnlyServiceAccountProxy",
        ),
        (
            "models",
            json!(["RealESRGAN_x4plus"]),
            400,
            "UnexpectedModelName",
        ),
    ];
    for (member, value, status, rc) in cases {
        let answer = horde
            .post("/generate/async", Some(&key), &with(member, value.clone()))
            .await;
        assert_eq!(
            (answer.status, answer.rc()),
            (status, rc),
            "{member} = {value}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused() {
    let horde = TestHorde::start().await;
    for path in ["/generate/async", "/generate/pop", "/generate/submit"] {
        let url = format!("{}/api/v2{path}", horde.url);
        for body in ["", "{", "[1", "\u{0}", "nul"] {
            let request = horde
                .http
                .post(&url)
                .header("content-type", "application/json");
            let answer = crate::support::Answer::read(request.body(body)).await;
            assert_eq!(answer.status, 400, "{path} {body:?}");
            assert!(answer.body["message"].is_string(), "{path} {body:?}");
        }
        for body in ["null", "[]", "\"a\"", "5"] {
            let request = horde
                .http
                .post(&url)
                .header("content-type", "application/json");
            let answer = crate::support::Answer::read(request.body(body)).await;
            assert_eq!(answer.status, 400, "{path} {body:?}");
            assert!(answer.body["errors"].get("").is_some(), "{path} {body:?}");
        }
        let plain = crate::support::Answer::read(horde.http.post(&url).body("{}")).await;
        assert_eq!(plain.status, 400, "{path} without a content type");
        let deep = "[".repeat(100_000);
        let request = horde
            .http
            .post(&url)
            .header("content-type", "application/json");
        assert_eq!(
            crate::support::Answer::read(request.body(deep))
                .await
                .status,
            400
        );
    }
}

#[tokio::test]
async fn keys_are_checked_after_the_body() {
    let horde = TestHorde::start().await;
    let bad = ordu_api::ApiKey::new("nobody has this one");
    let body = serde_json::to_value(request()).unwrap();
    let missing = horde.post("/generate/async", None, &body).await;
    assert_eq!(missing.status, 400);
    assert!(missing.body["errors"].get("apikey").is_some());
    let unknown = horde.post("/generate/async", Some(&bad), &body).await;
    assert_eq!((unknown.status, unknown.rc()), (401, "InvalidAPIKey"));
    let popped = horde
        .post("/generate/pop", Some(&bad), &json!({ "name": "w" }))
        .await;
    assert_eq!((popped.status, popped.rc()), (401, "InvalidAPIKey"));
    let anonymous = ordu_api::ApiKey::anonymous();
    let popped = horde
        .post("/generate/pop", Some(&anonymous), &json!({ "name": "w" }))
        .await;
    assert_eq!((popped.status, popped.rc()), (403, "AnonForbiddenWorker"));
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let horde = TestHorde::start().await;
    let unknown = "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";
    for id in [unknown, "garbage", "%00", "..%2f..", "1"] {
        for kind in ["check", "status"] {
            let answer = horde.get(&format!("/generate/{kind}/{id}")).await;
            assert_eq!(
                (answer.status, answer.rc()),
                (404, "RequestNotFound"),
                "{kind} {id}"
            );
        }
        assert_eq!(
            horde.get(&format!("/workers/{id}")).await.rc(),
            "WorkerNotFound",
            "{id}"
        );
        assert_eq!(
            horde.get(&format!("/workers/name/{id}")).await.status,
            404,
            "{id}"
        );
    }
    for id in ["99999999999999999999", "-1", "abc", "2147483648", "4711"] {
        assert_eq!(
            horde.get(&format!("/users/{id}")).await.rc(),
            "UserNotFound",
            "{id}"
        );
    }
}

#[tokio::test]
async fn submits_are_judged_in_order() {
    let horde = TestHorde::start().await;
    let (owner, other) = (
        horde.user("owner", 0.0).await,
        horde.user("other", 0.0).await,
    );
    let worker = horde.client(&owner.api_key);
    let submit = |id: &str| serde_json::to_value(delivered(id)).unwrap();
    let bad = ordu_api::ApiKey::new("nobody has this one");
    let unknown = "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";
    for id in [unknown, "garbage", ""] {
        let answer = horde
            .post("/generate/submit", Some(&bad), &submit(id))
            .await;
        assert_eq!((answer.status, answer.rc()), (404, "InvalidJobID"), "{id}");
    }
    horde.anonymous().async_image(&request()).await.unwrap();
    let job = worker
        .pop_image(&pop("w"))
        .await
        .unwrap()
        .id
        .unwrap()
        .to_string();
    let cases = [
        (&bad, 401, "InvalidAPIKey"),
        (&other.api_key, 403, "WrongCredentials"),
    ];
    for (key, status, rc) in cases {
        let answer = horde
            .post("/generate/submit", Some(key), &submit(&job))
            .await;
        assert_eq!((answer.status, answer.rc()), (status, rc));
    }
    let remarks = vec![json!({ "type": "lora", "value": "download_failed" }); 51];
    let mut long = submit(&job);
    long["gen_metadata"] = json!(remarks);
    let answer = horde
        .post("/generate/submit", Some(&owner.api_key), &long)
        .await;
    assert_eq!((answer.status, answer.rc()), (400, "BadRequest"));
    assert_eq!(
        horde
            .post("/generate/submit", Some(&owner.api_key), &submit(&job))
            .await
            .status,
        200
    );
    let again = horde
        .post("/generate/submit", Some(&owner.api_key), &submit(&job))
        .await;
    assert_eq!((again.status, again.rc()), (400, "DuplicateGen"));
    assert!(
        again.body["message"]
            .as_str()
            .unwrap()
            .contains("already submitted")
    );
}

#[tokio::test]
async fn unknown_models_are_not_served() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let body = json!({ "name": "w", "models": ["whatever"] });
    let answer = horde
        .post("/generate/pop", Some(&owner.api_key), &body)
        .await;
    assert_eq!(answer.status, 400);
    let message = answer.body["message"].as_str().unwrap().to_lowercase();
    assert!(
        message.contains("we cannot accept workers serving"),
        "{message}"
    );
    assert_eq!(
        horde.get("/workers/name/w").await.status,
        404,
        "nothing is left behind"
    );
}

#[tokio::test]
async fn a_worker_name_belongs_to_its_owner() {
    let horde = TestHorde::start().await;
    let (owner, other) = (
        horde.user("owner", 0.0).await,
        horde.user("other", 0.0).await,
    );
    horde
        .client(&owner.api_key)
        .pop_image(&pop("w"))
        .await
        .unwrap();
    let body = serde_json::to_value(pop("w")).unwrap();
    let answer = horde
        .post("/generate/pop", Some(&other.api_key), &body)
        .await;
    assert_eq!((answer.status, answer.rc()), (403, "WrongCredentials"));
    let body = serde_json::to_value(pop("Colab worker")).unwrap();
    let answer = horde
        .post("/generate/pop", Some(&other.api_key), &body)
        .await;
    assert_eq!((answer.status, answer.rc()), (400, "BadRequest"));
}

#[tokio::test]
async fn who_cannot_pay_upfront_is_told_how_much() {
    let horde = TestHorde::start().await;
    let (poor, rich) = (
        horde.user("poor", 0.0).await,
        horde.user("rich", 10_000.0).await,
    );
    let mut dear = request();
    dear.params.steps = Some(50);
    let body = serde_json::to_value(&dear).unwrap();
    let answer = horde
        .post("/generate/async", Some(&poor.api_key), &body)
        .await;
    assert_eq!((answer.status, answer.rc()), (403, "KudosUpfront"));
    assert_eq!(
        horde
            .post("/generate/async", Some(&rich.api_key), &body)
            .await
            .status,
        202
    );
    dear.allow_downgrade = true;
    let body = serde_json::to_value(&dear).unwrap();
    assert_eq!(
        horde
            .post("/generate/async", Some(&poor.api_key), &body)
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn concurrent_requests_do_not_slip_past_the_limit() {
    let horde = TestHorde::start().await;
    let user = horde.user("user", 1000.0).await;
    let client = horde.client(&user.api_key);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let client = client.clone();
        asking.spawn(async move { client.async_image(&request()).await });
    }
    let answers = asking.join_all().await;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(
        refused
            .clone()
            .all(|error| error.is(ordu_api::ReturnCode::TooManyPrompts))
    );
    assert_eq!(refused.count(), 10, "30 may wait at once");
}

#[tokio::test]
async fn agents_that_the_operator_bans_do_not_ask() {
    let horde = TestHorde::start_with(|mut config| {
        config.guard.banned_agents = vec!["Pest".to_owned(), "Bot:1.0:me".to_owned()];
        config
    })
    .await;
    let image = json!({ "prompt": "a red circle", "models": ["ordu-tiny"] });
    let text = json!({ "prompt": "once", "models": [crate::support::TEXT_MODEL] });
    for (agent, status) in [
        ("Pest:2.0:somebody", 403),
        ("Pest", 403),
        ("Bot:1.0:me", 403),
        ("Bot:1.1:me", 202),
        ("pest:2.0:somebody", 202),
        ("A Pest:1:x", 202),
    ] {
        for (path, body) in [("/generate/async", &image), ("/generate/text/async", &text)] {
            let url = format!("{}/api/v2{path}", horde.url);
            let asked = horde.http.post(url).header("apikey", "0000000000");
            let asked = asked.header("client-agent", agent).json(body);
            let answer = crate::support::Answer::read(asked).await;
            assert_eq!(answer.status, status, "{agent} {path}: {}", answer.body);
            let rc = if status == 403 {
                "BannedClientAgent"
            } else {
                ""
            };
            assert_eq!(answer.rc(), rc);
        }
    }
}
