//! Bodies that must keep pace: who sends byte by byte does not hold a place for hours.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use tokio::time::{Instant, Sleep};

use crate::load::Call;

/// What a body must bring on the average once its sender's patience is over, in bytes a second:
/// less than any line that can upload a picture at all.
const MIN_BYTES_A_SECOND: u64 = 8 << 10;

/// A body that fails when it arrives too slowly, or when there is no room for it.
pub(crate) struct Paced {
    inner: Body,
    call: Arc<Call>,
    /// When it would be too slow if nothing had come.
    earliest: Instant,
    received: u64,
    timer: Pin<Box<Sleep>>,
}

/// A body arrived too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body arrives too slowly")]
struct TooSlow;

impl Paced {
    /// Lets a body take its time for `patience`, and then only as long as it keeps pace.
    /// What comes is counted as the call's.
    pub(crate) fn wrap(inner: Body, patience: Duration, call: Arc<Call>) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        let earliest = Instant::now() + patience;
        call.begin_body();
        Body::new(Self {
            inner,
            call,
            earliest,
            received: 0,
            timer: Box::pin(tokio::time::sleep_until(earliest)),
        })
    }

    fn deadline(&self) -> Instant {
        self.earliest
            + Duration::from_millis(self.received.saturating_mul(1000) / MIN_BYTES_A_SECOND)
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.call.end_body();
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                let length = data.len() as u64;
                self.received += length;
                if let Err(full) = self.call.receive(length) {
                    return Poll::Ready(Some(Err(axum::Error::new(full))));
                }
            }
            return Poll::Ready(frame);
        }
        let deadline = self.deadline();
        self.timer.as_mut().reset(deadline);
        match self.timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(TooSlow)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// Whether a body could not be read because it arrived too slowly.
pub(crate) fn is_too_slow(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}
