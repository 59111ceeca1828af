//! The client against a server that answers what it is told to.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on should stop there, and nobody uses a test"
)]

mod calls;
mod errors;
mod files;
mod support;
mod wait;
