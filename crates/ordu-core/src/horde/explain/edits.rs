//! Ways to ask for a little less: each is the request with one thing changed.

use std::sync::Arc;

use ordu_api::explanation::Change;
use serde_json::{Map, Value, json};

use super::super::Work;
use crate::alchemy::AlchemySpec;
use crate::image::ImageSpec;
use crate::pricing::upfront;
use crate::rare::Rare;
use crate::text::TextSpec;

/// Sides of the squares that pictures are shrunk into, in pixels.
const SIDES: &[u32] = &[2048, 1536, 1280, 1024, 896, 768, 640, 576, 512];
/// Numbers of steps to go down to.
const STEPS: &[u32] = &[100, 50, 40, 30, 25, 20, 15, 10, 8, 4];
/// Lengths of contexts and texts to go down to, in tokens.
const LENGTHS: &[u32] = &[
    65_536, 32_768, 16_384, 8192, 4096, 2048, 1024, 512, 256, 128, 80, 40, 16,
];
/// No context may be shorter, in tokens.
const SHORTEST_CONTEXT: u32 = 80;

/// A request with one thing changed.
#[derive(Debug)]
pub(in crate::horde) struct Edit {
    /// What it changes: two edits of one dimension exclude each other.
    pub(super) dimension: &'static str,
    /// How much it takes away from who asked.
    pub(super) weight: u32,
    /// The request afterwards.
    pub(in crate::horde) work: Work,
    patch: Map<String, Value>,
    message: String,
}

impl Edit {
    pub(in crate::horde) fn change(&self) -> Change {
        Change {
            message: self.message.clone(),
            patch: self.patch.clone(),
            workers: 0,
        }
    }

    /// This edit and another one.
    pub(super) fn with(&self, other: &Self) -> Change {
        let mut patch = self.patch.clone();
        for (name, value) in &other.patch {
            match (patch.get_mut(name), value) {
                (Some(Value::Object(mine)), Value::Object(more)) => mine.extend(more.clone()),
                _ => {
                    patch.insert(name.clone(), value.clone());
                }
            }
        }
        Change {
            message: format!("{}, and {}", self.message, other.message),
            patch,
            workers: 0,
        }
    }
}

/// What may be changed about a request, the lightest changes first.
pub(in crate::horde) fn edits(work: &Work) -> Vec<Edit> {
    let mut edits = match work {
        Work::Image(spec) => image(spec),
        Work::Text(spec) => text(spec),
        Work::Alchemy(spec) => alchemy(spec),
    };
    edits.sort_by_key(|edit| edit.weight);
    edits
}

/// A change of something that is on or off, or there or not.
struct Row<S> {
    name: &'static str,
    weight: u32,
    applies: fn(&S) -> bool,
    apply: fn(&mut S),
    /// As JSON: what to merge into the body.
    patch: &'static str,
    message: &'static str,
}

