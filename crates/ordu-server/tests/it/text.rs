//! Texts: the whole way of a request, and every no on it.

use ordu_api::image::{Metadata, SubmitState};
use ordu_api::text::TextRequest;
use ordu_api::{ApiKey, ReturnCode};
use serde_json::{Value, json};

use crate::support::{
    TEXT_MODEL, TestHorde, delivered, on_each_database, pop, request, text_pop, text_request,
    written,
};

/// The answer to a pop that finds nothing, byte for byte.
const IDLE: &str = concat!(
    r#"{"payload":{"max_context_length":2048,"max_length":80,"min_p":0.0,"smoothing_factor":0.0,"#,
    r#""dynatemp_range":0.0,"dynatemp_exponent":1.0},"id":null,"ids":[],"messages":[],"ttl":null,"#,
    r#""extra_source_images":null,"skipped":{},"softprompt":null,"model":null}"#
);

#[tokio::test]
async fn a_text_walks_from_request_to_status() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| ordu_server::Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let (owner, asker) = (
            horde.user("owner", 0.0).await,
            horde.user("asker", 100.0).await,
        );
        let (worker, client) = (horde.client(&owner.api_key), horde.client(&asker.api_key));
        let accepted = client.async_text(&text_request()).await.unwrap();
        assert!(accepted.message.is_some(), "nobody is there to write");
        assert!((accepted.kudos - 35.0).abs() < f64::EPSILON);
        let before = client.text_status(accepted.id).await.unwrap().progress;
        assert_eq!((before.waiting, before.queue_position), (1, 1));
        assert!(!before.is_possible && !before.done);

        let job = worker.pop_text(&text_pop("scribe")).await.unwrap();
        assert_eq!(job.ids, [job.id.unwrap()]);
        assert_eq!(
            (job.ttl, job.model.as_deref()),
            (Some(150), Some(TEXT_MODEL))
        );
        assert_eq!(job.payload.prompt.as_deref(), Some("Once upon a time"));
        let during = client.text_status(accepted.id).await.unwrap().progress;
        assert_eq!((during.processing, during.waiting), (1, 0));

        let reward = worker.submit_text(&written(job.ids[0])).await.unwrap();
        assert!((reward.reward - 2.52).abs() < 1e-9);
        let status = client.text_status(accepted.id).await.unwrap();
        assert!(status.progress.done);
        assert!((status.progress.kudos - 5.0).abs() < f64::EPSILON);
        let text = &status.generations[0];
        assert_eq!((text.text.as_str(), text.seed), ("there was a horde", 7));
        assert_eq!(
            (text.state.as_str(), text.model.as_str()),
            ("ok", TEXT_MODEL)
        );
        assert_eq!(text.worker_name, "scribe");
        let sum = horde.server.store().ledger_sum().await.unwrap();
        assert_eq!(sum, ordu_core::Kudos::ZERO);
    })
    .await;
}

#[tokio::test]
async fn texts_say_how_they_ended() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let mut wanted = text_request();
    wanted.params.n = Some(6);
    let id = horde.anonymous().async_text(&wanted).await.unwrap().id;
    let mut offer = text_pop("w");
    offer.amount = 6;
    let ids = worker.pop_text(&offer).await.unwrap().ids;
    assert_eq!(ids.len(), 6);
    let csam = Metadata {
        kind: "censorship".to_owned(),
        value: "csam".to_owned(),
        reference: None,
    };
    let states = [
        (SubmitState::Ok, false, Some("ok")),
        (SubmitState::Censored, false, Some("censored")),
        (SubmitState::Csam, false, Some("csam")),
        (SubmitState::Ok, true, Some("csam")),
        (SubmitState::Faulted, false, None),
        (SubmitState::Ok, false, Some("ok")),
    ];
    for (id, (state, marked, shown)) in ids.iter().zip(states) {
        let mut submit = written(id);
        submit.state = state;
        submit.gen_metadata.extend(marked.then(|| csam.clone()));
        submit.generation = "a\0b".to_owned();
        let reward = worker.submit_text(&submit).await.unwrap().reward;
        assert_eq!(reward > 0.0, shown.is_some());
    }
    let status = horde.anonymous().text_status(id).await.unwrap();
    let found: Vec<&str> = status
        .generations
        .iter()
        .map(|text| text.state.as_str())
        .collect();
    let expected: Vec<&str> = states.iter().filter_map(|(.., shown)| *shown).collect();
    assert_eq!(found, expected);
    assert!(
        status
            .generations
            .iter()
            .all(|text| text.text == "a\u{fffd}b")
    );
    assert_eq!(status.generations[2].gen_metadata, [csam]);
    assert_eq!((status.progress.restarted, status.progress.waiting), (1, 1));
}

