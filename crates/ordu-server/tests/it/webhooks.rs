//! Messages to requesters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use ordu_api::ApiKey;
use ordu_api::image::{ImageJob, ImageRequest, Metadata};
use ordu_client::Horde;
use ordu_server::Config;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::receiver::{Planned, Posted, Receiver};
use crate::support::{
    PICTURE, TEXT_MODEL, TestHorde, deliver_all, delivered, on_each_database, pop, request,
    text_pop, text_request, written,
};

const DAY_SECONDS: i64 = 24 * 3600;

fn reaching_out(config: Config) -> Config {
    Config {
        private_addresses: vec!["127.0.0.1".parse().unwrap()],
        ..config
    }
}

async fn start() -> TestHorde {
    TestHorde::start_with(reaching_out).await
}

fn wanted(receiver: &Receiver, path: &str) -> ImageRequest {
    ImageRequest {
        webhook: Some(receiver.url(path)),
        ..request()
    }
}

/// A worker that has taken what waits.
async fn working(horde: &TestHorde, name: &str) -> (Horde, ImageJob) {
    let owner = horde.user(&format!("owner of {name}"), 0.0).await;
    let worker = horde.client(&owner.api_key);
    let job = worker.pop_image(&pop(name)).await.unwrap();
    (worker, job)
}

/// Waits until the server has counted something.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("it did not happen");
}

fn header<'a>(posted: &'a Posted, name: &str) -> &'a str {
    posted.headers.get(name).unwrap().to_str().unwrap()
}

#[tokio::test]
async fn a_result_is_told_word_for_word() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..reaching_out(config)
        })
        .await;
        told_word_for_word(&horde, "w").await;
        horde.server.stop().await;
    })
    .await;
}

async fn told_word_for_word(horde: &TestHorde, name: &str) {
    let mut receiver = Receiver::start().await;
    let asker = horde.user(&format!("asker of {name}"), 100.0).await;
    let client = horde.client(&asker.api_key);
    let id = client
        .async_image(&wanted(&receiver, "/hook?a=b"))
        .await
        .unwrap()
        .id;
    let (worker, job) = working(horde, name).await;
    let mut submit = delivered(job.id.unwrap());
    submit.gen_metadata.push(Metadata {
        kind: "information".to_owned(),
        value: "see_ref".to_owned(),
        reference: Some("a note".to_owned()),
    });
    let upload = job.r2_upload.unwrap();
    worker
        .upload(&upload, PICTURE.to_vec().into())
        .await
        .unwrap();
    let reward = worker.submit_image(&submit).await.unwrap().reward;
    let posted = receiver.next().await;
    assert_eq!(posted.path, "/hook");
    assert_eq!(header(&posted, "content-type"), "application/json");
    let mut body = posted.body.clone();
    let img = body["img"].take();
    let worker_id = body["worker_id"].take();
    assert_eq!(
        body,
        json!({
            "img": null, "seed": 7, "worker_id": null, "worker_name": name, "model": "ordu-tiny",
            "id": job.id, "censored": false,
            "gen_metadata": [{ "type": "information", "value": "see_ref", "ref": "a note" }],
            "request": id, "kudos": reward,
        })
    );
    assert_eq!(worker_id.as_str().unwrap().len(), 36);
    let picture = client.download(img.as_str().unwrap(), 1000).await.unwrap();
    assert_eq!(picture, PICTURE);
    assert_signed(horde, &asker.api_key, &posted).await;
    until(|| horde.server.traffic().webhooks_delivered == 1).await;
    horde.server.settle_down().await.unwrap();
    assert!(receiver.is_quiet());
}

