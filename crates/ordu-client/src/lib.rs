//! Typed HTTP client of the horde protocol.
//!
//! [`Horde`] is a horde as one key holder sees it: one method per operation, wire types from
//! [`ordu_api`]. [`Fetcher`] reads pictures from addresses that strangers chose. This crate knows
//! HTTP and the protocol; it knows no rules, no engine and no files, and it never retries by itself
//! except in [`Horde::wait_for`] and [`Horde::follow`]: what to do about an [`Error`] is the caller's business.
//!
//! # Example
//!
//! ```no_run
//! # async fn example() -> Result<(), ordu_client::Error> {
//! use ordu_api::{ApiKey, image::ImageRequest};
//! use ordu_client::{Horde, Pace};
//!
//! let horde = Horde::new("http://127.0.0.1:7001", ApiKey::anonymous(), "my-tool:1.0:me@example.org")?;
//! let request = ImageRequest { prompt: "a red circle".to_owned(), ..ImageRequest::default() };
//! let accepted = horde.async_image(&request).await?;
//! horde.wait_for(accepted.id, &Pace::default(), |progress| {
//!     eprintln!("place {}, {} s to go", progress.queue_position, progress.wait_time);
//! }).await?;
//! for generation in horde.status(accepted.id).await?.generations {
//!     let picture = horde.download(&generation.img, 20 << 20).await?;
//!     eprintln!("{} bytes", picture.len());
//! }
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs, clippy::missing_errors_doc, clippy::indexing_slicing)]

mod address;
mod alchemy;
mod error;
mod event;
mod explanation;
mod fetch;
mod files;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod history;
mod horde;
mod image;
mod lenient;
mod sse;
mod status;
mod text;
mod transport;
mod user;
mod wait;
mod worker;

pub use address::is_public;
pub use error::{Error, Refusal};
pub use event::{Events, Extensions};
pub use fetch::{Fetcher, Trust};
pub use frames::Frames;
pub use history::{HistoryStep, Pulses};
pub use horde::{Horde, http_client};
pub use lenient::image_job;
pub use sse::Frame;
pub use user::NewTestUser;
pub use wait::Pace;