#[tokio::test]
async fn an_idle_pop_answers_exactly_this() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let body = serde_json::to_value(text_pop("w")).unwrap();
    let answer = horde
        .http
        .post(format!("{}/api/v2/generate/text/pop", horde.url))
        .header("apikey", owner.api_key.reveal())
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), IDLE);
    let worker = horde.get("/workers/name/w").await.body;
    assert_eq!(worker["type"], "text");
    assert_eq!(
        (
            &worker["max_length"],
            &worker["max_context_length"],
            &worker["models"]
        ),
        (&json!(512), &json!(4096), &json!([TEXT_MODEL]))
    );
}

/// A valid body with one member replaced.
fn with(member: &str, value: Value) -> Value {
    let mut body = json!({ "prompt": "a", "models": [TEXT_MODEL], "params": {} });
    match member.split_once('.') {
        Some((outer, inner)) => body[outer][inner] = value,
        None => body[member] = value,
    }
    body
}

#[tokio::test]
async fn every_parameter_has_bounds() {
    let horde = TestHorde::start().await;
    let key = ApiKey::anonymous();
    let numbers = [
        ("n", 1.0, 20.0, 1.0),
        ("max_length", 16.0, 4096.0, 1.0),
        ("max_context_length", 80.0, 1_048_576.0, 1.0),
        ("temperature", 0.0, 5.0, 0.1),
        ("top_p", 0.001, 1.0, 0.0005),
        ("top_k", 0.0, 200.0, 1.0),
        ("top_a", 0.0, 1.0, 0.1),
        ("typical", 0.0, 1.0, 0.1),
        ("tfs", 0.0, 1.0, 0.1),
        ("min_p", 0.0, 1.0, 0.1),
        ("smoothing_factor", 0.0, 10.0, 0.1),
        ("dynatemp_range", 0.0, 5.0, 0.1),
        ("dynatemp_exponent", 0.0, 5.0, 0.1),
        ("rep_pen", 1.0, 3.0, 0.1),
        ("rep_pen_range", 0.0, 4096.0, 1.0),
        ("rep_pen_slope", 0.0, 10.0, 0.1),
    ];
    let ask = async |params: Value| {
        let body = json!({ "prompt": "a", "params": params, "dry_run": true });
        let answer = horde.post("/generate/text/async", Some(&key), &body).await;
        (answer.status, answer.body)
    };
    for (name, least, most, step) in numbers {
        let params = |value: Value| {
            // What does not depend on each other must not get in each other's way.
            let mut params = json!({ "max_length": 16, "max_context_length": 1_048_576 });
            params[name] = value;
            params
        };
        for fine in [least, most] {
            let (status, body) = ask(params(json!(fine))).await;
            assert_eq!(status, 200, "{name} = {fine}: {body}");
        }
        for wrong in [
            json!(least - step),
            json!(most + step),
            json!("5"),
            json!(true),
            json!(null),
        ] {
            let (status, body) = ask(params(wrong.clone())).await;
            let named = body["errors"].get(format!("params.{name}"));
            assert!(status == 400 && named.is_some(), "{name} = {wrong}: {body}");
        }
    }
}

