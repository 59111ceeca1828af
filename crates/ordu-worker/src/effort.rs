//! How much work a job is, and whether one more can be done in time. Pure.
//!
//! # Source
//! `worker.md` § 1.7. Its table of models gives way to what is measured here.

use std::time::Duration;

use ordu_api::image::ImagePayload;

/// How much one new measurement counts against those before it.
const WEIGHT: f64 = 0.3;

/// The share of its time that a job may take, those before it included.
const SHARE_OF_TTL: f64 = 0.5;

/// Work of `pictures` of one payload, in megapixelsteps.
pub(crate) fn effort(payload: &ImagePayload, pictures: usize) -> f64 {
    let pixels = f64::from(payload.width) * f64::from(payload.height);
    let more = u32::try_from(pictures.saturating_sub(1)).unwrap_or(u32::MAX);
    let steps = f64::from(payload.ddim_steps);
    let mut work = pixels * (1.0 + 0.2 * f64::from(more)) * steps;
    if payload.hires_fix {
        work += 512.0 * 512.0 * steps;
    }
    work / 1e6
}

/// The speed of the engine, learned from finished jobs.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    seconds_per_effort: Option<f64>,
}

impl Speed {
    /// A job of this effort took so long.
    pub(crate) fn learn(&mut self, effort: f64, took: Duration) {
        if effort <= 0.0 {
            return;
        }
        let measured = took.as_secs_f64() / effort;
        self.seconds_per_effort = Some(match self.seconds_per_effort {
            Some(known) => known + WEIGHT * (measured - known),
            None => measured,
        });
    }

    /// Whether a job like those waiting could be done in time behind them. `threads` work at once.
    pub(crate) fn allows(&self, waiting_effort: f64, threads: u32, ttl: Duration) -> bool {
        let per_effort = self.seconds_per_effort.unwrap_or_default();
        let seconds = waiting_effort * per_effort / f64::from(threads.max(1));
        seconds < SHARE_OF_TTL * ttl.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checklist: vectors: effort.
    #[test]
    fn effort_is_as_specified() {
        let payload = |side, hires_fix| ImagePayload {
            width: side,
            height: side,
            ddim_steps: 30,
            hires_fix,
            ..ImagePayload::default()
        };
        let whole = |payload, pictures| effort(&payload, pictures).floor();
        assert!((whole(payload(512, false), 1) - 7.0).abs() < f64::EPSILON);
        assert!((whole(payload(1024, false), 4) - 50.0).abs() < f64::EPSILON);
        assert!((whole(payload(1024, true), 1) - 39.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_slow_engine_pops_nothing_ahead() {
        let mut speed = Speed::default();
        let ttl = Duration::from_secs(150);
        assert!(speed.allows(1e9, 1, ttl), "nothing is known yet");
        speed.learn(10.0, Duration::from_secs(100));
        assert!(speed.allows(0.0, 1, ttl));
        assert!(speed.allows(7.0, 1, ttl));
        assert!(!speed.allows(8.0, 1, ttl));
        assert!(speed.allows(8.0, 2, ttl));
        speed.learn(10.0, Duration::from_secs(1));
        assert!(speed.allows(8.0, 1, ttl));
    }
}
