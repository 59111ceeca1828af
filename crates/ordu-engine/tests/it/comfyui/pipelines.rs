//! Every pipeline on every family: the graph is what ComfyUI accepts, and comes to the right pictures.

use image::{DynamicImage, GrayImage, Luma};
use ordu_engine::{
    Control, ControlType, Embedding, EmbeddingPlace, Hires, ImageTask, Lora, Mode, PostProcessor,
    QrSpec, RemixImage, Schedule, Source, Workflow,
};
use serde_json::Value;

use super::{Notes, Stage};
use ordu_engine::Engine;

fn task(model: &str) -> ImageTask {
    ImageTask {
        width: 256,
        height: 320,
        steps: 8,
        seed: 7,
        batch: 2,
        negative_prompt: "blurry".to_owned(),
        ..ImageTask::new(model, "a (red:1.2) cat")
    }
}

fn picture() -> DynamicImage {
    DynamicImage::new_rgb8(300, 200)
}

fn source() -> Source {
    Source {
        denoising_strength: 0.5,
        ..Source::new(picture())
    }
}

fn masked() -> Source {
    Source {
        mask: Some(GrayImage::from_pixel(30, 20, Luma([255]))),
        ..source()
    }
}

type Change = fn(&mut ImageTask);

fn img2img(task: &mut ImageTask) {
    task.mode = Mode::Img2Img(source());
}

fn masked_img2img(task: &mut ImageTask) {
    task.mode = Mode::Img2Img(masked());
}

fn inpaint(task: &mut ImageTask) {
    task.mode = Mode::Inpaint(masked());
}

fn outpaint(task: &mut ImageTask) {
    let canvas = DynamicImage::new_rgba8(300, 200);
    task.mode = Mode::Outpaint(Source::new(canvas));
}

fn hires(task: &mut ImageTask) {
    (task.width, task.height) = (1152, 1088);
    task.hires = Some(Hires::default());
}

fn hires_img2img(task: &mut ImageTask) {
    hires(task);
    img2img(task);
}

fn adorned(task: &mut ImageTask) {
    task.loras = vec![lora("one.safetensors"), lora("two_22.safetensors")];
    task.embeddings = vec![Embedding {
        name: "99".to_owned(),
        strength: 1.0,
        place: Some(EmbeddingPlace::Negative),
    }];
    task.clip_skip = 2;
    task.tiling = true;
    task.schedule = Schedule::Karras;
}

fn lora(file: &str) -> Lora {
    Lora {
        file: file.to_owned(),
        model: 0.8,
        clip: 0.5,
    }
}

fn control(task: &mut ImageTask) {
    task.mode = Mode::Img2Img(source());
    task.control = Some(Control {
        kind: ControlType::Canny,
        image_is_control: false,
        return_map: false,
        strength: 1.0,
    });
}

fn control_hires(task: &mut ImageTask) {
    control(task);
    hires(task);
}

fn map(task: &mut ImageTask) {
    control(task);
    if let Some(control) = &mut task.control {
        control.return_map = true;
    }
}

fn given_map(task: &mut ImageTask) {
    control(task);
    if let Some(control) = &mut task.control {
        control.image_is_control = true;
        control.kind = ControlType::Openpose;
    }
}

fn transparent(task: &mut ImageTask) {
    task.transparent = true;
    task.loras = vec![lora("one.safetensors")];
}

fn transparent_hires(task: &mut ImageTask) {
    transparent(task);
    hires(task);
}

fn qr(task: &mut ImageTask) {
    (task.width, task.height) = (512, 576);
    let spec = QrSpec {
        finder_prompt: Some("a rose".to_owned()),
        ..QrSpec::new("https://example.com")
    };
    task.workflow = Some(Workflow::QrCode(spec));
    task.loras = vec![lora("one.safetensors")];
}

fn creative_upscale(task: &mut ImageTask) {
    img2img(task);
    task.workflow = Some(Workflow::CreativeUpscale);
}

fn remix_of<const PICTURES: usize>(task: &mut ImageTask) {
    let one = RemixImage {
        image: picture(),
        strength: 0.7,
    };
    task.mode = Mode::Remix(vec![one; PICTURES]);
}

