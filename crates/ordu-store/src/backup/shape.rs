//! Which tables a schema has, with their columns, those that others refer to first. What nodes tell
//! each other means nothing in another database, and is left out.
//!
//! Asked of an empty database in memory that ran the migrations: both dialects run the same ones.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::pool::{Kind, Pool};

use super::refuse;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) kinds: Vec<Kind>,
}

const COLUMNS: &str = "
    SELECT m.name, c.name, c.type
    FROM sqlite_master AS m
        JOIN pragma_table_info(m.name) AS c
    WHERE m.type = 'table'
        AND m.name NOT IN ('_sqlx_migrations', 'sqlite_sequence', 'changes', 'nodes')
    ORDER BY m.name, c.cid";

const REFERENCES: &str = r#"
    SELECT m.name, f."table"
    FROM sqlite_master AS m
        JOIN pragma_foreign_key_list(m.name) AS f
    WHERE m.type = 'table'"#;

/// The tables of the schema as of the migration `version`.
pub(super) async fn shapes(version: i64) -> Result<Vec<Shape>> {
    let pool = Pool::open_reference(version).await?;
    let mut connection = pool.reader().await?;
    let columns: Vec<(String, String, String)> = connection.all(COLUMNS, Vec::new()).await?;
    let references: Vec<(String, String)> = connection.all(REFERENCES, Vec::new()).await?;
    drop(connection);
    pool.close().await;
    let mut tables: Vec<Shape> = Vec::new();
    for (table, column, declared) in columns {
        let Some(kind) = kind(&declared) else {
            return refuse(format!(
                "no backup knows the type {declared} of {table}.{column}"
            ));
        };
        match tables.last_mut().filter(|last| last.name == table) {
            Some(last) => {
                last.columns.push(column);
                last.kinds.push(kind);
            }
            None => tables.push(Shape {
                name: table,
                columns: vec![column],
                kinds: vec![kind],
            }),
        }
    }
    Ok(in_order(tables, &references))
}

fn kind(declared: &str) -> Option<Kind> {
    Some(match declared {
        "BIGINT" | "INTEGER" => Kind::Int,
        "DOUBLE PRECISION" => Kind::Real,
        "BOOLEAN" => Kind::Bool,
        "TEXT" => Kind::Text,
        "UUID" => Kind::Uuid,
        _ => return None,
    })
}

/// Who is referred to comes before who refers.
fn in_order(mut tables: Vec<Shape>, references: &[(String, String)]) -> Vec<Shape> {
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut ordered = Vec::new();
    while !tables.is_empty() {
        let waits = |table: &Shape| {
            references.iter().any(|(from, to)| {
                *from == table.name && *to != table.name && !done.contains(to.as_str())
            })
        };
        let (waiting, ready): (Vec<Shape>, Vec<Shape>) = tables.into_iter().partition(waits);
        if ready.is_empty() {
            // Tables that refer to each other in a circle: no order is right.
            ordered.extend(waiting);
            return ordered;
        }
        done.extend(ready.iter().map(|table| table.name.clone()));
        ordered.extend(ready);
        tables = waiting;
    }
    ordered
}
