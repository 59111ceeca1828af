//! What a ComfyUI can do with a picture without drawing one.

use std::sync::Arc;

use image::DynamicImage;
use ordu_engine::{AlchemyEngine, Answer, EngineError, PictureForms, Quiet};
use serde_json::{Map, Value, json};

use super::{Stage, options, stock};
use ordu_engine::remote::comfyui::ComfyEngine;

fn forms_of(stage: &Stage) -> PictureForms {
    let handle = stage.runtime.handle().clone();
    let engine = ComfyEngine::open(&stage.comfy.url(), handle, options()).unwrap();
    PictureForms::new(Arc::new(engine))
}

fn asked(forms: &PictureForms, form: &str, options: &Value) -> Result<(u32, u32), EngineError> {
    let picture = DynamicImage::new_rgba8(100, 50);
    let options: Map<String, Value> = options.as_object().cloned().unwrap_or_default();
    match forms.answer(form, &picture, &options, &Quiet)? {
        Answer::Picture(made) => Ok((made.width(), made.height())),
        Answer::Words(words) => panic!("{words}"),
    }
}

#[test]
fn every_post_processor_is_a_form_that_needs_no_model() {
    let stage = Stage::new();
    let forms = forms_of(&stage);
    let known = forms.forms();
    assert_eq!(known.len(), 17, "{known:?}");
    assert!(forms.shares_device());
    for (form, size) in [
        ("RealESRGAN_x4plus", (400, 200)),
        ("RealESRGAN_x2plus", (200, 100)),
        ("GFPGAN", (100, 50)),
        ("strip_background", (100, 50)),
    ] {
        assert_eq!(asked(&forms, form, &json!({})).unwrap(), size, "{form}");
    }
    let graphs = Value::from(std::mem::take(&mut stage.comfy.state().graphs)).to_string();
    for drawing in ["CheckpointLoader", "KSampler", "VAEDecode"] {
        assert!(!graphs.contains(drawing), "{graphs}");
    }
    asked(&forms, "CodeFormers", &json!({"facefixer_strength": 7})).unwrap();
    let graph = stage.comfy.state().graphs.pop().unwrap().to_string();
    assert!(graph.contains(r#""codeformer_fidelity":1.0"#), "{graph}");
}

#[test]
fn a_map_is_a_form_and_its_kind_an_option() {
    let stage = Stage::new();
    let forms = forms_of(&stage);
    let size = asked(&forms, "annotation", &json!({"control_type": "hed"})).unwrap();
    assert_eq!(size, (100, 50));
    let graph = stage.comfy.state().graphs.pop().unwrap().to_string();
    assert!(graph.contains("HEDPreprocessor"), "{graph}");
    for odd in [
        json!({}),
        json!({"control_type": 7}),
        json!({"control_type": "x"}),
    ] {
        let refused = asked(&forms, "annotation", &odd);
        assert!(matches!(refused, Err(EngineError::BadTask { .. })), "{odd}");
    }
}

#[test]
fn what_nobody_knows_is_no_form() {
    let stage = Stage::with(stock::recorded());
    let forms = forms_of(&stage);
    // Without weights, all that the recorded ComfyUI can do is look.
    assert_eq!(forms.forms(), ["annotation"]);
    for form in ["caption", "GFPGAN", "", "\0"] {
        let refused = asked(&forms, form, &json!({}));
        assert!(
            matches!(refused, Err(EngineError::BadTask { .. })),
            "{form}"
        );
    }
}
