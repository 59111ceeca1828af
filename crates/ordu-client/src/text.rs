//! Texts: asking for them, and writing them for others.

use ordu_api::RequestId;
use ordu_api::image::{DryRun, Reward};
use ordu_api::text::{AcceptedText, TextJob, TextPop, TextRequest, TextStatus, TextSubmit};
use reqwest::Method;

use crate::transport::answer;
use crate::{Error, Horde};

/// What a client does.
impl Horde {
    /// Asks for texts (`POST /generate/text/async`). `dry_run` is for [`Self::price_text`].
    ///
    /// # Errors
    /// [`Error::Refused`] with the return code that says why not; transport errors. After
    /// [`Error::Unavailable`] the request may have been accepted nevertheless.
    pub async fn async_text(&self, request: &TextRequest) -> Result<AcceptedText, Error> {
        answer(self.post(&["generate", "text", "async"], request)).await
    }

    /// What texts would cost, in kudos, without asking for them (`dry_run`).
    ///
    /// # Errors
    /// As [`Self::async_text`].
    pub async fn price_text(&self, request: &TextRequest) -> Result<DryRun, Error> {
        let request = TextRequest {
            dry_run: true,
            ..request.clone()
        };
        answer(self.post(&["generate", "text", "async"], &request)).await
    }

    /// How far a request is, and what is there already (`GET /generate/text/status/{id}`). Sixty
    /// times a minute at most.
    ///
    /// # Errors
    /// [`Error::Refused`] with `RequestNotFound` for a request that is unknown or expired.
    pub async fn text_status(&self, id: RequestId) -> Result<TextStatus, Error> {
        answer(self.get(&["generate", "text", "status", &id.to_string()])).await
    }

    /// Gives a request up (`DELETE /generate/text/status/{id}`). Answers what is there already; jobs
    /// that run are finished.
    ///
    /// # Errors
    /// As [`Self::text_status`].
    pub async fn cancel_text(&self, id: RequestId) -> Result<TextStatus, Error> {
        let path = ["generate", "text", "status", &id.to_string()];
        answer(self.call(Method::DELETE, &path)).await
    }
}

/// What a worker does.
impl Horde {
    /// Asks for a job (`POST /generate/text/pop`). `id` is `None` in the answer if there is none.
    ///
    /// # Errors
    /// [`Error::Refused`] with `WorkerMaintenance`, `WrongCredentials`, `InvalidAPIKey` and so on.
    /// After [`Error::Unavailable`] a job may have been given out nevertheless.
    pub async fn pop_text(&self, offer: &TextPop) -> Result<TextJob, Error> {
        answer(self.post(&["generate", "text", "pop"], offer)).await
    }

    /// Hands a job back, finished or given up (`POST /generate/text/submit`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `InvalidJobID`, `DuplicateGen`, `AbortedGen`. [`Error::Malformed`]
    /// means that the job was taken, with an unknown reward.
    pub async fn submit_text(&self, result: &TextSubmit) -> Result<Reward, Error> {
        answer(self.post(&["generate", "text", "submit"], result)).await
    }
}
