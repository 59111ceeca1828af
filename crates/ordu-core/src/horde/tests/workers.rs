//! Workers over time: seen, fast, dropping jobs, rewarded for being there.
//!
//! # Source
//! `generation.md` § 6.4, § 6.9, § 6.13, § 6.14; `community.md` § 7.2, § 7.3.

use super::world::{answers, check};

#[test]
fn uptime_is_rewarded_past_ten_minutes() {
    check(
        "worker w1 models=sd,sdxl
         checkin w1
         at 300
         checkin w1
         at 600
         checkin w1
         at 610
         checkin w1
         at 620
         checkin w1
         at 1000
         checkin w1
         at 1300
         checkin w1
         at 1600
         checkin w1
         at 1601
         checkin w1",
        "w1: store
         w1: store
         w1: store
         w1: keep reward 84: mint→1 84
         w1: keep
         w1: store
         w1: store
         w1: store
         w1: keep reward 84: mint→1 84",
    );
}

#[test]
fn strangers_get_their_uptime_later_and_maintenance_does_not_count() {
    check(
        "worker w2 owner=2 lora=false
         checkin w2
         at 300
         checkin w2
         at 601
         checkin w2
         at 800
         checkin w2
         at 900
         checkin w2
         at 1200
         checkin w2
         at 1500
         checkin w2
         at 1501
         checkin w2
         maintenance w2
         at 1700
         checkin w2
         show",
        "w2: store
         w2: store
         w2: store
         w2: store
         w2: store
         w2: store
         w2: store reward 52: mint→2 later 52
         w2: keep
         w2: store
         worker w2 seen=1700s uptime=1200s done=0 dropped=0 (0 lately) kudos=0+52 maintenance",
    );
}

#[test]
fn too_many_drops_bring_maintenance() {
    let mut world = String::from("worker w1\n");
    for number in 1..=22 {
        world.push_str(&drop(number));
    }
    world.push_str("show");
    let answers = answers(&world);
    assert!(
        answers.contains("j21: reward 0 faulted maintenance\n"),
        "{answers}"
    );
    assert!(answers.contains("j20: reward 0 faulted\n"), "{answers}");
    assert!(answers.contains("w1: WorkerMaintenance This worker has been dropping too many jobs"));
    assert!(
        answers.contains("dropped=21 (0 lately) kudos=0+0 maintenance"),
        "{answers}"
    );
}

/// A request whose job is dropped.
fn drop(number: u32) -> String {
    format!("request r{number}\npop w1\nsubmit j{number} state=faulted\ncancel r{number}\n")
}

#[test]
fn raid_only_suspects_and_sooner() {
    let mut world = String::from("raid on\nworker w1\n");
    for number in 1..=11 {
        world.push_str(&drop(number));
    }
    let answers = answers(&world);
    assert!(
        answers.contains("j11: reward 0 faulted suspected"),
        "{answers}"
    );
    assert_eq!(answers.matches("suspected").count(), 1);
}

#[test]
fn drops_are_forgotten_an_hour_after_the_first() {
    let mut world = String::from("worker w1\n");
    let times = [0].into_iter().chain([3500; 19]).chain([3601; 2]);
    for (number, at) in (1..).zip(times) {
        world.push_str(&["at ", &at.to_string(), "\n", &drop(number)].concat());
    }
    world.push_str("show");
    let answers = answers(&world);
    assert!(!answers.contains("maintenance"), "{answers}");
    assert!(answers.contains("dropped=22 (2 lately)"), "{answers}");
}

#[test]
fn silent_workers_make_requests_impossible() {
    check(
        "worker w1
         checkin w1
         request r1
         request r2 models=sdxl
         check r1
         check r2
         at 361
         check r1
         checkin w1
         check r1
         maintenance w1
         check r1
         work w1
         check r1
         forget w1
         check r1
         possible r7",
        "w1: store
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3 possible
         r2: finished=0 processing=0 restarted=0 waiting=1 place=2 wait=16 kudos=3
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3
         w1: store
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3 possible
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3 possible
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3
         r7: possible=false",
    );
}

#[test]
fn possible_looks_at_everything_a_pop_does() {
    check(
        "worker w1 blacklist=dog nsfw=false max_pixels=262144
         checkin w1
         possible r1 nsfw=false
         possible r1
         possible r1 nsfw=false prompt=hotdog
         possible r1 nsfw=false size=576x512
         possible r1 nsfw=false workers=w2
         possible r1 nsfw=false models=sdxl
         pause w1
         possible r1 nsfw=false
         possible r1 nsfw=false user=1",
        "w1: store
         r1: possible=true
         r1: possible=false
         r1: possible=false
         r1: possible=false
         r1: possible=false
         r1: possible=false
         r1: possible=false
         r1: possible=true",
    );
}

#[test]
fn models_and_performance_tell_supply_and_demand() {
    check(
        "worker w1 models=sd,sdxl threads=2
         worker w2 models=sd
         checkin w1
         checkin w2
         request r1 n=2
         request r2 models=sdxl,cascade
         request r3 models=mystery
         pop w2
         models
         performance
         at 10
         submit j1
         models
         performance
         at 71
         performance
         at 400
         models",
        "w1: store
         w2: store
         w2: r1 j1 sd 150s
         cascade: count=0 queued=7864320 jobs=1 eta=10000 performance=0
         sd: count=3 queued=15728640 jobs=2 eta=10000 performance=0
         sdxl: count=2 queued=7864320 jobs=1 eta=10000 performance=0
         queued=4 (31.46 Mps) workers=2 threads=3 past minute 0 Mps
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         cascade: count=0 queued=7864320 jobs=1 eta=10000 performance=0
         sd: count=3 queued=7864320 jobs=1 eta=3 performance=786432
         sdxl: count=2 queued=7864320 jobs=1 eta=10000 performance=0
         queued=3 (23.59 Mps) workers=2 threads=3 past minute 7.86 Mps
         queued=3 (23.59 Mps) workers=2 threads=3 past minute 0 Mps
         cascade: count=0 queued=7864320 jobs=1 eta=10000 performance=0
         sd: count=0 queued=7864320 jobs=1 eta=10000 performance=786432
         sdxl: count=0 queued=7864320 jobs=1 eta=10000 performance=0",
    );
}
