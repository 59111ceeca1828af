//! The whole program: the binary end to end, and the shape of the house.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests say what they expect"
)]

mod tidy;

mod admin;
mod alchemy;
mod bench;
mod bot;
mod chaos;
mod commands;
mod contrib;
mod doctor;
mod engine_host;
mod figures;
mod horde;
mod imagine;
mod models;
mod sight;
mod story;
mod supply;
mod traces;
mod worker;
mod write;

mod fediverse;
mod program;
mod relay;
