//! What a horde has beyond the protocol, and what it tells while it happens.

use std::collections::BTreeMap;

use ordu_api::RequestId;
use ordu_api::event::{Event, Heard, JobProgress};
use ordu_api::image::Progress;
use serde_json::Value;

use crate::frames::{Frames, broken};
use crate::transport::{answer, read, send, succeeded};
use crate::{Error, Horde, Pace};

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

    pub(crate) fn read(document: &Value) -> Self {
        let listed = document.pointer("/api/ordu/extensions");
        let listed = listed.and_then(Value::as_object).into_iter().flatten();
        let texts = listed.filter_map(|(name, version)| {
            let version = version.as_str()?;
            Some((name.clone(), version.to_owned()))
        });
        Self(texts.collect())
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
        let opened = Frames::open(call).await?;
        Ok(opened.map(|frames| Events {
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
