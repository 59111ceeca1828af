//! The model manager: what is known about models, which of them the owner wants, where their files lie,
//! and how they and the add-ons of jobs come here.
//!
//! It knows CivitAI, the model reference and file servers; it knows no engine beyond the check of a
//! file's header, and nothing of popping and submitting.
//!
//! # Source
//! `worker.md` § 1.24, 2.6, 3.

mod checksum;
pub(crate) mod civitai;
mod download;
mod family;
mod follow;
mod index;
mod inject;
mod instruct;
mod lock;
mod names;
mod pantry;
mod readers;
mod record;
mod secret;
mod similar;
mod sources;
mod store;
mod supplies;
pub(crate) mod web;

pub use civitai::{CivitaiOptions, Taste};
pub use download::{
    DownloadError, DownloadOptions, Downloads, Fetched, Format, TransferProgress, Wanted, verify,
};
pub use family::Family;
pub use follow::{Candidate, Room, follow};
pub use inject::InjectTi;
pub use instruct::{Circumstances, Large, Selection, has_instructions, needs_usage, select};
pub use names::{bridge_version, comfy_models, names_of_files};
pub use pantry::{AddOns, PROOF, Pantry, PantryOptions, ReadyLora, ReadyTi};
pub use readers::{Reader, readers};
pub use record::{Category, ModelFile, Record, Reference, parse};
pub use secret::Secret;
pub use sources::{NoReference, Origin, ReferenceSources, References};
pub use store::{Folder, Presence, Store};
pub use supplies::{is_needed, supplies};
pub use web::{Web, WebError};
