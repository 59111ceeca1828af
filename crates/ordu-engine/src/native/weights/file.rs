//! One `.safetensors` file: its header is checked before anything in it is believed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::content::Content;
use crate::EngineError;
use crate::native::Compute;

/// The largest header that is parsed. The largest known checkpoints have a few thousand tensors and
/// 500 KB.
const MAX_HEADER_BYTES: u64 = 16 * 1024 * 1024;
/// The most tensors of one file.
const MAX_TENSORS: usize = 50_000;
/// The most dimensions of one tensor.
const MAX_RANK: usize = 8;
/// The largest dimension, also of tensors without numbers: loaders compute with single ones.
const MAX_SIDE: usize = 1 << 30;

/// A file of named tensors, mapped into memory or part of this program.
#[derive(Clone, Debug)]
pub struct TensorFile {
    entries: BTreeMap<String, Entry>,
    notes: BTreeMap<String, String>,
}

/// One tensor in a file.
#[derive(Clone, Debug)]
pub struct Entry {
    content: Arc<Content>,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl TensorFile {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] if it cannot be opened, [`EngineError::BadModel`] if it is a pickle or
    /// its header is refused.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        refuse_pickle(path)?;
        Self::parse(&path.display().to_string(), Content::map(path)?)
    }

    /// Checks the header of a file that is part of this program.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the header is refused.
    pub fn bundled(name: &str, bytes: &'static [u8]) -> Result<Self, EngineError> {
        Self::parse(name, Content::Bundled(bytes))
    }

    /// Checks the header of a file that has been read into memory.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the header is refused.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, EngineError> {
        Self::parse(name, Content::Owned(bytes))
    }

    /// Names and tensors in the order of names.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// What the file says about itself under this key, in its header.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    fn parse(name: &str, content: Content) -> Result<Self, EngineError> {
        let refuse = |reason: String| EngineError::bad_model(name, reason);
        check_header_length(content.bytes()).map_err(refuse)?;
        // The crate checks what remains: JSON, types, shapes against lengths, gaps and overlaps,
        // the file's end.
        let parsed = SafeTensors::deserialize(content.bytes())
            .map_err(|error| refuse(format!("not a valid safetensors file: {error}")))?;
        if parsed.len() > MAX_TENSORS {
            return Err(refuse(format!(
                "{} tensors, at most {MAX_TENSORS} are read",
                parsed.len()
            )));
        }
        let start = content.bytes().as_ptr().addr();
        let mut found = Vec::with_capacity(parsed.len());
        for (tensor, view) in parsed.iter() {
            if view.shape().len() > MAX_RANK {
                return Err(refuse(format!(
                    "tensor `{tensor}` has {} dimensions",
                    view.shape().len()
                )));
            }
            if let Some(side) = view.shape().iter().find(|side| **side > MAX_SIDE) {
                return Err(refuse(format!("tensor `{tensor}` has a side of {side}")));
            }
            let from = view.data().as_ptr().addr() - start;
            let range = from..from + view.data().len();
            found.push((
                tensor.to_owned(),
                view.dtype(),
                view.shape().to_vec(),
                range,
            ));
        }
        let notes = SafeTensors::read_metadata(content.bytes())
            .ok()
            .and_then(|(_, header)| header.metadata().clone())
            .map(|notes| notes.into_iter().collect())
            .unwrap_or_default();
        let content = Arc::new(content);
        let entries = found
            .into_iter()
            .map(|(tensor, dtype, shape, range)| {
                (
                    tensor,
                    Entry {
                        content: Arc::clone(&content),
                        dtype,
                        shape,
                        range,
                    },
                )
            })
            .collect();
        Ok(Self { entries, notes })
    }
}

impl Entry {
    /// Sides, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Some of its rows, as a tensor of its own; `None` if it has not so many.
    pub(in crate::native) fn rows(&self, first: usize, count: usize) -> Option<Self> {
        let (all, sides) = self.shape.split_first()?;
        if first.checked_add(count)? > *all {
            return None;
        }
        // The header was checked: the numbers are as many as the shape says.
        let row = self.range.len().checked_div(*all)?;
        let start = self.range.start + first * row;
        let mut shape = vec![count];
        shape.extend_from_slice(sides);
        Some(Self {
            content: Arc::clone(&self.content),
            dtype: self.dtype,
            shape,
            range: start..start + count * row,
        })
    }