#[tokio::test]
async fn wrong_fields_are_named_all_at_once() {
    let horde = TestHorde::start().await;
    let key = ApiKey::anonymous();
    let cases = [
        ("prompt", json!(5), "prompt"),
        ("prompt", json!(null), "prompt"),
        ("params", json!(null), "params"),
        ("params", json!([]), "params"),
        ("params.sampler_order", json!("x"), "params.sampler_order"),
        (
            "params.sampler_order",
            json!([1, "x"]),
            "params.sampler_order.1",
        ),
        ("params.stop_sequence", json!([5]), "params.stop_sequence.0"),
        ("params.singleline", json!("true"), "params.singleline"),
        ("params.frmtadsnsp", json!(1), "params.frmtadsnsp"),
        ("params.frmtrmblln", json!("x"), "params.frmtrmblln"),
        ("params.frmtrmspch", json!("x"), "params.frmtrmspch"),
        ("params.frmttriminc", json!("x"), "params.frmttriminc"),
        (
            "params.use_default_badwordsids",
            json!("x"),
            "params.use_default_badwordsids",
        ),
        ("softprompt", json!(""), "softprompt"),
        ("models", json!(TEXT_MODEL), "models"),
        ("trusted_workers", json!("x"), "trusted_workers"),
        ("validated_backends", json!("x"), "validated_backends"),
        ("slow_workers", json!(0), "slow_workers"),
        ("extra_slow_workers", json!("x"), "extra_slow_workers"),
        ("workers", json!([1]), "workers.0"),
        (
            "extra_source_images",
            json!([{ "image": "" }]),
            "extra_source_images.0.image",
        ),
        ("dry_run", json!("x"), "dry_run"),
        ("style", json!("ab"), "style"),
    ];
    let mut all = json!({ "params": {} });
    for (member, value, field) in &cases {
        let body = with(member, value.clone());
        let answer = horde.post("/generate/text/async", Some(&key), &body).await;
        assert_eq!(answer.status, 400, "{member} = {value}");
        let errors = answer.body["errors"].as_object().unwrap();
        let named: Vec<&String> = errors.keys().collect();
        assert_eq!(named, [*field], "{member} = {value}");
        match member.split_once('.') {
            Some((outer, inner)) => all[outer][inner] = value.clone(),
            None if *member != "params" => all[*member] = value.clone(),
            None => {}
        }
    }
    let answer = horde.post("/generate/text/async", Some(&key), &all).await;
    // `prompt`, `params` and `sampler_order` are there twice.
    assert_eq!(
        answer.body["errors"].as_object().unwrap().len(),
        cases.len() - 4
    );
    for (body, named) in [(json!({}), "prompt"), (json!([]), ""), (json!(null), "")] {
        let answer = horde.post("/generate/text/async", Some(&key), &body).await;
        assert!(
            answer.body["errors"].get(named).is_some(),
            "{body}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn rules_refuse_with_their_code() {
    let horde = TestHorde::start().await;
    let key = ApiKey::anonymous();
    let cases = [
        ("prompt", json!(""), 400, "MissingPrompt"),
        ("prompt", json!("a\u{0}b"), 400, "NulByteInPayload"),
        ("softprompt", json!("\u{0}"), 400, "NulByteInPayload"),
        ("webhook", json!("http://example.org/"), 400, "BadRequest"),
        ("workers", json!(["garbage"]), 404, "WorkerNotFound"),
        (
            "proxied_account",
            json!("x"),
            400,
            "OnlyServiceAccountProxy",
        ),
        (
            "extra_source_images",
            json!([{ "image": "x" }]),
            400,
            "InvalidExtraSourceImages.",
        ),
        ("params.max_length", json!(4096), 400, "TokenOverflow"),
        (
            "params.sampler_order",
            json!([1, 2, 3]),
            400,
            "MissingFullSamplerOrder",
        ),
        (
            "params.stop_sequence",
            json!(["a".repeat(2001)]),
            400,
            "ExcessiveStopSequence",
        ),
        ("params.seed", json!(5), 202, ""),
        ("max_length", json!(9999), 202, ""),
    ];
    for (member, value, status, rc) in cases {
        let body = with(member, value.clone());
        let answer = horde.post("/generate/text/async", Some(&key), &body).await;
        assert_eq!(
            (answer.status, answer.rc()),
            (status, rc),
            "{member} = {value}"
        );
        assert_eq!(
            answer.body["message"].is_string(),
            status != 202 || answer.body.get("message").is_some()
        );
    }
    let bad = ApiKey::new("unknown");
    let body = with("prompt", json!("a"));
    let answer = horde.post("/generate/text/async", Some(&bad), &body).await;
    assert_eq!((answer.status, answer.rc()), (401, "InvalidAPIKey"));
    let answer = horde.post("/generate/text/async", None, &body).await;
    assert!(answer.body["errors"].get("apikey").is_some());
}

#[tokio::test]
async fn long_texts_need_kudos_upfront() {
    let horde = TestHorde::start().await;
    let (poor, rich) = (
        horde.user("poor", 0.0).await,
        horde.user("rich", 10_000.0).await,
    );
    let mut long = text_request();
    long.params.max_length = Some(600);
    let refused = horde
        .client(&poor.api_key)
        .async_text(&long)
        .await
        .unwrap_err();
    assert!(refused.is(ReturnCode::KudosUpfront));
    let price = horde.client(&poor.api_key).price_text(&long).await.unwrap();
    assert!((price.kudos - 267.0).abs() < 1.0, "{}", price.kudos);
    horde.client(&rich.api_key).async_text(&long).await.unwrap();
    long.allow_downgrade = true;
    let client = horde.client(&poor.api_key);
    client.async_text(&long).await.unwrap();
    let mut offer = text_pop("w");
    offer.max_length = 512;
    let job = horde.client(&rich.api_key).pop_text(&offer).await.unwrap();
    // One that waits already makes it one token less.
    assert_eq!(job.payload.params.max_length, Some(511));
}

#[tokio::test]
async fn submits_are_refused_with_their_code() {
    let horde = TestHorde::start().await;
    let (owner, other) = (
        horde.user("owner", 0.0).await,
        horde.user("other", 0.0).await,
    );
    let worker = horde.client(&owner.api_key);
    let bad = ApiKey::new("unknown");
    horde.anonymous().async_image(&request()).await.unwrap();
    let picture = worker.pop_image(&pop("dreamer")).await.unwrap().ids[0].to_string();
    horde.anonymous().async_text(&text_request()).await.unwrap();
    let job = worker.pop_text(&text_pop("scribe")).await.unwrap().ids[0].to_string();
    let submit = async |key: &ApiKey, id: &str, change: (&str, Value)| {
        let mut body = json!({ "id": id, "generation": "x" });
        body[change.0] = change.1;
        let answer = horde.post("/generate/text/submit", Some(key), &body).await;
        let message = answer.body["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (answer.status, answer.rc().to_owned(), message)
    };
    let plain = || ("state", json!("ok"));
    for unknown in [
        "garbage",
        "",
        "00000000-0000-0000-0000-000000000000",
        &picture,
    ] {
        let (status, rc, message) = submit(&bad, unknown, plain()).await;
        assert_eq!((status, rc.as_str()), (404, "InvalidJobID"), "{unknown}");
        assert!(message.contains("Processing Job with ID") && message.contains("does not exist"));
    }
    let (status, rc, _) = submit(&bad, &job, plain()).await;
    assert_eq!((status, rc.as_str()), (401, "InvalidAPIKey"));
    let (status, rc, _) = submit(&other.api_key, &job, plain()).await;
    assert_eq!((status, rc.as_str()), (403, "WrongCredentials"));
    let remarks = json!(vec![json!({ "type": "censorship", "value": "csam" }); 51]);
    let (status, rc, _) = submit(&owner.api_key, &job, ("gen_metadata", remarks)).await;
    assert_eq!((status, rc.as_str()), (400, "BadRequest"));
    for wrong in [
        ("state", json!("bogus")),
        ("generation", json!(5)),
        ("seed", json!("x")),
        ("gen_metadata", json!([{ "type": "lora", "value": "csam" }])),
        (
            "gen_metadata",
            json!([{ "type": "censorship", "value": "nsfw" }]),
        ),
    ] {
        assert_eq!(
            submit(&owner.api_key, &job, wrong.clone()).await.0,
            400,
            "{wrong:?}"
        );
    }
    assert_eq!(submit(&owner.api_key, &job, plain()).await.0, 200);
    let (status, rc, message) = submit(&owner.api_key, &job, plain()).await;
    assert_eq!((status, rc.as_str()), (400, "DuplicateGen"));
    assert!(message.contains("already submitted"));
}

#[tokio::test]
async fn other_kinds_are_not_found() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let image = horde.anonymous().async_image(&request()).await.unwrap().id;
    let text = horde
        .anonymous()
        .async_text(&text_request())
        .await
        .unwrap()
        .id;
    let paths = [
        format!("/generate/text/status/{image}"),
        format!("/generate/check/{text}"),
        format!("/generate/status/{text}"),
    ];
    for path in paths {
        assert_eq!(horde.get(&path).await.rc(), "RequestNotFound", "{path}");
    }
    let picture = worker.pop_image(&pop("dreamer")).await.unwrap().ids[0];
    let job = worker.pop_text(&text_pop("scribe")).await.unwrap().ids[0];
    let submits = [
        (
            "/generate/submit",
            serde_json::to_value(delivered(job)).unwrap(),
        ),
        (
            "/generate/text/submit",
            serde_json::to_value(written(picture)).unwrap(),
        ),
    ];
    for (path, body) in submits {
        let answer = horde.post(path, Some(&owner.api_key), &body).await;
        assert_eq!(answer.rc(), "InvalidJobID", "{path}");
    }
}

#[tokio::test]
async fn a_late_text_is_refused_and_the_next_worker_gets_the_job() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let id = horde
        .anonymous()
        .async_text(&text_request())
        .await
        .unwrap()
        .id;
    let late = worker.pop_text(&text_pop("slow")).await.unwrap().ids[0];
    horde.later(151);
    horde.server.settle_down().await.unwrap();
    let body = serde_json::to_value(written(late)).unwrap();
    let answer = horde
        .post("/generate/text/submit", Some(&owner.api_key), &body)
        .await;
    assert_eq!((answer.status, answer.rc()), (400, "AbortedGen"));
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("Please check your worker speed"));
    let next = worker.pop_text(&text_pop("fast")).await.unwrap().ids[0];
    worker.submit_text(&written(next)).await.unwrap();
    let progress = horde.anonymous().text_status(id).await.unwrap().progress;
    assert!(progress.done);
    assert_eq!((progress.finished, progress.restarted), (1, 1));
}

