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

/// What this shelf and these models make possible.
pub(super) fn capabilities(models: &[Stocked], shelf: &Shelf, limits: Limits) -> Capabilities {
    if !shelf.has_all(CORE) {
        return Capabilities::nothing(limits);
    }
    let controls: BTreeSet<ControlType> = ControlType::all()
        .filter(|kind| pipelines::annotator(shelf, *kind).is_some())
        .filter(|kind| pipelines::control_weights(shelf, *kind).is_some())
        .collect();
    let proven = |feature: Feature| match feature {
        // A horde gives any of the classic types to whoever knows how to steer.
        Feature::ControlNet => {
            let mut classic = ControlType::all().filter(|kind| kind.is_classic());
            classic.all(|kind| controls.contains(&kind))
        }
        Feature::ControlMap => {
            let mut classic = ControlType::all().filter(|kind| kind.is_classic());
            classic.all(|kind| pipelines::annotator(shelf, kind).is_some())
        }
        Feature::QrCode => pipelines::qr_weights(shelf, Baseline::StableDiffusion1).is_some(),
        Feature::QrCodeXl => pipelines::qr_weights(shelf, Baseline::StableDiffusionXl).is_some(),
        Feature::CascadeTwoPass | Feature::Remix => {
            let mut families = models.iter().map(|model| model.info.baseline);
            families.any(|family| family == Baseline::StableCascade)
        }
        Feature::Transparent => pipelines::knows_alpha(shelf),
        _ => true,
    };
    let features = NEEDS.iter().filter(|(_, classes)| shelf.has_all(classes));
    let features = features
        .map(|need| need.0)
        .filter(|feature| proven(*feature));
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
