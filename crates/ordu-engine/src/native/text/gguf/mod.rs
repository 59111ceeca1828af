//! GGUF files: metadata and quantized tensors, checked before anything in them is believed.
//!
//! Nothing is allocated because a header says so: a text or a list is as long as the bytes that are
//! there. Lists stay where they lie until somebody reads them.
//!
//! # Source
//! The specification in the documentation of ggml (`docs/gguf.md`), versions 2 and 3.

mod cursor;
mod kind;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::{QStorage, QTensor};

use self::cursor::Cursor;
use self::kind::Kind;
pub(super) use self::value::Value;
use super::super::weights::Content;
use crate::EngineError;

/// The first four bytes of every file.
const MAGIC: &[u8] = b"GGUF";
/// The most entries of metadata. Real files have some dozens.
const MAX_ENTRIES: u64 = 10_000;
/// The most tensors. The largest real files have some thousands.
const MAX_TENSORS: u64 = 50_000;
/// The most dimensions of one tensor.
const MAX_RANK: u32 = 4;
/// Where tensors begin at multiples of, if the file does not say.
const ALIGNMENT: u64 = 32;
/// The largest such number that makes sense.
const MAX_ALIGNMENT: u64 = 1 << 16;

/// A file of metadata and tensors.
#[derive(Debug)]
pub(super) struct Gguf {
    name: String,
    content: Content,
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Entry>,
}

/// One tensor in a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    kind: Kind,
    /// Sides, outermost first.
    pub(super) shape: Vec<usize>,
    range: Range<usize>,
}

impl Gguf {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] if it cannot be opened, [`EngineError::BadModel`] if its header is refused.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        Self::parse(path.display().to_string(), Content::map(path)?)
    }

    /// Checks the header of a file that is part of this program.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the header is refused.
    pub(super) fn bundled(name: &str, bytes: &'static [u8]) -> Result<Self, EngineError> {
        Self::parse(name.to_owned(), Content::Bundled(bytes))
    }

    /// Checks the header of a file that has been read into memory.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if the header is refused.
    #[cfg(test)]
    pub(super) fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, EngineError> {
        Self::parse(name.to_owned(), Content::Owned(bytes))
    }

    fn parse(name: String, content: Content) -> Result<Self, EngineError> {
        match header(content.bytes()) {
            Ok((values, tensors)) => Ok(Self {
                name,
                content,
                values,
                tensors,
            }),
            Err(reason) => Err(EngineError::bad_model(name, reason)),
        }
    }

    /// What it was opened as.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An entry of the metadata.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A text of the metadata.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_text()
    }

    /// A whole number of the metadata.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.value(key)?.as_number()
    }

    /// The texts of a list, or `None` if there is no such list of texts.
    pub(super) fn texts(&self, key: &str) -> Option<impl Iterator<Item = Cow<'_, str>>> {
        let list = self.value(key)?.as_list()?;
        list.texts(self.content.bytes())
    }

    /// The numbers of a list, or `None` if there is no such list of numbers.
    pub(super) fn numbers(&self, key: &str) -> Option<impl Iterator<Item = f64>> {
        let list = self.value(key)?.as_list()?;
        list.numbers(self.content.bytes())
    }

    /// Names and tensors in the order of names.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.tensors
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// A tensor's place and shape.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// Size of all tensors together, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let lengths = self.tensors.values().map(|entry| entry.range.len() as u64);
        lengths.sum()
    }

    /// Copies a tensor into memory as it is.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if there is none of this name, or if it is stored in a way that cannot
    /// be computed with.
    pub(super) fn tensor(&self, name: &str) -> Result<QTensor, EngineError> {
        let refuse = |reason: String| EngineError::bad_model(self.name.as_str(), reason);
        let entry = self
            .entry(name)
            .ok_or_else(|| refuse(format!("it has no tensor `{name}`")))?;
        let Some(kind) = entry.kind.computable() else {
            return Err(refuse(entry.kind.advice(name)));
        };
        let bytes = self.content.bytes().get(entry.range.clone());
        let storage = with_alignment(bytes.unwrap_or_default(), |bytes| {
            QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, kind)
        });
        Ok(QTensor::new(storage?, entry.shape.as_slice())?)
    }

    /// Refuses the file, in its name.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> EngineError {
        EngineError::bad_model(self.name.as_str(), reason)
    }
}

impl Entry {
    /// What stands in the way of computing with it.
    pub(super) fn problem(&self, name: &str) -> Option<String> {
        match self.kind.computable() {
            Some(_) => None,
            None => Some(self.kind.advice(name)),
        }
    }
}

/// Bytes at an address where numbers of any kind may lie. The tensor library panics otherwise; a file
/// that is part of the program may lie anywhere.
fn with_alignment<T>(bytes: &[u8], work: impl FnOnce(&[u8]) -> T) -> T {
    const WIDEST: usize = 16;
    if bytes.as_ptr().align_offset(WIDEST) == 0 {
        return work(bytes);
    }
    let mut copy = vec![0; bytes.len() + WIDEST];
    let start = copy.as_ptr().align_offset(WIDEST).min(WIDEST);
    match copy.get_mut(start..start + bytes.len()) {
        Some(place) => {
            place.copy_from_slice(bytes);
            work(place)
        }
        None => work(&[]),
    }
}

type Header = (BTreeMap<String, Value>, BTreeMap<String, Entry>);