    /// How many numbers it has.
    pub(in crate::native) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The numbers as they lie in the file, little-endian.
    pub fn bytes(&self) -> &[u8] {
        self.content
            .bytes()
            .get(self.range.clone())
            .unwrap_or_default()
    }

    /// The tensor as networks there take it. To a card numbers of 16 bits go as they are.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] for numbers that are not supported, [`EngineError::Tensor`] if the
    /// device refuses the copy.
    pub(super) fn to(&self, compute: &Compute) -> Result<Tensor, EngineError> {
        let shape = self.shape.as_slice();
        let there = match self.dtype {
            Dtype::F16 if !compute.device().is_cpu() => Tensor::from_vec(
                read(self.bytes(), f16::from_le_bytes),
                shape,
                compute.device(),
            )?,
            Dtype::BF16 if !compute.device().is_cpu() => Tensor::from_vec(
                read(self.bytes(), bf16::from_le_bytes),
                shape,
                compute.device(),
            )?,
            _ => self.to_f32(compute.device())?,
        };
        Ok(there.to_dtype(compute.dtype())?)
    }

    /// The tensor in f32.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] for packed and other rare types, [`EngineError::Tensor`] if the
    /// device refuses the copy.
    pub fn to_f32(&self, device: &Device) -> Result<Tensor, EngineError> {
        let bytes = self.bytes();
        let numbers: Vec<f32> = match self.dtype {
            Dtype::F32 => read(bytes, f32::from_le_bytes),
            Dtype::F16 => read(bytes, |raw| f16::from_le_bytes(raw).to_f32()),
            Dtype::BF16 => read(bytes, |raw| bf16::from_le_bytes(raw).to_f32()),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "f32 is what networks compute in"
            )]
            Dtype::F64 => read(bytes, |raw| f64::from_le_bytes(raw) as f32),
            // Never weights, but ids and steps.
            Dtype::I64 => read(bytes, |raw| i64::from_le_bytes(raw) as f32),
            Dtype::U8 => read(bytes, |[raw]| f32::from(raw)),
            other => {
                let reason =
                    format!("type {other:?} is not supported: convert the file to f16 or f32");
                return Err(EngineError::bad_model("tensor", reason));
            }
        };
        Ok(Tensor::from_vec(numbers, self.shape.as_slice(), device)?)
    }
}

fn read<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (whole, _) = bytes.as_chunks::<N>();
    whole.iter().map(|raw| number(*raw)).collect()
}

fn check_header_length(bytes: &[u8]) -> Result<(), String> {
    let Some(raw) = bytes.first_chunk::<8>() else {
        return Err(format!(
            "{} bytes are too few for a safetensors file",
            bytes.len()
        ));
    };
    let header = u64::from_le_bytes(*raw);
    let room = bytes.len() as u64 - 8;
    if header > room {
        return Err(format!(
            "its header claims {header} bytes, the file has {room}"
        ));
    }
    if header > MAX_HEADER_BYTES {
        return Err(format!(
            "its header claims {header} bytes, at most {MAX_HEADER_BYTES} are read"
        ));
    }
    Ok(())
}

/// Reads a file whole, unless it is larger than any honest one of its kind.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Vec<u8>, EngineError> {
    let io = |source| EngineError::Io {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > most {
        let reason = format!("{length} bytes, at most {most} are read");
        return Err(EngineError::bad_model(path.display().to_string(), reason));
    }
    std::fs::read(path).map_err(io)
}

fn refuse_pickle(path: &Path) -> Result<(), EngineError> {
    let pickles = ["ckpt", "pt", "pth", "bin"];
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    if pickles
        .iter()
        .any(|pickle| pickle.eq_ignore_ascii_case(extension))
    {
        let reason = "files of this kind can run code when opened: convert it to .safetensors";
        return Err(EngineError::bad_model(path.display().to_string(), reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
