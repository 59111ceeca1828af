//! The door for workers, in the order of the protocol.

use ordu_server::{Config, GuardConfig, OnboardingLimits};
use ordu_store::{NewWorker, UserChange};
use serde_json::json;

use super::{Caller, change, friend, moderator, start, stranger, suspicion_of, with_guard};
use crate::support::TestHorde;

#[tokio::test]
async fn names_must_be_decent() {
    let horde = start(GuardConfig::default()).await;
    let owner = stranger(&horde, "owner").await;
    for (name, agent, status, rc) in [
        ("fuck you all", "x:1:y", 400, "ProfaneWorkerName"),
        ("FuckYou 2", "x:1:y", 400, "ProfaneWorkerName"),
        ("decent", "fuck you:1:y", 400, "ProfaneBridgeAgent"),
        ("My Google box", "x:1:y", 400, "BadRequest"),
        ("a colab worker", "x:1:y", 400, "BadRequest"),
        ("TPU", "x:1:y", 400, "BadRequest"),
        ("decent", "garbage", 200, ""),
        (
            "w-9f0cab17c0ffee",
            "x:1:https://example.org/ABCDEF0123",
            200,
            "",
        ),
    ] {
        let popped = owner.pop_with(name, json!({ "bridge_agent": agent })).await;
        assert_eq!((popped.status, popped.rc()), (status, rc), "{name} {agent}");
    }
    assert_eq!(horde.get("/workers/name/TPU").await.status, 404);
    let renamed = owner
        .pop_with("decent", json!({ "bridge_agent": "fuck you:1:y" }))
        .await;
    assert_eq!(renamed.status, 200, "only new workers are looked at");
}

#[tokio::test]
async fn profanity_can_be_allowed() {
    let config = GuardConfig {
        check_profanity: false,
        ..GuardConfig::default()
    };
    let horde = start(config).await;
    let owner = stranger(&horde, "owner").await;
    assert_eq!(owner.pop("fuck you all").await.status, 200);
}

#[tokio::test]
async fn owners_have_so_many_workers() {
    let horde = start(GuardConfig::default()).await;
    let owner = stranger(&horde, "owner").await;
    for number in 0..4 {
        assert_eq!(owner.pop(&format!("w{number}")).await.status, 200);
    }
    let refused = owner.pop("w4").await;
    assert_eq!((refused.status, refused.rc()), (403, "TooManyWorkers"));
    assert_eq!(owner.pop("w0").await.status, 200, "known workers come in");
}

#[tokio::test]
async fn limits_give_way_to_invitations() {
    let config = GuardConfig {
        onboarding: OnboardingLimits {
            workers: 9,
            workers_trusted: 3,
            same_address: 1,
            same_address_trusted: 1,
        },
        ..GuardConfig::default()
    };
    let horde = start(config).await;
    let owner = friend(&horde, "owner").await;
    assert_eq!(owner.pop("w0").await.status, 200);
    assert_eq!(owner.pop("w1").await.status, 200);
    let refused = owner.pop("w2").await;
    assert_eq!((refused.status, refused.rc()), (403, "TooManySameIPs"));
    let owner = owner.from("203.0.113.2");
    assert_eq!(owner.pop("w2").await.status, 200);
    assert_eq!(owner.pop("w3").await.status, 200);
    let owner = owner.from("203.0.113.3");
    let refused = owner.pop("w4").await;
    assert_eq!(
        (refused.status, refused.rc()),
        (403, "TooManyWorkersTrusted")
    );
    let invite = UserChange {
        worker_invited: Some(7),
        ..UserChange::default()
    };
    change(&horde, &owner, invite).await;
    assert_eq!(owner.pop("w4").await.status, 200);
}

#[tokio::test]
async fn an_invitation_is_needed_when_there_are_invitations_only() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let owner = stranger(&horde, "owner").await;
    assert_eq!(owner.pop("w0").await.status, 200);
    let mode = json!({ "invite_only_mode": true });
    assert_eq!(moderator.put("/status/modes", mode).await.status, 200);
    let refused = owner.pop("w1").await;
    assert_eq!((refused.status, refused.rc()), (403, "WorkerInviteOnly"));
    assert_eq!(owner.pop("w0").await.status, 200);
    let invite = UserChange {
        worker_invited: Some(2),
        ..UserChange::default()
    };
    change(&horde, &owner, invite).await;
    assert_eq!(owner.pop("w1").await.status, 200);
    assert_eq!(owner.pop("w2").await.rc(), "WorkerInviteOnly");
}

