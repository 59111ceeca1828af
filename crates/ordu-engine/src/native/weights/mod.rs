//! Named tensors of a model: read from files, brought to one naming, handed out to networks by name
//! and shape.
//!
//! The naming inside is that of diffusers. [`ldm`] maps the names of single-file checkpoints to it,
//! once, before any network is built. A [`Scope`] notes every tensor that is asked for, so that one
//! error can name all that is missing, wrongly shaped or left over.

mod content;
mod delta;
mod file;
pub mod ldm;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use candle_core::{Device, Tensor};

pub(in crate::native) use content::Content;
pub use delta::{Delta, Factors};
pub(crate) use file::read_small;
pub use file::{Entry, TensorFile};

use crate::EngineError;
use crate::native::Compute;

/// Tensors by canonical name, not yet copied into memory.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Entry>,
    /// What is added to tensors when they are copied, in this order.
    deltas: BTreeMap<String, Vec<Delta>>,
    /// Whether tensors that are not there are made up.
    made_up: bool,
}

impl Weights {
    /// All tensors of a file under their own names.
    pub fn from_file(file: &TensorFile) -> Self {
        Self {
            tensors: file
                .entries()
                .map(|(name, entry)| (name.to_owned(), entry.clone()))
                .collect(),
            ..Self::default()
        }
    }

    /// Whatever is asked for: numbers that mean nothing, to measure networks of true size with.
    pub fn made_up() -> Self {
        Self {
            made_up: true,
            ..Self::default()
        }
    }

    /// Tensors under names of one's own making.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Entry)>) -> Self {
        Self {
            tensors: entries.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same tensors, changed. The files stay as they are: who wants them unchanged takes them from
    /// there.
    #[must_use]
    pub fn with_deltas(&self, deltas: BTreeMap<String, Vec<Delta>>) -> Self {
        Self {
            tensors: self.tensors.clone(),
            deltas,
            made_up: self.made_up,
        }
    }

    /// The same with further tensors.
    #[must_use]
    pub fn with_added(&self, added: &BTreeMap<String, Entry>) -> Self {
        let mut all = self.clone();
        let added = added.iter();
        all.tensors
            .extend(added.map(|(name, entry)| (name.clone(), entry.clone())));
        all
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Entry::shape)
    }

    /// Names and tensors in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.tensors
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// Size in the file of all tensors together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.tensors
            .values()
            .map(|entry| entry.bytes().len() as u64)
            .sum()
    }

    /// The root from which a network takes its tensors.
    pub fn root(&self, compute: &Compute) -> Scope<'_> {
        Scope {
            weights: self,
            compute: compute.clone(),
            prefix: String::new(),
            ledger: Rc::new(RefCell::new(Ledger::default())),
        }
    }
}

/// What has been asked for so far.
#[derive(Debug, Default)]
struct Ledger {
    used: BTreeSet<String>,
    missing: Vec<String>,
    misshapen: Vec<String>,
}

/// A prefix of names, such as `down_blocks.0.resnets.1.`, from which a part of a network takes its
/// tensors.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    weights: &'a Weights,
    compute: Compute,
    prefix: String,
    ledger: Rc<RefCell<Ledger>>,
}

