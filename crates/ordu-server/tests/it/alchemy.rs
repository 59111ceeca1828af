//! Alchemy: the whole way of a request, form by form, and every no on it.

use base64::Engine as _;
use ordu_api::alchemy::{AlchemyState, AlchemyStatus, FORMS};
use ordu_api::image::{SubmitState, UPLOADED};
use ordu_api::{ApiKey, RequestId};
use serde_json::{Value, json};

use crate::support::{
    Answer, PICTURE, TINY_PNG, TestHorde, alchemy_pop, alchemy_request, answered, on_each_database,
    pop, text_pop, text_request,
};

/// The form of a request with its state, in their order.
fn states(status: &AlchemyStatus) -> Vec<(&str, AlchemyState)> {
    let forms = status.forms.iter();
    forms.map(|form| (form.form.as_str(), form.state)).collect()
}

#[tokio::test]
async fn forms_walk_from_request_to_result() {
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
        let mut wanted = alchemy_request(&["palette", "describe", "palette", "GFPGAN"]);
        wanted.forms[0].payload = json!({ "k": 0, "t": "x" }).as_object().cloned();
        let accepted = client.async_alchemy(&wanted).await.unwrap();
        let status = client.alchemy_status(accepted.id).await.unwrap();
        assert_eq!(status.state, AlchemyState::Waiting);
        let names: Vec<&str> = states(&status).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["palette", "describe", "GFPGAN"]);

        let offer = alchemy_pop("alchemist", &["GFPGAN", "palette"]);
        let jobs = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap();
        assert_eq!(jobs.len(), 2);
        let (palette, gfpgan) = (&jobs[0], &jobs[1]);
        assert_eq!(
            (palette.form.as_str(), gfpgan.form.as_str()),
            ("palette", "GFPGAN")
        );
        let options = json!({ "k": "0", "t": "x" });
        assert_eq!(palette.payload.as_ref(), options.as_object());
        assert!(palette.r2_upload.is_none());
        let source = client
            .download(&palette.source_image, 10_000)
            .await
            .unwrap();
        assert_eq!(source.get(8..12), Some(&b"WEBP"[..]));
        let status = client.alchemy_status(accepted.id).await.unwrap();
        assert_eq!(status.state, AlchemyState::Processing);

        let upload = gfpgan.r2_upload.as_ref().unwrap();
        worker
            .upload(upload, PICTURE.to_vec().into())
            .await
            .unwrap();
        let reward = |reward: ordu_api::image::Reward| reward.reward;
        let made = worker
            .submit_alchemy(&answered(gfpgan.id, "GFPGAN", UPLOADED))
            .await;
        assert!((reward(made.unwrap()) - 3.0).abs() < f64::EPSILON);
        let found = worker
            .submit_alchemy(&answered(palette.id, "palette", "#fff"))
            .await;
        assert!((reward(found.unwrap()) - 1.0).abs() < f64::EPSILON);
        let status = client.alchemy_status(accepted.id).await.unwrap();
        assert_eq!(status.state, AlchemyState::Waiting);
        let result = |form: usize| status.forms[form].result.as_ref();
        assert_eq!(result(0).unwrap()["palette"], "#fff");
        assert_eq!(result(1), None);
        let link = result(2).unwrap()["GFPGAN"].as_str().unwrap();
        assert_eq!(client.download(link, 1000).await.unwrap(), PICTURE);

        let sum = horde.server.store().ledger_sum().await.unwrap();
        assert_eq!(sum, ordu_core::Kudos::ZERO);
    })
    .await;
}

#[tokio::test]
async fn an_empty_result_is_none() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let wanted = alchemy_request(&["describe"]);
    let id = horde.anonymous().async_alchemy(&wanted).await.unwrap().id;
    let offer = alchemy_pop("w", &["describe"]);
    let job = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap()[0].id;
    let mut nothing = answered(job, "describe", "");
    nothing.result.clear();
    worker.submit_alchemy(&nothing).await.unwrap();
    let status = horde.get(&format!("/interrogate/status/{id}")).await.body;
    let expected = json!({ "state": "done", "forms": [{ "form": "describe", "state": "done" }] });
    assert_eq!(status, expected);
}

