//! Only what nodes and files prove is offered.

use std::collections::BTreeSet;
use std::time::Duration;

use ordu_engine::remote::comfyui::{ComfyEngine, ComfyOptions};
use ordu_engine::{
    Baseline, Capabilities, ControlType, Embedding, Engine, EngineError, Feature, ImageTask, Lora,
    PostProcessor, Sampler,
};
use serde_json::{Value, json};

use super::{Stage, options, stock};

fn names(capabilities: &Capabilities) -> Vec<&str> {
    capabilities
        .models
        .iter()
        .map(|model| model.name.as_str())
        .collect()
}

/// Checklist: Cascade: both stage files required, otherwise the model is not offered.
#[test]
fn models_are_those_whose_files_are_there() {
    let stage = Stage::new();
    let capabilities = stage.engine.capabilities();
    let expected = [
        "sd15", "inpaint", "sd2", "sdxl", "cascade", "flux", "qwen", "z", "custom", "somebody",
    ];
    assert_eq!(names(&capabilities), expected);
    let unlisted = capabilities.model("somebody").unwrap();
    assert_eq!(unlisted.baseline, Baseline::StableDiffusionXl);
    let about = stage.engine.about();
    assert_eq!((about.version.as_str(), about.vram), ("0.3.60", 1 << 30));
}

#[test]
fn a_full_comfyui_can_do_everything() {
    let capabilities = Stage::new().engine.capabilities();
    assert_eq!(
        capabilities.features.len(),
        14,
        "{:?}",
        capabilities.features
    );
    assert_eq!(capabilities.samplers, Sampler::all().collect::<Vec<_>>());
    assert_eq!(capabilities.controls, ControlType::all().collect());
    assert_eq!(capabilities.post_processors, PostProcessor::all().collect());
}

#[test]
fn what_is_missing_is_told_by_what_it_would_make_possible() {
    assert_eq!(Stage::new().engine.missing(), Vec::<String>::new());
    let mut info = stock::full();
    let classes = info.as_object_mut().unwrap();
    classes.remove("SeamlessTile");
    classes.remove("M-LSDPreprocessor");
    let missing = Stage::with(info).engine.missing();
    assert_eq!(
        missing,
        [
            "tiling: node `SeamlessTile` missing",
            "ControlNet: its files or helper nodes are missing",
            "control maps: its files or helper nodes are missing",
        ]
    );
}

#[test]
fn what_has_no_node_or_file_is_not_offered() {
    let mut info = stock::full();
    for class in [
        "SeamlessTile",
        "LayeredDiffusionApply",
        "Image Remove Background (rembg)",
        "M-LSDPreprocessor",
    ] {
        info.as_object_mut().unwrap().remove(class);
    }
    for class in ["ControlNetLoader", "DiffControlNetLoader"] {
        let listed = &mut info[class]["input"]["required"]["control_net_name"][0];
        listed
            .as_array_mut()
            .unwrap()
            .retain(|file| !file.as_str().unwrap().contains("sdxl"));
    }
    info["KSampler"]["input"]["required"]["sampler_name"][0] = json!(["euler", "ddim"]);
    let capabilities = Stage::with(info).engine.capabilities();
    let missing = [
        Feature::Tiling,
        Feature::Transparent,
        Feature::QrCodeXl,
        Feature::ControlNet,
        Feature::ControlMap,
    ];
    for feature in missing {
        assert!(!capabilities.features.contains(&feature), "{feature:?}");
    }
    assert!(capabilities.features.contains(&Feature::QrCode));
    assert!(!capabilities.controls.contains(&ControlType::Hough));
    assert!(capabilities.controls.contains(&ControlType::Canny));
    assert!(
        !capabilities
            .post_processors
            .contains(&PostProcessor::StripBackground)
    );
    assert_eq!(capabilities.samplers, [Sampler::Euler, Sampler::Ddim]);
}

#[test]
fn without_files_there_is_nothing_to_offer() {
    let capabilities = Stage::with(stock::recorded()).engine.capabilities();
    assert_eq!(capabilities.models, []);
    assert_eq!(capabilities.controls, BTreeSet::new());
    assert_eq!(capabilities.post_processors, BTreeSet::new());
    for odd in [json!({}), json!([]), json!({"KSampler": 1})] {
        assert_eq!(Stage::with(odd).engine.capabilities().models, []);
    }
}

#[test]
fn canny_runs_on_the_core_node_if_it_has_to() {
    let mut info = stock::full();
    info.as_object_mut()
        .unwrap()
        .remove("CannyEdgePreprocessor");
    let stage = Stage::with(info);
    assert!(
        stage
            .engine
            .capabilities()
            .controls
            .contains(&ControlType::Canny)
    );
}

