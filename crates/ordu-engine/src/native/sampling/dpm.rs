//! DPM-Solver (Lu et al. 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling
//! in Around 10 Steps"), of orders 1 to 3, in noise prediction: with `t = −ln σ`, `ε = (x − D) / σ`.
//!
//! *Fast* spends a given number of guesses in steps of third order as far as they go. *Adaptive* compares
//! the second order with the third and chooses its steps itself; the number of steps that it is asked
//! for says where the way ends, no more. Both end at the last level that is not clean, as programs that
//! have them do.

use candle_core::Tensor;

use super::run::Run;
use super::schedule::Level;
use crate::EngineError;

type Made = Result<Tensor, EngineError>;

/// Tolerances of the adaptive solver, and its first step in `ln σ`.
const ABSOLUTE: f64 = 0.0078;
const RELATIVE: f64 = 0.05;
const FIRST_STEP: f64 = 0.05;
/// A step is kept if the next one may be this many times as long.
const ACCEPT: f64 = 0.81;
/// The adaptive solver tries no more steps than this; it needs some dozens.
const MAX_TRIES: usize = 500;
/// Closer than this the end is reached.
const CLOSE: f64 = 1e-5;

/// The ends of the way in `−ln σ`; `None` if there is but one level that is not clean.
fn ends(levels: &[Level]) -> Option<(f64, f64)> {
    let noisy: Vec<&Level> = levels.iter().filter(|level| level.sigma > 0.0).collect();
    match noisy.as_slice() {
        [first, .., last] => Some((-first.sigma.ln(), -last.sigma.ln())),
        _ => None,
    }
}

/// The only step there is.
fn to_clean(x: &Tensor, levels: &[Level], run: &mut Run<'_, '_>) -> Made {
    let Some(first) = levels.first() else {
        return Ok(x.clone());
    };
    let clean = run.clean(x, *first)?;
    run.told(&clean)?;
    Ok(clean)
}

/// One guess for each step of `levels`.
pub(super) fn fast(mut x: Tensor, levels: &[Level], run: &mut Run<'_, '_>) -> Made {
    let Some((start, end)) = ends(levels) else {
        return to_clean(&x, levels, run);
    };
    let guesses = levels.len() - 1;
    let orders = orders(guesses);
    let before = run.done();
    let place = |index: usize| start + (end - start) * index as f64 / orders.len() as f64;
    let mut spent = 0;
    for (index, order) in orders.iter().copied().enumerate() {
        let step = Step::new(run, &x, (place(index), place(index + 1)))?;
        x = match order {
            1 => step.first()?,
            2 => step.second(run, 0.5)?.0,
            _ => step.third(run, None)?,
        };
        spent += order;
        run.told_all(before + spent, &step.clean)?;
    }
    Ok(x)
}

/// Orders of steps that take so many guesses together.
fn orders(guesses: usize) -> Vec<usize> {
    let steps = guesses / 3 + 1;
    let mut orders = if guesses.is_multiple_of(3) {
        let mut orders = vec![3; steps.saturating_sub(2)];
        orders.extend([2, 1]);
        orders
    } else {
        let mut orders = vec![3; steps - 1];
        orders.push(guesses % 3);
        orders
    };
    orders.retain(|order| *order > 0);
    orders
}

/// Steps of its own choice.
pub(super) fn adaptive(mut x: Tensor, levels: &[Level], run: &mut Run<'_, '_>) -> Made {
    let Some((start, end)) = ends(levels) else {
        return to_clean(&x, levels, run);
    };
    let (before, steps) = (run.done(), levels.len() - 1);
    let mut previous = x.clone();
    let (mut at, mut length) = (start, FIRST_STEP);
    let mut tries = 0;
    while at < end - CLOSE {
        tries += 1;
        // Out of patience: what remains is done in one go.
        let next = if tries < MAX_TRIES {
            end.min(at + length)
        } else {
            end
        };
        let step = Step::new(run, &x, (at, next))?;
        let (low, third) = step.second(run, 1.0 / 3.0)?;
        let high = step.third(run, Some(third))?;
        let error = distance(&low, &high, &previous)?;
        let factor = 1.0 + ((error + 1e-8).recip().cbrt() - 1.0).atan();
        if factor >= ACCEPT || tries >= MAX_TRIES {
            previous = low;
            x = high;
            at = next;
        }
        // An error that is no number would keep the length what it is not.
        length *= if factor.is_finite() { factor } else { 0.5 };
        run.told_all(
            before + share(steps, (at - start) / (end - start)),
            &step.clean,
        )?;
    }
    run.told_all(before + steps, &x)?;
    Ok(x)
}

