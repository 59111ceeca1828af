//! Messages to requesters, from the commit of what they are about until they are delivered.
//!
//! A message is written together with its settlement, see [`crate::Settlement::webhook`]. Whoever
//! sends claims it for a while; if nothing is heard of it, it is due again.

use std::collections::BTreeSet;

use ordu_api::{RequestId, UserId};
use ordu_core::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::json;
use crate::pool::{Dialect, args};

/// A message about a job or form that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Whose request it is.
    pub owner: UserId,
    /// Its place among the messages of the request: they go out one after the other.
    pub turn: i64,
    /// Where it goes.
    pub url: String,
    /// The host and port in that.
    pub host: String,
    /// What it says, in a form that only the sender knows.
    pub payload: String,
}

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The job or form that it is about.
    pub id: Uuid,
    /// Its request.
    pub request: RequestId,
    /// Whose request it is.
    pub owner: UserId,
    /// Where it goes.
    pub url: String,
    /// The host and port in that.
    pub host: String,
    /// What it says.
    pub payload: String,
    /// When it was written.
    pub created: Timestamp,
    /// How often it was claimed, this time included.
    pub attempts: i64,
}

/// The part of a settlement's row that is a message.
#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "they stand among the members of a settlement's row"
)]
pub(crate) struct WebhookRow<'a> {
    hook_owner: i64,
    hook_turn: i64,
    hook_url: &'a str,
    hook_host: &'a str,
    hook_payload: &'a str,
}

impl NewWebhook {
    pub(crate) fn row(&self) -> WebhookRow<'_> {
        WebhookRow {
            hook_owner: self.owner.get(),
            hook_turn: self.turn,
            hook_url: &self.url,
            hook_host: &self.host,
            hook_payload: &self.payload,
        }
    }
}

#[derive(Debug, FromRow)]
struct DueRow {
    id: Uuid,
    request: Uuid,
    owner: i64,
    url: String,
    host: String,
    payload: String,
    created: i64,
    attempts: i64,
}

impl DueRow {
    fn into_due(self) -> Result<Due> {
        let owner = UserId::new(self.owner);
        Ok(Due {
            id: self.id,
            request: RequestId::from_uuid(self.request),
            owner: owner
                .ok_or_else(|| Error::corrupt("webhooks.owner", &self.owner.to_string()))?,
            url: self.url,
            host: self.host,
            payload: self.payload,
            created: Timestamp(self.created),
            attempts: self.attempts,
        })
    }
}

/// The step of a settlement that writes messages, on SQLite.
pub(crate) const INSERT_SQLITE: &str = "
    INSERT INTO webhooks (id, request, owner, turn, url, host, payload, created, due)
    SELECT unhex(value ->> 'job'), unhex(value ->> 'request'), value ->> 'hook_owner',
        value ->> 'hook_turn', value ->> 'hook_url', value ->> 'hook_host',
        value ->> 'hook_payload', value ->> 'at', value ->> 'at'
    FROM jsonb_each($1)
    WHERE value ->> 'hook_url' IS NOT NULL";

/// Claims messages, the first of each request only. Of two that claim at once the second one
/// waits for the first, then sees that the message is not due any more.
macro_rules! claim {
    ($busy:literal) => {
        concat!(
            "
    UPDATE webhooks
    SET due = $2, attempts = attempts + 1
    WHERE due <= $1
        AND id IN (SELECT w.id
                   FROM webhooks AS w
                   WHERE w.due <= $1
                       AND w.host NOT IN (",
            $busy,
            ")
                       AND NOT EXISTS (SELECT 1
                                       FROM webhooks AS earlier
                                       WHERE earlier.request = w.request
                                           AND earlier.turn < w.turn)
                   ORDER BY w.due, w.turn
                   LIMIT $3)
    RETURNING id, request, owner, url, host, payload, created, attempts"
        )
    };
}

const CLAIM_SQLITE: &str = claim!("SELECT value FROM json_each($4)");
const CLAIM_POSTGRES: &str = claim!("SELECT json_array_elements_text(CAST($4 AS JSON))");

const DELETE: &str = "
    DELETE FROM webhooks
    WHERE id = $1";

const POSTPONE: &str = "
    UPDATE webhooks
    SET due = $2
    WHERE request = $1";

const COUNT: &str = "
    SELECT COUNT(*)
    FROM webhooks";

impl Store {
    /// Claims up to `most` messages that are due, not for hosts that are busy, until `lease`: then
    /// they are due again.
    pub async fn claim_webhooks(
        &self,
        now: Timestamp,
        lease: Timestamp,
        most: u32,
        busy: &BTreeSet<String>,
    ) -> Result<Vec<Due>> {
        let sql = match self.pool.dialect() {
            Dialect::Sqlite => CLAIM_SQLITE,
            Dialect::Postgres => CLAIM_POSTGRES,
        };
        let values = args![now.0, lease.0, i64::from(most), json::object(busy)?];
        let rows: Vec<DueRow> = self.pool.writer().await?.all(sql, values).await?;
        rows.into_iter().map(DueRow::into_due).collect()
    }

    /// Forgets a message: it was delivered, or never will be.
    pub async fn delete_webhook(&self, id: Uuid) -> Result<()> {
        self.pool.execute(DELETE, args![id]).await?;
        Ok(())
    }

    /// Makes all messages of a request wait until a time.
    pub async fn postpone_webhooks(&self, request: RequestId, until: Timestamp) -> Result<()> {
        let values = args![request.uuid(), until.0];
        self.pool.execute(POSTPONE, values).await?;
        Ok(())
    }

    /// How many messages are not delivered yet.
    pub async fn count_webhooks(&self) -> Result<u64> {
        let row: Option<(i64,)> = self.pool.one(COUNT, args![]).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }
}
