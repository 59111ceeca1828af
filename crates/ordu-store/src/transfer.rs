//! Gifts from user to user, and the changes of accounts that move kudos.

use ordu_api::{SharedKeyId, UserId};
use ordu_core::ledger::{Account, Entry, Event, Reason};
use ordu_core::{Kudos, Timestamp};
use uuid::Uuid;

use crate::error::Result;
use crate::ledger::account_number;
use crate::pool::{Connection, args};
use crate::user::UserChange;
use crate::{Store, fold, ledger, trust, user};

/// A gift that everything else agrees to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Names it: the same gift twice moves once.
    pub event: Uuid,
    /// From whom.
    pub source: UserId,
    /// To whom.
    pub target: UserId,
    /// How much.
    pub amount: Kudos,
    /// Of the source's balance, what must be left: its floor, and what is held.
    pub reserve: Kudos,
    /// The shared key of the target whose budget grows by the same.
    pub shared_key: Option<SharedKeyId>,
    /// When.
    pub at: Timestamp,
}

/// What became of a gift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transferred {
    /// It moved.
    Now,
    /// It had moved before.
    Already,
    /// Another gift has its name.
    Conflict,
    /// There is not enough: so much could be given.
    Short(Kudos),
}

/// What changes about an account at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserEdit {
    /// Its members.
    pub change: UserChange,
    /// Movements of its kudos.
    pub movements: Vec<Event>,
    /// Whether it becomes trusted by the change: its workers are unpaused, its escrow is freed.
    pub frees: bool,
}

/// Waits for others that take from the same balance.
const LOCK_PAYER: &str = "
    SELECT 1
    FROM users
    WHERE id = $1
    FOR UPDATE";

const FIND_GIFT: &str = "
    SELECT source, target, amount
    FROM ledger
    WHERE event = $1 AND reason = 'transfer'";

const TOP_UP: &str = "
    INSERT INTO shared_key_charges (event, shared_key, amount, happened_at)
    VALUES ($1, $2, $3, $4)";

const GAVE_SINCE: &str = "
    SELECT 1
    FROM ledger
    WHERE reason = 'transfer' AND source = $1 AND target = $2 AND happened_at > $3
    LIMIT 1";

impl Store {
    /// Moves a gift, once for its event, if the source can spare it.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] when there is no such source.
    pub async fn transfer(&self, transfer: &Transfer) -> Result<Transferred> {
        let mut connection = self.pool.begin().await?;
        let transferred = give(&mut connection, transfer).await;
        connection.end(transferred).await
    }

    /// Whether one user gave something to another after `since`.
    pub async fn gave_since(&self, from: UserId, to: UserId, since: Timestamp) -> Result<bool> {
        let values = args![
            account_number(Account::Spendable(from)),
            account_number(Account::Spendable(to)),
            since.0,
        ];
        let row: Option<(i32,)> = self.pool.one(GAVE_SINCE, values).await?;
        Ok(row.is_some())
    }

    /// Changes an account with the movements that belong to it: all of it or nothing.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub async fn edit_user(&self, id: UserId, edit: &UserEdit, now: Timestamp) -> Result<()> {
        let mut connection = self.pool.begin().await?;
        let edited = async {
            fold::lock(&mut connection).await?;
            user::update(&mut connection, id, &edit.change).await?;
            for movement in &edit.movements {
                fold::insert_entries(&mut connection, movement).await?;
            }
            if edit.frees {
                trust::free(&mut connection, id, now).await?;
            }
            Ok(())
        }
        .await;
        connection.end(edited).await
    }
}

async fn give(connection: &mut Connection, transfer: &Transfer) -> Result<Transferred> {
    if connection.dialect() == crate::pool::Dialect::Postgres {
        connection
            .execute(LOCK_PAYER, args![transfer.source.get()])
            .await?;
    }
    let wanted = (
        account_number(Account::Spendable(transfer.source)),
        account_number(Account::Spendable(transfer.target)),
        transfer.amount.milli(),
    );
    let before: Option<(i64, i64, i64)> = connection.one(FIND_GIFT, args![transfer.event]).await?;
    if let Some(before) = before {
        return Ok(if before == wanted {
            Transferred::Already
        } else {
            Transferred::Conflict
        });
    }
    let balance = ledger::read_balance(connection, transfer.source).await?;
    let available = balance.spendable - balance.unfolded_debit - transfer.reserve;
    if transfer.amount > available {
        return Ok(Transferred::Short(available.max(Kudos::ZERO)));
    }
    let event = Event {
        id: transfer.event,
        at: transfer.at,
        kind: None,
        entries: vec![Entry {
            from: Account::Spendable(transfer.source),
            to: Account::Spendable(transfer.target),
            amount: transfer.amount,
            reason: Reason::Transfer,
        }],
    };
    fold::insert_entries(connection, &event).await?;
    if let Some(key) = transfer.shared_key {
        let grown = -transfer.amount;
        let values = args![transfer.event, key.uuid(), grown.milli(), transfer.at.0];
        connection.execute(TOP_UP, values).await?;
    }
    Ok(Transferred::Now)
}