#[tokio::test]
async fn links_to_results_are_made_anew_for_each_look() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let id = horde
        .anonymous()
        .async_alchemy(&alchemy_request(&["RealESRGAN_x4plus"]))
        .await
        .unwrap()
        .id;
    let offer = alchemy_pop("w", &["RealESRGAN_x4plus"]);
    let job = worker
        .pop_alchemy(&offer)
        .await
        .unwrap()
        .forms
        .unwrap()
        .remove(0);
    worker
        .submit_alchemy(&answered(job.id, "RealESRGAN_x4plus", UPLOADED))
        .await
        .unwrap();
    let link = async || {
        let status = horde.anonymous().alchemy_status(id).await.unwrap();
        let result = status.forms[0].result.clone().unwrap();
        result["RealESRGAN_x4plus"].as_str().unwrap().to_owned()
    };
    assert_eq!(link().await, "N/A", "nothing was uploaded");
    let upload = job.r2_upload.unwrap();
    worker
        .upload(&upload, PICTURE.to_vec().into())
        .await
        .unwrap();
    let first = link().await;
    horde.later(600);
    let second = link().await;
    assert_ne!(first, second);
    let client = horde.anonymous();
    assert_eq!(client.download(&second, 1000).await.unwrap(), PICTURE);
}

#[tokio::test]
async fn an_idle_pop_answers_exactly_this() {
    let horde = TestHorde::start().await;
    let (owner, stranger) = (horde.user("owner", 0.0).await, stranger(&horde).await);
    let pop = async |key: &ApiKey, name: &str| {
        let request = horde
            .http
            .post(format!("{}/api/v2/interrogate/pop", horde.url));
        let body = json!({ "name": name });
        let request = request.header("apikey", key.reveal()).json(&body);
        request.send().await.unwrap().text().await.unwrap()
    };
    assert_eq!(
        pop(&owner.api_key, "w").await,
        r#"{"forms":null,"skipped":{}}"#
    );
    let worker = horde.get("/workers/name/w").await.body;
    assert_eq!(
        (&worker["type"], &worker["nsfw"]),
        (&json!("interrogation"), &json!(false))
    );
    assert_eq!(worker["forms"], json!(["caption"]));
    let mut wanted = alchemy_request(&["caption", "nsfw"]);
    wanted.trusted_workers = true;
    horde.anonymous().async_alchemy(&wanted).await.unwrap();
    let answer = pop(&stranger, "s").await;
    assert_eq!(answer, r#"{"forms":null,"skipped":{"untrusted":1}}"#);
}

/// The key of a user whom nobody trusts.
async fn stranger(horde: &TestHorde) -> ApiKey {
    let body = json!({ "username": "stranger", "oauth_id": "stranger", "kudos": 0, "moderator": false, "trusted": false });
    let answer = horde.post("/dev/test-user", None, &body).await;
    ApiKey::new(answer.body["api_key"].as_str().unwrap())
}

#[tokio::test]
async fn cancelling_settles_what_is_in_processing() {
    let horde = TestHorde::start().await;
    let (owner, asker) = (
        horde.user("owner", 0.0).await,
        horde.user("asker", 100.0).await,
    );
    let (worker, client) = (horde.client(&owner.api_key), horde.client(&asker.api_key));
    let wanted = alchemy_request(&["caption", "nsfw", "palette"]);
    let id = client.async_alchemy(&wanted).await.unwrap().id;
    let mut offer = alchemy_pop("w", &["caption", "nsfw", "palette"]);
    offer.amount = 2;
    let jobs = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap();
    worker
        .submit_alchemy(&answered(jobs[0].id, "caption", "a dot"))
        .await
        .unwrap();
    for _ in 0..2 {
        let status = client.cancel_alchemy(id).await.unwrap();
        assert_eq!(status.state, AlchemyState::Partial);
        let expected = [
            ("caption", AlchemyState::Done),
            ("nsfw", AlchemyState::Cancelled),
            ("palette", AlchemyState::Cancelled),
        ];
        assert_eq!(states(&status), expected);
    }
    let late = serde_json::to_value(answered(jobs[1].id, "nsfw", "late")).unwrap();
    let answer = horde
        .post("/interrogate/submit", Some(&owner.api_key), &late)
        .await;
    assert_eq!((answer.status, answer.rc()), (400, "DuplicateGen"));
    assert!(worker.pop_alchemy(&offer).await.unwrap().forms.is_none());
    // Both forms were paid for: 2 × (1 + 2), and their worker earned 2.
    horde.later(11);
    horde.server.settle_down().await.unwrap();
    let balance = async |user: &str| {
        let user = horde.get(&format!("/users/{user}")).await.body;
        user["kudos"].as_f64().unwrap()
    };
    let kudos = balance(&asker.user_id).await;
    assert!((kudos - 94.0).abs() < f64::EPSILON, "{kudos}");
    let worker = horde.get("/workers/name/w").await.body;
    assert_eq!(worker["requests_fulfilled"], 2);
    assert_eq!(worker["kudos_rewards"], 2.0);
}

#[tokio::test]
async fn a_form_is_given_up_after_four_failures_and_the_restart_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let wanted = alchemy_request(&["caption", "nsfw", "palette", "describe"]);
    let id = horde.anonymous().async_alchemy(&wanted).await.unwrap().id;
    let caption = alchemy_pop("w", &["caption"]);
    for _ in 0..3 {
        let job = worker.pop_alchemy(&caption).await.unwrap().forms.unwrap()[0].id;
        let mut fault = answered(job, "caption", "");
        fault.state = SubmitState::Faulted;
        worker.submit_alchemy(&fault).await.unwrap();
    }
    worker.pop_alchemy(&caption).await.unwrap().forms.unwrap();
    horde.later(181);
    horde.server.settle_down().await.unwrap();
    assert!(worker.pop_alchemy(&caption).await.unwrap().forms.is_none());
    let nsfw = worker
        .pop_alchemy(&alchemy_pop("w", &["nsfw"]))
        .await
        .unwrap();
    let nsfw = nsfw.forms.unwrap()[0].id;
    worker
        .submit_alchemy(&answered(nsfw, "nsfw", "no"))
        .await
        .unwrap();
    let palette = worker
        .pop_alchemy(&alchemy_pop("w", &["palette"]))
        .await
        .unwrap();
    let palette = palette.forms.unwrap()[0].id;
    let now = horde.clock.clone();
    let before = horde.anonymous().alchemy_status(id).await.unwrap();
    horde.server.stop().await;

    let horde = TestHorde::start_in_at(folder.path(), now).await;
    let worker = horde.client(&owner.api_key);
    let status = horde.anonymous().alchemy_status(id).await.unwrap();
    assert_eq!(status, before);
    let expected = [
        ("caption", AlchemyState::Faulted),
        ("nsfw", AlchemyState::Done),
        ("palette", AlchemyState::Processing),
        ("describe", AlchemyState::Waiting),
    ];
    assert_eq!(states(&status), expected);
    worker
        .submit_alchemy(&answered(palette, "palette", "#000"))
        .await
        .unwrap();
    let all = alchemy_pop("w", &["caption", "nsfw", "palette", "describe"]);
    let last = worker.pop_alchemy(&all).await.unwrap().forms.unwrap();
    assert_eq!(last.len(), 1);
    worker
        .submit_alchemy(&answered(last[0].id, "describe", "dot"))
        .await
        .unwrap();
    let status = horde.anonymous().alchemy_status(id).await.unwrap();
    assert_eq!(status.state, AlchemyState::Partial);
    assert_done_in_the_database(&horde, id).await;
}

