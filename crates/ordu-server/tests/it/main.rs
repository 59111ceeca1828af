//! The server over real HTTP, on real databases.
#![expect(clippy::unwrap_used, reason = "tests say what they expect")]
#![expect(
    clippy::disallowed_methods,
    reason = "the test database comes by an environment variable"
)]

mod blobs;
mod guard;
mod page;
mod refusals;
mod replay;
mod restart;
mod transport;
mod views;
mod walk;

mod support;
