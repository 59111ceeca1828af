//! Which phrases of our lists a picture is like.

use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use image::DynamicImage;
use serde_json::{Map, Value, json};

use super::GoOn;
use super::clip::ClipReader;
use super::files::Stamp;
use super::words::LISTS;
use crate::EngineError;

/// What is asked about a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// How many phrases of each list.
    pub(super) top: usize,
    /// How alike the picture is to each by itself, not how they share it among them.
    pub(super) likenesses: bool,
}

/// What a CLIP makes of our lists. That takes longer than looking at a picture, so it is kept.
#[derive(Debug, Default)]
pub(super) struct Phrases(Mutex<Option<(Stamp, Vec<Tensor>)>>);

impl Phrases {
    /// The vectors of each list, of the CLIP of these files.
    ///
    /// # Errors
    ///
    /// What `go_on` says; those of the tensor library.
    pub(super) fn of(
        &self,
        files: &Stamp,
        clip: &ClipReader,
        go_on: GoOn<'_>,
    ) -> Result<Vec<Tensor>, EngineError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, lists)) = &*known
            && stamp == files
        {
            return Ok(lists.clone());
        }
        let read = LISTS
            .iter()
            .map(|list| clip.phrases(&list.phrases(), go_on));
        let lists: Vec<Tensor> = read.collect::<Result<_, _>>()?;
        *known = Some((files.clone(), lists.clone()));
        Ok(lists)
    }
}

/// The likeliest phrases of each list: `{"tags": [{"text", "confidence"}], …}`, confidence in percent.
///
/// # Errors
///
/// What `go_on` says; those of the tensor library.
pub(super) fn interrogate(
    clip: &ClipReader,
    lists: &[Tensor],
    (picture, asked): (&DynamicImage, &Asked),
    go_on: GoOn<'_>,
) -> Result<Value, EngineError> {
    let picture = clip.picture(picture, go_on)?;
    let mut answer = Map::new();
    for (list, vectors) in LISTS.into_iter().zip(lists) {
        let mut values = clip.likenesses(&picture, vectors)?;
        if !asked.likenesses {
            values = clip.shares(&values);
        }
        let mut found: Vec<(&str, f32)> = list.phrases().into_iter().zip(values).collect();
        found.sort_by(|one, other| other.1.total_cmp(&one.1));
        let found = found.into_iter().take(asked.top);
        let told = found.map(|(text, value)| json!({"text": text, "confidence": percent(value)}));
        answer.insert(list.name.to_owned(), told.collect());
    }
    Ok(Value::Object(answer))
}

/// With two digits behind the point.
fn percent(share: f32) -> f64 {
    (f64::from(share) * 10_000.0).round() / 100.0
}
