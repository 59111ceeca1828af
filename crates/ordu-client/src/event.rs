//! What a horde has beyond the protocol, and what it tells while it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use ordu_api::RequestId;
use ordu_api::event::{Event, Heard, JobProgress};
use ordu_api::image::Progress;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::sse::{Decoder, Frame};
use crate::transport::{CALL_TIMEOUT, answer, read, send, succeeded};
use crate::{Error, Horde, Pace};

/// The largest event that is read.
const MAX_EVENT_BYTES: usize = 8 << 20;

/// A stream on which nothing comes for so long is broken: hordes show more often that they are alive.
const SILENCE: Duration = Duration::from_mins(1);

/// A stream never ends by time alone.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// The largest answer to a report that is looked at.
const MAX_HEARD_BYTES: usize = 4 << 10;

/// What a horde has beyond the protocol: names and versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions(BTreeMap<String, String>);

impl Extensions {
    /// Whether there is this one, in this version.
    pub fn has(&self, name: &str, version: &str) -> bool {
        self.0.get(name).is_some_and(|found| found == version)
    }

    /// Whether it tells what happens to requests.
    pub fn tells_events(&self) -> bool {
        self.has("events", "1")
    }

    /// Whether it passes on how far jobs are, with previews and texts.
    pub fn takes_progress(&self) -> bool {
        self.has("progress", "2")
    }

    /// Whether calls may wait for their answer.
    pub fn lets_wait(&self) -> bool {
        self.has("prefer-wait", "1")
    }

    fn read(document: &Value) -> Self {
        let listed = document.pointer("/api/ordu/extensions");
        let listed = listed.and_then(Value::as_object).into_iter().flatten();
        let texts = listed.filter_map(|(name, version)| {
            let version = version.as_str()?;
            Some((name.clone(), version.to_owned()))
        });
        Self(texts.collect())
    }
}

/// A stream of server-sent events, of a horde or of whoever else speaks so.
#[derive(Debug)]
pub struct Frames {
    response: Response,
    decoder: Decoder,
}

impl Frames {
    /// Opens a stream. `None` if there is nothing to tell.
    ///
    /// # Errors
    /// By the status of the answer; transport errors.
    pub async fn open(call: RequestBuilder) -> Result<Option<Self>, Error> {
        let sent = timeout(CALL_TIMEOUT, send(call.timeout(NEVER))).await;
        let response = sent.map_err(|_| broken("no answer in time"))??;
        let response = succeeded(response).await?;
        let is_there = response.status() != StatusCode::NO_CONTENT;
        Ok(is_there.then(|| Self {
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

/// Events of one request, as they come.
#[derive(Debug)]
pub struct Events {
    frames: Frames,
    last: Option<String>,
}

impl Events {
    /// The next event; `None` when the stream is over. Events of unknown kinds are left out.
    ///
    /// # Errors
    /// Transport errors, also when nothing comes for a minute; [`Error::Malformed`].
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(frame) = self.frames.next().await? {
            let event = Event::read(&frame.name, &frame.data).map_err(Error::malformed)?;
            self.last = frame.id;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// The id of the last event, to go on after it: see [`Horde::events`].
    pub fn last_id(&self) -> Option<&str> {
        self.last.as_deref()
    }
}

impl Horde {
    /// What the horde has beyond the protocol (`GET /.well-known/serviceinfo`); nothing if it does
    /// not say so.
    ///
    /// # Errors
    /// Transport errors and [`Error::Malformed`].
    pub async fn extensions(&self) -> Result<Extensions, Error> {
        match answer(self.get_of_site("/.well-known/serviceinfo")).await {
            Ok(document) => Ok(Extensions::read(&document)),
            Err(Error::Refused(_)) => Ok(Extensions::default()),
            Err(error) => Err(error),
        }
    }

    /// What happens to a request for pictures or texts, as it happens (`GET /generate/events/{id}`).
    /// `last` is [`Events::last_id`] of a stream that broke off. `None` if everything was told.
    ///
    /// # Errors
    /// [`Error::Refused`] with `RequestNotFound`, or from a horde that does not know it.
    pub async fn events(&self, id: RequestId, last: Option<&str>) -> Result<Option<Events>, Error> {
        let call = self.get(&["generate", "events", &id.to_string()]);
        let call = match last {
            Some(last) => call.header("Last-Event-ID", last),
            None => call,
        };
        let frames = Frames::open(call).await?;
        Ok(frames.map(|frames| Events {
            frames,
            last: last.map(str::to_owned),
        }))
    }

    /// Waits until nothing more will come of a request for pictures or texts, and tells `seen` what
    /// happens. A stream that breaks off is taken up again where it was.
    ///
    /// The answer may be that the request faulted; see [`Progress::faulted`]. To wait only so long,
    /// wrap it in a time-out: dropping the future is fine.
    ///
    /// # Errors
    /// As [`Self::events`]; transport errors when they last.
    pub async fn follow(
        &self,
        id: RequestId,
        pace: &Pace,
        mut seen: impl FnMut(&Event),
    ) -> Result<Progress, Error> {
        let mut last: Option<String> = None;
        let mut failures = 0;
        loop {
            let opened = self.events(id, last.as_deref()).await;
            let error = match opened {
                Ok(Some(mut events)) => loop {
                    match events.next().await {
                        Ok(Some(event)) => {
                            failures = 0;
                            seen(&event);
                            if let Event::Done(progress) | Event::Faulted(progress) = event {
                                return Ok(progress);
                            }
                            last = events.last_id().map(str::to_owned);
                        }
                        Ok(None) => break broken("the stream ended"),
                        Err(error) => break error,
                    }
                },
                Ok(None) => broken("everything was told before"),
                Err(error) => error,
            };
            failures += 1;
            match pace.after_failure(failures, &error) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// Tells how far a job is (`POST /generate/progress`), for whoever waits for it. Answers whether
    /// somebody looks on. Hordes other than this project's do not know it.
    ///
    /// # Errors
    /// [`Error::Refused`]: 404 or 405 from a horde that does not know it.
    pub async fn report_progress(&self, progress: &JobProgress) -> Result<Heard, Error> {
        let call = self.post(&["generate", "progress"], progress);
        let body = read(succeeded(send(call).await?).await?, MAX_HEARD_BYTES).await?;
        // Whatever it says: it was taken.
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}

pub(crate) fn broken(reason: &str) -> Error {
    Error::Unavailable {
        reason: reason.to_owned(),
        retry_after: None,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn extensions_are_what_the_document_lists() {
        let document = json!({"api": {"ordu": {"extensions": {"events": "1", "progress": 2}}}});
        let read = Extensions::read(&document);
        assert!(read.tells_events() && !read.takes_progress() && !read.lets_wait());
        assert!(!read.has("events", "2"));
        assert_eq!(Extensions::read(&json!([])), Extensions::default());
    }
}
