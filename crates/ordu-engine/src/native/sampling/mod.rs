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

mod denoiser;
mod schedule;
mod steps;

pub use denoiser::{Denoiser, Guided, Masked};
pub use schedule::{Level, NoiseSchedule};
pub use steps::{Noise, sample};
