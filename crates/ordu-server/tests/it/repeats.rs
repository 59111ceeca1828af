//! Requests that are sent twice.

use std::time::Duration;

use ordu_api::image::{ImagePop, ImageRequest};
use ordu_api::{ApiKey, RequestId};
use ordu_client::Horde;
use ordu_server::Config;
use ordu_store::testing::Wire;
use ordu_store::{JobState, Options, RequestState, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Answer, TestHorde, deliver_all, on_each_database, pop, request, soon, text_request, until,
};

async fn ask(horde: &TestHorde, key: &ApiKey, name: &str, body: &Value) -> Answer {
    ask_at(horde, "/generate/async", (key, name), body).await
}

async fn ask_at(horde: &TestHorde, path: &str, who: (&ApiKey, &str), body: &Value) -> Answer {
    let (key, name) = who;
    let url = format!("{}/api/v2{path}", horde.url);
    let asked = horde.http.post(url).json(body);
    let asked = asked.header("apikey", key.reveal());
    Answer::read(asked.header("Idempotency-Key", name)).await
}

async fn waiting(horde: &TestHorde) -> u64 {
    let performance = horde.get("/status/performance").await.body;
    performance["queued_requests"].as_u64().unwrap()
}

#[tokio::test]
async fn a_repetition_is_answered_as_the_first_one_was() {
    let horde = TestHorde::start().await;
    let alice = horde.user("alice", 1000.0).await.api_key;
    let bob = horde.user("bob", 1000.0).await.api_key;
    let body = json!(request());
    let first = ask(&horde, &alice, "one", &body).await;
    assert_eq!(first.status, 202);
    assert_eq!(first.body["warnings"][0]["code"], "NoAvailableWorker");
    // A worker comes; the answer stays what it was.
    let worker = horde.user("owner", 0.0).await.api_key;
    let job = horde.client(&worker).pop_image(&pop("w")).await.unwrap();
    let again = ask(&horde, &alice, "one", &body).await;
    assert_eq!((again.status, &again.body), (202, &first.body));
    deliver_all(&horde.client(&worker), &job).await;
    let done = ask(&horde, &alice, "one", &body).await;
    assert_eq!((done.status, &done.body), (202, &first.body));
    assert_eq!(waiting(&horde).await, 0);
    // Other names, keys and bodies are something else.
    for (key, name) in [(&alice, "two"), (&bob, "one")] {
        let other = ask(&horde, key, name, &body).await;
        assert_eq!(other.status, 202);
        assert_ne!(other.body["id"], first.body["id"]);
    }
    let mut changed = body.clone();
    changed["prompt"] = json!("a blue circle");
    let conflict = ask(&horde, &alice, "one", &changed).await;
    assert_eq!(
        (conflict.status, conflict.rc()),
        (400, "IdempotencyKeyConflict")
    );
}

#[tokio::test]
async fn a_repetition_is_not_refused_for_what_the_first_one_took() {
    let horde = TestHorde::start().await;
    let key = horde.user("asker", 1000.0).await.api_key;
    let mut body = json!(request());
    body["params"]["n"] = json!(20);
    let first = ask(&horde, &key, "a", &body).await.body;
    assert_eq!(ask(&horde, &key, "b", &body).await.rc(), "TooManyPrompts");
    assert_eq!(ask(&horde, &key, "a", &body).await.body, first);
}

#[tokio::test]
async fn of_many_at_once_one_is_stored() {
    let horde = TestHorde::start().await;
    let key = horde.user("asker", 1000.0).await.api_key;
    let body = json!(request());
    let attempts = (0..20).map(|_| ask(&horde, &key, "same", &body));
    let answers = futures::future::join_all(attempts).await;
    let first = &answers[0].body;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (202, first));
    }
    assert_eq!(waiting(&horde).await, 1);
}

