//! Temperature: how far unlikely tokens come near to likely ones.

use super::filters::entropy;
use super::{Candidate, probabilities};
use crate::Sampling;

/// Below this the likeliest token is the only one.
const COLD: f64 = 1e-3;

/// Changes the logits as the settings say: by the temperature, or by one that follows how uncertain the
/// model is (`dynatemp`), then by a parabola around the likeliest (`smoothing_factor`).
pub(super) fn apply(candidates: &mut Vec<Candidate>, settings: &Sampling) {
    let temperature = settings.temperature.unwrap_or(1.0);
    let range = settings.dynatemp_range.unwrap_or(0.0);
    let temperature = if range > 0.0 {
        let exponent = settings.dynatemp_exponent.unwrap_or(1.0);
        between(temperature, range, uncertainty(candidates).powf(exponent))
    } else {
        temperature
    };
    if temperature < COLD {
        super::filters::top_k(candidates, 1);
        return;
    }
    for candidate in candidates.iter_mut() {
        candidate.logit /= temperature;
    }
    smooth(candidates, settings.smoothing_factor.unwrap_or(0.0));
}

/// The temperature at a place from 0 to 1 between the lowest and the highest.
fn between(temperature: f64, range: f64, place: f64) -> f64 {
    let lowest = (temperature - range).max(0.0);
    let highest = temperature + range;
    lowest + (highest - lowest) * place
}

/// How near the candidates are to being all alike, 0 to 1.
fn uncertainty(candidates: &[Candidate]) -> f64 {
    let most = (candidates.len() as f64).ln();
    if most > 0.0 {
        (entropy(&probabilities(candidates)) / most).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// Bends logits down, the more the further they are from the largest; 0 does nothing.
fn smooth(candidates: &mut [Candidate], factor: f64) {
    if factor > 0.0 {
        let most = candidates
            .iter()
            .map(|candidate| candidate.logit)
            .fold(f64::NEG_INFINITY, f64::max);
        for candidate in candidates {
            let distance = candidate.logit - most;
            candidate.logit = most - factor * distance * distance;
        }
    }
}
