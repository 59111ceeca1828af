//! What a price is made of.
//!
//! A price is no sum: a model or a source image makes everything dearer. So a plain request grows
//! into the one that is asked about, one step after the other, and each item is what its step adds.
//! So the items always add up to the price.
//!
//! # Source
//! `platform.md` § 4; `observed.md` 13 (say which model was assumed).

use crate::Kudos;
use crate::alchemy::AlchemySpec;
use crate::image::ImageSpec;
use crate::model_reference::ModelReference;
use crate::pricing::{self, image};
use crate::text::TextSpec;
use crate::text_models::TextModels;

/// A part of a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is for: a member of the request where there is one.
    pub name: &'static str,
    /// Which of several, or how much of it; may be empty.
    pub detail: String,
    /// What it adds, less than nothing if it makes the rest cheaper.
    pub amount: Kudos,
}

/// Charged for a result and for a request on top of what is made.
const TAX: Kudos = Kudos::new(2);

/// Collects what each step adds.
#[derive(Debug, Default)]
struct Steps {
    items: Vec<Item>,
    so_far: Kudos,
}

impl Steps {
    /// The next step leads to this total. What adds nothing is left out.
    fn reach(&mut self, name: &'static str, detail: impl Into<String>, total: Kudos) {
        let amount = total - self.so_far;
        self.so_far = total;
        if amount != Kudos::ZERO {
            let detail = detail.into();
            self.items.push(Item {
                name,
                detail,
                amount,
            });
        }
    }
}

/// What a request for pictures costs.
pub fn image(spec: &ImageSpec, reference: &ModelReference) -> Vec<Item> {
    let mut steps = Steps::default();
    let mut grown = ImageSpec::default();
    grown.models.clear();
    let plain = image::total(&grown, 1);
    let detail = format!("{}x{}, {} steps", grown.width, grown.height, grown.steps);
    steps.reach("drawing", detail, plain - TAX);
    steps.reach("tax", "", plain);
    grow_drawing(&mut steps, &mut grown, spec);
    grow_additions(&mut steps, &mut grown, spec);
    grown.slow_workers = spec.slow_workers;
    steps.reach("slow_workers", "false", image::total(&grown, 1));
    grown.worker_blacklist = spec.worker_blacklist;
    steps.reach("worker_blacklist", "true", image::total(&grown, 1));
    // Whatever this list forgets still counts.
    let one = ImageSpec {
        n: 1,
        ..spec.clone()
    };
    steps.reach("other", "", image::total(&one, 1));
    let estimate = image::estimate(spec, reference);
    let model = estimate.model.as_deref().unwrap_or("any");
    let detail = format!("{model} × {}", estimate.multiplier);
    steps.reach("models", detail, image::total(&one, estimate.multiplier));
    steps.reach("n", spec.n.to_string(), estimate.total);
    steps.items
}

/// How it is drawn.
fn grow_drawing(steps: &mut Steps, grown: &mut ImageSpec, spec: &ImageSpec) {
    (grown.width, grown.height) = (spec.width, spec.height);
    let size = format!("{}x{}", spec.width, spec.height);
    steps.reach("size", size, image::total(grown, 1));
    grown.steps = spec.steps;
    steps.reach("steps", spec.steps.to_string(), image::total(grown, 1));
    grown.sampler_name.clone_from(&spec.sampler_name);
    grown.karras = spec.karras;
    let sampler = spec.sampler_name.as_str();
    steps.reach("sampler_name", sampler, image::total(grown, 1));
    grown.cfg_scale = spec.cfg_scale;
    let cfg_scale = spec.cfg_scale.to_string();
    steps.reach("cfg_scale", cfg_scale, image::total(grown, 1));
    grown.source_image.clone_from(&spec.source_image);
    grown.source_mask.clone_from(&spec.source_mask);
    grown.source_processing = spec.source_processing;
    grown.denoising_strength = spec.denoising_strength;
    steps.reach("source_image", "", image::total(grown, 1));
    grown.control_type.clone_from(&spec.control_type);
    let control = spec.control_type.as_deref().unwrap_or_default();
    steps.reach("control_type", control, image::total(grown, 1));
    grown.hires_fix = spec.hires_fix;
    steps.reach("hires_fix", "", image::total(grown, 1));
}

