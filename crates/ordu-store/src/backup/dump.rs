//! Every row of every table as of one moment, while others go on writing.

use serde_json::Value as Json;

use super::shape::shapes;
use super::{Dumped, Sink, cannot_write, json, schema_version};
use crate::Store;
use crate::error::Result;
use crate::pool::{Connection, quoted};

impl Store {
    /// Hands out every row as of one moment: whatever was committed before this was called is in
    /// it, and of nothing a half.
    pub async fn dump(&self, sink: &mut Sink<'_>) -> Result<()> {
        let mut connection = self.pool.begin_snapshot().await?;
        let dumped = dump(&mut connection, sink).await;
        connection.end(dumped).await
    }
}

async fn dump(connection: &mut Connection, sink: &mut Sink<'_>) -> Result<()> {
    for table in shapes(schema_version()).await? {
        let named = Dumped::Table {
            name: &table.name,
            columns: &table.columns,
        };
        sink(named).map_err(|error| cannot_write(&error))?;
        let columns: Vec<String> = table.columns.iter().map(|name| quoted(name)).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), quoted(&table.name));
        let mut take = |row: Vec<crate::pool::Value>| {
            let cells: Vec<Json> = row.into_iter().map(json).collect();
            sink(Dumped::Row(&cells)).map_err(|error| cannot_write(&error))
        };
        connection.each_row(sql, &table.kinds, &mut take).await?;
    }
    Ok(())
}
