//! How programs that look at pictures are shown them.
//!
//! # Source
//! The documentation of llama.cpp's server (`/completion`, `/props`) and of KoboldCpp's API; OpenAI's
//! public API reference (chat completions).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{TextPicture, TextTask};

/// What llama.cpp puts a picture in the place of, unless it says another.
pub(super) const MARKER: &str = "<__media__>";

/// A part of a prompt.
enum Part<'t> {
    Text(&'t str),
    /// A picture, and which one, counted from 1.
    Picture(usize, &'t TextPicture),
}

/// A prompt with its pictures for llama.cpp. It counts the markers, so nobody else may write one.
pub(super) fn for_llama(task: &TextTask, marker: &str) -> Value {
    let prompt = written(task, |part| match part {
        Part::Text(text) => without(text, marker),
        Part::Picture(..) => marker.to_owned(),
    });
    json!({ "prompt_string": prompt, "multimodal_data": files(task) })
}

/// A prompt for KoboldCpp, which is given pictures apart from it: what stands in the place of each
/// tells the model which is meant.
pub(super) fn for_kobold(task: &TextTask) -> String {
    written(task, |part| match part {
        Part::Text(text) => (*text).to_owned(),
        Part::Picture(number, _) => format!("[image {number}]"),
    })
}

/// A prompt as what a user of a chat says.
pub(super) fn for_chat(task: &TextTask) -> Value {
    if task.pictures.is_empty() {
        return task.prompt.clone().into();
    }
    let part = |part: &Part<'_>| match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Picture(_, picture) => {
            let url = format!("data:image/jpeg;base64,{}", encoded(picture));
            json!({ "type": "image_url", "image_url": { "url": url } })
        }
    };
    parts(task).iter().map(part).collect()
}

/// The pictures of a task, each as base64.
pub(super) fn files(task: &TextTask) -> Vec<String> {
    task.pictures.iter().map(encoded).collect()
}

fn encoded(picture: &TextPicture) -> String {
    STANDARD.encode(&picture.jpeg)
}

fn written(task: &TextTask, write: impl Fn(&Part<'_>) -> String) -> String {
    parts(task).iter().map(write).collect()
}

/// A prompt taken apart at its pictures.
fn parts(task: &TextTask) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = task.prompt.as_str();
    let mut passed = 0;
    for (number, picture) in (1..).zip(&task.pictures) {
        let at = rest.floor_char_boundary(picture.at.saturating_sub(passed));
        let (before, behind) = rest.split_at(at);
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        parts.push(Part::Picture(number, picture));
        passed += at;
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

/// A text that holds no marker, also none that came of taking another one out.
fn without(text: &str, marker: &str) -> String {
    let mut text = text.to_owned();
    while !marker.is_empty() && text.contains(marker) {
        text = text.replace(marker, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(prompt: &str, places: &[usize]) -> TextTask {
        let picture = |at: &usize| TextPicture {
            at: *at,
            jpeg: b"jpeg".to_vec(),
        };
        TextTask {
            prompt: prompt.to_owned(),
            pictures: places.iter().map(picture).collect(),
            ..TextTask::default()
        }
    }

    #[test]
    fn a_picture_stands_where_it_belongs() {
        for (prompt, places, expected) in [
            ("ab", &[][..], "ab"),
            ("ab", &[1], "a*b"),
            ("ab", &[0, 0, 2], "**ab*"),
            ("ab", &[9], "ab*"),
            // In the middle of a letter is before it.
            ("é", &[1], "*é"),
            ("a*b", &[3], "ab*"),
        ] {
            let told = for_llama(&task(prompt, places), "*");
            assert_eq!(told["prompt_string"], expected, "{prompt} {places:?}");
            assert_eq!(
                told["multimodal_data"].as_array().unwrap().len(),
                places.len()
            );
        }
        assert_eq!(for_kobold(&task("ab", &[1, 1])), "a[image 1][image 2]b");
    }

    #[test]
    fn nobody_forges_a_marker() {
        let forged = "a<__me<__media__>dia__>b";
        let told = for_llama(&task(forged, &[0]), MARKER);
        assert_eq!(told["prompt_string"], "<__media__>ab");
    }

    #[test]
    fn a_chat_is_told_in_parts() {
        let picture =
            json!({"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,anBlZw=="}});
        assert_eq!(
            for_chat(&task("ab", &[0, 1])),
            json!([picture, {"type": "text", "text": "a"}, picture, {"type": "text", "text": "b"}])
        );
        assert_eq!(for_chat(&task("ab", &[])), json!("ab"));
    }
}
