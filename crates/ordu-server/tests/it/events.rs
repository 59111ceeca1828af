//! Requests that are looked at while something happens to them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::event::{Event, Generated, JobProgress, Piece};
use ordu_api::image::{Metadata, Steps};
use ordu_api::{ApiKey, JobId, RequestId};
use ordu_client::{Events, Horde};
use ordu_server::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    PICTURE, TINY_PNG, TestHorde, alchemy_request, deliver_all, delivered, on_each_database, pop,
    request, soon, text_pop, text_request, until, written,
};

/// Someone who looks on.
struct Looker {
    events: Events,
    /// The text that the pieces make.
    text: String,
}

impl Looker {
    async fn new(horde: &TestHorde, id: RequestId) -> Self {
        Self::back(horde, id, None).await
    }

    async fn back(horde: &TestHorde, id: RequestId, last: Option<&str>) -> Self {
        let events = horde.anonymous().events(id, last).await.unwrap().unwrap();
        let text = String::new();
        Self { events, text }
    }

    async fn next(&mut self) -> Event {
        let event = soon(self.events.next()).await.unwrap().unwrap();
        if let Event::Token(piece) = &event {
            // `None` would be a gap.
            self.text = piece.put(&self.text).unwrap();
        }
        event
    }

    /// The names of the next events.
    async fn names(&mut self, count: usize) -> Vec<&'static str> {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.next().await.name());
        }
        names
    }

    /// The names of all events to the end.
    async fn rest(&mut self) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some(event) = soon(self.events.next()).await.unwrap() {
            names.push(event.name());
        }
        names
    }

    fn mark(&self) -> String {
        self.events.last_id().unwrap().to_owned()
    }
}

/// A horde with a scribe that has a job.
struct Writing {
    horde: TestHorde,
    worker: Horde,
    owner: ApiKey,
    request: RequestId,
}

impl Writing {
    async fn start(adapt: impl FnOnce(Config) -> Config) -> Self {
        let horde = TestHorde::start_with(adapt).await;
        let owner = horde.user("owner", 0.0).await.api_key;
        let request = horde.anonymous().async_text(&text_request()).await;
        Self {
            worker: horde.client(&owner),
            owner,
            request: request.unwrap().id,
            horde,
        }
    }

    async fn pop(&self) -> JobId {
        let job = self.worker.pop_text(&text_pop("scribe")).await.unwrap();
        job.id.unwrap()
    }

    /// Tells how far a text is. The clock goes on, so that it is not one report too many.
    async fn report(&self, job: JobId, step: u32, text: &str) -> bool {
        self.horde.later(1);
        let progress = JobProgress {
            id: job.to_string(),
            steps: Steps { step, of: 80 },
            text: Some(text.to_owned()),
            preview: None,
        };
        self.worker
            .report_progress(&progress)
            .await
            .unwrap()
            .watched
    }
}

