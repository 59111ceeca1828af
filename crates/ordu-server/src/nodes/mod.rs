//! Several nodes on one database: who lives, who leads, what the others did.
//!
//! A node alone only looks again at requests of which it lost a claim, and for those that may be stored
//! although they were refused ([`unheard`]). Of several, each says every
//! second that it lives ([`presence`]), reads what the others changed ([`tail`]) and joins it with what
//! it knows ([`requests`], [`workers`]). One of them leads: it does what must happen once.
//!
//! # Source
//! `platform.md` § 3; `docs/decisions/0012`.

mod bells;
mod pace;
mod presence;
mod requests;
mod tail;
mod unheard;
mod words;
mod workers;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ordu_api::RequestId;
use ordu_core::horde::Lapse;
use ordu_store::{Lead, Node, Seen};
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use bells::Bells;
use pace::Pace;
use unheard::Unheard;
use words::Elsewhere;

pub(crate) use bells::ring_late;
pub(crate) use presence::keep_presence;
pub(crate) use tail::follow_log;

/// Lapses that wait to be stored at most; more are left to the next start, or to whoever leads next.
const MAX_OWED: usize = 10_000;

/// A look into the change log that takes longer makes a node late. Usually one takes milliseconds.
const LATE: Duration = Duration::from_millis(500);

/// That a server is one of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// What its operator calls it.
    pub name: String,
    /// Whether every node has the same folder of pictures. Others than folders always are shared.
    pub shared_folder: bool,
}

/// This node and the others.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// `None` for a node alone.
    own: Option<Node>,
    alive: Mutex<Vec<Node>>,
    /// What was read of the change log, and when; never two readers at once.
    log: tokio::sync::Mutex<Option<(Seen, Instant)>>,
    lead: tokio::sync::Mutex<Option<Lead>>,
    leads: AtomicBool,
    /// Requests to look at once more.
    again: Mutex<BTreeSet<RequestId>>,
    unheard: Unheard,
    /// Requests in the live horde that are being stored just now.
    unstored: Mutex<BTreeSet<RequestId>>,
    /// What happened in memory and could not be stored yet. At most [`MAX_OWED`].
    owed: Mutex<Vec<Lapse>>,
    bells: Bells,
    elsewhere: Elsewhere,
    pace: Pace,
    /// When the look into the change log began that is under way.
    looking: Mutex<Option<Instant>>,
    claims_won: AtomicU64,
    claims_lost: AtomicU64,
    changes: AtomicU64,
    /// Milliseconds from when the oldest change of the last look was written to when it was read.
    lag: AtomicI64,
}

/// How it goes with several nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// The names of the nodes that live.
    pub alive: Vec<String>,
    /// Whether this one does what must happen once.
    pub leads: bool,
    /// Claims of jobs that this node won.
    pub claims_won: u64,
    /// Those that another node was faster with.
    pub claims_lost: u64,
    /// Changes of other nodes that were read.
    pub changes: u64,
    /// How old the oldest change of the last look was, in milliseconds.
    pub lag_ms: i64,
    /// How long this node leaves the requests of others to them, in milliseconds.
    pub head_start_ms: i64,
}

impl Nodes {
    /// One of several, if `own` says so.
    pub(crate) fn new(own: Option<Node>) -> Self {
        Self {
            own,
            ..Self::default()
        }
    }

    /// Whether there may be others.
    pub(crate) const fn are_several(&self) -> bool {
        self.own.is_some()
    }

    /// Whether this node does what must happen once.
    pub(crate) fn leads(&self) -> bool {
        !self.are_several() || self.leads.load(Ordering::Relaxed)
    }

    /// Whether it takes long to read what others did.
    pub(crate) fn is_behind(&self) -> bool {
        let began = *locked(&self.looking);
        began.is_some_and(|began| began.elapsed() > LATE)
    }

    /// Counts claims that were answered together, so long after what they are for was chosen.
    fn count_claims(&self, won: usize, lost: usize, took: Duration) {
        self.claims_won.fetch_add(won as u64, Ordering::Relaxed);
        self.claims_lost.fetch_add(lost as u64, Ordering::Relaxed);
        self.pace.note_claim(took);
    }

    /// Keeps what could not be stored until it can.
    pub(crate) fn owe(&self, lapse: Lapse) {
        let mut owed = locked(&self.owed);
        if owed.len() < MAX_OWED {
            owed.push(lapse);
        }
    }

    /// What is to be stored now.
    pub(crate) fn owed(&self) -> Vec<Lapse> {
        std::mem::take(&mut *locked(&self.owed))
    }

    /// How it goes; `None` for a node alone.
    pub(crate) fn status(&self) -> Option<NodeStatus> {
        self.own.as_ref()?;
        let alive = locked(&self.alive);
        Some(NodeStatus {
            alive: alive.iter().map(|node| node.name.clone()).collect(),
            leads: self.leads(),
            claims_won: self.claims_won.load(Ordering::Relaxed),
            claims_lost: self.claims_lost.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
            lag_ms: self.lag.load(Ordering::Relaxed),
            head_start_ms: self.pace.head_start().0,
        })
    }

    fn own_id(&self) -> Option<Uuid> {
        self.own.as_ref().map(|node| node.id)
    }
}

impl App {
    /// Everything around several nodes once, for tests that do not wait.
    pub(crate) async fn settle_nodes(self: &Arc<Self>) {
        if self.nodes.are_several() {
            presence::look_around(self).await;
            tail::catch_up(self).await;
        }
    }

    /// Counts claims, and goes by how long they took.
    pub(crate) fn count_claims(&self, (won, lost): (usize, usize), chosen: Instant) {
        if self.nodes.are_several() && won + lost > 0 {
            self.nodes.count_claims(won, lost, chosen.elapsed());
            let head_start = self.nodes.pace.head_start();
            self.live().horde.set_head_start(head_start);
        }
    }

    /// This node ends: another one may lead, and takes over its requests.
    pub(crate) async fn leave_nodes(&self) {
        let Some(id) = self.nodes.own_id() else {
            return;
        };
        self.nodes.leads.store(false, Ordering::Relaxed);
        if let Some(lead) = self.nodes.lead.lock().await.take() {
            lead.give_up().await;
        }
        if let Err(error) = self.store.delete_node(id).await {
            tracing::debug!(%error, "the other nodes notice by themselves");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