/// What a picture can do without. Whom it waits for comes before how it looks.
const IMAGE: &[Row<ImageSpec>] = &[
    Row {
        name: "slow_workers",
        weight: 1,
        applies: |spec| !spec.slow_workers,
        apply: |spec| spec.slow_workers = true,
        patch: r#"{"slow_workers": true}"#,
        message: "slow_workers: true",
    },
    Row {
        name: "extra_slow_workers",
        weight: 2,
        applies: |spec| !spec.extra_slow_workers,
        apply: |spec| spec.extra_slow_workers = true,
        patch: r#"{"extra_slow_workers": true}"#,
        message: "extra_slow_workers: true",
    },
    Row {
        name: "trusted_workers",
        weight: 3,
        applies: |spec| spec.trusted_workers,
        apply: |spec| spec.trusted_workers = false,
        patch: r#"{"trusted_workers": false}"#,
        message: "trusted_workers: false",
    },
    Row {
        name: "workers",
        weight: 4,
        applies: |spec| !spec.workers.is_empty(),
        apply: |spec| spec.workers.clear(),
        patch: r#"{"workers": []}"#,
        message: "no list of workers",
    },
    Row {
        name: "karras",
        weight: 20,
        applies: |spec| !spec.karras,
        apply: |spec| spec.karras = true,
        patch: r#"{"params": {"karras": true}}"#,
        message: "karras: true",
    },
    Row {
        name: "sampler_name",
        weight: 21,
        applies: |spec| spec.sampler_name != "k_euler_a",
        apply: |spec| "k_euler_a".clone_into(&mut spec.sampler_name),
        patch: r#"{"params": {"sampler_name": "k_euler_a"}}"#,
        message: "sampler_name: k_euler_a",
    },
    Row {
        name: "return_control_map",
        weight: 22,
        applies: |spec| spec.return_control_map,
        apply: |spec| spec.return_control_map = false,
        patch: r#"{"params": {"return_control_map": false}}"#,
        message: "return_control_map: false",
    },
    Row {
        name: "nsfw",
        weight: 23,
        applies: |spec| spec.nsfw,
        apply: |spec| spec.nsfw = false,
        patch: r#"{"nsfw": false}"#,
        message: "nsfw: false",
    },
    Row {
        name: "clip_skip",
        weight: 24,
        applies: |spec| spec.clip_skip.is_some_and(|skip| skip > 1),
        apply: |spec| spec.clip_skip = None,
        patch: r#"{"params": {"clip_skip": 1}}"#,
        message: "clip_skip: 1",
    },
    Row {
        name: "hires_fix",
        weight: 25,
        applies: |spec| spec.hires_fix,
        apply: |spec| spec.hires_fix = false,
        patch: r#"{"params": {"hires_fix": false}}"#,
        message: "hires_fix: false",
    },
    Row {
        name: "post_processing",
        weight: 26,
        applies: |spec| !spec.post_processing.is_empty(),
        apply: |spec| spec.post_processing.clear(),
        patch: r#"{"params": {"post_processing": []}}"#,
        message: "no post-processing",
    },
    Row {
        name: "tiling",
        weight: 27,
        applies: |spec| spec.tiling,
        apply: |spec| spec.tiling = false,
        patch: r#"{"params": {"tiling": false}}"#,
        message: "tiling: false",
    },
    Row {
        name: "extra_source_images",
        weight: 30,
        applies: |spec| !spec.extra_source_images.is_empty(),
        apply: |spec| spec.extra_source_images.clear(),
        patch: r#"{"extra_source_images": []}"#,
        message: "no extra source images",
    },
    Row {
        name: "tis",
        weight: 40,
        applies: |spec| !spec.tis.is_empty(),
        apply: |spec| spec.tis.clear(),
        patch: r#"{"params": {"tis": []}}"#,
        message: "no textual inversions",
    },
    Row {
        name: "loras",
        weight: 41,
        applies: |spec| !spec.loras.is_empty(),
        apply: |spec| spec.loras.clear(),
        patch: r#"{"params": {"loras": []}}"#,
        message: "no LoRAs",
    },
    Row {
        name: "models",
        weight: 42,
        applies: |spec| !spec.models.is_empty(),
        apply: |spec| spec.models.clear(),
        patch: r#"{"models": []}"#,
        message: "any model",
    },
    Row {
        name: "transparent",
        weight: 43,
        applies: |spec| spec.transparent,
        apply: |spec| spec.transparent = false,
        patch: r#"{"params": {"transparent": false}}"#,
        message: "transparent: false",
    },
    Row {
        name: "control_type",
        weight: 44,
        applies: |spec| spec.control_type.is_some(),
        apply: |spec| {
            spec.control_type = Rare::default();
            spec.image_is_control = false;
            spec.return_control_map = false;
        },
        patch: r#"{"params": {"control_type": null, "image_is_control": false, "return_control_map": false}}"#,
        message: "no control type",
    },
    Row {
        name: "workflow",
        weight: 45,
        applies: |spec| spec.workflow.is_some(),
        apply: |spec| {
            spec.workflow = Rare::default();
            spec.extra_texts.clear();
        },
        patch: r#"{"params": {"workflow": null, "extra_texts": null}}"#,
        message: "no QR code",
    },
];

/// What a text can do without.
const TEXT: &[Row<TextSpec>] = &[
    Row {
        name: "slow_workers",
        weight: 1,
        applies: |spec| !spec.slow_workers,
        apply: |spec| spec.slow_workers = true,
        patch: r#"{"slow_workers": true}"#,
        message: "slow_workers: true",
    },
    Row {
        name: "extra_slow_workers",
        weight: 2,
        applies: |spec| !spec.extra_slow_workers,
        apply: |spec| spec.extra_slow_workers = true,
        patch: r#"{"extra_slow_workers": true}"#,
        message: "extra_slow_workers: true",
    },
    Row {
        name: "trusted_workers",
        weight: 3,
        applies: |spec| spec.trusted_workers,
        apply: |spec| spec.trusted_workers = false,
        patch: r#"{"trusted_workers": false}"#,
        message: "trusted_workers: false",
    },
    Row {
        name: "validated_backends",
        weight: 4,
        applies: |spec| spec.validated_backends,
        apply: |spec| spec.validated_backends = false,
        patch: r#"{"validated_backends": false}"#,
        message: "validated_backends: false",
    },
    Row {
        name: "workers",
        weight: 5,
        applies: |spec| !spec.workers.is_empty(),
        apply: |spec| spec.workers.clear(),
        patch: r#"{"workers": []}"#,
        message: "no list of workers",
    },
    Row {
        name: "extra_source_images",
        weight: 60,
        applies: |spec| !spec.extra_source_images.is_empty(),
        apply: |spec| spec.extra_source_images.clear(),
        patch: r#"{"extra_source_images": []}"#,
        message: "no pictures",
    },
    Row {
        name: "softprompt",
        weight: 40,
        applies: |spec| spec.softprompt.is_some(),
        apply: |spec| spec.softprompt = Rare::default(),
        patch: r#"{"softprompt": null}"#,
        message: "no soft prompt",
    },
    Row {
        name: "models",
        weight: 42,
        applies: |spec| !spec.models.is_empty(),
        apply: |spec| spec.models.clear(),
        patch: r#"{"models": []}"#,
        message: "any model",
    },
];

