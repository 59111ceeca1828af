//! Learned words: rows for the token tables that came with a file of their own (Gal et al. 2022, "An
//! Image is Worth One Word: Personalizing Text-to-Image Generation using Textual Inversion").
//!
//! | file | holds |
//! |---|---|
//! | one tensor `[rows, width]` of any name (`emb_params`, `<word>`) | rows for the one encoder |
//! | `clip_l` `[rows, 768]` and `clip_g` `[rows, 1280]` | rows for the two encoders of SDXL |

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::EngineError;
use crate::native::weights::{Entry, TensorFile};

/// A word of more rows than this leaves nothing of a prompt.
const MAX_ROWS: usize = 75;

/// Names that are said to be for one of two encoders.
const PAIR: [&str; 2] = ["clip_l", "clip_g"];

/// The learned words of a task.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// For each name, rows `[rows, width]` for each encoder.
    words: BTreeMap<String, Vec<Tensor>>,
}

/// Those of one encoder.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// The ids of each word: they begin where the token table ends.
    pub ids: BTreeMap<String, Vec<u32>>,
    /// `[rows, width]`, of all words.
    pub rows: Option<Tensor>,
}

impl Words {
    /// Adds the word of a file, for encoders that are so wide.
    ///
    /// # Errors
    ///
    /// [`EngineError::AddOnMismatch`] if it is for others, [`EngineError::BadAddOn`] if it is no learned
    /// word at all.
    pub fn add(
        &mut self,
        name: &str,
        file: &TensorFile,
        widths: &[usize],
    ) -> Result<(), EngineError> {
        let bad = |reason: String| EngineError::bad_add_on(name, reason);
        let found = match widths {
            [_] => vec![only(file).ok_or_else(|| self::bad_shape(name, file))?],
            _ => PAIR
                .iter()
                .take(widths.len())
                .map(|part| file.get(part))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| match only(file) {
                    Some(entry) => mismatch(name, entry, widths),
                    None => bad_shape(name, file),
                })?,
        };
        let mut rows = Vec::new();
        for (entry, width) in found.into_iter().zip(widths) {
            let [count, own] = *entry.shape() else {
                return Err(bad_shape(name, file));
            };
            if own != *width {
                return Err(mismatch(name, entry, widths));
            }
            if !(1..=MAX_ROWS).contains(&count) {
                return Err(bad(format!("{count} rows, 1 to {MAX_ROWS} are possible")));
            }
            let read = entry.to_f32(&Device::Cpu).map_err(|error| match error {
                EngineError::BadModel { reason, .. } => bad(reason),
                other => other,
            })?;
            rows.push(read);
        }
        let count = |tensor: &Tensor| tensor.dim(0).unwrap_or_default();
        if rows
            .iter()
            .any(|tensor| Some(count(tensor)) != rows.first().map(count))
        {
            return Err(bad("its parts have different numbers of rows".to_owned()));
        }
        self.words.insert(name.to_owned(), rows);
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Those of an encoder, whose token table has so many rows.
    pub fn of_tower(&self, place: usize, vocabulary: u32) -> Learned {
        let mut learned = Learned::default();
        let mut rows = Vec::new();
        let mut next = vocabulary;
        for (name, parts) in &self.words {
            let Some(part) = parts.get(place) else {
                continue;
            };
            let count = u32::try_from(part.dim(0).unwrap_or_default()).unwrap_or_default();
            learned
                .ids
                .insert(name.clone(), (next..next.saturating_add(count)).collect());
            next = next.saturating_add(count);
            rows.push(part);
        }
        learned.rows = Tensor::cat(&rows, 0).ok();
        learned
    }
}

/// The one tensor of a file that holds one, whatever it is called.
fn only(file: &TensorFile) -> Option<&Entry> {
    let mut entries = file.entries();
    match (entries.next(), entries.next()) {
        (Some((_, entry)), None) => Some(entry),
        _ => ["emb_params", "clip_l", "clip_g"]
            .iter()
            .find_map(|name| file.get(name)),
    }
    .filter(|entry| entry.shape().len() == 2)
}

fn bad_shape(name: &str, file: &TensorFile) -> EngineError {
    let found: Vec<String> = file
        .entries()
        .take(4)
        .map(|(name, entry)| format!("{name} {:?}", entry.shape()))
        .collect();
    let reason = format!("it is no textual inversion; it holds {}", found.join(", "));
    EngineError::bad_add_on(name, reason)
}

fn mismatch(name: &str, entry: &Entry, widths: &[usize]) -> EngineError {
    let own = entry.shape().last().copied().unwrap_or_default();
    let reason = format!("it is {own} wide, the text encoders of this model {widths:?}");
    EngineError::mismatch(name, reason)
}
