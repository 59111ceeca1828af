//! From one noise level to the next.
//!
//! | sampler | source | what it does |
//! |---|---|---|
//! | Euler | Karras et al. 2022, algorithm 2 without churn | follows the direction of the present guess |
//! | DDIM | Song et al. 2020, equation 12 with η = 0 | the same step: in these coordinates DDIM *is* Euler's method |
//! | Euler ancestral | the ancestral step of Song et al. 2020, as in k-diffusion | goes further down and adds fresh noise |
//! | DPM++ 2M | Lu et al. 2022, algorithm 2 | extrapolates from the present and the previous guess |

use candle_core::Tensor;

use super::denoiser::Denoiser;
use super::run::{Noise, Run, Watch};
use super::schedule::Level;
use super::{dpm, lms, single, unipc};
use crate::{EngineError, Sampler};

/// Walks `z` `[batch, c, h, w]` from the first of `levels` to the last, which need not be clean.
///
/// After each step `watch` gets its number, counted from 1, and the present guess of the clean
/// latents; its error ends the walk.
///
/// # Errors
///
/// Those of the denoiser, the noise and `watch`.
pub fn sample(
    (sampler, levels): (Sampler, &[Level]),
    z: Tensor,
    denoiser: &dyn Denoiser,
    noise: &mut Noise<'_>,
    watch: &mut Watch<'_>,
) -> Result<Tensor, EngineError> {
    let mut run = Run::new(denoiser, noise, watch);
    match sampler {
        Sampler::Euler | Sampler::Ddim | Sampler::EulerA | Sampler::Dpmpp2m => {
            return in_z(sampler, levels, z, &mut run);
        }
        _ => {}
    }
    let (z, levels) = leave_pure_noise(sampler, levels, z, &mut run)?;
    let [first, _, ..] = levels else {
        return Ok(z);
    };
    let x = || z.clone() / first.alpha;
    let x = match sampler {
        Sampler::UniPc => unipc::walk(&z, levels, unipc::Kind::First, &mut run),
        Sampler::UniPcBh2 => unipc::walk(&z, levels, unipc::Kind::Second, &mut run),
        Sampler::Lms => lms::walk(x()?, levels, &mut run),
        Sampler::DpmFast => dpm::fast(x()?, levels, &mut run),
        Sampler::DpmAdaptive => dpm::adaptive(x()?, levels, &mut run),
        _ => single::walk(sampler, x()?, levels, &mut run),
    }?;
    match levels.last() {
        Some(last) if last.sigma > 0.0 => Ok((x * last.alpha)?),
        _ => Ok(x),
    }
}

/// One step out of pure noise, if a run begins with it.
fn leave_pure_noise<'a>(
    sampler: Sampler,
    levels: &'a [Level],
    z: Tensor,
    run: &mut Run<'_, '_>,
) -> Result<(Tensor, &'a [Level]), EngineError> {
    let [now, next, ..] = levels else {
        return Ok((z, levels));
    };
    if now.sigma.is_finite() {
        return Ok((z, levels));
    }
    let clean = run.denoise(&z, *now)?;
    let next_z = if single::is_noisy(sampler) {
        ancestral(&z, &clean, (*now, *next), run)?
    } else {
        straight(&z, &clean, (*now, *next))?
    };
    run.told(&clean)?;
    Ok((next_z, levels.get(1..).unwrap_or_default()))
}

fn in_z(
    sampler: Sampler,
    levels: &[Level],
    mut z: Tensor,
    run: &mut Run<'_, '_>,
) -> Result<Tensor, EngineError> {
    let mut previous: Option<(Tensor, Level)> = None;
    for pair in levels.windows(2) {
        let &[now, next] = pair else { continue };
        let clean = run.denoise(&z, now)?;
        z = match sampler {
            Sampler::EulerA => ancestral(&z, &clean, (now, next), run)?,
            Sampler::Dpmpp2m => multistep(&z, &clean, (now, next), previous.as_ref())?,
            _ => straight(&z, &clean, (now, next))?,
        };
        run.told(&clean)?;
        previous = Some((clean, now));
    }
    Ok(z)
}

/// The noise that `z` must hold if `clean` is what it shows.
fn noise_of(z: &Tensor, clean: &Tensor, level: Level) -> candle_core::Result<Tensor> {
    (z - (clean * level.alpha)?)? / level.noise
}

/// The same clean picture and the same noise, mixed as the next level asks.
fn straight(
    z: &Tensor,
    clean: &Tensor,
    (now, next): (Level, Level),
) -> candle_core::Result<Tensor> {
    (clean * next.alpha)? + (noise_of(z, clean, now)? * next.noise)?
}

/// A straight step to a level below the next one, and fresh noise up to it. How much is fresh
/// follows from keeping the distribution: `up = √(σ'² (σ² − σ'²) / σ²)`, which is `σ'` if the step
/// comes from pure noise.
fn ancestral(
    z: &Tensor,
    clean: &Tensor,
    (now, next): (Level, Level),
    run: &mut Run<'_, '_>,
) -> Result<Tensor, EngineError> {
    if next.sigma == 0.0 {
        return Ok(clean.clone());
    }
    let ratio = next.sigma / now.sigma;
    let up = next.sigma * (1.0 - ratio * ratio).max(0.0).sqrt();
    let down = next.sigma * ratio;
    let old = (noise_of(z, clean, now)? * (down * next.alpha))?;
    let fresh = (run.fresh()? * (up * next.alpha))?;
    Ok(((clean * next.alpha)? + old + fresh)?)
}

/// Lu et al. 2022 with data prediction. With `λ = −ln σ` and `h` the difference of two of them, `x'
/// = (σ'/σ) x + (1 − e^−h) D`, where `D` extrapolates the last two guesses; `e^−h` is just `σ'/σ`.
fn multistep(
    z: &Tensor,
    clean: &Tensor,
    (now, next): (Level, Level),
    previous: Option<&(Tensor, Level)>,
) -> candle_core::Result<Tensor> {
    let ratio = next.sigma / now.sigma;
    let guess = match previous {
        // No second order into the clean end, where h is infinite, and none out of pure noise,
        // where the last h was.
        Some((old, before)) if next.sigma > 0.0 && before.sigma.is_finite() => {
            let (h, last) = (
                (now.sigma / next.sigma).ln(),
                (before.sigma / now.sigma).ln(),
            );
            let weight = h / (2.0 * last);
            ((clean * (1.0 + weight))? - (old * weight)?)?
        }
        _ => clean.clone(),
    };
    (z * (next.noise / now.noise))? + (guess * (next.alpha * (1.0 - ratio)))?
}