#[tokio::test]
async fn the_first_check_that_fails_decides() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let (owner, other) = (
        stranger(&horde, "owner").await,
        stranger(&horde, "other").await,
    );
    owner.pop("taken").await;
    let nobody = Caller::new(&horde, &ordu_api::ApiKey::new("nobody has this one"));
    let anonymous = Caller::new(&horde, &ordu_api::ApiKey::anonymous());
    let wrong_friends = json!({ "priority_usernames": ["noid#"] });
    let popped = nobody.pop_with("w", wrong_friends.clone()).await;
    assert_eq!(
        (popped.status, popped.rc()),
        (400, "InvalidPriorityUsername")
    );
    assert_eq!(nobody.pop("fuck you").await.rc(), "InvalidAPIKey");
    assert_eq!(anonymous.pop("fuck you").await.rc(), "AnonForbiddenWorker");
    assert_eq!(other.pop("taken").await.rc(), "WrongCredentials");
    assert_eq!(
        other
            .pop_with("taken", json!({ "models": ["x-unknown"] }))
            .await
            .rc(),
        "WrongCredentials"
    );
    let shut = json!({ "ipaddr": "203.0.113.1", "hours": 1 });
    moderator.post("/operations/ipaddr", shut).await;
    for name in ["taken", "fuck you", "new"] {
        assert_eq!(other.pop(name).await.rc(), "TimeoutIP", "{name}");
    }
    for (flagged, deleted, rc) in [
        (true, false, "WorkerFlaggedMaintenance"),
        (true, true, "DeletedUser"),
    ] {
        let held = UserChange {
            flagged: Some(flagged),
            deleted: Some(deleted),
            ..UserChange::default()
        };
        change(&horde, &owner, held).await;
        let popped = owner.pop("taken").await;
        assert_eq!((popped.status, popped.rc()), (403, rc));
    }
}

#[tokio::test]
async fn a_name_of_another_kind_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("ordu.db").display());
    let on_file = |config: Config| Config {
        database: database.clone(),
        ..with_guard(config, GuardConfig::default())
    };
    let horde = TestHorde::start_with(on_file).await;
    let owner = stranger(&horde, "owner").await;
    let scribe = NewWorker {
        id: ordu_api::WorkerId::from_uuid(uuid::Uuid::new_v4()),
        name: "scribe".to_owned(),
        kind: ordu_api::worker::WorkKind::Text,
        owner: super::id_of(&owner).await,
        agent: "x:1:y".to_owned(),
        declared: "{}".to_owned(),
        ip: None,
        created: ordu_core::Timestamp(0),
    };
    let key = owner.key.clone();
    horde.server.store().insert_worker(&scribe).await.unwrap();
    horde.server.stop().await;
    let horde = TestHorde::start_with(on_file).await;
    let popped = Caller::new(&horde, &key).pop("scribe").await;
    assert_eq!(
        (popped.status, popped.rc()),
        (400, "PolymorphicNameConflict")
    );
}

#[tokio::test]
async fn long_names_and_extreme_claims_are_suspected() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let owner = stranger(&horde, "owner").await;
    let long = "n".repeat(201);
    for _ in 0..2 {
        let popped = owner
            .pop_with(&long, json!({ "max_pixels": 3072 * 3072 + 1 }))
            .await;
        assert_eq!(popped.status, 200);
    }
    let seen = moderator
        .get(&format!("/workers/name/{}", "n".repeat(100)))
        .await;
    assert_eq!(
        seen.body["suspicious"], 3,
        "long, extremely long, extreme pixels"
    );
    assert_eq!(suspicion_of(&moderator, &owner).await, 3);
    let public = horde
        .get(&format!("/workers/name/{}", "n".repeat(100)))
        .await;
    assert_eq!(public.body.get("suspicious"), None);
    let trusted = friend(&horde, "trusted").await;
    trusted.pop(&"t".repeat(201)).await;
    assert_eq!(suspicion_of(&moderator, &trusted).await, 0);
}