impl Scope<'_> {
    /// The scope of a part: `name` and a dot are added to the prefix.
    #[must_use]
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: format!("{}{name}.", self.prefix),
            ..self.clone()
        }
    }

    /// Where the network computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Whether a tensor of this name exists.
    pub fn has(&self, name: &str) -> bool {
        self.weights
            .tensors
            .contains_key(&format!("{}{name}", self.prefix))
    }

    /// The tensor of this name and shape, on the device of the root and in its numbers.
    ///
    /// If it is missing or of another shape this is noted for [`Scope::finish`], and a stand-in of
    /// zeros that takes no memory is returned, so that building goes on and finds all other faults
    /// too.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tensor`] if the device refuses the copy.
    pub fn take(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        let full = format!("{}{name}", self.prefix);
        let Some(entry) = self.weights.tensors.get(&full) else {
            if self.weights.made_up {
                return Ok(self.compute.take(&made_up(name, shape)?)?);
            }
            self.ledger
                .borrow_mut()
                .missing
                .push(format!("{full} {shape:?}"));
            return self.stand_in(shape);
        };
        self.ledger.borrow_mut().used.insert(full.clone());
        if !same_up_to_ones(entry.shape(), shape) {
            let line = format!("{full} is {:?}, expected {shape:?}", entry.shape());
            self.ledger.borrow_mut().misshapen.push(line);
            return self.stand_in(shape);
        }
        let Some(deltas) = self.weights.deltas.get(&full) else {
            return Ok(entry.to(&self.compute)?.reshape(shape)?);
        };
        // Small changes to numbers of 16 bits are only exact in 32.
        let mut tensor = entry.to_f32(self.compute.device())?;
        for delta in deltas {
            tensor = delta.add_to(&tensor)?;
        }
        Ok(tensor.to_dtype(self.compute.dtype())?.reshape(shape)?)
    }

    /// The shape in the file of the tensor of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.weights.shape(&format!("{}{name}", self.prefix))
    }

    fn stand_in(&self, shape: &[usize]) -> Result<Tensor, EngineError> {
        let zero = Tensor::zeros(1, self.compute.dtype(), self.compute.device())?;
        Ok(zero.broadcast_as(shape)?)
    }

    /// Ends the building of a network: every tensor asked for was there, and every tensor there was
    /// asked for.
    ///
    /// `model` names the model in the error; `ignored` are endings of names that may be left over.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming the tensors concerned.
    pub fn finish(&self, model: &str, ignored: &[&str]) -> Result<(), EngineError> {
        let ledger = self.ledger.borrow();
        let extra: Vec<String> = self
            .weights
            .iter()
            .filter(|(name, _)| !ledger.used.contains(*name))
            .filter(|(name, _)| !ignored.iter().any(|ending| name.ends_with(ending)))
            .map(|(name, entry)| format!("{name} {:?}", entry.shape()))
            .collect();
        let faults: Vec<String> = [
            ("missing", &ledger.missing),
            ("of the wrong shape", &ledger.misshapen),
            ("not part of this architecture", &extra),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| summary(what, names))
        .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(EngineError::bad_model(model, faults.join("; ")))
        }
    }
}

/// Numbers that keep the size of what goes through a layer about as it is.
fn made_up(name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
    let count = shape.iter().product::<usize>();
    let numbers = match shape {
        [_] if name == "weight" => vec![1.0; count],
        [] | [_] => vec![0.0; count],
        [_, inputs @ ..] => {
            let spread = (3.0 / inputs.iter().product::<usize>().max(1) as f64).sqrt();
            let mut state = 0x9E37_79B9_u32;
            let next = || {
                // Marsaglia 2003, "Xorshift RNGs".
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                #[expect(clippy::cast_possible_truncation, reason = "weights are in f32")]
                let number = (spread * (f64::from(state) / f64::from(u32::MAX / 2) - 1.0)) as f32;
                number
            };
            std::iter::repeat_with(next).take(count).collect()
        }
    };
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

/// Linear layers and 1×1 convolutions hold the same numbers; files mix the two up freely.
fn same_up_to_ones(left: &[usize], right: &[usize]) -> bool {
    let trim = |shape: &[usize]| {
        let end = shape
            .iter()
            .rposition(|side| *side != 1)
            .map_or(0, |last| last + 1);
        shape.get(..end).map(<[usize]>::to_vec)
    };
    trim(left) == trim(right)
}

/// `3 tensors are missing: a [1], b [2], c [3]`, cut after eight names.
fn summary(what: &str, names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    let be = if names.len() == 1 {
        "tensor is"
    } else {
        "tensors are"
    };
    format!("{} {be} {what}: {}{more}", names.len(), shown.join(", "))
}
