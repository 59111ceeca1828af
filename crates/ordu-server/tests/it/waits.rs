//! Calls that wait for an answer: `Prefer: wait=N`.

use std::collections::BTreeSet;
use std::time::Duration;

use ordu_api::image::ImagePop;
use ordu_api::{ApiKey, RequestId};
use ordu_client::Horde;
use ordu_server::Config;
use ordu_store::testing::Wire;
use serde_json::{Value, json};

use crate::support::{
    Answer, TestHorde, alchemy_pop, alchemy_request, answered, deliver_all, delivered,
    on_each_database, pop, request, soon, text_pop, text_request, until, written,
};

/// As long as can be.
const MINUTE: Duration = Duration::from_mins(1);

/// A horde whose clients wait so long at most.
async fn brief(limit: Duration) -> TestHorde {
    TestHorde::start_with(|config| Config {
        longest_wait: limit,
        ..config
    })
    .await
}

/// A pop of a dreamer that waits in the background.
fn waiting_pop(
    worker: &Horde,
    name: &str,
) -> tokio::task::JoinHandle<Result<ordu_api::image::ImageJob, ordu_client::Error>> {
    let (worker, offer) = (worker.patient(MINUTE), pop(name));
    tokio::spawn(async move { worker.pop_image(&offer).await })
}

async fn patiently(horde: &TestHorde, path: &str, prefer: &str) -> Answer {
    let call = horde.http.get(format!("{}/api/v2{path}", horde.url));
    soon(Answer::read(call.header("prefer", prefer))).await
}

async fn pop_raw(horde: &TestHorde, key: &ApiKey, prefer: &str) -> Answer {
    let call = horde
        .http
        .post(format!("{}/api/v2/generate/pop", horde.url));
    let call = call.header("apikey", key.reveal()).json(&json!(pop("raw")));
    soon(Answer::read(call.header("prefer", prefer))).await
}

#[tokio::test]
async fn a_waiting_worker_is_given_what_comes() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let dreamer = waiting_pop(&worker, "dreamer");
        let scribe = worker.patient(MINUTE);
        let scribe = tokio::spawn(async move { scribe.pop_text(&text_pop("scribe")).await });
        let alchemist = worker.patient(MINUTE);
        let offer = alchemy_pop("alchemist", &["caption"]);
        let alchemist = tokio::spawn(async move { alchemist.pop_alchemy(&offer).await });
        until(&horde, |onlookers| onlookers.workers == 3).await;
        let client = horde.anonymous();
        let text = client.async_text(&text_request()).await.unwrap().id;
        let job = soon(scribe).await.unwrap().unwrap();
        assert!(job.id.is_some());
        client.async_image(&request()).await.unwrap();
        assert!(soon(dreamer).await.unwrap().unwrap().id.is_some());
        let forms = alchemy_request(&["caption"]);
        client.async_alchemy(&forms).await.unwrap();
        let forms = soon(alchemist).await.unwrap().unwrap().forms.unwrap();
        assert_eq!(forms.len(), 1);
        worker.submit_text(&written(job.ids[0])).await.unwrap();
        assert!(client.text_status(text).await.unwrap().progress.done);
        assert_eq!(horde.server.onlookers().workers, 0);
    })
    .await;
}

#[tokio::test]
async fn an_idle_worker_makes_one_request_a_wait() {
    let horde = brief(Duration::from_millis(100)).await;
    let owner = horde.user("owner", 0.0).await;
    for (prefer, applied) in [
        ("wait=5", Some("wait=5")),
        ("respond-async, wait=3600", Some("wait=60")),
        ("wait=0", None),
        ("wait=soon", None),
    ] {
        let begun = tokio::time::Instant::now();
        let answer = pop_raw(&horde, &owner.api_key, prefer).await;
        assert_eq!((answer.status, &answer.body["id"]), (200, &Value::Null));
        let said = answer.headers.get("preference-applied");
        let said = said.map(|said| said.to_str().unwrap());
        assert_eq!(said, applied, "{prefer}");
        let has_waited = begun.elapsed() >= Duration::from_millis(100);
        assert_eq!(has_waited, applied.is_some(), "{prefer}");
    }
    // What is there already is given at once.
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    horde.anonymous().async_image(&request()).await.unwrap();
    let answer = pop_raw(&horde, &owner.api_key, "wait=60").await;
    assert!(answer.body["id"].is_string());
    assert_eq!(answer.headers["preference-applied"], "wait=60");
}

