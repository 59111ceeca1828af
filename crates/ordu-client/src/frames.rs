//! Streams of server-sent events, as they come over the wire.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::time::timeout;

use crate::Error;
use crate::sse::{Decoder, Frame};
use crate::transport::{CALL_TIMEOUT, send, succeeded};

/// The largest event that is read.
const MAX_EVENT_BYTES: usize = 8 << 20;

/// A stream on which nothing comes for so long is broken: hordes show more often that they are alive.
const SILENCE: Duration = Duration::from_mins(1);

/// A stream never ends by time alone.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// A stream of server-sent events, of a horde or of whoever else speaks so.
#[derive(Debug)]
pub struct Frames {
    response: Response,
    decoder: Decoder,
}

impl Frames {
    /// Opens a stream; `None` if there is nothing to tell.
    ///
    /// # Errors
    /// By the status of the answer; transport errors.
    pub async fn open(call: RequestBuilder) -> Result<Option<Self>, Error> {
        let sent = timeout(CALL_TIMEOUT, send(call.timeout(NEVER))).await;
        let response = sent.map_err(|_| broken("no answer in time"))??;
        let response = succeeded(response).await?;
        let is_over = response.status() == StatusCode::NO_CONTENT;
        Ok((!is_over).then(|| Self {
            response,
            decoder: Decoder::default(),
        }))
    }

    /// The next event; `None` when the stream is over. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Transport errors, also when nothing comes for a minute.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.decoder.next() {
                return Ok(Some(frame));
            }
            if self.decoder.pending() > MAX_EVENT_BYTES {
                return Err(Error::TooLarge {
                    limit: MAX_EVENT_BYTES,
                });
            }
            let chunk = timeout(SILENCE, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| broken("nothing comes any more"))?;
            match chunk.map_err(Error::transport)? {
                Some(chunk) => self.decoder.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// A stream that cannot be read on.
pub(crate) fn broken(reason: &str) -> Error {
    Error::Unavailable {
        reason: reason.to_owned(),
        retry_after: None,
        source: None,
    }
}
