//! The life of a request: given away, handed back, settled, cancelled, given up, expired.
//!
//! # Source
//! `generation.md` § 3.11–3.14, § 6.11–6.13; the recorded scenarios `image-flow/*`.

use super::world::check;

#[test]
fn one_picture_from_start_to_end() {
    check(
        "request r1
         worker w1
         check r1
         pop w1
         check r1
         at 10
         submit j1
         check r1
         show",
        "r1: finished=0 processing=0 restarted=0 waiting=1 place=1 wait=8 kudos=3
         w1: r1 j1 sd 150s
         r1: finished=0 processing=1 restarted=0 waiting=0 place=0 wait=8 kudos=3 possible
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         r1: finished=1 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=12 done possible
         request 1 user=2 open=0/1 running=0 finished=1 faults=0 kudos=11.6 expires=1210s
         job of 1 by w1 model=sd kudos=7.6×100% 0s…150s done
         worker w1 seen=0s uptime=0s done=1 dropped=0 (0 lately) kudos=7.6+0",
    );
}

#[test]
fn straight_to_a_worker_that_waits_or_not_at_all() {
    check(
        "worker w1 models=sd amount=2
         worker w2 alchemy forms=caption
         pop w1
         pop w2
         straight r1 to=w1 n=3
         straight r1 to=w1 models=sdxl
         straight r2 to=w2 alchemy forms=caption
         pause w1
         straight r1 to=w1
         work w1
         show
         straight r1 to=w1 n=2
         straight r1 to=w1
         check r1
         submit j1
         submit j2
         check r1
         request r2
         straight r3 to=w1",
        "w1: nothing
         w2: nothing
         r1: nobody
         r1: nobody
         r2: nobody
         r1: nobody
         worker w1 seen=0s uptime=0s done=0 dropped=0 (0 lately) kudos=0+0
         worker w2 seen=0s uptime=0s done=0 dropped=0 (0 lately) kudos=0+0
         w1: r1 j1 j2 sd 150s
         r1: nobody
         r1: finished=0 processing=2 restarted=0 waiting=0 place=0 wait=8 kudos=3 possible
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         j2: reward 7.6 2→mint 8.6 mint→1 7.6
         r1: finished=2 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=20 done possible
         r3: nobody",
    );
}

#[test]
fn owner_credit_depends_on_trust_and_agent() {
    check(
        "user 0
         user 3
         request r1 user=0
         request r2
         worker w1 owner=3
         worker w2 owner=3 agent=AI_Horde_Worker_reGen:2:x
         pop w1
         pop w2
         submit j1 by=3
         submit j2 by=3
         show",
        "w1: r1 j1 sd 150s
         w2: r2 j2 sd 150s
         j1: reward 7.6 0→mint 8.6 mint→3 3.8 mint→3 later 3.8
         j2: reward 7.6 2→mint 8.6 mint→3 3.42 mint→3 later 3.42
         request 1 user=0 open=0/1 running=0 finished=1 faults=0 kudos=11.6 expires=1200s
         request 2 user=2 open=0/1 running=0 finished=1 faults=0 kudos=11.6 expires=1200s
         job of 1 by w1 model=sd kudos=7.6×100% 0s…150s done
         job of 2 by w2 model=sd kudos=7.6×90% 0s…150s done
         worker w1 seen=0s uptime=0s done=1 dropped=0 (0 lately) kudos=7.6+0
         worker w2 seen=0s uptime=0s done=1 dropped=0 (0 lately) kudos=6.84+0",
    );
}

#[test]
fn models_decide_what_a_job_is_worth() {
    let worth = |model: &str, expected: &str| {
        check(
            &format!("request r1 models={model}\nworker w1 models={model}\npop w1\nsubmit j1"),
            expected,
        );
    };
    worth(
        "sdxl",
        "w1: r1 j1 sdxl 150s\nj1: reward 15.2 2→mint 16.2 mint→1 15.2",
    );
    worth(
        "cascade",
        "w1: r1 j1 cascade 150s\nj1: reward 30.4 2→mint 31.4 mint→1 30.4",
    );
    worth(
        "flux",
        "w1: r1 j1 flux 270s\nj1: reward 60.8 2→mint 61.8 mint→1 60.8",
    );
    worth(
        "qwen",
        "w1: r1 j1 qwen 270s\nj1: reward 91.2 2→mint 92.2 mint→1 91.2",
    );
    worth(
        "zimage",
        "w1: r1 j1 zimage 270s\nj1: reward 60.8 2→mint 61.8 mint→1 60.8",
    );
}

