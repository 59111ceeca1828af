//! What was written already becomes less likely.

use std::collections::HashMap;

use super::Candidate;
use crate::Sampling;

/// How repetition is punished.
#[derive(Clone, Debug)]
pub(super) struct Penalty {
    /// 1 is none.
    strength: f64,
    /// How many of the last tokens count; 0 for all.
    range: usize,
    /// How steeply the punishment grows towards the last ones; 0 punishes all alike.
    slope: f64,
}

impl Penalty {
    pub(super) fn new(settings: &Sampling) -> Self {
        Self {
            strength: settings.rep_pen.unwrap_or(1.0).max(1e-3),
            range: usize::try_from(settings.rep_pen_range.unwrap_or(0)).unwrap_or(usize::MAX),
            slope: settings.rep_pen_slope.unwrap_or(0.0).max(0.0),
        }
    }

    /// Lowers the logits of tokens that were written: those above nothing are divided, those below are
    /// multiplied (Keskar et al. 2019, "CTRL").
    pub(super) fn apply(&self, candidates: &mut [Candidate], written: &[u32]) {
        if (self.strength - 1.0).abs() < f64::EPSILON {
            return;
        }
        let counted = match self.range {
            0 => written.len(),
            range => range.min(written.len()),
        };
        let recent = written.get(written.len() - counted..).unwrap_or_default();
        // Where a token stands twice, its last place counts.
        let strengths: HashMap<u32, f64> = recent
            .iter()
            .enumerate()
            .map(|(place, token)| (*token, self.at(place, counted)))
            .collect();
        for candidate in candidates {
            if let Some(strength) = strengths.get(&candidate.token) {
                if candidate.logit > 0.0 {
                    candidate.logit /= strength;
                } else {
                    candidate.logit *= strength;
                }
            }
        }
    }

    /// The punishment of a token at a place, of so many that count.
    fn at(&self, place: usize, counted: usize) -> f64 {
        if self.slope <= 0.0 || self.range == 0 || counted < 2 {
            return self.strength;
        }
        // From -1 for the oldest to 1 for the newest, bent into an S.
        let along = 2.0 * (place as f64) / ((counted - 1) as f64) - 1.0;
        let bent = self.slope * along / (1.0 + along.abs() * (self.slope - 1.0));
        1.0 + f64::midpoint(bent, 1.0) * (self.strength - 1.0)
    }
}
