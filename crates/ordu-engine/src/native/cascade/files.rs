//! Where the parts of a Stable Cascade lie: in two single files, one for each stage, each with what belongs
//! to it.
//!
//! | file | prefix | part |
//! |---|---|---|
//! | stage C | `model.diffusion_model.` | the network that draws |
//! | | `text_encoder.` | CLIP's text encoder |
//! | | `clip_l_vision.` | CLIP's vision tower |
//! | | `vae.encoder.` | pixels to its latents |
//! | stage B | `model.diffusion_model.` | the network that fills in |
//! | | `vae.` | stage A, its latents to pixels |
//!
//! # Source
//! `worker.md` § 2.8, 3.2; the names in the published files.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::sd::config::ClipConfig;
use super::super::sd::files::bundled_tokenizer;
use super::super::sd::tokenizer::Tokenizer;
use super::super::weights::{TensorFile, Weights, read_small};
use super::config::{Config, Stage};
use crate::native::Compute;
use crate::{Baseline, EngineError, Fit, ModelInfo, Origin, Prediction};

/// The name of the model that is part of this program.
pub const BUNDLED: &str = "ordu-tiny-cascade";
/// The side that published models draw best, in pixels.
const NATIVE: u32 = 1024;
/// The largest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
const NETWORK: &str = "model.diffusion_model.";
/// What exporters put before the names of the text encoder.
const TEXT: [&str; 4] = [
    "text_encoder.clip_g.transformer.",
    "text_encoder.clip_g.",
    "text_encoder.transformer.",
    "text_encoder.",
];

/// The headers and numbers of a model: enough to describe it and to load it.
#[derive(Clone, Debug)]
pub struct CascadeFiles {
    /// The name tasks use.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// CLIP's text encoder.
    pub text: (Weights, ClipConfig),
    /// CLIP's vision tower, and its heads where that is told.
    pub vision: (Weights, Option<usize>),
    /// Pixels to latents of stage C.
    pub encoder: Weights,
    /// Draws.
    pub stage_c: (Weights, Config),
    /// Fills in.
    pub stage_b: (Weights, Config),
    /// Latents of stage B to pixels.
    pub stage_a: Weights,
    /// What lies beside the files.
    told: Told,
    /// Folders in which the tokenizer is looked for.
    tokenizer: Vec<PathBuf>,
}

/// What tensors do not tell, of models that are not like the published ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    text_encoder: Option<ClipConfig>,
    vision_heads: Option<usize>,
    /// Width of a head of attention.
    head: Option<usize>,
    /// The side it draws best, in pixels; others are scaled to and from.
    native: Option<u32>,
}

macro_rules! bundled {
    ($file:literal) => {
        include_bytes!(concat!("../../../models/ordu-tiny-cascade/", $file))
    };
}

impl CascadeFiles {
    /// The model that is part of this program.
    ///
    /// # Errors
    ///
    /// None in a program whose tests have passed.
    pub fn bundled() -> Result<Self, EngineError> {
        let c = TensorFile::bundled("stage_c", bundled!("stage_c.safetensors"))?;
        let b = TensorFile::bundled("stage_b", bundled!("stage_b.safetensors"))?;
        let named = (BUNDLED.to_owned(), Origin::Bundled);
        let beside = (told(bundled!("config.json"))?, Vec::new());
        Self::of(named, (&c, &b), beside)
    }

