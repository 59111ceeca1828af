//! UniPC (Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of
//! Diffusion Models"), multistep, of third order, predicting the clean picture; in `z`, which is its
//! variance-preserving form. The guess at the end of a step corrects that step, and serves the next.
//!
//! With `λ = −ln σ`, `h` the step in it and `r` the places of earlier guesses in units of `h`, both the
//! predictor and the corrector weigh differences of guesses so that a polynomial through them would be
//! integrated exactly. The two kinds differ in what the differences are multiplied by: `B₁ = −h`, `B₂ =
//! e^−h − 1`.

use candle_core::Tensor;

use super::run::Run;
use super::schedule::Level;
use crate::EngineError;

/// Earlier guesses that are looked at, the present one included.
const ORDER: usize = 3;
/// The clean end, where `λ` is infinite, stands for this level.
const LAST_SIGMA: f64 = 0.001;

/// What differences are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `−h`.
    First,
    /// `e^−h − 1`.
    Second,
}

/// A guess and where it was made.
struct Guess {
    /// `−ln σ`.
    place: f64,
    clean: Tensor,
}

impl Guess {
    fn at(level: Level, clean: Tensor) -> Self {
        Self {
            place: -level.sigma.ln(),
            clean,
        }
    }
}

/// Walks `z` through finite levels.
pub(super) fn walk(
    z: &Tensor,
    levels: &[Level],
    kind: Kind,
    run: &mut Run<'_, '_>,
) -> Result<Tensor, EngineError> {
    let levels: Vec<Level> = levels
        .iter()
        .map(|level| {
            if level.sigma > 0.0 {
                *level
            } else {
                run.level(LAST_SIGMA)
            }
        })
        .collect();
    let Some(first) = levels.first().copied() else {
        return Ok(z.clone());
    };
    let steps = levels.len() - 1;
    let most = ORDER.min(steps.saturating_sub(1)).max(1);
    let mut z = z.clone();
    // The latest first.
    let mut known = vec![Guess::at(first, run.denoise(&z, first)?)];
    for (index, pair) in levels.windows(2).enumerate() {
        let &[now, next] = pair else { continue };
        let order = most.min(index + 1).min(steps - index).min(known.len());
        let step = Step::new(
            &z,
            (now, next),
            known.get(..order).unwrap_or_default(),
            kind,
        )?;
        z = step.predicted()?;
        if let Some(latest) = known.first() {
            run.told(&latest.clean)?;
        }
        if index + 1 < steps {
            let clean = run.denoise(&z, next)?;
            z = step.corrected(&clean)?;
            known.insert(0, Guess::at(next, clean));
            known.truncate(ORDER);
        }
    }
    let last = levels.last().map_or(1.0, |level| level.alpha);
    Ok((z / last)?)
}

/// One step: what the predictor and the corrector share.
struct Step {
    /// Of first order.
    base: Tensor,
    /// The latest guess.
    clean: Tensor,
    /// Differences of earlier guesses from it, each divided by its place.
    turns: Vec<Tensor>,
    /// Places of the earlier guesses, and 1 for the end of the step.
    places: Vec<f64>,
    /// What weighted differences must come to.
    sums: Vec<f64>,
    /// What their sum is multiplied by.
    scale: f64,
}

impl Step {
    fn new(
        z: &Tensor,
        (now, next): (Level, Level),
        known: &[Guess],
        kind: Kind,
    ) -> Result<Self, EngineError> {
        let Some((latest, earlier)) = known.split_first() else {
            return Err(EngineError::bad_task("a step without a guess"));
        };
        let h = -next.sigma.ln() - latest.place;
        let (mut places, mut turns) = (Vec::new(), Vec::new());
        for guess in earlier {
            let place = (guess.place - latest.place) / h;
            turns.push(((&guess.clean - &latest.clean)? / place)?);
            places.push(place);
        }
        places.push(1.0);
        let growth = (-h).exp_m1();
        let factor = match kind {
            Kind::First => -h,
            Kind::Second => growth,
        };
        let mut sums = Vec::new();
        let (mut factorial, mut phi) = (1.0, growth / -h - 1.0);
        for order in 1..=places.len() {
            sums.push(phi * factorial / factor);
            factorial *= (order + 1) as f64;
            phi = phi / -h - 1.0 / factorial;
        }
        Ok(Self {
            base: ((z * (next.noise / now.noise))? - (&latest.clean * (next.alpha * growth))?)?,
            clean: latest.clean.clone(),
            turns,
            places,
            sums,
            scale: next.alpha * factor,
        })
    }

    fn predicted(&self) -> Result<Tensor, EngineError> {
        let weights = match self.turns.len() {
            // With one difference the place does not matter to the order.
            1 => vec![0.5],
            count => weights(&self.places, &self.sums, count),
        };
        self.with(&weights)
    }

    /// The same step, knowing the guess at its end.
    fn corrected(&self, there: &Tensor) -> Result<Tensor, EngineError> {
        let weights = match self.places.len() {
            1 => vec![0.5],
            count => weights(&self.places, &self.sums, count),
        };
        let z = self.with(&weights)?;
        let last = weights.last().copied().unwrap_or_default();
        Ok((z - ((there - &self.clean)? * (last * self.scale))?)?)
    }

    fn with(&self, weights: &[f64]) -> Result<Tensor, EngineError> {
        let mut z = self.base.clone();
        for (turn, weight) in self.turns.iter().zip(weights) {
            z = (z - (turn * (weight * self.scale))?)?;
        }
        Ok(z)
    }
}

/// Solves `Σ wⱼ rⱼ^(i−1) = bᵢ` for the first `count` places and sums.
fn weights(places: &[f64], sums: &[f64], count: usize) -> Vec<f64> {
    let powers = |order: usize| -> Vec<f64> {
        let exponent = i32::try_from(order).unwrap_or(i32::MAX);
        let row = places.iter().take(count);
        row.map(|place| place.powi(exponent)).collect()
    };
    let mut rows: Vec<Vec<f64>> = (0..count)
        .zip(sums)
        .map(|(order, sum)| {
            let mut row = powers(order);
            row.push(*sum);
            row
        })
        .collect();
    // Gauss and Jordan; places are different and not zero, so that no pivot is.
    for column in 0..count {
        let Some(pivot) = rows.get(column).cloned() else {
            break;
        };
        let head = pivot.get(column).copied().unwrap_or(1.0);
        for (index, row) in rows.iter_mut().enumerate() {
            let share = row.get(column).copied().unwrap_or_default() / head;
            for (value, other) in row.iter_mut().zip(&pivot) {
                if index == column {
                    *value = other / head;
                } else {
                    *value -= share * other;
                }
            }
        }
    }
    rows.iter()
        .map(|row| row.last().copied().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_solve_their_equations() {
        let (places, sums) = ([-1.5, -0.7, 1.0], [0.3, -0.2, 0.9]);
        for count in 1..=3 {
            let found = weights(&places, &sums, count);
            for (order, sum) in (0..).zip(sums).take(count) {
                let made: f64 = found
                    .iter()
                    .zip(places)
                    .map(|(weight, place)| weight * place.powi(order))
                    .sum();
                assert!((made - sum).abs() < 1e-12, "{count} {order}");
            }
        }
    }
}
