//! The public protocol as data: what travels between clients, the horde and its workers.
//!
//! Requests, answers, ids and return codes, with the names that foreign clients depend on.
//! There is no behaviour here beyond reading and writing: no clock, no rules, no transport.
//! Every body that comes from outside has a [`schema::Schema`] beside its struct; a value that
//! passed the schema always reads into the struct.
#![warn(missing_docs, clippy::missing_errors_doc, clippy::indexing_slicing)]

pub mod codes;
pub mod error;
pub mod ids;
pub mod schema;

pub mod alchemy;
pub mod audit;
pub mod collection;
pub mod document;
pub mod event;
pub mod explanation;
pub mod extension;
pub mod filter;
pub mod history;
pub mod image;
pub mod kudos;
pub mod mask;
pub mod message;
pub mod model;
pub mod openai;
pub mod operation;
pub mod pulse;
pub mod rating;
pub mod registration;
pub mod shared_key;
pub mod status;
pub mod style;
pub mod team;
pub mod text;
pub mod user;
pub mod worker;

pub use codes::ReturnCode;
pub use ids::{
    ApiKey, CollectionId, JobId, MessageId, RequestId, SharedKeyId, StyleExampleId, StyleId,
    TeamId, UserId, WorkerId,
};

/// The path under which every operation of the protocol lives.
pub const BASE_PATH: &str = "/api/v2";

/// The version of the protocol.
pub const API_VERSION: &str = "2.5";

/// The key that everybody shares: account 0, `Anonymous#0`.
pub const ANONYMOUS_KEY: &str = "0000000000";

/// What an agent header or field holds when nothing was said.
pub const UNKNOWN_AGENT: &str = "unknown:0:unknown";
