//! Models and tensors: turns a task into pictures.
//!
//! One trait, [`Engine`], and what goes through it: an [`ImageTask`] in, [`Picture`]s out,
//! [`Step`]s in between. [`NativeEngine`] is the implementation that needs nothing but this crate;
//! those of [`remote`] let another program do the work. [`plan`] decides what both have to decide.
//!
//! Texts have a trait of their own, [`TextEngine`], and [`NativeText`] needs nothing else. `remote`
//! holds the engines that are other programs; nothing outside of it knows a network.
//!
//! This crate knows tensors, model files, images and texts. It knows no horde, no queue, no user and no
//! currency, and it never decides what a request may ask for: it takes numbers as they are given
//! and refuses only what cannot be computed.
//!
//! # Example
//!
//! ```no_run
//! use ordu_engine::{Engine, ImageTask, NativeEngine, NativeOptions, Quiet};
//!
//! let engine = NativeEngine::open(&NativeOptions::default())?;
//! let task = ImageTask::new("ordu-tiny", "a large red circle at the center on a blue background");
//! for picture in engine.run(task, &Quiet)? {
//!     picture.image.save(format!("{}.png", picture.seed)).expect("writable folder");
//! }
//! # Ok::<(), ordu_engine::EngineError>(())
//! ```
#![warn(missing_docs, clippy::missing_errors_doc)]
#![allow(
    clippy::doc_markdown,
    reason = "UNet, PyTorch and their like are names in prose, not code"
)]
#![allow(
    clippy::cast_precision_loss,
    reason = "counts of pixels, steps and tokens are far below 2^52"
)]
#![allow(
    clippy::many_single_char_names,
    reason = "x, y, z, q, k and v are what the papers call them"
)]

mod alchemy;
mod engine;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gates;
mod host;
mod models;
mod named;
pub mod native;
mod picture_forms;
pub mod plan;
pub mod remote;
mod sampler;
mod spread;
mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;

pub use alchemy::{AlchemyEngine, Answer, NativeAlchemy};
pub use engine::{
    Capabilities, Engine, Feature, Held, Holdings, Limits, Place, ProgressSink, Quiet, Step,
};
pub use error::EngineError;
pub use host::{HostTiming, HostedEngine, serve};
pub use models::{Baseline, Fit, ModelInfo, Origin, Prediction};
pub use named::NamedEngine;
pub use native::vision::{Readers, SAFETY};
pub use native::{
    Budget, Budgets, Compute, DeviceChoice, NativeEngine, NativeOptions, NativeText,
    NativeTextOptions, Precision,
};
pub use picture_forms::PictureForms;
pub use plan::control::ControlType;
pub use plan::post::PostProcessor;
pub use plan::qr::QrSpec;
pub use remote::comfyui::{ComfyEngine, ComfyOptions};
pub use sampler::{Sampler, Schedule};
pub use spread::Spread;
pub use task::{
    Control, Embedding, EmbeddingPlace, Hires, ImageTask, Lora, Mode, NoiseSource, Picture,
    RemixImage, Source, Workflow,
};
pub use text::{
    Finish, Format, Sampling, Text, TextCapabilities, TextEngine, TextError, TextPicture, TextTask,
};
