//! Several nodes on one PostgreSQL database, over real HTTP.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ordu_api::{JobId, RequestId, ReturnCode, UserId};
use ordu_client::Horde;
use ordu_core::Kudos;
use ordu_core::Timestamp;
use ordu_server::{BlobPlace, Clock, Config, NodeConfig, Server, StartError};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{
    Answer, TestHorde, deliver_all, on_each_database, pop, request, soon, text_pop, text_request,
    until, written,
};

/// When tests with a clock of their own begin.
const START: Timestamp = Timestamp(1_800_000_000_000);

/// After so many seconds a request may be given away by any node, however slow the machine.
pub(crate) const HEAD_START: i64 = 4;

/// As long as can be.
const MINUTE: Duration = Duration::from_mins(1);

/// One of several nodes with the same folder of pictures.
async fn node(name: &str, database: &str, folder: &Path, clock: Clock) -> TestHorde {
    node_like((name, &|config| config), database, folder, clock).await
}

/// One of several nodes, with more settings of its own.
async fn node_like(
    (name, adapt): (&str, &dyn Fn(Config) -> Config),
    database: &str,
    folder: &Path,
    clock: Clock,
) -> TestHorde {
    let mut horde = TestHorde::start_with(|config| Config {
        clock: clock.clone(),
        ..settings(name, database, folder, adapt(config))
    })
    .await;
    horde.clock = clock;
    horde
}

fn settings(name: &str, database: &str, folder: &Path, config: Config) -> Config {
    Config {
        database: database.to_owned(),
        blobs: BlobPlace::Folder(folder.to_owned()),
        admins: vec![UserId::new(1).unwrap()],
        node: Some(NodeConfig {
            name: name.to_owned(),
            shared_folder: true,
        }),
        ..config
    }
}

/// Runs a test with two nodes, where there can be two.
async fn with_two(clock: impl Fn() -> Clock, test: impl AsyncFn(TestHorde, TestHorde)) {
    with_two_like(clock, |config| config, test).await;
}

/// The same with more settings, alike at both.
pub(crate) async fn with_two_like(
    clock: impl Fn() -> Clock,
    adapt: impl Fn(Config) -> Config,
    test: impl AsyncFn(TestHorde, TestHorde),
) {
    on_each_database(async |database| {
        if !database.starts_with("postgres") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let (place, adapt) = (folder.path(), &adapt);
        let one = node_like(("one", adapt), database, place, clock.clone()).await;
        let two = node_like(("two", adapt), database, place, clock).await;
        // Both know of each other.
        one.server.settle_down().await.unwrap();
        test(one, two).await;
    })
    .await;
}

pub(crate) fn manual() -> Clock {
    Clock::manual(START)
}

pub(crate) async fn settle_down(nodes: [&TestHorde; 2]) {
    for node in nodes {
        node.server.settle_down().await.unwrap();
    }
}

