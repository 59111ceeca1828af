//! Telling the horde how far a job is, for hordes that pass it on.

use std::sync::atomic::{AtomicBool, Ordering};

use ordu_api::JobId;
use ordu_api::image::{JobProgress, Steps};
use ordu_client::Horde;

use crate::Timing;
use crate::status::{Board, Stage};

/// Whether the horde understands reports. Assumed until it says no.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    unknown: AtomicBool,
}

impl Reports {
    /// Reports until it is dropped, or for ever does nothing if the horde does not know reports.
    ///
    /// A report that is lost does no harm: the next one says more.
    pub(crate) async fn keep_reporting(
        &self,
        horde: &Horde,
        board: &Board,
        job: JobId,
        timing: &Timing,
    ) -> std::convert::Infallible {
        let mut told = 0;
        loop {
            tokio::time::sleep(timing.report_interval).await;
            if self.unknown.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            let Some(Stage::Sampling { step, of }) = board.stage_of(job) else {
                continue;
            };
            if step > told {
                told = step;
                self.report(horde, job, Steps { step, of }).await;
            }
        }
    }

    async fn report(&self, horde: &Horde, job: JobId, steps: Steps) {
        let progress = JobProgress {
            id: job.to_string(),
            steps,
        };
        if let Err(error) = horde.report_progress(&progress).await
            && error.refusal().is_some()
        {
            tracing::debug!("the horde does not take reports of progress");
            self.unknown.store(true, Ordering::Relaxed);
        }
    }
}
