//! Prompt filters of the moderators.

use ordu_api::UserId;
use sqlx::FromRow;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::args;

/// A filter as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Its number.
    pub id: i64,
    /// What it finds.
    pub regex: String,
    /// Its type.
    pub kind: u8,
    /// What it is for.
    pub description: Option<String>,
    /// What is put in the place of what it finds.
    pub replacement: String,
    /// Who changed it last.
    pub editor: UserId,
}

/// A filter to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `Filter`")]
pub struct NewFilter {
    pub regex: String,
    pub kind: u8,
    pub description: Option<String>,
    pub replacement: String,
    pub editor: UserId,
}

#[derive(Debug, FromRow)]
struct FilterRow {
    id: i64,
    regex: String,
    kind: i64,
    description: Option<String>,
    replacement: String,
    editor: i64,
}

impl FilterRow {
    fn into_filter(self) -> Result<Filter> {
        Ok(Filter {
            id: self.id,
            regex: self.regex,
            kind: u8::try_from(self.kind)
                .map_err(|_| Error::corrupt("filters.kind", &self.kind.to_string()))?,
            description: self.description,
            replacement: self.replacement,
            editor: UserId::new(self.editor)
                .ok_or_else(|| Error::corrupt("filters.editor", &self.editor.to_string()))?,
        })
    }
}

const LIST: &str = "
    SELECT id, regex, kind, description, replacement, editor
    FROM filters
    ORDER BY id";

const FIND_SAME: &str = "
    SELECT id, regex, kind, description, replacement, editor
    FROM filters
    WHERE kind = $1 AND regex = $2";

const NEXT_ID: &str = "
    UPDATE sequences
    SET next = next + 1
    WHERE name = 'filter'
    RETURNING next - 1";

const INSERT: &str = "
    INSERT INTO filters (id, regex, kind, description, replacement, editor)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (kind, regex) DO NOTHING";

const UPDATE: &str = "
    UPDATE filters
    SET regex = $2,
        kind = $3,
        description = $4,
        replacement = $5,
        editor = $6
    WHERE id = $1";

const DELETE: &str = "
    DELETE FROM filters
    WHERE id = $1";

impl Store {
    /// All filters, by number.
    pub async fn list_filters(&self) -> Result<Vec<Filter>> {
        let rows = self.pool.all(LIST, args![]).await?;
        rows.into_iter().map(FilterRow::into_filter).collect()
    }

    /// Makes a filter, unless there is one of the same type and expression; answers the one that is
    /// there then.
    pub async fn insert_filter(&self, new: &NewFilter) -> Result<Filter> {
        let mut connection = self.pool.begin().await?;
        let inserted = async {
            let next: Option<(i64,)> = connection.one(NEXT_ID, args![]).await?;
            let (id,) = next.ok_or_else(|| Error::corrupt("sequences.name", "filter"))?;
            let values = args![
                id,
                new.regex.clone(),
                i64::from(new.kind),
                new.description.clone(),
                new.replacement.clone(),
                new.editor.get(),
            ];
            connection.execute(INSERT, values).await?;
            let same = args![i64::from(new.kind), new.regex.clone()];
            let row: Option<FilterRow> = connection.one(FIND_SAME, same).await?;
            row.ok_or(Error::NotFound)?.into_filter()
        }
        .await;
        connection.end(inserted).await
    }

    /// Replaces everything about a filter but its number.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Taken`] when another filter is the same.
    pub async fn update_filter(&self, filter: &Filter) -> Result<()> {
        let values = args![
            filter.id,
            filter.regex.clone(),
            i64::from(filter.kind),
            filter.description.clone(),
            filter.replacement.clone(),
            filter.editor.get(),
        ];
        crate::worker::found(self.pool.execute(UPDATE, values).await?)
    }

    /// Deletes a filter; says whether there was one.
    pub async fn delete_filter(&self, id: i64) -> Result<bool> {
        Ok(self.pool.execute(DELETE, args![id]).await? > 0)
    }
}
