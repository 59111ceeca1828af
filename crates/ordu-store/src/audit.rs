//! What those who keep order did, recorded in the same transaction as what it changed.
//!
//! [`Store::recorded`] carries an entry to the first write of the work inside it: whatever
//! operation of the store that is, its transaction takes the entry along. So no operation needs a
//! second form, and none can be recorded without having happened.

use std::cell::RefCell;
use std::future::Future;

use ordu_api::UserId;
use ordu_core::Timestamp;
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::{Connection, args};

/// Entries on one page of the list.
const PAGE: i64 = 50;

/// Something that somebody with the right to do so did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who; the operator at the command line if `None`.
    pub actor: Option<UserId>,
    /// What, such as `user.update`.
    pub operation: String,
    /// What kind of thing it was done to.
    pub target_kind: String,
    /// Which one.
    pub target: String,
    /// What was, as JSON.
    pub before: String,
    /// What is, as JSON.
    pub after: String,
}

/// Which entries to list; `None` for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// What this one did.
    pub actor: Option<UserId>,
    /// This operation.
    pub operation: Option<String>,
    /// What was done to things of this kind.
    pub target_kind: Option<String>,
    /// What was done to this one.
    pub target: Option<String>,
    /// At this time or later.
    pub since: Option<Timestamp>,
}

#[derive(Debug, FromRow)]
struct AuditRow {
    id: Uuid,
    happened_at: i64,
    actor: Option<i64>,
    operation: String,
    target_kind: String,
    target: String,
    before: String,
    after: String,
}

impl AuditRow {
    fn into_entry(self) -> Result<AuditEntry> {
        let read = |actor: i64| {
            UserId::new(actor).ok_or_else(|| Error::corrupt("audit.actor", &actor.to_string()))
        };
        Ok(AuditEntry {
            id: self.id,
            at: Timestamp(self.happened_at),
            actor: self.actor.map(read).transpose()?,
            operation: self.operation,
            target_kind: self.target_kind,
            target: self.target,
            before: self.before,
            after: self.after,
        })
    }
}

const INSERT: &str = "
    INSERT INTO audit
        (id, happened_at, actor, operation, target_kind, target, before, after)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (id) DO NOTHING";

const LIST: &str = "
    SELECT id, happened_at, actor, operation, target_kind, target, before, after
    FROM audit
    WHERE ($1 IS NULL OR actor = $1)
        AND ($2 IS NULL OR operation = $2)
        AND ($3 IS NULL OR target_kind = $3)
        AND ($4 IS NULL OR target = $4)
        AND ($5 IS NULL OR happened_at >= $5)
    ORDER BY happened_at DESC, id
    LIMIT $6 OFFSET $7";

const DELETE_OLD: &str = "
    DELETE FROM audit
    WHERE happened_at < $1";

/// An entry on its way to the write that it belongs to.
enum Waiting {
    /// No write was seen yet.
    Fresh(AuditEntry),
    /// A write was seen that touched nothing.
    Idle(AuditEntry),
    /// It is in a transaction.
    Taken,
}

tokio::task_local! {
    static WAITING: RefCell<Waiting>;
}

/// Whether a write here must take an entry along.
pub(crate) fn is_waiting() -> bool {
    let waits = |waiting: &RefCell<Waiting>| !matches!(*waiting.borrow(), Waiting::Taken);
    WAITING.try_with(waits).unwrap_or(false)
}

/// Adds the entry that waits to a transaction that is about to be committed and touched `rows`.
pub(crate) async fn join(connection: &mut Connection, rows: u64) -> Result<()> {
    let take = |waiting: &RefCell<Waiting>| {
        let mut waiting = waiting.borrow_mut();
        match std::mem::replace(&mut *waiting, Waiting::Taken) {
            Waiting::Taken => None,
            Waiting::Fresh(entry) | Waiting::Idle(entry) if rows > 0 => Some(entry),
            Waiting::Fresh(entry) | Waiting::Idle(entry) => {
                *waiting = Waiting::Idle(entry);
                None
            }
        }
    };
    let Some(entry) = WAITING.try_with(take).ok().flatten() else {
        return Ok(());
    };
    connection.execute(INSERT, values(&entry)).await?;
    Ok(())
}

fn values(entry: &AuditEntry) -> Vec<crate::pool::Value> {
    args![
        entry.id,
        entry.at.0,
        entry.actor.map(UserId::get),
        entry.operation.clone(),
        entry.target_kind.clone(),
        entry.target.clone(),
        entry.before.clone(),
        entry.after.clone(),
    ]
}

impl Store {
    /// Does `work` with an entry about it: the first write of the work that changes something
    /// takes the entry into its transaction. Where a writer in the background does the write, the
    /// entry follows it. Work that fails or changes nothing leaves no entry.
    ///
    /// # Errors
    /// Those of `work`, and what keeps the entry from being written.
    pub async fn recorded<T, E: From<Error>>(
        &self,
        entry: AuditEntry,
        work: impl Future<Output = std::result::Result<T, E>>,
    ) -> std::result::Result<T, E> {
        let waiting = RefCell::new(Waiting::Fresh(entry));
        let done = async {
            let done = work.await?;
            let left = WAITING.with(|waiting| waiting.replace(Waiting::Taken));
            Ok::<_, E>((done, left))
        };
        let (done, left) = WAITING.scope(waiting, done).await?;
        if let Waiting::Fresh(entry) = left {
            self.pool.execute(INSERT, values(&entry)).await?;
        }
        Ok(done)
    }

    /// A page of 50 entries, the newest first; the first page is 0.
    pub async fn list_audit(&self, filter: &AuditFilter, page: u32) -> Result<Vec<AuditEntry>> {
        let values = args![
            filter.actor.map(UserId::get),
            filter.operation.clone(),
            filter.target_kind.clone(),
            filter.target.clone(),
            filter.since.map(|since| since.0),
            PAGE,
            i64::from(page) * PAGE,
        ];
        let rows: Vec<AuditRow> = self.pool.all(LIST, values).await?;
        rows.into_iter().map(AuditRow::into_entry).collect()
    }

    /// Deletes entries from before then; says how many.
    pub async fn delete_audit(&self, before: Timestamp) -> Result<u64> {
        self.pool.execute(DELETE_OLD, args![before.0]).await
    }
}
