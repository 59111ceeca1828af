//! What each call costs the database. On PostgreSQL a statement is a round trip over the network.

use std::time::Duration;

use ordu_api::alchemy::AlchemyPop;
use ordu_api::image::ImagePop;
use ordu_server::Config;
use ordu_store::UserChange;

use crate::support::{
    TestHorde, alchemy_pop, alchemy_request, answered, delivered, on_each_database, pop, request,
    text_pop, text_request, until, written,
};

/// How often a call is measured: what happens by itself meanwhile makes some look dearer.
const ATTEMPTS: usize = 5;

/// The least number of statements, and of group commits, that a call takes.
async fn least(horde: &TestHorde, mut call: impl AsyncFnMut()) -> (u64, u64) {
    let mut cheapest = (u64::MAX, u64::MAX);
    for _ in 0..ATTEMPTS {
        let (trips, commits) = cost_of(horde, &mut call).await;
        cheapest = (cheapest.0.min(trips), cheapest.1.min(commits));
    }
    cheapest
}

/// The number of statements, and of group commits, while a call is made.
async fn cost_of(horde: &TestHorde, call: &mut impl AsyncFnMut()) -> (u64, u64) {
    let before = horde.server.store().counters();
    call().await;
    let after = horde.server.store().counters();
    let trips = after.round_trips - before.round_trips;
    (trips, after.commits - before.commits)
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

        assert_no_trip(database, &[("status", looked), ("idle pop", idle)]);
        assert_one_trip(
            database,
            &[("async", asked), ("pop", popped), ("submit", submitted)],
        );
    })
    .await;
}

#[tokio::test]
async fn images_cost_one_round_trip_a_step_and_looking_costs_none() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 10_000.0).await;
        let client = horde.client(&owner.api_key);
        let one = ImagePop {
            amount: 1,
            ..pop("w")
        };
        client.pop_image(&one).await.unwrap();
        let first = client.async_image(&request()).await.unwrap().id;
        let asked = least(&horde, async || {
            client.async_image(&request()).await.unwrap();
        })
        .await;
        let mut jobs = Vec::new();
        let popped = least(&horde, async || {
            jobs.push(client.pop_image(&one).await.unwrap().ids[0]);
        })
        .await;
        let checked = least(&horde, async || {
            client.check(first).await.unwrap();
        })
        .await;
        let submitted = least(&horde, async || {
            let job = jobs.pop().unwrap();
            client.submit_image(&delivered(job)).await.unwrap();
        })
        .await;
        let status = least(&horde, async || {
            client.status(first).await.unwrap();
        })
        .await;
        while client.pop_image(&one).await.unwrap().id.is_some() {}
        let idle = least(&horde, async || {
            client.pop_image(&one).await.unwrap();
        })
        .await;
        let looks = [("check", checked), ("status", status), ("idle pop", idle)];
        assert_no_trip(database, &looks);
        let steps = [("async", asked), ("pop", popped), ("submit", submitted)];
        assert_one_trip(database, &steps);
    })
    .await;
}

/// A worker that waits costs nothing of its own: its job is stored with the request.
#[tokio::test]
async fn straight_to_a_worker_that_waits_is_one_round_trip() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 10_000.0).await;
        let client = horde.client(&owner.api_key);
        let patient = client.patient(Duration::from_mins(1));
        client.pop_image(&pop("w")).await.unwrap();
        client.pop_text(&text_pop("s")).await.unwrap();
        let image = least(&horde, async || {
            let ask = async {
                until(&horde, |onlookers| onlookers.workers == 1).await;
                client.async_image(&request()).await.unwrap().id
            };
            let offer = pop("w");
            let (job, id) = tokio::join!(patient.pop_image(&offer), ask);
            let progress = client.check(id).await.unwrap();
            assert_eq!((progress.processing, progress.waiting), (1, 0));
            assert!(job.unwrap().id.is_some());
        })
        .await;
        let text = least(&horde, async || {
            let ask = async {
                until(&horde, |onlookers| onlookers.workers == 1).await;
                client.async_text(&text_request()).await.unwrap();
            };
            let offer = text_pop("s");
            let (job, ()) = tokio::join!(patient.pop_text(&offer), ask);
            assert!(job.unwrap().id.is_some());
        })
        .await;
        assert_one_trip(database, &[("image", image), ("text", text)]);
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
        assert_no_trip(database, &[("status", looked), ("idle pop", idle)]);
        assert_one_trip(
            database,
            &[("async", asked), ("pop", popped), ("submit", submitted)],
        );
    })
    .await;
}

#[tokio::test]
async fn an_account_in_use_is_read_behind_its_calls() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 10_000.0).await;
        let client = horde.client(&owner.api_key);
        let store = horde.server.store();
        let look = async || client.pop_text(&text_pop("w")).await;
        look().await.unwrap();
        let mut costs = Vec::new();
        for _ in 0..ATTEMPTS {
            horde.later(6);
            look().await.unwrap();
            horde.server.settle_down().await.unwrap();
            horde.later(6);
            costs.push(cost_of(&horde, &mut async || drop(look().await.unwrap())).await);
        }
        assert_eq!(costs.iter().min(), Some(&(0, 0)), "{costs:?}");
        // What another process wrote is noticed that way, too.
        horde.server.settle_down().await.unwrap();
        let change = UserChange {
            key_hash: Some("of another key".to_owned()),
            ..UserChange::default()
        };
        let id = owner.user_id.parse().unwrap();
        store.update_user(id, &change).await.unwrap();
        horde.later(6);
        look().await.unwrap();
        horde.server.settle_down().await.unwrap();
        let refused = look().await.unwrap_err();
        assert_eq!(refused.refusal().unwrap().status, 401);
        // Without calls in between it is read before the next one.
        let other = horde.user("other", 0.0).await;
        let client = horde.client(&other.api_key);
        let look = async || client.pop_text(&text_pop("v")).await;
        look().await.unwrap();
        horde.later(12);
        let cost = cost_of(&horde, &mut async || drop(look().await.unwrap())).await;
        assert!(cost.0 >= 1, "{cost:?}");
    })
    .await;
}

/// What costs nothing, on any database.
fn assert_no_trip(database: &str, looks: &[(&str, (u64, u64))]) {
    for (look, cost) in looks {
        show(database, look, *cost);
        assert_eq!(*cost, (0, 0), "{look}");
    }
}

fn show(database: &str, call: &str, (trips, commits): (u64, u64)) {
    let name = database.split(':').next().unwrap_or_default();
    println!("{name:10} {call:10} {trips:3} statements {commits:3} commits");
}

/// What costs one round trip on PostgreSQL, where a statement is one, and one fsync on SQLite.
fn assert_one_trip(database: &str, steps: &[(&str, (u64, u64))]) {
    for (step, (trips, commits)) in steps {
        show(database, step, (*trips, *commits));
        assert_eq!(*commits, 1, "{step}");
        assert!(
            !database.starts_with("postgres") || *trips == 1,
            "{step}: {trips}"
        );
    }
}
