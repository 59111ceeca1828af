//! Engines that let another program do the work, over its network interface.
//!
//! The only part of this crate that knows a network.

pub mod comfyui;