#[tokio::test]
async fn who_waits_longest_is_served_first_and_nobody_else_is_woken() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let mut other = pop("other");
    other.models = vec!["Deliberate".to_owned()];
    let patient = worker.patient(MINUTE);
    let stranger = tokio::spawn(async move { patient.pop_image(&other).await });
    until(&horde, |onlookers| onlookers.workers == 1).await;
    let mut pops = Vec::new();
    for number in 0..4 {
        pops.push(waiting_pop(&worker, &format!("w{number}")));
        until(&horde, |onlookers| onlookers.workers == number + 2).await;
    }
    for (number, waiting) in pops.into_iter().enumerate() {
        horde.anonymous().async_image(&request()).await.unwrap();
        assert!(soon(waiting).await.unwrap().unwrap().id.is_some());
        let left = horde.server.onlookers().workers;
        assert_eq!(left, 4 - number, "one is served, the others wait on");
    }
    assert!(!stranger.is_finished());
    soon(horde.server.stop()).await;
    assert!(soon(stranger).await.unwrap().unwrap().id.is_none());
}

#[tokio::test]
async fn a_job_that_comes_back_is_for_who_waits() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    let lost = worker.pop_image(&pop("lost")).await.unwrap().ids;
    let waiting = waiting_pop(&worker, "waiting");
    until(&horde, |onlookers| onlookers.workers == 1).await;
    // Longer than a job may take, and shorter than a worker may be silent.
    horde.later(250);
    horde.server.settle_down().await.unwrap();
    let answer = soon(waiting).await.unwrap().unwrap();
    assert!(answer.id.is_some() && answer.ids != lost);
    let progress = horde.anonymous().check(id).await.unwrap();
    assert_eq!((progress.restarted, progress.processing), (1, 1));
}

#[tokio::test]
async fn who_hung_up_is_given_nothing() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let gone = waiting_pop(&worker, "gone");
    until(&horde, |onlookers| onlookers.workers == 1).await;
    let waiting = waiting_pop(&worker, "waiting");
    until(&horde, |onlookers| onlookers.workers == 2).await;
    gone.abort();
    until(&horde, |onlookers| onlookers.workers == 1).await;
    horde.anonymous().async_image(&request()).await.unwrap();
    assert!(soon(waiting).await.unwrap().unwrap().id.is_some());
}

/// Workers hang up just when something comes for them. Whatever was on its way to them is for others.
#[tokio::test]
async fn nothing_is_lost_with_those_who_hang_up() {
    const ASKED: usize = 40;
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        let mut given = BTreeSet::new();
        let mut asked = Vec::new();
        for number in 0..ASKED {
            // It may find at once what came back from the one before.
            let leaves = waiting_pop(&worker, "leaves");
            until(&horde, |onlookers| {
                onlookers.workers == 1 || leaves.is_finished()
            })
            .await;
            let client = horde.anonymous();
            let ask = tokio::spawn(async move { client.async_image(&request()).await });
            // At some moment of the way.
            for _ in 0..number * 3 {
                tokio::task::yield_now().await;
            }
            leaves.abort();
            asked.push(soon(ask).await.unwrap().unwrap().id);
            if let Ok(job) = leaves.await {
                given.extend(job.unwrap().id);
            }
        }
        let all_are_given = async {
            while handed_over(&horde).await < ASKED {
                if let Some(job) = worker.pop_image(&pop("stays")).await.unwrap().id {
                    assert!(given.insert(job), "{job} was given twice");
                }
            }
        };
        soon(all_are_given).await;
        // Whoever hung up while the answer was on its way to it has a job that it does not know of.
        assert_eq!(handed_over(&horde).await, ASKED);
        assert!(given.len() > ASKED / 2);
        for id in asked {
            let progress = horde.anonymous().check(id).await.unwrap();
            assert_eq!((progress.processing, progress.waiting), (1, 0));
        }
    })
    .await;
}

