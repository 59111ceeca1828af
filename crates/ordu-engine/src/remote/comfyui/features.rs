//! What a ComfyUI can do: only what its nodes and files prove.

use std::collections::BTreeSet;

use super::models::Stocked;
use super::pipelines;
use super::shelf::Shelf;
use crate::{Baseline, Capabilities, ControlType, Feature, Limits, PostProcessor, Sampler};

/// Classes without which nothing can be drawn.
const CORE: &[&str] = &["KSampler", "CLIPTextEncode", "VAEDecode", "PreviewImage"];

/// Classes that each feature needs besides those of [`CORE`].
const NEEDS: &[(Feature, &[&str])] = &[
    (
        Feature::Img2Img,
        &[
            "LoadImage",
            "LoadImageMask",
            "VAEEncode",
            "SetLatentNoiseMask",
            "RepeatLatentBatch",
        ],
    ),
    (
        Feature::Inpainting,
        &[
            "LoadImage",
            "LoadImageMask",
            "VAEEncodeForInpaint",
            "RepeatLatentBatch",
        ],
    ),
    (Feature::Tiling, &["SeamlessTile", "MakeCircularVAE"]),
    (Feature::ClipSkip, &["CLIPSetLastLayer"]),
    (Feature::HiresFix, &["LatentUpscale"]),
    (
        Feature::ControlNet,
        &["ControlNetApplyAdvanced", "LoadImage"],
    ),
    (Feature::ControlMap, &["LoadImage"]),
    (Feature::Lora, &["LoraLoader"]),
    (Feature::TextualInversion, &[]),
    (Feature::QrCode, QR),
    (Feature::QrCodeXl, QR),
    (
        Feature::Transparent,
        &["LayeredDiffusionApply", "LayeredDiffusionDecodeRGBA"],
    ),
    (
        Feature::CascadeTwoPass,
        &["StableCascade_StageC_VAEEncode", "ImageScale"],
    ),
    (
        Feature::Remix,
        &[
            "unCLIPCheckpointLoader",
            "CLIPVisionEncode",
            "unCLIPConditioning",
            "LoadImage",
        ],
    ),
];

const QR: &[&str] = &[
    "KSamplerAdvanced",
    "ControlNetApplyAdvanced",
    "LatentCompositeMasked",
    "LoadImage",
    "LoadImageMask",
    "VAEEncode",
    "RepeatLatentBatch",
];

/// What each feature is called by people who look for what is missing.
fn name(feature: Feature) -> &'static str {
    match feature {
        Feature::Img2Img => "img2img",
        Feature::Inpainting => "inpainting",
        Feature::Tiling => "tiling",
        Feature::ClipSkip => "clip skip",
        Feature::HiresFix => "hires fix",
        Feature::ControlNet => "ControlNet",
        Feature::ControlLines => "ControlNet by lines",
        Feature::ControlMap => "control maps",
        Feature::Lora => "LoRA",
        Feature::TextualInversion => "textual inversion",
        Feature::QrCode => "QR codes",
        Feature::QrCodeXl => "QR codes with SDXL",
        Feature::Transparent => "transparent pictures",
        Feature::CascadeTwoPass => "Stable Cascade in two passes",
        Feature::Remix => "remix",
    }
}

/// Nodes and files that are not there, by what they would make possible.
pub(super) fn missing(models: &[Stocked], shelf: &Shelf) -> Vec<String> {
    let absent = |classes: &[&str]| -> Vec<String> {
        let absent = classes.iter().filter(|class| !shelf.has(class));
        absent.map(|class| format!("node `{class}`")).collect()
    };
    let core = absent(CORE);
    if !core.is_empty() {
        return vec![format!("pictures: {} missing", core.join(", "))];
    }
    let mut found = Vec::new();
    for (feature, classes) in NEEDS {
        let nodes = absent(classes);
        if !nodes.is_empty() {
            found.push(format!("{}: {} missing", name(*feature), nodes.join(", ")));
        } else if !is_proven(*feature, models, shelf) {
            let name = name(*feature);
            found.push(format!("{name}: its files or helper nodes are missing"));
        }
    }
    let steps = PostProcessor::all().filter(|step| !pipelines::can_post_process(shelf, *step));
    let steps: Vec<_> = steps.map(PostProcessor::name).collect();
    if !steps.is_empty() {
        let steps = steps.join(", ");
        found.push(format!(
            "post-processing: nodes or files missing for {steps}"
        ));
    }
    found
}

/// Whether the files are there that a feature needs beside its nodes.
fn is_proven(feature: Feature, models: &[Stocked], shelf: &Shelf) -> bool {
    let steers = |kind: &ControlType| {
        pipelines::annotator(shelf, *kind).is_some()
            && pipelines::control_weights(shelf, *kind).is_some()
    };
    let mut classic = ControlType::all().filter(|kind| kind.is_classic());
    match feature {
        // A horde gives any of the classic types to whoever knows how to steer.
        Feature::ControlNet => classic.all(|kind| steers(&kind)),
        Feature::ControlMap => classic.all(|kind| pipelines::annotator(shelf, kind).is_some()),
        Feature::QrCode => pipelines::qr_weights(shelf, Baseline::StableDiffusion1).is_some(),
        Feature::QrCodeXl => pipelines::qr_weights(shelf, Baseline::StableDiffusionXl).is_some(),
        Feature::CascadeTwoPass | Feature::Remix => {
            let mut families = models.iter().map(|model| model.info.baseline);
            families.any(|family| family == Baseline::StableCascade)
        }
        Feature::Transparent => pipelines::knows_alpha(shelf),
        _ => true,
    }
}

/// What this shelf and these models make possible.
pub(super) fn capabilities(models: &[Stocked], shelf: &Shelf, limits: Limits) -> Capabilities {
    if !shelf.has_all(CORE) {
        return Capabilities::nothing(limits);
    }
    let controls: BTreeSet<ControlType> = ControlType::all()
        .filter(|kind| pipelines::annotator(shelf, *kind).is_some())
        .filter(|kind| pipelines::control_weights(shelf, *kind).is_some())
        .collect();
    let features = NEEDS.iter().filter(|(_, classes)| shelf.has_all(classes));
    let features = features
        .map(|need| need.0)
        .filter(|feature| is_proven(*feature, models, shelf));
    let known = shelf.choices("KSampler", "sampler_name");
    let runs = |sampler: &Sampler| {
        known
            .iter()
            .any(|name| name == super::samplers::sampler(*sampler))
    };
    Capabilities {
        models: models.iter().map(|model| model.info.clone()).collect(),
        samplers: Sampler::all().filter(runs).collect(),
        limits,
        features: features.collect(),
        post_processors: PostProcessor::all()
            .filter(|step| pipelines::can_post_process(shelf, *step))
            .collect(),
        controls,
    }
}
