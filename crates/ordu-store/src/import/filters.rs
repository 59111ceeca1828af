//! Prompt filters. One that this horde cannot compile would keep all others from working.
//!
//! # Source
//! `community.md` § 9.4.

use std::collections::{HashMap, HashSet};

use ordu_core::filter::{FilterSet, MAX_KIND, MIN_KIND};
use sqlx::FromRow;

use super::{Desk, Result, Rows, Tally};
use crate::pool::{InsertInto, args};

const PAGE: &str = "
    SELECT id, regex, filter_type, description, replacement, user_id
    FROM filters
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const INTO: InsertInto<'static> = InsertInto {
    table: "filters",
    columns: &[
        "id",
        "regex",
        "kind",
        "description",
        "replacement",
        "editor",
    ],
    suffix: "",
};

#[derive(Debug, FromRow)]
struct Old {
    id: i32,
    regex: Option<String>,
    filter_type: i32,
    description: Option<String>,
    replacement: Option<String>,
    user_id: Option<i32>,
}

/// The filters that are here.
struct Ours {
    ids: HashSet<i64>,
    /// By type and expression: who has it.
    same: HashMap<(i64, String), i64>,
    next: i64,
}

pub(super) async fn import(desk: &mut Desk<'_>) -> Result<Tally> {
    let mut tally = Tally::new("filters");
    let mut ours = ours(desk).await?;
    let (mut after, mut largest) = (None, 0);
    loop {
        let page: Vec<Old> = desk.source.numbered(PAGE, after).await?;
        let Some(last) = page.last() else {
            desk.count_from("filter", largest).await?;
            return Ok(tally);
        };
        after = Some(last.id);
        let mut rows = Rows::new(INTO);
        for old in page {
            tally.found += 1;
            let kind = i64::from(old.filter_type);
            let regex = match usable(&old) {
                Ok(regex) => regex,
                Err(reason) => {
                    tally.skip(old.id, reason);
                    continue;
                }
            };
            if ours.same.contains_key(&(kind, regex.clone())) {
                tally.already += 1;
                continue;
            }
            tally.imported += 1;
            let id = ours.number_for(i64::from(old.id));
            if id != i64::from(old.id) {
                tally.note(
                    old.id,
                    format!("as number {id}: another filter has its number"),
                );
            }
            largest = largest.max(id);
            ours.same.insert((kind, regex.clone()), id);
            let editor = old.user_id.map(i64::from);
            let editor = editor.filter(|editor| desk.users.contains(editor));
            let replacement = old.replacement.unwrap_or_default();
            let editor = editor.unwrap_or_default();
            rows.rows
                .push(args![id, regex, kind, old.description, replacement, editor]);
        }
        desk.write(vec![rows]).await?;
    }
}

impl Ours {
    fn number_for(&mut self, wanted: i64) -> i64 {
        let mut id = wanted;
        if self.ids.contains(&wanted) {
            id = self.next;
        }
        self.ids.insert(id);
        self.next = self.next.max(id + 1);
        id
    }
}

/// The expression, if it can be used here.
fn usable(old: &Old) -> std::result::Result<String, String> {
    let is_kind = (i32::from(MIN_KIND)..=i32::from(MAX_KIND)).contains(&old.filter_type);
    if !is_kind {
        return Err(format!("its type {} is unknown", old.filter_type));
    }
    let regex = old.regex.clone().unwrap_or_default();
    if regex.is_empty() {
        return Err("it has no expression".to_owned());
    }
    match FilterSet::check(&regex) {
        Ok(()) => Ok(regex),
        Err(error) => Err(format!("`{regex}` cannot be used: {error}")),
    }
}

async fn ours(desk: &Desk<'_>) -> Result<Ours> {
    let filters = desk.store.list_filters().await?;
    let ids: HashSet<i64> = filters.iter().map(|filter| filter.id).collect();
    let next = ids.iter().max().map_or(1, |largest| largest + 1);
    let same = filters.into_iter();
    let same = same.map(|filter| ((i64::from(filter.kind), filter.regex), filter.id));
    Ok(Ours {
        ids,
        same: same.collect(),
        next,
    })
}
