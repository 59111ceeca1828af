//! Kudos from user to user.

use ordu_api::user::TestUser;
use ordu_core::Kudos;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, on_each_database, request};

async fn give(horde: &TestHorde, by: &TestUser, body: Value, name: Option<&str>) -> Answer {
    let mut call = horde
        .http
        .post(format!("{}/api/v2/kudos/transfer", horde.url))
        .header("apikey", by.api_key.reveal())
        .json(&body);
    if let Some(name) = name {
        call = call.header("Idempotency-Key", name);
    }
    Answer::read(call).await
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.rc())
}

async fn balance(horde: &TestHorde, user: &TestUser) -> f64 {
    horde.server.settle_down().await.unwrap();
    let id = user.user_id.parse().unwrap();
    let user = horde.server.store().find_user(id).await.unwrap().unwrap();
    user.spendable.as_f64()
}

fn assert_kudos(has: f64, wanted: f64) {
    assert!((has - wanted).abs() < 0.001, "{has} instead of {wanted}");
}

#[tokio::test]
async fn a_gift_moves_once_for_its_name() {
    on_each_database(async |database| {
        let database = database.to_owned();
        let horde =
            TestHorde::start_with(|config| ordu_server::Config { database, ..config }).await;
        let from = horde.mint("from", json!({ "kudos": 1000 })).await;
        let to = horde.mint("to", json!({ "kudos": 100 })).await;
        let third = horde.mint("third", json!({ "kudos": 100 })).await;
        let body = json!({ "username": to.alias, "amount": 500 });
        let again = [
            give(&horde, &from, body.clone(), Some("a")).await,
            give(&horde, &from, body.clone(), Some("a")).await,
        ];
        for answer in &again {
            assert_eq!(
                (answer.status, &answer.body),
                (200, &json!({ "transferred": 500.0 }))
            );
        }
        let more = json!({ "username": to.alias, "amount": 501 });
        let else_where = json!({ "username": third.alias, "amount": 500 });
        for body in [more, else_where] {
            let answer = give(&horde, &from, body, Some("a")).await;
            assert_eq!(outcome(&answer), (400, "IdempotencyKeyConflict"));
        }
        let other = json!({ "username": third.alias, "amount": 10 });
        assert_eq!(
            give(&horde, &to, other, Some("a")).await.status,
            200,
            "names are one's own"
        );
        assert_kudos(balance(&horde, &from).await, 500.0);
        assert_kudos(balance(&horde, &to).await, 590.0);
        assert_eq!(
            horde.server.store().ledger_sum().await.unwrap(),
            Kudos::ZERO
        );
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_body_is_read_leniently() {
    let horde = TestHorde::start().await;
    let from = horde.mint("from", json!({ "kudos": 1000 })).await;
    let to = horde.mint("to", json!({})).await;
    let id: i64 = to.user_id.parse().unwrap();
    let good = [
        (json!({ "username": to.alias }), 100.0),
        (json!({ "username": to.alias, "amount": "12" }), 12.0),
        (json!({ "username": to.alias, "amount": 1.9 }), 1.0),
        (
            json!({ "username": format!("wrong#{id}"), "amount": 7 }),
            7.0,
        ),
        (json!({ "username": id, "amount": 8 }), 8.0),
    ];
    for (body, amount) in good {
        let answer = give(&horde, &from, body.clone(), None).await;
        assert_eq!(answer.body, json!({ "transferred": amount }), "{body}");
    }
    let bad = [
        (json!({ "amount": 5 }), "username"),
        (json!({}), "username"),
        (json!([]), "username"),
        (json!({ "username": to.alias, "amount": "x" }), "amount"),
        (json!({ "username": to.alias, "amount": null }), "amount"),
    ];
    for (body, field) in bad {
        let answer = give(&horde, &from, body.clone(), None).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.body["errors"][field].is_string(),
            "{body}: {}",
            answer.body
        );
    }
    let long = give(
        &horde,
        &from,
        json!({ "username": to.alias }),
        Some(&"x".repeat(256)),
    )
    .await;
    assert_eq!(long.status, 400);
}

#[tokio::test]
async fn rules_are_told_apart() {
    let horde = TestHorde::start().await;
    let from = horde.mint("from", json!({ "kudos": 100 })).await;
    let to = horde.mint("to", json!({ "kudos": 100 })).await;
    let refused = [
        (from.alias.as_str(), 5, "KudosTransferToSelf"),
        (to.alias.as_str(), -5, "NegativeKudosTransfer"),
        (to.alias.as_str(), 0, "InvalidKudosTransferAmount"),
        (to.alias.as_str(), 76, "KudosTransferNotEnough"),
        ("Anonymous#0", 5, "KudosTransferToAnon"),
        ("nobody#999", 5, "InvalidTargetUsername"),
        ("", 5, "InvalidTargetUsername"),
        (
            "00000000-0000-0000-0000-000000000000",
            5,
            "InvalidTargetUsername",
        ),
    ];
    for (username, amount, rc) in refused {
        let body = json!({ "username": username, "amount": amount });
        assert_eq!(outcome(&give(&horde, &from, body, None).await), (400, rc));
    }
    let all = json!({ "username": to.alias, "amount": 75 });
    assert_eq!(
        give(&horde, &from, all, None).await.status,
        200,
        "down to the floor"
    );
    let back = json!({ "username": from.alias, "amount": 1 });
    let answer = give(&horde, &to, back.clone(), None).await;
    assert_eq!(outcome(&answer), (400, "TooFastKudosTransfers"));
    horde.later(60);
    assert_eq!(give(&horde, &to, back, None).await.status, 200);
    for (key, wanted) in [
        (Some("0000000000"), (400, "KudosTransferFromAnon")),
        (Some("nobody"), (401, "InvalidAPIKey")),
        (None, (400, "")),
    ] {
        let body = json!({ "username": to.alias });
        let answer = horde
            .call(Method::POST, "/kudos/transfer", key, Some(&body))
            .await;
        assert_eq!(outcome(&answer), wanted);
    }
}

#[tokio::test]
async fn gifts_at_once_do_not_overdraw() {
    on_each_database(async |database| {
        let database = database.to_owned();
        let horde =
            TestHorde::start_with(|config| ordu_server::Config { database, ..config }).await;
        let from = horde.mint("from", json!({ "kudos": 125 })).await;
        let to = horde.mint("to", json!({ "kudos": 25 })).await;
        let body = json!({ "username": to.alias, "amount": 30 });
        let at_once = (0..8).map(|_| give(&horde, &from, body.clone(), None));
        let answers = futures::future::join_all(at_once).await;
        let moved = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(moved, 3, "{answers:?}");
        assert_kudos(balance(&horde, &from).await, 35.0);
        assert_kudos(balance(&horde, &to).await, 115.0);
        horde.server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_held_cannot_be_given_away() {
    let horde = TestHorde::start().await;
    let from = horde.mint("from", json!({ "kudos": 100 })).await;
    let to = horde.mint("to", json!({})).await;
    let mut dear = request();
    dear.params.steps = Some(50);
    horde
        .client(&from.api_key)
        .async_image(&dear)
        .await
        .unwrap();
    let body = json!({ "username": to.alias, "amount": 70 });
    let answer = give(&horde, &from, body, None).await;
    assert_eq!(outcome(&answer), (400, "KudosTransferNotEnough"));
}

#[tokio::test]
async fn a_shared_key_grows_by_what_its_owner_is_given() {
    let horde = TestHorde::start().await;
    let owner = horde.mint("owner", json!({ "kudos": 100 })).await;
    let from = horde.mint("from", json!({ "kudos": 1000 })).await;
    let make = async |body: Value| {
        let key = Some(owner.api_key.reveal());
        let made = horde
            .call(Method::PUT, "/sharedkeys", key, Some(&body))
            .await;
        made.body["id"].as_str().unwrap().to_owned()
    };
    let (empty, endless) = (
        make(json!({ "kudos": 0 })).await,
        make(json!({ "kudos": -1 })).await,
    );
    for key in [&empty, &endless] {
        let body = json!({ "username": key, "amount": 50 });
        assert_eq!(
            give(&horde, &from, body.clone(), Some(key)).await.status,
            200
        );
        assert_eq!(
            give(&horde, &from, body, Some(key)).await.status,
            200,
            "a repetition"
        );
    }
    let budget = async |key: &str| horde.get(&format!("/sharedkeys/{key}")).await.body;
    for _ in 0..2 {
        let (first, second) = (budget(&empty).await, budget(&endless).await);
        assert_eq!(
            (&first["kudos"], &first["utilized"]),
            (&json!(50), &json!(0))
        );
        assert_eq!(second["kudos"], -1);
        assert_kudos(balance(&horde, &owner).await, 200.0);
    }
    let path = format!("/sharedkeys/{empty}");
    let key = Some(owner.api_key.reveal());
    horde
        .call(Method::PATCH, &path, key, Some(&json!({ "expiry": 0 })))
        .await;
    let late = give(
        &horde,
        &from,
        json!({ "username": empty, "amount": 1 }),
        None,
    )
    .await;
    assert_eq!(outcome(&late), (400, "SharedKeyExpired"));
}

#[tokio::test]
async fn only_those_named_give_awards() {
    let horde = TestHorde::start().await;
    let first = horde.mint("first", json!({})).await;
    let other = horde.mint("other", json!({ "trusted": true })).await;
    let award = async |key: &str, body: Value| {
        horde
            .call(Method::POST, "/kudos/award", Some(key), Some(&body))
            .await
    };
    let key = first.api_key.reveal();
    let body = json!({ "username": other.alias, "amount": 50 });
    let answer = award(key, body.clone()).await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({ "awarded": 50.0 }))
    );
    let refused = [
        (
            other.api_key.reveal(),
            body.clone(),
            403,
            "NotAllowedAwards",
        ),
        ("0000000000", body.clone(), 403, "NotAllowedAwards"),
        ("nobody", body.clone(), 401, "InvalidAPIKey"),
        (
            key,
            json!({ "username": "nobody#99" }),
            400,
            "InvalidAwardUsername",
        ),
        (
            key,
            json!({ "username": "Anonymous#0" }),
            400,
            "KudosAwardToAnon",
        ),
        (
            key,
            json!({ "username": other.alias, "amount": 0 }),
            400,
            "BadRequest",
        ),
        (
            key,
            json!({ "username": other.alias, "amount": -1 }),
            400,
            "BadRequest",
        ),
        (key, json!({ "amount": 5 }), 400, ""),
    ];
    for (key, body, status, rc) in refused {
        assert_eq!(
            outcome(&award(key, body.clone()).await),
            (status, rc),
            "{body}"
        );
    }
    assert_kudos(balance(&horde, &other).await, 50.0);
}