/// Proves a message as its receiver would.
async fn assert_signed(horde: &TestHorde, key: &ApiKey, posted: &Posted) {
    let url = format!("{}/api/v2/webhooks/secret", horde.url);
    let asked = horde.http.get(url).header("apikey", key.reveal());
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    let secret = answer["secret"].as_str().unwrap();
    let secret = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let (id, at) = (
        header(posted, "webhook-id"),
        header(posted, "webhook-timestamp"),
    );
    assert_eq!(id, posted.body["id"].as_str().unwrap());
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(format!("{id}.{at}.{}", posted.text).as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(
        header(posted, "webhook-signature"),
        format!("v1,{signature}")
    );
}

#[tokio::test]
async fn secrets_are_for_accounts_and_change_with_the_key() {
    let horde = start().await;
    let secret = async |key: &ApiKey| {
        let url = format!("{}/api/v2/webhooks/secret", horde.url);
        let asked = horde.http.get(url).header("apikey", key.reveal());
        crate::support::Answer::read(asked).await
    };
    let (alice, bob) = (horde.user("alice", 0.0).await, horde.user("bob", 0.0).await);
    let first = secret(&alice.api_key).await.body;
    assert_ne!(first, secret(&bob.api_key).await.body);
    assert_eq!(first, secret(&alice.api_key).await.body);
    assert_eq!(secret(&ApiKey::anonymous()).await.rc(), "AnonForbidden");
    assert_eq!(secret(&ApiKey::new("nobody")).await.rc(), "InvalidAPIKey");
    assert_eq!(horde.get("/webhooks/secret").await.status, 400);
}

#[tokio::test]
async fn a_requester_without_links_gets_the_picture_itself() {
    let horde = start().await;
    let mut receiver = Receiver::start().await;
    let inline = ImageRequest {
        r2: false,
        ..wanted(&receiver, "/")
    };
    horde.anonymous().async_image(&inline).await.unwrap();
    let (worker, job) = working(&horde, "w").await;
    deliver_all(&worker, &job).await;
    let posted = receiver.next().await;
    assert_eq!(posted.body["img"], STANDARD.encode(PICTURE));
    // Everybody is anonymous: a signature would prove nothing.
    assert!(!posted.headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn a_text_is_told_with_its_state() {
    let horde = start().await;
    let mut receiver = Receiver::start().await;
    let wanted = ordu_api::text::TextRequest {
        webhook: Some(receiver.url("/")),
        ..text_request()
    };
    let id = horde.anonymous().async_text(&wanted).await.unwrap().id;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let job = worker.pop_text(&text_pop("scribe")).await.unwrap();
    let reward = worker.submit_text(&written(job.ids[0])).await.unwrap();
    let mut body = receiver.next().await.body;
    body["worker_id"].take();
    assert_eq!(
        body,
        json!({
            "text": "there was a horde", "seed": 7, "worker_id": null, "worker_name": "scribe",
            "model": TEXT_MODEL, "id": job.id, "state": "ok", "gen_metadata": [],
            "request": id, "kudos": reward.reward,
        })
    );
}

/// Asks an alchemist for one form, which is delivered with a result; answers what is told.
async fn told_of_form(form: &str, result: Value) -> Value {
    let horde = start().await;
    let mut receiver = Receiver::start().await;
    let key = horde.user("asker", 100.0).await.api_key;
    let wanted = json!({
        "forms": [{ "name": form }], "webhook": receiver.url("/"),
        "source_image": crate::rating::source(),
    });
    let asked = horde.post("/interrogate/async", Some(&key), &wanted).await;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let owner = horde.user("owner", 0.0).await.api_key;
    let pop = json!({
        "name": "alchemist", "forms": [form], "amount": 1,
        "bridge_agent": "AI Horde Worker reGen:14.0.0:https://example.org",
    });
    let popped = horde.post("/interrogate/pop", Some(&owner), &pop).await;
    let id = popped.body["forms"][0]["id"].clone();
    let submit = json!({ "id": id, "result": result, "state": "ok" });
    let submitted = horde
        .post("/interrogate/submit", Some(&owner), &submit)
        .await;
    assert_eq!(submitted.status, 200, "{}", submitted.body);
    let mut body = receiver.next().await.body;
    assert_eq!(body["id"], id);
    assert_eq!(body["request"], asked.body["id"]);
    assert_eq!(body["kudos"], submitted.body["reward"]);
    assert_eq!(body["worker_name"], "alchemist");
    let members = body.as_object_mut().unwrap();
    for known in ["id", "request", "kudos", "worker_name", "worker_id"] {
        assert!(members.remove(known).is_some(), "{known}");
    }
    body
}

#[tokio::test]
async fn a_form_is_told_with_its_result() {
    let result = json!({ "caption": "a black square" });
    let told = told_of_form("caption", result.clone()).await;
    assert_eq!(
        told,
        json!({ "form": "caption", "state": "done", "result": result })
    );
    let told = told_of_form("GFPGAN", json!({ "GFPGAN": "R2" })).await;
    let link = told["result"]["GFPGAN"].as_str().unwrap();
    assert!(link.contains("/blobs/"), "{link}");
}

#[tokio::test]
async fn what_fails_is_repeated_and_nothing_overtakes_it() {
    let horde = start().await;
    let mut receiver = Receiver::start().await;
    let mut three = wanted(&receiver, "/");
    three.params.n = Some(3);
    horde.anonymous().async_image(&three).await.unwrap();
    let (worker, job) = working(&horde, "w").await;
    receiver.plan([Planned::Answer(500, "no"), Planned::Answer(404, "")]);
    deliver_all(&worker, &job).await;
    let ids: Vec<Value> = job.ids.iter().map(|id| json!(id)).collect();
    assert_eq!(receiver.next().await.body["id"], ids[0]);
    until(|| horde.server.traffic().webhooks_failed == 1).await;
    horde.later(4);
    horde.server.settle_down().await.unwrap();
    assert!(receiver.is_quiet());
    // Five seconds after the first failure, twenty after the second one.
    horde.later(1);
    horde.server.settle_down().await.unwrap();
    assert_eq!(receiver.next().await.body["id"], ids[0]);
    horde.later(20);
    horde.server.settle_down().await.unwrap();
    for id in ids {
        assert_eq!(receiver.next().await.body["id"], id);
    }
    until(|| horde.server.traffic().webhooks_delivered == 3).await;
    assert_eq!(horde.server.store().count_webhooks().await.unwrap(), 0);
}

/// A port where nobody listens any more.
async fn quiet_address() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_message_survives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("ordu.db").display());
    let start = async || {
        let database = database.clone();
        TestHorde::start_with(|config| Config {
            database,
            ..reaching_out(config)
        })
        .await
    };
    let horde = start().await;
    let address = quiet_address().await;
    let hook = ImageRequest {
        webhook: Some(format!("http://{address}/")),
        ..request()
    };
    horde.anonymous().async_image(&hook).await.unwrap();
    let (worker, job) = working(&horde, "w").await;
    deliver_all(&worker, &job).await;
    until(|| horde.server.traffic().webhooks_failed == 1).await;
    horde.server.stop().await;

    let mut receiver = Receiver::start_at(&address).await;
    let horde = start().await;
    horde.later(5);
    horde.server.settle_down().await.unwrap();
    assert_eq!(receiver.next().await.body["id"], json!(job.id));
}

#[tokio::test]
async fn a_message_is_given_up_when_it_is_a_day_old() {
    let horde = start().await;
    let hook = ImageRequest {
        webhook: Some(format!("http://{}/", quiet_address().await)),
        ..request()
    };
    horde.anonymous().async_image(&hook).await.unwrap();
    let (worker, job) = working(&horde, "w").await;
    deliver_all(&worker, &job).await;
    until(|| horde.server.traffic().webhooks_failed == 1).await;
    let left = || horde.server.store().count_webhooks();
    horde.later(DAY_SECONDS - 1);
    horde.server.settle_down().await.unwrap();
    assert_eq!(left().await.unwrap(), 1);
    horde.later(1);
    horde.server.settle_down().await.unwrap();
    assert_eq!(horde.server.traffic().webhooks_dropped, 1);
    assert_eq!(left().await.unwrap(), 0);
}

#[tokio::test]
async fn redirects_are_followed_but_never_inside() {
    let horde = start().await;
    let mut receiver = Receiver::start().await;
    receiver.plan([
        Planned::Redirect(307, "/moved".to_owned()),
        Planned::Answer(204, ""),
        Planned::Redirect(302, "http://192.168.0.1/".to_owned()),
        Planned::Redirect(308, "http://192.168.0.1/".to_owned()),
    ]);
    let hook = wanted(&receiver, "/first");
    let deliver = async |name: &str| {
        horde.anonymous().async_image(&hook).await.unwrap();
        let (worker, job) = working(&horde, name).await;
        deliver_all(&worker, &job).await;
    };
    deliver("w1").await;
    assert_eq!(receiver.next().await.path, "/first");
    let moved = receiver.next().await;
    assert_eq!(
        (moved.path.as_str(), &moved.body["seed"]),
        ("/moved", &json!(7))
    );
    // What asks for a GET elsewhere was received here.
    deliver("w2").await;
    until(|| horde.server.traffic().webhooks_delivered == 2).await;
    deliver("w3").await;
    until(|| horde.server.traffic().webhooks_failed == 1).await;
    assert_eq!(horde.server.traffic().webhooks_delivered, 2);
}

#[tokio::test]
async fn addresses_that_lead_inside_are_refused_at_once() {
    let horde = TestHorde::start().await;
    let refused = [
        "http://example.org/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://169.254.169.254/latest",
        "https://example.org:22/",
        "ftp://example.org/hook",
        "not an address",
    ];
    for url in refused {
        let mut body = json!(request());
        body["webhook"] = json!(url);
        let key = ApiKey::anonymous();
        let answer = horde.post("/generate/async", Some(&key), &body).await;
        assert_eq!((answer.status, answer.rc()), (400, "BadRequest"), "{url}");
    }
    let mut body = json!(request());
    body["webhook"] = json!("https://example.org/hook");
    let key = ApiKey::anonymous();
    let answer = horde.post("/generate/async", Some(&key), &body).await;
    assert_eq!(answer.status, 202);
}
