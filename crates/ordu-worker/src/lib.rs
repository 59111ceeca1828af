//! The worker: asks a horde for jobs, has an engine do them, hands the results back.
//!
//! [`run()`] is the whole of it. It owns every task it starts and returns when all popped jobs have been
//! submitted. This crate knows the protocol through [`ordu_client`] and pictures through
//! [`ordu_engine`]; it never sees a server from within, and what it decides (when to pop, what to
//! offer, whether to try again) it decides in pure functions.
//!
//! It works in several roles at once: a role (`role`) says what to offer, how to pop and how to do a
//! job; the loop around it (`desk`) is the same for all. `dreamer` makes pictures, `scribe` writes texts,
//! `alchemist` answers forms.
//!
//! The way of a picture: its desk pops the job, `inputs` fetches its pictures while the job before it is being
//! sampled, `bridge` turns its payload into a task, `generate` lets the engine do it, `encode` makes
//! WebP of it, `deliver` uploads and submits, and `job` joins these and submits a fault for every part
//! that is not delivered.
//!
//! No prompt, picture or key is logged, at any level.

mod account;
mod agent;
mod alchemist;
mod bench;
mod bridge;
pub mod bridge_data;
mod config;
mod controls;
mod deliver;
mod desk;
mod dreamer;
mod effort;
mod encode;
mod figures;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod generate;
mod health;
mod inputs;
mod job;
mod line;
pub mod manager;
mod offer;
mod one_shot;
mod pace;
mod pacing;
mod report;
mod retry;
mod role;
mod run;
mod safety;
mod scribe;
mod seats;
mod shutdown;
mod status;
mod trial;

pub use bench::{Case, Cell, Measured, Proposal, measure, propose};
pub use config::{Config, ConfigError, Haste, Timing};
pub use controls::Controls;
pub use figures::{Earnings, Histogram};
pub use one_shot::{OneShot, OneShotError, one_shot};
pub use run::{Engines, RunError, run, run_with};
pub use safety::{
    Classifier, ClassifierError, EngineClassifier, Judgement, RemoteClassifier, View,
};
pub use shutdown::{Level, Shutdown};
pub use status::{Account, EngineStatus, JobStatus, Phase, Stage, Status};
pub use trial::{Trial, try_out};