/// Nothing is left to do, so the next start does not load it.
async fn assert_done_in_the_database(horde: &TestHorde, id: RequestId) {
    let row = horde
        .server
        .store()
        .find_request(id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.state, ordu_store::RequestState::Finished);
    let sum = horde.server.store().ledger_sum().await.unwrap();
    assert_eq!(sum, ordu_core::Kudos::ZERO);
}

#[tokio::test]
async fn a_cancelled_request_reads_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let wanted = alchemy_request(&["caption", "nsfw", "palette"]);
    let id = horde.anonymous().async_alchemy(&wanted).await.unwrap().id;
    let jobs = worker
        .pop_alchemy(&alchemy_pop("w", &["caption", "nsfw"]))
        .await
        .unwrap()
        .forms
        .unwrap();
    worker
        .submit_alchemy(&answered(jobs[0].id, "caption", "a dot"))
        .await
        .unwrap();
    let before = horde.anonymous().cancel_alchemy(id).await.unwrap();
    horde.server.stop().await;
    let horde = TestHorde::start_in(folder.path(), "127.0.0.1:0").await;
    let after = horde.anonymous().alchemy_status(id).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(after.state, AlchemyState::Partial);
}

#[tokio::test]
async fn wrong_fields_are_named_all_at_once() {
    let horde = TestHorde::start().await;
    let key = ApiKey::anonymous();
    let ask = async |body: &Value| horde.post("/interrogate/async", Some(&key), body).await;
    let fields = [
        (json!({}), vec!["source_image"]),
        (json!([]), vec![""]),
        (json!({ "source_image": TINY_PNG }), vec!["forms"]),
        (
            json!({ "forms": [{ "name": "caption" }] }),
            vec!["source_image"],
        ),
        (with(&json!({ "forms": "x" })), vec!["forms"]),
        (with(&json!({ "forms": [{}] })), vec!["forms.0.name"]),
        (
            with(&json!({ "forms": [{ "name": "bogus" }] })),
            vec!["forms.0.name"],
        ),
        (
            with(&json!({ "forms": [{ "name": "nsfw", "payload": "x" }] })),
            vec!["forms.0.payload"],
        ),
        (with(&json!({ "source_image": 5 })), vec!["source_image"]),
        (with(&json!({ "source_image": null })), vec!["source_image"]),
        (
            with(&json!({ "trusted_workers": "x" })),
            vec!["trusted_workers"],
        ),
        (with(&json!({ "slow_workers": "x" })), vec!["slow_workers"]),
        (with(&json!({ "webhook": "https://a" })), vec!["webhook"]),
        (
            with(&json!({ "webhook": 5, "slow_workers": 1 })),
            vec!["slow_workers", "webhook"],
        ),
    ];
    for (body, named) in fields {
        let answer = ask(&body).await;
        assert_eq!(answer.status, 400, "{body}");
        let found: Vec<&String> = answer.body["errors"].as_object().unwrap().keys().collect();
        assert_eq!(found, named, "{body}");
    }
}

