//! Engines that are other programs, reached over the network. Only the modules below this one know
//! how to get there.

pub mod comfyui;
pub mod kobold;
pub mod openai;

mod backend;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod growing;
mod probe;
mod sight;

pub use backend::{RemoteOptions, RemoteTiming};
