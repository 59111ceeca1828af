//! Teams, and who of the workers belongs to which.
//!
//! # Source
//! `community.md` § 4.

use std::collections::HashSet;

use sqlx::FromRow;
use uuid::Uuid;

use super::{Desk, Known, Result, Rows, Tally};
use crate::pool::{InsertInto, Value, args, places};

/// Pixelsteps in a megapixelstep: the old table counts these.
const MEGA: i64 = 1_000_000;

const PAGE: &str = "
    SELECT id, info, name, owner_id, contributions, fulfilments, kudos, uptime,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created
    FROM teams
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const INTO: InsertInto<'static> = InsertInto {
    table: "teams",
    columns: &[
        "id",
        "name",
        "name_folded",
        "info",
        "creator",
        "created",
        "uptime",
        "fulfilled",
        "things",
        "kudos",
    ],
    suffix: "",
};

#[derive(Debug, FromRow)]
struct Old {
    id: Uuid,
    info: Option<String>,
    name: String,
    owner_id: i32,
    contributions: i64,
    fulfilments: i32,
    kudos: i64,
    uptime: i64,
    created: i64,
}

pub(super) async fn import(desk: &mut Desk<'_>) -> Result<Tally> {
    let mut tally = Tally::new("teams");
    let mut after = None;
    loop {
        let page: Vec<Old> = desk.source.identified(PAGE, after).await?;
        let ids: Vec<Uuid> = page.iter().map(|old| old.id).collect();
        let Some(last) = ids.last() else {
            return Ok(tally);
        };
        after = Some(*last);
        let known = desk.known(Known::Teams, &ids).await?;
        let mut names = names(desk, &page).await?;
        let mut rows = Rows::new(INTO);
        for old in page {
            tally.found += 1;
            if known.contains(&old.id) {
                tally.already += 1;
                desk.teams.insert(old.id);
                continue;
            }
            let shown = format!("{} ({})", old.name, old.id);
            if !desk.users.contains(&i64::from(old.owner_id)) {
                tally.skip(
                    shown,
                    format!("account {} was not taken over", old.owner_id),
                );
                continue;
            }
            if !names.insert(old.name.to_lowercase()) {
                tally.skip(shown, "another team has its name");
                continue;
            }
            tally.imported += 1;
            desk.teams.insert(old.id);
            rows.rows.push(row(&old));
        }
        desk.write(vec![rows]).await?;
    }
}

fn row(old: &Old) -> Vec<Value> {
    args![
        old.id,
        old.name.clone(),
        old.name.to_lowercase(),
        old.info.clone(),
        i64::from(old.owner_id),
        old.created,
        old.uptime,
        i64::from(old.fulfilments),
        old.contributions.saturating_mul(MEGA),
        old.kudos.saturating_mul(1000),
    ]
}

/// The names of this batch, in lower case, that teams of ours have.
async fn names(desk: &Desk<'_>, page: &[Old]) -> Result<HashSet<String>> {
    let sql = format!(
        "SELECT name_folded FROM teams WHERE name_folded IN ({})",
        places(1, page.len())
    );
    let values = page.iter().map(|old| Value::from(old.name.to_lowercase()));
    let mut reader = desk.reader().await?;
    let rows: Vec<(String,)> = reader.all_made(sql, values.collect()).await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}
