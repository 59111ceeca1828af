//! The HTTP server of the horde: axum around the pure [`ordu_core::horde::Horde`] and the store.
//!
//! A handler takes what it needs out of the request, asks who it is, checks, decides in memory under
//! a short lock, stores, answers. Rules live in `ordu-core`, SQL in `ordu-store`; this crate knows
//! HTTP, time and chance.
#![warn(clippy::indexing_slicing)]

mod router;
mod routes;
mod web;

mod app;
mod config;
mod serve;
mod server;
mod tasks;

pub mod accounts;
mod address;
mod audit;
pub mod backup;
mod blobs;
mod body;
mod catalogue;
mod checkup;
mod clock;
mod dates;
mod documents;
mod doors;
mod error;
mod explaining;
mod extract;
mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gateway;
mod guard;
mod guesses;
mod handover;
mod history;
mod hooks;
mod identity;
mod limits;
mod load;
mod messages;
mod metrics;
mod modes;
mod nodes;
mod onboarding;
pub mod openapi;
mod outgoing;
mod passkeys;
mod payer;
mod pictures;
mod prices;
mod profiles;
mod push;
mod rankings;
mod ratings;
mod rebuild;
mod registry;
mod repeats;
mod reservation;
mod secret;
mod settle;
mod shared_keys;
mod sharing;
mod sources;
mod statistics;
mod straight;
mod styles;
mod subscriptions;
mod teams;
mod text;
mod traffic;
mod transport;
mod trust;
mod trust_audits;
mod trusted;
mod unread;
mod watch;
mod watched;
mod webhooks;
mod worker_edits;

pub use audit::Deed;
pub use blobs::{BlobError, BlobPlace, PlaceError, S3Credentials, S3Defaults, S3Place, S3Secret};
pub use catalogue::{ModelError, ModelSource, ModelSources};
pub use checkup::{BlobProbe, Seen, seen_link};
pub use clock::Clock;
pub use config::{Config, KEEP_ALIVE, LONGEST_WAIT, PATIENCE, Site};
pub use documents::PageSource;
pub use guard::{GuardConfig, OnboardingLimits};
pub use hooks::{Hook, HookConfig, OnFailure, Stage};
pub use identity::{
    CaptchaConfig, ClientSecret, Endpoints, IdentityConfig, Provider, Registration,
};
pub use load::MostLoad;
pub use nodes::{NodeConfig, NodeStatus};
pub use push::Onlookers;
pub use secret::{NoRandomness, Secret, new_api_key, random_bytes};
pub use server::{Server, StartError};
pub use traffic::TrafficCounters;
pub use trust_audits::TrustAuditConfig;