/// What comes on top of it.
fn grow_additions(steps: &mut Steps, grown: &mut ImageSpec, spec: &ImageSpec) {
    for name in &spec.post_processing {
        grown.post_processing.push(name.clone());
        steps.reach("post_processing", name, image::total(grown, 1));
    }
    grown.loras.clone_from(&spec.loras);
    let loras = spec.loras.len().to_string();
    steps.reach("loras", loras, image::total(grown, 1));
    grown.tis.clone_from(&spec.tis);
    let inversions = spec.tis.len().to_string();
    steps.reach("tis", inversions, image::total(grown, 1));
}

/// What a request for texts costs.
pub fn text(spec: &TextSpec, models: &TextModels) -> Vec<Item> {
    let total = |spec: &TextSpec| pricing::text::full_price(spec, models);
    let mut steps = Steps::default();
    let mut grown = TextSpec {
        models: Vec::new(),
        n: 1,
        max_length: spec.max_length,
        ..TextSpec::default()
    };
    let plain = total(&grown);
    let detail = format!("{} tokens", spec.max_length);
    steps.reach("max_length", detail, plain - TAX);
    steps.reach("tax", "", plain);
    grown.max_context_length = spec.max_context_length;
    let context = format!("{} tokens", spec.max_context_length);
    steps.reach("max_context_length", context, total(&grown));
    grown.models.clone_from(&spec.models);
    let model = match spec.models.as_slice() {
        [only] => only.clone(),
        several => format!("the dearest of {}", several.len()),
    };
    steps.reach("models", model, total(&grown));
    steps.reach("n", spec.n.to_string(), total(spec));
    steps.items
}

/// What a request for forms costs.
pub fn alchemy(spec: &AlchemySpec) -> Vec<Item> {
    let mut steps = Steps::default();
    let mut worth = Kudos::ZERO;
    for form in &spec.forms {
        worth += pricing::alchemy::form_kudos(&form.name, spec.tiles);
        steps.reach("forms", &form.name, worth);
    }
    let forms = format!("{} forms", spec.forms.len());
    steps.reach("tax", forms, pricing::alchemy::full_price(spec));
    steps.items
}

#[cfg(test)]
mod tests {
    use ordu_api::alchemy::Form;
    use ordu_api::image::{CONTROL_TYPES, Lora, POST_PROCESSORS, SAMPLERS};
    use proptest::prelude::*;

    use super::*;

    fn sum(items: &[Item]) -> Kudos {
        items.iter().map(|item| item.amount).sum()
    }

    fn shown(items: &[Item]) -> Vec<String> {
        let show = |item: &Item| format!("{} {} {}", item.name, item.detail, item.amount);
        items.iter().map(show).collect()
    }

