//! Shared keys: what others may spend of their owner's kudos, and what they spent.
//!
//! What is spent is appended as a charge and folded into the key behind: many requests may spend
//! through one key at once without waiting for its row.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::{RequestId, SharedKeyId, UserId};
use ordu_core::shared_key::Terms;
use ordu_core::{Kudos, Timestamp};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::fold;
use crate::pool::{Connection, Dialect, args};
use crate::worker::found;
use crate::{Store, json};

/// A new shared key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSharedKey {
    /// Its id: whoever knows it may use it.
    pub id: SharedKeyId,
    /// Whose kudos it spends.
    pub owner: UserId,
    /// What its owner calls it.
    pub name: Option<String>,
    /// What it allows.
    pub terms: Terms,
    /// When.
    pub created: Timestamp,
}

/// A shared key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the members of `NewSharedKey`, unless described"
)]
pub struct SharedKey {
    pub id: SharedKeyId,
    pub owner: UserId,
    pub name: Option<String>,
    /// What it allows; of the budget what is left, charges that are not folded yet taken off.
    pub terms: Terms,
    /// Spent through it, those charges included.
    pub utilized: Kudos,
    /// Whether a style carries it.
    pub attached: bool,
    pub created: Timestamp,
}

/// What to change about a key; `None` stays as it is, `Some(None)` takes the limit away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `Terms`")]
pub struct SharedKeyChange {
    pub name: Option<String>,
    pub budget: Option<Option<Kudos>>,
    pub expires: Option<Option<Timestamp>>,
    pub max_image_pixels: Option<Option<u64>>,
    pub max_image_steps: Option<Option<u32>>,
    pub max_text_tokens: Option<Option<u32>>,
}

#[derive(Debug, FromRow)]
struct KeyRow {
    id: Uuid,
    owner: i64,
    name: Option<String>,
    budget: Option<i64>,
    utilized: i64,
    expires: Option<i64>,
    max_image_pixels: Option<i64>,
    max_image_steps: Option<i64>,
    max_text_tokens: Option<i64>,
    created: i64,
    unfolded: i64,
    attached: bool,
}

impl KeyRow {
    fn into_key(self) -> Result<SharedKey> {
        let owner = UserId::new(self.owner);
        let left = |budget: i64| Kudos::from_milli(budget.saturating_sub(self.unfolded).max(0));
        // A key without budget spends nothing, whatever its requests cost (`Tab::charge`).
        let spends = self.budget != Some(0);
        let unfolded = if spends { self.unfolded.max(0) } else { 0 };
        Ok(SharedKey {
            id: SharedKeyId::from_uuid(self.id),
            owner: owner
                .ok_or_else(|| Error::corrupt("shared_keys.owner", &self.owner.to_string()))?,
            name: self.name,
            terms: Terms {
                budget: self.budget.map(left),
                expires: self.expires.map(Timestamp),
                max_image_pixels: self.max_image_pixels.map(i64::unsigned_abs),
                max_image_steps: self.max_image_steps.map(small),
                max_text_tokens: self.max_text_tokens.map(small),
            },
            utilized: Kudos::from_milli(self.utilized.saturating_add(unfolded)),
            attached: self.attached,
            created: Timestamp(self.created),
        })
    }
}

fn small(limit: i64) -> u32 {
    u32::try_from(limit.max(0)).unwrap_or(u32::MAX)
}

fn large(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// One charge, taken out of the table.
#[derive(Debug, FromRow)]
struct Charge {
    event: Uuid,
    shared_key: Uuid,
    amount: i64,
    happened_at: i64,
}

/// What charges leave of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tab {
    budget: Option<i64>,
    utilized: i64,
}

impl Tab {
    /// Takes one charge off, or adds to the budget if it is negative.
    fn charge(&mut self, amount: i64) {
        if amount < 0 {
            self.budget = self.budget.map(|budget| budget.saturating_sub(amount));
            return;
        }
        if self.budget == Some(0) {
            return;
        }
        self.budget = self
            .budget
            .map(|budget| budget.saturating_sub(amount).max(0));
        self.utilized = self.utilized.saturating_add(amount);
    }
}

#[derive(Debug, Serialize)]
struct TabRow {
    id: String,
    budget: Option<i64>,
    utilized: i64,
}

const INSERT: &str = "
    INSERT INTO shared_keys
        (id, owner, name, budget, expires, max_image_pixels, max_image_steps, max_text_tokens,
         created)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
    WHERE (SELECT COUNT(*) FROM shared_keys WHERE owner = $2) < $10";

