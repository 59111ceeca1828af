//! Alchemy: asking about pictures, and answering others.

use ordu_api::RequestId;
use ordu_api::alchemy::{
    AcceptedAlchemy, AlchemyJobs, AlchemyPop, AlchemyRequest, AlchemyStatus, AlchemySubmit,
};
use ordu_api::image::{DryRun, Reward};
use reqwest::Method;

use crate::transport::answer;
use crate::{Error, Horde};

/// What a client does.
impl Horde {
    /// Asks about a picture (`POST /interrogate/async`).
    ///
    /// # Errors
    /// [`Error::Refused`] with the return code that says why not; transport errors. After
    /// [`Error::Unavailable`] the request may have been accepted nevertheless.
    pub async fn async_alchemy(&self, request: &AlchemyRequest) -> Result<AcceptedAlchemy, Error> {
        answer(self.post(&["interrogate", "async"], request)).await
    }

    /// What forms would cost, in kudos, without asking for them (`dry_run`). Ours: a horde that does
    /// not know it takes the request.
    ///
    /// # Errors
    /// As [`Self::async_alchemy`].
    pub async fn price_alchemy(&self, request: &AlchemyRequest) -> Result<DryRun, Error> {
        let request = AlchemyRequest {
            dry_run: true,
            ..request.clone()
        };
        answer(self.post(&["interrogate", "async"], &request)).await
    }

    /// How far a request is, and what is there already (`GET /interrogate/status/{id}`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `RequestNotFound` for a request that is unknown or expired.
    pub async fn alchemy_status(&self, id: RequestId) -> Result<AlchemyStatus, Error> {
        answer(self.get(&["interrogate", "status", &id.to_string()])).await
    }

    /// Gives a request up (`DELETE /interrogate/status/{id}`). Forms that a worker has are paid for.
    ///
    /// # Errors
    /// As [`Self::alchemy_status`].
    pub async fn cancel_alchemy(&self, id: RequestId) -> Result<AlchemyStatus, Error> {
        let path = ["interrogate", "status", &id.to_string()];
        answer(self.call(Method::DELETE, &path)).await
    }
}

/// What a worker does.
impl Horde {
    /// Asks for forms to do (`POST /interrogate/pop`). `forms` is `None` in the answer if there are
    /// none.
    ///
    /// # Errors
    /// [`Error::Refused`] with `WorkerMaintenance`, `WrongCredentials`, `InvalidAPIKey` and so on.
    /// After [`Error::Unavailable`] forms may have been given out nevertheless.
    pub async fn pop_alchemy(&self, offer: &AlchemyPop) -> Result<AlchemyJobs, Error> {
        answer(self.post(&["interrogate", "pop"], offer)).await
    }

    /// Hands a form back, finished or given up (`POST /interrogate/submit`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `InvalidJobID`, `DuplicateGen`. [`Error::Malformed`] means that the
    /// form was taken, with an unknown reward.
    pub async fn submit_alchemy(&self, result: &AlchemySubmit) -> Result<Reward, Error> {
        answer(self.post(&["interrogate", "submit"], result)).await
    }
}
