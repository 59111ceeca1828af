//! Passkeys by which service accounts speak for their users' addresses.

use ordu_api::UserId;

use crate::Store;
use crate::error::Result;
use crate::pool::args;

/// The most passkeys that are read.
const MAX_PASSKEYS: i64 = 10_000;

const LIST: &str = "
    SELECT id, proxy_passkey
    FROM users
    WHERE proxy_passkey IS NOT NULL AND NOT flagged AND NOT deleted AND NOT wiped
    ORDER BY id
    LIMIT $1";

impl Store {
    /// The passkeys that count, each with its owner: not those of flagged or deleted accounts.
    pub async fn list_passkeys(&self) -> Result<Vec<(UserId, String)>> {
        let rows: Vec<(i64, String)> = self.pool.all(LIST, args![MAX_PASSKEYS]).await?;
        let known = rows
            .into_iter()
            .filter_map(|(id, passkey)| Some((UserId::new(id)?, passkey)));
        Ok(known.collect())
    }
}
