//! Pops that are under way, and when jobs came.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ordu_client::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::role::{Answer, Role};

/// How long the answer to a pop may have been on its way, when only its arrival is known.
const JOURNEY: Duration = Duration::from_secs(1);

/// How long a pop is heard out that the horde need not answer any more. Who asks anew asks within a
/// second, and the horde gives nothing to the pop before from then on.
pub(super) const HEARD_OUT: Duration = Duration::from_secs(10);

/// A pop that is under way.
pub(super) struct Popping<R: Role> {
    pub(super) answer: Asking<R::Job>,
    pub(super) seat: OwnedSemaphorePermit,
    pub(super) offer: Arc<R::Offer>,
    pub(super) asked: Instant,
    pub(super) wait: Wait,
}

/// The answer to a pop, some time.
pub(super) type Asking<J> = BoxFuture<'static, Result<Answer<J>, Error>>;

/// A pop that waits for what is not offered any more. It may have been given a job at this very moment.
pub(super) struct Leaving<R: Role> {
    pub(super) answer: Asking<R::Job>,
    pub(super) offer: Arc<R::Offer>,
    pub(super) asked: Instant,
    pub(super) until: Instant,
}

/// When a job came.
#[derive(Clone, Copy)]
pub(super) struct Came {
    /// The horde's clock started no earlier.
    pub(super) earliest: Instant,
    /// As far as anybody here can tell.
    pub(super) here: Instant,
}

impl Came {
    /// The answer to a pop is here.
    pub(super) fn now(asked: Instant, wait: Wait) -> Self {
        let now = Instant::now();
        match wait {
            Wait::No => Self {
                earliest: asked,
                here: asked,
            },
            // The horde's clock starts when it has a job, which may be long after it was asked.
            Wait::Yes => Self {
                earliest: now.checked_sub(JOURNEY).map_or(asked, |at| at.max(asked)),
                here: now,
            },
        }
    }
}

/// What the horde was asked to do when it has no job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Say so.
    No,
    /// Wait for one.
    Yes,
}

/// The answer to the pop that is under way; never if none is.
pub(super) async fn arrival<R: Role>(
    popping: &mut Option<Popping<R>>,
) -> Result<Answer<R::Job>, Error> {
    match popping {
        Some(popping) => (&mut popping.answer).await,
        None => pending().await,
    }
}

/// The answer to the pop that is heard out, if it comes in time; never if none is.
pub(super) async fn farewell<R: Role>(
    leaving: &mut Option<Leaving<R>>,
) -> Option<Result<Answer<R::Job>, Error>> {
    match leaving {
        Some(leaving) => timeout_at(leaving.until, &mut leaving.answer).await.ok(),
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The deadline keeps its margin; what is shown and learned is the real time.
    #[test]
    fn a_job_that_was_waited_for_came_when_its_answer_came() {
        let Some(asked) = Instant::now().checked_sub(JOURNEY * 30) else {
            return;
        };
        let came = Came::now(asked, Wait::Yes);
        assert_eq!(came.here - came.earliest, JOURNEY);
        assert!(came.here.elapsed() < JOURNEY);
        let soon = Came::now(Instant::now(), Wait::Yes);
        assert!(soon.here - soon.earliest < JOURNEY);
        let at_once = Came::now(asked, Wait::No);
        assert_eq!((at_once.earliest, at_once.here), (asked, asked));
    }
}
