//! All tests of the engine that need more than one module.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic and print"
)]
#![expect(
    clippy::doc_markdown,
    reason = "UNet, PyTorch and their like are names in prose"
)]

mod add_ons;
mod cascade;
mod comfyui;
mod control;
mod cutout;
mod data;
mod faces;
mod families;
mod grown;
mod hires;
mod parity;
mod qr;
mod single_file;
mod stories;
mod tiny;
mod transparent;
mod upscale;
mod vision;
