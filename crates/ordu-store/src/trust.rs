//! Escrow: who has some, and its way to what can be spent.

use ordu_api::UserId;
use ordu_core::ledger::{Account, Entry, Event, Reason};
use ordu_core::{Kudos, Timestamp};
use uuid::Uuid;

use crate::error::Result;
use crate::pool::{Connection, args};
use crate::worker::found;
use crate::{Store, fold, ledger};

const LIST_WITH_ESCROW: &str = "
    SELECT id
    FROM users
    WHERE escrow > 0 AND (trusted OR escrow > $1) AND NOT wiped
    ORDER BY id
    LIMIT $2";

const TRUST: &str = "
    UPDATE users
    SET trusted = TRUE
    WHERE id = $1 AND id > 0 AND NOT wiped";

const UNPAUSE_WORKERS: &str = "
    UPDATE workers
    SET paused = FALSE
    WHERE owner = $1 AND paused";

impl Store {
    /// Some of those who have more than `above` in escrow, or are trusted and have any.
    pub async fn list_with_escrow(&self, above: Kudos, limit: u32) -> Result<Vec<UserId>> {
        let rows: Vec<(i64,)> = self
            .pool
            .all(LIST_WITH_ESCROW, args![above.milli(), i64::from(limit)])
            .await?;
        Ok(rows
            .into_iter()
            .filter_map(|(id,)| UserId::new(id))
            .collect())
    }

    /// Trusts a user from now on: its workers are no longer paused, and its whole escrow can be
    /// spent. Answers how much that was.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; the anonymous account counts as not found.
    pub async fn trust_user(&self, user: UserId, now: Timestamp) -> Result<Kudos> {
        let mut connection = self.pool.begin().await?;
        let trusted = async {
            fold::lock(&mut connection).await?;
            found(connection.execute(TRUST, args![user.get()]).await?)?;
            free(&mut connection, user, now).await
        }
        .await;
        connection.end(trusted).await
    }

    /// Moves the whole escrow of a user to what it can spend; answers how much that was.
    pub async fn drain_escrow(&self, user: UserId, now: Timestamp) -> Result<Kudos> {
        let mut connection = self.pool.begin().await?;
        let drained = async {
            fold::lock(&mut connection).await?;
            drain(&mut connection, user, now).await
        }
        .await;
        connection.end(drained).await
    }
}

/// What trust sets free: workers that were paused, and the escrow.
pub(crate) async fn free(
    connection: &mut Connection,
    user: UserId,
    now: Timestamp,
) -> Result<Kudos> {
    connection
        .execute(UNPAUSE_WORKERS, args![user.get()])
        .await?;
    drain(connection, user, now).await
}

/// The lock of the fold is held: of two that drain at once the second sees what the first took.
async fn drain(connection: &mut Connection, user: UserId, now: Timestamp) -> Result<Kudos> {
    let balance = ledger::read_balance(connection, user).await?;
    let amount = balance.escrow + balance.unfolded_escrow;
    if amount <= Kudos::ZERO {
        return Ok(Kudos::ZERO);
    }
    let event = Event {
        id: Uuid::new_v4(),
        at: now,
        kind: None,
        entries: vec![Entry {
            from: Account::Escrow(user),
            to: Account::Spendable(user),
            amount,
            reason: Reason::Promotion,
        }],
    };
    fold::insert_entries(connection, &event).await?;
    Ok(amount)
}
