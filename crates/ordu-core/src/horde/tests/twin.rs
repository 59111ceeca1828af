//! Pictures that are made once more.

use super::world::{World, request_id};
use crate::horde::{Effect, Outcome, Owner, Work};
use crate::ledger::Account;
use crate::likeness::{Likeness, Pixels};
use crate::{Kudos, Role, Roles};

fn likeness() -> Likeness {
    let pixels: Pixels = [[7; 3]; 32 * 32];
    Likeness::of(&pixels)
}

/// A world in which a trusted worker, `w1`, waits, and an untrusted one, `w2`, has `j1` of `r1`.
fn world(request: &str) -> World {
    let mut world = World::new();
    for line in [
        "worker w1 owner=1 models=sd,sdxl",
        "worker w2 owner=2 models=sd amount=2",
        "checkin w1",
        &format!("request r1 user=2 {request}"),
        "pop w2",
    ] {
        world.run(line);
    }
    world
}

/// The request that makes `j1` once more.
fn twin_of(world: &mut World) -> Option<crate::horde::Request> {
    let (job, id, now) = (world.job("j1"), request_id("r9"), world.now);
    world.horde.twin(id, job, (5, likeness()), now)
}

#[test]
fn a_twin_asks_for_the_same_and_only_of_trusted_workers() {
    let mut world = world("models=sdxl,sd steps=12 size=640x512");
    assert!(world.horde.can_be_repeated(world.job("j1"), Roles::NONE));
    let trusted = Roles::NONE.with(Role::Trusted);
    assert!(!world.horde.can_be_repeated(world.job("j1"), trusted));
    let twin = twin_of(&mut world).unwrap();
    let Work::Image(spec) = &twin.work else {
        panic!("a twin is a picture");
    };
    assert_eq!(spec.models, ["sd"]);
    assert_eq!(
        (spec.seed, spec.n, spec.steps, spec.width),
        (Some(5), 1, 12, 640)
    );
    assert!(spec.trusted_workers);
    assert_eq!(twin.activation(), None);
    let text = serde_json::to_string(&twin).unwrap();
    let again: crate::horde::Request = serde_json::from_str(&text).unwrap();
    assert_eq!(again, twin);
}

#[test]
fn a_twin_is_paid_for_by_the_mint() {
    let mut world = world("models=sd");
    let twin = twin_of(&mut world).unwrap();
    let now = world.now;
    let slots = world
        .horde
        .open_slots(twin.requester.user, twin.work.kind(), &[]);
    world.horde.enqueue(twin.clone(), now);
    let after = world
        .horde
        .open_slots(twin.requester.user, twin.work.kind(), &[]);
    assert_eq!(slots, after, "nobody's limit shrinks");
    let given = world.try_pop("w1").unwrap();
    assert_eq!(given[0].request, twin.id);
    let by = Owner {
        user: given[0].jobs[0].owner,
        roles: Roles::NONE.with(Role::Trusted),
    };
    let outcome = Outcome::Delivered {
        content: crate::horde::Content::Uploaded,
        seed: 5,
        censored: false,
        metadata: Vec::new(),
    };
    let job = given[0].jobs[0].id;
    let settlement = world.horde.submit(job, by, outcome, now).unwrap();
    let Effect::Delivered(delivery) = &settlement.effect else {
        panic!("it was delivered");
    };
    assert_eq!(delivery.charged, Kudos::ZERO);
    assert!(settlement.reward > Kudos::ZERO);
    let entries = &delivery.event.entries;
    assert!(!entries.is_empty() && entries.iter().all(|entry| entry.from == Account::Mint));
    world.horde.confirm(job);
    assert!(
        !world.horde.can_be_repeated(job, Roles::NONE),
        "a twin has no twin"
    );
}

#[test]
fn what_words_and_seed_do_not_tell_is_not_repeated() {
    let mut batch = world("models=sd n=2");
    assert!(!batch.horde.can_be_repeated(batch.job("j1"), Roles::NONE));
    batch.run("worker w1 owner=1 models=sdxl");
    batch.run("checkin w1");
    assert_eq!(
        twin_of(&mut batch),
        None,
        "nobody who is trusted has the model"
    );
    let texts = {
        let mut world = World::new();
        for line in [
            "worker w5 text owner=2 models=7b",
            "request r1 text models=7b",
            "pop w5",
        ] {
            world.run(line);
        }
        world
    };
    assert!(!texts.horde.can_be_repeated(texts.job("j1"), Roles::NONE));
}
