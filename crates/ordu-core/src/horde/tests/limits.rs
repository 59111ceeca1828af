//! Every limit of the horde at its border and one step beyond.

use ordu_api::ReturnCode;
use ordu_api::image::ImagePop;

use super::world::{World, answers, reference, worker_id};
use crate::horde::{MAX_LAPSES, MAX_MODELS, Offer};
use crate::{Kudos, Role, Roles, Standing};

fn owner(roles: Roles) -> Standing {
    Standing {
        user: ordu_api::UserId::new(5).unwrap(),
        alias: "me#5".to_owned(),
        roles,
        kudos: Kudos::ZERO,
    }
}

fn offer(roles: Roles, change: impl FnOnce(&mut ImagePop)) -> Result<Offer, ReturnCode> {
    let mut pop = ImagePop {
        models: vec!["sd".to_owned()],
        ..ImagePop::default()
    };
    change(&mut pop);
    let offer = Offer::new(worker_id("w1"), &owner(roles), &pop.into(), &reference());
    offer.map_err(|refusal| refusal.code)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("model {number}")).collect()
}

#[test]
fn a_tick_takes_bounded_bites() {
    let mut world = World::new();
    for number in 1..=MAX_LAPSES + 1 {
        world.run(&format!("request r{number}"));
    }
    world.run("at 1200");
    assert_eq!(world.horde.tick(world.now).len(), MAX_LAPSES);
    assert_eq!(world.horde.tick(world.now).len(), 1);
    assert_eq!(world.horde.tick(world.now).len(), 0);
}

#[test]
fn a_pop_compares_two_thousand_prompts_with_refused_words() {
    let pop_behind = |refused: usize| {
        let mut lines: Vec<String> = (1..=refused)
            .map(|number| format!("request r{number} prompt=dog"))
            .collect();
        lines.push("request r9000".to_owned());
        lines.push("worker w1 blacklist=dog\npop w1".to_owned());
        answers(&lines.join("\n"))
    };
    assert_eq!(pop_behind(1999), "w1: r9000 j1 sd 150s\n");
    assert_eq!(pop_behind(2000), "w1: nothing blacklist=2000\n");
}

#[test]
fn three_hundred_models_count() {
    let customizer = Roles::NONE.with(Role::Customizer);
    let models = |count| offer(customizer, |pop| pop.models = names(count)).unwrap();
    assert_eq!(models(MAX_MODELS).models().len(), MAX_MODELS);
    assert_eq!(models(MAX_MODELS + 1).models().len(), MAX_MODELS);
}

#[test]
fn two_hundred_refused_words_of_fifteen_characters_count() {
    let refused = |words: Vec<String>| {
        let offer = offer(Roles::NONE, |pop| pop.blacklist = words).unwrap();
        offer.declared.image().unwrap().blacklist.clone()
    };
    assert_eq!(refused(names(200)).len(), 200);
    assert_eq!(refused(names(201)).len(), 200);
    let words = [
        "a".repeat(15),
        "b".repeat(16),
        "C".to_owned(),
        String::new(),
    ];
    let cut = ["a".repeat(15), "b".repeat(15), "c".to_owned()];
    assert_eq!(refused(words.to_vec()), cut);
}

#[test]
fn models_are_accepted_by_what_their_owner_may() {
    let of = |roles, models: &[&str]| {
        let models = models.iter().map(|model| (*model).to_owned()).collect();
        let offer = offer(roles, |pop| pop.models = models)?;
        Ok(offer.models().to_vec())
    };
    let special = Roles::NONE.with(Role::Special);
    let customizer = Roles::NONE.with(Role::Customizer);
    assert_eq!(
        of(Roles::NONE, &["sd", "mine", "sd"]),
        Ok(vec!["sd".to_owned()])
    );
    assert_eq!(of(Roles::NONE, &["mine"]), Err(ReturnCode::BadRequest));
    assert_eq!(of(Roles::NONE, &[]), Err(ReturnCode::BadRequest));
    assert_eq!(of(customizer, &["mine"]), Ok(vec!["mine".to_owned()]));
    assert_eq!(of(special, &["x::me#5"]), Ok(vec!["x::me#5".to_owned()]));
    assert_eq!(of(special, &["x::you#6"]), Err(ReturnCode::BadRequest));
    assert_eq!(of(Roles::NONE, &["x::me#5"]), Err(ReturnCode::BadRequest));
}

#[test]
fn preferred_users_are_aliases() {
    let first = |alias: &str| {
        let aliases = vec![alias.to_owned()];
        let offer = offer(Roles::NONE, |pop| pop.priority_usernames = aliases)?;
        Ok(offer.priority_users.len())
    };
    assert_eq!(first("a#7"), Ok(1));
    assert_eq!(first("a#b#7"), Ok(1));
    assert_eq!(first("a#x"), Ok(0));
    for wrong in ["a", "a#", ""] {
        assert_eq!(
            first(wrong),
            Err(ReturnCode::InvalidPriorityUsername),
            "{wrong}"
        );
    }
}

#[test]
fn workers_look_for_these_words() {
    let pop = ImagePop {
        models: vec!["mine".to_owned()],
        ..ImagePop::default()
    };
    let refused = Offer::new(
        worker_id("w1"),
        &owner(Roles::NONE),
        &pop.into(),
        &reference(),
    );
    let message = refused.unwrap_err().message;
    assert!(
        message.contains("we cannot accept workers serving"),
        "{message}"
    );
    let message = crate::horde::unknown_job("x").message;
    assert!(message.contains("Processing Job with ID") && message.contains("does not exist"));
}
