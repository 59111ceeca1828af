//! How the horde was doing over time: at hand for those who ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ordu_api::history::Bucket;
use ordu_api::worker::WorkKind;
use ordu_core::{Millis, Timestamp};
use ordu_store::{Load, Slice, Step};

use crate::app::App;
use crate::error::ApiResult;

/// How old a series may be that is shown.
const FRESH: Millis = Millis::from_seconds(20);

/// The series as they were last read: one for each kind of work and step.
#[derive(Debug, Default)]
pub(crate) struct Histories(Mutex<BTreeMap<(WorkKind, Step), Read>>);

#[derive(Debug, Clone)]
struct Read {
    at: Timestamp,
    slices: Arc<BTreeMap<Timestamp, Slice>>,
}

impl Histories {
    fn fresh(&self, which: (WorkKind, Step), now: Timestamp) -> Option<Read> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = all.get(&which)?;
        (now.since(read.at) <= FRESH).then(|| read.clone())
    }

    fn set(&self, which: (WorkKind, Step), read: Read) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(which, read);
    }
}

impl App {
    /// What was made of a kind of work since then, and how busy the horde was, step by step: at most
    /// as many steps as are kept, the oldest first.
    pub(crate) async fn history(
        &self,
        kind: WorkKind,
        step: Step,
        since: Timestamp,
    ) -> ApiResult<Vec<Bucket>> {
        let now = self.clock.now();
        let read = if let Some(fresh) = self.histories.fresh((kind, step), now) {
            fresh
        } else {
            let slices = Arc::new(self.store.series(kind, step, now).await?);
            let read = Read { at: now, slices };
            self.histories.set((kind, step), read.clone());
            read
        };
        let first = step.start_of(since).max(step.oldest(now));
        let starts = std::iter::successors(Some(first), |start| Some(*start + step.span()));
        let starts = starts.take_while(|start| *start <= now);
        let slice = |start| read.slices.get(&start).copied().unwrap_or_default();
        Ok(starts
            .map(|start| bucket(kind, start, slice(start)))
            .collect())
    }

    /// Keeps how busy the horde is.
    pub(crate) async fn sample_load(&self) -> Result<(), ordu_store::Error> {
        let now = self.clock.now();
        let loads = {
            let live = self.live();
            WorkKind::ALL.map(|kind| {
                let traffic = live.horde.traffic(kind, now);
                Load {
                    kind,
                    queued: traffic.waiting,
                    workers: traffic.workers,
                }
            })
        };
        self.store.sample_load(&loads, now).await
    }
}

fn bucket(kind: WorkKind, start: Timestamp, slice: Slice) -> Bucket {
    let made = slice.made;
    Bucket {
        start: start.seconds(),
        finished: made.jobs,
        megapixelsteps: (kind == WorkKind::Image).then(|| megapixelsteps(made.things)),
        tokens: (kind == WorkKind::Text).then_some(made.things),
        queued: slice.load.map(|(queued, _)| hundredths(queued)),
        workers: slice.load.map(|(_, workers)| hundredths(workers)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "work is far below 2^53 units")]
fn megapixelsteps(pixelsteps: u64) -> f64 {
    hundredths(pixelsteps as f64 / 1_000_000.0)
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
