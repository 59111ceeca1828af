//! Texts: every reason for which a pop passes over one, and what is told of it; prices, batches.
//!
//! # Source
//! `generation.md` § 6.6–6.8, § 7.7; the recorded scenarios `text-pop/*`, `text-flow/*`.

use super::world::check;

/// One request, one worker, one pop.
#[track_caller]
fn pop(request: &str, worker: &str, expected: &str) {
    let world = format!("request r1 text {request}\nworker w1 text {worker}\npop w1");
    check(&world, &format!("w1: {expected}"));
}

const SERVED: &str = "r1 j1 13b 150s";

#[test]
fn plain_text_is_served() {
    pop("", "", SERVED);
    pop("", "nsfw=false", SERVED);
}

#[test]
fn what_the_worker_cannot_do_is_not_mentioned() {
    for (request, worker, fitting) in [
        ("length=101", "length=100", "length=101"),
        ("context=4097", "context=4096", "context=4097"),
        ("", "length=-1", ""),
        ("models=70b,13b", "models=7b", "models=7b,13b"),
        (
            "validated_backends",
            "agent=Nobody:1:x",
            "agent=TabbyAPI:1:x",
        ),
        ("workers=w2", "", ""),
        ("", "extra_slow", ""),
        ("slow_workers=false", "", ""),
        ("", "models=", ""),
        // Untrusted besides, but invisible anyway.
        ("length=101 trusted_workers", "length=100 owner=2", ""),
    ] {
        pop(request, worker, "nothing ");
        if !fitting.is_empty() {
            pop(request, fitting, SERVED);
        }
    }
    pop("workers=w2 worker_blacklist", "", SERVED);
    pop("extra_slow_workers", "extra_slow", SERVED);
}

#[test]
fn pictures_are_for_workers_that_look_at_them() {
    let seeing = "agent=Ordu_Worker:0.1.0:x capabilities=vision";
    pop("extra_images=2", seeing, SERVED);
    pop("", seeing, SERVED);
    // Who does not know of it hears nothing of it, also an agent whose image workers take pictures.
    for blind in [
        "",
        "capabilities=r2",
        "agent=AI_Horde_Worker_reGen:14:x",
        "capabilities=extra_source_images",
    ] {
        pop("extra_images=1", blind, "nothing ");
    }
}

#[test]
fn what_its_owner_can_change_is_mentioned() {
    pop("trusted_workers", "owner=2", "nothing untrusted=1");
    pop("trusted_workers", "owner=1", SERVED);
    pop(
        "softprompt=s",
        "softprompts=t",
        "nothing matching_softprompt=1",
    );
    pop("softprompt=s", "softprompts=t,s", SERVED);
    pop("", "softprompts=t,s", SERVED);
    check(
        "user 3 kudos=30
         request r1 text user=3
         worker w1 text upfront
         pop w1
         available 3 kudos=36
         pop w1",
        "w1: nothing kudos=1
         w1: r1 j1 13b 150s",
    );
}

#[test]
fn workers_serve_models_that_nobody_listed_and_any_model_if_none_is_named() {
    pop("models=odd", "models=odd", "r1 j1 odd 150s");
    pop("models=", "models=odd", "r1 j1 odd 150s");
    // A worker that names no model need not be told which to use.
    pop("models=", "models=", "r1 j1  150s");
}

#[test]
fn fast_is_judged_by_the_size_of_the_first_model() {
    // Each text counts as 80 tokens; three, four or five a second are fast.
    for (model, seconds, served) in [
        ("70b", 26, true),
        ("70b", 27, false),
        ("13b", 20, true),
        ("13b", 21, false),
        ("7b", 16, true),
        ("7b", 17, false),
        ("odd", 16, true),
        ("odd", 17, false),
    ] {
        let answer = if served {
            format!("w1: r2 j2 {model} 150s")
        } else {
            "w1: nothing ".to_owned()
        };
        let world = format!(
            "request r1 text models={model}
             worker w1 text models={model} agent=Nobody owner=2
             pop w1
             at {seconds}
             submit j1 by=2 hold
             confirm j1
             request r2 text models={model} slow_workers=false
             pop w1"
        );
        let answers = super::world::answers(&world);
        assert_eq!(
            answers.lines().last(),
            Some(answer.trim_end()),
            "{model} {seconds}"
        );
    }
}

