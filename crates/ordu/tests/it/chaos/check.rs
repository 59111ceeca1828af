//! What was acknowledged against what is there.

use std::time::Duration;

use ordu_api::{ApiKey, JobId, RequestId, ReturnCode};
use ordu_client::Horde;
use ordu_core::{Kudos, Timestamp};
use ordu_store::{DatabaseUrl, JobState, Options, Store};

use super::cluster::Cluster;
use super::load::{ASKED, FORTUNE, Load, People, picture};
use super::record::Record;

/// Late enough for every clock that jumped.
const LATER: Timestamp = Timestamp(1_900_000_000_000);

/// How often a node is asked that has not heard of everything yet, and how long between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// How many pictures are looked at in a round.
const PICTURES: usize = 30;

/// How far the clock is put on so that jobs of workers that vanished come to an end, in seconds: more than
/// a job may take, less than a request may wait.
const AHEAD: i64 = 600;

/// Within which everything has come to an end then.
const END: Duration = Duration::from_mins(2);

/// Every request that was accepted is known and complete, to every node.
pub(crate) async fn requests(urls: &[String], record: &mut Record) {
    for url in urls {
        let horde = Horde::new(url, ApiKey::anonymous(), "tests:1:here").unwrap();
        for id in record.requests.keys() {
            let mut wrong = look(&horde, *id).await;
            for _ in 0..TRIES {
                if wrong.is_none() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
                wrong = look(&horde, *id).await;
            }
            record.breaches.extend(wrong);
        }
    }
}

/// What is wrong with a request.
async fn look(horde: &Horde, id: RequestId) -> Option<String> {
    let (progress, asked) = match horde.check(id).await {
        Ok(progress) => (progress, ASKED),
        // A text, then.
        Err(error) if error.is(ReturnCode::RequestNotFound) => match horde.text_status(id).await {
            Ok(status) => (status.progress, 1),
            Err(error) => return Some(format!("request {id}: {error}")),
        },
        Err(error) => return Some(format!("request {id}: {error}")),
    };
    let all = progress.waiting + progress.processing + progress.finished;
    let is_whole = all == asked || progress.faulted;
    (!is_whole).then(|| format!("request {id} should have {asked} jobs: {progress:?}"))
}

async fn open(url: &str) -> Store {
    let url: DatabaseUrl = url.parse().unwrap();
    Store::open(&url, &Options::default(), LATER).await.unwrap()
}

/// Every job that was given away is stored; every result that was accepted is there, with its reward.
pub(crate) async fn rows(url: &str, urls: &[String], record: &mut Record) {
    let store = open(url).await;
    for id in record.jobs.keys() {
        let Some(job) = store.find_job(*id).await.unwrap() else {
            record.breaches.push(format!("job {id} is lost"));
            continue;
        };
        let Some(delivered) = record.rewards.get(id) else {
            continue;
        };
        if job.state != JobState::Done || job.kudos != Some(Kudos::round(delivered.reward)) {
            let told = format!("job {id} was rewarded with {}: {job:?}", delivered.reward);
            record.breaches.push(told);
        }
        let result = job.result.unwrap_or_default();
        if delivered
            .text
            .as_ref()
            .is_some_and(|text| !result.contains(text))
        {
            record
                .breaches
                .push(format!("job {id} lost its text: {result}"));
        }
    }
    pictures(&store, urls, record).await;
    let sum = store.ledger_sum().await.unwrap();
    if sum != Kudos::ZERO {
        record.breaches.push(format!("the ledger sums to {sum:?}"));
    }
    store.close().await;
}

/// Some of the pictures that were accepted are there, and are what was brought.
async fn pictures(store: &Store, urls: &[String], record: &mut Record) {
    let new = record
        .rewards
        .iter()
        .filter(|(_, delivered)| delivered.text.is_none() && !delivered.seen);
    let new: Vec<JobId> = new.map(|(id, _)| *id).take(PICTURES).collect();
    for (id, url) in new.into_iter().zip(urls.iter().cycle()) {
        let horde = Horde::new(url, ApiKey::anonymous(), "tests:1:here").unwrap();
        let Some(job) = store.find_job(id).await.unwrap() else {
            continue;
        };
        let mut wrong = seen(&horde, job.request, id).await;
        for _ in 0..TRIES {
            if wrong.is_none() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            wrong = seen(&horde, job.request, id).await;
        }
        record.breaches.extend(wrong);
        if let Some(delivered) = record.rewards.get_mut(&id) {
            delivered.seen = true;
        }
    }
}

/// What is wrong with the picture of a job.
async fn seen(horde: &Horde, request: RequestId, job: JobId) -> Option<String> {
    let status = match horde.status(request).await {
        Ok(status) => status,
        Err(error) => return Some(format!("the request {request} of job {job}: {error}")),
    };
    let Some(shown) = status.generations.iter().find(|shown| shown.id == job) else {
        return Some(format!("job {job} lost its picture: {status:?}"));
    };
    match horde.download(&shown.img, 1000).await {
        Ok(bytes) if bytes == picture(job) => None,
        other => Some(format!("the picture of job {job}: {other:?}")),
    }
}

/// Everything that is stored comes to an end: what waits is worked on, what vanished with its worker times
/// out, and what was refused and stored all the same, as its answer took too long, is found or withdrawn.
pub(crate) async fn drain(cluster: &Cluster, people: &People, record: &mut Record) {
    if cluster.clock.is_none() {
        return;
    }
    cluster.set_clock(AHEAD);
    let load = Load::of_workers(&cluster.urls(), people);
    let store = open(&cluster.database_url()).await;
    let ends = tokio::time::Instant::now() + END;
    loop {
        let live = store.list_live().await.unwrap();
        if live.is_empty() {
            break;
        }
        if tokio::time::Instant::now() > ends {
            record
                .breaches
                .push(format!("{} requests never end: {live:?}", live.len()));
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    store.close().await;
    load.end(record).await;
}

/// When nobody writes any more: each job and request is in one final state, each result is paid once, balances are what the ledger says, and gifts arrived once.
pub(crate) async fn books(url: &str, people: &People, record: &mut Record) {
    let store = open(url).await;
    while store.fold(1000, LATER).await.unwrap().lines > 0 {}
    let wrong = store.audit().await.unwrap();
    if !wrong.is_empty() {
        record
            .breaches
            .push(format!("the books are wrong: {wrong:?}"));
    }
    let flaws = store.list_flaws().await.unwrap();
    record
        .breaches
        .extend(flaws.iter().map(|flaw| format!("{flaw:?}")));
    let has = store.balance(people.receiver_id).await.unwrap();
    let has = has.spendable - Kudos::from_milli(FORTUNE * 1000);
    let gifts = |count: usize| Kudos::from_milli(i64::try_from(count).unwrap() * 1000);
    if has < gifts(record.gifts) || has > gifts(record.gifts + record.doubtful_gifts) {
        record.breaches.push(format!(
            "{} gifts were acknowledged, {} more are doubtful, {has:?} arrived",
            record.gifts, record.doubtful_gifts
        ));
    }
    store.close().await;
}
