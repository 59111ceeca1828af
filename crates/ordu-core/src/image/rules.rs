//! The rules for image requests as a list, in the order in which the protocol applies them.
//!
//! # Source
//! `generation.md` § 2.1 (codes), § 3.3 (order).

use ordu_api::ReturnCode;
use ordu_api::image::{ImageParams, ImageRequest, POST_PROCESSORS, SourceProcessing};

use super::UPSCALERS;
use crate::asking::{self, Verdict, refuse_if};
use crate::model_reference::{BETA_COMPARISON, Baseline, ModelReference};
use crate::{Role, Standing};

/// The most words of a prompt.
const MAX_WORDS: usize = 7500;
/// The most LoRAs of a request.
const MAX_LORAS: usize = 5;
/// The most textual inversions of a request.
const MAX_TEXTUAL_INVERSIONS: usize = 20;

/// What the rules look at.
pub(super) struct Subject<'a> {
    pub(super) request: &'a ImageRequest,
    pub(super) params: &'a ImageParams,
    pub(super) standing: &'a Standing,
    pub(super) reference: &'a ModelReference,
}

type Rule = fn(&Subject<'_>) -> Verdict;

/// The rules that come before the look at workers.
pub(super) const FIRST: &[Rule] = &[no_nul, extra_image_count, some_prompt];

/// The rules that come after the look at the prompt, and before that at who hides during a raid.
pub(super) const MODELS: &[Rule] = &[
    hires_fix,
    loras,
    textual_inversions,
    transparent_models,
    qr_code_models,
    prompt_size,
    models_are_models,
    upscalers,
    cfg_decimals,
    special_models,
];

/// The other rules.
pub(super) const REST: &[Rule] = &[
    special_field,
    mask_has_source,
    control_type,
    transparent_alone,
    remix,
    extra_texts,
    source_required,
    beta_comparison,
];

/// Applies rules in their order.
pub(super) fn apply(rules: &[Rule], subject: &Subject<'_>) -> Verdict {
    rules.iter().try_for_each(|rule| rule(subject))
}

impl Subject<'_> {
    fn has_baseline(&self, wanted: impl Fn(Baseline) -> bool) -> bool {
        self.request
            .models
            .iter()
            .any(|model| wanted(self.reference.baseline(model)))
    }

    fn names_model(&self, name: &str) -> bool {
        self.request.models.iter().any(|model| model == name)
    }

    fn is_remix(&self) -> bool {
        self.request.source_processing == SourceProcessing::Remix
    }

    fn is_transparent(&self) -> bool {
        self.params.transparent == Some(true)
    }
}

/// Whether a family knows the classic control and transparency layers.
const fn is_classic(baseline: Baseline) -> bool {
    matches!(
        baseline,
        Baseline::StableDiffusion1 | Baseline::StableDiffusionXl
    )
}

fn no_nul(subject: &Subject<'_>) -> Verdict {
    let request = subject.request;
    let params = subject.params;
    let options = [&request.proxied_account, &request.webhook, &params.seed];
    let loras = params.loras.iter();
    let loras = loras.flat_map(|lora| std::iter::once(&lora.name).chain(&lora.inject_trigger));
    let extras = params.extra_texts.iter();
    let extras = extras.flat_map(|extra| extra.text.iter().chain(&extra.reference));
    let texts = std::iter::once(&request.prompt)
        .chain(&request.models)
        .chain(options.into_iter().flatten())
        .chain(loras)
        .chain(params.tis.iter().map(|inversion| &inversion.name))
        .chain(extras);
    asking::no_nul(texts.map(String::as_str))
}

fn extra_image_count(subject: &Subject<'_>) -> Verdict {
    asking::extra_image_count(subject.request.extra_source_images.len(), subject.standing)
}

fn some_prompt(subject: &Subject<'_>) -> Verdict {
    refuse_if(
        subject.request.prompt.is_empty(),
        ReturnCode::MissingPrompt,
        "The prompt is empty, say what to paint",
    )
}

fn hires_fix(subject: &Subject<'_>) -> Verdict {
    refuse_if(
        subject.params.hires_fix == Some(true) && subject.has_baseline(Baseline::is_large),
        ReturnCode::HiResMismatch,
        "`hires_fix` does not work with Flux, Qwen and Z-Image models",
    )
}

