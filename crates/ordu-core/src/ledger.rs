//! Movements of kudos: a double-entry ledger.
//!
//! Every movement takes an amount from one account and gives it to another; the mint is an account
//! like any other, so the sum over all accounts is always zero. The entries of one business event
//! share the event's id, by which a repeated event is recognised.

use ordu_api::UserId;
use ordu_api::worker::WorkKind;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Kudos, Timestamp};

/// Where kudos can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Account {
    /// Outside: where rewards come from and what is burnt goes to.
    Mint,
    /// What a user can spend.
    Spendable(UserId),
    /// What an untrusted worker owner earned and cannot spend yet.
    Escrow(UserId),
}

/// Why kudos moved. The names are stored: never rename one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Reward for a finished job, or its price.
    Generation,
    /// The price of making a request active.
    Activation,
    /// Reward for being online.
    Uptime,
    /// Escrow that became spendable.
    Promotion,
    /// A gift from user to user.
    Transfer,
    /// An operator's correction.
    Admin,
    /// A monthly grant.
    Recurring,
    /// Thanks for something outside the horde.
    Award,
    /// Reward for a style that was used.
    Style,
    /// Reward for rating pictures.
    Rating,
    /// What the floor of an account forgave.
    Floor,
    /// A balance set from outside, which nobody earned or spent.
    Reconciliation,
}

impl Reason {
    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Activation => "activation",
            Self::Uptime => "uptime",
            Self::Promotion => "promotion",
            Self::Transfer => "transfer",
            Self::Admin => "admin",
            Self::Recurring => "recurring",
            Self::Award => "award",
            Self::Style => "style",
            Self::Rating => "rating",
            Self::Floor => "floor",
            Self::Reconciliation => "reconciliation",
        }
    }
}

/// One movement: `amount` leaves `from` and reaches `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who loses.
    pub from: Account,
    /// Who gains.
    pub to: Account,
    /// Never negative.
    pub amount: Kudos,
    /// Why.
    pub reason: Reason,
}

impl Entry {
    /// New kudos for a user.
    pub const fn reward(to: UserId, amount: Kudos, reason: Reason) -> Self {
        Self {
            from: Account::Mint,
            to: Account::Spendable(to),
            amount,
            reason,
        }
    }

    /// Kudos that a user gives up for good.
    pub const fn burn(from: UserId, amount: Kudos, reason: Reason) -> Self {
        Self {
            from: Account::Spendable(from),
            to: Account::Mint,
            amount,
            reason,
        }
    }
}

/// The entries of one business event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Names the event: the job's id for a settlement, the request's for an activation. The same id
    /// and reason never count twice.
    pub id: Uuid,
    /// When it happened.
    pub at: Timestamp,
    /// The kind of work behind it, if any.
    pub kind: Option<WorkKind>,
    /// What moved.
    pub entries: Vec<Entry>,
}
