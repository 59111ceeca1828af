//! Why nobody takes a request.

use ordu_api::explanation::Explanation;
use proptest::prelude::*;

use super::world::{World, request_id};
use crate::horde::explain::edits::edits;
use crate::horde::{Examined, Request, Work};

/// What the horde says about `r1` after these lines.
fn explain(script: &str) -> Explanation {
    let mut world = World::new();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        world.run(line);
    }
    explanation(&mut world)
}

fn explanation(world: &mut World) -> Explanation {
    let question = world.horde.question(request_id("r1")).unwrap();
    let mut inquiry = question.prepare();
    while world.horde.examine(&mut inquiry, world.now) == Examined::Partly {}
    inquiry.explain()
}

/// The message, then a line for each model.
#[track_caller]
fn check(script: &str, expected: &[&str]) {
    let explanation = explain(script);
    let mut lines = vec![explanation.message];
    for model in explanation.models {
        let obstacles = model.obstacles.iter();
        let obstacles: Vec<String> = obstacles
            .map(|group| format!("{}×{}", group.workers, group.reasons.join("+")))
            .collect();
        lines.push(format!(
            "{} {}/{} {}",
            model.name.as_deref().unwrap_or("any"),
            model.able,
            model.workers,
            obstacles.join(" ")
        ));
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    assert_eq!(lines, expected);
}

#[test]
fn nobody_there_and_nothing_waiting() {
    check(
        "request r1 models=sd",
        &[
            "No worker of its kind is online, so no change would help",
            "sd 0/0",
        ],
    );
    check(
        "worker w1 models=sd
         request r1 models=sd
         pop w1",
        &["Nothing of it waits for a worker"],
    );
}

#[test]
fn who_can_take_it_is_counted_by_model() {
    check(
        "worker w1 models=sd
         worker w2 models=sd,sdxl
         worker w3 text models=7b
         checkin w1
         checkin w2
         checkin w3
         request r1 models=sd,sdxl",
        &[
            "2 workers could take it: it waits for its turn",
            "sd 2/2",
            "sdxl 1/1",
        ],
    );
}

#[test]
fn groups_name_what_keeps_them_away() {
    check(
        "worker w1 models=sd max_pixels=300000
         worker w2 models=sd max_pixels=300000 lora=false
         worker w3 models=sd max_pixels=300000
         worker w4 models=sd
         worker w5 models=sd
         worker w6 models=sd blacklist=dog
         checkin w1
         checkin w2
         checkin w3
         checkin w4
         checkin w5
         checkin w6
         maintenance w4
         pause w5
         request r1 models=sd size=1024x1024 loras=a prompt=hotdog",
        &[
            "No worker that is online can take it as it is. size 1024x1024 → 512x512: 2 workers",
            "sd 0/6 2×max_pixels 1×lora+max_pixels 1×blacklist 1×maintenance 1×paused",
        ],
    );
}

#[test]
fn the_lightest_change_comes_first() {
    // Waiting for slow workers costs less than a smaller picture.
    check(
        "worker w1 models=sd extra_slow
         worker w2 models=sd max_pixels=300000
         checkin w1
         checkin w2
         request r1 models=sd size=576x576",
        &[
            "No worker that is online can take it as it is. extra_slow_workers: true: 1 worker",
            "sd 0/2 1×performance 1×max_pixels",
        ],
    );
    check(
        "worker w1 models=sd limit_steps
         checkin w1
         request r1 models=sd steps=45",
        &[
            "No worker that is online can take it as it is. steps 45 → 30: 1 worker",
            "sd 0/1 1×step_count",
        ],
    );
    check(
        "worker w1 models=sd
         checkin w1
         request r1 models=sdxl",
        &[
            "No worker that is online can take it as it is. any model: 1 worker",
            "sdxl 0/0",
        ],
    );
}

#[test]
fn two_changes_where_one_is_too_few() {
    let script = "worker w1 models=sd max_pixels=300000 limit_steps
         checkin w1
         request r1 models=sd steps=60 size=768x768";
    check(
        script,
        &[
            "No worker that is online can take it as it is. steps 60 → 30, and size 768x768 → \
             512x512: 1 worker",
            "sd 0/1 1×max_pixels+step_count",
        ],
    );
    let change = explain(script).change.unwrap();
    let patch = serde_json::Value::Object(change.patch).to_string();
    assert_eq!(patch, r#"{"params":{"height":512,"steps":30,"width":512}}"#);
}

#[test]
fn sometimes_nothing_helps() {
    check(
        "worker w1 models=sd blacklist=dog
         checkin w1
         request r1 models=sd prompt=dog",
        &[
            "No worker that is online can take it, and nothing small would help",
            "sd 0/1 1×blacklist",
        ],
    );
}

#[test]
fn texts_and_forms_are_explained_too() {
    check(
        "worker w1 text models=7b context=1024
         checkin w1
         request r1 text models=7b context=4096",
        &[
            "No worker that is online can take it as it is. max_context_length 4096 → 1024: 1 \
             worker",
            "7b 0/1 1×max_context_length",
        ],
    );
    check(
        "worker w1 alchemy forms=caption
         worker w2 alchemy forms=nsfw tiles=1
         checkin w1
         checkin w2
         request r1 alchemy forms=caption,nsfw,palette tiles=2",
        &[
            "1 worker could take it: it waits for its turn. Nobody could with `nsfw`, `palette`",
            "caption 1/1",
            "nsfw 0/1 1×max_tiles",
            "palette 0/0",
        ],
    );
}

#[test]
fn a_text_about_pictures_needs_somebody_who_sees() {
    let asked = "request r1 text models=7b extra_images=1";
    check(
        &format!("worker w1 text models=7b\ncheckin w1\n{asked}"),
        &[
            "No worker that is online can take it as it is. no pictures: 1 worker",
            "7b 0/1 1×vision",
        ],
    );
    check(
        &format!("worker w1 text models=7b capabilities=vision\ncheckin w1\n{asked}"),
        &["1 worker could take it: it waits for its turn", "7b 1/1"],
    );
}

#[test]
fn the_owner_is_served_in_maintenance() {
    check(
        "worker w1 models=sd
         checkin w1
         maintenance w1
         request r1 user=1 models=sd",
        &["1 worker could take it: it waits for its turn", "sd 1/1"],
    );
}

/// Workers that are particular in many ways.
fn worker() -> impl Strategy<Value = String> {
    let models = prop_oneof![Just("sd"), Just("sdxl"), Just("sd,flux"), Just("sd,sdxl")];
    let pixels = prop_oneof![Just(262_144), Just(400_000), Just(4_194_304)];
    let words = proptest::sample::subsequence(
        vec![
            "nsfw=false",
            "lora=false",
            "limit_steps",
            "owner=2",
            "extra_slow",
            "blacklist=dog",
        ],
        0..4,
    );
    (models, pixels, words).prop_map(|(models, pixels, words)| {
        format!("models={models} max_pixels={pixels} {}", words.join(" "))
    })
}

fn request() -> impl Strategy<Value = String> {
    let models = prop_oneof![
        Just("sd"),
        Just("sdxl"),
        Just("flux"),
        Just("qwen"),
        Just("")
    ];
    let size = prop_oneof![Just("512x512"), Just("1024x1024"), Just("576x1024")];
    let words = proptest::sample::subsequence(
        vec![
            "loras=a",
            "trusted_workers",
            "prompt=dog",
            "slow_workers=false",
            "workers=w1",
        ],
        0..4,
    );
    (models, size, 1..70_u32, words).prop_map(|(models, size, steps, words)| {
        let words = words.join(" ");
        format!("models={models} size={size} steps={steps} {words}")
    })
}

/// The work after the edits that a change names.
fn edited(work: &Work, change: &str) -> Work {
    let mut work = work.clone();
    for step in change.split(", and ") {
        let edit = edits(&work)
            .into_iter()
            .find(|edit| edit.change().message == step);
        work = edit.unwrap().work;
    }
    work
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is proposed does help, what is lighter does not, and if nothing is proposed no edit
    /// would do.
    #[test]
    fn proposals_are_right(
        workers in proptest::collection::vec(worker(), 1..4),
        request in request(),
    ) {
        let mut world = World::new();
        for (number, worker) in (1..).zip(&workers) {
            world.run(&format!("worker w{number} {worker}"));
            world.run(&format!("checkin w{number}"));
        }
        world.run(&format!("request r1 {request}"));
        let explanation = explanation(&mut world);
        let asked = world.horde.request(request_id("r1")).unwrap().clone();
        let now = world.now;
        let mut helps = |work: Work| {
            let request = Request { work, ..asked.clone() };
            world.horde.has_valid_worker(&request, now)
        };
        prop_assert_eq!(explanation.able > 0, helps(asked.work.clone()));
        prop_assert!(explanation.able == 0 || explanation.change.is_none());
        let Some(change) = explanation.change else {
            if explanation.able == 0 {
                for edit in edits(&asked.work) {
                    prop_assert!(!helps(edit.work.clone()), "{:?}", edit);
                }
            }
            return Ok(());
        };
        prop_assert!(helps(edited(&asked.work, &change.message)), "{}", change.message);
        for edit in edits(&asked.work) {
            if edit.change().message == change.message {
                break;
            }
            prop_assert!(!helps(edit.work.clone()), "{:?}", edit);
        }
    }
}
