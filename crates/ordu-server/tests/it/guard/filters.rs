//! Prompt filters and what comes of them.

use ordu_server::GuardConfig;
use ordu_store::{NewFilter, UserChange};
use serde_json::{Value, json};

use super::{Caller, change, friend, id_of, moderator, start, stranger, suspicion_of};
use crate::support::TestHorde;

const NEGATIVES: &str = "###child, infant, underage, teenager, immature";

/// The filters of the recorded exchanges.
async fn put_filters(moderator: &Caller<'_>) {
    for (regex, kind, replacement) in [
        ("zzminor", 10, "zzadult"),
        ("zzsecond", 11, ""),
        ("zzlewd", 20, ""),
    ] {
        let body = json!({ "regex": regex, "filter_type": kind, "replacement": replacement });
        assert_eq!(moderator.put("/filters", body).await.status, 200);
    }
}

async fn horde_with_filters() -> TestHorde {
    let horde = start(GuardConfig::default()).await;
    put_filters(&moderator(&horde).await).await;
    horde
}

/// The prompt that a worker gets for the request that was asked for last.
async fn given(worker: &Caller<'_>) -> Value {
    worker.pop("w").await.body["payload"]["prompt"].clone()
}

#[tokio::test]
async fn filters_that_cannot_be_used_are_refused() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let good = moderator
        .put("/filters", json!({ "regex": "good", "filter_type": 20 }))
        .await;
    let id = good.body["id"].as_str().unwrap().to_owned();
    let long = "x".repeat(10_001);
    for (regex, rc) in [
        ("(", "BadRequest"),
        ("", "BadRequest"),
        ("a*", "BadRequest"),
        ("a)|(b", "BadRequest"),
        (r"(\w{900}){900}", "BadRequest"),
        ("a\0b", "NulByteInPayload"),
        (&long, ""),
    ] {
        let new = json!({ "regex": regex, "filter_type": 20 });
        let refused = moderator.put("/filters", new).await;
        assert_eq!((refused.status, refused.rc()), (400, rc), "{regex}");
        let changed = json!({ "regex": regex });
        let refused = moderator.patch(&format!("/filters/{id}"), changed).await;
        assert_eq!((refused.status, refused.rc()), (400, rc), "{regex}");
    }
    let other = moderator
        .put("/filters", json!({ "regex": "other", "filter_type": 20 }))
        .await;
    let other = other.body["id"].as_str().unwrap();
    let same = moderator
        .patch(&format!("/filters/{other}"), json!({ "regex": "good" }))
        .await;
    assert_eq!((same.status, same.rc()), (400, "BadRequest"));
    let verdict = moderator
        .post("/filters", json!({ "prompt": "good" }))
        .await;
    assert_eq!(
        verdict.body,
        json!({ "suspicion": "1", "matches": ["good"] })
    );
}

#[tokio::test]
async fn a_change_counts_at_once_and_the_last_filter_can_go() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let judge = async |prompt: &str| {
        let verdict = moderator
            .post("/filters", json!({ "prompt": prompt }))
            .await;
        verdict.body["suspicion"].clone()
    };
    let new = json!({ "regex": "one", "filter_type": 10, "replacement": "x" });
    let id = moderator.put("/filters", new).await.body["id"].clone();
    let path = format!("/filters/{}", id.as_str().unwrap());
    assert_eq!(judge("one two").await, "1");
    let changed = moderator
        .patch(&path, json!({ "regex": "(?<!one )two", "replacement": "" }))
        .await;
    assert_eq!(changed.body["replacement"], "");
    assert_eq!(
        (judge("one two").await, judge("a two").await),
        ("0".into(), "1".into())
    );
    assert_eq!(moderator.delete(&path, None).await.status, 200);
    assert_eq!(judge("a two").await, "0");
    assert_eq!(moderator.get("/filters/regex").await.body, json!([]));
}

#[tokio::test]
async fn filters_of_other_nodes_are_read_and_broken_ones_change_nothing() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    let store = |regex: &str| NewFilter {
        regex: regex.to_owned(),
        kind: 20,
        description: None,
        replacement: String::new(),
        editor: ordu_api::UserId::ANONYMOUS,
    };
    let judge = async || {
        let verdict = moderator
            .post("/filters", json!({ "prompt": "zzlewd" }))
            .await;
        verdict.body["suspicion"].clone()
    };
    let filter = horde.server.store().insert_filter(&store("zzlewd")).await;
    assert_eq!(judge().await, "0");
    horde.server.settle_down().await.unwrap();
    assert_eq!(judge().await, "1");
    horde
        .server
        .store()
        .insert_filter(&store("("))
        .await
        .unwrap();
    horde
        .server
        .store()
        .delete_filter(filter.unwrap().id)
        .await
        .unwrap();
    horde.server.settle_down().await.unwrap();
    assert_eq!(judge().await, "1", "the last good filters stay");
}