#[tokio::test]
async fn pops_are_refused_with_their_code() {
    let horde = TestHorde::start().await;
    let (owner, other) = (
        horde.user("owner", 0.0).await,
        horde.user("other", 0.0).await,
    );
    let worker = horde.client(&owner.api_key);
    worker.pop_text(&text_pop("scribe")).await.unwrap();
    worker.pop_image(&pop("dreamer")).await.unwrap();
    let anonymous = ApiKey::anonymous();
    let bad = ApiKey::new("unknown");
    let name = |name: &str| ("name", json!(name));
    let cases = [
        (&anonymous, name("new"), 403, "AnonForbiddenWorker"),
        (&bad, name("new"), 401, "InvalidAPIKey"),
        (&other.api_key, name("scribe"), 403, "WrongCredentials"),
        (
            &owner.api_key,
            name("dreamer"),
            400,
            "PolymorphicNameConflict",
        ),
        (&owner.api_key, name("my TPU"), 400, "BadRequest"),
        (
            &owner.api_key,
            ("priority_usernames", json!(["x"])),
            400,
            "InvalidPriorityUsername",
        ),
        (
            &owner.api_key,
            ("models", json!(["a-model::other#9"])),
            400,
            "BadRequest",
        ),
    ];
    for (key, (member, value), status, rc) in cases {
        let mut body = serde_json::to_value(text_pop("scribe")).unwrap();
        body[member] = value;
        let answer = horde.post("/generate/text/pop", Some(key), &body).await;
        assert_eq!((answer.status, answer.rc()), (status, rc), "{body}");
    }
    for (member, value) in [
        ("name", json!(5)),
        ("models", json!(["ab"])),
        ("threads", json!(0)),
        ("threads", json!(51)),
        ("amount", json!(21)),
        ("max_length", json!("x")),
        ("max_context_length", json!(null)),
        ("softprompts", json!([1])),
        ("bridge_agent", json!("a".repeat(1001))),
    ] {
        let mut body = serde_json::to_value(text_pop("scribe")).unwrap();
        body[member] = value.clone();
        let answer = horde
            .post("/generate/text/pop", Some(&owner.api_key), &body)
            .await;
        assert_eq!(answer.status, 400, "{member} = {value}");
    }
}