async fn refused(config: Config) -> String {
    match Server::start(config).await {
        Err(StartError::Node(why)) => why.to_owned(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn nodes_that_cannot_work_together_do_not_start() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    on_each_database(async |database| {
        let folder = tempfile::tempdir().unwrap();
        let alone = || Config {
            database: database.to_owned(),
            ..Config::in_memory()
        };
        let member = || settings("one", database, folder.path(), Config::in_memory());
        if !database.starts_with("postgres") {
            assert!(refused(member()).await.contains("PostgreSQL"));
            return;
        }
        let in_memory = Config {
            blobs: BlobPlace::Memory,
            ..member()
        };
        assert!(refused(in_memory).await.contains("S3"));
        let apart = Config {
            node: Some(NodeConfig::default()),
            ..member()
        };
        assert!(refused(apart).await.contains("folder"));
        let first = Server::start(member()).await.unwrap();
        assert!(refused(alone()).await.contains("other nodes"));
        let stranger = Config {
            secret: ordu_server::Secret::new("another one"),
            ..member()
        };
        assert!(refused(stranger).await.contains("secret"));
        first.stop().await;
        // Who is alone needs to be no node.
        Server::start(alone()).await.unwrap().stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_waits_at_one_node_hears_what_happens_at_the_other() {
    with_two(
        || Clock::System,
        async |one, two| {
            let owner = one.user("owner", 0.0).await;
            let (here, there) = (one.anonymous(), two.client(&owner.api_key));
            let worker = there.patient(MINUTE);
            let popped = tokio::spawn(async move { worker.pop_text(&text_pop("scribe")).await });
            until(&two, |onlookers| onlookers.workers == 1).await;
            let id = here.async_text(&text_request()).await.unwrap().id;
            let job = soon(popped).await.unwrap().unwrap();
            assert_eq!(job.ids.len(), 1);
            let looker = here.patient(MINUTE);
            let done = tokio::spawn(async move {
                loop {
                    let progress = looker.text_status(id).await.unwrap().progress;
                    if progress.done {
                        return progress;
                    }
                }
            });
            until(&one, |onlookers| onlookers.calls == 1).await;
            there.submit_text(&written(job.ids[0])).await.unwrap();
            assert_eq!(soon(done).await.unwrap().finished, 1);
            let status = here.text_status(id).await.unwrap();
            assert_eq!(status.generations[0].text, "there was a horde");
            assert_eq!(status.generations[0].worker_name, "scribe");
        },
    )
    .await;
}

#[tokio::test]
async fn nodes_know_what_another_one_did_when_they_are_asked() {
    with_two(manual, async |one, two| {
        let owner = one.user("owner", 0.0).await;
        let (first, second) = (one.client(&owner.api_key), two.client(&owner.api_key));
        let mut wanted = text_request();
        wanted.params.n = Some(2);
        let id = one.anonymous().async_text(&wanted).await.unwrap().id;
        // At once, whatever the change log says by now.
        let seen = two.anonymous().text_status(id).await.unwrap().progress;
        assert_eq!((seen.waiting, seen.done), (2, false));
        one.later(HEAD_START);
        let job = first.pop_text(&text_pop("scribe")).await.unwrap().ids[0];
        let reward = second.submit_text(&written(job)).await.unwrap().reward;
        assert!(reward > 0.0);
        let twice = first.submit_text(&written(job)).await.unwrap_err();
        assert!(twice.is(ReturnCode::DuplicateGen), "{twice}");
        // The same worker goes where the balancer sends it.
        let job = second.pop_text(&text_pop("scribe")).await.unwrap().ids[0];
        let reward = first.submit_text(&written(job)).await.unwrap().reward;
        assert!(reward > 0.0);
        settle_down([&one, &two]).await;
        let mut kudos = Vec::new();
        for node in [&one, &two] {
            let status = node.anonymous().text_status(id).await.unwrap();
            assert!(status.progress.done);
            assert_eq!(status.generations.len(), 2);
            kudos.push(status.progress.kudos);
        }
        assert!(kudos[0] > 0.0, "{kudos:?}");
        assert!((kudos[0] - kudos[1]).abs() < 0.001, "{kudos:?}");
        let sum = one.server.store().ledger_sum().await.unwrap();
        assert_eq!(sum, Kudos::ZERO);
    })
    .await;
}

#[tokio::test]
async fn what_is_changed_at_one_node_counts_at_the_other() {
    with_two(manual, async |one, two| {
        // The first account is the admin's.
        let owner = one.mint("admin", json!({})).await;
        let worker = one.client(&owner.api_key);
        worker.pop_text(&text_pop("scribe")).await.unwrap();
        settle_down([&one, &two]).await;
        let id = two.anonymous().async_text(&text_request()).await.unwrap();
        assert!(id.message.is_none(), "a worker at the other node can write");
        let seen = two.anonymous().text_status(id.id).await.unwrap().progress;
        assert!(seen.is_possible);
        settle_down([&two, &one]).await;
        one.anonymous().cancel_text(id.id).await.unwrap();
        settle_down([&one, &two]).await;
        let seen = two.anonymous().text_status(id.id).await.unwrap().progress;
        assert!(seen.done && seen.waiting == 0);
        let modes = json!({ "maintenance_mode": true });
        let key = Some(owner.api_key.reveal());
        let path = "/status/modes";
        let answer = one
            .call(reqwest::Method::PUT, path, key, Some(&modes))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        settle_down([&one, &two]).await;
        let refused = two
            .anonymous()
            .async_text(&text_request())
            .await
            .unwrap_err();
        assert!(refused.is(ReturnCode::MaintenanceMode), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn what_a_node_left_behind_another_one_ends() {
    with_two(manual, async |one, two| {
        let owner = one.user("owner", 0.0).await;
        let id = one
            .anonymous()
            .async_text(&text_request())
            .await
            .unwrap()
            .id;
        one.later(HEAD_START);
        let worker = one.client(&owner.api_key);
        let lost = worker.pop_text(&text_pop("scribe")).await.unwrap().ids[0];
        assert!(one.server.nodes().unwrap().leads);
        assert!(!two.server.nodes().unwrap().leads);
        let clock = one.clock.clone();
        one.server.stop().await;
        two.server.settle_down().await.unwrap();
        let nodes = two.server.nodes().unwrap();
        assert!(nodes.leads, "somebody keeps the time");
        assert_eq!(nodes.alive, ["two"]);
        clock.advance(ordu_core::Millis::from_seconds(151));
        two.server.settle_down().await.unwrap();
        let seen = two.anonymous().text_status(id).await.unwrap().progress;
        assert_eq!((seen.waiting, seen.processing, seen.restarted), (1, 0, 1));
        let late = two.client(&owner.api_key).submit_text(&written(lost)).await;
        assert!(late.unwrap_err().is(ReturnCode::AbortedGen));
        let worker = two.client(&owner.api_key);
        let job = worker.pop_text(&text_pop("scribe")).await.unwrap().ids[0];
        worker.submit_text(&written(job)).await.unwrap();
        assert!(two.anonymous().text_status(id).await.unwrap().progress.done);
    })
    .await;
}

#[tokio::test]
async fn time_passes_once() {
    with_two(manual, async |one, two| {
        let owner = one.user("owner", 0.0).await;
        let asked = one
            .anonymous()
            .async_text(&text_request())
            .await
            .unwrap()
            .id;
        one.later(HEAD_START);
        let worker = two.client(&owner.api_key);
        settle_down([&one, &two]).await;
        // It may be at home at the other node, which comes first for a moment.
        one.later(HEAD_START);
        worker.pop_text(&text_pop("scribe")).await.unwrap();
        settle_down([&one, &two]).await;
        one.later(151);
        settle_down([&two, &one]).await;
        settle_down([&two, &one]).await;
        for node in [&one, &two] {
            let seen = node.anonymous().text_status(asked).await.unwrap().progress;
            assert_eq!((seen.waiting, seen.restarted), (1, 1));
        }
        one.later(1201);
        settle_down([&one, &two]).await;
        for node in [&one, &two] {
            let gone = node.anonymous().text_status(asked).await.unwrap_err();
            assert!(gone.is(ReturnCode::RequestNotFound), "{gone}");
        }
    })
    .await;
}

#[tokio::test]
async fn pictures_of_one_node_are_shown_by_the_other() {
    with_two(manual, async |one, two| {
        let owner = one.user("owner", 0.0).await;
        let id = one.anonymous().async_image(&request()).await.unwrap().id;
        settle_down([&one, &two]).await;
        one.later(HEAD_START);
        let worker = two.client(&owner.api_key);
        let job = worker.pop_image(&pop("dreamer")).await.unwrap();
        assert_eq!(job.ids.len(), 1, "{:?}", job.skipped);
        deliver_all(&worker, &job).await;
        let client = one.anonymous();
        // Not by settling down: that also sweeps, and files have the age of another clock.
        let shown = soon(async {
            loop {
                let shown = client.status(id).await.unwrap().generations;
                if !shown.is_empty() {
                    break shown;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        let picture = client.download(&shown[0].img, 1000).await.unwrap();
        assert_eq!(&picture[..], crate::support::PICTURE);
    })
    .await;
}

#[tokio::test]
async fn who_asks_too_often_does_so_at_every_node() {
    on_each_database(async |database| {
        if !database.starts_with("postgres") {
            return;
        }
        let (folder, clock) = (tempfile::tempdir().unwrap(), manual());
        let limited = async |name: &str| {
            let mut horde = TestHorde::start_with(|config| Config {
                clock: clock.clone(),
                rate_limits: true,
                wrong_keys: Some(3),
                ..settings(name, database, folder.path(), config)
            })
            .await;
            horde.clock = clock.clone();
            horde
        };
        let (one, two) = (limited("one").await, limited("two").await);
        // Both listen by now, or the first tries are for nothing.
        let path = format!(
            "/generate/status/{}",
            RequestId::from_uuid(uuid::Uuid::nil())
        );
        soon(async {
            loop {
                for _ in 0..10 {
                    one.get(&path).await;
                }
                one.server.settle_down().await.unwrap();
                if two.get(&path).await.status == 429 {
                    break;
                }
                one.later(121);
            }
        })
        .await;
        one.later(7200);
        soon(async {
            loop {
                let wrong = |horde: &TestHorde| {
                    let call = horde.http.get(format!("{}/api/v2/find_user", horde.url));
                    Answer::read(call.header("apikey", "no key of anybody"))
                };
                for _ in 0..4 {
                    wrong(&one).await;
                }
                one.server.settle_down().await.unwrap();
                if wrong(&two).await.status == 429 {
                    break;
                }
                one.later(7200);
            }
        })
        .await;
    })
    .await;
}

/// How many requests there are to be fought over.
fn many() -> usize {
    let wanted = std::env::var("ORDU_TEST_NODES_REQUESTS");
    wanted.map_or(300, |wanted| wanted.parse().unwrap())
}

/// A client that asks, again and again, as long as not too much waits.
async fn ask_all(client: Horde, count: usize, room: Arc<Semaphore>) -> Vec<RequestId> {
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        room.acquire().await.unwrap().forget();
        ids.push(client.async_text(&text_request()).await.unwrap().id);
    }
    ids
}

/// A worker that works until nothing is left; answers its jobs.
async fn work(
    worker: Horde,
    name: String,
    until: tokio::sync::watch::Receiver<bool>,
    room: Arc<Semaphore>,
) -> Vec<JobId> {
    let worker = worker.patient(Duration::from_secs(1));
    let mut jobs = Vec::new();
    loop {
        let asked_all = *until.borrow();
        let popped = worker.pop_text(&text_pop(&name)).await.unwrap();
        if popped.ids.is_empty() && asked_all {
            return jobs;
        }
        for id in popped.ids {
            worker.submit_text(&written(id)).await.unwrap();
            jobs.push(id);
            room.add_permits(1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_given_away_twice_when_little_waits() {
    fight_over(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_given_away_twice_when_much_waits() {
    fight_over(120).await;
}

/// Clients and workers of two nodes at once, while so many requests wait or are worked on.
async fn fight_over(waiting: usize) {
    with_two(
        || Clock::System,
        async |one, two| {
            let (clients, workers) = (8, 8);
            let (count, room) = (many() / clients, Arc::new(Semaphore::new(waiting)));
            let owner = one.user("owner", 0.0).await;
            let (all_asked, until) = tokio::sync::watch::channel(false);
            let begun = std::time::Instant::now();
            let mut working = JoinSet::new();
            for number in 0..workers {
                let node = if number % 2 == 0 { &one } else { &two };
                let (worker, name) = (node.client(&owner.api_key), format!("w{number}"));
                working.spawn(work(worker, name, until.clone(), Arc::clone(&room)));
            }
            let mut asking = JoinSet::new();
            for number in 0..clients {
                let node = if number % 2 == 0 { &one } else { &two };
                asking.spawn(ask_all(node.anonymous(), count, Arc::clone(&room)));
            }
            let asked: Vec<RequestId> = asking.join_all().await.concat();
            all_asked.send_replace(true);
            let jobs: Vec<JobId> = working.join_all().await.concat();
            let took = begun.elapsed();
            settle_down([&one, &two]).await;
            let distinct: BTreeSet<&JobId> = jobs.iter().collect();
            assert_eq!((jobs.len(), distinct.len()), (asked.len(), asked.len()));
            for (place, id) in asked.iter().enumerate() {
                let node = if place % 2 == 0 { &one } else { &two };
                let seen = node.anonymous().text_status(*id).await.unwrap().progress;
                assert_eq!((seen.finished, seen.done), (1, true));
            }
            let sum = one.server.store().ledger_sum().await.unwrap();
            assert_eq!(sum, Kudos::ZERO);
            let nodes = [&one, &two].map(|node| node.server.nodes().unwrap());
            let won: u64 = nodes.iter().map(|node| node.claims_won).sum();
            let lost: u64 = nodes.iter().map(|node| node.claims_lost).sum();
            assert_eq!(won, asked.len() as u64);
            println!("{won} claims won, {lost} lost, in {took:?}; {nodes:?}");
            // How many may be lost is a budget of `ordu bench run nodes`: without optimisation it is as
            // the machine's mood is, none to more than half.
        },
    )
    .await;
}

/// What clients and workers were told.
#[derive(Debug, Default)]
struct Told {
    asked: Vec<RequestId>,
    delivered: Vec<JobId>,
    undelivered: Vec<JobId>,
}

/// Asks and works at a node until it dies, or until there was enough of it.
async fn use_up(client: Horde, worker: Horde, name: String) -> Told {
    let mut told = Told::default();
    for _ in 0..60 {
        match client.async_text(&text_request()).await {
            Ok(accepted) => told.asked.push(accepted.id),
            Err(_) => return told,
        }
        let Ok(job) = worker.pop_text(&text_pop(&name)).await else {
            return told;
        };
        for id in job.ids {
            match worker.submit_text(&written(id)).await {
                Ok(_) => told.delivered.push(id),
                Err(_) => told.undelivered.push(id),
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_takes_nothing_along() {
    on_each_database(async |database| {
        if !database.starts_with("postgres") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let doomed = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (address, place) = (database.to_owned(), folder.path().to_owned());
        let first = async move { node("one", &address, &place, Clock::System).await };
        let one = tokio::task::block_in_place(|| doomed.handle().block_on(first));
        let two = node("two", database, folder.path(), Clock::System).await;
        let owner = two.user("owner", 0.0).await;
        let mut using = JoinSet::new();
        for number in 0..8 {
            let horde = if number % 2 == 0 { &one } else { &two };
            let (client, worker) = (horde.anonymous(), horde.client(&owner.api_key));
            using.spawn(use_up(client, worker, format!("w{number}")));
        }
        // In the middle of it, all that the node had in memory is gone.
        soon(async {
            while one.server.nodes().unwrap().claims_won < 20 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        doomed.shutdown_background();
        let told = using.join_all().await;
        let worker = two.client(&owner.api_key);
        for id in told.iter().flat_map(|told| &told.undelivered) {
            // Its jobs are taken by the other node, unless it had them before it died.
            if let Err(error) = worker.submit_text(&written(id)).await {
                assert!(error.is(ReturnCode::DuplicateGen), "{error}");
            }
        }
        for id in told.iter().flat_map(|told| &told.delivered) {
            let job = two.server.store().find_job(*id).await.unwrap().unwrap();
            assert_eq!(job.state, ordu_store::JobState::Done, "it was acknowledged");
        }
        soon(async {
            while !two.server.nodes().unwrap().leads {
                two.server.settle_down().await.unwrap();
            }
        })
        .await;
        let (_nobody_asks, until) = tokio::sync::watch::channel(true);
        let room = Arc::new(Semaphore::new(0));
        work(worker, "w1".to_owned(), until, room).await;
        let client = two.anonymous();
        for id in told.iter().flat_map(|told| &told.asked) {
            let seen = client.text_status(*id).await.unwrap().progress;
            assert_eq!(
                seen.waiting, 0,
                "it was acknowledged, and served or is under way"
            );
            assert_eq!(seen.finished + seen.processing, 1);
        }
        let sum = two.server.store().ledger_sum().await.unwrap();
        assert_eq!(sum, Kudos::ZERO);
    })
    .await;
}
