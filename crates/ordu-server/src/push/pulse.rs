//! The horde at work, for whoever likes to look: once a second, what everybody may see.
//!
//! Nothing is kept while nobody looks. Who does not keep up is told what is now: counts that it
//! missed are lost to it.
//!
//! # Source
//! `platform.md` § 5; `docs/decisions/0010`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordu_api::pulse::{ByKind, Happening, MAX_HAPPENINGS, Pulse, What};
use ordu_api::worker::WorkKind;
use ordu_core::Timestamp;
use ordu_core::horde::{self, Horde, Turn};
use ordu_core::model_reference::is_special;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::seats::Seat;
use crate::app::App;

/// So many pulses wait for who does not keep up.
const PATIENCE: usize = 4;

/// The pulse of the horde, and who feels it.
#[derive(Debug)]
pub(crate) struct Pulses {
    /// What happened since the last beat.
    since: Mutex<Pulse>,
    /// How things were at the last beat.
    told: Mutex<Pulse>,
    /// Each beat, as it is sent.
    beats: broadcast::Sender<Arc<str>>,
}

impl Default for Pulses {
    fn default() -> Self {
        Self {
            since: Mutex::default(),
            told: Mutex::default(),
            beats: broadcast::Sender::new(PATIENCE),
        }
    }
}

/// One who looks on.
pub(crate) struct Onlooker {
    app: Arc<App>,
    /// How things were when it came.
    first: Option<Arc<str>>,
    beats: broadcast::Receiver<Arc<str>>,
    _seat: Seat,
}

impl Pulses {
    fn since(&self) -> MutexGuard<'_, Pulse> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many look on.
    pub(super) fn onlookers(&self) -> usize {
        self.beats.receiver_count()
    }

    /// Counts what happened, if somebody wants to know.
    pub(super) fn note(&self, happenings: &[horde::Happening]) {
        if happenings.is_empty() || self.onlookers() == 0 {
            return;
        }
        let mut since = self.since();
        for happening in happenings {
            count(&mut since, happening);
        }
    }

    /// Tells what happened since the last call, and how things are now; nothing if neither changed.
    pub(crate) fn beat(&self, horde: &Horde, now: Timestamp) {
        let counted = std::mem::take(&mut *self.since());
        if self.onlookers() == 0 {
            return;
        }
        let present = present(horde, now);
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if counted == Pulse::default() && *told == present {
                return;
            }
            *told = present.clone();
        }
        // Nobody may be left by now.
        let _ = self.beats.send(as_sent(&Pulse {
            queued: present.queued,
            running: present.running,
            workers: present.workers,
            ..counted
        }));
    }
}

/// How things are.
fn present(horde: &Horde, now: Timestamp) -> Pulse {
    let mut pulse = Pulse::default();
    for kind in WorkKind::ALL {
        let traffic = horde.traffic(kind, now);
        *pulse.queued.of_mut(kind) = traffic.waiting;
        *pulse.running.of_mut(kind) = traffic.running;
        *pulse.workers.of_mut(kind) = traffic.workers;
    }
    pulse
}

fn as_sent(pulse: &Pulse) -> Arc<str> {
    serde_json::to_string(pulse).unwrap_or_default().into()
}

fn count(pulse: &mut Pulse, happening: &horde::Happening) {
    let (kind, turn, model, worker) = match happening {
        horde::Happening::Accepted { kind, results } => {
            *pulse.accepted.of_mut(*kind) += u64::from(*results);
            return;
        }
        horde::Happening::Job {
            kind,
            turn,
            model,
            worker,
        } => (*kind, *turn, model, worker),
    };
    let (what, counts): (_, Option<&mut ByKind>) = match turn {
        Turn::Begun => (What::Begun, Some(&mut pulse.begun)),
        Turn::Finished => (What::Finished, Some(&mut pulse.finished)),
        Turn::Faulted => (What::Faulted, Some(&mut pulse.faulted)),
        Turn::Returned => (What::Returned, None),
    };
    if let Some(counts) = counts {
        *counts.of_mut(kind) += 1;
    }
    if pulse.happenings.len() < MAX_HAPPENINGS {
        pulse.happenings.push(Happening {
            kind: kind.plain_name().to_owned(),
            model: Some(model.clone()).filter(|model| !is_special(model)),
            worker: worker.clone(),
            what,
        });
    }
}

impl Onlooker {
    /// Looks on from now on.
    pub(crate) fn enter(app: &Arc<App>, seat: Seat) -> Self {
        let live = app.live();
        let first = present(&live.horde, app.clock.now());
        Self {
            app: Arc::clone(app),
            first: Some(as_sent(&first)),
            beats: app.push.pulses.beats.subscribe(),
            _seat: seat,
        }
    }

    /// The next pulse as JSON; `None` when the server ends.
    pub(crate) async fn next(&mut self) -> Option<Arc<str>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let beat = tokio::select! {
                beat = self.beats.recv() => beat,
                () = self.app.closing.cancelled() => return None,
            };
            match beat {
                Ok(beat) => return Some(beat),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_know_of_more_than_is_told() {
        let mut pulse = Pulse::default();
        for number in 0..40 {
            count(
                &mut pulse,
                &horde::Happening::Job {
                    kind: WorkKind::Text,
                    turn: Turn::Begun,
                    model: "m".to_owned(),
                    worker: format!("w{number}"),
                },
            );
        }
        assert_eq!((pulse.begun.text, pulse.begun.sum()), (40, 40));
        assert_eq!(pulse.happenings.len(), MAX_HAPPENINGS);
        assert_eq!(pulse.happenings[0].worker, "w0");
    }

    #[test]
    fn a_model_that_is_nobodys_business_is_not_named() {
        let mut pulse = Pulse::default();
        let happening = horde::Happening::Job {
            kind: WorkKind::Image,
            turn: Turn::Returned,
            model: "horde_special::secret".to_owned(),
            worker: "w".to_owned(),
        };
        count(&mut pulse, &happening);
        assert_eq!(pulse.happenings[0].model, None);
        assert_eq!(pulse.faulted.sum(), 0);
    }
}
