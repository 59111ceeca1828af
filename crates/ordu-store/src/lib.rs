//! Every SQL statement of Ordu, on SQLite and PostgreSQL.
//!
//! One concrete [`Store`]; no other crate knows the database. It must not know the rules: what a
//! settlement moves or when a request expires is decided elsewhere and written down here.
#![warn(missing_docs)]

mod error;
mod store;

mod address;
mod audit;
pub mod backup;
mod change;
mod collection;
mod example;
mod filter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod import;
mod job;
mod ledger;
mod load;
mod message;
mod node;
mod notice;
mod passkey;
mod posting;
mod probe;
mod registration;
mod rehearsal;
mod request;
mod setting;
mod shared_key;
mod statistics;
mod stats;
mod style;
mod suspicion;
mod team;
mod transfer;
mod trust;
mod trust_audit;
mod user;
mod webhook;
mod worker;
mod worker_edit;

mod flaw;
mod fold;

mod behind;
mod counters;
mod json;
mod pool;
mod task;
mod writer;

#[cfg(feature = "chaos")]
mod planted;

#[cfg(feature = "testing")]
pub mod testing;

pub use audit::{AuditEntry, AuditFilter};
pub use change::{Changed, Listener, MAX_WORD, Noun, Seen, Word};
pub use collection::{Collection, CollectionChange, Member, NewCollection};
pub use counters::{Counters, counted, counted_along};
pub use error::{Error, Result};
pub use example::{Example, ExampleAdded, Precedence};
pub use filter::{Filter, NewFilter};
pub use flaw::Flaw;
pub use fold::Folded;
pub use job::{Assignment, Claim, Fault, Faulted, Job, JobState, NewJob, Settled, Settlement};
pub use ledger::{Balance, Discrepancy, Recorded};
pub use load::{Load, Slice, Step};
pub use message::{Message, MessageFilter, Validity};
pub use node::{Lead, NODE_LIFETIME, Node};
pub use notice::{Notice, ProblemJob};
pub use pool::{DatabaseUrl, Options};
pub use posting::{Posting, PostingMark};
pub use probe::{HeardNode, HeldJobs, LATELY, Probe, probe};
pub use registration::{Allowance, Registered};
pub use rehearsal::Past;
pub use request::{NewRequest, Request, RequestState};
pub use shared_key::{NewSharedKey, SharedKey, SharedKeyChange};
pub use statistics::{Archived, Count, ModelCounts, Statistics, Windows};
pub use stats::{Activity, Bucket, Record, Totals};
pub use store::Store;
pub use style::{NewStyle, OwnStyle, Style, StyleChange, StyleFilter, StyleSort};
pub use suspicion::Suspicion;
pub use team::{NewTeam, Team, TeamChange};
pub use transfer::{Transfer, Transferred, UserEdit};
pub use trust_audit::TrustAudit;
pub use user::{NewUser, Roles, User, UserChange, UserSort};
pub use webhook::{Due, NewWebhook};
pub use worker::{CheckIn, NewWorker, Worker, WorkerChange};
