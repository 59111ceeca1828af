//! Numbers that describe the networks: read from the `config.json` files of a diffusers folder, or
//! derived from the shapes of the tensors of a single file. Both are a stranger's, so each has a
//! `check` that bounds it before anything is built.

mod clip;
mod control;
mod scheduler;
mod unet;
mod vae;

pub use clip::ClipConfig;
pub use control::ControlConfig;
pub use scheduler::SchedulerConfig;
pub use unet::{PerBlock, SIZES, UNetConfig};
pub use vae::VaeConfig;

use super::super::weights::Weights;
use crate::EngineError;

/// The widest layer that is built.
const MAX_WIDTH: usize = 65_536;
/// The most blocks, or layers of a block.
const MAX_DEPTH: usize = 128;

fn check(part: &str, sound: bool, what: &str) -> Result<(), EngineError> {
    if sound {
        Ok(())
    } else {
        Err(EngineError::bad_model(
            part,
            format!("its configuration has {what}"),
        ))
    }
}

fn width_ok(width: usize) -> bool {
    (1..=MAX_WIDTH).contains(&width)
}

fn depth_ok(depth: usize) -> bool {
    (1..=MAX_DEPTH).contains(&depth)
}

fn first_two(weights: &Weights, name: &str) -> Result<(usize, usize), EngineError> {
    match weights.shape(name) {
        Some([first, second, ..]) => Ok((*first, *second)),
        _ => Err(EngineError::bad_model(
            name,
            "this tensor tells the size of its network and is missing",
        )),
    }
}

/// Defaults that several networks share.
fn groups() -> usize {
    32
}

fn yes() -> bool {
    true
}
