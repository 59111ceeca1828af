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
    buffer: Vec<u8>,
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
            buffer: Vec::new(),
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
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                match data(&line) {
                    Some(b"[DONE]") => return Ok(None),
                    Some(document) => return parse(document).map(Some),
                    None => {}
                }
            }
            if self.ended {
                return Ok(None);
            }
            let more = self.response.chunk().await;
            if let Some(chunk) = more.map_err(|error| broken(&error))? {
                self.buffer.extend_from_slice(&chunk);
            } else {
                // The last line may lack its end.
                self.ended = true;
                self.buffer.push(b'\n');
            }
            if self.buffer.len() > MAX_EVENT_BYTES {
                return Err(Failure::Passing("an event is too long".to_owned()));
            }
        }
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
