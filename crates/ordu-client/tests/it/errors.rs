//! What a caller learns when a call fails.

use std::time::Duration;

use ordu_api::ReturnCode;
use ordu_client::Error;
use serde_json::json;

use crate::support::horde;
use crate::support::http::{Answer, TestServer};

async fn failure(answer: Answer) -> Error {
    let server = TestServer::start(move |_| answer.clone()).await;
    horde(&server.url).heartbeat().await.unwrap_err()
}

#[tokio::test]
async fn a_refusal_tells_status_code_message_and_fields() {
    let error = failure(Answer::json(
        403,
        &json!({"message": "no", "rc": "WorkerMaintenance"}),
    ))
    .await;
    assert!(error.is(ReturnCode::WorkerMaintenance));
    assert_eq!(error.to_string(), "no (WorkerMaintenance)");
    assert_eq!(error.refusal().unwrap().status, 403);

    let fields = json!({"message": "Input payload validation failed",
                        "errors": {"params.width": "500 is not a multiple of 64", "x": {"odd": 1}}});
    let error = failure(Answer::json(400, &fields)).await;
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.rc, None);
    assert_eq!(
        refusal.errors["params.width"],
        "500 is not a multiple of 64"
    );
    assert!(error.to_string().contains("`params.width`"));
}

#[tokio::test]
async fn unknown_codes_and_bodies_that_are_no_json_are_refusals_too() {
    let error = failure(Answer::json(
        418,
        &json!({"message": "tea", "rc": "Teapot"}),
    ))
    .await;
    assert_eq!(error.refusal().unwrap().rc.as_deref(), Some("Teapot"));
    let error = failure(Answer::bytes(404, b"<html>".to_vec())).await;
    assert_eq!(error.to_string(), "status 404");
}

#[tokio::test]
async fn a_rate_limit_tells_how_long_to_wait() {
    let limited = Answer::json(429, &json!({"message": "2 per 1 second"})).with("Retry-After", "3");
    let error = failure(limited).await;
    assert!(matches!(error, Error::RateLimited { .. }));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));

    let crowded = Answer::json(429, &json!({"message": "too many", "rc": "TooManyPrompts"}));
    assert!(failure(crowded).await.is(ReturnCode::TooManyPrompts));
}

#[tokio::test]
async fn outages_pass_and_broken_answers_do_not() {
    let error =
        failure(Answer::json(503, &json!({"message": "busy"})).with("retry-after", "9")).await;
    assert!(error.is_passing());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
    assert!(failure(Answer::hang_up()).await.is_passing());
    assert!(
        horde("http://127.0.0.1:1")
            .heartbeat()
            .await
            .unwrap_err()
            .is_passing()
    );
    assert!(matches!(
        failure(Answer::bytes(200, b"{}".to_vec())).await,
        Error::Malformed { .. }
    ));
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirect() {
    let elsewhere = TestServer::start(|_| Answer::json(200, &json!({}))).await;
    let target = elsewhere.url.clone();
    let error = failure(Answer::bytes(307, Vec::new()).with("location", target)).await;
    assert_eq!(error.refusal().unwrap().status, 307);
    assert!(elsewhere.seen().is_empty());
}
