//! The rules of the horde: validation, kudos, pricing, matching, lifecycle.
//!
//! Everything here is pure. There is no IO, no async, no clock and no dice: time comes in as
//! [`Timestamp`], chance as a generator that is handed in. The same events in the same order
//! always lead to the same state.
#![warn(missing_docs, clippy::missing_errors_doc, clippy::indexing_slicing)]

pub mod kudos;
pub mod refusal;
pub mod time;

pub mod address;
pub mod agent;
pub mod alchemy;
pub mod asking;
pub mod chat;
pub mod filter;
pub mod grant;
pub mod holds;
pub mod image;
pub mod ledger;
pub mod likeness;
pub mod model_reference;
pub mod permission;
pub mod pricing;
pub mod profanity;
pub mod rare;
pub mod rating;
pub mod shared_key;
pub mod standing;
pub mod style;
pub mod subscription;
pub mod suspicion;
pub mod text;
pub mod text_models;
pub mod transfer;
pub mod trust;

pub mod horde;

pub use kudos::Kudos;
pub use refusal::Refusal;
pub use standing::{Role, Roles, Standing};
pub use time::{Millis, Timestamp};