#[test]
fn fast_workers_may_be_hoped_for_from_two_tokens_a_second() {
    check(
        "request r1 text
         worker w1 text
         pop w1
         at 41
         submit j1
         possible r2 text slow_workers=false
         request r3 text
         pop w1
         at 70
         submit j2
         possible r2 text slow_workers=false
         possible r2 text",
        "w1: r1 j1 13b 150s
         j1: reward 2.52 2→mint 3.52 mint→1 2.52
         r2: possible=false
         w1: r3 j2 13b 150s
         j2: reward 2.52 2→mint 3.52 mint→1 2.52
         r2: possible=true
         r2: possible=true",
    );
}

#[test]
fn a_batch_is_as_large_as_the_worker_says() {
    check(
        "request r1 text n=5
         request r2 text n=2 disable_batching
         worker w1 text amount=3
         pop w1
         pop w1
         pop w1
         check r1
         check r2",
        "w1: r1 j1 j2 j3 13b 150s
         w1: r1 j4 j5 13b 150s
         w1: r2 j6 13b 150s
         r1: finished=0 processing=5 restarted=0 waiting=0 place=0 wait=80 kudos=1 possible
         r2: finished=0 processing=1 restarted=0 waiting=1 place=1 wait=160 kudos=1 possible",
    );
}

#[test]
fn only_the_text_tells_what_it_is_worth() {
    check(
        "request r1 text n=6 models=13b
         worker w1 text amount=6
         worker w2 text agent=Nobody:1:x
         pop w1
         submit j1 chars=40
         submit j2 chars=320
         submit j3 chars=99999
         submit j4 state=censored
         submit j5 state=csam
         submit j6 csam
         submit j6
         check r1
         request r2 text
         pop w2
         submit j7",
        "w1: r1 j1 j2 j3 j4 j5 j6 13b 150s
         j1: reward 2.52 2→mint 3.52 mint→1 2.52
         j2: reward 10.08 2→mint 11.08 mint→1 10.08
         j3: reward 10.08 2→mint 11.08 mint→1 10.08
         j4: reward 2.52 censored 2→mint 1 mint→1 2.52
         j5: reward 2.52 censored 2→mint 1 mint→1 2.52
         j6: reward 2.52 censored 2→mint 1 mint→1 2.52
         j6: DuplicateGen
         r1: finished=6 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=30 done possible
         w2: r2 j7 13b 150s
         j7: reward 0.76 2→mint 1.76 mint→1 0.76",
    );
}

#[test]
fn a_decoy_is_rewarded_like_a_real_text_and_pays_nothing() {
    check(
        "request r1 text
         worker w1 text owner=2
         request r2 text user=1
         pop w1
         pause w1
         pop w1
         submit j2 by=2
         check r2",
        "w1: r1 j1 13b 150s
         w1: r2 j2 13b 150s
         j2: reward 2.52
         r2: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=80 kudos=1",
    );
}

#[test]
fn time_faults_and_cancellation_work_as_for_pictures() {
    check(
        "request r1 text n=2
         worker w1 text
         pop w1
         at 150
         tick
         submit j1
         submit j1 state=faulted
         pop w1
         cancel r1
         check r1
         submit j2
         check r1",
        "w1: r1 j1 13b 150s
         tick: j1 faulted (open 2)
         j1: AbortedGen
         j1: reward 0
         w1: r1 j2 13b 150s
         r1: asked=0 done=false
         r1: finished=0 processing=1 restarted=1 waiting=0 place=0 wait=80 kudos=1 possible
         j2: reward 2.52 2→mint 3.52 mint→1 2.52
         r1: finished=1 processing=0 restarted=1 waiting=0 place=0 wait=0 kudos=5 done possible",
    );
}

#[test]
fn being_online_is_rewarded_by_context_and_model() {
    check(
        "worker w1 text context=2048 models=7b
         worker w2 text context=2048 models=7b owner=2
         checkin w1
         checkin w2
         at 290
         checkin w1
         checkin w2
         at 580
         checkin w1
         checkin w2
         at 601
         checkin w1
         checkin w2",
        "w1: store
         w2: store
         w1: store
         w2: store
         w1: store
         w2: store
         w1: keep reward 55: mint→1 55
         w2: keep reward 55: mint→2 later 55",
    );
}

#[test]
fn kinds_wait_in_queues_of_their_own() {
    check(
        "request r1
         request r2 text n=2
         request r3 text models=7b
         worker w1 text models=13b,odd threads=2
         pop w1
         slots 2
         slots 2 text
         check r1
         models text",
        "w1: r2 j1 13b 150s
         2: 1 open
         2: 2 open
         r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3
         13b: count=2 queued=160 jobs=2 eta=10000 performance=0
         7b: count=0 queued=80 jobs=1 eta=10000 performance=0
         odd: count=2 queued=0 jobs=0 eta=0 performance=0",
    );
}