/// What a worker is promised reaches it although its time is over meanwhile, and others if it has hung up.
#[tokio::test]
async fn a_promise_is_kept_once_it_is_stored() {
    on_each_database(async |database| {
        if !database.starts_with("postgres") {
            return;
        }
        let wire = Wire::begin(database).await.unwrap();
        let url = wire.url.clone();
        let horde = TestHorde::start_with(|config| Config {
            database: url,
            longest_wait: Duration::from_millis(300),
            ..config
        })
        .await;
        let owner = horde.user("owner", 0.0).await;
        let worker = horde.client(&owner.api_key);
        for name in ["other", "leaves", "stays"] {
            worker.pop_image(&pop(name)).await.unwrap();
        }
        // Statements are known to the connections from here on.
        horde.anonymous().async_image(&request()).await.unwrap();
        deliver_all(&worker, &worker.pop_image(&pop("other")).await.unwrap()).await;
        for (name, hangs_up) in [("leaves", true), ("stays", false)] {
            // What is written behind is written.
            horde.server.settle_down().await.unwrap();
            let given = handed_over(&horde).await;
            let waits = waiting_pop(&worker, name);
            until(&horde, |onlookers| onlookers.workers == 1).await;
            let client = horde.anonymous();
            let ask = tokio::spawn(async move { client.async_image(&request()).await });
            wire.hold().await;
            if hangs_up {
                waits.abort();
                until(&horde, |onlookers| onlookers.workers == 0).await;
            } else {
                // As long as the first one, and later: nothing comes for it.
                let other = ImagePop {
                    models: vec!["Deliberate".to_owned()],
                    ..pop("other")
                };
                let other = worker.patient(MINUTE).pop_image(&other).await.unwrap();
                assert!(other.id.is_none() && !waits.is_finished());
            }
            assert!(!ask.is_finished());
            wire.mend();
            let id = soon(ask).await.unwrap().unwrap().id;
            let job = if hangs_up {
                soon(async {
                    loop {
                        let job = worker.pop_image(&pop("stays")).await.unwrap();
                        if job.id.is_some() {
                            break job;
                        }
                    }
                })
                .await
            } else {
                soon(waits).await.unwrap().unwrap()
            };
            assert!(job.id.is_some());
            assert_eq!(handed_over(&horde).await, given + 1, "given to one");
            deliver_all(&worker, &job).await;
            assert!(horde.anonymous().check(id).await.unwrap().done);
            let known = horde.get(&format!("/workers/name/{name}")).await.body;
            assert_eq!(known["uncompleted_jobs"], 0);
        }
        horde.server.stop().await;
    })
    .await;
}

