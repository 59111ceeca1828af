//! Who comes first, and how long the others wait.
//!
//! # Source
//! `generation.md` § 3.11, § 6.5, § 6.6, § 6.10.

use super::world::check;

#[test]
fn richer_first_until_age_makes_up_for_it() {
    check(
        "user 3 kudos=1040
         request r1 user=2
         at 5
         request r2 user=3
         at 10
         request r3 user=3
         worker w1
         pop w1
         pop w1
         pop w1",
        "w1: r2 j1 sd 150s
         w1: r1 j2 sd 150s
         w1: r3 j3 sd 150s",
    );
}

#[test]
fn equals_keep_the_order_in_which_they_came() {
    check(
        "request r2
         request r1
         worker w1
         pop w1
         pop w1",
        "w1: r2 j1 sd 150s
         w1: r1 j2 sd 150s",
    );
}

#[test]
fn owner_and_friends_come_first() {
    check(
        "user 3 kudos=0
         user 4 kudos=5
         request r1 user=2
         request r2 user=3
         request r3 user=4
         request r4 user=4 models=sdxl
         worker w1 owner=3 first=friend#4,nobody#999
         pop w1
         pop w1
         pop w1
         pop w1",
        "w1: r3 j1 sd 150s
         w1: r2 j2 sd 150s
         w1: r1 j3 sd 150s
         w1: nothing models=1",
    );
}

#[test]
fn place_and_wait_follow_the_work_ahead() {
    check(
        "request r1 n=2
         request r2
         request r3 size=1024x1024
         check r1
         check r2
         check r3
         worker w1 threads=4
         worker w2 threads=1
         checkin w1
         checkin w2
         check r3",
        "r1: finished=0 processing=0 restarted=0 waiting=2 place=1 wait=16 kudos=3
         r2: finished=0 processing=0 restarted=0 waiting=1 place=2 wait=24 kudos=3
         r3: finished=0 processing=0 restarted=0 waiting=1 place=3 wait=55 kudos=3
         w1: store
         w2: store
         r3: finished=0 processing=0 restarted=0 waiting=1 place=3 wait=55 kudos=3 possible",
    );
}

#[test]
fn wait_uses_the_speed_of_all_and_what_still_runs() {
    check(
        "worker w1 threads=2
         request r1 n=3
         pop w1
         at 4
         submit j1
         check r1
         pop w1
         at 5
         check r1
         at 30
         check r1",
        "w1: r1 j1 sd 150s
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         r1: finished=1 processing=0 restarted=0 waiting=2 place=1 wait=4 kudos=12 possible
         w1: r1 j2 sd 150s
         r1: finished=1 processing=1 restarted=0 waiting=1 place=1 wait=7 kudos=12 possible
         r1: finished=1 processing=1 restarted=0 waiting=1 place=1 wait=4 kudos=12 possible",
    );
}

#[test]
fn batches_fit_the_worker() {
    let batch = |request: &str, worker: &str, expected: &str| {
        check(
            &format!("request r1 n=4 {request}\nworker w1 {worker}\npop w1"),
            &format!("w1: {expected}"),
        );
    };
    batch("", "amount=20", "r1 j1 j2 j3 j4 sd 150s");
    batch("", "amount=3", "r1 j1 j2 j3 sd 150s");
    batch("", "amount=3 max_pixels=262144", "r1 j1 sd 150s");
    batch("", "amount=4 max_pixels=524288", "r1 j1 j2 sd 150s");
    batch("disable_batching", "amount=4", "r1 j1 sd 150s");
    batch("size=1024x1024", "amount=2", "r1 j1 j2 sd 270s");
    batch("size=1024x1024 post=NMKD_Siax", "amount=2", "r1 j1 sd 270s");
    batch(
        "models=flux",
        "amount=4 models=flux",
        "r1 j1 j2 j3 j4 flux 270s",
    );
    batch("models=qwen", "amount=4 models=qwen", "r1 j1 j2 qwen 270s");
    batch(
        "models=zimage",
        "amount=4 models=zimage",
        "r1 j1 j2 zimage 270s",
    );
}

#[test]
fn time_for_a_job() {
    let ttl = |request: &str, worker: &str, expected: &str| {
        check(
            &format!("request r1 {request}\nworker w1 {worker}\npop w1"),
            &format!("w1: r1 j1 {expected}"),
        );
    };
    ttl("steps=60", "", "sd 150s");
    ttl("steps=61", "", "sd 152s");
    ttl("steps=40 source=img2img control=canny", "", "sd 220s");
    ttl("models=flux", "models=flux", "flux 270s");
    ttl("steps=61 extra_slow_workers", "extra_slow", "sd 456s");
}

#[test]
fn chance_picks_among_the_models_in_common() {
    check(
        "request r1 n=6 models=sd,sdxl,flux steps=4
         worker w1 models=sdxl,sd
         pop w1
         pop w1
         pop w1
         pop w1",
        "w1: r1 j1 sdxl 150s
         w1: r1 j2 sdxl 150s
         w1: r1 j3 sdxl 150s
         w1: r1 j4 sd 150s",
    );
}

#[test]
fn open_slots_of_the_shared_account_count_by_model() {
    check(
        "user 0
         request r1 user=0 n=3
         request r2 user=0 n=4 models=sdxl,sd
         request r3 user=2 n=5 models=sdxl
         slots 0
         slots 0 models=sdxl
         slots 2 models=sd
         worker w1 amount=2
         pop w1
         slots 0",
        "0: 7 open
         0: 4 open
         2: 5 open
         w1: r1 j1 j2 sd 150s
         0: 5 open",
    );
}

#[test]
fn matches_far_behind_the_head_are_found_in_order() {
    let ahead: Vec<String> = (1..200)
        .map(|number| format!("request r{number} tiling steps={number}"))
        .collect();
    let world = format!(
        "worker w1 models=sdxl
         worker w2 models=sdxl limit_steps
         {}
         request r201 models=sdxl steps=31
         request r200 models=sdxl steps=30
         pop w2
         pop w2
         pop w1
         pop w1",
        ahead.join("\n")
    );
    check(
        &world,
        "w2: r200 j1 sdxl 150s
         w2: nothing models=199 step_count=1
         w1: r201 j2 sdxl 150s
         w1: nothing models=199",
    );
}