#[tokio::test]
async fn a_repetition_is_recognised_after_a_restart() {
    on_each_database(async |database| {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}", folder.path().join("ordu.db").display());
        let database = if database.starts_with("postgres") {
            database.to_owned()
        } else {
            file
        };
        let start = async || {
            let database = database.clone();
            TestHorde::start_with(|config| Config { database, ..config }).await
        };
        let horde = start().await;
        let key = horde.user("asker", 1000.0).await.api_key;
        let image = ask(&horde, &key, "i", &json!(request())).await.body;
        let text = json!(text_request());
        let path = "/generate/text/async";
        let text_answer = ask_at(&horde, path, (&key, "t"), &text).await.body;
        // One of them ends before the restart, and is no longer in memory after it.
        let id = image["id"].as_str().unwrap().parse().unwrap();
        horde.client(&key).cancel(id).await.unwrap();
        horde.server.stop().await;

        let horde = start().await;
        assert_eq!(ask(&horde, &key, "i", &json!(request())).await.body, image);
        let again = ask_at(&horde, path, (&key, "t"), &text).await.body;
        assert_eq!(again, text_answer);
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn prices_are_not_remembered_and_odd_names_are_refused() {
    let horde = TestHorde::start().await;
    let key = horde.user("asker", 1000.0).await.api_key;
    let mut dry = json!(request());
    dry["dry_run"] = json!(true);
    assert_eq!(ask(&horde, &key, "a", &dry).await.status, 200);
    assert_eq!(ask(&horde, &key, "a", &json!(request())).await.status, 202);
    for name in [String::new(), "x".repeat(256)] {
        let answer = ask(&horde, &key, &name, &json!(request())).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body["errors"]["Idempotency-Key"].is_string());
    }
    let longest = "x".repeat(255);
    assert_eq!(
        ask(&horde, &key, &longest, &json!(request())).await.status,
        202
    );
}

/// How often a horde is asked that has to open its connections again.
const TRIES: usize = 30;

/// A horde that can lose the answers of its database, with who asks and who works there.
struct Deaf<'a> {
    horde: TestHorde,
    wire: &'a Wire,
    store: Store,
    key: ApiKey,
    worker: Horde,
}

impl<'a> Deaf<'a> {
    async fn begin(database: &str, wire: &'a Wire) -> Self {
        let url = wire.url.clone();
        let horde = TestHorde::start_with(|config| Config {
            database: url,
            ..config
        })
        .await;
        let (now, options) = (horde.clock.now(), Options::default());
        let store = Store::open(&database.parse().unwrap(), &options, now).await;
        let key = horde.user("asker", 1000.0).await.api_key;
        let owner = horde.user("owner", 0.0).await.api_key;
        Self {
            worker: horde.client(&owner),
            store: store.unwrap(),
            horde,
            wire,
            key,
        }
    }

    /// The status of an answer to who does not name what it asks for.
    async fn unnamed(&self, body: &Value) -> u16 {
        let url = format!("{}/api/v2/generate/async", self.horde.url);
        let asked = self.horde.http.post(&url).json(body);
        let answer = Answer::read(asked.header("apikey", self.key.reveal()));
        answer.await.status
    }

    /// Lets time pass until a request is so.
    async fn until_it_is(&self, id: RequestId, state: RequestState) {
        for _ in 0..TRIES {
            self.horde.server.settle_down().await.ok();
            let stored = self.store.find_request(id).await.unwrap();
            if stored.unwrap().state == state {
                return;
            }
        }
        panic!("{id} does not become {state:?}");
    }

    async fn end(self) {
        assert!(self.store.list_live().await.unwrap().is_empty());
        self.store.close().await;
        self.horde.server.stop().await;
    }

    /// Asks until the horde does what it is asked for, and has that done.
    async fn through(&self, name: &str) -> Answer {
        let body = json!(request());
        for _ in 0..TRIES {
            let answer = ask(&self.horde, &self.key, name, &body).await;
            if answer.status == 202 {
                let job = self.worker.pop_image(&pop("w")).await.unwrap();
                deliver_all(&self.worker, &job).await;
                return answer;
            }
        }
        panic!("the horde does not recover");
    }

    /// Asks until the database stores something and is not heard of; says what.
    async fn lost(&self, mut ask: impl AsyncFnMut(usize) -> u16) -> (usize, RequestId) {
        for turn in 0..TRIES {
            // What a connection knows of a statement it need not hear before.
            self.through(&Uuid::new_v4().to_string()).await;
            self.wire.deafen();
            let status = ask(turn).await;
            self.wire.mend();
            assert_eq!(status, 503);
            let live = self.store.list_live().await.unwrap();
            if let Some(id) = live.first() {
                return (turn, *id);
            }
        }
        panic!("nothing is stored that was refused");
    }
}