fn plain(_: &mut ImageTask) {}

fn upscaled(task: &mut ImageTask) {
    use PostProcessor::{CodeFormers, RealEsrganX2Plus, StripBackground};
    task.post = vec![StripBackground, CodeFormers, RealEsrganX2Plus];
    task.face_strength = Some(0.8);
}

fn transparent_upscaled(task: &mut ImageTask) {
    transparent(task);
    task.post = vec![PostProcessor::GfpganV13, PostProcessor::NmkdSiax];
}

const SD: &[&str] = &["sd15", "sd2", "sdxl", "custom"];
const SD1: &[&str] = &["sd15", "custom"];
const FLOW: &[&str] = &["flux", "qwen", "z"];
const CASCADE: &[&str] = &["cascade"];
const ALL: &[&str] = &[
    "sd15", "sd2", "sdxl", "custom", "cascade", "flux", "qwen", "z",
];

const CASES: &[(&str, Change, &[&str])] = &[
    ("txt2img", plain, ALL),
    ("img2img", img2img, ALL),
    ("masked img2img", masked_img2img, SD),
    ("inpaint", inpaint, &["inpaint", "sd15", "sdxl"]),
    ("inpainting model, no source", plain, &["inpaint"]),
    ("outpaint", outpaint, SD),
    ("hires", hires, ALL),
    ("hires img2img", hires_img2img, &["sd15", "sdxl", "cascade"]),
    (
        "LoRAs, words, clip skip, tiling",
        adorned,
        &["sd15", "sdxl", "flux", "qwen", "z", "cascade"],
    ),
    ("control", control, SD1),
    ("control by a given map", given_map, SD1),
    ("control + hires", control_hires, SD1),
    ("map only", map, SD),
    ("transparent", transparent, &["sd15", "sdxl"]),
    ("transparent + hires", transparent_hires, &["sd15", "sdxl"]),
    (
        "transparent + post",
        transparent_upscaled,
        &["sd15", "sdxl"],
    ),
    ("QR code", qr, &["sd15", "sdxl"]),
    ("creative upscale", creative_upscale, SD),
    ("remix of 1", remix_of::<1>, CASCADE),
    ("remix of 2", remix_of::<2>, CASCADE),
    ("remix of 3", remix_of::<3>, CASCADE),
    ("remix of 4", remix_of::<4>, CASCADE),
    ("remix of 5", remix_of::<5>, CASCADE),
    ("remix of 6", remix_of::<6>, CASCADE),
    ("post-processing", upscaled, ALL),
    (
        "img2img + post",
        |task| {
            img2img(task);
            upscaled(task);
        },
        FLOW,
    ),
];

/// Checklist: QR: both controlnets; transparent: SD1.5 and SDXL; remix: 1 to 6 pictures.
#[test]
fn every_pipeline_is_accepted_on_every_family() {
    let stage = Stage::new();
    println!("{:<34} {:<10} nodes validates", "pipeline", "model");
    for (name, change, models) in CASES {
        for model in *models {
            let mut task = task(model);
            change(&mut task);
            let factor = ordu_engine::plan::post::factor(&task.post);
            let (size, batch) = ((task.width * factor, task.height * factor), task.batch);
            let alpha = task.transparent || task.post.contains(&PostProcessor::StripBackground);
            let made = stage
                .run(task)
                .map_err(|error| format!("{name} on {model}: {error}"));
            let made = made.unwrap();
            assert_eq!(made.len(), batch as usize, "{name} on {model}");
            for picture in &made {
                let image = &picture.image;
                assert_eq!((image.width(), image.height()), size, "{name} on {model}");
                assert_eq!(image.color().has_alpha(), alpha, "{name} on {model}");
            }
            let graph = stage.comfy.state().graphs.pop().unwrap();
            println!(
                "{name:<34} {model:<10} {:>5} yes",
                graph.as_object().unwrap().len()
            );
        }
    }
}