/// What alchemy can do without.
const ALCHEMY: &[Row<AlchemySpec>] = &[
    Row {
        name: "slow_workers",
        weight: 1,
        applies: |spec| !spec.slow_workers,
        apply: |spec| spec.slow_workers = true,
        patch: r#"{"slow_workers": true}"#,
        message: "slow_workers: true",
    },
    Row {
        name: "trusted_workers",
        weight: 3,
        applies: |spec| spec.trusted_workers,
        apply: |spec| spec.trusted_workers = false,
        patch: r#"{"trusted_workers": false}"#,
        message: "trusted_workers: false",
    },
];

/// The rows that apply to a request, applied.
fn switches<S: Clone>(rows: &[Row<S>], spec: &S, work: impl Fn(Arc<S>) -> Work) -> Vec<Edit> {
    let applying = rows.iter().filter(|row| (row.applies)(spec));
    applying
        .map(|row| {
            let mut changed = spec.clone();
            (row.apply)(&mut changed);
            Edit {
                dimension: row.name,
                weight: row.weight,
                work: work(Arc::new(changed)),
                patch: serde_json::from_str(row.patch).unwrap_or_default(),
                message: row.message.to_owned(),
            }
        })
        .collect()
}

fn image(spec: &ImageSpec) -> Vec<Edit> {
    let mut edits = switches(IMAGE, spec, Work::Image);
    for (level, steps) in (0..).zip(STEPS.iter().filter(|steps| **steps < spec.steps)) {
        edits.push(Edit {
            dimension: "steps",
            weight: 5 + level,
            work: Work::Image(Arc::new(ImageSpec {
                steps: *steps,
                ..spec.clone()
            })),
            patch: params(&json!({ "steps": steps })),
            message: format!("steps {} → {steps}", spec.steps),
        });
    }
    let mut smallest = (spec.width, spec.height);
    let mut level = 0;
    for side in SIDES {
        let mut small = spec.clone();
        upfront::shrink(&mut small, *side);
        let size = (small.width, small.height);
        if small.pixels() >= u64::from(smallest.0) * u64::from(smallest.1) {
            continue;
        }
        smallest = size;
        edits.push(Edit {
            dimension: "size",
            weight: 6 + level,
            work: Work::Image(Arc::new(small)),
            patch: params(&json!({ "width": size.0, "height": size.1 })),
            message: format!(
                "size {}x{} → {}x{}",
                spec.width, spec.height, size.0, size.1
            ),
        });
        level += 1;
    }
    edits.extend(without_source(spec));
    edits
}

/// The last that anybody would give up: the picture that it begins with.
fn without_source(spec: &ImageSpec) -> Option<Edit> {
    spec.source_image.as_ref()?;
    let plain = ImageSpec {
        source_image: Rare::default(),
        source_mask: Rare::default(),
        control_type: Rare::default(),
        image_is_control: false,
        return_control_map: false,
        source_processing: ordu_api::image::SourceProcessing::Img2Img,
        extra_source_images: Rare::default(),
        ..spec.clone()
    };
    let patch = json!({
        "source_image": null,
        "source_mask": null,
        "source_processing": "img2img",
        "extra_source_images": [],
        "params": { "control_type": null, "image_is_control": false, "return_control_map": false },
    });
    Some(Edit {
        dimension: "source_image",
        weight: 60,
        work: Work::Image(Arc::new(plain)),
        patch: object(patch),
        message: "no source image".to_owned(),
    })
}

fn text(spec: &TextSpec) -> Vec<Edit> {
    let mut edits = switches(TEXT, spec, Work::Text);
    let longest = spec.max_context_length;
    let contexts = LENGTHS
        .iter()
        .filter(|length| **length < longest && **length >= SHORTEST_CONTEXT.max(spec.max_length));
    for (level, context) in (0..).zip(contexts) {
        edits.push(Edit {
            dimension: "max_context_length",
            weight: 6 + level,
            work: Work::Text(Arc::new(TextSpec {
                max_context_length: *context,
                ..spec.clone()
            })),
            patch: params(&json!({ "max_context_length": context })),
            message: format!("max_context_length {longest} → {context}"),
        });
    }
    let lengths = LENGTHS.iter().filter(|length| **length < spec.max_length);
    for (level, length) in (0..).zip(lengths) {
        edits.push(Edit {
            dimension: "max_length",
            weight: 7 + level,
            work: Work::Text(Arc::new(TextSpec {
                max_length: *length,
                ..spec.clone()
            })),
            patch: params(&json!({ "max_length": length })),
            message: format!("max_length {} → {length}", spec.max_length),
        });
    }
    edits
}

fn alchemy(spec: &AlchemySpec) -> Vec<Edit> {
    switches(ALCHEMY, spec, Work::Alchemy)
}

/// A patch of parameters.
fn params(members: &Value) -> Map<String, Value> {
    object(json!({ "params": members }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
