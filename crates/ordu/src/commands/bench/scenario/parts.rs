//! What a scenario is made of.

use std::fmt;
use std::time::Duration;

use crate::commands::bench::report::ScenarioReport;

/// One scenario: servers that are started one after the other, and what is held against the figures.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) cases: &'static [Case],
    pub(crate) budgets: &'static [Budget],
    /// Whether it is part of a run that names none.
    pub(crate) usual: bool,
}

/// One server with what it finds at its start.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) stage: Stage,
    /// Servers that share the database.
    pub(crate) nodes: u32,
    pub(crate) phases: &'static [Phase],
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// SQLite, or PostgreSQL if one is given.
    Usual,
    /// PostgreSQL.
    Direct,
    /// PostgreSQL at the other end of a wire that takes so long there and back.
    Wire(Duration),
}

/// What is in the database before the server starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    /// Requests for pictures that wait.
    pub(crate) waiting: u32,
    pub(crate) wanted: Wanted,
    /// Requests that were served, with their jobs and ledger entries.
    pub(crate) finished: u32,
}

/// Whom waiting requests wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nobody that is there: 200 models in 8 sizes.
    Nobody,
    /// The workers of the scenario.
    Us,
}

/// One kind of load for some time.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) drive: Drive,
    pub(crate) seconds: u32,
}

/// A kind of load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Drive {
    /// Nothing: how it starts is all.
    Rest,
    /// Texts, from async to status, as many as go.
    Lifecycle {
        clients: u32,
        workers: u32,
        account: Account,
        pops: Pops,
    },
    /// `heartbeat` and `check` of a waiting request, in turns.
    Beats { connections: u32 },
    /// `check` of waiting requests.
    Checks { connections: u32 },
    /// Pops that find nothing, as `workers` different workers.
    IdlePops { connections: u32, workers: u32 },
    /// A new request, a pop of what waits longest, its submit.
    Churn { connections: u32 },
    /// Arrivals at fixed rates, whatever the answers do.
    Mixed(Rates),
    /// Workers that wait for jobs, `Prefer: wait=60`, and nothing to do.
    Patient { workers: u32 },
    /// Jobs one by one: how soon the client knows.
    News(Channel),
}

impl Drive {
    /// Whether it comes at fixed times, whatever the server does.
    pub(crate) const fn comes_in_time(&self) -> bool {
        matches!(self, Self::Mixed(_))
    }
}

/// How workers come by a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pops {
    /// They ask when a client was told that its request waits.
    Ask,
    /// They wait for what comes, `Prefer: wait=60`, as those of this horde do while they are idle.
    Wait,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// Each client with an account of its own, as far as there are so many.
    Own,
    /// All as the anonymous account.
    Shared,
}

/// How a client learns that its request is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// By a stream of events.
    Events,
    /// By asking once a second.
    Polling,
}

/// Arrivals a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) asks: f64,
    pub(crate) pops: f64,
    pub(crate) looks: f64,
    pub(crate) reads: f64,
    /// How many different workers pop.
    pub(crate) workers: u32,
}

/// What a figure must come to.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    /// `None` if what it is computed from was not measured.
    pub(crate) measure: fn(&ScenarioReport) -> Option<f64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}