/// The database stores what is asked for, and its answer is lost on the way.
#[tokio::test]
async fn what_is_refused_and_stored_all_the_same_is_found_or_withdrawn() {
    on_each_database(async |database| {
        if !database.starts_with("postgres") {
            return;
        }
        let wire = Wire::begin(database).await.unwrap();
        let deaf = Deaf::begin(database, &wire).await;
        let (horde, key) = (&deaf.horde, &deaf.key);
        let body = json!(request());

        let (_, unnamed) = deaf.lost(async |_| deaf.unnamed(&body).await).await;
        // Nobody can come for it.
        deaf.until_it_is(unnamed, RequestState::Finished).await;

        let named = async |turn| ask(horde, key, &format!("n{turn}"), &body).await.status;
        let (turn, named) = deaf.lost(named).await;
        for _ in 0..TRIES {
            horde.server.settle_down().await.ok();
            if waiting(horde).await == 1 {
                break;
            }
        }
        assert_eq!(waiting(horde).await, 1, "it waits before it is asked for");
        let again = deaf.through(&format!("n{turn}")).await;
        assert_eq!(again.body["id"], named.to_string());

        // Whoever comes sooner than the look finds it as well.
        let named = async |turn| ask(horde, key, &format!("m{turn}"), &body).await.status;
        let (turn, named) = deaf.lost(named).await;
        let again = deaf.through(&format!("m{turn}")).await;
        assert_eq!(again.body["id"], named.to_string());
        deaf.end().await;
    })
    .await;
}

/// The same of what would have gone straight to a worker that waits: its job goes back, and the worker, who
/// never heard of it, waits on.
#[tokio::test]
async fn a_job_that_came_with_what_was_refused_goes_back() {
    on_each_database(async |database| {
        if !database.starts_with("postgres") {
            return;
        }
        let wire = Wire::begin(database).await.unwrap();
        let deaf = Deaf::begin(database, &wire).await;
        let models = vec!["Deliberate".to_owned()];
        let body = json!(ImageRequest {
            models: models.clone(),
            ..request()
        });
        let offer = ImagePop {
            models,
            ..pop("patient")
        };
        let patient = deaf.worker.patient(Duration::from_mins(1));
        let waits = tokio::spawn(async move { patient.pop_image(&offer).await });
        until(&deaf.horde, |onlookers| onlookers.workers == 1).await;

        let (_, unnamed) = deaf.lost(async |_| deaf.unnamed(&body).await).await;
        let stored = deaf.store.find_request(unnamed).await.unwrap().unwrap();
        assert_eq!(
            (stored.open, stored.jobs.len()),
            (0, 1),
            "it was on its way"
        );
        deaf.until_it_is(unnamed, RequestState::Finished).await;

        let (horde, key) = (&deaf.horde, &deaf.key);
        let named = async |turn| ask(horde, key, &format!("s{turn}"), &body).await.status;
        let (turn, named) = deaf.lost(named).await;
        // Its second attempt is not heard either, and would have come with another job.
        wire.deafen();
        let again = ask(horde, key, &format!("s{turn}"), &body).await;
        wire.mend();
        assert_eq!(again.status, 503);
        assert!(!waits.is_finished());
        let next = async {
            while !waits.is_finished() {
                horde.server.settle_down().await.ok();
            }
        };
        soon(next).await;
        let job = waits.await.unwrap().unwrap();
        deliver_all(&deaf.worker, &job).await;
        let stored = deaf.store.find_request(named).await.unwrap().unwrap();
        assert_eq!((stored.state, stored.faults), (RequestState::Finished, 0));
        let states: Vec<JobState> = stored.jobs.iter().map(|job| job.state).collect();
        assert!(states.contains(&JobState::Done) && states.contains(&JobState::Aborted));
        let worker = horde.get("/workers/name/patient").await.body;
        assert_eq!(worker["uncompleted_jobs"], 0);
        deaf.end().await;
    })
    .await;
}
