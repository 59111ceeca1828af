//! Values that operators change while the horde runs: modes and the like.

use std::collections::BTreeMap;

use crate::Store;
use crate::error::Result;
use crate::pool::args;

const LIST: &str = "
    SELECT name, value
    FROM settings
    ORDER BY name";

const FIND: &str = "
    SELECT value
    FROM settings
    WHERE name = $1";

const SET: &str = "
    INSERT INTO settings (name, value)
    VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE
    SET value = excluded.value";

impl Store {
    /// All settings that were ever set.
    pub async fn settings(&self) -> Result<BTreeMap<String, String>> {
        let rows: Vec<(String, String)> = self.pool.all(LIST, args![]).await?;
        Ok(rows.into_iter().collect())
    }

    /// One setting.
    pub async fn find_setting(&self, name: &str) -> Result<Option<String>> {
        let row: Option<(String,)> = self.pool.one(FIND, args![name]).await?;
        Ok(row.map(|(value,)| value))
    }

    /// Sets one setting.
    pub async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        self.pool.execute(SET, args![name, value]).await?;
        Ok(())
    }
}