fn piece(event: Event) -> Piece {
    match event {
        Event::Token(piece) => piece,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_text_is_seen_coming_by_two() {
    on_each_database(async |database| {
        let writing = Writing::start(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let (horde, id) = (&writing.horde, writing.request);
        let mut first = Looker::new(horde, id).await;
        let Event::Queued(queued) = first.next().await else {
            panic!("it waits");
        };
        assert_eq!((queued.queue_position, queued.waiting), (1, 1));
        let job = writing.pop().await;
        let Event::Assigned(assigned) = first.next().await else {
            panic!("a worker has it");
        };
        assert_eq!(assigned.id, job);
        let mut second = Looker::new(horde, id).await;
        assert_eq!(second.names(2).await, ["queued", "assigned"]);
        assert!(writing.report(job, 2, "there was").await);
        assert!(writing.report(job, 4, "there was a h\0").await);
        for looker in [&mut first, &mut second] {
            let told = piece(looker.next().await);
            assert_eq!((told.id, told.at, told.steps.step), (job, 0, 2));
            let told = piece(looker.next().await);
            assert_eq!((told.at, told.text.as_str()), (9, " a h\u{fffd}"));
        }
        writing.worker.submit_text(&written(job)).await.unwrap();
        for looker in [&mut first, &mut second] {
            let Event::Generation(generated) = looker.next().await else {
                panic!("it is there");
            };
            let Generated::Text(text) = *generated else {
                panic!("a text");
            };
            let shown = horde.anonymous().text_status(id).await.unwrap();
            assert_eq!((text.id, &text.generation), (job, &shown.generations[0]));
            let Event::Done(done) = looker.next().await else {
                panic!("it is done");
            };
            assert_eq!((done.finished, done.done, done.kudos), (1, true, 5.0));
            assert!(soon(looker.events.next()).await.unwrap().is_none());
        }
        let mark = first.mark();
        let over = horde.anonymous().events(id, Some(&mark)).await.unwrap();
        assert!(over.is_none(), "everything was told");
        let mut late = Looker::new(horde, id).await;
        assert_eq!(late.rest().await, ["generation", "done"]);
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_goes_on_where_it_was() {
    let writing = Writing::start(|config| config).await;
    let (horde, id) = (&writing.horde, writing.request);
    let job = writing.pop().await;
    let mut other = Looker::new(horde, id).await;
    let mut looker = Looker::new(horde, id).await;
    looker.names(2).await;
    writing.report(job, 1, "one").await;
    looker.next().await;
    let (mark, known) = (looker.mark(), looker.text.clone());
    drop(looker);
    writing.report(job, 2, "one two").await;
    writing.report(job, 3, "one too").await;
    let mut back = Looker::back(horde, id, Some(&mark)).await;
    back.text = known;
    assert_eq!(back.names(2).await, ["token", "token"]);
    assert_eq!(back.text, "one too");
    // A mark of nobody, and one from the middle of the present state, begin anew.
    for mark in ["00000000-1", "x", &format!("{}-0", &mark[..8])] {
        let mut anew = Looker::back(horde, id, Some(mark)).await;
        assert_eq!(
            anew.names(3).await,
            ["queued", "assigned", "token"],
            "{mark}"
        );
        assert_eq!(anew.text, "one too");
    }
    assert_eq!(other.names(5).await[2..], ["token"; 3]);
    assert_eq!(other.text, "one too");
}

#[tokio::test]
async fn who_is_away_too_long_is_told_how_things_are() {
    let writing = Writing::start(|config| config).await;
    let (horde, id) = (&writing.horde, writing.request);
    let job = writing.pop().await;
    let _other = Looker::new(horde, id).await;
    let mut looker = Looker::new(horde, id).await;
    looker.names(2).await;
    writing.report(job, 1, "x").await;
    looker.next().await;
    let mark = looker.mark();
    drop(looker);
    let mut text = String::from("x");
    for step in 2..140 {
        text.push_str("yz ");
        assert!(writing.report(job, step, &text).await);
    }
    let mut back = Looker::back(horde, id, Some(&mark)).await;
    assert_eq!(back.names(2).await, ["queued", "assigned"]);
    let whole = piece(back.next().await);
    assert_eq!((whole.at, whole.text), (0, text));
    writing.report(job, 141, "a new beginning").await;
    let told = piece(back.next().await);
    assert_eq!((told.at, told.text.as_str()), (0, "a new beginning"));
}

#[tokio::test]
async fn a_lost_worker_is_told_and_so_is_the_end() {
    let writing = Writing::start(|config| config).await;
    let (horde, id) = (&writing.horde, writing.request);
    let mut looker = Looker::new(horde, id).await;
    assert_eq!(looker.names(1).await, ["queued"]);
    for lost in 1..=3 {
        let job = writing.pop().await;
        assert_eq!(looker.names(1).await, ["assigned"]);
        assert!(writing.report(job, 1, "never ends").await);
        assert_eq!(looker.names(1).await, ["token"]);
        horde.later(600);
        horde.server.settle_down().await.unwrap();
        let told = looker.next().await;
        let progress = match (lost, told) {
            (1 | 2, Event::Queued(progress)) | (3, Event::Faulted(progress)) => progress,
            other => panic!("{other:?}"),
        };
        assert_eq!((progress.restarted, progress.processing), (lost, 0));
        let late = JobProgress {
            id: job.to_string(),
            steps: Steps { step: 2, of: 80 },
            ..JobProgress::default()
        };
        let refused = writing.worker.report_progress(&late).await;
        assert!(refused.unwrap_err().refusal().is_some());
    }
    assert!(soon(looker.events.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_that_is_gone_ends_its_streams() {
    let writing = Writing::start(|config| config).await;
    let (horde, id) = (&writing.horde, writing.request);
    let mut looker = Looker::new(horde, id).await;
    looker.next().await;
    horde.later(21 * 60);
    horde.server.settle_down().await.unwrap();
    assert_eq!(looker.rest().await, ["faulted"]);
    let gone = horde.anonymous().events(id, None).await.unwrap_err();
    assert!(gone.is(ordu_api::ReturnCode::RequestNotFound));
    let forms = alchemy_request(&["caption"]);
    let forms = horde.anonymous().async_alchemy(&forms).await.unwrap().id;
    for id in [&forms.to_string(), "x", "%00"] {
        let answer = horde.get(&format!("/generate/events/{id}")).await;
        assert_eq!(
            (answer.status, answer.rc()),
            (404, "RequestNotFound"),
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_cancelled_request_ends_its_streams_with_the_last_job() {
    let writing = Writing::start(|config| config).await;
    let (horde, id) = (&writing.horde, writing.request);
    let job = writing.pop().await;
    let mut looker = Looker::new(horde, id).await;
    looker.names(2).await;
    horde.anonymous().cancel_text(id).await.unwrap();
    writing.report(job, 1, "still").await;
    writing.worker.submit_text(&written(job)).await.unwrap();
    assert_eq!(looker.rest().await, ["token", "generation", "done"]);
}

#[tokio::test]
async fn places_in_the_queue_are_told_when_they_move() {
    let writing = Writing::start(|config| config).await;
    let horde = &writing.horde;
    let second = horde.anonymous().async_text(&text_request()).await;
    let mut looker = Looker::new(horde, second.unwrap().id).await;
    let place = |event| match event {
        Event::Queued(progress) => progress.queue_position,
        other => panic!("{other:?}"),
    };
    assert_eq!(place(looker.next().await), 2);
    horde.server.settle_down().await.unwrap();
    writing.pop().await;
    horde.server.settle_down().await.unwrap();
    assert_eq!(place(looker.next().await), 1);
}

fn preview(text: &str) -> Value {
    json!({ "step": 1, "of": 2, "preview": text })
}

#[tokio::test]
async fn pictures_are_seen_coming_unless_they_may_be_withheld() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    for (nsfw, is_shown) in [(true, true), (false, false)] {
        let mut wanted = request();
        wanted.nsfw = nsfw;
        wanted.params.n = Some(2);
        let id = horde.anonymous().async_image(&wanted).await.unwrap().id;
        let mut looker = Looker::new(&horde, id).await;
        let mut offer = pop("w");
        offer.amount = 1;
        let job = worker.pop_image(&offer).await.unwrap();
        assert_eq!(looker.names(2).await, ["queued", "assigned"]);
        let report = async |job: &JobId, text: &str| {
            horde.later(1);
            let mut body = preview(text);
            body["id"] = json!(job);
            let key = Some(&owner.api_key);
            horde.post("/generate/progress", key, &body).await
        };
        assert_eq!(report(&job.ids[0], TINY_PNG).await.body["watched"], true);
        let Event::Progress(told) = looker.next().await else {
            panic!("it goes on");
        };
        assert_eq!((told.steps.step, told.steps.of), (1, 2));
        assert_eq!(told.preview.as_deref(), is_shown.then_some(TINY_PNG));
        deliver_all(&worker, &job).await;
        let Event::Generation(generated) = looker.next().await else {
            panic!("it is there");
        };
        let Generated::Image(picture) = *generated else {
            panic!("a picture");
        };
        let bytes = horde.anonymous().download(&picture.img, 1 << 20).await;
        assert_eq!(bytes.unwrap(), PICTURE);
        // The second one is withheld, so nothing more of the request is shown.
        let mut job = worker.pop_image(&offer).await.unwrap().ids;
        let mut censored = delivered(job.remove(0));
        censored.gen_metadata.push(Metadata {
            kind: "censorship".to_owned(),
            value: "csam".to_owned(),
            reference: None,
        });
        worker.submit_image(&censored).await.unwrap();
        assert_eq!(looker.rest().await, ["assigned", "generation", "done"]);
    }
}

#[tokio::test]
async fn after_a_withheld_result_only_steps_are_told() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let mut wanted = request();
    wanted.params.n = Some(2);
    let id = horde.anonymous().async_image(&wanted).await.unwrap().id;
    let mut looker = Looker::new(&horde, id).await;
    let mut offer = pop("w");
    offer.amount = 2;
    let ids = worker.pop_image(&offer).await.unwrap().ids;
    let mut censored = delivered(ids[0]);
    censored.gen_metadata.push(Metadata {
        kind: "censorship".to_owned(),
        value: "csam".to_owned(),
        reference: None,
    });
    worker.submit_image(&censored).await.unwrap();
    let mut body = preview(TINY_PNG);
    body["id"] = json!(ids[1]);
    let answer = horde.post("/generate/progress", Some(&owner.api_key), &body);
    assert_eq!(answer.await.body["watched"], true);
    let names = looker.names(4).await;
    assert_eq!(names, ["queued", "assigned", "assigned", "generation"]);
    let Event::Progress(told) = looker.next().await else {
        panic!("it goes on");
    };
    assert_eq!(told.preview, None);
}

#[tokio::test]
async fn reports_that_make_no_sense_are_refused() {
    let writing = Writing::start(|config| config).await;
    let job = writing.pop().await;
    let horde = &writing.horde;
    let wide = image::RgbImage::new(1025, 1);
    let mut bytes = std::io::Cursor::new(Vec::new());
    wide.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let wide = STANDARD.encode(bytes.into_inner());
    let long = "ä".repeat(64 << 10);
    for (members, status) in [
        (json!({ "preview": "?" }), 400),
        (json!({ "preview": "" }), 400),
        (json!({ "preview": STANDARD.encode("GIF89a") }), 400),
        (json!({ "preview": wide }), 400),
        (json!({ "preview": "A".repeat((64 << 10) + 4) }), 400),
        (json!({ "text": format!("{long}x") }), 400),
        (json!({ "text": null }), 400),
        (json!({ "of": 0 }), 400),
        (json!({ "id": "x" }), 404),
        (json!({ "text": long, "preview": TINY_PNG }), 200),
    ] {
        let mut body = json!({ "id": job, "step": 1, "of": 2 });
        let more = members.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let answer = horde.post("/generate/progress", Some(&writing.owner), &body);
        let answer = answer.await;
        let start: String = members.to_string().chars().take(60).collect();
        assert_eq!(answer.status, status, "{start}: {}", answer.body);
    }
}

#[tokio::test]
async fn reports_that_come_too_fast_are_dropped() {
    let writing = Writing::start(|config| config).await;
    let job = writing.pop().await;
    assert!(!writing.report(job, 1, "nobody looks").await);
    let mut looker = Looker::new(&writing.horde, writing.request).await;
    looker.names(2).await;
    writing.report(job, 2, "one").await;
    for step in 3..20 {
        let progress = JobProgress {
            id: job.to_string(),
            steps: Steps { step, of: 80 },
            text: Some("one two".to_owned()),
            preview: None,
        };
        assert!(
            writing
                .worker
                .report_progress(&progress)
                .await
                .unwrap()
                .watched
        );
    }
    writing.report(job, 20, "one two three").await;
    assert_eq!(piece(looker.next().await).text, "one");
    assert_eq!(piece(looker.next().await).text, " two three");
}

/// A stream of events as it comes over the wire.
async fn raw(horde: &TestHorde, id: RequestId, headers: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(horde.server.address())
        .await
        .unwrap();
    let head = format!("GET /api/v2/generate/events/{id} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads until this has come.
async fn read_to(stream: &mut tokio::net::TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let count = soon(stream.read(&mut buffer)).await.unwrap();
        assert!(count > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives_and_ends_with_the_server() {
    let writing = Writing::start(|config| Config {
        keep_alive: Duration::from_millis(20),
        ..config
    })
    .await;
    let mask = "x-fields: waiting,done\r\norigin: https://example.org\r\n";
    let mut stream = raw(&writing.horde, writing.request, mask).await;
    let text = read_to(&mut stream, "\n:\n").await.to_lowercase();
    for expected in [
        "content-type: text/event-stream",
        "access-control-allow-origin: *",
        "cache-control: no-store",
        "event: queued",
        r#"data: {"done":false,"waiting":1}"#,
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    soon(writing.horde.server.stop()).await;
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_cut_off() {
    let writing = Writing::start(|config| Config {
        patience: Duration::from_millis(200),
        ..config
    })
    .await;
    let job = writing.pop().await;
    let _unread = raw(&writing.horde, writing.request, "").await;
    until(&writing.horde, |onlookers| onlookers.streams == 1).await;
    let texts = ["a", "b"].map(|letter| letter.repeat(64 << 10));
    let mut sent = 0;
    soon(async {
        while writing.report(job, 1, &texts[sent % 2]).await {
            sent += 1;
        }
    })
    .await;
    assert!(sent > 1, "it was there at first");
    assert_eq!(writing.horde.server.onlookers().streams, 0);
    writing.worker.submit_text(&written(job)).await.unwrap();
}
