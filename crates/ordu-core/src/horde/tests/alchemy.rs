//! Alchemy: one request with several forms, each with a way of its own.
//!
//! # Source
//! `generation.md` § 5, § 6; the recorded scenarios `alchemy-flow/*`, `alchemy-pop/*`.

use super::world::check;

#[test]
fn an_alchemist_takes_the_forms_that_it_knows() {
    check(
        "request r1 alchemy forms=palette,caption,nsfw
         worker w1 alchemy
         worker w2 alchemy forms=nsfw,palette,caption amount=5
         forms r1
         pop w1
         pop w1
         pop w2
         pop w2
         forms r1
         submit j1
         submit j3
         forms r1
         check r1
         submit j2
         forms r1
         check r1",
        "r1: palette=waiting caption=waiting nsfw=waiting
         w1: r1 j1=caption 180s
         w1: nothing
         w2: r1 j2=palette j3=nsfw 180s
         w2: nothing
         r1: palette=processing caption=processing nsfw=processing
         j1: reward 1 2→mint 3 mint→1 1
         j3: reward 1 2→mint 3 mint→1 1
         r1: palette=processing caption=done nsfw=done
         r1: finished=2 processing=1 restarted=0 waiting=0 place=0 wait=0 kudos=6 possible
         j2: reward 1 2→mint 3 mint→1 1
         r1: palette=done caption=done nsfw=done
         r1: finished=3 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=9 done possible",
    );
}

#[test]
fn an_alchemist_takes_forms_of_several_requests() {
    check(
        "user 3 kudos=5
         request r1 alchemy user=3 forms=caption,nsfw
         request r2 alchemy forms=caption,nsfw
         request r3 alchemy user=1 forms=nsfw,palette
         worker w1 alchemy forms=caption,nsfw amount=4
         pop w1
         pop w1
         check r3",
        "w1: r3 j1=nsfw 180s r2 j2=caption j3=nsfw 180s r1 j4=caption 180s
         w1: r1 j5=nsfw 180s
         r3: finished=0 processing=1 restarted=0 waiting=1 place=1 wait=2 kudos=0 possible",
    );
}

#[test]
fn forms_have_their_prices() {
    check(
        "request r1 alchemy forms=interrogation,GFPGAN,caption tiles=6
         request r2 alchemy slow_workers=false
         worker w1 alchemy owner=2 forms=interrogation,GFPGAN,caption amount=4
         pop w1
         submit j1 by=2
         submit j2 by=2
         submit j3 by=2 state=censored
         submit j4 by=2
         submit j4 by=2 state=faulted",
        "w1: r1 j1=interrogation j2=GFPGAN j3=caption 180s r2 j4=caption 180s
         j1: reward 3 2→mint 5 mint→2 1.5 mint→2 later 1.5
         j2: reward 18 2→mint 20 mint→2 9 mint→2 later 9
         j3: reward 1 censored 2→mint 2 mint→2 0.5 mint→2 later 0.5
         j4: reward 1 2→mint 2 mint→2 0.5 mint→2 later 0.5
         j4: DuplicateGen",
    );
}

#[test]
fn only_trust_is_mentioned_and_each_known_form_counts() {
    for (request, worker, expected) in [
        ("trusted_workers", "owner=2", "nothing untrusted=1"),
        (
            "trusted_workers forms=caption,nsfw,palette",
            "owner=2 forms=nsfw,caption,aesthetic",
            "nothing untrusted=2",
        ),
        ("trusted_workers forms=nsfw", "owner=2", "nothing"),
        ("trusted_workers tiles=9", "owner=2 tiles=8", "nothing"),
        ("tiles=9", "tiles=8", "nothing"),
        ("tiles=8", "tiles=8", "r1 j1=caption 180s"),
        ("trusted_workers", "owner=1", "r1 j1=caption 180s"),
    ] {
        let world = format!(
            "request r1 alchemy {request}
             worker w1 alchemy {worker}
             pop w1"
        );
        check(&world, &format!("w1: {expected}"));
    }
}

#[test]
fn a_fast_alchemist_takes_less_than_ten_seconds_for_a_form() {
    check(
        "request r1 alchemy
         request r2 alchemy
         worker w1 alchemy
         pop w1
         at 9
         submit j1
         request r3 alchemy slow_workers=false
         pop w1
         pop w1
         at 21
         submit j2
         request r4 alchemy slow_workers=false
         pop w1",
        "w1: r1 j1=caption 180s
         j1: reward 1 2→mint 3 mint→1 1
         w1: r2 j2=caption 180s
         w1: r3 j3=caption 180s
         j2: reward 1 2→mint 3 mint→1 1
         w1: nothing",
    );
}