    /// The model of a folder with one file of each stage; `None` if it is none.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] or [`EngineError::BadModel`] if a part is missing or unusable.
    pub fn folder(path: &Path) -> Result<Option<Self>, EngineError> {
        let io = |source| EngineError::Io {
            path: path.to_owned(),
            source,
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if is_safetensors(&path) && path.is_file() {
                files.push(path);
            }
        }
        let mut halves = Halves::default();
        if let [one, two] = files.as_slice() {
            // What cannot be read inside a folder is no model.
            halves.add(one).ok();
            halves.add(two).ok();
        }
        let ([stage_c], [stage_b]) = (halves.c.as_slice(), halves.b.as_slice()) else {
            return Ok(None);
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let named = (name.into_owned(), Origin::Folder(path.to_owned()));
        let config = path.join("config.json");
        let told = if config.is_file() {
            told(&read_small(&config, MAX_CONFIG_BYTES)?)?
        } else {
            Told::default()
        };
        let tokenizer = vec![path.join("tokenizer"), path.to_owned()];
        let files = (TensorFile::open(stage_c)?, TensorFile::open(stage_b)?);
        Self::of(named, (&files.0, &files.1), (told, tokenizer)).map(Some)
    }

    /// The model of two files. It is called like that of stage C.
    ///
    /// # Errors
    ///
    /// As [`Self::folder`].
    pub fn files(stage_c: &Path, stage_b: &Path) -> Result<Self, EngineError> {
        let name = stem(stage_c);
        let beside = stage_c.parent().map(Path::to_owned).unwrap_or_default();
        let tokenizer = vec![
            stage_c.with_extension("tokenizer"),
            beside.join("tokenizer"),
            beside,
        ];
        let files = (TensorFile::open(stage_c)?, TensorFile::open(stage_b)?);
        let named = (name, Origin::File(stage_c.to_owned()));
        Self::of(named, (&files.0, &files.1), (Told::default(), tokenizer))
    }

    fn of(
        (name, origin): (String, Origin),
        (c, b): (&TensorFile, &TensorFile),
        (told, tokenizer): (Told, Vec<PathBuf>),
    ) -> Result<Self, EngineError> {
        let network = |file: &TensorFile, stage: Stage| {
            let weights = network(under(file, &[NETWORK, ""]));
            let config = Config::from_shapes(&weights, stage, told.head)?;
            Ok::<_, EngineError>((weights, config))
        };
        let named = |error: EngineError| match error {
            EngineError::BadModel { model, reason } => {
                EngineError::bad_model(&name, format!("{model}: {reason}"))
            }
            other => other,
        };
        let text = text(c);
        let config = match &told.text_encoder {
            Some(config) => config.clone(),
            None => ClipConfig::from_shapes(&text, ClipConfig::OPEN_CLIP).map_err(named)?,
        };
        Ok(Self {
            text: (text, config),
            vision: (
                Weights::from_entries(under(c, &["clip_l_vision."])),
                told.vision_heads,
            ),
            encoder: Weights::from_entries(under(c, &["vae.encoder."])),
            stage_c: network(c, Stage::C).map_err(named)?,
            stage_b: network(b, Stage::B).map_err(named)?,
            stage_a: decoder(b),
            name,
            origin,
            told,
            tokenizer,
        })
    }

    /// What is known of the model without loading it.
    pub fn info(&self) -> ModelInfo {
        let native = self.told.native.unwrap_or(NATIVE);
        ModelInfo {
            name: self.name.clone(),
            baseline: Baseline::StableCascade,
            native,
            fit: match self.told.native {
                Some(native) => Fit::Scale { native },
                None => Fit::Exact,
            },
            prediction: Prediction::Epsilon,
            inpainting: false,
            bytes: self.parts().map(Weights::bytes).sum(),
            origin: self.origin.clone(),
        }
    }

    fn parts(&self) -> impl Iterator<Item = &Weights> {
        [
            &self.text.0,
            &self.vision.0,
            &self.encoder,
            &self.stage_c.0,
            &self.stage_b.0,
            &self.stage_a,
        ]
        .into_iter()
    }

    /// Size in memory of all of it, in bytes.
    pub fn bytes_loaded(&self, compute: &Compute) -> u64 {
        let each = compute.with_range_of_f32().dtype().size_in_bytes();
        let count = |weights: &Weights| -> usize {
            let shapes = weights.iter().map(|(_, entry)| entry.shape());
            shapes.map(|shape| shape.iter().product::<usize>()).sum()
        };
        self.parts().map(|part| (each * count(part)) as u64).sum()
    }

    /// The tokenizer of the text encoder.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoTokenizer`] if there is none, [`EngineError::BadModel`] if it is unusable.
    pub fn tokenizer(&self) -> Result<Tokenizer, EngineError> {
        if self.origin == Origin::Bundled {
            return bundled_tokenizer();
        }
        Tokenizer::find(&self.name, &self.tokenizer)
    }
}

fn told(json: &[u8]) -> Result<Told, EngineError> {
    let told: Told = serde_json::from_slice(json)
        .map_err(|error| EngineError::bad_model("config.json", error.to_string()))?;
    let sound = |number: Option<usize>| number.is_none_or(|number| (1..=4096).contains(&number));
    let native = told.native.is_none_or(|side| (64..=8192).contains(&side));
    if sound(told.head) && sound(told.vision_heads) && native {
        return Ok(told);
    }
    Err(EngineError::bad_model(
        "config.json",
        "it has impossible numbers",
    ))
}

/// Files of the two stages.
#[derive(Debug, Default)]
pub struct Halves {
    /// Those of stage C.
    pub c: Vec<PathBuf>,
    /// Those of stage B.
    pub b: Vec<PathBuf>,
}

impl Halves {
    /// Takes a file if it holds a stage; whether it does.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] or [`EngineError::BadModel`] if it cannot be read.
    pub fn add(&mut self, path: &Path) -> Result<bool, EngineError> {
        let list = match stage(&TensorFile::open(path)?) {
            Some(Stage::C) => &mut self.c,
            Some(Stage::B) => &mut self.b,
            None => return Ok(false),
        };
        list.push(path.to_owned());
        Ok(true)
    }