#[tokio::test]
async fn who_is_named_may_try_prompts_and_nothing_else() {
    // Accounts get their numbers in order.
    let config = GuardConfig {
        filter_checkers: vec![ordu_api::UserId::new(1).unwrap()],
        ..GuardConfig::default()
    };
    let horde = start(config).await;
    let (named, other) = (stranger(&horde, "a").await, stranger(&horde, "b").await);
    let body = json!({ "prompt": "a prompt" });
    assert_eq!(named.post("/filters", body.clone()).await.status, 200);
    assert_eq!(other.post("/filters", body).await.rc(), "NotModerator");
    assert_eq!(named.get("/filters").await.rc(), "NotModerator");
}

#[tokio::test]
async fn the_form_of_a_tried_prompt_is_not_complained_about() {
    let horde = start(GuardConfig::default()).await;
    let moderator = moderator(&horde).await;
    for body in [json!([]), json!(null), json!({}), json!({ "prompt": 5 })] {
        let answer = moderator.post("/filters", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.body["errors"].get("prompt").is_some(), "{body}");
    }
    let wrong = json!({ "prompt": "a", "filter_type": "x" });
    let answer = moderator.post("/filters", wrong).await;
    assert!(answer.body["errors"].get("filter_type").is_some());
    let answer = moderator.get("/filters?filter_type=x").await;
    assert!(answer.body["errors"].get("filter_type").is_some());
}

#[tokio::test]
async fn corrupt_prompts_are_rewritten_or_refused() {
    let horde = horde_with_filters().await;
    let worker = friend(&horde, "owner").await.from("203.0.113.50");
    let cases = [
        ("a zzminor thing", true, "a zzminor thing".to_owned()),
        ("a zzlewd thing", false, "a zzlewd thing".to_owned()),
        (
            "a (zzminor:1.2), z z l e w d###blur",
            true,
            format!("a zzadult zzlewd{NEGATIVES}, blur"),
        ),
    ];
    let asker = stranger(&horde, "asker").await;
    for (prompt, replacement_filter, expected) in cases {
        let body = json!({ "prompt": prompt, "replacement_filter": replacement_filter });
        assert_eq!(asker.ask_with(body).await.status, 202, "{prompt}");
        assert_eq!(given(&worker).await, expected, "{prompt}");
    }
    let long = format!("zzminor zzlewd {}", "word ".repeat(1_500));
    let refused = asker.ask(&long).await;
    assert_eq!((refused.status, refused.rc()), (400, "BadRequest"));
    assert_eq!(
        asker.ask("a lighthouse").await.status,
        202,
        "nobody is to blame"
    );
}

#[tokio::test]
async fn who_sends_a_corrupt_prompt_is_shut_out() {
    let horde = horde_with_filters().await;
    let moderator = moderator(&horde).await;
    let mut asker = stranger(&horde, "asker").await;
    let corrupt = json!({ "prompt": "zzminor zzlewd", "replacement_filter": false });
    let accepted = asker.ask("a lighthouse").await.body["id"].clone();
    let refused = asker.ask_with(corrupt.clone()).await;
    assert_eq!((refused.status, refused.rc()), (400, "CorruptPrompt"));

    let out = asker.ask("a lighthouse").await;
    assert_eq!((out.status, out.rc()), (403, "TimeoutIP"));
    assert!(
        out.body["message"].as_str().unwrap().contains("180"),
        "{}",
        out.body
    );
    let out = friend(&horde, "owner").await.pop("w").await;
    assert_eq!((out.status, out.rc()), (403, "TimeoutIP"));
    let check = format!("/generate/check/{}", accepted.as_str().unwrap());
    assert_eq!(asker.get(&check).await.status, 200);
    asker.agent = "unknown:0:unknown";
    let out = asker.get(&check).await;
    assert_eq!((out.status, out.rc()), (403, "Forbidden"));
    let elsewhere = stranger(&horde, "elsewhere").await.from("203.0.113.2");
    assert_eq!(elsewhere.ask("a lighthouse").await.status, 202);

    horde.later(180);
    assert_eq!(asker.ask("a lighthouse").await.status, 202);
    assert_eq!(asker.ask_with(corrupt).await.rc(), "CorruptPrompt");
    horde.later(9 * 60 - 1);
    assert_eq!(asker.ask("a lighthouse").await.rc(), "TimeoutIP");
    horde.later(1);
    assert_eq!(asker.ask("a lighthouse").await.status, 202);

    assert_eq!(suspicion_of(&moderator, &asker).await, 1, "it counts once");
    let notices = moderator
        .get("/operations/notices?kind=corrupt-prompt")
        .await;
    assert_eq!(notices.body.as_array().unwrap().len(), 2);
    assert_eq!(notices.body[0]["prompt"], "zzminor zzlewd");
    assert_eq!(asker.get("/operations/notices").await.rc(), "NotModerator");
}