#[tokio::test]
async fn a_restart_brings_back_texts() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let mut wanted = text_request();
    wanted.params.n = Some(4);
    wanted.softprompt = Some("soft".to_owned());
    let id = horde.anonymous().async_text(&wanted).await.unwrap().id;
    let mut offer = text_pop("w");
    offer.softprompts = vec!["soft".to_owned()];
    let finished = worker.pop_text(&offer).await.unwrap().ids[0];
    worker.submit_text(&written(finished)).await.unwrap();
    let running = worker.pop_text(&offer).await.unwrap().ids[0];
    horde.server.stop().await;

    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let worker = horde.client(&owner.api_key);
    let status = horde.anonymous().text_status(id).await.unwrap();
    let progress = &status.progress;
    assert_eq!(
        (progress.finished, progress.processing, progress.waiting),
        (1, 1, 2)
    );
    assert_eq!(status.generations[0].text, "there was a horde");
    let reward = worker.submit_text(&written(running)).await.unwrap().reward;
    assert!((reward - 2.52).abs() < 1e-9, "{reward}");
    offer.amount = 5;
    let rest = worker.pop_text(&offer).await.unwrap();
    assert_eq!(rest.softprompt.as_deref(), Some("soft"));
    assert_eq!(rest.ids.len(), 2);
    let cancelled = horde.anonymous().cancel_text(id).await.unwrap();
    assert_eq!(cancelled.generations.len(), 2);
    for id in rest.ids {
        worker.submit_text(&written(id)).await.unwrap();
    }
    let status = horde.anonymous().text_status(id).await.unwrap();
    assert!(status.progress.done);
    assert_eq!(status.generations.len(), 4);
    let sum = horde.server.store().ledger_sum().await.unwrap();
    assert_eq!(sum, ordu_core::Kudos::ZERO);
}

