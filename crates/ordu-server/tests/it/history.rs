//! How the horde was doing over time, and what came to an account and went.

use ordu_api::UserId;
use ordu_client::HistoryStep;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::{Kudos, Millis, Timestamp};
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    TestHorde, alchemy_pop, alchemy_request, answered, deliver_all, on_each_database, pop, request,
    text_pop, text_request, written,
};

async fn start(database: &str) -> TestHorde {
    let database = database.to_owned();
    TestHorde::start_with(|config| Config { database, ..config }).await
}

/// The steps of a series as it is once everything that happens by itself has happened.
async fn buckets(horde: &TestHorde, query: &str) -> Vec<Value> {
    horde.server.settle_down().await.unwrap();
    // What was read a moment ago is shown again for a while.
    horde.later(21);
    let answer = horde.get(&format!("/stats/history?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body["buckets"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_series_says_what_was_made_and_how_busy_it_was() {
    on_each_database(async |database| {
        let horde = start(database).await;
        let owner = horde.user("owner", 10_000.0).await;
        let worker = horde.client(&owner.api_key);
        for _ in 0..2 {
            worker.async_image(&request()).await.unwrap();
            let job = worker.pop_image(&pop("w")).await.unwrap();
            deliver_all(&worker, &job).await;
        }
        worker.async_text(&text_request()).await.unwrap();
        let job = worker.pop_text(&text_pop("scribe")).await.unwrap();
        worker.submit_text(&written(job.ids[0])).await.unwrap();
        worker
            .async_alchemy(&alchemy_request(&["caption"]))
            .await
            .unwrap();
        let forms = worker
            .pop_alchemy(&alchemy_pop("sage", &["caption"]))
            .await
            .unwrap();
        let form = answered(forms.forms.as_ref().unwrap()[0].id, "caption", "a dot");
        worker.submit_alchemy(&form).await.unwrap();
        worker.async_image(&request()).await.unwrap();

        let hours = buckets(&horde, "kind=image&step=hour").await;
        assert_eq!(hours.len(), 48);
        let now = json!({
            "start": 1_800_000_000, "finished": 2, "megapixelsteps": 15.73, "queued": 1.0,
            "workers": 1.0,
        });
        assert_eq!(hours[47], now);
        let before = json!({
            "start": 1_799_996_400, "finished": 0, "megapixelsteps": 0.0, "queued": null,
            "workers": null,
        });
        assert_eq!(hours[46], before, "nobody looked");

        // Two more wait a minute later: on average two.
        for _ in 0..2 {
            worker.async_image(&request()).await.unwrap();
        }
        horde.later(60);
        assert_eq!(buckets(&horde, "step=hour").await[47]["queued"], 2.0);

        let days = buckets(&horde, "kind=text&step=day").await;
        assert_eq!(days.len(), 30);
        assert_eq!(
            (&days[29]["finished"], &days[29]["tokens"]),
            (&json!(1), &json!(80))
        );
        let forms = buckets(&horde, "kind=alchemy").await;
        assert_eq!(forms[47]["finished"], 1);
        assert!(forms[47].get("tokens").is_none() && forms[47].get("megapixelsteps").is_none());
    })
    .await;
}

#[tokio::test]
async fn a_series_reaches_as_far_back_as_it_is_kept_and_no_further() {
    let horde = TestHorde::start().await;
    for (query, steps) in [
        ("since=0", 14 * 24),
        ("step=day&since=0", 730),
        ("since=-99999999999", 14 * 24),
        ("since=-9223372036854775808", 14 * 24),
        ("since=9223372036854775807", 0),
        ("since=1800000000", 1),
        ("since=1799999999", 2),
        ("step=day&since=1799999999", 1),
    ] {
        assert_eq!(buckets(&horde, query).await.len(), steps, "{query}");
    }
    for (query, field) in [
        ("kind=video", "kind"),
        ("kind=interrogation", "kind"),
        ("step=minute", "step"),
        ("since=yesterday", "since"),
        ("since=1e9", "since"),
        ("since=9223372036854775808", "since"),
        ("kind=%00", "kind"),
    ] {
        let answer = horde.get(&format!("/stats/history?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body["errors"][field].is_string(), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_series_is_read_from_the_database_once_in_a_while() {
    on_each_database(async |database| {
        let horde = start(database).await;
        let trips = || horde.server.store().counters().round_trips;
        let mut least = u64::MAX;
        for _ in 0..5 {
            horde.get("/stats/history?step=day&since=0").await;
            let before = trips();
            horde.get("/stats/history?step=day&since=0").await;
            horde.get("/stats/history?step=day").await;
            least = least.min(trips() - before);
        }
        assert_eq!(
            least, 0,
            "what happens by itself meanwhile makes some look dearer"
        );
    })
    .await;
}

/// A page of the history of a key's account.
async fn page(horde: &TestHorde, key: &str, query: &str) -> Value {
    let path = format!("/kudos/history?{query}");
    let answer = horde.call(Method::GET, &path, Some(key), None).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body
}

#[tokio::test]
async fn an_account_sees_what_came_and_went_and_why() {
    on_each_database(async |database| {
        let horde = start(database).await;
        let giver = horde.user("giver", 1000.0).await;
        let taker = horde.mint("taker", json!({ "kudos": 0 })).await;
        horde.later(1);
        let gift = json!({ "username": taker.alias, "amount": 30 });
        let given = horde
            .post("/kudos/transfer", Some(&giver.api_key), &gift)
            .await;
        assert_eq!(given.status, 200, "{}", given.body);
        horde.later(1);
        let worker = horde.client(&taker.api_key);
        horde
            .client(&giver.api_key)
            .async_image(&request())
            .await
            .unwrap();
        let job = worker.pop_image(&pop("w")).await.unwrap();
        horde.later(1);
        deliver_all(&worker, &job).await;

        let key = giver.api_key.reveal();
        let spent = page(&horde, key, "").await;
        let spent = spent["entries"].as_array().unwrap();
        let reasons: Vec<&str> = spent
            .iter()
            .map(|e| e["reason"].as_str().unwrap())
            .collect();
        assert_eq!(
            reasons,
            ["generation", "activation", "transfer", "reconciliation"]
        );
        assert!(spent[0]["amount"].as_f64().unwrap() < 0.0 && spent[0]["kind"] == "image");
        let transfer = json!({
            "created": "Fri, 15 Jan 2027 08:00:01 -0000", "amount": -30.0, "reason": "transfer",
            "escrow": false, "counterpart": taker.alias,
        });
        assert_eq!(spent[2], transfer);
        assert!(
            spent[0].get("counterpart").is_none(),
            "who asks and who works stay apart"
        );

        let earned = page(&horde, taker.api_key.reveal(), "").await;
        let earned = earned["entries"].as_array().unwrap();
        // Not trusted yet: half of it is kept back.
        assert!(earned.iter().any(|entry| entry["escrow"] == true));
        assert_eq!(earned.last().unwrap()["counterpart"], giver.alias);
        horde.server.settle_down().await.unwrap();
        horde.later(15);
        let shown = horde.call(Method::GET, "/find_user", Some(key), None).await;
        let sum: f64 = spent
            .iter()
            .map(|entry| entry["amount"].as_f64().unwrap())
            .sum();
        assert!((shown.body["kudos"].as_f64().unwrap() - sum).abs() < 0.01);
    })
    .await;
}

#[tokio::test]
async fn a_long_history_comes_in_pages() {
    let horde = TestHorde::start().await;
    let user = horde.mint("user", json!({})).await;
    let id = UserId::from_alias(&user.user_id).unwrap();
    for number in 0..120 {
        let entry = Entry::reward(id, Kudos::new(number), Reason::Award);
        let event = Event {
            id: uuid::Uuid::from_u64_pair(7, number.unsigned_abs()),
            at: Timestamp(1_800_000_000_000) + Millis(number / 10),
            kind: None,
            entries: vec![entry],
        };
        horde.server.store().record(&event).await.unwrap();
    }
    let mut amounts = Vec::new();
    let mut query = String::new();
    for size in [50, 50, 20] {
        let page = page(&horde, user.api_key.reveal(), &query).await;
        let entries = page["entries"].as_array().unwrap();
        assert_eq!(entries.len(), size);
        amounts.extend(
            entries
                .iter()
                .map(|entry| entry["amount"].as_f64().unwrap()),
        );
        query = match page["before"].as_str() {
            Some(mark) => format!("before={mark}"),
            None => String::new(),
        };
    }
    assert_eq!(query, "", "that was the last page");
    let newest_first = (0..120).rev().map(f64::from);
    assert_eq!(amounts, newest_first.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_history_is_for_its_account_and_for_moderators() {
    let horde = TestHorde::start().await;
    let user = horde.mint("user", json!({ "kudos": 5 })).await;
    let other = horde.mint("other", json!({})).await;
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let (user_key, other_key) = (user.api_key.reveal(), other.api_key.reveal());
    let mod_key = moderator.api_key.reveal();
    let id = &user.user_id;
    for query in [
        String::new(),
        format!("user={id}"),
        format!("user=user%23{id}"),
    ] {
        let own = page(&horde, user_key, &query).await;
        assert_eq!(own["entries"].as_array().unwrap().len(), 1, "{query}");
    }
    let seen = page(&horde, mod_key, &format!("user={id}")).await;
    assert_eq!(seen["entries"][0]["amount"], 5.0);
    for (key, query, status, rc) in [
        (None, String::new(), 400, ""),
        (Some("nobody"), String::new(), 401, "InvalidAPIKey"),
        (
            Some(ordu_api::ANONYMOUS_KEY),
            String::new(),
            403,
            "AnonForbidden",
        ),
        (Some(other_key), format!("user={id}"), 403, "NotModerator"),
        (Some(mod_key), "user=0".to_owned(), 403, "AnonForbidden"),
        (Some(mod_key), "user=4711".to_owned(), 404, "UserNotFound"),
        (Some(mod_key), "user=who".to_owned(), 400, ""),
        (Some(user_key), "before=1".to_owned(), 400, ""),
        (Some(user_key), "before=%00".to_owned(), 400, ""),
        (
            Some(user_key),
            format!("before={0}.{1}.award.{0}", i64::MAX, uuid::Uuid::nil()),
            200,
            "",
        ),
    ] {
        let path = format!("/kudos/history?{query}");
        let answer = horde.call(Method::GET, &path, key, None).await;
        assert_eq!(
            (answer.status, answer.rc()),
            (status, rc),
            "{query}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn the_typed_client_reads_histories_and_the_pulse() {
    let horde = TestHorde::start().await;
    let owner = horde
        .mint("owner", json!({ "kudos": 500, "trusted": true }))
        .await;
    let client = horde.client(&owner.api_key);
    let mut pulses = client.pulses().await.unwrap();
    let now = crate::support::soon(pulses.next()).await.unwrap().unwrap();
    assert_eq!(now.queued.image, 0);
    client.async_image(&request()).await.unwrap();
    let job = client.pop_image(&pop("typed")).await.unwrap();
    deliver_all(&client, &job).await;
    horde.server.settle_down().await.unwrap();

    let kind = ordu_api::worker::WorkKind::Image;
    let history = client.history(kind, HistoryStep::Day, None).await.unwrap();
    assert_eq!(
        (history.kind.as_str(), history.step.as_str()),
        ("image", "day")
    );
    assert_eq!(history.buckets.last().unwrap().finished, 1);
    let since = history.buckets.last().unwrap().start;
    let short = client
        .history(kind, HistoryStep::Hour, Some(since))
        .await
        .unwrap();
    assert!(short.buckets.len() <= 24);

    let page = client.kudos_history(None, None).await.unwrap();
    assert!(
        page.entries
            .iter()
            .any(|entry| entry.reason == "generation")
    );
    assert_eq!(page.before, None);
    let other = client.kudos_history(ordu_api::UserId::new(1), None).await;
    assert!(
        other.is_ok_and(|page| !page.entries.is_empty()),
        "it is its own number"
    );
    assert!(client.kudos_history(None, Some("x")).await.is_err());
    assert!(
        client.trust_audits(None, 1).await.is_err(),
        "for moderators only"
    );
    let known = client.known_model(kind, "ordu-tiny").await.unwrap();
    assert!(
        matches!(known, ordu_api::model::ModelEntry::Image(model) if !model.baseline.is_empty())
    );
}