#[tokio::test]
async fn moderators_and_prices_are_not_punished() {
    let horde = horde_with_filters().await;
    let moderator = moderator(&horde).await;
    let corrupt = json!({ "prompt": "zzminor zzlewd", "replacement_filter": false });
    for _ in 0..2 {
        assert_eq!(
            moderator.ask_with(corrupt.clone()).await.rc(),
            "CorruptPrompt"
        );
    }
    let asker = stranger(&horde, "asker").await;
    let mut price = corrupt;
    price["dry_run"] = json!(true);
    assert_eq!(asker.ask_with(price).await.status, 200);
    assert_eq!(asker.ask("a lighthouse").await.status, 202);
}

#[tokio::test]
async fn prompts_of_flagged_users_and_schools_are_rewritten() {
    let horde = horde_with_filters().await;
    let worker = friend(&horde, "owner").await.from("203.0.113.50");
    let flagged = stranger(&horde, "flagged").await;
    let flag = UserChange {
        flagged: Some(true),
        ..UserChange::default()
    };
    change(&horde, &flagged, flag).await;
    assert_eq!(flagged.ask("two young cats, sitting").await.status, 202);
    let expected = format!("two mature cats sitting{NEGATIVES}");
    assert_eq!(given(&worker).await, expected);
    let nothing = flagged.ask("!!!").await;
    assert_eq!((nothing.status, nothing.rc()), (400, "CorruptPrompt"));
    assert_eq!(flagged.ask("a cat").await.status, 202, "nobody is to blame");
    given(&worker).await;

    let school = stranger(&horde, "school").await;
    let teach = UserChange {
        education: Some(true),
        ..UserChange::default()
    };
    change(&horde, &school, teach).await;
    let corrupt = json!({ "prompt": "zzminor zzlewd", "replacement_filter": false });
    assert_eq!(school.ask_with(corrupt).await.status, 202);
    assert_eq!(given(&worker).await, format!("zzadult zzlewd{NEGATIVES}"));
}

#[tokio::test]
async fn models_made_for_nsfw_get_adults_only() {
    let reference = r#"{"spicy": {"baseline": "stable diffusion 1", "nsfw": true}}"#;
    let horde = TestHorde::start_with(|config| ordu_server::Config {
        models: ordu_server::ModelSources {
            image: ordu_server::ModelSource::Text(reference.to_owned()),
            ..ordu_server::ModelSources::default()
        },
        ..config
    })
    .await;
    let (asker, owner) = (
        stranger(&horde, "asker").await,
        friend(&horde, "owner").await,
    );
    let body = json!({ "prompt": "a young woman", "models": ["spicy"] });
    assert_eq!(asker.ask_with(body).await.status, 202);
    let job = owner.pop_with("w", json!({ "models": ["spicy"] })).await;
    let expected = format!("a mature woman{NEGATIVES}");
    assert_eq!(job.body["payload"]["prompt"], expected);
}

#[tokio::test]
async fn filters_can_be_switched_off() {
    let config = GuardConfig {
        check_prompts: false,
        ..GuardConfig::default()
    };
    let horde = start(config).await;
    put_filters(&moderator(&horde).await).await;
    let asker = stranger(&horde, "asker").await;
    let corrupt = json!({ "prompt": "zzminor zzlewd", "replacement_filter": false });
    assert_eq!(asker.ask_with(corrupt).await.status, 202);
    assert!(id_of(&asker).await.get() > 0);
}