#[test]
fn every_control_type_makes_its_map_and_steers() {
    let stage = Stage::new();
    for kind in ControlType::all() {
        for return_map in [false, true] {
            let mut task = task("sd15");
            control(&mut task);
            (task.width, task.height, task.batch) = (64, 64, 1);
            task.control = Some(Control {
                kind,
                image_is_control: false,
                return_map,
                strength: 0.5,
            });
            let made = stage.run(task);
            assert!(made.is_ok(), "{} {return_map}: {made:?}", kind.name());
        }
    }
}

#[test]
fn every_post_processor_is_accepted() {
    let stage = Stage::new();
    for step in PostProcessor::all() {
        let mut task = task("sd15");
        (task.width, task.height) = (64, 64);
        task.post = vec![step];
        let made = stage.run(task);
        assert!(made.is_ok(), "{}: {made:?}", step.name());
    }
}

/// The graph of a task, as it was sent. Names of uploads are as random as they must be.
fn graph(model: &str, change: Change) -> Value {
    let stage = Stage::new();
    let mut task = task(model);
    change(&mut task);
    stage.engine.run(task, &Notes::default()).unwrap();
    let mut graph = stage.comfy.state().graphs.swap_remove(0);
    for node in graph.as_object_mut().unwrap().values_mut() {
        if let Some(Value::String(name)) = node["inputs"].get_mut("image") {
            let place = name.rsplit('-').next().unwrap_or_default().to_owned();
            *name = format!("ordu/[random]-{place}");
        }
    }
    graph
}

#[test]
fn graphs_stay_as_they_are() {
    let cases: [(&str, &str, Change); 6] = [
        ("hires", "sdxl", hires),
        ("control", "sd15", control),
        ("qr", "sd15", qr),
        ("cascade_two_pass", "cascade", hires),
        ("remix_of_2", "cascade", remix_of::<2>),
        ("z_image", "z", adorned),
    ];
    for (name, model, change) in cases {
        insta::assert_json_snapshot!(name, graph(model, change));
    }
}

/// Checklist: LoRA affects U-Net and CLIP in every pipeline that has them; with transparent too.
#[test]
fn loras_reach_every_sampler_and_every_encoder() {
    let changes: [(&str, Change); 6] = [
        ("sd15", adorned),
        ("sd15", qr),
        ("sdxl", transparent_hires),
        ("flux", adorned),
        ("z", adorned),
        ("sd15", |task| {
            control_hires(task);
            adorned(task);
        }),
    ];
    for (model, change) in changes {
        let graph = graph(model, change);
        let nodes = graph.as_object().unwrap();
        for (id, node) in nodes {
            let input = match node["class_type"].as_str().unwrap() {
                "KSampler" | "KSamplerAdvanced" | "CFGGuider" => "model",
                "CLIPTextEncode" => "clip",
                _ => continue,
            };
            let mut at = node["inputs"][input][0].as_str().unwrap();
            while nodes[at]["class_type"] != "LoraLoader" {
                let further = nodes[at]["inputs"][input][0].as_str();
                at = further.unwrap_or_else(|| panic!("{model}: no LoRA before node {id}"));
            }
        }
    }
}

#[test]
fn a_qr_code_that_does_not_scan_is_finished_once_more() {
    let stage = Stage::new();
    let mut task = task("sd15");
    qr(&mut task);
    let made = stage.run(task.clone()).unwrap();
    assert!(made.iter().all(|picture| picture.scans == Some(false)));
    let graphs = std::mem::take(&mut stage.comfy.state().graphs);
    let [first, second] = graphs.as_slice() else {
        panic!("{} graphs", graphs.len());
    };
    let different: Vec<_> = first
        .as_object()
        .unwrap()
        .iter()
        .filter(|(id, node)| second[id.as_str()] != **node)
        .collect();
    let [(_, finish)] = different.as_slice() else {
        panic!("{different:?}");
    };
    assert_eq!(finish["class_type"], "ControlNetApplyAdvanced");
    assert_eq!(finish["inputs"]["strength"], 1.5);

    // The last upload is the whole symbol.
    stage.comfy.plan(super::server::Plan::Copy);
    let made = stage.run(task).unwrap();
    assert!(made.iter().all(|picture| picture.scans == Some(true)));
    assert_eq!(stage.comfy.state().graphs.len(), 1);
}
