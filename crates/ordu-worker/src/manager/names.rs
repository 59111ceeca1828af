//! Which files are which model: the names of the horde's reference in the words of the engines. Pure.
//!
//! # Source
//! `worker.md` § 1.10, 3.2, 3.4.

use std::collections::BTreeMap;

use ordu_engine::Baseline;
use ordu_engine::remote::comfyui::{ComfyModel, ModelFiles};

use super::family::Family;
use super::record::{Record, Reference};
use super::store::Folder;
use crate::bridge_data::CustomModel;

/// The agent whose version reference records speak of.
const CLASSIC_AGENT: &str = "AI Horde Worker reGen";

/// The version of that agent that can do what this worker can.
const OUR_VERSION: u64 = 13;

/// The side that Stable Diffusion 2 for large pictures draws best, in pixels.
const LARGE_SIDE: u32 = 768;

/// Which version of the deployed worker this one counts as, by what it calls itself.
pub fn bridge_version(agent: &str) -> u64 {
    let mut parts = agent.split(':');
    let version = match (parts.next(), parts.next()) {
        (Some(name), Some(version)) if name == CLASSIC_AGENT => version,
        _ => return OUR_VERSION,
    };
    let major = version.split('.').next().unwrap_or_default();
    major.trim().parse().unwrap_or_default()
}

impl Record {
    /// Whether a worker of this version may offer it.
    pub fn may_be_offered_by(&self, version: u64) -> bool {
        self.min_bridge_version.is_none_or(|least| least <= version)
    }
}

/// The models of a reference, and those of the owner's own, with the files that a ComfyUI needs for them.
pub fn comfy_models(
    reference: &Reference,
    custom: &[CustomModel],
    version: u64,
) -> Vec<ComfyModel> {
    let records = reference.records.values();
    let known = records.filter(|record| record.may_be_offered_by(version));
    known
        .filter_map(comfy_model)
        .chain(custom.iter().filter_map(own))
        .collect()
}

/// The stem of a model's file, of stage C's where it is a Stable Cascade → the model.
pub fn names_of_files(
    reference: &Reference,
    custom: &[CustomModel],
    version: u64,
) -> BTreeMap<String, String> {
    let models = comfy_models(reference, custom, version).into_iter();
    let named = models.filter_map(|model| match model.files {
        ModelFiles::Checkpoint(file) | ModelFiles::Cascade { stage_c: file, .. } => {
            Some((stem(&file).to_owned(), model.name))
        }
        ModelFiles::Split { .. } => None,
    });
    named.collect()
}

fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

fn comfy_model(record: &Record) -> Option<ComfyModel> {
    let native = match record.family {
        Family::StableDiffusion2 => LARGE_SIDE,
        _ => 0,
    };
    Some(ComfyModel {
        name: record.name.clone(),
        baseline: Baseline::from_name(record.family.as_str()),
        native,
        inpainting: record.inpainting,
        files: files(record)?,
    })
}

fn own(model: &CustomModel) -> Option<ComfyModel> {
    let file = model.file.file_name()?.to_str()?.to_owned();
    let family = Family::parse(&model.baseline);
    Some(ComfyModel {
        name: model.name.clone(),
        baseline: Baseline::from_name(family.as_str()),
        native: 0,
        inpainting: false,
        files: ModelFiles::Checkpoint(file),
    })
}

