//! A ComfyUI that dies, lies, is slow or refuses: an error that says so, never a panic.

use std::time::Duration;

use ordu_engine::remote::comfyui::{ComfyEngine, ComfyOptions};
use ordu_engine::{Engine, EngineError, ImageTask, Mode, PostProcessor, QrSpec, Source, Workflow};
use serde_json::json;

use super::server::Plan;
use super::{Notes, Stage, options, stock};

type Change = fn(&mut ImageTask);

fn task() -> ImageTask {
    ImageTask {
        steps: 4,
        ..ImageTask::new("sd15", "x")
    }
}

#[test]
fn progress_and_previews_are_told_over_all_samplers() {
    // The socket alone tells: on a busy machine the history would be asked before all of it is heard.
    let deaf = ComfyOptions {
        poll_interval: Duration::from_hours(1),
        ..options()
    };
    let stage = Stage::opened(stock::full(), deaf);
    let notes = Notes::default();
    let mut task = task();
    (task.width, task.height) = (768, 768);
    task.hires = Some(ordu_engine::Hires::default());
    stage.engine.run(task, &notes).unwrap();
    let steps = notes.steps.lock().unwrap().clone();
    // Four steps and, by the table, four more: the least is six, but never more than the first.
    assert_eq!(
        steps.iter().map(|step| step.0).collect::<Vec<_>>(),
        (1..=8).collect::<Vec<_>>()
    );
    assert!(steps.iter().all(|step| step.1 == 8));
    assert_eq!(*notes.previews.lock().unwrap(), 8);
}

#[test]
fn without_a_socket_the_history_is_asked() {
    let stage = Stage::new();
    for plan in [Plan::NoSocket, Plan::DropSocket] {
        stage.comfy.plan(plan);
        assert_eq!(stage.run(task()).unwrap().len(), 1, "{plan:?}");
    }
}

#[test]
fn lies_and_failures_are_errors_that_say_so() {
    let stage = Stage::new();
    for (plan, expected) in [
        (Plan::Fail, "the cat sat on the card"),
        (Plan::OutOfMemory, "CUDA out of memory"),
        (Plan::WrongSize, "a picture of 256x512, not 512x512"),
        (Plan::NoPicture, "0 pictures, not 1"),
        (Plan::JunkPicture, "a picture cannot be decoded"),
        (Plan::JunkHistory, "0 pictures, not 1"),
        (Plan::JunkPrompt, "a graph was answered with 200"),
    ] {
        stage.comfy.plan(plan);
        let error = stage.fails(task());
        assert!(error.contains(expected), "{plan:?}: {error}");
    }
    let freed = stage
        .comfy
        .state()
        .posted
        .iter()
        .filter(|(route, _)| route == "free")
        .count();
    assert_eq!(freed, 1, "only want of memory frees it");
}

#[test]
fn a_comfyui_that_dies_in_the_middle_is_unreachable() {
    let stage = Stage::new();
    assert!(!stage.engine.capabilities().models.is_empty());
    stage.comfy.plan(Plan::Die);
    let error = stage.run(task()).unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error}");
    assert_eq!(stage.engine.capabilities().models, []);
}

#[test]
fn a_cancelled_job_is_interrupted_there_too() {
    let stage = Stage::new();
    stage.comfy.plan(Plan::Hang);
    let notes = Notes {
        stop_at_first: true,
        ..Notes::default()
    };
    let error = stage.engine.run(task(), &notes).unwrap_err();
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    let posted: Vec<String> = stage
        .comfy
        .state()
        .posted
        .iter()
        .map(|post| post.0.clone())
        .collect();
    assert_eq!(posted, ["queue", "interrupt", "history"]);
    assert_eq!(
        stage.comfy.state().posted[1].1,
        json!({"prompt_id": "graph-1"})
    );
}

#[test]
fn a_job_of_somebody_else_is_not_interrupted() {
    let stage = Stage::new();
    stage.comfy.plan(Plan::JunkHistory);
    drop(stage.run(task()));
    let posted = stage.comfy.state().posted.clone();
    assert!(
        posted.iter().all(|(route, _)| route != "interrupt"),
        "{posted:?}"
    );
}

#[test]
fn a_job_that_stalls_is_given_up() {
    let stage = Stage::new();
    stage.comfy.plan(Plan::Hang);
    let options = ComfyOptions {
        stall_timeout: Duration::from_millis(200),
        ..options()
    };
    let handle = stage.runtime.handle().clone();
    let engine = ComfyEngine::open(&stage.comfy.url(), handle, options).unwrap();
    let error = engine
        .run(task(), &Notes::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no progress"), "{error}");
}

#[test]
fn a_refused_graph_names_node_and_reason() {
    let stage = Stage::new();
    assert!(!stage.engine.capabilities().models.is_empty());
    let mut info = stock::full();
    info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = json!([]);
    stage.comfy.set_info(info);
    let error = stage.fails(task());
    assert!(error.contains("node 1 `CheckpointLoaderSimple`"), "{error}");
    assert!(error.contains("sd15.safetensors"), "{error}");
}

#[test]
fn what_it_cannot_do_is_refused_without_asking() {
    let mut info = stock::full();
    for class in [
        "SeamlessTile",
        "LayeredDiffusionApply",
        "Image Remove Background (rembg)",
        "OpenposePreprocessor",
    ] {
        info.as_object_mut().unwrap().remove(class);
    }
    let stage = Stage::with(info);
    let changes: [(&str, Change); 7] = [
        ("SeamlessTile", |task| task.tiling = true),
        ("LayeredDiffusionApply", |task| task.transparent = true),
        ("strip_background", |task| {
            task.post = vec![PostProcessor::StripBackground];
        }),
        ("steps", |task| task.steps = 0),
        ("pixels", |task| task.width = 0),
        ("guidance", |task| task.cfg_scale = f32::NAN),
        ("no QR code fits", |task| {
            (task.width, task.height) = (64, 64);
            task.workflow = Some(Workflow::QrCode(QrSpec::new("x")));
        }),
    ];
    for (word, change) in changes {
        let mut task = task();
        change(&mut task);
        let error = stage.run(task).unwrap_err();
        assert!(matches!(error, EngineError::BadTask { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = stage.run(ImageTask::new("absent", "x")).unwrap_err();
    assert!(matches!(error, EngineError::UnknownModel { .. }), "{error}");
    assert_eq!(stage.comfy.state().graphs.len(), 0);
}

#[test]
fn nothing_of_a_job_stays_in_the_history() {
    let stage = Stage::new();
    let mut task = task();
    task.mode = Mode::Img2Img(Source::new(image::DynamicImage::new_rgb8(8, 8)));
    stage.run(task).unwrap();
    assert!(stage.comfy.state().history.is_empty());
}