fn header(bytes: &[u8]) -> Result<Header, String> {
    let mut cursor = Cursor::new(bytes);
    let (tensor_count, value_count) = counts(&mut cursor)?;
    let mut values = BTreeMap::new();
    for _ in 0..value_count {
        let key = cursor.name()?;
        let value = Value::read(&mut cursor).map_err(|reason| format!("`{key}`: {reason}"))?;
        if values.insert(key.clone(), value).is_some() {
            return Err(format!("`{key}` stands in its metadata twice"));
        }
    }
    let alignment = match values.get("general.alignment") {
        None => ALIGNMENT,
        Some(value) => value.as_number().unwrap_or_default(),
    };
    // ggml asks for a multiple of 8; the power of two is what all programs write.
    if !alignment.is_power_of_two() || !(8..=MAX_ALIGNMENT).contains(&alignment) {
        return Err(format!(
            "`general.alignment` is {alignment}; 8 to {MAX_ALIGNMENT} are possible, powers of two"
        ));
    }
    let mut announced = Vec::new();
    for _ in 0..tensor_count {
        announced.push(Announced::read(&mut cursor)?);
    }
    let start = (cursor.place() as u64).next_multiple_of(alignment);
    let tensors = placed(announced, start, alignment, bytes.len() as u64)?;
    Ok((values, tensors))
}

/// How many tensors and entries of metadata follow.
fn counts(cursor: &mut Cursor<'_>) -> Result<(u64, u64), String> {
    if cursor.take(4).ok() != Some(MAGIC) {
        return Err("it is not a GGUF file".to_owned());
    }
    match cursor.u32()? {
        2 | 3 => {}
        1 => return Err("GGUF version 1 is too old: convert the model anew".to_owned()),
        other if matches!(other.swap_bytes(), 1..=3) => {
            return Err("it is big-endian: convert it to little-endian".to_owned());
        }
        other => return Err(format!("GGUF version {other} is not known, 2 and 3 are")),
    }
    let (tensors, values) = (cursor.u64()?, cursor.u64()?);
    if tensors > MAX_TENSORS {
        return Err(format!("{tensors} tensors, at most {MAX_TENSORS} are read"));
    }
    if values > MAX_ENTRIES {
        return Err(format!(
            "{values} entries of metadata, at most {MAX_ENTRIES} are read"
        ));
    }
    Ok((tensors, values))
}

/// A tensor as the header tells of it.
struct Announced {
    name: String,
    kind: Kind,
    shape: Vec<usize>,
    offset: u64,
    bytes: u64,
}

impl Announced {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, String> {
        let name = cursor.name()?;
        let refuse = |what: String| Err(format!("tensor `{name}`: {what}"));
        let rank = cursor.u32()?;
        if !(1..=MAX_RANK).contains(&rank) {
            return refuse(format!("{rank} dimensions, 1 to {MAX_RANK} are possible"));
        }
        let mut sides = Vec::new();
        for _ in 0..rank {
            sides.push(cursor.u64()?);
        }
        let kind = Kind::new(cursor.u32()?);
        let offset = cursor.u64()?;
        let Some(layout) = kind.layout() else {
            return refuse(format!("type {kind} is not known"));
        };
        // The innermost side comes first in the file.
        let inner = sides.first().copied().unwrap_or_default();
        if !inner.is_multiple_of(layout.block) {
            return refuse(format!(
                "rows of {inner} numbers are no whole blocks of {} as {kind} has them",
                layout.block
            ));
        }
        let all = sides
            .iter()
            .try_fold(1, |all: u64, side| all.checked_mul(*side));
        let bytes = all.and_then(|all| (all / layout.block).checked_mul(layout.bytes));
        let mut shape = Vec::new();
        for side in sides.iter().rev() {
            match usize::try_from(*side) {
                Ok(side) if side > 0 => shape.push(side),
                _ => return refuse(format!("a side of {side}")),
            }
        }
        let Some(bytes) = bytes else {
            return refuse(format!("a shape of {shape:?}"));
        };
        Ok(Self {
            name,
            kind,
            shape,
            offset,
            bytes,
        })
    }
}

/// Tensors at their places, which lie in the file and do not overlap.
fn placed(
    announced: Vec<Announced>,
    start: u64,
    alignment: u64,
    length: u64,
) -> Result<BTreeMap<String, Entry>, String> {
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::new();
    for tensor in announced {
        let name = tensor.name;
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(format!(
                "tensor `{name}` begins at {}, no multiple of {alignment}",
                tensor.offset
            ));
        }
        let from = start.checked_add(tensor.offset);
        let to = from.and_then(|from| from.checked_add(tensor.bytes));
        let (Some(from), Some(to)) = (from, to.filter(|to| *to <= length)) else {
            return Err(format!(
                "tensor `{name}` is to have {} bytes from {}, the file ends at {length}",
                tensor.bytes,
                start.saturating_add(tensor.offset)
            ));
        };
        // Within the file, so within memory.
        let place = |at: u64| usize::try_from(at).map_err(|_| "it is too large".to_owned());
        let range = place(from)?..place(to)?;
        ranges.push((range.start, range.end, name.clone()));
        let entry = Entry {
            kind: tensor.kind,
            shape: tensor.shape,
            range,
        };
        if tensors.insert(name.clone(), entry).is_some() {
            return Err(format!("tensor `{name}` stands in it twice"));
        }
    }
    ranges.sort();
    for pair in ranges.windows(2) {
        if let [(_, end, first), (begin, _, second)] = pair
            && begin < end
        {
            return Err(format!("tensors `{first}` and `{second}` overlap"));
        }
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests;
