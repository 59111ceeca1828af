//! What the built-in engine computes on.

use clap::Args;
use ordu_engine::{Budget, DeviceChoice, Precision};

#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Computing {
    /// What the built-in engine computes on: `cpu`, `cuda:0` (the first NVIDIA card), `metal`, or
    /// `auto`: a card if this program was built for one and finds it, else the processor.
    #[arg(
        long,
        env = "ORDU_DEVICE",
        default_value_t = DeviceChoice::Auto,
        value_name = "DEVICE"
    )]
    pub(crate) device: DeviceChoice,

    /// The numbers it computes in: `f32`, `f16`, `bf16`, or `auto`: `f16` on an NVIDIA card, `f32`
    /// elsewhere.
    #[arg(
        long,
        env = "ORDU_PRECISION",
        default_value_t = Precision::Auto,
        value_name = "NUMBERS"
    )]
    pub(crate) precision: Precision,

    /// What models may take of this computer's memory: `60%`, `4000` (MiB), `free:2000` (all but 2000
    /// MiB), or `auto`: 60 %. One model is always held, however large.
    #[arg(
        long,
        env = "ORDU_RAM_BUDGET",
        default_value_t = Budget::Auto,
        value_name = "MEMORY"
    )]
    pub(crate) ram_budget: Budget,

    /// The same of a card's memory; `auto` is 70 %.
    #[arg(
        long,
        env = "ORDU_VRAM_BUDGET",
        default_value_t = Budget::Auto,
        value_name = "MEMORY"
    )]
    pub(crate) vram_budget: Budget,
}
