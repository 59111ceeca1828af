//! Choosing the next token, in KoboldAI's meaning and order.
//!
//! # Source
//! The public API documentation of KoboldAI and KoboldCpp, and the papers that each of [`filters`] names.

mod chance;
mod filters;
mod heat;
mod penalty;

use self::chance::Chance;
use self::penalty::Penalty;
use crate::Sampling;

/// One token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    /// The logarithm of its probability, but for a constant.
    pub(super) logit: f64,
}

/// One stage of the choice, by its number in `sampler_order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    TopK,
    TopA,
    /// Minimum probability goes with it.
    TopP,
    TailFree,
    Typical,
    Temperature,
    Repetition,
}

/// What is done if nobody says in which order.
const USUAL_ORDER: [i64; 7] = [6, 0, 1, 2, 3, 4, 5];

impl Stage {
    fn of(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::TopK,
            1 => Self::TopA,
            2 => Self::TopP,
            3 => Self::TailFree,
            4 => Self::Typical,
            5 => Self::Temperature,
            6 => Self::Repetition,
            _ => return None,
        })
    }
}

/// Chooses tokens, one after the other.
#[derive(Debug)]
pub(super) struct Chooser {
    settings: Sampling,
    stages: Vec<Stage>,
    penalty: Penalty,
    chance: Chance,
}

impl Chooser {
    /// One that chooses the same tokens again from the same seed.
    pub(super) fn new(settings: &Sampling, seed: u64) -> Self {
        Self {
            stages: stages(settings.sampler_order.as_deref()),
            penalty: Penalty::new(settings),
            chance: Chance::new(seed),
            settings: settings.clone(),
        }
    }

    /// Chooses one of the tokens whose logits are given, `banned` excepted. `written` is prompt and text
    /// so far. `None` if there is nothing to choose from.
    pub(super) fn choose(
        &mut self,
        logits: &[f32],
        written: &[u32],
        banned: &[u32],
    ) -> Option<u32> {
        let mut candidates: Vec<Candidate> = (0..)
            .zip(logits)
            .filter(|(token, logit)| logit.is_finite() && !banned.contains(token))
            .map(|(token, logit)| Candidate {
                token,
                logit: f64::from(*logit),
            })
            .collect();
        for stage in &self.stages {
            self.apply(*stage, &mut candidates, written);
        }
        self.chance.pick(&candidates)
    }

    fn apply(&self, stage: Stage, candidates: &mut Vec<Candidate>, written: &[u32]) {
        let settings = &self.settings;
        match stage {
            Stage::TopK => filters::top_k(candidates, settings.top_k.unwrap_or(0)),
            Stage::TopA => filters::top_a(candidates, settings.top_a.unwrap_or(0.0)),
            Stage::TopP => {
                filters::top_p(candidates, settings.top_p.unwrap_or(1.0));
                filters::min_p(candidates, settings.min_p.unwrap_or(0.0));
            }
            Stage::TailFree => filters::tail_free(candidates, settings.tfs.unwrap_or(1.0)),
            Stage::Typical => filters::typical(candidates, settings.typical.unwrap_or(1.0)),
            Stage::Temperature => heat::apply(candidates, settings),
            Stage::Repetition => self.penalty.apply(candidates, written),
        }
    }
}

/// The stages of an order. Each is done once, where it is first named; unknown ones are passed over, those
/// that are not named are left out. Only repetition is always looked at, first if nobody says when: orders
/// of six are older than it.
fn stages(order: Option<&[i64]>) -> Vec<Stage> {
    let order = order
        .filter(|order| !order.is_empty())
        .unwrap_or(&USUAL_ORDER);
    let mut stages = Vec::new();
    for stage in order.iter().filter_map(|number| Stage::of(*number)) {
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    if !stages.contains(&Stage::Repetition) {
        stages.insert(0, Stage::Repetition);
    }
    stages
}

/// The probability of each candidate; together 1.
fn probabilities(candidates: &[Candidate]) -> Vec<f64> {
    let most = candidates
        .iter()
        .map(|candidate| candidate.logit)
        .fold(f64::NEG_INFINITY, f64::max);
    let mut shares: Vec<f64> = candidates
        .iter()
        .map(|candidate| (candidate.logit - most).exp())
        .collect();
    let all: f64 = shares.iter().sum();
    for share in &mut shares {
        *share /= all;
    }
    shares
}

#[cfg(test)]
mod tests;