    fn reference() -> ModelReference {
        let document =
            r#"{"flux": {"baseline": "flux_1"}, "sd": {"baseline": "stable diffusion 1"}}"#;
        let text = TextModels::from_json(r#"{"70b": {"parameters": 70e9}}"#).unwrap();
        ModelReference::from_json(document).unwrap().with_text(text)
    }

    fn lora() -> Lora {
        Lora {
            name: "a".to_owned(),
            model: 1.0,
            clip: 1.0,
            inject_trigger: None,
            is_version: false,
        }
    }

    #[test]
    fn each_thing_is_an_item_in_the_order_of_the_request() {
        let spec = ImageSpec {
            width: 1024,
            steps: 50,
            post_processing: vec!["RealESRGAN_x4plus".to_owned()].into(),
            loras: vec![lora(), lora()].into(),
            slow_workers: false,
            models: vec!["sd".to_owned(), "flux".to_owned()],
            n: 3,
            ..ImageSpec::default()
        };
        let items = image(&spec, &reference());
        let names: Vec<&str> = items.iter().map(|item| item.name).collect();
        assert_eq!(
            names,
            [
                "drawing",
                "tax",
                "size",
                "steps",
                "post_processing",
                "loras",
                "slow_workers",
                "models",
                "n"
            ]
        );
        let model = items.iter().find(|item| item.name == "models").unwrap();
        assert_eq!(model.detail, "flux × 8");
        assert_eq!(sum(&items), image::estimate(&spec, &reference()).total);
    }

    #[test]
    fn a_plain_picture_has_hardly_any_items() {
        let spec = ImageSpec {
            models: vec!["sd".to_owned()],
            ..ImageSpec::default()
        };
        let items = shown(&image(&spec, &reference()));
        assert_eq!(items.len(), 2, "{items:?}");
        assert_eq!(items[1], "tax  2");
    }

    #[test]
    fn forms_are_items() {
        let form = |name: &str| Form {
            name: name.to_owned(),
            payload: None,
        };
        let spec = AlchemySpec {
            forms: ["caption", "GFPGAN"].map(form).to_vec(),
            tiles: 4,
            slow_workers: true,
            ..AlchemySpec::default()
        };
        let items = alchemy(&spec);
        assert_eq!(
            shown(&items),
            ["forms caption 1", "forms GFPGAN 12", "tax 2 forms 4"]
        );
    }

    fn picture() -> impl Strategy<Value = ImageSpec> {
        let side = (1..48_u32).prop_map(|side| side * 64);
        let post = proptest::sample::subsequence(POST_PROCESSORS.to_vec(), 0..4);
        let control = proptest::option::of(proptest::sample::select(CONTROL_TYPES.to_vec()));
        let models = proptest::sample::subsequence(vec!["sd", "flux", "a [SDXL]"], 0..3);
        let sampler = proptest::sample::select(SAMPLERS.to_vec());
        let switches = proptest::collection::vec(any::<bool>(), 5);
        (
            (side.clone(), side, 1..100_u32, 1..20_u32, 0..6_usize),
            (post, control, models, sampler),
            switches,
            0.0..30.0_f64,
        )
            .prop_map(
                |(numbers, (post, control, models, sampler), on, cfg_scale)| {
                    let own = |names: Vec<&str>| -> Vec<String> {
                        names.into_iter().map(str::to_owned).collect()
                    };
                    let (width, height, steps, n, loras) = numbers;
                    ImageSpec {
                        width,
                        height,
                        steps,
                        n,
                        cfg_scale,
                        loras: vec![lora(); loras].into(),
                        post_processing: own(post).into(),
                        control_type: control.map(str::to_owned).into(),
                        models: own(models),
                        sampler_name: sampler.to_owned(),
                        hires_fix: on[0],
                        slow_workers: on[1],
                        worker_blacklist: on[2],
                        karras: on[3],
                        source_image: on[4].then(|| "x".to_owned()).into(),
                        ..ImageSpec::default()
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn items_of_pictures_add_up(spec in picture()) {
            let items = image(&spec, &reference());
            prop_assert_eq!(sum(&items), image::estimate(&spec, &reference()).total);
            prop_assert!(items.iter().all(|item| item.name != "other"), "{:?}", items);
        }

        #[test]
        fn items_of_texts_add_up(
            max_length in 16..4096_u32,
            max_context_length in 80..1_048_576_u32,
            n in 1..20_u32,
            models in proptest::sample::subsequence(vec!["70b", "unknown"], 0..3),
        ) {
            let spec = TextSpec {
                max_length,
                max_context_length,
                n,
                models: models.into_iter().map(str::to_owned).collect(),
                ..TextSpec::default()
            };
            let reference = reference();
            let items = text(&spec, reference.text());
            prop_assert_eq!(sum(&items), pricing::text::full_price(&spec, reference.text()));
        }
    }
}
