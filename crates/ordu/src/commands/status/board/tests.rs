//! Screens as they are drawn.

use super::*;

fn pulse(finished: u64, worker: &str) -> News {
    News::Pulse(Pulse {
        queued: ByKind {
            image: 12,
            text: 3,
            alchemy: 0,
        },
        running: ByKind {
            image: 2,
            ..ByKind::default()
        },
        workers: ByKind {
            image: 2,
            text: 1,
            alchemy: 0,
        },
        finished: ByKind {
            image: finished,
            ..ByKind::default()
        },
        happenings: vec![Happening {
            kind: "image".to_owned(),
            model: Some("ordu-tiny".to_owned()),
            worker: worker.to_owned(),
            what: What::Finished,
        }],
        ..Pulse::default()
    })
}

fn shown(rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| row.text.trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_busy_horde_is_drawn() {
    let now = Instant::now();
    let mut board = Board::default();
    board.take(pulse(5, "old"), now);
    let later = now + Duration::from_secs(61);
    board.take(pulse(3, "Alice\u{1b}[2J"), later);
    board.take(
        News::Models(vec![ModelStatus {
            name: "ordu-tiny".to_owned(),
            count: 2,
            jobs: 12.0,
            eta: 7,
            ..ModelStatus::default()
        }]),
        later,
    );
    let rows = board.draw("http://127.0.0.1:7001", (72, 16), later);
    insta::assert_snapshot!(shown(&rows), @r"
    http://127.0.0.1:7001
                                              pictures     texts     forms
    waiting                                         12         3         0
    running                                          2         0         0
    last minute                                      3         0         0
    workers                                          2         1         0
    MODELS   1                                 workers      jobs      wait
    ordu-tiny                                        2        12       7 s
    JUST NOW
    finished  ordu-tiny                      Alice
    finished  ordu-tiny                      old




    q quit
    ");
    assert_eq!(rows.len(), 16);
}

#[test]
fn a_horde_that_tells_no_more_than_its_load_is_drawn() {
    let now = Instant::now();
    let mut board = Board::default();
    let load = Performance {
        queued_requests: 7,
        worker_count: 2,
        queued_forms: 4.0,
        ..Performance::default()
    };
    assert_eq!(
        News::Load(load.clone()).json(),
        Some(json!({
            "queued": { "image": 7, "text": 0, "alchemy": 4 },
            "workers": { "image": 2, "text": 0, "alchemy": 0 },
        }))
    );
    board.take(News::Load(load), now);
    board.take(News::Trouble("no answer in time".to_owned()), now);
    insta::assert_snapshot!(shown(&board.draw("https://horde.example", (72, 9), now)), @r"
    https://horde.example
    no news: no answer in time
                                              pictures     texts     forms
    waiting                                          7         0         4
    workers                                          2         0         0
    MODELS   none: no worker draws
    this horde does not tell what happens

    q quit
    ");
}
