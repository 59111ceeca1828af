//! Everything that reads what a horde says, as fuzzing calls it. Each entry says whether it made sense
//! of the bytes; what must never be is an assertion.

use ordu_api::event::Event;
use serde_json::Value;

use crate::sse::{Decoder, Frame};
use crate::{Extensions, Refusal, image_job};

/// A stream of events.
pub fn events(bytes: &[u8]) -> bool {
    let whole = frames([bytes]);
    assert_eq!(whole, frames(bytes.chunks(1)), "however they are cut");
    whole.iter().fold(false, |any, frame| {
        any | Event::read(&frame.name, &frame.data).is_ok_and(|event| event.is_some())
    })
}

fn frames<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        frames.extend(std::iter::from_fn(|| decoder.next()));
    }
    frames
}

/// A refusal, the answer to a pop, and what a horde says of itself.
pub fn answer(bytes: &[u8]) -> bool {
    let refusal = Refusal::read(400, bytes);
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else {
        return false;
    };
    Extensions::read(&body);
    refusal.rc.is_some() | image_job(body).is_ok_and(|job| job.id.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        for entry in [events, answer] {
            for bytes in [
                &b""[..],
                b"\xff\0\r",
                b"data\n\n",
                b"[[[[",
                b"data: {}\r\n\r\n",
            ] {
                assert!(!entry(bytes), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_a_horde_says_is_read() {
        let id = "00000000-0000-0000-0000-000000000001";
        assert!(answer(
            br#"{"rc": "ImageValidationFailed", "message": "a"}"#
        ));
        assert!(answer(
            format!(r#"{{"id": "{id}", "payload": {{}}}}"#).as_bytes()
        ));
        let stream = format!("event: assigned\ndata: {{\"id\": \"{id}\"}}\n\n");
        assert!(events(stream.as_bytes()));
    }
}
