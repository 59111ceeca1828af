//! Messages to workers.

use ordu_api::{MessageId, UserId, WorkerId};
use ordu_core::Timestamp;
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::args;
use crate::worker::found;

/// Messages on one page of the list.
const PAGE: i64 = 50;

/// A message to a worker, or to all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Who wrote it.
    pub author: UserId,
    /// Whom it is for; everybody if `None`.
    pub worker: Option<WorkerId>,
    /// The text.
    pub message: String,
    /// In whose name.
    pub origin: String,
    /// When.
    pub created: Timestamp,
    /// Until when it matters.
    pub expires: Timestamp,
}

/// Which messages to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// By this user.
    pub author: Option<UserId>,
    /// For this worker.
    pub worker: Option<WorkerId>,
    /// Only what this user may see: its own, and those for everybody.
    pub seen_by: Option<UserId>,
    /// Only those that still matter, or no longer do.
    pub validity: Option<Validity>,
}

/// Whether a message still matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It does.
    Active,
    /// It does not.
    Expired,
}

#[derive(Debug, FromRow)]
struct MessageRow {
    id: Uuid,
    author: i64,
    worker: Option<Uuid>,
    message: String,
    origin: String,
    created: i64,
    expires: i64,
}

impl MessageRow {
    fn into_message(self) -> Result<Message> {
        let author = UserId::new(self.author);
        Ok(Message {
            id: MessageId::from_uuid(self.id),
            author: author.ok_or_else(|| {
                Error::corrupt("worker_messages.author", &self.author.to_string())
            })?,
            worker: self.worker.map(WorkerId::from_uuid),
            message: self.message,
            origin: self.origin,
            created: Timestamp(self.created),
            expires: Timestamp(self.expires),
        })
    }
}

const INSERT: &str = "
    INSERT INTO worker_messages (id, author, worker, message, origin, created, expires)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

const FIND: &str = "
    SELECT id, author, worker, message, origin, created, expires
    FROM worker_messages
    WHERE id = $1";

const LIST: &str = "
    SELECT id, author, worker, message, origin, created, expires
    FROM worker_messages
    WHERE ($1 IS NULL OR author = $1)
        AND ($2 IS NULL OR worker = $2)
        AND ($3 IS NULL OR author = $3 OR worker IS NULL)
        AND ($4 IS NULL OR (expires > $5) = $4)
    ORDER BY created DESC, id
    LIMIT $6 OFFSET $7";

const LIST_ACTIVE: &str = "
    SELECT id, author, worker, message, origin, created, expires
    FROM worker_messages
    WHERE expires > $1
    ORDER BY created DESC, id
    LIMIT $2";

const DELETE: &str = "
    DELETE FROM worker_messages
    WHERE id = $1";

impl Store {
    /// Writes a message.
    pub async fn insert_message(&self, message: &Message) -> Result<()> {
        let values = args![
            message.id.uuid(),
            message.author.get(),
            message.worker.map(WorkerId::uuid),
            message.message.clone(),
            message.origin.clone(),
            message.created.0,
            message.expires.0,
        ];
        self.pool.execute(INSERT, values).await?;
        Ok(())
    }

    /// One message, whether it still matters or not.
    pub async fn find_message(&self, id: MessageId) -> Result<Option<Message>> {
        let row: Option<MessageRow> = self.pool.one(FIND, args![id.uuid()]).await?;
        row.map(MessageRow::into_message).transpose()
    }

    /// A page of 50 messages, the newest first; the first page is 0.
    pub async fn list_messages(
        &self,
        filter: MessageFilter,
        now: Timestamp,
        page: u32,
    ) -> Result<Vec<Message>> {
        let values = args![
            filter.author.map(UserId::get),
            filter.worker.map(WorkerId::uuid),
            filter.seen_by.map(UserId::get),
            filter.validity.map(|validity| validity == Validity::Active),
            now.0,
            PAGE,
            i64::from(page) * PAGE,
        ];
        let rows = self.pool.all(LIST, values).await?;
        rows.into_iter().map(MessageRow::into_message).collect()
    }

    /// At most `limit` messages that matter at `now`, the newest first.
    pub async fn list_active_messages(&self, now: Timestamp, limit: u32) -> Result<Vec<Message>> {
        let values = args![now.0, i64::from(limit)];
        let rows = self.pool.all(LIST_ACTIVE, values).await?;
        rows.into_iter().map(MessageRow::into_message).collect()
    }

    /// Deletes a message.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_message(&self, id: MessageId) -> Result<()> {
        found(self.pool.execute(DELETE, args![id.uuid()]).await?)
    }
}
