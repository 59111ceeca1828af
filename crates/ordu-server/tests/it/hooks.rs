//! The operator's own rules: programs that are asked at admission, assignment and result.

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::RequestId;
use ordu_api::image::ImageJob;
use ordu_client::Horde;
use ordu_server::{Config, HookConfig, Secret};
use serde_json::{Value, json};

use crate::receiver::{Planned, Receiver};
use crate::support::{
    PICTURE, TestHorde, alchemy_pop, alchemy_request, answered, deliver_all, delivered,
    on_each_database, pop, request, text_pop, text_request, written,
};

const ALLOW: Planned = Planned::Answer(200, r#"{"verdict": "allow"}"#);
const REFUSE: Planned = Planned::Answer(200, r#"{"verdict": "refuse", "message": "not today"}"#);
const CENSOR: Planned = Planned::Answer(200, r#"{"verdict": "censor"}"#);

/// A horde with these hooks, each as `words=path` at the receiver.
async fn start(database: &str, receiver: &Receiver, hooks: &[&str]) -> TestHorde {
    let hooks = hooks.iter().map(|hook| {
        let (words, path) = hook.split_once('=').unwrap();
        format!("{words}={}", receiver.url(path)).parse().unwrap()
    });
    let hooks = HookConfig {
        hooks: hooks.collect(),
        secret: Some(HookConfig::read_secret("tell nobody").unwrap()),
    };
    TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        private_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        hooks,
        ..config
    })
    .await
}

async fn rc(horde: &TestHorde, body: &Value) -> (u16, String) {
    let key = ordu_api::ApiKey::anonymous();
    let answer = horde.post("/generate/async", Some(&key), body).await;
    (answer.status, answer.rc().to_owned())
}

#[tokio::test]
async fn admission_is_asked_before_anything_is_kept() {
    on_each_database(async |database| {
        let mut receiver = Receiver::start().await;
        let horde = start(database, &receiver, &["admission+image+closed=/door"]).await;
        let asker = horde.user("asker", 500.0).await;
        let client = horde.client(&asker.api_key);

        receiver.plan([ALLOW]);
        let accepted = client.async_image(&request()).await.unwrap();
        let told = receiver.next().await;
        assert_eq!(told.path, "/door");
        assert_eq!(told.body["stage"], "admission");
        assert_eq!(told.body["kind"], "image");
        assert_eq!(told.body["user"]["alias"], "asker#1");
        assert_eq!(told.body["request"]["prompt"], "a red circle###blur");
        assert_eq!(told.body["request"]["brings"], json!([]));
        assert_eq!(told.body["address"], "127.0.0.1");
        assert_eq!(told.body["client_agent"], "tests:1:here");
        let header = |name: &str| told.headers[name].to_str().unwrap().to_owned();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        let signed = format!("{id}.{timestamp}.{}", told.text);
        assert_eq!(
            header("webhook-signature"),
            signature("tell nobody", &signed)
        );

        receiver.plan([REFUSE]);
        let body = json!(request());
        let refused = horde
            .post("/generate/async", Some(&asker.api_key), &body)
            .await;
        assert_eq!((refused.status, refused.rc()), (403, "Forbidden"));
        assert_eq!(refused.body["message"], "not today");
        let load = horde.get("/status/performance").await;
        assert_eq!(
            load.body["queued_requests"].as_f64(),
            Some(1.0),
            "{accepted:?}"
        );

        // Prices are nobody's business, nor are other kinds.
        client.price_image(&request()).await.unwrap();
        client.async_text(&text_request()).await.unwrap();
        receiver.next().await;
        assert!(receiver.is_quiet());
        horde.server.stop().await;
    })
    .await;
}

fn signature(secret: &str, text: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn what_gives_no_verdict_opens_or_closes() {
    let receiver = Receiver::start().await;
    let body = json!(request());
    let failures = [
        Planned::Answer(500, ""),
        Planned::Answer(200, "what?"),
        Planned::Answer(200, r#"{"verdict": "censor"}"#),
        Planned::Answer(204, ""),
        Planned::Redirect(307, "/elsewhere".to_owned()),
        Planned::Silence,
    ];
    let open = start("sqlite::memory:", &receiver, &["admission+open+50ms=/a"]).await;
    for failure in failures.clone() {
        receiver.plan([failure.clone()]);
        assert_eq!(rc(&open, &body).await.0, 202, "{failure:?}");
    }
    let closed = start("sqlite::memory:", &receiver, &["admission+closed+50ms=/a"]).await;
    for failure in failures {
        receiver.plan([failure.clone()]);
        assert_eq!(rc(&closed, &body).await.0, 503, "{failure:?}");
    }
    receiver.plan([ALLOW]);
    assert_eq!(rc(&closed, &body).await.0, 202, "it is back");
    let queued = closed.get("/status/performance").await;
    assert_eq!(queued.body["queued_requests"].as_f64(), Some(1.0));
}

#[tokio::test]
async fn a_dead_hook_opens_or_closes_and_all_are_asked_in_turn() {
    let receiver = Receiver::start().await;
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let start = async |words: &str| {
        let hook = format!("{words}=http://{dead}/").parse().unwrap();
        let config = |config| Config {
            private_addresses: vec![Ipv4Addr::LOCALHOST.into()],
            hooks: HookConfig {
                hooks: vec![hook],
                secret: None,
            },
            ..config
        };
        TestHorde::start_with(config).await
    };
    let body = json!(request());
    assert_eq!(rc(&start("admission").await, &body).await.0, 202);
    assert_eq!(rc(&start("admission+closed").await, &body).await.0, 503);

    let both = ["admission+closed=/one", "admission+closed=/two"];
    let horde = self::start("sqlite::memory:", &receiver, &both).await;
    receiver.plan([ALLOW, REFUSE]);
    assert_eq!(rc(&horde, &body).await, (403, "Forbidden".to_owned()));
    receiver.plan([REFUSE, ALLOW]);
    assert_eq!(rc(&horde, &body).await, (403, "Forbidden".to_owned()));
}

#[tokio::test]
async fn hooks_at_addresses_that_are_not_allowed_do_not_start() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let started = ordu_server::Server::start(Config {
        hooks: HookConfig {
            hooks: vec!["admission=http://127.0.0.1:9/".parse().unwrap()],
            secret: Some(Secret::new("x")),
        },
        ..Config::in_memory()
    })
    .await;
    let error = started.err().unwrap().to_string();
    assert!(error.contains("http://127.0.0.1:9/"), "{error}");
}

#[tokio::test]
async fn a_job_that_a_worker_must_not_have_goes_to_the_next() {
    on_each_database(async |database| {
        let mut receiver = Receiver::start().await;
        let horde = start(database, &receiver, &["assignment+closed=/give"]).await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let client = horde.anonymous();
        let first = client.async_image(&request()).await.unwrap().id;
        let second = client.async_image(&request()).await.unwrap().id;

        receiver.plan([REFUSE, ALLOW]);
        let job = worker.pop_image(&pop("one")).await.unwrap();
        assert!(job.id.is_some());
        let told = receiver.next().await.body;
        assert_eq!(told["stage"], "assignment");
        assert_eq!(told["id"], json!(first));
        assert_eq!(told["worker"]["name"], "one");
        assert_eq!(told["model"], "ordu-tiny");
        assert_eq!(receiver.next().await.body["id"], json!(second));
        assert_eq!(client.check(second).await.unwrap().processing, 1);

        // This worker gets it never more, another one does.
        receiver.plan([ALLOW]);
        assert!(worker.pop_image(&pop("one")).await.unwrap().id.is_none());
        assert!(receiver.is_quiet());
        assert!(worker.pop_image(&pop("two")).await.unwrap().id.is_some());
        assert_eq!(client.check(first).await.unwrap().restarted, 0);
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn without_a_verdict_no_job_is_given_and_none_is_lost() {
    let receiver = Receiver::start().await;
    let hooks = ["assignment+text+alchemy+closed+50ms=/give"];
    let horde = start("sqlite::memory:", &receiver, &hooks).await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let client = horde.anonymous();
    let text = client.async_text(&text_request()).await.unwrap().id;
    receiver.plan([Planned::Silence]);
    assert!(
        worker
            .pop_text(&text_pop("scribe"))
            .await
            .unwrap()
            .id
            .is_none()
    );
    assert_eq!(client.text_status(text).await.unwrap().progress.waiting, 1);
    receiver.plan([Planned::Answer(500, "")]);
    let patient = worker.patient(std::time::Duration::from_mins(1));
    let nothing = crate::support::soon(patient.pop_text(&text_pop("scribe"))).await;
    assert!(
        nothing.unwrap().id.is_none(),
        "nobody waits for a dead hook"
    );
    receiver.plan([ALLOW]);
    assert!(
        worker
            .pop_text(&text_pop("scribe"))
            .await
            .unwrap()
            .id
            .is_some()
    );

    client
        .async_alchemy(&alchemy_request(&["caption"]))
        .await
        .unwrap();
    client
        .async_alchemy(&alchemy_request(&["caption"]))
        .await
        .unwrap();
    receiver.plan([ALLOW, Planned::Answer(500, "")]);
    let offer = alchemy_pop("alchemist", &["caption"]);
    let forms = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap();
    assert_eq!(forms.len(), 1, "each request is a question of its own");
}

/// A picture that a worker has made and not handed in yet.
async fn painted(horde: &TestHorde, worker: &Horde) -> (RequestId, ImageJob) {
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    let job = worker.pop_image(&pop("painter")).await.unwrap();
    let upload = &job.r2_uploads.as_ref().unwrap()[0];
    worker
        .upload(upload, PICTURE.to_vec().into())
        .await
        .unwrap();
    (id, job)
}

#[tokio::test]
async fn results_are_allowed_refused_or_censored() {
    on_each_database(async |database| {
        let mut receiver = Receiver::start().await;
        let horde = start(database, &receiver, &["result+closed=/look"]).await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let client = horde.anonymous();

        receiver.plan([ALLOW]);
        let (id, job) = painted(&horde, &worker).await;
        worker.submit_image(&delivered(job.ids[0])).await.unwrap();
        let told = receiver.next().await.body;
        assert_eq!(told["stage"], "result");
        assert_eq!(told["job"], json!(job.ids[0]));
        assert_eq!(told["seed"], 7);
        let link = told["picture"].as_str().unwrap();
        let seen = horde.http.get(link).send().await.unwrap();
        assert_eq!(seen.bytes().await.unwrap(), PICTURE);
        assert!(!client.status(id).await.unwrap().generations[0].censored);

        receiver.plan([CENSOR]);
        let (id, job) = painted(&horde, &worker).await;
        worker.submit_image(&delivered(job.ids[0])).await.unwrap();
        let shown = client.status(id).await.unwrap().generations.remove(0);
        assert!(shown.censored);
        assert_eq!(shown.gen_metadata[0].reference.as_deref(), Some("policy"));
        let seen = horde.http.get(&shown.img).send().await.unwrap();
        assert_ne!(seen.bytes().await.unwrap(), PICTURE);

        receiver.plan([REFUSE, ALLOW]);
        let (id, job) = painted(&horde, &worker).await;
        let reward = worker.submit_image(&delivered(job.ids[0])).await.unwrap();
        assert!(reward.reward.abs() < f64::EPSILON, "{reward:?}");
        let progress = client.check(id).await.unwrap();
        assert_eq!((progress.restarted, progress.waiting), (1, 1));
        let again = worker.pop_image(&pop("painter")).await.unwrap();
        deliver_all(&worker, &again).await;
        assert!(client.check(id).await.unwrap().done);
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_result_waits_for_a_verdict_and_texts_are_withheld() {
    let mut receiver = Receiver::start().await;
    let horde = start("sqlite::memory:", &receiver, &["result+closed+50ms=/look"]).await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let client = horde.anonymous();
    let id = client.async_text(&text_request()).await.unwrap().id;
    let job = worker.pop_text(&text_pop("scribe")).await.unwrap();
    receiver.plan([Planned::Silence]);
    let unheard = worker.submit_text(&written(job.ids[0])).await;
    assert!(unheard.is_err_and(|error| error.is_passing()));
    assert_eq!(client.text_status(id).await.unwrap().progress.processing, 1);
    receiver.plan([CENSOR]);
    worker.submit_text(&written(job.ids[0])).await.unwrap();
    let shown = client.text_status(id).await.unwrap().generations.remove(0);
    assert_eq!(
        (shown.text.as_str(), shown.state.as_str()),
        ("", "censored")
    );
    receiver.next().await;
    assert_eq!(receiver.next().await.body["text"], "there was a horde");

    let id = client
        .async_alchemy(&alchemy_request(&["caption"]))
        .await
        .unwrap()
        .id;
    let offer = alchemy_pop("alchemist", &["caption"]);
    let forms = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap();
    receiver.plan([ALLOW]);
    let answer = answered(forms[0].id, "caption", "a dot");
    worker.submit_alchemy(&answer).await.unwrap();
    let told = receiver.next().await.body;
    assert_eq!(told["kind"], "alchemy");
    assert_eq!(told["result"]["caption"], "a dot");
    assert!(
        client.alchemy_status(id).await.unwrap().forms[0]
            .result
            .is_some()
    );
    // What came in before is not asked about again.
    assert!(worker.submit_alchemy(&answer).await.is_err());
    assert!(receiver.is_quiet());
}