/// A part of the steps, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a count"
)]
fn share(steps: usize, part: f64) -> usize {
    ((steps as f64 * part).floor() as usize).clamp(1, steps)
}

/// How far two results are from each other, in tolerances: the root of the mean square.
fn distance(low: &Tensor, high: &Tensor, previous: &Tensor) -> Result<f64, EngineError> {
    let size = low.abs()?.maximum(&previous.abs()?)?;
    let tolerance = (size * RELATIVE)?.maximum(ABSOLUTE)?;
    let apart = ((low - high)? / tolerance)?.sqr()?.mean_all()?;
    Ok(f64::from(apart.to_scalar::<f32>()?).sqrt())
}

/// A step under way: what is known at its beginning.
struct Step {
    x: Tensor,
    clean: Tensor,
    /// `ε`.
    noise: Tensor,
    from: f64,
    length: f64,
}

impl Step {
    fn new(run: &Run<'_, '_>, x: &Tensor, (from, to): (f64, f64)) -> Result<Self, EngineError> {
        let level = run.level((-from).exp());
        let clean = run.clean(x, level)?;
        let noise = ((x - &clean)? / level.sigma)?;
        Ok(Self {
            x: x.clone(),
            clean,
            noise,
            from,
            length: to - from,
        })
    }

    /// `σ` at a part of the step.
    fn sigma(&self, part: f64) -> f64 {
        (-(self.from + part * self.length)).exp()
    }

    /// `e^(r h) − 1`.
    fn growth(&self, part: f64) -> f64 {
        (part * self.length).exp_m1()
    }

    /// The first order up to a part of the step.
    fn to(&self, part: f64) -> candle_core::Result<Tensor> {
        &self.x - (&self.noise * (self.sigma(part) * self.growth(part)))?
    }

    /// How `ε` at a part of the step differs from that at its beginning.
    fn turn(&self, run: &Run<'_, '_>, x: &Tensor, part: f64) -> Made {
        let level = run.level(self.sigma(part));
        let clean = run.clean(x, level)?;
        Ok((((x - clean)? / level.sigma)? - &self.noise)?)
    }

    fn first(&self) -> Made {
        Ok(self.to(1.0)?)
    }

    /// The second order, and the turn at `part` that it used.
    fn second(&self, run: &Run<'_, '_>, part: f64) -> Result<(Tensor, Tensor), EngineError> {
        let turn = self.turn(run, &self.to(part)?, part)?;
        let weight = self.sigma(1.0) * self.growth(1.0) / (2.0 * part);
        Ok(((self.to(1.0)? - (&turn * weight)?)?, turn))
    }

    /// The third order; with the turn at a third of the step if that is known.
    fn third(&self, run: &Run<'_, '_>, known: Option<Tensor>) -> Made {
        let (one, two) = (1.0 / 3.0, 2.0 / 3.0);
        let first = match known {
            Some(turn) => turn,
            None => self.turn(run, &self.to(one)?, one)?,
        };
        let bend = |part: f64| self.growth(part) / (part * self.length) - 1.0;
        let weight = self.sigma(two) * (two / one) * bend(two);
        let there = (self.to(two)? - (first * weight)?)?;
        let second = self.turn(run, &there, two)?;
        let weight = self.sigma(1.0) / two * bend(1.0);
        Ok((self.to(1.0)? - (second * weight)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_take_the_guesses_that_there_are() {
        for (guesses, expected) in [
            (1, vec![1]),
            (2, vec![2]),
            (3, vec![2, 1]),
            (4, vec![3, 1]),
            (6, vec![3, 2, 1]),
            (8, vec![3, 3, 2]),
        ] {
            assert_eq!(orders(guesses), expected);
            assert_eq!(expected.iter().sum::<usize>(), guesses);
        }
    }
}
