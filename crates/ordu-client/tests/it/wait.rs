//! Waiting for a request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ordu_api::RequestId;
use ordu_client::{Error, Pace};
use serde_json::json;

use crate::support::horde;
use crate::support::http::{Answer, TestServer};

const ID: &str = "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";

fn quick() -> Pace {
    Pace {
        interval: Duration::from_millis(1),
        patience: 2,
    }
}

fn id() -> RequestId {
    ID.parse().unwrap()
}

/// Answers one after the other, the last one for ever.
async fn server(answers: Vec<Answer>) -> TestServer {
    let next = AtomicUsize::new(0);
    TestServer::start(move |_| {
        let at = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        answers[at].clone()
    })
    .await
}

fn progress(place: u64, done: bool) -> Answer {
    Answer::json(200, &json!({"queue_position": place, "done": done}))
}

#[tokio::test]
async fn it_reports_each_look_and_outlives_short_outages() {
    let server = server(vec![
        progress(2, false),
        Answer::json(429, &json!({"message": "slow down"})).with("retry-after", "0"),
        Answer::json(502, &json!({})),
        progress(1, false),
        Answer::hang_up(),
        progress(0, true),
    ])
    .await;
    let mut places = Vec::new();
    let end = horde(&server.url)
        .wait_for(id(), &quick(), |progress| {
            places.push(progress.queue_position);
        })
        .await;
    assert!(end.unwrap().done);
    assert_eq!(places, [2, 1, 0]);
}

#[tokio::test]
async fn it_gives_up_on_refusals_and_lasting_outages() {
    let gone = server(vec![Answer::json(
        404,
        &json!({"message": "gone", "rc": "RequestNotFound"}),
    )])
    .await;
    let end = horde(&gone.url).wait_for(id(), &quick(), |_| {}).await;
    assert!(matches!(end, Err(Error::Refused(_))));
    assert_eq!(gone.seen().len(), 1);

    let down = server(vec![Answer::json(500, &json!({}))]).await;
    let end = horde(&down.url).wait_for(id(), &quick(), |_| {}).await;
    assert!(end.unwrap_err().is_passing());
    assert_eq!(down.seen().len(), 3);
}