#[tokio::test]
async fn rules_refuse_with_their_code() {
    let horde = TestHorde::start().await;
    let key = ApiKey::anonymous();
    let ask = async |body: &Value| horde.post("/interrogate/async", Some(&key), body).await;
    let codes = [
        (json!({ "forms": [] }), "BadRequest"),
        (json!({ "webhook": "http://example.org/" }), "BadRequest"),
        (
            json!({ "source_image": "not an image" }),
            "ImageValidationFailed",
        ),
        (json!({ "source_image": "" }), "ImageValidationFailed"),
        (
            json!({ "source_image": "http://127.0.0.1:9/a.png" }),
            "SourceImageUrlInvalid",
        ),
        (
            json!({ "forms": [{ "name": "nsfw", "payload": { "a": "\u{0}" } }] }),
            "NulByteInPayload",
        ),
    ];
    for (change, rc) in codes {
        let answer = ask(&with(&change)).await;
        assert_eq!((answer.status, answer.rc()), (400, rc), "{change}");
    }
    let wide = png_header(16_384 * 8, 512);
    let answer = ask(&with(&json!({ "source_image": wide }))).await;
    assert_eq!(answer.rc(), "SourceImageResolutionExceeded");
    for form in FORMS {
        let answer = ask(&with(&json!({ "forms": [{ "name": form }] }))).await;
        assert_eq!(answer.status, 202, "{form}");
    }
    let plain = with(&json!({}));
    let answer = horde.post("/interrogate/async", None, &plain).await;
    assert!(answer.body["errors"].get("apikey").is_some());
    let unknown = ApiKey::new("unknown");
    let answer = horde
        .post("/interrogate/async", Some(&unknown), &plain)
        .await;
    assert_eq!((answer.status, answer.rc()), (401, "InvalidAPIKey"));
}

