//! What leaves candidates out. At least one always stays.

use super::{Candidate, probabilities};

/// Keeps the `most` likeliest; 0 keeps all.
pub(super) fn top_k(candidates: &mut Vec<Candidate>, most: u32) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 || most >= candidates.len() {
        return;
    }
    candidates.select_nth_unstable_by(most - 1, falling);
    candidates.truncate(most);
}

/// Keeps those whose probability is at least `share` of the square of the likeliest one's; 0 keeps all.
///
/// # Source
/// BlinkDL, "Top-A sampling" (2021).
pub(super) fn top_a(candidates: &mut Vec<Candidate>, share: f64) {
    if share > 0.0 {
        let probabilities = probabilities(candidates);
        let most = probabilities.iter().copied().fold(0.0, f64::max);
        keep_from(candidates, &probabilities, share * most * most);
    }
}

/// Keeps those whose probability is at least `share` of the likeliest one's; 0 keeps all.
///
/// # Source
/// Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling".
pub(super) fn min_p(candidates: &mut Vec<Candidate>, share: f64) {
    if share > 0.0 {
        let probabilities = probabilities(candidates);
        let most = probabilities.iter().copied().fold(0.0, f64::max);
        keep_from(candidates, &probabilities, share * most);
    }
}

/// Keeps the fewest of the likeliest that together have this probability; 1 keeps all.
///
/// # Source
/// Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration".
pub(super) fn top_p(candidates: &mut Vec<Candidate>, mass: f64) {
    if mass < 1.0 {
        candidates.sort_unstable_by(falling);
        let probabilities = probabilities(candidates);
        keep_mass(candidates, &probabilities, mass);
    }
}

/// Cuts the tail off where the curve of sorted probabilities has become straight; 1 keeps all.
///
/// # Source
/// Tail-free sampling (Bricken 2019).
pub(super) fn tail_free(candidates: &mut Vec<Candidate>, mass: f64) {
    if mass >= 1.0 || candidates.len() <= 2 {
        return;
    }
    candidates.sort_unstable_by(falling);
    let probabilities = probabilities(candidates);
    let slopes = differences(&probabilities);
    let mut bends: Vec<f64> = differences(&slopes).into_iter().map(f64::abs).collect();
    let all: f64 = bends.iter().sum();
    if all > 0.0 {
        for bend in &mut bends {
            *bend /= all;
        }
        let mut sum = 0.0;
        let bent = bends.iter().take_while(|bend| {
            sum += **bend;
            sum <= mass
        });
        let kept = 1 + bent.count();
        candidates.truncate(kept);
    }
}

fn differences(numbers: &[f64]) -> Vec<f64> {
    let pairs = numbers.windows(2);
    pairs
        .map(|pair| match pair {
            [one, other] => one - other,
            _ => 0.0,
        })
        .collect()
}

/// Keeps those whose surprise is nearest to the expected one, until together they have this probability;
/// 1 keeps all.
///
/// # Source
/// Meister et al. 2022, "Locally Typical Sampling".
pub(super) fn typical(candidates: &mut Vec<Candidate>, mass: f64) {
    if mass >= 1.0 {
        return;
    }
    let probabilities = probabilities(candidates);
    let entropy = entropy(&probabilities);
    let mut strange: Vec<(f64, f64, Candidate)> = probabilities
        .iter()
        .zip(candidates.iter())
        .map(|(share, candidate)| ((-share.ln() - entropy).abs(), *share, *candidate))
        .collect();
    strange
        .sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(falling(&one.2, &other.2)));
    let shares: Vec<f64> = strange.iter().map(|(_, share, _)| *share).collect();
    *candidates = strange
        .into_iter()
        .map(|(_, _, candidate)| candidate)
        .collect();
    keep_mass(candidates, &shares, mass);
}

/// The expected surprise, in nats.
pub(super) fn entropy(probabilities: &[f64]) -> f64 {
    let surprises = probabilities
        .iter()
        .filter(|share| **share > 0.0)
        .map(|share| -share * share.ln());
    surprises.sum()
}

/// The likelier first; of equals the smaller number, so that nothing depends on the order before.
fn falling(one: &Candidate, other: &Candidate) -> std::cmp::Ordering {
    other
        .logit
        .total_cmp(&one.logit)
        .then(one.token.cmp(&other.token))
}

/// Keeps the first ones, until their masses together reach `mass`.
fn keep_mass(candidates: &mut Vec<Candidate>, masses: &[f64], mass: f64) {
    let mut sum = 0.0;
    let mut kept = 0;
    for share in masses {
        kept += 1;
        sum += share;
        if sum >= mass {
            break;
        }
    }
    candidates.truncate(kept.max(1));
}

/// Keeps those whose probability is at least this; the likeliest if there is none.
fn keep_from(candidates: &mut Vec<Candidate>, probabilities: &[f64], least: f64) {
    let best = candidates.iter().copied().min_by(falling);
    let mut shares = probabilities.iter();
    candidates.retain(|_| shares.next().is_some_and(|share| *share >= least));
    if candidates.is_empty() {
        candidates.extend(best);
    }
}