#[tokio::test]
async fn soft_prompts_and_worker_lists_reach_who_may_serve() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let mut offer = text_pop("w1");
    worker.pop_text(&offer).await.unwrap();
    let first = horde.get("/workers/name/w1").await.body["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let only_first = TextRequest {
        workers: vec![first],
        ..text_request()
    };
    horde.anonymous().async_text(&only_first).await.unwrap();
    let soft = TextRequest {
        softprompt: Some("soft".to_owned()),
        ..text_request()
    };
    horde.anonymous().async_text(&soft).await.unwrap();
    let second = worker.pop_text(&text_pop("w2")).await.unwrap();
    assert_eq!(second.id, None);
    assert_eq!(second.skipped.get("matching_softprompt"), Some(&1));
    assert!(worker.pop_text(&offer).await.unwrap().id.is_some());
    offer.softprompts = vec!["soft".to_owned()];
    let job = worker.pop_text(&offer).await.unwrap();
    assert_eq!(job.softprompt.as_deref(), Some("soft"));
    let models = horde.get("/status/models?type=text").await.body;
    assert_eq!(models[0]["name"], TEXT_MODEL);
    let performance = horde.get("/status/performance").await.body;
    assert_eq!(performance["text_worker_count"], 2);
}

#[tokio::test]
async fn pictures_reach_a_worker_where_the_operator_lets_them() {
    let horde = TestHorde::start_with(|config| ordu_server::Config {
        text_vision: ordu_core::text::Vision::On,
        ..config
    })
    .await;
    let owner = horde.user("owner", 0.0).await;
    let mut wanted = text_request();
    wanted.extra_source_images = vec![ordu_api::image::ExtraSourceImage {
        image: crate::support::TINY_PNG.to_owned(),
        strength: 0.5,
    }];
    let id = horde.anonymous().async_text(&wanted).await.unwrap().id;
    let progress = horde.anonymous().text_status(id).await.unwrap().progress;
    assert!((progress.kudos - 6.0).abs() < f64::EPSILON);
    let worker = horde.client(&owner.api_key);
    let blind = worker.pop_text(&text_pop("blind")).await.unwrap();
    assert_eq!((blind.id, blind.skipped.len()), (None, 0));
    let mut pop = text_pop("w");
    pop.capabilities = Some(vec!["vision".to_owned()]);
    let job = worker.pop_text(&pop).await.unwrap();
    let pictures = job.extra_source_images.unwrap();
    let picture = worker.download(&pictures[0].image, 10_000).await.unwrap();
    assert_eq!(picture.get(8..12), Some(&b"WEBP"[..]));
}
