//! What the calls send, and what they read.

use ordu_api::image::{ImagePop, ImageRequest, ImageSubmit, SubmitState};
use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, UserId, WorkerId};
use ordu_client::{Error, NewTestUser};
use serde_json::{Value, json};

use crate::support::http::{Answer, Seen, TestServer};
use crate::support::{AGENT, KEY, horde};

const ID: &str = "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";

fn progress() -> Value {
    json!({"finished": 1, "processing": 0, "restarted": 0, "waiting": 0, "done": true,
           "faulted": false, "wait_time": 0, "queue_position": 0, "kudos": 8.0,
           "is_possible": true, "a_new_member": {"x": 1}})
}

fn status() -> Value {
    let mut status = progress();
    status["shared"] = json!(false);
    status["generations"] = json!([{
        "img": "https://store/x.webp", "seed": "1", "id": ID, "censored": false,
        "gen_metadata": [], "worker_id": ID, "worker_name": "w", "model": "m", "state": "ok"
    }]);
    status
}

fn respond(seen: &Seen) -> Answer {
    let path = seen.target.strip_prefix("/api/v2/").unwrap_or_default();
    let body = match (seen.method.as_str(), path) {
        ("POST", "generate/async") if seen.json()["dry_run"] == json!(true) => {
            json!({"kudos": 12.5})
        }
        ("POST", "generate/async") => {
            return Answer::json(
                202,
                &json!({"id": ID, "kudos": 8, "warnings": [{"code": "c", "message": "m"}]}),
            );
        }
        ("GET", _) if path.starts_with("generate/check/") => progress(),
        ("GET" | "DELETE", _) if path.starts_with("generate/status/") => status(),
        ("POST", "generate/pop") => {
            json!({"id": ID, "payload": {"seed": 7, "prompt": "p"}, "model": "m"})
        }
        ("POST", "generate/submit") => json!({"reward": 10.25}),
        ("GET", "status/heartbeat") => {
            json!({"message": "OK", "version": "1", "queue": 0, "threads": 1,
                                              "active_count": 0, "db_connection": true})
        }
        ("GET", "status/performance") => json!({"queued_requests": 3}),
        ("GET", "status/models?type=image") => json!([{"name": "m", "count": 2, "type": "image"}]),
        ("GET", "status/modes") => json!({"maintenance_mode": true}),
        ("GET", "workers?type=image" | "workers") => json!([{"name": "w"}]),
        ("GET", "find_user" | "users/1") => json!({"username": "u#1", "id": 1, "kudos": 3.5}),
        ("POST", "dev/test-user") => {
            json!({"api_key": KEY, "user_id": "1", "username": "u", "alias": "u#1",
                                            "kudos": 10.0, "trusted": true, "moderator": true, "created": true})
        }
        ("GET", _) if path.starts_with("workers/") => json!({"name": "w", "id": ID}),
        _ => return Answer::json(404, &json!({"message": "no such path"})),
    };
    Answer::json(200, &body)
}

#[tokio::test]
async fn calls_carry_key_and_agent_and_read_their_answers() {
    let server = TestServer::start(respond).await;
    let horde = horde(&server.url);
    let id: RequestId = ID.parse().unwrap();
    let request = ImageRequest {
        prompt: "p".into(),
        ..ImageRequest::default()
    };

    let accepted = horde.async_image(&request).await.unwrap();
    assert_eq!((accepted.id, accepted.warnings.len()), (id, 1));
    assert!((horde.price_image(&request).await.unwrap().kudos - 12.5).abs() < f64::EPSILON);
    assert!(horde.check(id).await.unwrap().done);
    assert_eq!(horde.status(id).await.unwrap().generations[0].seed, "1");
    assert_eq!(horde.cancel(id).await.unwrap().generations.len(), 1);
    assert!(horde.heartbeat().await.unwrap().db_connection);
    assert_eq!(horde.performance().await.unwrap().queued_requests, 3);
    assert_eq!(horde.models(WorkKind::Image).await.unwrap()[0].count, 2);
    assert!(horde.modes().await.unwrap().maintenance_mode);
    assert_eq!(horde.workers(None).await.unwrap()[0].name, "w");
    assert_eq!(horde.workers(Some(WorkKind::Image)).await.unwrap().len(), 1);
    let worker: WorkerId = ID.parse().unwrap();
    assert_eq!(horde.worker(worker).await.unwrap().id, ID);
    assert_eq!(horde.find_user().await.unwrap().username, "u#1");
    assert_eq!(
        horde.user(UserId::new(1).unwrap()).await.unwrap().id.get(),
        1
    );
    assert!(
        horde
            .test_user(&NewTestUser::default())
            .await
            .unwrap()
            .created
    );

    for seen in server.seen() {
        assert_eq!(seen.header("apikey"), Some(KEY), "{}", seen.target);
        assert_eq!(seen.header("client-agent"), Some(AGENT), "{}", seen.target);
        assert_eq!(seen.header("x-fields"), None, "{}", seen.target);
    }
}

#[tokio::test]
async fn a_worker_pops_and_submits() {
    let server = TestServer::start(respond).await;
    let horde = horde(&server.url);
    let offer = ImagePop {
        name: "w".into(),
        allow_unsafe_ipaddr: false,
        ..ImagePop::default()
    };

    let job = horde.pop_image(&offer).await.unwrap();
    assert_eq!(job.payload.seed.as_deref(), Some("7"));
    let result = ImageSubmit {
        id: ID.into(),
        generation: "faulted".into(),
        state: SubmitState::Faulted,
        seed: -1,
        gen_metadata: Vec::new(),
    };
    assert!((horde.submit_image(&result).await.unwrap().reward - 10.25).abs() < f64::EPSILON);

    let popped = server.seen_at("POST", "/api/v2/generate/pop")[0].json();
    assert_eq!(popped["allow_unsafe_ipaddr"], json!(false));
    assert_eq!(popped["name"], json!("w"));
    let submitted = server.seen_at("POST", "/api/v2/generate/submit")[0].json();
    assert_eq!(
        submitted,
        json!({"id": ID, "generation": "faulted", "state": "faulted", "seed": -1, "gen_metadata": []})
    );
}

#[tokio::test]
async fn a_worker_name_is_one_segment_of_the_path() {
    let server = TestServer::start(respond).await;
    horde(&server.url).worker_by_name("a/b ?#ü").await.unwrap();
    let target = &server.seen()[0].target;
    assert_eq!(target, "/api/v2/workers/name/a%2Fb%20%3F%23%C3%BC");
}

#[tokio::test]
async fn a_mask_is_sent_and_what_it_leaves_out_reads_as_default() {
    let server = TestServer::start(|_| Answer::json(200, &json!({"done": true}))).await;
    let horde = horde(&server.url).with_fields("done").unwrap();
    let progress = horde.check(ID.parse().unwrap()).await.unwrap();
    assert!(progress.done && progress.queue_position == 0);
    assert_eq!(server.seen()[0].header("x-fields"), Some("done"));
    assert!(matches!(
        horde.with_fields("a\nb"),
        Err(Error::Setting { .. })
    ));
}
