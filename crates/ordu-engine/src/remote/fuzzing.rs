//! What other programs say, as fuzzing calls it.

use serde_json::Value;

use super::events::Lines;
use super::growing::{Growing, formatted};
use super::{comfyui, kobold, openai};
use crate::TextTask;

/// The answer of a program that writes: a stream, or a document.
pub fn text(bytes: &[u8]) -> bool {
    let task = TextTask {
        stop_sequence: vec!["ab".to_owned(), "\u{e9}".to_owned()],
        ..TextTask::default()
    };
    let mut growing = Growing::new(&task);
    if let Ok(document) = serde_json::from_slice::<Value>(bytes) {
        let mut whole = Growing::new(&task);
        if kobold::take_whole(&mut whole, &document).is_ok() {
            return whole.finished().is_ok();
        }
        openai::take(&mut growing, &document).ok();
    } else {
        let mut lines = Lines::default();
        lines.push(bytes).ok();
        while let Some(Ok(Some(event))) = lines.next() {
            if !openai::take(&mut growing, &event).is_ok_and(|goes_on| goes_on) {
                break;
            }
        }
    }
    let text = growing.finished();
    text.is_ok_and(|text| !formatted(&task, text).text.is_empty())
}

/// What a program that draws says.
pub fn picture(bytes: &[u8]) -> bool {
    comfyui::is_read(bytes)
}