#[test]
fn a_form_is_given_up_at_its_fourth_failure_and_the_others_go_on() {
    check(
        "request r1 alchemy forms=caption,nsfw
         worker w1 alchemy
         worker w2 alchemy forms=nsfw
         pop w1
         submit j1 state=faulted
         submit j1
         pop w1
         at 180
         tick
         pop w1
         submit j3 state=faulted
         forms r1
         pop w1
         submit j4 state=faulted
         pop w1
         forms r1
         check r1
         pop w2
         submit j5
         forms r1
         check r1",
        "w1: r1 j1=caption 180s
         j1: reward 0 faulted
         j1: DuplicateGen
         w1: r1 j2=caption 180s
         tick: j2 faulted (open 2)
         w1: r1 j3=caption 180s
         j3: reward 0 faulted
         r1: caption=waiting nsfw=waiting
         w1: r1 j4=caption 180s
         j4: reward 0 given up
         w1: nothing
         r1: caption=faulted nsfw=waiting
         r1: finished=0 processing=0 restarted=4 waiting=1 place=1 wait=1 kudos=0
         w2: r1 j5=nsfw 180s
         j5: reward 1 2→mint 3 mint→1 1
         r1: caption=faulted nsfw=done
         r1: finished=1 processing=0 restarted=4 waiting=0 place=0 wait=0 kudos=3 done possible",
    );
}

#[test]
fn a_form_can_be_given_up_by_time_alone() {
    check(
        "request r1 alchemy
         worker w1 alchemy
         pop w1
         at 180
         tick
         pop w1
         at 360
         tick
         pop w1
         at 540
         tick
         pop w1
         at 720
         tick
         forms r1
         check r1",
        "w1: r1 j1=caption 180s
         tick: j1 faulted (open 1)
         w1: r1 j2=caption 180s
         tick: j2 faulted (open 1)
         w1: r1 j3=caption 180s
         tick: j3 faulted (open 1)
         w1: r1 j4=caption 180s
         tick: j4 given up (open 0)
         r1: caption=faulted
         r1: finished=0 processing=0 restarted=4 waiting=0 place=0 wait=0 kudos=0 done possible",
    );
}

#[test]
fn cancelling_pays_for_what_is_in_processing() {
    check(
        "request r1 alchemy forms=caption,nsfw,palette
         worker w1 alchemy forms=caption,nsfw,palette
         pop w1
         submit j1
         pop w1
         cancel r1
         forms r1
         submit j2 withdrawn
         forms r1
         submit j2
         check r1
         cancel r1",
        "w1: r1 j1=caption 180s
         j1: reward 1 2→mint 3 mint→1 1
         w1: r1 j2=nsfw 180s
         r1: asked=1 done=false
         r1: caption=done nsfw=processing palette=cancelled
         j2: reward 1 2→mint 3 mint→1 1
         r1: caption=done nsfw=cancelled palette=cancelled
         j2: DuplicateGen
         r1: finished=2 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=6 done possible
         r1: asked=2 done=true",
    );
}

#[test]
fn forms_are_released_to_whom_they_fit() {
    check(
        "request r1 alchemy forms=caption,nsfw
         worker w1 alchemy forms=caption,nsfw amount=2
         worker w2 alchemy forms=nsfw
         pop w1
         release j2
         forms r1
         pop w2
         release j1
         forms r1",
        "w1: r1 j1=caption j2=nsfw 180s
         r1: caption=processing nsfw=waiting
         w2: r1 j3=nsfw 180s
         r1: caption=waiting nsfw=processing",
    );
}

#[test]
fn a_paused_alchemist_is_kept_busy_for_nothing() {
    check(
        "request r1 alchemy forms=caption,nsfw
         worker w1 alchemy owner=2 forms=caption,nsfw amount=5
         request r2 alchemy user=1
         pop w1
         pause w1
         request r3 alchemy user=1 forms=caption,nsfw
         pop w1
         submit j4 by=2
         forms r3
         pop w1",
        "w1: r1 j1=caption j2=nsfw 180s r2 j3=caption 180s
         w1: r3 j4=caption j5=nsfw 180s
         j4: reward 1
         r3: caption=waiting nsfw=waiting
         w1: nothing",
    );
}

#[test]
fn waiting_and_running_forms_count_for_their_user() {
    check(
        "request r1 alchemy forms=caption,nsfw,palette
         request r2 alchemy forms=caption
         worker w1 alchemy forms=caption,nsfw amount=2
         pending 2 alchemy
         pop w1
         pending 2 alchemy
         pending 2
         submit j1
         pending 2 alchemy
         cancel r2
         pending 2 alchemy",
        "2: 4 pending
         w1: r1 j1=caption j2=nsfw 180s
         2: 4 pending
         2: 0 pending
         j1: reward 1 2→mint 3 mint→1 1
         2: 3 pending
         r2: asked=0 done=true
         2: 2 pending",
    );
}

#[test]
fn alchemists_may_drop_a_hundred_forms_an_hour() {
    let drops = (1..=101).map(|number| {
        format!(
            "request r{number} alchemy\npop w1\nsubmit j{number} state=faulted\ncancel r{number}\n"
        )
    });
    let world = format!("worker w1 alchemy\n{}", drops.collect::<String>());
    let answers = super::world::answers(&world);
    let sanctioned: Vec<&str> = answers
        .lines()
        .filter(|line| line.contains("maintenance"))
        .collect();
    assert_eq!(sanctioned, ["j101: reward 0 faulted maintenance"]);
}

#[test]
fn being_online_is_rewarded_at_once() {
    check(
        "worker w1 alchemy owner=2
         checkin w1
         at 290
         checkin w1
         at 580
         checkin w1
         at 601
         checkin w1",
        "w1: store
         w1: store
         w1: store
         w1: keep reward 40: mint→2 40",
    );
}