/// The files of a model by what they are for; `None` if one of them is not named.
fn files(record: &Record) -> Option<ModelFiles> {
    let of = |purpose: &str| {
        let mut files = record.files.iter();
        let is_it = |told: &str| told == purpose || told.strip_suffix('s') == Some(purpose);
        let found = files.find(|file| file.purpose.as_deref().is_some_and(is_it));
        found.map(|file| file.name.clone())
    };
    let checkpoint = || {
        let mut files = record.files.iter();
        let found = files.find(|file| file.folder == Folder::Compvis);
        found.map(|file| file.name.clone())
    };
    Some(match record.family {
        Family::StableCascade => ModelFiles::Cascade {
            stage_c: of("stable_cascade_stage_c")?,
            stage_b: of("stable_cascade_stage_b")?,
        },
        Family::QwenImage | Family::ZImageTurbo => ModelFiles::Split {
            diffusion: of("unet").or_else(checkpoint)?,
            text_encoder: of("text_encoder")?,
            vae: of("vae")?,
        },
        _ => ModelFiles::Checkpoint(checkpoint()?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manager::record::{Category, parse};

    fn reference() -> Reference {
        let download = |name: &str, purpose: &str| json!({"file_name": name, "file_url": "https://x/y", "file_purpose": purpose});
        let document = json!({
            "Deliberate": {"baseline": "stable diffusion 1", "config": {"download": [download("deliberate_v2.safetensors", "")]}},
            "Filler": {"baseline": "stable diffusion 1", "inpainting": true,
                       "config": {"files": [{"path": "filler.ckpt"}]}},
            "Big Two": {"baseline": "stable diffusion 2", "config": {"files": [{"path": "two.safetensors"}]}},
            "Cascade": {"baseline": "stable_cascade", "config": {"files": [
                {"path": "b.safetensors", "file_type": "stable_cascade_stage_b"},
                {"path": "c.safetensors", "file_type": "stable_cascade_stage_c"}]}},
            "Half": {"baseline": "stable_cascade", "config": {"files": [
                {"path": "b.safetensors", "file_type": "stable_cascade_stage_b"}]}},
            "Qwen": {"baseline": "qwen_image", "config": {"download": [
                download("vae.safetensors", "vae"), download("te.safetensors", "text_encoders"),
                download("qwen.safetensors", "unet")]}},
            "New": {"baseline": "stable_diffusion_xl", "min_bridge_version": 14,
                    "config": {"files": [{"path": "new.safetensors"}]}},
            "Nothing": {"baseline": "flux_1", "config": {}}
        });
        parse(Category::ImageGeneration, document.to_string().as_bytes()).unwrap()
    }

    fn custom() -> Vec<CustomModel> {
        vec![CustomModel {
            name: "Mine".to_owned(),
            baseline: "SDXL".to_owned(),
            file: "/models/mine_v3.safetensors".into(),
        }]
    }

    #[test]
    fn models_go_by_their_names_in_the_reference_and_need_all_their_files() {
        let models = comfy_models(&reference(), &custom(), 13);
        let of = |name: &str| models.iter().find(|model| model.name == name);
        let checkpoint = |file: &str| ModelFiles::Checkpoint(file.to_owned());
        assert_eq!(
            of("Deliberate").unwrap().files,
            checkpoint("deliberate_v2.safetensors")
        );
        assert!(of("Filler").unwrap().inpainting);
        assert_eq!(of("Big Two").unwrap().native, 768);
        let cascade = ModelFiles::Cascade {
            stage_c: "c.safetensors".to_owned(),
            stage_b: "b.safetensors".to_owned(),
        };
        assert_eq!(of("Cascade").unwrap().files, cascade);
        let split = ModelFiles::Split {
            diffusion: "qwen.safetensors".to_owned(),
            text_encoder: "te.safetensors".to_owned(),
            vae: "vae.safetensors".to_owned(),
        };
        assert_eq!(of("Qwen").unwrap().files, split);
        let mine = of("Mine").unwrap();
        assert_eq!(
            (mine.baseline, &mine.files),
            (
                Baseline::StableDiffusionXl,
                &checkpoint("mine_v3.safetensors")
            )
        );
        for absent in ["Half", "New", "Nothing"] {
            assert_eq!(of(absent), None, "{absent}");
        }
        assert_eq!(comfy_models(&reference(), &[], 14).len(), models.len());
    }

    #[test]
    fn a_file_of_one_model_leads_to_its_name() {
        let names = names_of_files(&reference(), &custom(), 13);
        assert_eq!(names["deliberate_v2"], "Deliberate");
        assert_eq!(names["mine_v3"], "Mine");
        assert_eq!(names["c"], "Cascade");
        assert!(!names.contains_key("b") && !names.contains_key("new"));
    }

    #[test]
    fn the_version_that_counts_is_that_of_the_deployed_worker() {
        for (agent, version) in [
            ("Ordu Worker:0.1.0:https://x", 13),
            ("AI Horde Worker reGen:9.1.0:x", 9),
            ("AI Horde Worker reGen:10:x", 10),
            ("AI Horde Worker reGen:new:x", 0),
            ("", 13),
        ] {
            assert_eq!(bridge_version(agent), version, "{agent}");
        }
    }
}