fn loras(subject: &Subject<'_>) -> Verdict {
    let loras = &subject.params.loras;
    refuse_if(
        loras.len() > MAX_LORAS,
        ReturnCode::TooManyLoras,
        format!("{} LoRAs, {MAX_LORAS} are allowed", loras.len()),
    )?;
    let wrong = loras
        .iter()
        .find(|lora| lora.is_version && !lora.name.bytes().all(|byte| byte.is_ascii_digit()));
    refuse_if(
        wrong.is_some(),
        ReturnCode::BadLoraVersion,
        "A LoRA with `is_version` is named by the digits of a version id",
    )
}

fn textual_inversions(subject: &Subject<'_>) -> Verdict {
    let count = subject.params.tis.len();
    refuse_if(
        count > MAX_TEXTUAL_INVERSIONS,
        ReturnCode::TooManyTIs,
        format!("{count} textual inversions, {MAX_TEXTUAL_INVERSIONS} are allowed"),
    )
}

fn transparent_models(subject: &Subject<'_>) -> Verdict {
    refuse_if(
        subject.is_transparent() && subject.has_baseline(|baseline| !is_classic(baseline)),
        ReturnCode::InvalidTransparencyModel,
        "`transparent` works with Stable Diffusion 1 and XL models only",
    )
}

fn qr_code_models(subject: &Subject<'_>) -> Verdict {
    refuse_if(
        subject.params.workflow.is_some() && subject.has_baseline(|baseline| !is_classic(baseline)),
        ReturnCode::ControlNetWorkflowMismatch,
        "`qr_code` works with Stable Diffusion 1 and XL models only",
    )
}

fn prompt_size(subject: &Subject<'_>) -> Verdict {
    let words = subject.request.prompt.split_whitespace().count();
    refuse_if(
        words > MAX_WORDS,
        ReturnCode::InvalidPromptSize,
        format!("The prompt has {words} words, {MAX_WORDS} are allowed"),
    )
}

fn models_are_models(subject: &Subject<'_>) -> Verdict {
    let post_processor = subject
        .request
        .models
        .iter()
        .find(|model| POST_PROCESSORS.contains(&model.as_str()));
    refuse_if(
        post_processor.is_some(),
        ReturnCode::UnexpectedModelName,
        "A post-processor is no model, name it in `post_processing`",
    )
}

fn upscalers(subject: &Subject<'_>) -> Verdict {
    let is_upscaler = |name: &&String| UPSCALERS.contains(&name.as_str());
    let count = subject
        .params
        .post_processing
        .iter()
        .filter(is_upscaler)
        .count();
    refuse_if(
        count > 1,
        ReturnCode::TooManyUpscalers,
        format!("{count} upscalers, 1 is allowed"),
    )
}

fn cfg_decimals(subject: &Subject<'_>) -> Verdict {
    let Some(cfg_scale) = subject.params.cfg_scale else {
        return Ok(());
    };
    refuse_if(
        !cfg_scale.is_finite(),
        ReturnCode::BadCFGNumber,
        "`cfg_scale` is not a number",
    )?;
    let hundredths = cfg_scale * 100.0;
    refuse_if(
        (hundredths - hundredths.round()).abs() > 1e-6,
        ReturnCode::BadCFGDecimals,
        format!("`cfg_scale` is {cfg_scale}, two decimals are allowed"),
    )
}

fn special_models(subject: &Subject<'_>) -> Verdict {
    let request = subject.request;
    let special = request
        .models
        .iter()
        .filter(|model| model.contains("horde_special"));
    for model in special {
        let owner = model.split_once("::").map(|(_, alias)| alias);
        refuse_if(
            !subject.standing.roles.has(Role::Special),
            ReturnCode::SpecialModelNeedsSpecialUser,
            "Special models are for special users only",
        )?;
        refuse_if(
            owner.is_none(),
            ReturnCode::SpecialMissingUsername,
            "A special model is named `horde_special::<alias>`",
        )?;
        refuse_if(
            owner != Some(subject.standing.alias.as_str()),
            ReturnCode::SpecialForbidden,
            "This special model belongs to somebody else",
        )?;
        refuse_if(
            subject
                .params
                .special
                .as_ref()
                .is_none_or(serde_json::Map::is_empty),
            ReturnCode::SpecialMissingPayload,
            "A special model needs `params.special`",
        )?;
    }
    Ok(())
}

fn special_field(subject: &Subject<'_>) -> Verdict {
    let is_used = subject
        .params
        .special
        .as_ref()
        .is_some_and(|special| !special.is_empty());
    refuse_if(
        is_used && !subject.standing.roles.has(Role::Special),
        ReturnCode::SpecialFieldNeedsSpecialUser,
        "`params.special` is for special users only",
    )
}