/// How many jobs workers were ever given.
async fn handed_over(horde: &TestHorde) -> usize {
    let metrics = horde.http.get(format!("{}/metrics", horde.url));
    let text = metrics.send().await.unwrap().text().await.unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ordu_jobs_total{outcome=\"assigned\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Who offers something else need not hang up, and so loses nothing: the pop that waits gets no more jobs,
/// and takes none from the new one.
#[tokio::test]
async fn what_a_worker_offers_last_is_what_counts() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let before = waiting_pop(&worker, "one");
    until(&horde, |onlookers| onlookers.workers == 1).await;
    let other = ImagePop {
        max_pixels: 512 * 512,
        ..pop("one")
    };
    assert_eq!(worker.pop_image(&other).await.unwrap().id, None);
    let again = worker.patient(MINUTE);
    let after = tokio::spawn(async move { again.pop_image(&other).await });
    until(&horde, |onlookers| onlookers.workers == 2).await;
    horde.anonymous().async_image(&request()).await.unwrap();
    assert!(soon(after).await.unwrap().unwrap().id.is_some());
    assert!(soon(before).await.unwrap().unwrap().id.is_none());
}

#[tokio::test]
async fn checks_and_statuses_wait_for_news() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let client = horde.anonymous();
    let patient = client.patient(MINUTE);
    let id = client.async_image(&request()).await.unwrap().id;
    let call = |id: RequestId| {
        let patient = patient.clone();
        tokio::spawn(async move { patient.check(id).await.unwrap() })
    };
    let check = call(id);
    until(&horde, |onlookers| onlookers.calls == 1).await;
    let job = worker.pop_image(&pop("w")).await.unwrap().ids[0];
    assert_eq!(soon(check).await.unwrap().processing, 1);
    let (check, status) = (call(id), patient.clone());
    let status = tokio::spawn(async move { status.status(id).await.unwrap() });
    until(&horde, |onlookers| onlookers.calls == 2).await;
    worker.submit_image(&delivered(job)).await.unwrap();
    assert!(soon(check).await.unwrap().done);
    assert_eq!(soon(status).await.unwrap().generations.len(), 1);
    // What has ended is not waited for.
    let answer = patiently(&horde, &format!("/generate/check/{id}"), "wait=60").await;
    assert_eq!(answer.headers["preference-applied"], "wait=60");

    let text = client.async_text(&text_request()).await.unwrap().id;
    let status = patient.clone();
    let status = tokio::spawn(async move { status.text_status(text).await.unwrap() });
    until(&horde, |onlookers| onlookers.calls == 1).await;
    client.cancel_text(text).await.unwrap();
    assert!(soon(status).await.unwrap().progress.done);

    let forms = alchemy_request(&["caption"]);
    let forms = client.async_alchemy(&forms).await.unwrap().id;
    let offer = alchemy_pop("a", &["caption"]);
    let job = worker.pop_alchemy(&offer).await.unwrap().forms.unwrap();
    let status = patient.clone();
    let status = tokio::spawn(async move { status.alchemy_status(forms).await.unwrap() });
    until(&horde, |onlookers| onlookers.calls == 1).await;
    let answer = answered(job[0].id, "caption", "a fox");
    worker.submit_alchemy(&answer).await.unwrap();
    let state = soon(status).await.unwrap().state;
    assert_eq!(json!(state), "done");
    let unknown = patiently(&horde, "/generate/check/x", "wait=60").await;
    assert_eq!((unknown.status, unknown.rc()), (404, "RequestNotFound"));
}

#[tokio::test]
async fn a_check_without_news_ends_with_its_time() {
    let horde = brief(Duration::from_millis(50)).await;
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    let answer = patiently(&horde, &format!("/generate/status/{id}"), "wait=9").await;
    assert_eq!((answer.status, &answer.body["waiting"]), (200, &json!(1)));
    assert_eq!(answer.headers["preference-applied"], "wait=9");
    assert_eq!(horde.server.onlookers().calls, 0);
}

#[tokio::test]
async fn pages_of_others_may_ask_to_wait() {
    let horde = TestHorde::start().await;
    let preflight = async |wanted: &str| {
        let url = format!("{}/api/v2/generate/pop", horde.url);
        let call = horde.http.request(reqwest::Method::OPTIONS, url);
        let call = call.header("access-control-request-headers", wanted);
        let answer = Answer::read(call).await;
        let allowed = &answer.headers["access-control-allow-headers"];
        allowed.to_str().unwrap().to_owned()
    };
    assert!(!preflight("apikey").await.contains("Prefer"));
    assert!(
        preflight("apikey, prefer")
            .await
            .ends_with("Prefer, Last-Event-ID, Idempotency-Key")
    );
}
