//! The worker against a horde that answers what it is told to, with an engine that does what it is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    reason = "a test that cannot go on should stop there, and nobody uses a test"
)]

mod add_ons;
mod alchemist;
mod deliver;
mod downloads;
mod fault;
mod hostile;
mod kobold;
mod logs;
mod pantry;
mod pop;
mod push;
mod references;
mod safety;
mod scribe;
mod sight;
mod sources;
mod steer;
mod stop;
mod support;