#[test]
fn censored_results_cost_the_requester_little() {
    check(
        "request r1 n=3
         worker w1
         pop w1
         submit j1 remark=censorship
         pop w1
         submit j2 state=censored
         pop w1
         submit j3 state=faulted remark=censorship
         check r1",
        "w1: r1 j1 sd 150s
         j1: reward 7.6 censored 2→mint 1 mint→1 7.6
         w1: r1 j2 sd 150s
         j2: reward 7.6 2→mint 8.6 mint→1 7.6
         w1: r1 j3 sd 150s
         j3: reward 7.6 censored 2→mint 1 mint→1 7.6
         r1: finished=3 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=14 done possible",
    );
}

#[test]
fn submits_are_refused_in_order() {
    check(
        "request r1 n=2
         worker w1
         pop w1
         submit j9
         submit j1 by=2
         submit j1 state=faulted
         submit j1 state=faulted
         submit j1
         check r1
         pop w1
         submit j2
         submit j2
         submit j2 state=faulted
         submit j2 by=2",
        "w1: r1 j1 sd 150s
         j9: InvalidJobID
         j1: WrongCredentials
         j1: reward 0 faulted
         j1: reward 0
         j1: AbortedGen
         r1: finished=0 processing=0 restarted=1 waiting=2 place=1 wait=16 kudos=3 possible
         w1: r1 j2 sd 150s
         j2: reward 7.6 2→mint 8.6 mint→1 7.6
         j2: DuplicateGen
         j2: DuplicateGen
         j2: WrongCredentials",
    );
}

#[test]
fn one_of_two_submits_wins_and_a_failed_one_can_be_repeated() {
    check(
        "request r1
         worker w1
         pop w1
         submit j1 hold
         submit j1
         submit j1 state=faulted
         at 1500
         tick
         check r1
         unsettle j1
         submit j1 hold
         confirm j1
         confirm j1
         submit j1
         check r1",
        "w1: r1 j1 sd 150s
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         j1: DuplicateGen
         j1: DuplicateGen
         tick:
         r1: finished=0 processing=1 restarted=0 waiting=0 place=0 wait=0 kudos=3 possible
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         j1: confirmed done
         j1: confirmed
         j1: DuplicateGen
         r1: finished=1 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=12 done",
    );
}

#[test]
fn released_jobs_never_were() {
    check(
        "request r1 n=2
         worker w1 amount=2
         pop w1
         release j1
         release j1
         submit j1
         check r1
         pop w1
         submit j2
         release j2
         show",
        "w1: r1 j1 j2 sd 150s
         j1: InvalidJobID
         r1: finished=0 processing=1 restarted=0 waiting=1 place=1 wait=16 kudos=3 possible
         w1: r1 j3 sd 150s
         j2: reward 7.6 2→mint 8.6 mint→1 7.6
         request 1 user=2 open=0/2 running=1 finished=1 faults=0 kudos=11.6 expires=1200s
         job of 1 by w1 model=sd kudos=7.6×100% 0s…150s done
         job of 1 by w1 model=sd kudos=7.6×100% 0s…150s running
         worker w1 seen=0s uptime=0s done=1 dropped=0 (0 lately) kudos=7.6+0",
    );
}

#[test]
fn jobs_time_out_and_three_faults_are_the_end() {
    check(
        "request r1 n=2
         worker w1
         pop w1
         at 149
         tick
         at 150
         tick
         submit j1
         pop w1
         submit j2 state=faulted
         pop w1
         submit j3 state=faulted
         check r1
         tick
         check r1
         pop w1
         submit j3",
        "w1: r1 j1 sd 150s
         tick:
         tick: j1 faulted (open 2)
         j1: AbortedGen
         w1: r1 j2 sd 150s
         j2: reward 0 faulted
         w1: r1 j3 sd 150s
         j3: reward 0 faulted
         r1: finished=0 processing=0 restarted=3 waiting=2 place=1 wait=16 kudos=3 possible
         tick: r1 faulted
         r1: finished=0 processing=0 restarted=3 waiting=0 place=0 wait=0 kudos=3 done faulted possible
         w1: nothing
         j3: AbortedGen",
    );
}

#[test]
fn faults_do_not_make_a_running_request_done() {
    check(
        "request r1 n=2
         worker w1
         pop w1
         submit j1 state=faulted
         pop w1
         submit j2 state=faulted
         pop w1
         submit j3
         check r1
         pop w1
         check r1",
        "w1: r1 j1 sd 150s
         j1: reward 0 faulted
         w1: r1 j2 sd 150s
         j2: reward 0 faulted
         w1: r1 j3 sd 150s
         j3: reward 7.6 2→mint 8.6 mint→1 7.6
         r1: finished=1 processing=0 restarted=2 waiting=1 place=1 wait=0 kudos=12 possible
         w1: r1 j4 sd 150s
         r1: finished=1 processing=1 restarted=2 waiting=0 place=0 wait=0 kudos=12 possible",
    );
}

