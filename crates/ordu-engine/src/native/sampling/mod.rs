//! From noise to latents: how strong the noise is at each step, and how a step is taken.
//!
//! # Conventions
//!
//! Noise levels are named as in Karras et al. 2022 ("Elucidating the Design Space of
//! Diffusion-Based Generative Models"): at level `σ` a picture is `x₀ + σ ε`. What is stored is the
//! same divided by `√(1 + σ²)`, which has about unit spread and is what networks are trained on: `z
//! = α x₀ + s ε` with `α = 1/√(1 + σ²)` and `s = σ/√(1 + σ²)`.
//!
//! The formulas of k-diffusion are written in `x` and break down at `σ = ∞`, where models with zero
//! terminal signal-to-noise ratio start. In `z` that level is ordinary: `α = 0`, `s = 1`. All steps
//! here are the k-diffusion ones, rewritten; nothing is capped.

//!
//! | where | samplers |
//! |---|---|
//! | `steps` | Euler, DDIM, Euler ancestral, DPM++ 2M, all in `z` |
//! | `single` | Heun, DPM2, DPM2 ancestral, DPM++ 2S ancestral, DPM++ SDE, LCM: one step at a time |
//! | `lms` | linear multistep |
//! | `dpm` | DPM-Solver, fast and adaptive |
//! | `unipc` | UniPC, in `z` |
//!
//! The others work in `x`, where their formulas are those of the papers. A schedule that begins with
//! pure noise is entered by one step in `z`: out of pure noise every method is of first order.

mod denoiser;
mod dpm;
mod lms;
mod run;
mod schedule;
mod single;
mod steps;
mod unipc;

pub use denoiser::{Denoiser, Guided, Masked, Side, Steered};
pub use run::Noise;
pub use schedule::{Level, NoiseSchedule};
pub use steps::sample;
