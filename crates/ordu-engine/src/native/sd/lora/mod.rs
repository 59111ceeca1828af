//! LoRAs: small changes to the weights of a model that came with a file of their own (Hu et al. 2021,
//! "LoRA: Low-Rank Adaptation of Large Language Models").
//!
//! Files name the layers that they change in several ways, see `names`; the product of their factors
//! is added to the weights while a model is loaded. The model's own files are never touched, so that
//! the weights without it are had by loading them again: exactly, and without keeping them twice.
//!
//! | in the file | kind |
//! |---|---|
//! | `lora_up`, `lora_down` (kohya), `lora_B`, `lora_A` (peft), `lora.up`, `lora.down` (diffusers) | low rank |
//! | the same with `lora_mid` | LoCon with a core |
//! | `hada_w1_a`, `hada_w1_b`, `hada_w2_a`, `hada_w2_b`, with or without `hada_t1`, `hada_t2` | LoHa |
//!
//! `alpha` divided by the rank scales a change; without it the scale is 1. Other kinds are refused by
//! name.

mod names;

use std::collections::BTreeMap;

use candle_core::Device;

pub(in crate::native) use self::names::by_original_name;
use self::names::{Part, Targets};
use super::files::ModelFiles;
use crate::EngineError;
use crate::native::weights::{Delta, Entry, Factors, TensorFile};

/// What is added to the weights of a model, by their names.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Of the diffusion network.
    pub unet: BTreeMap<String, Vec<Delta>>,
    /// Of each text encoder.
    pub texts: Vec<BTreeMap<String, Vec<Delta>>>,
    /// Further tensors of the diffusion network, which make layers of it do more.
    pub added: BTreeMap<String, Entry>,
}

/// How much of a LoRA goes where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strengths {
    /// Into the diffusion network.
    pub unet: f64,
    /// Into the text encoders.
    pub text: f64,
}

/// What a tensor of a file is to the layer that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Alpha,
    Up,
    Down,
    Core,
    FirstUp,
    FirstDown,
    FirstCore,
    SecondUp,
    SecondDown,
    SecondCore,
}

/// How names end, and what they tell.
const ENDINGS: [(&str, Role); 20] = [
    (".alpha", Role::Alpha),
    (".lora_up.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora_mid.weight", Role::Core),
    (".lora_B.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    (".hada_w1_a", Role::FirstUp),
    (".hada_w1_b", Role::FirstDown),
    (".hada_t1", Role::FirstCore),
    (".hada_w2_a", Role::SecondUp),
    (".hada_w2_b", Role::SecondDown),
    (".hada_t2", Role::SecondCore),
];

/// Parts of names that tell of kinds which are not built.
const STRANGE: [(&str, &str); 8] = [
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".lokr_", "LoKr"),
    (".oft_", "OFT"),
    (".diff", "whole differences"),
    (".a1.weight", "GLoRA"),
    (".on_input", "IA3"),
    (".lora_embedding_", "changes of token tables"),
];

type Module<'a> = BTreeMap<Role, &'a Entry>;

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.unet.is_empty() && self.added.is_empty() && !self.has_text()
    }

    /// Whether any text encoder is changed.
    pub fn has_text(&self) -> bool {
        self.texts.iter().any(|text| !text.is_empty())
    }

    /// Adds others, behind these.
    pub(in crate::native) fn append(&mut self, others: Self) {
        for (target, deltas) in others.unet {
            self.unet.entry(target).or_default().extend(deltas);
        }
        if self.texts.len() < others.texts.len() {
            self.texts.resize(others.texts.len(), BTreeMap::new());
        }
        for (text, other) in self.texts.iter_mut().zip(others.texts) {
            for (target, deltas) in other {
                text.entry(target).or_default().extend(deltas);
            }
        }
        self.added.extend(others.added);
    }

    /// Adds those of a file, behind the others.
    ///
    /// # Errors
    ///
    /// [`EngineError::AddOnMismatch`] if it was made for other networks, [`EngineError::BadAddOn`] if it
    /// is no LoRA, or of a kind that is not built, or contradicts itself.
    pub fn add(
        &mut self,
        (name, file): (&str, &TensorFile),
        model: &ModelFiles,
        strengths: Strengths,
    ) -> Result<(), EngineError> {
        let modules = modules(name, file)?;
        let targets = Targets::of(model);
        let mut unknown = Vec::new();
        let mut found = Vec::new();
        for (key, module) in &modules {
            let Some((part, target)) = targets.find(key) else {
                unknown.push(key.as_str());
                continue;
            };
            let delta = delta(module, alpha_noted(file, part))
                .map_err(|reason| EngineError::bad_add_on(name, format!("`{key}` {reason}")))?;
            let shape = part
                .weights(model)
                .and_then(|weights| weights.shape(&target));
            if !shape.is_some_and(|shape| delta.fits(shape)) {
                let reason = format!(
                    "its `{key}` changes a layer of {:?}, that of this model has {:?}",
                    delta.product(),
                    shape.unwrap_or_default()
                );
                return Err(EngineError::mismatch(name, reason));
            }
            found.push((part, target, delta));
        }
        if unknown.len() >= found.len() {
            let reason = format!(
                "this model has {} of its {} layers, and none that is called `{}`",
                found.len(),
                modules.len(),
                unknown.first().copied().unwrap_or_default()
            );
            return Err(EngineError::mismatch(name, reason));
        }
        if let Some(first) = unknown.first() {
            let (count, of) = (unknown.len(), modules.len());
            tracing::warn!(
                lora = name,
                count,
                of,
                first,
                "layers that this model has not"
            );
        }
        self.texts.resize(model.texts.len(), BTreeMap::new());
        for (part, target, delta) in found {
            let (place, strength) = match part {
                Part::UNet => (Some(&mut self.unet), strengths.unet),
                Part::Text(tower) => (self.texts.get_mut(tower), strengths.text),
            };
            if let Some(place) = place
                && strength != 0.0
            {
                let all = place.entry(target).or_default();
                all.push(delta.scaled(strength));
            }
        }
        Ok(())
    }
}