/// A valid body with other members.
fn with(change: &Value) -> Value {
    let mut body = json!({ "forms": [{ "name": "caption" }], "source_image": TINY_PNG });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A PNG, as base64, whose header tells this size.
fn png_header(width: u32, height: u32) -> String {
    use base64::engine::general_purpose::STANDARD;
    let mut png = STANDARD.decode(TINY_PNG).unwrap();
    png.splice(16..20, width.to_be_bytes());
    png.splice(20..24, height.to_be_bytes());
    let crc = !png[12..29].iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    png.splice(29..33, crc.to_be_bytes());
    STANDARD.encode(png)
}

#[tokio::test]
async fn pops_are_refused_with_their_code() {
    let horde = TestHorde::start().await;
    let (owner, other) = (
        horde.user("owner", 0.0).await,
        horde.user("other", 0.0).await,
    );
    let worker = horde.client(&owner.api_key);
    worker.pop_image(&pop("dreamer")).await.unwrap();
    let offer = alchemy_pop("w", &["caption"]);
    worker.pop_alchemy(&offer).await.unwrap();
    let (anonymous, unknown) = (ApiKey::anonymous(), ApiKey::new("unknown"));
    for (key, change, status, rc) in [
        (&anonymous, json!({}), 403, "AnonForbiddenWorker"),
        (&unknown, json!({}), 401, "InvalidAPIKey"),
        (&other.api_key, json!({}), 403, "WrongCredentials"),
        (
            &owner.api_key,
            json!({ "name": "dreamer" }),
            400,
            "PolymorphicNameConflict",
        ),
        (
            &owner.api_key,
            json!({ "priority_usernames": ["noid"] }),
            400,
            "BadRequest",
        ),
    ] {
        let mut body = serde_json::to_value(&offer).unwrap();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = horde.post("/interrogate/pop", Some(key), &body).await;
        assert_eq!((answer.status, answer.rc()), (status, rc), "{change}");
    }
    for (member, value, named) in [
        ("name", json!(5), "name"),
        ("forms", json!("x"), "forms"),
        ("forms", json!(["bogus"]), "forms.0"),
        ("amount", json!("x"), "amount"),
        ("amount", json!(0), "amount"),
        ("bridge_agent", json!(5), "bridge_agent"),
        ("threads", json!(0), "threads"),
        ("threads", json!(101), "threads"),
        ("max_tiles", json!(0), "max_tiles"),
        ("max_tiles", json!(257), "max_tiles"),
        ("priority_usernames", json!("x"), "priority_usernames"),
    ] {
        let mut body = serde_json::to_value(&offer).unwrap();
        body[member] = value;
        let answer = horde
            .post("/interrogate/pop", Some(&owner.api_key), &body)
            .await;
        assert_eq!(
            (answer.status, named_fields(&answer)),
            (400, vec![named]),
            "{body}"
        );
    }
}

/// The members that an answer complains about.
fn named_fields(answer: &Answer) -> Vec<&str> {
    let errors = answer.body["errors"].as_object().unwrap();
    errors.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn submits_are_refused_with_their_code() {
    let horde = TestHorde::start().await;
    let (owner, other) = (
        horde.user("owner", 0.0).await,
        horde.user("other", 0.0).await,
    );
    let worker = horde.client(&owner.api_key);
    horde.anonymous().async_text(&text_request()).await.unwrap();
    let text = worker.pop_text(&text_pop("scribe")).await.unwrap().ids[0].to_string();
    let wanted = alchemy_request(&["caption"]);
    horde.anonymous().async_alchemy(&wanted).await.unwrap();
    let offer = alchemy_pop("w", &["caption"]);
    let form = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap()[0]
        .id
        .to_string();
    let unknown = ApiKey::new("unknown");
    for (body, named) in [
        (json!(null), "id"),
        (json!([]), "id"),
        (json!({}), "id"),
        (json!({ "id": form }), "result"),
        (json!({ "id": form, "result": "x" }), "result"),
        (
            json!({ "id": form, "result": {}, "state": "bogus" }),
            "state",
        ),
    ] {
        let answer = horde
            .post("/interrogate/submit", Some(&owner.api_key), &body)
            .await;
        assert_eq!(named_fields(&answer), [named], "{body}");
    }
    let raw = horde
        .http
        .post(format!("{}/api/v2/interrogate/submit", horde.url));
    let raw = raw.body("no json").header("apikey", owner.api_key.reveal());
    assert_eq!(named_fields(&Answer::read(raw).await), ["id"]);
    for (key, id, status, rc) in [
        (&unknown, "garbage", 404, "InvalidJobID"),
        (&unknown, text.as_str(), 404, "InvalidJobID"),
        (&unknown, form.as_str(), 401, "InvalidAPIKey"),
        (&other.api_key, form.as_str(), 403, "WrongCredentials"),
        (&owner.api_key, form.as_str(), 200, ""),
        (&owner.api_key, form.as_str(), 400, "DuplicateGen"),
    ] {
        let body = json!({ "id": id, "result": { "caption": "a dot" } });
        let answer = horde.post("/interrogate/submit", Some(key), &body).await;
        assert_eq!((answer.status, answer.rc()), (status, rc), "{id}");
    }
}

#[tokio::test]
async fn an_account_may_have_ten_times_its_concurrency_in_forms() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let asker = horde.user("asker", 1000.0).await;
    let wanted = serde_json::to_value(alchemy_request(FORMS)).unwrap();
    let ask = async || {
        let answer = horde
            .post("/interrogate/async", Some(&asker.api_key), &wanted)
            .await;
        (answer.status, answer.rc().to_owned())
    };
    // Thirteen times 23 forms are 299 of 300.
    for _ in 0..13 {
        assert_eq!(ask().await.0, 202);
    }
    assert_eq!(ask().await, (429, "TooManyPrompts".to_owned()));
    // Forms at workers count too, finished ones do not.
    let worker = horde.client(&owner.api_key);
    let mut offer = alchemy_pop("w", FORMS);
    offer.amount = 23;
    let jobs = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap();
    assert_eq!((jobs.len(), ask().await.0), (23, 429));
    for job in jobs {
        worker
            .submit_alchemy(&answered(job.id, &job.form, "x"))
            .await
            .unwrap();
    }
    assert_eq!(ask().await.0, 202);
    // Pictures have their own limit.
    let client = horde.client(&asker.api_key);
    client
        .async_image(&crate::support::request())
        .await
        .unwrap();
}
