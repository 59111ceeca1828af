//! Addresses that were reported or shut out.

use ordu_core::Timestamp;
use ordu_core::address::{Entry, Scope};
use sqlx::FromRow;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::args;

#[derive(Debug, FromRow)]
struct AddressRow {
    network: String,
    is_block: bool,
    suspicion: i64,
    suspicion_until: i64,
    shut_until: i64,
    changed: i64,
}

impl AddressRow {
    fn into_entry(self) -> Result<Entry> {
        Ok(Entry {
            network: self
                .network
                .parse()
                .map_err(|_| Error::corrupt("addresses.network", &self.network))?,
            scope: if self.is_block {
                Scope::Block
            } else {
                Scope::Single
            },
            suspicion: u32::try_from(self.suspicion).unwrap_or(u32::MAX),
            suspicion_until: Timestamp(self.suspicion_until),
            shut_until: Timestamp(self.shut_until),
            changed: Timestamp(self.changed),
        })
    }
}

const LIST: &str = "
    SELECT network, is_block, suspicion, suspicion_until, shut_until, changed
    FROM addresses
    WHERE changed >= $1
    ORDER BY changed, network";

const PUT: &str = "
    INSERT INTO addresses
        (network, is_block, suspicion, suspicion_until, shut_until, changed)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (network, is_block) DO UPDATE
    SET suspicion = excluded.suspicion,
        suspicion_until = excluded.suspicion_until,
        shut_until = excluded.shut_until,
        changed = excluded.changed
    WHERE addresses.changed <= excluded.changed";

const DELETE_OVER: &str = "
    DELETE FROM addresses
    WHERE shut_until <= $1 AND suspicion_until <= $1 AND changed < $2";

impl Store {
    /// What was changed at `since` or later, oldest change first.
    pub async fn list_addresses(&self, since: Timestamp) -> Result<Vec<Entry>> {
        let rows = self.pool.all(LIST, args![since.0]).await?;
        rows.into_iter().map(AddressRow::into_entry).collect()
    }

    /// Writes an entry, unless a newer one is there.
    pub async fn put_address(&self, entry: &Entry) -> Result<()> {
        let values = args![
            entry.network.to_string(),
            entry.scope == Scope::Block,
            i64::from(entry.suspicion),
            entry.suspicion_until.0,
            entry.shut_until.0,
            entry.changed.0,
        ];
        self.pool.execute(PUT, values).await?;
        Ok(())
    }

    /// Deletes what is over at `now` and was not changed since `before`; says how much that was.
    pub async fn delete_addresses(&self, now: Timestamp, before: Timestamp) -> Result<u64> {
        self.pool.execute(DELETE_OVER, args![now.0, before.0]).await
    }
}
