//! Samplers that look at nothing but the present step. At a level `σ`, `d = (x − D) / σ` is the
//! direction away from the guess `D` of the clean picture.
//!
//! | sampler | source | what it does |
//! |---|---|---|
//! | Heun | Karras et al. 2022, algorithm 1 | goes along the mean of the directions at both ends |
//! | DPM2 | the same, midpoint in `ln σ` (DPM-Solver-2 of Lu et al. 2022) | goes along the direction in the middle |
//! | DPM2 ancestral | the same with an ancestral step | … and adds fresh noise |
//! | DPM++ 2S ancestral | Lu et al. 2022, algorithm 1, ancestral | the guess in the middle stands for the whole step |
//! | DPM++ SDE | the same for the stochastic equation | noise on the way and at the end |
//! | LCM | Luo et al. 2023 | believes the guess and adds the noise of the next level |
//!
//! The noise of DPM++ SDE is a Brownian motion over `σ`: what is added at the end of a step contains what
//! was added on its way. Two independent draws make both, one for each part of the step.

use candle_core::Tensor;

use super::run::Run;
use super::schedule::Level;
use crate::{EngineError, Sampler};

type Made = Result<Tensor, EngineError>;

/// Whether a sampler draws fresh noise.
pub(super) fn is_noisy(sampler: Sampler) -> bool {
    matches!(
        sampler,
        Sampler::EulerA | Sampler::Dpm2A | Sampler::Dpmpp2sA | Sampler::DpmppSde | Sampler::Lcm
    )
}

/// Walks `x` through finite levels.
pub(super) fn walk(
    sampler: Sampler,
    mut x: Tensor,
    levels: &[Level],
    run: &mut Run<'_, '_>,
) -> Made {
    for pair in levels.windows(2) {
        let &[now, next] = pair else { continue };
        let clean = run.clean(&x, now)?;
        x = match sampler {
            // Into the clean end all of them are Euler's method.
            _ if next.sigma == 0.0 => clean.clone(),
            Sampler::Heun => heun(&x, &clean, (now, next), run)?,
            Sampler::Dpm2 => midpoint(&x, &clean, (now, next.sigma), run)?,
            Sampler::Dpm2A => {
                let (down, up) = ancestral(now.sigma, next.sigma);
                (midpoint(&x, &clean, (now, down), run)? + (run.fresh()? * up)?)?
            }
            Sampler::Dpmpp2sA => {
                let (down, up) = ancestral(now.sigma, next.sigma);
                (two_stages(&x, &clean, (now, down), run)? + (run.fresh()? * up)?)?
            }
            Sampler::DpmppSde => stochastic(&x, &clean, (now, next), run)?,
            _ => (&clean + (run.fresh()? * next.sigma)?)?,
        };
        run.told(&clean)?;
    }
    Ok(x)
}

/// The level to go down to, and the noise to add up to `next`, so that the spread is right.
pub(super) fn ancestral(now: f64, next: f64) -> (f64, f64) {
    let ratio = next / now;
    let up = next * (1.0 - ratio * ratio).max(0.0).sqrt();
    (next * ratio, up)
}

/// `x` at another level in the direction away from `clean`.
fn along(x: &Tensor, clean: &Tensor, (now, next): (f64, f64)) -> candle_core::Result<Tensor> {
    let ratio = next / now;
    (x * ratio)? + (clean * (1.0 - ratio))?
}

fn heun(x: &Tensor, clean: &Tensor, (now, next): (Level, Level), run: &Run<'_, '_>) -> Made {
    let way = next.sigma - now.sigma;
    let ahead = along(x, clean, (now.sigma, next.sigma))?;
    let there = run.clean(&ahead, next)?;
    let first = ((x - clean)? / now.sigma)?;
    let second = ((&ahead - there)? / next.sigma)?;
    Ok((x + ((first + second)? * (way / 2.0))?)?)
}

fn midpoint(x: &Tensor, clean: &Tensor, (now, next): (Level, f64), run: &Run<'_, '_>) -> Made {
    let middle = run.level((now.sigma * next).sqrt());
    let half = along(x, clean, (now.sigma, middle.sigma))?;
    let there = run.clean(&half, middle)?;
    let direction = ((half - there)? / middle.sigma)?;
    Ok((x + (direction * (next - now.sigma))?)?)
}

fn two_stages(x: &Tensor, clean: &Tensor, (now, next): (Level, f64), run: &Run<'_, '_>) -> Made {
    let middle = run.level((now.sigma * next).sqrt());
    let half = along(x, clean, (now.sigma, middle.sigma))?;
    let there = run.clean(&half, middle)?;
    Ok(along(x, &there, (now.sigma, next))?)
}

fn stochastic(
    x: &Tensor,
    clean: &Tensor,
    (now, next): (Level, Level),
    run: &mut Run<'_, '_>,
) -> Made {
    let middle = run.level((now.sigma * next.sigma).sqrt());
    let (early, late) = (run.fresh()?, run.fresh()?);
    let (down, up) = ancestral(now.sigma, middle.sigma);
    let half = along(x, clean, (now.sigma, down))?;
    let half = (half + (&early * up)?)?;
    let there = run.clean(&half, middle)?;
    let (down, up) = ancestral(now.sigma, next.sigma);
    let end = along(x, &there, (now.sigma, down))?;
    let whole = now.sigma - next.sigma;
    let share = |way: f64| (way / whole).sqrt();
    let noise =
        ((early * share(now.sigma - middle.sigma))? + (late * share(middle.sigma - next.sigma))?)?;
    Ok((end + (noise * up)?)?)
}
