//! The server over real HTTP, on real databases.
#![expect(clippy::unwrap_used, reason = "tests say what they expect")]
#![expect(
    clippy::disallowed_methods,
    reason = "the test database comes by an environment variable"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests say what they skip and how a replay went"
)]

mod account;
mod address;
mod alchemy;
mod audit;
mod backup;
mod blobs;
mod collections;
mod conformance;
mod described;
mod documents;
mod events;
mod explain;
mod faults;
mod gateway;
mod gifts;
mod guard;
mod guesses;
mod history;
mod hooks;
mod horde_page;
mod hostile;
mod import;
mod limits;
mod metrics;
mod models;
mod modes;
mod nodes;
mod nodes_rules;
mod office;
mod openapi;
mod page;
mod prices;
mod privileges;
mod pulse;
mod rating;
mod refusals;
mod register;
mod repeats;
mod replay;
mod restart;
mod rewards;
mod roles;
mod shared_keys;
mod sign_in;
mod stats;
mod style_examples;
mod styles;
mod styles_found;
mod styles_made;
mod styles_used;
mod subscriptions;
mod teams;
mod text;
mod transport;
mod trips;
mod trust_audits;
mod user_edits;
mod users;
mod views;
mod waits;
mod walk;
mod webhooks;
mod worker_edits;

mod browser;
mod provider;
mod receiver;
mod s3;
mod studio;
mod support;