    /// The models that these files make, and what is wrong with those that make none.
    pub fn models(&self) -> Vec<Result<CascadeFiles, EngineError>> {
        let found = self.c.iter().map(|stage_c| match self.partner(stage_c) {
            Some(stage_b) => CascadeFiles::files(stage_c, stage_b),
            None => Err(lonely(stage_c, "C", "B")),
        });
        let mut found: Vec<_> = found.collect();
        if self.c.is_empty() {
            found.extend(self.b.iter().map(|stage_b| Err(lonely(stage_b, "B", "C"))));
        }
        found
    }

    /// The stage B of a stage C: the one that is called like it, or the only one.
    fn partner(&self, stage_c: &Path) -> Option<&PathBuf> {
        let wanted = stem(stage_c).to_lowercase().replace("stage_c", "stage_b");
        let same = self.b.iter().find(|b| stem(b).to_lowercase() == wanted);
        same.or(match self.b.as_slice() {
            [only] => Some(only),
            _ => None,
        })
    }
}

fn lonely(path: &Path, own: &str, other: &str) -> EngineError {
    let reason = format!(
        "it is stage {own} of Stable Cascade: put its stage {other} beside it, named alike \
         (`stage_c` and `stage_b`)"
    );
    EngineError::bad_model(stem(path), reason)
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn is_safetensors(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
}

/// Which stage a file holds.
fn stage(file: &TensorFile) -> Option<Stage> {
    let has = |name: &str| {
        let mut prefixes = [NETWORK, ""].iter();
        prefixes.any(|prefix| file.get(&format!("{prefix}{name}")).is_some())
    };
    if has("clip_txt_mapper.weight") {
        Some(Stage::C)
    } else if has("effnet_mapper.0.weight") {
        Some(Stage::B)
    } else {
        None
    }
}

type Entries = Vec<(String, super::super::weights::Entry)>;

/// Tensors under the first of some prefixes that there are any under, without it.
fn under(file: &TensorFile, prefixes: &[&str]) -> Entries {
    for prefix in prefixes {
        let found: Entries = file
            .entries()
            .filter_map(|(name, entry)| {
                Some((name.strip_prefix(prefix)?.to_owned(), entry.clone()))
            })
            .collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// A diffusion network: queries, keys and values apart, the summary's mapper by one name.
fn network(entries: Entries) -> Weights {
    let mut tensors: Entries = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let fused = name.split_once(".in_proj_").filter(|_| {
            entry
                .shape()
                .first()
                .is_some_and(|rows| rows.is_multiple_of(3))
        });
        if let Some((attention, kind)) = fused {
            let rows = entry.shape().first().copied().unwrap_or_default() / 3;
            for (place, letter) in ["q", "k", "v"].into_iter().enumerate() {
                if let Some(part) = entry.rows(place * rows, rows) {
                    tensors.push((format!("{attention}.to_{letter}.{kind}"), part));
                }
            }
        } else {
            let name = match name.strip_prefix("clip_mapper.") {
                Some(kind) => format!("clip_txt_pooled_mapper.{kind}"),
                None => name,
            };
            tensors.push((name, entry));
        }
    }
    Weights::from_entries(tensors)
}

/// The text encoder; its projection may lie above it.
fn text(file: &TensorFile) -> Weights {
    let mut tensors = under(file, &TEXT);
    let has = tensors
        .iter()
        .any(|(name, _)| name.starts_with("text_projection"));
    if !has {
        let above = file.get("text_encoder.clip_g.text_projection");
        tensors.extend(above.map(|entry| ("text_projection".to_owned(), entry.clone())));
    }
    Weights::from_entries(tensors)
}

/// Stage A's decoder.
fn decoder(file: &TensorFile) -> Weights {
    let parts = ["up_blocks.", "out_block."];
    let tensors = under(file, &["vae."]).into_iter();
    Weights::from_entries(
        tensors.filter(|(name, _)| parts.iter().any(|part| name.starts_with(part))),
    )
}
