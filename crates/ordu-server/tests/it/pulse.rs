//! The horde at work, for onlookers.

use ordu_api::pulse::{ByKind, MAX_HAPPENINGS, Pulse, What};
use ordu_server::Config;
use serde_json::Value;

use crate::support::{
    TestHorde, deliver_all, delivered, on_each_database, pop, request, soon, text_pop,
    text_request, until, written,
};

/// One who looks on.
struct Looker {
    response: reqwest::Response,
    /// What came and was not read yet.
    rest: String,
    /// All that came.
    raw: String,
}

impl Looker {
    async fn new(horde: &TestHorde) -> Self {
        Self::masked(horde, None).await
    }

    async fn masked(horde: &TestHorde, mask: Option<&str>) -> Self {
        let mut request = horde.http.get(format!("{}/api/v2/status/pulse", horde.url));
        if let Some(mask) = mask {
            request = request.header("x-fields", mask);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            response,
            rest: String::new(),
            raw: String::new(),
        }
    }

    /// The data of the next event; `None` at the end.
    async fn data(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.rest = rest;
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(data) = data {
                    assert!(event.contains("event: pulse"), "{event}");
                    return Some(serde_json::from_str(data).unwrap());
                }
                continue;
            }
            let chunk = soon(self.response.chunk()).await.unwrap()?;
            let chunk = String::from_utf8(chunk.to_vec()).unwrap();
            self.rest.push_str(&chunk);
            self.raw.push_str(&chunk);
        }
    }

    async fn next(&mut self) -> Pulse {
        serde_json::from_value(self.data().await.unwrap()).unwrap()
    }

    /// What was told in all, up to where `is_enough`; the server beats by its own clock as well.
    async fn gather(&mut self, horde: &TestHorde, is_enough: impl Fn(&Pulse) -> bool) -> Pulse {
        horde.server.settle_down().await.unwrap();
        let mut sum = Pulse::default();
        loop {
            let pulse = self.next().await;
            assert!(pulse.happenings.len() <= MAX_HAPPENINGS);
            for (sum, part) in [
                (&mut sum.accepted, pulse.accepted),
                (&mut sum.begun, pulse.begun),
                (&mut sum.finished, pulse.finished),
                (&mut sum.faulted, pulse.faulted),
            ] {
                sum.image += part.image;
                sum.text += part.text;
                sum.alchemy += part.alchemy;
            }
            sum.happenings.extend(pulse.happenings.iter().cloned());
            sum = Pulse {
                queued: pulse.queued,
                running: pulse.running,
                workers: pulse.workers,
                ..sum
            };
            if is_enough(&sum) {
                return sum;
            }
        }
    }
}

const fn images(image: u64) -> ByKind {
    ByKind {
        image,
        text: 0,
        alchemy: 0,
    }
}

#[tokio::test]
async fn onlookers_see_who_works_and_never_for_whom() {
    on_each_database(async |database| {
        let database = database.to_owned();
        let horde = TestHorde::start_with(|config| Config { database, ..config }).await;
        let owner = horde.user("lender", 10_000.0).await;
        let asker = horde.user("secretive", 10_000.0).await;
        let (worker, client) = (horde.client(&owner.api_key), horde.client(&asker.api_key));
        client.async_image(&request()).await.unwrap();
        let mut looker = Looker::new(&horde).await;
        let first = looker.next().await;
        assert_eq!(
            (first.queued, first.accepted),
            (images(1), images(0)),
            "as it is"
        );

        client.async_image(&request()).await.unwrap();
        let job = worker.pop_image(&pop("painter")).await.unwrap();
        let begun = looker.gather(&horde, |pulse| pulse.begun.image == 1).await;
        assert_eq!(begun.accepted, images(1));
        assert_eq!((begun.queued, begun.running), (images(1), images(1)));
        assert_eq!(begun.workers, images(1));
        deliver_all(&worker, &job).await;
        client.async_text(&text_request()).await.unwrap();
        let text = worker.pop_text(&text_pop("scribe")).await.unwrap();
        worker.submit_text(&written(text.ids[0])).await.unwrap();
        let ended = looker
            .gather(&horde, |pulse| pulse.finished.sum() == 2)
            .await;
        assert_eq!((ended.finished.image, ended.finished.text), (1, 1));
        assert_eq!(ended.faulted.sum(), 0);
        let told = ended.happenings.iter();
        let told: Vec<_> = told
            .map(|happening| {
                (
                    happening.worker.as_str(),
                    happening.kind.as_str(),
                    happening.what,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("painter", "image", What::Finished),
                ("scribe", "text", What::Begun),
                ("scribe", "text", What::Finished),
            ]
        );
        assert_eq!(ended.happenings[0].model.as_deref(), Some("ordu-tiny"));
        for secret in ["secretive", "lender", "prompt", &request().prompt] {
            assert!(!looker.raw.contains(secret), "{secret}: {}", looker.raw);
        }
    })
    .await;
}

#[tokio::test]
async fn what_comes_to_nothing_is_told_as_well() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let mut looker = Looker::new(&horde).await;
    horde.anonymous().async_image(&request()).await.unwrap();
    let job = worker.pop_image(&pop("w")).await.unwrap();
    let mut fault = delivered(job.id.unwrap());
    fault.state = ordu_api::image::SubmitState::Faulted;
    worker.submit_image(&fault).await.unwrap();
    let faulted = looker
        .gather(&horde, |pulse| pulse.faulted.image == 1)
        .await;
    assert_eq!((faulted.running.sum(), faulted.queued.sum()), (0, 1));

    // One that is too late.
    worker.pop_image(&pop("other")).await.unwrap();
    horde.later(3600);
    let late = looker.gather(&horde, |pulse| {
        pulse.running.sum() == 0 && pulse.begun.sum() == 1
    });
    let late = late.await;
    let ends: Vec<What> = late
        .happenings
        .iter()
        .map(|happening| happening.what)
        .collect();
    assert_eq!(ends[0], What::Begun);
    assert!(
        matches!(ends[1], What::Faulted | What::Returned),
        "{ends:?}"
    );
}

#[tokio::test]
async fn a_quiet_horde_says_nothing_and_nobody_is_left_behind() {
    let horde = TestHorde::start().await;
    let mut looker = Looker::masked(&horde, Some("queued{image}")).await;
    let first = looker.data().await.unwrap();
    assert_eq!(first.to_string(), r#"{"queued":{"image":0}}"#);
    for _ in 0..3 {
        horde.server.settle_down().await.unwrap();
    }
    horde.anonymous().async_image(&request()).await.unwrap();
    horde.server.settle_down().await.unwrap();
    // Nothing in between: the next that comes is the one in which something happened.
    assert_eq!(looker.data().await.unwrap()["queued"]["image"], 1);
    until(&horde, |onlookers| onlookers.pulses == 1).await;
    drop(looker);
    until(&horde, |onlookers| onlookers.pulses == 0).await;
    let broken = horde.http.get(format!("{}/api/v2/status/pulse", horde.url));
    let broken = broken.header("x-fields", "{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_ends_with_the_server() {
    let horde = TestHorde::start().await;
    let mut looker = Looker::new(&horde).await;
    looker.next().await;
    soon(horde.server.stop()).await;
    assert!(looker.data().await.is_none());
}
