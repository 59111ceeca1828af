//! Several nodes with trust audits and with the operator's own rules.

use std::net::Ipv4Addr;

use ordu_api::RequestId;
use ordu_api::image::ImageJob;
use ordu_client::Horde;
use ordu_server::{Config, HookConfig, TrustAuditConfig};
use serde_json::{Value, json};

use crate::nodes::{HEAD_START, manual, settle_down, with_two_like};
use crate::receiver::{Planned, Receiver};
use crate::support::{
    PICTURE, TestHorde, delivered, pop, request, soon, text_pop, text_request, written,
};
use crate::trust_audits::{hand_in, picture};

const ALLOW: Planned = Planned::Answer(200, r#"{"verdict": "allow"}"#);
const REFUSE: Planned = Planned::Answer(200, r#"{"verdict": "refuse", "message": "not today"}"#);
const CENSOR: Planned = Planned::Answer(200, r#"{"verdict": "censor"}"#);

/// Pops until there is something, while time passes: it may be at home elsewhere, or not be known yet.
async fn next_image(horde: &TestHorde, worker: &Horde, name: &str) -> ImageJob {
    soon(async {
        loop {
            let job = worker.pop_image(&pop(name)).await.unwrap();
            if job.id.is_some() {
                return job;
            }
            horde.later(1);
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// What a node shows of trust audits, once there are so many.
async fn audits(horde: &TestHorde, key: &str, count: usize) -> Vec<Value> {
    soon(async {
        loop {
            let path = "/operations/trust-audits";
            let answer = horde
                .call(reqwest::Method::GET, path, Some(key), None)
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let listed = answer.body.as_array().unwrap().clone();
            if listed.len() >= count {
                return listed;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_twin_is_made_at_another_node_than_the_first_picture() {
    let strict = |config| Config {
        trust_audits: TrustAuditConfig {
            share: 1.0,
            strikes: 1,
            ..TrustAuditConfig::default()
        },
        ..config
    };
    with_two_like(manual, strict, async |one, two| {
        let keeper = one.mint("keeper", json!({ "moderator": true })).await;
        let newcomer = one.mint("newcomer", json!({})).await;
        let veteran = one.mint("veteran", json!({ "trusted": true })).await;
        let key = keeper.api_key.reveal();
        let here = two.client(&newcomer.api_key);
        let there = one.client(&veteran.api_key);
        for (round, again) in [(1_usize, 1), (2, 9)] {
            // The veteran comes to the first node only, and is online before there is anything.
            let nothing = there.pop_image(&pop("veteran")).await.unwrap();
            assert!(nothing.id.is_none());
            settle_down([&one, &two]).await;
            one.anonymous().async_image(&request()).await.unwrap();
            let job = next_image(&one, &here, "newcomer").await;
            // Who takes no time at all is suspected of something else.
            one.later(20);
            let first = picture(u32::try_from(round).unwrap());
            assert!(hand_in(&here, &job, &first).await > 0.0);
            soon(async {
                while two.server.store().list_live().await.unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let twin = next_image(&one, &there, "veteran").await;
            assert_ne!(twin.id, job.id);
            assert_eq!(twin.payload.prompt, job.payload.prompt);
            one.later(20);
            assert!(hand_in(&there, &twin, &picture(again)).await > 0.0);
            for node in [&one, &two] {
                let listed = audits(node, key, round).await;
                assert_eq!(listed.len(), round, "each picture once");
                assert_eq!(listed[0]["job"], json!(job.ids[0]));
                assert_eq!(listed[0]["differs"], round == 2);
            }
        }
        // What speaks against a worker is known at both.
        let path = format!("/users/{}", newcomer.user_id);
        for node in [&one, &two] {
            soon(async {
                loop {
                    let seen = node.call(reqwest::Method::GET, &path, Some(key), None);
                    if seen.await.body["suspicious"].as_f64() == Some(1.0) {
                        break;
                    }
                    // Suspicions are read again now and then.
                    node.later(60);
                    node.server.settle_down().await.unwrap();
                }
            })
            .await;
        }
        let store = one.server.store();
        assert_eq!(store.ledger_sum().await.unwrap(), ordu_core::Kudos::ZERO);
        assert!(store.audit().await.unwrap().is_empty());
    })
    .await;
}

/// Rules of the operator at both nodes, each as `words=path` at the receiver.
fn ruled(receiver: &Receiver, hooks: &[&str]) -> HookConfig {
    let hooks = hooks.iter().map(|hook| {
        let (words, path) = hook.split_once('=').unwrap();
        format!("{words}={}", receiver.url(path)).parse().unwrap()
    });
    HookConfig {
        hooks: hooks.collect(),
        secret: None,
    }
}

#[tokio::test]
async fn rules_are_asked_by_the_node_that_acts_and_count_at_the_others() {
    let receiver = Receiver::start().await;
    let hooks = ruled(
        &receiver,
        &[
            "admission+text+closed=/door",
            "assignment+text+closed=/give",
            "result+image+closed=/look",
        ],
    );
    let receiver = tokio::sync::Mutex::new(receiver);
    let with_rules = |config| Config {
        private_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        hooks: hooks.clone(),
        ..config
    };
    with_two_like(manual, with_rules, async |one, two| {
        let receiver = &mut *receiver.lock().await;
        let owner = one.user("owner", 0.0).await;
        let (first, second) = (one.client(&owner.api_key), two.client(&owner.api_key));
        receiver.plan([REFUSE]);
        let refused = one.anonymous().async_text(&text_request()).await;
        assert!(refused.unwrap_err().is(ordu_api::ReturnCode::Forbidden));
        assert_eq!(receiver.next().await.path, "/door");
        settle_down([&one, &two]).await;
        let known = two.server.store().list_live().await.unwrap();
        assert!(known.is_empty(), "what is refused is nowhere");
        receiver.plan([ALLOW]);
        let id = one
            .anonymous()
            .async_text(&text_request())
            .await
            .unwrap()
            .id;
        assert_eq!(receiver.next().await.path, "/door");
        settle_down([&one, &two]).await;
        assert!(receiver.is_quiet(), "who only hears of it does not ask");
        one.later(HEAD_START);

        // What a worker must not have stays for others, at both nodes.
        receiver.plan([REFUSE]);
        let nothing = second.pop_text(&text_pop("one")).await.unwrap();
        assert!(nothing.id.is_none());
        assert_eq!(receiver.next().await.body["id"], json!(id));
        settle_down([&one, &two]).await;
        receiver.plan([ALLOW]);
        let job = first.pop_text(&text_pop("two")).await.unwrap().ids[0];
        assert_eq!(receiver.next().await.body["jobs"], json!([job]));
        settle_down([&one, &two]).await;
        let nothing = second.pop_text(&text_pop("three")).await.unwrap();
        assert!(nothing.id.is_none(), "it is given away once");
        assert!(receiver.is_quiet(), "nobody asks about what is given away");
        second.submit_text(&written(job)).await.unwrap();
        settle_down([&one, &two]).await;
        for node in [&one, &two] {
            let seen = node.anonymous().text_status(id).await.unwrap();
            assert_eq!((seen.progress.finished, seen.progress.done), (1, true));
        }
        results(&one, &two, receiver, [&first, &second]).await;
    })
    .await;
}

/// A picture that is made at one node and handed in at the other.
async fn results(
    one: &TestHorde,
    two: &TestHorde,
    receiver: &mut Receiver,
    [first, second]: [&Horde; 2],
) {
    receiver.plan([CENSOR, REFUSE, ALLOW]);
    let (id, job) = painted(one, second).await;
    first.submit_image(&delivered(job.ids[0])).await.unwrap();
    assert_eq!(receiver.next().await.body["job"], json!(job.ids[0]));
    for node in [one, two] {
        let shown = shown(node, id).await;
        assert!(shown.censored);
        assert_eq!(shown.gen_metadata[0].reference.as_deref(), Some("policy"));
    }
    let (id, job) = painted(two, first).await;
    let reward = second.submit_image(&delivered(job.ids[0])).await.unwrap();
    assert!(reward.reward.abs() < f64::EPSILON, "{reward:?}");
    receiver.next().await;
    let again = next_image(one, first, "painter").await;
    assert_ne!(again.ids, job.ids);
    upload(first, &again).await;
    first.submit_image(&delivered(again.ids[0])).await.unwrap();
    receiver.next().await;
    for node in [one, two] {
        assert!(!shown(node, id).await.censored);
    }
    assert!(receiver.is_quiet());
}

/// A picture that a worker has made and not handed in yet.
async fn painted(horde: &TestHorde, worker: &Horde) -> (RequestId, ImageJob) {
    let id = horde.anonymous().async_image(&request()).await.unwrap().id;
    let job = next_image(horde, worker, "painter").await;
    upload(worker, &job).await;
    (id, job)
}

async fn upload(worker: &Horde, job: &ImageJob) {
    let upload = &job.r2_uploads.as_ref().unwrap()[0];
    let picture = PICTURE.to_vec().into();
    worker.upload(upload, picture).await.unwrap();
}

/// The only picture of a request, once a node knows it.
async fn shown(node: &TestHorde, id: RequestId) -> ordu_api::image::Generation {
    let client = node.anonymous();
    soon(async {
        loop {
            let mut shown = client.status(id).await.unwrap().generations;
            if !shown.is_empty() {
                return shown.remove(0);
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
