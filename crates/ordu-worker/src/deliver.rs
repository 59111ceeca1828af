//! Bringing one part of a job back: uploaded and submitted, or submitted as a fault.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ordu_api::JobId;
use ordu_api::image::{ImageSubmit, Metadata, Reward, SubmitState, UPLOADED};
use ordu_client::{Error, Horde};

use crate::Timing;
use crate::pacing::jitter;
use crate::retry::{Next, after_submit, after_upload, pause};

/// What `generation` says in a fault, where anything but an empty text will do.
pub(crate) const FAULTED: &str = "faulted";

/// The seed of a fault.
pub(crate) const NO_SEED: i64 = -1;

/// One finished picture on its way back.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) id: JobId,
    /// Where to put it; without an address it travels inside the submit.
    pub(crate) upload: Option<String>,
    pub(crate) picture: Bytes,
    pub(crate) state: SubmitState,
    pub(crate) seed: i64,
    pub(crate) remarks: Vec<Metadata>,
}

/// How one part of a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delivery {
    /// The horde has the result, for this many kudos if it said so.
    Accepted(Option<f64>),
    /// The horde knows that there will be none.
    Faulted,
    /// The horde had given the job up.
    Lost,
    /// The horde could not be told anything.
    Untold(String),
}

/// The way back to the horde.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Courier<'a> {
    pub(crate) horde: &'a Horde,
    pub(crate) timing: &'a Timing,
}

impl Courier<'_> {
    /// Uploads and submits a picture. If it cannot be uploaded, a fault is submitted instead.
    pub(crate) async fn deliver(self, parcel: Parcel) -> Delivery {
        let Parcel {
            id,
            upload,
            picture,
            state,
            seed,
            remarks,
        } = parcel;
        let generation = match upload {
            None => STANDARD.encode(&picture),
            Some(url) => match self.upload(&url, picture).await {
                Ok(()) => UPLOADED.to_owned(),
                Err(error) => {
                    tracing::warn!(job.id = %id, error = %error, "a picture could not be uploaded");
                    return self.fault(id, remarks).await;
                }
            },
        };
        let result = ImageSubmit {
            id: id.to_string(),
            generation,
            state,
            seed,
            gen_metadata: remarks,
        };
        self.submit(id, &result).await
    }

    /// Tells the horde that there will be no picture.
    pub(crate) async fn fault(self, id: JobId, remarks: Vec<Metadata>) -> Delivery {
        let result = ImageSubmit {
            id: id.to_string(),
            generation: FAULTED.to_owned(),
            state: SubmitState::Faulted,
            seed: NO_SEED,
            gen_metadata: remarks,
        };
        match self.submit(id, &result).await {
            Delivery::Accepted(_) => Delivery::Faulted,
            other => other,
        }
    }

    /// Brings a picture to where it belongs.
    pub(crate) async fn upload(self, url: &str, picture: Bytes) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let error = match self.horde.upload(url, picture.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tries += 1;
            let Next::Again(asked) = after_upload(&error, tries) else {
                return Err(error);
            };
            tokio::time::sleep(pause(self.timing, tries, asked, jitter())).await;
        }
    }

    async fn submit(self, id: JobId, result: &ImageSubmit) -> Delivery {
        submitted(self.timing, id, || self.horde.submit_image(result)).await
    }
}

/// Submits until the horde has it, wants it no more, or it will not work.
pub(crate) async fn submitted<F>(timing: &Timing, id: JobId, submit: impl Fn() -> F) -> Delivery
where
    F: Future<Output = Result<Reward, Error>>,
{
    let mut tries = 0;
    loop {
        let error = match submit().await {
            Ok(reward) => return Delivery::Accepted(Some(reward.reward)),
            Err(error) => error,
        };
        tries += 1;
        let asked = match after_submit(&error, tries) {
            Next::Delivered => return Delivery::Accepted(None),
            Next::Lost | Next::TooSlow => return lost(id, &error),
            Next::GiveUp => return Delivery::Untold(error.to_string()),
            Next::Again(asked) => asked,
        };
        tokio::time::sleep(pause(timing, tries, asked, jitter())).await;
    }
}

fn lost(id: JobId, error: &Error) -> Delivery {
    tracing::warn!(job.id = %id, error = %error, "the horde had given a job up");
    Delivery::Lost
}
