//! Examples of styles: pictures elsewhere that show what a style does.
//!
//! Of those of a style exactly one is the primary one, whatever happens to the others.

use std::collections::BTreeMap;

use ordu_api::{StyleExampleId, StyleId};
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::fold::{self, Bulk};
use crate::pool::{Connection, Dialect, args};
use crate::worker::found;
use crate::{Store, json};

/// An example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its id.
    pub id: StyleExampleId,
    /// Where the picture is.
    pub url: String,
    /// Whether it is shown first.
    pub primary: bool,
}

/// Whether another example of the same style becomes the primary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// This one is the primary one from now on.
    Primary,
    /// Whichever is now stays.
    Unchanged,
}

/// What became of an example to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExampleAdded {
    /// It is there.
    Done,
    /// The style has too many already.
    Full,
    /// The style has one with this link already.
    Known,
}

#[derive(Debug, FromRow)]
struct ExampleRow {
    id: Uuid,
    style: Uuid,
    url: String,
    is_primary: bool,
}

/// Whoever changes examples of a style waits for the others.
const LOCK: &str = "
    SELECT id
    FROM styles
    WHERE id = $1
    FOR UPDATE";

const FIND_STYLE: &str = "
    SELECT id
    FROM styles
    WHERE id = $1";

const COUNT: &str = "
    SELECT COUNT(*), COALESCE(MAX(place), -1) + 1
    FROM style_examples
    WHERE style = $1";

const COUNT_OF_URL: &str = "
    SELECT COUNT(*)
    FROM style_examples
    WHERE style = $1 AND url = $2 AND ($3 IS NULL OR id <> $3)";

const DEMOTE: &str = "
    UPDATE style_examples
    SET is_primary = FALSE
    WHERE style = $1 AND is_primary";

const INSERT: &str = "
    INSERT INTO style_examples (id, style, place, url, is_primary)
    VALUES ($1, $2, $3, $4, $5)";

const UPDATE: &str = "
    UPDATE style_examples
    SET url = COALESCE($3, url), is_primary = is_primary OR $4
    WHERE id = $2 AND style = $1";

const DELETE: &str = "
    DELETE FROM style_examples
    WHERE id = $2 AND style = $1";

const PROMOTE_OLDEST: &str = "
    UPDATE style_examples
    SET is_primary = TRUE
    WHERE id = (SELECT id
                FROM style_examples
                WHERE style = $1
                ORDER BY place
                LIMIT 1)
        AND NOT EXISTS (SELECT 1 FROM style_examples WHERE style = $1 AND is_primary)";

const LIST: Bulk = Bulk {
    sqlite: "
    SELECT id, style, url, is_primary
    FROM style_examples
    WHERE style IN (SELECT unhex(value) FROM json_each($1))
    ORDER BY place",
    postgres: "
    SELECT id, style, url, is_primary
    FROM style_examples
    WHERE style IN (SELECT CAST(id AS UUID)
                    FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))
    ORDER BY place",
};

impl Store {
    /// The examples of some styles, of each the oldest first; styles without any are left out.
    pub async fn list_examples(
        &self,
        styles: &[StyleId],
    ) -> Result<BTreeMap<StyleId, Vec<Example>>> {
        let ids: Vec<String> = styles.iter().map(|id| json::hex(id.uuid())).collect();
        let mut connection = self.pool.reader().await?;
        let rows: Vec<ExampleRow> = fold::bulk(&mut connection, &LIST, &ids).await?;
        let mut examples: BTreeMap<StyleId, Vec<Example>> = BTreeMap::new();
        for row in rows {
            let style = StyleId::from_uuid(row.style);
            examples.entry(style).or_default().push(Example {
                id: StyleExampleId::from_uuid(row.id),
                url: row.url,
                primary: row.is_primary,
            });
        }
        Ok(examples)
    }

    /// Adds an example to a style that has fewer than `most`. The first one is the primary one,
    /// whatever it says.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such style.
    pub async fn insert_example(
        &self,
        style: StyleId,
        example: &Example,
        most: u32,
    ) -> Result<ExampleAdded> {
        let mut connection = self.pool.begin().await?;
        let added = insert(&mut connection, style, example, most).await;
        connection.end(added).await
    }

    /// Changes an example.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Taken`] when the style has another one with this link.
    pub async fn update_example(
        &self,
        style: StyleId,
        id: StyleExampleId,
        url: Option<&str>,
        precedence: Precedence,
    ) -> Result<()> {
        let mut connection = self.pool.begin().await?;
        let updated = async {
            lock(&mut connection, style).await?;
            if let Some(url) = url
                && has_url(&mut connection, style, url, Some(id)).await?
            {
                return Err(Error::Taken);
            }
            let becomes_primary = precedence == Precedence::Primary;
            if becomes_primary {
                connection.execute(DEMOTE, args![style.uuid()]).await?;
            }
            let values = args![
                style.uuid(),
                id.uuid(),
                url.map(str::to_owned),
                becomes_primary
            ];
            found(connection.execute(UPDATE, values).await?)
        }
        .await;
        connection.end(updated).await
    }

    /// Deletes an example. If it was the primary one, the oldest of the others is from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_example(&self, style: StyleId, id: StyleExampleId) -> Result<()> {
        let mut connection = self.pool.begin().await?;
        let deleted = async {
            lock(&mut connection, style).await?;
            let values = args![style.uuid(), id.uuid()];
            found(connection.execute(DELETE, values).await?)?;
            let values = args![style.uuid()];
            connection.execute(PROMOTE_OLDEST, values).await?;
            Ok(())
        }
        .await;
        connection.end(deleted).await
    }
}

async fn insert(
    connection: &mut Connection,
    style: StyleId,
    example: &Example,
    most: u32,
) -> Result<ExampleAdded> {
    lock(connection, style).await?;
    let counted: Option<(i64, i64)> = connection.one(COUNT, args![style.uuid()]).await?;
    let (count, place) = counted.unwrap_or_default();
    if count >= i64::from(most) {
        return Ok(ExampleAdded::Full);
    }
    if has_url(connection, style, &example.url, None).await? {
        return Ok(ExampleAdded::Known);
    }
    let is_primary = example.primary || count == 0;
    if is_primary {
        connection.execute(DEMOTE, args![style.uuid()]).await?;
    }
    let values = args![
        example.id.uuid(),
        style.uuid(),
        place,
        example.url.clone(),
        is_primary,
    ];
    connection.execute(INSERT, values).await?;
    Ok(ExampleAdded::Done)
}

async fn lock(connection: &mut Connection, style: StyleId) -> Result<()> {
    let sql = match connection.dialect() {
        // Whoever writes there is alone.
        Dialect::Sqlite => FIND_STYLE,
        Dialect::Postgres => LOCK,
    };
    let locked: Option<(Uuid,)> = connection.one(sql, args![style.uuid()]).await?;
    locked.map(|_| ()).ok_or(Error::NotFound)
}

async fn has_url(
    connection: &mut Connection,
    style: StyleId,
    url: &str,
    except: Option<StyleExampleId>,
) -> Result<bool> {
    let values = args![style.uuid(), url, except.map(StyleExampleId::uuid)];
    let count: Option<(i64,)> = connection.one(COUNT_OF_URL, values).await?;
    Ok(count.is_some_and(|(count,)| count > 0))
}
