//! Streams of server-sent events that carry JSON.
//!
//! # Source
//! The WHATWG's HTML standard, server-sent events; `[DONE]` is OpenAI's.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::timeout;

use super::backend::{Failure, RemoteTiming, broken};
use crate::TextError;

/// The longest event of a stream.
const MAX_EVENT_BYTES: usize = 1 << 20;

pub(super) fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// The program did not go on for so long.
pub(super) fn stalled(after: Duration) -> Failure {
    Failure::Final(TextError::Stalled {
        seconds: after.as_secs(),
    })
}

/// The events of a stream, each a JSON document.
pub(super) struct Events {
    response: Response,
    lines: Lines,
    ended: bool,
    /// How long to wait for the next one.
    patience: Duration,
    /// And for those behind it.
    stall: Duration,
}

impl Events {
    pub(super) fn new(response: Response, timing: &RemoteTiming) -> Self {
        Self {
            response,
            lines: Lines::default(),
            ended: false,
            patience: timing.first_token,
            stall: timing.stall,
        }
    }

    /// Nothing behind the last one; [`TextError::Stalled`] if none comes.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        let patience = self.patience;
        let next = timeout(patience, self.read()).await;
        self.patience = self.stall;
        next.map_err(|_| stalled(patience))?
    }

    async fn read(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            if let Some(event) = self.lines.next() {
                return event;
            }
            if self.ended {
                return Ok(None);
            }
            let more = self.response.chunk().await;
            if let Some(chunk) = more.map_err(|error| broken(&error))? {
                self.lines.push(&chunk)?;
            } else {
                // The last line may lack its end.
                self.ended = true;
                self.lines.push(b"\n")?;
            }
        }
    }
}

/// The lines of a stream, which come in pieces.
#[derive(Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.extend_from_slice(bytes);
        if self.0.len() > MAX_EVENT_BYTES {
            return Err(Failure::Passing("an event is too long".to_owned()));
        }
        Ok(())
    }

    /// What the next whole line with data says: a document, or that nothing comes behind it.
    pub(super) fn next(&mut self) -> Option<Result<Option<Value>, Failure>> {
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            match data(&line) {
                Some(b"[DONE]") => return Some(Ok(None)),
                Some(document) => return Some(parse(document).map(Some)),
                None => {}
            }
        }
        None
    }
}

/// What a line carries, if it carries data.
fn data(line: &[u8]) -> Option<&[u8]> {
    let data = line.strip_prefix(b"data:")?.trim_ascii();
    (!data.is_empty()).then_some(data)
}

fn parse(document: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(document).map_err(|_| Failure::Passing("an event is no JSON".to_owned()))
}