#[test]
fn cancelled_requests_let_running_jobs_end() {
    check(
        "request r1 n=3
         worker w1
         pop w1
         check r1
         cancel r1
         cancel r1
         check r1
         pop w1
         submit j1
         check r1
         request r2
         pop w1
         cancel r2
         submit j2 state=faulted
         check r2
         cancel r9",
        "w1: r1 j1 sd 150s
         r1: finished=0 processing=1 restarted=0 waiting=2 place=1 wait=24 kudos=3 possible
         r1: asked=0 done=false
         r1: asked=0 done=false
         r1: finished=0 processing=1 restarted=0 waiting=0 place=0 wait=8 kudos=3 possible
         w1: nothing
         j1: reward 7.6 2→mint 8.6 mint→1 7.6
         r1: finished=1 processing=0 restarted=0 waiting=0 place=0 wait=0 kudos=12 done possible
         w1: r2 j2 sd 150s
         r2: asked=0 done=false
         j2: reward 0 faulted
         r2: finished=0 processing=0 restarted=1 waiting=0 place=0 wait=0 kudos=3 done possible
         r9: unknown",
    );
}

#[test]
fn requests_expire_after_the_last_touch() {
    check(
        "request r1 n=2
         request r2 extra_slow_workers
         worker w1
         worker w2 extra_slow
         at 1000
         pop w1
         pop w2
         at 1200
         tick
         at 2199
         tick
         at 2200
         tick
         check r1
         submit j1
         at 4600
         tick
         show",
        "w1: r1 j1 sd 150s
         w2: r2 j2 sd 450s
         tick: j1 faulted (open 2)
         tick: j2 faulted (open 1)
         tick: r1 expired (0 dropped)
         r1: unknown
         j1: InvalidJobID
         tick: r2 expired (0 dropped)
         worker w1 seen=1000s uptime=0s done=0 dropped=1 (1 lately) kudos=0+0
         worker w2 seen=1000s uptime=0s done=0 dropped=1 (1 lately) kudos=0+0",
    );
}

#[test]
fn expiry_drops_what_runs_without_blame() {
    check(
        "request r1 size=3072x3072 steps=500
         worker w1 max_pixels=9437184
         pop w1
         at 1200
         tick
         submit j1
         show",
        "w1: r1 j1 sd 36030s
         tick: r1 expired (1 dropped)
         j1: InvalidJobID
         worker w1 seen=0s uptime=0s done=0 dropped=0 (0 lately) kudos=0+0",
    );
}

#[test]
fn paused_workers_are_kept_busy() {
    check(
        "request r1 n=2
         worker w1
         checkin w1
         pause w1
         check r1
         pop w1
         check r1
         submit j1
         submit j1
         pop w1
         request r2 user=1
         pop w1
         submit j2
         at 1
         check r1
         show
         at 150
         tick
         show",
        "w1: store
         r1: finished=0 processing=0 restarted=0 waiting=2 place=1 wait=16 kudos=3
         w1: r1 j1 sd 150s
         r1: finished=0 processing=0 restarted=0 waiting=2 place=1 wait=16 kudos=3
         j1: reward 7.6
         j1: DuplicateGen
         w1: nothing
         w1: r2 j2 sd 150s
         j2: reward 7.6 1→mint 8.6 mint→1 7.6
         r1: finished=0 processing=0 restarted=0 waiting=2 place=1 wait=0 kudos=3
         request 1 user=2 open=2/2 running=0 finished=0 faults=0 kudos=3 expires=1200s
         request 2 user=1 open=0/1 running=0 finished=1 faults=0 kudos=11.6 expires=1200s
         decoy of 1 by w1 model=sd kudos=7.6×100% 0s…150s done
         job of 2 by w1 model=sd kudos=7.6×100% 0s…150s done
         worker w1 seen=0s uptime=0s done=1 dropped=0 (0 lately) kudos=7.6+0 paused decoys=1
         tick:
         request 1 user=2 open=2/2 running=0 finished=0 faults=0 kudos=3 expires=1200s
         request 2 user=1 open=0/1 running=0 finished=1 faults=0 kudos=11.6 expires=1200s
         job of 2 by w1 model=sd kudos=7.6×100% 0s…150s done
         worker w1 seen=0s uptime=0s done=1 dropped=0 (0 lately) kudos=7.6+0 paused decoys=1",
    );
}

#[test]
fn a_request_is_never_real_to_a_worker_that_got_a_decoy_of_it() {
    check(
        "request r1 n=3
         request r2 n=3
         request r3 n=3
         worker w1
         worker w2
         checkin w1
         pause w1
         pop w1
         pop w1
         pop w1
         work w1
         pop w1
         pop w2",
        "w1: store
         w1: r1 j1 sd 150s
         w1: r2 j2 sd 150s
         w1: r3 j3 sd 150s
         w1: nothing
         w2: r1 j4 sd 150s",
    );
}
