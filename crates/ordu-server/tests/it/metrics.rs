//! Numbers for Prometheus: what they count, and whom they are shown.

use ordu_server::Config;

use crate::support::{TEXT_MODEL, TestHorde, on_each_database, text_pop, text_request, written};

async fn metrics(horde: &TestHorde, forwarded: &str) -> (u16, String) {
    let call = horde.http.get(format!("{}/metrics", horde.url));
    let call = call.header("X-Forwarded-For", forwarded);
    let answer = call.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The value of a sample; 0 if it is not there.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn answers_and_their_round_trips_are_counted_by_route() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let owner = horde.user("owner", 10_000.0).await;
        let client = horde.client(&owner.api_key);
        // The first time brings the account and makes the worker.
        client.async_text(&text_request()).await.unwrap();
        client.pop_text(&text_pop("w")).await.unwrap();
        let (_, before) = metrics(&horde, "").await;
        let id = client.async_text(&text_request()).await.unwrap().id;
        let job = client.pop_text(&text_pop("w")).await.unwrap().ids[0];
        client.submit_text(&written(job)).await.unwrap();
        client.text_status(id).await.unwrap();
        client.pop_text(&text_pop("w")).await.unwrap();
        let (status, after) = metrics(&horde, "").await;
        assert_eq!(status, 200);
        let more = |series: &str, method: &str, route: &str, status: u16| {
            let labels = format!(
                "{{method=\"{method}\",route=\"/api/v2/generate/text/{route}\",status=\"{status}\"}}"
            );
            let name = format!("ordu_http_{series}{labels}");
            sample(&after, &name) - sample(&before, &name)
        };
        for (method, route, status, answers, trips) in [
            ("POST", "async", 202, 1.0, 1.0),
            // One found something, one did not.
            ("POST", "pop", 200, 2.0, 1.0),
            ("POST", "submit", 200, 1.0, 1.0),
            ("GET", "status/{id}", 200, 1.0, 0.0),
        ] {
            let found = (
                more("answer_seconds_count", method, route, status),
                more("round_trips_total", method, route, status),
            );
            let is_near = |a: f64, b: f64| (a - b).abs() < 0.5;
            assert!(
                is_near(found.0, answers) && is_near(found.1, trips),
                "{route}: {found:?}"
            );
        }
        let commits = "ordu_store_commits_total";
        assert!(sample(&after, commits) >= sample(&before, commits) + 3.0);
        assert!((sample(&after, "ordu_workers_online{kind=\"text\"}") - 1.0).abs() < 0.5);
        for (outcome, more) in [("assigned", 1.0), ("delivered", 1.0), ("faulted", 0.0)] {
            let name = format!("ordu_jobs_total{{outcome=\"{outcome}\"}}");
            let found = sample(&after, &name) - sample(&before, &name);
            assert!((found - more).abs() < 0.5, "{outcome}: {found}");
        }
        let waiting = format!("ordu_model_results_waiting{{kind=\"text\",model=\"{TEXT_MODEL}\"}}");
        client.async_text(&text_request()).await.unwrap();
        horde.server.settle_down().await.unwrap();
        let (_, after) = metrics(&horde, "").await;
        assert!(sample(&after, &waiting) >= 1.0, "{after}");
        // Both results were paid for, and both rewarded.
        let minted = sample(&after, "ordu_kudos_minted_total");
        let burnt = sample(&after, "ordu_kudos_burnt_total");
        assert!(minted > burnt && burnt > 0.0, "{minted} {burnt}");
        assert!(sample(&after, "process_open_fds") > 3.0 || cfg!(not(target_os = "linux")));
    })
    .await;
}

#[tokio::test]
async fn numbers_are_the_operators() {
    let local = "127.0.0.1".parse().unwrap();
    let horde = TestHorde::start_with(|config| Config {
        trusted_proxies: vec![local],
        ..config
    })
    .await;
    let (status, text) = metrics(&horde, "8.8.8.8").await;
    assert_eq!(status, 404, "{text}");
    assert!(!text.contains("ordu_http"), "{text}");
    for inside in ["10.1.2.3", "127.0.0.1", "fd00::1"] {
        assert_eq!(metrics(&horde, inside).await.0, 200, "{inside}");
    }
}
