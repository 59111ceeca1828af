//! Who is to blame for a job that comes to nothing.
//!
//! # Source
//! `generation.md` § 6.13; `users.md` § 1, needs 2, 14 and 21.

use super::world::{answers, check};

/// How many drops each worker has lately, and how many in all.
#[track_caller]
fn check_drops(script: &str, expected: &[(&str, &str)]) {
    let answers = answers(&format!("{script}\nshow"));
    for (worker, drops) in expected {
        let line = answers
            .lines()
            .rfind(|line| line.starts_with(&format!("worker {worker} ")));
        let shown = line.unwrap_or_default();
        assert!(shown.contains(drops), "{worker}: {drops}\n{answers}");
    }
}

#[test]
fn a_request_on_which_three_workers_fail_is_to_blame() {
    check_drops(
        "worker w1
         worker w2
         worker w3
         request r1
         pop w1
         submit j1 state=faulted
         pop w2
         submit j2 state=faulted
         pop w3
         submit j3 state=faulted
         tick",
        &[
            ("w1", "dropped=1 (0 lately)"),
            ("w2", "dropped=1 (0 lately)"),
            ("w3", "dropped=1 (0 lately)"),
        ],
    );
}

#[test]
fn a_worker_that_fails_alone_is_to_blame() {
    check_drops(
        "worker w1
         worker w2
         request r1
         pop w1
         submit j1 state=faulted
         pop w1
         submit j2 state=faulted
         pop w2
         submit j3 state=faulted
         tick",
        &[
            ("w1", "dropped=2 (2 lately)"),
            ("w2", "dropped=1 (1 lately)"),
        ],
    );
}

#[test]
fn other_drops_are_not_taken_back() {
    check_drops(
        "worker w1
         worker w2
         worker w3
         request r1
         pop w1
         submit j1 state=faulted
         cancel r1
         request r2
         pop w1
         submit j2 state=faulted
         pop w2
         submit j3 state=faulted
         pop w3
         at 400
         tick
         tick",
        &[
            ("w1", "dropped=2 (1 lately)"),
            ("w2", "dropped=1 (0 lately)"),
        ],
    );
}

#[test]
fn what_cannot_be_had_is_the_requests_fault() {
    for remark in [
        "source_image:download_failed",
        "source_mask:parse_failed",
        "extra_source_images:download_failed",
        "lora:download_failed",
        "ti:baseline_mismatch",
    ] {
        let script = "worker w1
             request r1
             pop w1
             submit j1 state=faulted remark=REMARK
             check r1";
        let script = script.replace("REMARK", remark);
        let answers = answers(&script);
        assert!(answers.contains("j1: reward 0 faulted"), "{answers}");
        assert!(answers.contains("restarted=1 waiting=1"), "{answers}");
        check_drops(&script, &[("w1", "dropped=0 (0 lately)")]);
    }
    // Remarks about anything else excuse nothing.
    for remark in [
        "information:see_ref",
        "batch_index:download_failed",
        "lora:see_ref",
    ] {
        let script = "worker w1
             request r1
             pop w1
             submit j1 state=faulted remark=REMARK";
        let script = script.replace("REMARK", remark);
        check_drops(&script, &[("w1", "dropped=1 (1 lately)")]);
    }
}

#[test]
fn excuses_run_out() {
    let mut script = String::from("worker w1\n");
    for number in 1..=22 {
        let remark = "remark=source_image:download_failed";
        let lines = format!(
            "request r{number}\npop w1\nsubmit j{number} state=faulted {remark}\ncancel r{number}\n"
        );
        script.push_str(&lines);
    }
    check_drops(&script, &[("w1", "dropped=2 (2 lately)")]);
}

#[test]
fn a_declared_drain_counts_nowhere() {
    check(
        "worker w1
         request r1
         pop w1
         submit j1 state=faulted remark=information:see_ref:drain
         submit j1 state=faulted
         submit j1
         check r1
         pop w1",
        "w1: r1 j1 sd 150s
         j1: reward 0 returned
         j1: reward 0
         j1: AbortedGen
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3 possible
         w1: r1 j2 sd 150s",
    );
}

#[test]
fn who_ends_a_worker_drops_nothing_but_must_say_so() {
    check_drops(
        "worker w1
         request r1 n=2
         pop w1
         pop w1
         maintenance w1
         submit j1 state=faulted
         at 200
         tick",
        &[("w1", "dropped=1 (1 lately)")],
    );
}

#[test]
fn trouble_of_the_horde_is_forgiven() {
    check_drops(
        "worker w1
         worker w2
         request r1 n=2
         pop w1
         at 100
         trouble
         at 101
         pop w2
         at 160
         tick
         at 260
         tick",
        &[
            // It worked through the trouble …
            ("w1", "dropped=0 (0 lately)"),
            // … and this one began after it.
            ("w2", "dropped=1 (1 lately)"),
        ],
    );
}

#[test]
fn a_restart_gives_jobs_that_are_due_a_minute_and_forgives() {
    check(
        "worker w1
         request r1 n=2
         pop w1
         pop w1
         at 200
         restarted
         tick
         at 259
         tick
         submit j1
         at 260
         tick
         check r1",
        "w1: r1 j1 sd 150s
         w1: r1 j2 sd 150s
         tick:
         tick:
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         tick: j2 returned (open 1)
         r1: finished=1 processing=0 restarted=0 waiting=1 place=1 wait=259 kudos=12 possible",
    );
}
