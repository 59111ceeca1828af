//! Arguments of `ordu bench engine`.

use std::path::PathBuf;

use clap::Args;
use ordu_engine::native::measure::{Family, Part};
use ordu_engine::{DeviceChoice, Precision};

#[derive(Debug, Args)]
pub(crate) struct BenchEngine {
    /// Networks of true size with weights that mean nothing: `sd15`, `sdxl`, `ordu-tiny`.
    #[arg(
        long,
        default_value = "sd15",
        value_delimiter = ',',
        value_name = "FAMILY"
    )]
    pub(crate) family: Vec<Family>,

    /// A model instead: a checkpoint, or a folder in the layout of diffusers.
    #[arg(long, value_name = "PATH", conflicts_with = "family")]
    pub(crate) model: Option<PathBuf>,

    /// What of them: a step of `unet` under guidance, both `text`s of it, the `decode` of its latents.
    #[arg(
        long,
        default_value = "unet,text,decode",
        value_delimiter = ',',
        value_name = "PART"
    )]
    pub(crate) part: Vec<Part>,

    /// Sides of the pictures, in pixels; what the family was made for if it is not said.
    #[arg(long, value_delimiter = ',', value_name = "PIXELS", value_parser = parse_side)]
    pub(crate) size: Vec<usize>,

    /// Pictures at once.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) pictures: u8,

    /// Passes that count, behind one that does not.
    #[arg(long, default_value_t = 3, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) passes: u16,

    /// What the built-in engine computes on, as for `work`.
    #[arg(long, default_value_t = DeviceChoice::Auto, value_name = "DEVICE")]
    pub(crate) device: DeviceChoice,

    /// The numbers it computes in, as for `work`.
    #[arg(long, default_value_t = Precision::Auto, value_name = "NUMBERS")]
    pub(crate) precision: Precision,

    /// A program that computes the same, pass by pass in turns with ours. It reads a line of JSON for each
    /// pass, and answers with one that has `seconds`, and `core_seconds` and `peak_bytes` if it counts
    /// them. Words are parted by spaces.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) against: Option<String>,

    /// Print one line of JSON for each thing that was measured.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Larger pictures take longer than anybody waits.
const MAX_SIDE: usize = 4096;

fn parse_side(text: &str) -> Result<usize, String> {
    let side = text.parse::<usize>().ok();
    side.filter(|side| (64..=MAX_SIDE).contains(side) && side.is_multiple_of(64))
        .ok_or_else(|| format!("`{text}` is no side: use a multiple of 64 up to {MAX_SIDE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_multiples_of_64() {
        assert_eq!(parse_side("512"), Ok(512));
        assert_eq!(parse_side("4096"), Ok(4096));
        for wrong in [
            "",
            "0",
            "32",
            "65",
            "4160",
            "-64",
            "1e3",
            "99999999999999999999",
        ] {
            assert!(parse_side(wrong).is_err(), "{wrong}");
        }
    }
}
