//! What was acknowledged against what is there.

use std::time::Duration;

use ordu_api::{ApiKey, RequestId, ReturnCode};
use ordu_client::Horde;
use ordu_core::{Kudos, Timestamp};
use ordu_store::{DatabaseUrl, JobState, Options, Store};

use super::load::{ASKED, FORTUNE, People};
use super::record::Record;

/// Late enough for every clock that jumped.
const LATER: Timestamp = Timestamp(1_900_000_000_000);

/// How often a node is asked that has not heard of everything yet, and how long between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

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
pub(crate) async fn rows(url: &str, record: &mut Record) {
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
    let sum = store.ledger_sum().await.unwrap();
    if sum != Kudos::ZERO {
        record.breaches.push(format!("the ledger sums to {sum:?}"));
    }
    store.close().await;
}

/// When nobody writes any more: balances are what the ledger says, and gifts arrived once.
pub(crate) async fn books(url: &str, people: &People, record: &mut Record) {
    let store = open(url).await;
    while store.fold(1000, LATER).await.unwrap().lines > 0 {}
    let wrong = store.audit().await.unwrap();
    if !wrong.is_empty() {
        record
            .breaches
            .push(format!("the books are wrong: {wrong:?}"));
    }
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