const FIND: &str = "
    SELECT k.id, k.owner, k.name, k.budget, k.utilized, k.expires, k.max_image_pixels,
        k.max_image_steps, k.max_text_tokens, k.created,
        CAST(COALESCE((SELECT SUM(c.amount)
                       FROM shared_key_charges AS c
                       WHERE c.shared_key = k.id), 0) AS BIGINT) AS unfolded,
        EXISTS (SELECT 1 FROM styles AS s WHERE s.shared_key = k.id) AS attached
    FROM shared_keys AS k
    WHERE k.id = $1";

const LIST_OF_OWNER: &str = "
    SELECT id
    FROM shared_keys
    WHERE owner = $1
    ORDER BY created, id";

/// Each limit comes with whether it is to be changed: it may be changed to none.
const UPDATE: &str = "
    UPDATE shared_keys
    SET name = COALESCE($2, name),
        budget = CASE WHEN $3 THEN $4 ELSE budget END,
        expires = CASE WHEN $5 THEN $6 ELSE expires END,
        max_image_pixels = CASE WHEN $7 THEN $8 ELSE max_image_pixels END,
        max_image_steps = CASE WHEN $9 THEN $10 ELSE max_image_steps END,
        max_text_tokens = CASE WHEN $11 THEN $12 ELSE max_text_tokens END
    WHERE id = $1";

const DELETE: &str = "
    DELETE FROM shared_keys
    WHERE id = $1";

const DETACH: &str = "
    UPDATE styles
    SET shared_key = NULL
    WHERE shared_key = $1";

const DELETE_CHARGES: &str = "
    DELETE FROM shared_key_charges
    WHERE shared_key = $1";

/// Locks in the order of everything that locks several requests.
const LOCK_REQUESTS: &str = "
    SELECT id
    FROM requests
    WHERE shared_key = $1
    ORDER BY id
    FOR UPDATE";

const DELETE_REQUESTS: &str = "
    DELETE FROM requests
    WHERE shared_key = $1
    RETURNING id";

const TAKE_CHARGES: &str = "
    DELETE FROM shared_key_charges
    WHERE event IN (SELECT event
                    FROM shared_key_charges
                    ORDER BY happened_at
                    LIMIT $1)
    RETURNING event, shared_key, amount, happened_at";

const TAKE_CHARGES_OF: &str = "
    DELETE FROM shared_key_charges
    WHERE shared_key = $1
    RETURNING event, shared_key, amount, happened_at";

const TABS: fold::Bulk = fold::Bulk {
    sqlite: "
    SELECT id, budget, utilized
    FROM shared_keys
    WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "
    SELECT id, budget, utilized
    FROM shared_keys
    WHERE id IN (SELECT CAST(id AS UUID)
                 FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))",
};

const WRITE_TABS: fold::Bulk = fold::Bulk {
    sqlite: "
    UPDATE shared_keys
    SET budget = i.value ->> 'budget', utilized = i.value ->> 'utilized'
    FROM json_each($1) AS i
    WHERE shared_keys.id = unhex(i.value ->> 'id')",
    postgres: "
    UPDATE shared_keys AS k
    SET budget = i.budget, utilized = i.utilized
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (id UUID, budget BIGINT, utilized BIGINT)
    WHERE k.id = i.id",
};

/// Folds what was charged to keys into them; part of the fold, which holds its lock.
pub(crate) async fn fold_charges(connection: &mut Connection, limit: i64) -> Result<()> {
    let charges: Vec<Charge> = connection.all(TAKE_CHARGES, args![limit]).await?;
    apply_charges(connection, charges).await
}

/// The order of charges matters: a budget may end between two of them.
async fn apply_charges(connection: &mut Connection, mut charges: Vec<Charge>) -> Result<()> {
    if charges.is_empty() {
        return Ok(());
    }
    charges.sort_unstable_by_key(|charge| (charge.happened_at, charge.event));
    let keys: BTreeSet<String> = charges
        .iter()
        .map(|charge| json::hex(charge.shared_key))
        .collect();
    let rows: Vec<(Uuid, Option<i64>, i64)> = fold::bulk(connection, &TABS, &keys).await?;
    let mut tabs: BTreeMap<Uuid, Tab> = rows
        .into_iter()
        .map(|(id, budget, utilized)| (id, Tab { budget, utilized }))
        .collect();
    for charge in charges {
        // A key that is gone has nothing to count any more.
        if let Some(tab) = tabs.get_mut(&charge.shared_key) {
            tab.charge(charge.amount);
        }
    }
    let rows: Vec<TabRow> = tabs
        .into_iter()
        .map(|(id, tab)| TabRow {
            id: json::hex(id),
            budget: tab.budget,
            utilized: tab.utilized,
        })
        .collect();
    fold::write_bulk(connection, &WRITE_TABS, &rows).await
}

