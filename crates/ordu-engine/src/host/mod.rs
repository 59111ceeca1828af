//! An engine in a process of its own: when it dies, one task dies with it and nothing else.
//!
//! [`HostedEngine`] starts the process and is an [`Engine`](crate::Engine), a
//! [`TextEngine`](crate::TextEngine) and an [`AlchemyEngine`](crate::AlchemyEngine) like any other;
//! [`serve()`] is what the process runs. They speak over the process's standard input and output (`wire`): when either side is
//! gone, the other one reads the end of the stream, so no process is ever left behind.
//!
//! Answers are matched on the attempt they belong to, and an attempt belongs to one launch. What a
//! killed process may still have said reaches nobody.

mod child;
mod serve;
mod wire;

pub use child::{HostTiming, HostedEngine};
pub use serve::serve;
#[cfg(any(test, fuzzing))]
pub use wire::is_frame;
pub(crate) use wire::{as_json, chain, pixels};
