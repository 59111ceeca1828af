//! Screens as they are drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use ordu_api::worker::WorkerMessage;
use ordu_worker::{Account, EngineStatus};
use unicode_width::UnicodeWidthStr as _;

use super::*;

fn job(number: usize, stage: Stage, now: Instant) -> JobStatus {
    JobStatus {
        id: format!("{number:08}-0000-4000-8000-000000000000")
            .parse()
            .unwrap(),
        kind: WorkKind::Image,
        model: "ordu-tiny".to_owned(),
        parts: number,
        stage,
        popped: now - Duration::from_secs(75),
        since: now,
    }
}

fn busy(now: Instant) -> Status {
    let engine = EngineStatus {
        is_up: true,
        offered: vec!["ordu-tiny".to_owned(), "Deliberate".to_owned()],
        held: serde_json::from_value(serde_json::json!([
            {"model": "ordu-tiny", "bytes": 7 << 20, "place": "Ram"}
        ]))
        .unwrap(),
        quarantined: BTreeMap::from([("broken".to_owned(), now + Duration::from_secs(3500))]),
        backlog: Some(Duration::from_secs(12)),
        ..EngineStatus::default()
    };
    Status {
        phase: Phase::Serving,
        jobs: vec![
            job(1, Stage::Sampling { step: 3, of: 20 }, now),
            job(2, Stage::Fetching, now),
            job(3, Stage::Delivering, now),
        ],
        account: Some(Account {
            alias: "alice#7".to_owned(),
            kudos: 1234.4,
        }),
        done: 12,
        faulted: 1,
        pops: BTreeMap::from([("job", 13), ("nothing", 287)]),
        faults: BTreeMap::from([("out_of_memory", 1)]),
        skipped: BTreeMap::from([("models".to_owned(), 3)]),
        last_error: Some("ComfyUI failed: out of memory".to_owned()),
        engines: BTreeMap::from([
            (WorkKind::Image, engine),
            (WorkKind::Text, EngineStatus::default()),
        ]),
        messages: vec![WorkerMessage {
            id: "1".to_owned(),
            message: "be kind\x1b[2J".to_owned(),
            origin: None,
            expiry: None,
        }],
        ..Status::default()
    }
}

fn drawn(status: &Status, now: Instant, size: (usize, usize)) -> String {
    let log: Vec<_> = (1..=9).map(|number| format!("line {number}")).collect();
    let view = View {
        status,
        memory: Memory {
            worker: Some(21 << 20),
            engine: Some(310 << 20),
        },
        title: "This machine at http://127.0.0.1:7001",
        now,
        notice: None,
        log: &log,
    };
    let rows = draw(&view, size.0, size.1);
    assert_eq!(rows.len(), size.1);
    assert!(rows.iter().all(|row| row.text.width() <= size.0));
    let mark = |look| match look {
        Look::Plain => ' ',
        Look::Head => '#',
        Look::Title => '=',
        Look::Faint => '.',
        Look::Alarm => '!',
    };
    let lines = rows
        .iter()
        .map(|row| format!("{}{}", mark(row.look), row.text.trim_end()));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_busy_worker_fills_the_screen() {
    let now = Instant::now();
    insta::assert_snapshot!(drawn(&busy(now), now, (72, 24)), @r##"
    #This machine at http://127.0.0.1:7001                             up 0 s
     serving
     kudos    0 in all, 0 an hour; alice#7 has 1234
     jobs     12 done, 1 faulted, 0 lost
     pops     job 13, nothing 287
     memory   21 MiB, engine 310 MiB
    =ENGINES
     pictures up, offers ordu-tiny, Deliberate; 12 s of work waits
    .         in memory: ordu-tiny, 7 MiB
    !         left out for 58 min 20 s: broken
    !texts    down
    =JOBS     3
     00000001 ordu-tiny                      generating 3/20    1 min 15 s
     00000002 ordu-tiny ×2                   fetching           1 min 15 s
    .         1 more
     faults   out of memory 1
    !trouble  ComfyUI failed: out of memory
    .skipped  models 3
     news     be kind
    =LOG
     line 7
     line 8
     line 9
    .q finish and quit   m maintenance on/off   p pause on/off
    "##);
}

#[test]
fn a_small_terminal_shows_what_fits() {
    let now = Instant::now();
    insta::assert_snapshot!(drawn(&busy(now), now, (40, 16)), @r##"
    #This machine at http://127.0.0.1… up 0 s
     serving
     kudos    0 in all, 0 an hour; alice#7 h…
     jobs     12 done, 1 faulted, 0 lost
     pops     job 13, nothing 287
     memory   21 MiB, engine 310 MiB
    =ENGINES
     pictures up, offers ordu-tiny, Delibera…
    .         in memory: ordu-tiny, 7 MiB
    !         left out for 58 min 20 s: brok…
    !texts    down
    =JOBS     3
     00000001 ordu-tiny                     …
    .         2 more
     faults   out of memory 1
    .q finish and quit   m maintenance on/of…
    "##);
    for size in [(1, 1), (2, 3), (200, 5)] {
        drawn(&busy(now), now, size);
    }
}

#[test]
fn a_worker_that_has_just_started_says_so() {
    let now = Instant::now();
    insta::assert_snapshot!(drawn(&Status::default(), now, (60, 14)), @r##"
    #This machine at http://127.0.0.1:7001                 up 0 s
     starting
     kudos    0 in all, 0 an hour
     jobs     0 done, 0 faulted, 0 lost
     pops     none yet
     memory   21 MiB, engine 310 MiB
    =ENGINES
    =JOBS     0
    =LOG
     line 6
     line 7
     line 8
     line 9
    .q finish and quit   m maintenance on/off   p pause on/off
    "##);
}