impl Store {
    /// Writes a new key, unless its owner has `quota` keys already. Says whether it did.
    pub async fn insert_shared_key(&self, key: &NewSharedKey, quota: u32) -> Result<bool> {
        let terms = &key.terms;
        let values = args![
            key.id.uuid(),
            key.owner.get(),
            key.name.clone(),
            terms.budget.map(Kudos::milli),
            terms.expires.map(|at| at.0),
            terms.max_image_pixels.map(large),
            terms.max_image_steps.map(i64::from),
            terms.max_text_tokens.map(i64::from),
            key.created.0,
            i64::from(quota),
        ];
        Ok(self.pool.execute(INSERT, values).await? > 0)
    }

    /// One key, with everything that was charged to it so far.
    pub async fn find_shared_key(&self, id: SharedKeyId) -> Result<Option<SharedKey>> {
        let row: Option<KeyRow> = self.pool.one(FIND, args![id.uuid()]).await?;
        row.map(KeyRow::into_key).transpose()
    }

    /// The keys of one user, oldest first.
    pub async fn list_shared_keys_of(&self, owner: UserId) -> Result<Vec<SharedKeyId>> {
        let rows: Vec<(Uuid,)> = self.pool.all(LIST_OF_OWNER, args![owner.get()]).await?;
        let ids = rows.into_iter().map(|(id,)| SharedKeyId::from_uuid(id));
        Ok(ids.collect())
    }

    /// Changes a key. A new budget replaces what is left now: what was charged before counts as
    /// spent, not against it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn update_shared_key(&self, id: SharedKeyId, change: &SharedKeyChange) -> Result<()> {
        let values = args![
            id.uuid(),
            change.name.clone(),
            change.budget.is_some(),
            change.budget.flatten().map(Kudos::milli),
            change.expires.is_some(),
            change.expires.flatten().map(|at| at.0),
            change.max_image_pixels.is_some(),
            change.max_image_pixels.flatten().map(large),
            change.max_image_steps.is_some(),
            change.max_image_steps.flatten().map(i64::from),
            change.max_text_tokens.is_some(),
            change.max_text_tokens.flatten().map(i64::from),
        ];
        let mut connection = self.pool.begin().await?;
        let updated = async {
            fold::lock(&mut connection).await?;
            let charges: Vec<Charge> = connection.all(TAKE_CHARGES_OF, args![id.uuid()]).await?;
            apply_charges(&mut connection, charges).await?;
            found(connection.execute(UPDATE, values).await?)
        }
        .await;
        connection.end(updated).await
    }

    /// Deletes a key with every request that was made through it, and takes it off styles.
    /// Answers those requests.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_shared_key(&self, id: SharedKeyId) -> Result<Vec<RequestId>> {
        let mut connection = self.pool.begin().await?;
        let deleted = delete(&mut connection, id).await;
        connection.end(deleted).await
    }
}

async fn delete(connection: &mut Connection, id: SharedKeyId) -> Result<Vec<RequestId>> {
    let id = id.uuid();
    found(connection.execute(DELETE, args![id]).await?)?;
    connection.execute(DETACH, args![id]).await?;
    connection.execute(DELETE_CHARGES, args![id]).await?;
    if connection.dialect() == Dialect::Postgres {
        connection.execute(LOCK_REQUESTS, args![id]).await?;
    }
    let requests: Vec<(Uuid,)> = connection.all(DELETE_REQUESTS, args![id]).await?;
    let ids = requests.into_iter().map(|(id,)| RequestId::from_uuid(id));
    Ok(ids.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_at_zero_and_then_counts_nothing() {
        let mut tab = Tab {
            budget: Some(10),
            utilized: 0,
        };
        for amount in [4, 8, 5, -3, 2] {
            tab.charge(amount);
        }
        let wanted = Tab {
            budget: Some(1),
            utilized: 14,
        };
        assert_eq!(tab, wanted);
    }

    #[test]
    fn without_a_budget_only_the_sum_grows() {
        let mut tab = Tab {
            budget: None,
            utilized: 1,
        };
        for amount in [4, -3] {
            tab.charge(amount);
        }
        assert_eq!((tab.budget, tab.utilized), (None, 5));
    }
}