fn mask_has_source(subject: &Subject<'_>) -> Verdict {
    refuse_if(
        subject.request.source_mask.is_some() && subject.request.source_image.is_none(),
        ReturnCode::SourceMaskUnnecessary,
        "`source_mask` needs a `source_image`",
    )
}

fn control_type(subject: &Subject<'_>) -> Verdict {
    let Some(control_type) = subject.params.control_type.as_deref() else {
        return Ok(());
    };
    let unknown_to_sd2 = matches!(control_type, "normal" | "mlsd" | "hough");
    refuse_if(
        unknown_to_sd2 && subject.has_baseline(|b| b == Baseline::StableDiffusion2),
        ReturnCode::ControlNetUnsupported,
        format!("`{control_type}` does not work with Stable Diffusion 2 models"),
    )?;
    refuse_if(
        subject.names_model("pix2pix"),
        ReturnCode::ControlNetUnsupported,
        "`control_type` does not work with `pix2pix`",
    )?;
    refuse_if(
        subject.request.source_image.is_none(),
        ReturnCode::ControlNetSourceMissing,
        "`control_type` needs a `source_image`",
    )?;
    refuse_if(
        subject.request.source_processing == SourceProcessing::Inpainting,
        ReturnCode::ControlNetInpaintingMismatch,
        "`control_type` does not work with inpainting",
    )?;
    let is_unfit = |baseline: Baseline| {
        baseline.is_large()
            || matches!(
                baseline,
                Baseline::StableDiffusionXl | Baseline::StableCascade
            )
    };
    refuse_if(
        subject.has_baseline(is_unfit),
        ReturnCode::ControlNetMismatch,
        "`control_type` works with Stable Diffusion 1 and 2 models only",
    )
}

fn transparent_alone(subject: &Subject<'_>) -> Verdict {
    if !subject.is_transparent() {
        return Ok(());
    }
    refuse_if(
        !subject.request.extra_source_images.is_empty(),
        ReturnCode::InvalidTransparencyImg2Img,
        "`transparent` does not work with extra source images",
    )?;
    refuse_if(
        subject.params.control_type.is_some(),
        ReturnCode::InvalidTransparencyCN,
        "`transparent` does not work with `control_type`",
    )
}

fn remix(subject: &Subject<'_>) -> Verdict {
    let elsewhere = subject.has_baseline(|baseline| baseline != Baseline::StableCascade);
    refuse_if(
        subject.is_remix() && elsewhere,
        ReturnCode::InvalidRemix,
        "`remix` works with Stable Cascade models only",
    )?;
    refuse_if(
        !subject.is_remix() && !subject.request.extra_source_images.is_empty(),
        ReturnCode::InvalidExtraSourceImages,
        "Extra source images are for `remix` only",
    )
}

fn extra_texts(subject: &Subject<'_>) -> Verdict {
    let texts = &subject.params.extra_texts;
    if subject.params.workflow.is_none() {
        return refuse_if(
            !texts.is_empty(),
            ReturnCode::InvalidExtraTexts,
            "`extra_texts` need `workflow` `qr_code`",
        );
    }
    let has_code = texts
        .iter()
        .any(|extra| extra.reference.as_deref() == Some("qr_code"));
    refuse_if(
        !has_code,
        ReturnCode::MissingExtraTexts,
        "`qr_code` needs an entry of `extra_texts` whose `reference` is `qr_code`",
    )
}

fn source_required(subject: &Subject<'_>) -> Verdict {
    if subject.request.source_image.is_some() {
        return Ok(());
    }
    let needs_source = ["Stable Diffusion 2 Depth", "pix2pix"];
    refuse_if(
        needs_source.iter().any(|model| subject.names_model(model)),
        ReturnCode::SourceImageRequiredForModel,
        "This model needs a `source_image`",
    )?;
    let is_control_model = |name: &String| {
        let model = subject.reference.get(name);
        model.is_some_and(|model| model.kind == "controlnet")
    };
    refuse_if(
        subject.request.models.iter().any(is_control_model),
        ReturnCode::UnexpectedModelName,
        "A control model needs a `source_image`",
    )
}

fn beta_comparison(subject: &Subject<'_>) -> Verdict {
    if !subject.names_model(BETA_COMPARISON) {
        return Ok(());
    }
    refuse_if(
        subject.standing.is_anonymous(),
        ReturnCode::BetaAnonForbidden,
        "The beta comparison needs a registered account",
    )?;
    refuse_if(
        subject.params.n.unwrap_or(1) < 2,
        ReturnCode::BetaComparisonFault,
        "The beta comparison needs `n` of 2",
    )
}
