//! What every engine has to decide before it can draw: which pipeline, which sizes, how many steps,
//! in which order. Pure.
//!
//! # Source
//! `worker.md` § 2.2 to 2.13.

pub(crate) mod brightness;
pub mod control;
pub mod hires;
pub mod pipeline;
pub mod post;
pub mod prompt;
pub mod qr;
pub mod source;
pub mod steps;