#[test]
fn a_dead_comfyui_offers_nothing_and_comes_back() {
    let stage = Stage::new();
    let engine = ComfyEngine::open(
        &stage.comfy.url(),
        stage.runtime.handle().clone(),
        ComfyOptions {
            probe_interval: Duration::ZERO,
            ..options()
        },
    )
    .unwrap();
    assert_eq!(names(&engine.capabilities()).len(), 10);
    stage.comfy.set_dead(true);
    assert_eq!(engine.capabilities().models, []);
    stage.comfy.set_dead(false);
    // It is left alone for a millisecond.
    while engine.capabilities().models.is_empty() {}
}

#[test]
fn a_dead_comfyui_is_left_alone_for_a_while() {
    let stage = Stage::new();
    let options = ComfyOptions {
        retry_first: Duration::from_hours(1),
        retry_last: Duration::from_hours(1),
        ..options()
    };
    stage.comfy.set_dead(true);
    let handle = stage.runtime.handle().clone();
    let engine = ComfyEngine::open(&stage.comfy.url(), handle, options).unwrap();
    assert_eq!(engine.capabilities().models, []);
    stage.comfy.set_dead(false);
    let error = engine
        .run(ImageTask::new("sd15", "x"), &ordu_engine::Quiet)
        .unwrap_err();
    assert!(error.to_string().contains("tried again soon"), "{error}");
}

#[test]
fn addresses_that_are_none_are_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for address in ["", "127.0.0.1:8188", "ftp://x", "http://", "\0"] {
        let opened = ComfyEngine::open(address, runtime.handle().clone(), ComfyOptions::default());
        assert!(opened.is_err(), "{address}");
    }
}

#[test]
fn a_lora_that_was_just_fetched_is_found() {
    let stage = Stage::new();
    assert!(!stage.engine.capabilities().models.is_empty());
    let mut info = stock::full();
    info["LoraLoader"]["input"]["required"]["lora_name"][0] = json!(["new_7.safetensors"]);
    stage.comfy.set_info(info);
    let mut task = ImageTask::new("sd15", "x");
    task.loras = vec![Lora {
        file: "new_7.safetensors".to_owned(),
        model: 1.0,
        clip: 1.0,
    }];
    stage.run(task).unwrap();
    let graph = stage.comfy.state().graphs.pop().unwrap().to_string();
    assert!(graph.contains("new_7.safetensors"), "{graph}");
}

/// A task with a LoRA and a learned word.
fn adorned(lora: &str, word: &str) -> ImageTask {
    let mut task = ImageTask::new("sd15", "x");
    task.loras = vec![Lora {
        file: lora.to_owned(),
        model: 1.0,
        clip: 1.0,
    }];
    task.embeddings = vec![Embedding {
        name: word.to_owned(),
        strength: 1.0,
        place: None,
    }];
    task
}

#[test]
fn an_add_on_that_is_not_there_is_named_and_nothing_is_drawn() {
    let stage = Stage::new();
    stage.comfy.state().embeddings = Some(vec!["sub/7".to_owned()]);
    let lacks = |task: ImageTask| match stage.run(task) {
        Err(EngineError::NoAddOn { name }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        lacks(adorned("absent.safetensors", "7")),
        "absent.safetensors"
    );
    assert_eq!(lacks(adorned("one.safetensors", "8")), "8");
    assert!(stage.comfy.state().graphs.is_empty());
    let mut task = adorned("absent.safetensors", "7");
    assert!(task.leave_out("absent.safetensors") && !task.leave_out("absent.safetensors"));
    stage.run(task).unwrap();
}

#[test]
fn add_ons_are_offered_only_when_what_jobs_bring_gets_there() {
    let offered = |info: Value, words: Option<&str>| {
        let proof = Some("proof".to_owned());
        let stage = Stage::opened(info, ComfyOptions { proof, ..options() });
        stage.comfy.state().embeddings = words.map(|word| vec![word.to_owned()]);
        let features = stage.engine.capabilities().features;
        [Feature::Lora, Feature::TextualInversion].map(|feature| features.contains(&feature))
    };
    let mut shared = stock::full();
    shared["LoraLoader"]["input"]["required"]["lora_name"][0] = json!(["horde/proof.safetensors"]);
    assert_eq!(offered(stock::full(), Some("other")), [false, false]);
    assert_eq!(offered(shared.clone(), None), [true, false]);
    assert_eq!(offered(shared, Some("proof")), [true, true]);
}

#[test]
fn a_model_is_called_as_it_is_learnt_to_be_called() {
    let stage = Stage::opened(
        stock::full(),
        ComfyOptions {
            models: Vec::new(),
            ..options()
        },
    );
    assert!(
        stage.engine.capabilities().model("sd15").is_some(),
        "by its file"
    );
    let mut model = stock::models().remove(0);
    model.name = "Stable Diffusion".to_owned();
    stage.engine.learn(vec![model]);
    let capabilities = stage.engine.capabilities();
    assert!(capabilities.model("sd15").is_none());
    let learnt = capabilities.model("Stable Diffusion").unwrap();
    assert_eq!(learnt.baseline, Baseline::StableDiffusion1);
}
