//! The server killed again and again in the middle of its work: what it acknowledged is there, and
//! nothing happened twice.
//!
//! `ORDU_KILL_ROUNDS=N` kills it N times instead of a few.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ordu_api::image::{ImagePop, ImageRequest, ImageSubmit, SubmitState, UPLOADED};
use ordu_api::user::TestUser;
use ordu_api::{ApiKey, JobId, RequestId};
use ordu_client::Horde;
use ordu_core::{Kudos, Timestamp};
use ordu_store::{DatabaseUrl, JobState, Options, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::program::Running;

const ROUNDS: u64 = 4;
/// Results of each request.
const ASKED: u32 = 2;

/// What the server said yes to.
#[derive(Debug)]
enum Acknowledged {
    Request(RequestId),
    Job(JobId),
    Reward(JobId, f64),
}

/// Everything the server said yes to so far.
#[derive(Debug, Default)]
struct Record {
    requests: BTreeSet<RequestId>,
    jobs: BTreeSet<JobId>,
    rewards: BTreeMap<JobId, f64>,
}

impl Record {
    fn take(&mut self, acknowledged: &mut UnboundedReceiver<Acknowledged>) {
        while let Ok(said) = acknowledged.try_recv() {
            match said {
                Acknowledged::Request(id) => assert!(self.requests.insert(id), "{id} came twice"),
                Acknowledged::Job(id) => assert!(self.jobs.insert(id), "{id} was given twice"),
                Acknowledged::Reward(id, reward) => {
                    let before = self.rewards.insert(id, reward);
                    assert_eq!(before, None, "{id} was settled twice");
                }
            }
        }
    }
}

#[test]
fn a_server_that_is_killed_again_and_again_keeps_its_word() {
    let rounds = rounds();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut record = Record::default();
    let mut people: Option<(ApiKey, ApiKey)> = None;
    for round in 0..rounds {
        let server = Running::start_for_tests(folder.path());
        let (asker, owner) = people
            .get_or_insert_with(|| runtime.block_on(mint_people(&server.url)))
            .clone();
        runtime.block_on(check_requests(&server.url, &record));
        let (say, mut acknowledged) = unbounded_channel();
        let life = Duration::from_millis(40 + round.wrapping_mul(7919) % 400);
        runtime.block_on(async {
            let mut people = busy_people(&server.url, &asker, &owner, &say);
            tokio::time::sleep(life).await;
            server.kill();
            while people.join_next().await.is_some() {}
        });
        drop(say);
        record.take(&mut acknowledged);
        runtime.block_on(check_database(folder.path(), &record));
    }
    println!(
        "{rounds} kills: {} requests, {} jobs, {} rewards acknowledged, none lost",
        record.requests.len(),
        record.jobs.len(),
        record.rewards.len()
    );
    assert!(!record.rewards.is_empty(), "the load must reach the end");
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn rounds() -> u64 {
    std::env::var("ORDU_KILL_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

async fn mint_people(url: &str) -> (ApiKey, ApiKey) {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mint = async |name: &str| {
        let body = serde_json::json!({ "username": name, "oauth_id": name, "kudos": 1_000_000,
            "moderator": false, "trusted": true });
        let address = format!("{url}/api/v2/dev/test-user");
        let answer = reqwest::Client::new().post(address).json(&body).send();
        let minted: TestUser = answer.await.unwrap().json().await.unwrap();
        minted.api_key
    };
    (mint("asker").await, mint("owner").await)
}

/// Asks and works from several sides until the server is gone.
fn busy_people(
    url: &str,
    asker: &ApiKey,
    owner: &ApiKey,
    say: &UnboundedSender<Acknowledged>,
) -> JoinSet<()> {
    let mut people = JoinSet::new();
    for number in 0..3 {
        // The anonymous account may have more waiting than others.
        let key = if number == 0 {
            asker.clone()
        } else {
            ApiKey::anonymous()
        };
        let horde = Horde::new(url, key, "tests:1:here").unwrap();
        people.spawn(ask(horde, say.clone()));
        let horde = Horde::new(url, owner.clone(), "tests:1:here").unwrap();
        people.spawn(work(horde, format!("worker {number}"), say.clone()));
    }
    people
}

async fn ask(horde: Horde, say: UnboundedSender<Acknowledged>) {
    let mut request = ImageRequest {
        prompt: "a red circle".to_owned(),
        models: vec!["ordu-tiny".to_owned()],
        ..ImageRequest::default()
    };
    request.params.n = Some(ASKED);
    loop {
        match horde.async_image(&request).await {
            Ok(accepted) => say.send(Acknowledged::Request(accepted.id)).unwrap(),
            Err(error) if error.is(ordu_api::ReturnCode::TooManyPrompts) => {
                tokio::task::yield_now().await;
            }
            Err(_) => return,
        }
    }
}

async fn work(horde: Horde, name: String, say: UnboundedSender<Acknowledged>) {
    let pop = ImagePop {
        name,
        models: vec!["ordu-tiny".to_owned()],
        bridge_agent: "AI Horde Worker reGen:14.0.0:https://example.org".to_owned(),
        amount: 2,
        ..ImagePop::default()
    };
    while let Ok(job) = horde.pop_image(&pop).await {
        for id in &job.ids {
            say.send(Acknowledged::Job(*id)).unwrap();
        }
        for id in job.ids {
            let submit = ImageSubmit {
                id: id.to_string(),
                generation: UPLOADED.to_owned(),
                state: SubmitState::Ok,
                seed: 1,
                gen_metadata: Vec::new(),
            };
            match horde.submit_image(&submit).await {
                Ok(settled) => say.send(Acknowledged::Reward(id, settled.reward)).unwrap(),
                Err(_) => return,
            }
        }
    }
}

/// Every request that was accepted is known and complete.
async fn check_requests(url: &str, record: &Record) {
    let horde = Horde::new(url, ApiKey::anonymous(), "tests:1:here").unwrap();
    for id in &record.requests {
        let progress = horde.check(*id).await.unwrap();
        let all = progress.waiting + progress.processing + progress.finished;
        assert_eq!(all, ASKED, "{id}: {progress:?}");
    }
}

/// Every job that was given away is stored, every reward is settled once and for its amount, and
/// nothing came from nowhere.
async fn check_database(folder: &Path, record: &Record) {
    let file = folder.join("data").join("ordu.db");
    let url: DatabaseUrl = format!("sqlite://{}", file.display()).parse().unwrap();
    let now = Timestamp(1_900_000_000_000);
    let store = Store::open(&url, &Options::default(), now).await.unwrap();
    for id in &record.jobs {
        assert!(store.find_job(*id).await.unwrap().is_some(), "{id} is lost");
    }
    for (id, reward) in &record.rewards {
        let job = store.find_job(*id).await.unwrap().unwrap();
        assert_eq!(job.state, JobState::Done, "{id}");
        assert_eq!(job.kudos, Some(Kudos::round(*reward)), "{id}");
    }
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    while store.fold(1000, now).await.unwrap().lines > 0 {}
    assert_eq!(store.audit().await.unwrap(), []);
    store.close().await;
}
