//! Pictures: asking for them, and making them for others.

use ordu_api::RequestId;
use ordu_api::image::{
    AcceptedRequest, DryRun, ImageDryRun, ImageJob, ImagePop, ImageRequest, ImageSubmit, Progress,
    RequestStatus, Reward,
};
use reqwest::Method;
use serde_json::Value;

use crate::transport::answer;
use crate::{Error, Horde, lenient};

/// What a client does.
impl Horde {
    /// Asks for pictures (`POST /generate/async`). `dry_run` is for [`Self::price_image`].
    ///
    /// # Errors
    /// [`Error::Refused`] with the return code that says why not; transport errors. After
    /// [`Error::Unavailable`] the request may have been accepted nevertheless.
    pub async fn async_image(&self, request: &ImageRequest) -> Result<AcceptedRequest, Error> {
        answer(self.post(&["generate", "async"], request)).await
    }

    /// What pictures would cost, in kudos, without asking for them (`dry_run`).
    ///
    /// # Errors
    /// As [`Self::async_image`].
    pub async fn price_image(&self, request: &ImageRequest) -> Result<DryRun, Error> {
        Ok(self.preview_image(request).await?.price)
    }

    /// The same with the advice that goes with it, where the horde gives some.
    ///
    /// # Errors
    /// As [`Self::async_image`].
    pub async fn preview_image(&self, request: &ImageRequest) -> Result<ImageDryRun, Error> {
        let request = ImageRequest {
            dry_run: true,
            ..request.clone()
        };
        answer(self.post(&["generate", "async"], &request)).await
    }

    /// How far a request is (`GET /generate/check/{id}`); cheap enough to be asked each second.
    ///
    /// # Errors
    /// [`Error::Refused`] with `RequestNotFound` for a request that is unknown or expired.
    pub async fn check(&self, id: RequestId) -> Result<Progress, Error> {
        answer(self.get(&["generate", "check", &id.to_string()])).await
    }

    /// How far a request is, and what is there already (`GET /generate/status/{id}`). Ten times a
    /// minute at most: poll with [`Self::check`].
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn status(&self, id: RequestId) -> Result<RequestStatus, Error> {
        answer(self.get(&["generate", "status", &id.to_string()])).await
    }

    /// Gives a request up (`DELETE /generate/status/{id}`). Answers what is there already; jobs that
    /// run are finished.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn cancel(&self, id: RequestId) -> Result<RequestStatus, Error> {
        let path = ["generate", "status", &id.to_string()];
        answer(self.call(Method::DELETE, &path)).await
    }
}

/// What a worker does.
impl Horde {
    /// Asks for a job (`POST /generate/pop`). `id` is `None` in the answer if there is none.
    ///
    /// The answer is read leniently, because a job that cannot be read is lost until its time is up:
    /// wrong types are converted, members that make no sense read as absent.
    ///
    /// # Errors
    /// [`Error::Refused`] with `WorkerMaintenance`, `WrongCredentials`, `InvalidAPIKey` and so on. After
    /// [`Error::Unavailable`] a job may have been given out nevertheless.
    pub async fn pop_image(&self, offer: &ImagePop) -> Result<ImageJob, Error> {
        let body: Value = answer(self.post(&["generate", "pop"], offer)).await?;
        lenient::image_job(body).map_err(Error::malformed)
    }

    /// Hands a job back, finished or given up (`POST /generate/submit`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `InvalidJobID`, `DuplicateGen`, `AbortedGen`. [`Error::Malformed`] means
    /// that the job was taken, with an unknown reward.
    pub async fn submit_image(&self, result: &ImageSubmit) -> Result<Reward, Error> {
        answer(self.post(&["generate", "submit"], result)).await
    }
}