/// The tensors of a file by the layers that they belong to.
fn modules<'a>(
    name: &str,
    file: &'a TensorFile,
) -> Result<BTreeMap<String, Module<'a>>, EngineError> {
    let mut modules: BTreeMap<String, Module<'a>> = BTreeMap::new();
    for (tensor, entry) in file.entries() {
        if let Some((_, kind)) = STRANGE.iter().find(|(part, _)| tensor.contains(part)) {
            let reason = format!("`{tensor}` is of the kind {kind}, which is not built");
            return Err(EngineError::bad_add_on(name, reason));
        }
        let known = ENDINGS
            .iter()
            .find_map(|(ending, role)| Some((tensor.strip_suffix(ending)?, *role)));
        if let Some((key, role)) = known {
            let module = modules.entry(names::plain(key)).or_default();
            module.insert(role, entry);
        }
    }
    if modules.is_empty() {
        return Err(EngineError::bad_add_on(name, "it is no LoRA"));
    }
    Ok(modules)
}

/// The change of a layer, or what is wrong with it.
fn delta(module: &Module<'_>, noted: Option<f64>) -> Result<Delta, String> {
    let get = |role: Role| module.get(&role).map(|entry| (*entry).clone());
    let factors = |up, down, core| {
        Some(Factors {
            up: get(up)?,
            down: get(down)?,
            core: get(core),
        })
    };
    let alpha = match module.get(&Role::Alpha) {
        Some(entry) => Some(number(entry).ok_or("has an alpha that is no number")?),
        None => noted,
    };
    let scale = |factors: &Factors| {
        let rank = factors.rank().max(1) as f64;
        alpha.map_or(1.0, |alpha| alpha / rank)
    };
    let low = factors(Role::Up, Role::Down, Role::Core);
    let first = factors(Role::FirstUp, Role::FirstDown, Role::FirstCore);
    let second = factors(Role::SecondUp, Role::SecondDown, Role::SecondCore);
    let delta = match (low, first, second) {
        (Some(low), None, None) => {
            let scale = scale(&low);
            Delta::low_rank(low, scale)
        }
        (None, Some(first), Some(second)) => {
            let scale = scale(&first);
            Delta::hadamard(first, second, scale)
        }
        _ => return Err("lacks one of its factors".to_owned()),
    };
    if delta.product().is_none() {
        return Err("has factors that do not fit each other".to_owned());
    }
    Ok(delta)
}

/// A tensor of one finite number.
pub(in crate::native) fn number(entry: &Entry) -> Option<f64> {
    if entry.count() != 1 {
        return None;
    }
    let all: Vec<f32> = entry
        .to_f32(&Device::Cpu)
        .ok()?
        .flatten_all()
        .ok()?
        .to_vec1()
        .ok()?;
    all.first()
        .copied()
        .filter(|number| number.is_finite())
        .map(f64::from)
}

/// Alpha as diffusers writes it: once for all, in the header.
fn alpha_noted(file: &TensorFile, part: Part) -> Option<f64> {
    let note: serde_json::Value = serde_json::from_str(file.note("lora_adapter_metadata")?).ok()?;
    let key = format!("{}.lora_alpha", part.diffusers_name());
    note.get(key)?.as_f64()
}
