//! What each call costs the database. On PostgreSQL a statement is a round trip over the network.

use ordu_api::alchemy::AlchemyPop;
use ordu_server::Config;

use crate::support::{
    TestHorde, alchemy_pop, alchemy_request, answered, on_each_database, text_pop, text_request,
    written,
};

/// How often a call is measured: what happens by itself meanwhile makes some look dearer.
const ATTEMPTS: usize = 5;

/// The least number of statements, and of group commits, that a call takes.
async fn least(horde: &TestHorde, mut call: impl AsyncFnMut()) -> (u64, u64) {
    let mut cheapest = (u64::MAX, u64::MAX);
    for _ in 0..ATTEMPTS {
        let before = horde.server.store().counters();
        call().await;
        let after = horde.server.store().counters();
        let trips = after.round_trips - before.round_trips;
        let commits = after.commits - before.commits;
        cheapest = (cheapest.0.min(trips), cheapest.1.min(commits));
    }
    cheapest
}

#[tokio::test]
async fn texts_cost_one_round_trip_a_step_and_looking_costs_none() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 10_000.0).await;
        let client = horde.client(&owner.api_key);
        client.pop_text(&text_pop("w")).await.unwrap();
        let first = client.async_text(&text_request()).await.unwrap().id;

        let asked = least(&horde, async || {
            client.async_text(&text_request()).await.unwrap();
        })
        .await;
        let looked = least(&horde, async || {
            client.text_status(first).await.unwrap();
        })
        .await;
        let mut jobs = Vec::new();
        let popped = least(&horde, async || {
            jobs.push(client.pop_text(&text_pop("w")).await.unwrap().ids[0]);
        })
        .await;
        let submitted = least(&horde, async || {
            client
                .submit_text(&written(jobs.pop().unwrap()))
                .await
                .unwrap();
        })
        .await;
        while client.pop_text(&text_pop("w")).await.unwrap().id.is_some() {}
        let idle = least(&horde, async || {
            client.pop_text(&text_pop("w")).await.unwrap();
        })
        .await;

        assert_eq!((looked, idle), ((0, 0), (0, 0)));
        assert_one_trip(
            database,
            &[("async", asked), ("pop", popped), ("submit", submitted)],
        );
    })
    .await;
}

#[tokio::test]
async fn forms_cost_one_round_trip_a_step_and_looking_costs_none() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 10_000.0).await;
        let client = horde.client(&owner.api_key);
        let one = AlchemyPop {
            amount: 1,
            ..alchemy_pop("w", &["caption"])
        };
        client.pop_alchemy(&one).await.unwrap();
        let wanted = alchemy_request(&["caption"]);
        let first = client.async_alchemy(&wanted).await.unwrap().id;
        let asked = least(&horde, async || {
            client.async_alchemy(&wanted).await.unwrap();
        })
        .await;
        let looked = least(&horde, async || {
            client.alchemy_status(first).await.unwrap();
        })
        .await;
        let mut jobs = Vec::new();
        let popped = least(&horde, async || {
            let found = client.pop_alchemy(&one).await.unwrap().forms.unwrap();
            jobs.push(found[0].id);
        })
        .await;
        let submitted = least(&horde, async || {
            let answer = answered(jobs.pop().unwrap(), "caption", "a dot");
            client.submit_alchemy(&answer).await.unwrap();
        })
        .await;
        while client.pop_alchemy(&one).await.unwrap().forms.is_some() {}
        let idle = least(&horde, async || {
            client.pop_alchemy(&one).await.unwrap();
        })
        .await;
        assert_eq!((looked, idle), ((0, 0), (0, 0)));
        assert_one_trip(
            database,
            &[("async", asked), ("pop", popped), ("submit", submitted)],
        );
    })
    .await;
}

fn assert_one_trip(database: &str, steps: &[(&str, (u64, u64))]) {
    for (step, (trips, commits)) in steps {
        assert_eq!(*commits, 1, "{step}");
        assert!(
            !database.starts_with("postgres") || *trips == 1,
            "{step}: {trips}"
        );
    }
}
