//! Styles.

use std::collections::BTreeSet;

use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, SharedKeyId, StyleId, UserId};
use ordu_core::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::pool::{Connection, Dialect, args};
use crate::worker::found;
use crate::{Store, json};

/// A new style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStyle {
    /// Its id.
    pub id: StyleId,
    /// Who made it.
    pub owner: UserId,
    /// What it is for.
    pub kind: WorkKind,
    /// Its name, unique among its owner's.
    pub name: String,
    /// What its owner says about it.
    pub info: String,
    /// The template of the prompt.
    pub prompt: String,
    /// The parameters as JSON.
    pub params: String,
    /// The models.
    pub models: Vec<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Whether everybody finds it.
    pub public: bool,
    /// Whether it is not safe for work.
    pub nsfw: bool,
    /// The shared key that pays for its requests.
    pub shared_key: Option<SharedKeyId>,
    /// When.
    pub created: Timestamp,
}

/// What is to be changed of a style; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `NewStyle`")]
pub struct StyleChange {
    pub name: Option<String>,
    pub info: Option<String>,
    pub prompt: Option<String>,
    pub params: Option<String>,
    pub models: Option<Vec<String>>,
    pub tags: Option<Vec<String>>,
    pub public: Option<bool>,
    pub nsfw: Option<bool>,
    pub shared_key: Option<Option<SharedKeyId>>,
}

/// What comes first in a list of styles or collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StyleSort {
    /// What is used most.
    Popular,
    /// What is there longest.
    Age,
}

/// Which public styles to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StyleFilter {
    /// What they are for.
    pub kind: WorkKind,
    /// A tag that they must have.
    pub tag: Option<String>,
    /// A model that they must name.
    pub model: Option<String>,
    /// What comes first.
    pub sort: StyleSort,
    /// Which page of 25; the first is 0.
    pub page: u32,
}

/// A style as its owner is shown with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnStyle {
    /// Its id.
    pub id: StyleId,
    /// Whose it is.
    pub owner: UserId,
    /// What it is for.
    pub kind: WorkKind,
    /// Its name.
    pub name: String,
    /// Whether everybody finds it.
    pub public: bool,
}

/// A style as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `NewStyle`, unless described")]
pub struct Style {
    pub id: StyleId,
    pub owner: UserId,
    pub kind: WorkKind,
    pub name: String,
    pub info: String,
    pub prompt: String,
    pub params: String,
    pub models: Vec<String>,
    pub tags: Vec<String>,
    pub public: bool,
    pub nsfw: bool,
    pub shared_key: Option<SharedKeyId>,
    /// How often requests used it, as far as written.
    pub use_count: i64,
    pub created: Timestamp,
}

#[derive(Debug, FromRow)]
struct StyleRow {
    id: Uuid,
    owner: i64,
    kind: String,
    name: String,
    info: String,
    prompt: String,
    params: String,
    models: String,
    tags: String,
    public: bool,
    nsfw: bool,
    shared_key: Option<Uuid>,
    use_count: i64,
    created: i64,
}

impl StyleRow {
    fn into_style(self) -> Result<Style> {
        Ok(Style {
            id: StyleId::from_uuid(self.id),
            owner: owner(self.owner)?,
            kind: kind(&self.kind)?,
            name: self.name,
            info: self.info,
            prompt: self.prompt,
            params: self.params,
            models: list(&self.models)?,
            tags: list(&self.tags)?,
            public: self.public,
            nsfw: self.nsfw,
            shared_key: self.shared_key.map(SharedKeyId::from_uuid),
            use_count: self.use_count,
            created: Timestamp(self.created),
        })
    }
}

pub(crate) fn owner(number: i64) -> Result<UserId> {
    UserId::new(number).ok_or_else(|| Error::corrupt("styles.owner", &number.to_string()))
}

pub(crate) fn kind(name: &str) -> Result<WorkKind> {
    name.parse()
        .map_err(|_| Error::corrupt("styles.kind", name))
}

fn list(text: &str) -> Result<Vec<String>> {
    serde_json::from_str(text).map_err(|_| Error::corrupt("a list of styles", text))
}

/// The members of [`StyleRow`], before a condition.
macro_rules! select_styles {
    ($condition:literal) => {
        concat!(
            "
    SELECT id, owner, kind, name, info, prompt, params, models, tags, public, nsfw, shared_key,
        use_count, created
    FROM styles
    ",
            $condition
        )
    };
}

const INSERT_STYLE: &str = "
    INSERT INTO styles
        (id, owner, kind, name, info, prompt, params, models, tags, public, nsfw, shared_key,
         created)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

const FIND_STYLE: &str = select_styles!("WHERE id = $1");
const FIND_STYLE_NAMED: &str = select_styles!(
    "WHERE name = $1 AND ($2 IS NULL OR owner = $2)
    ORDER BY created, id
    LIMIT 1"
);

const LIST_EVERY: &str = select_styles!(
    "WHERE ($1 IS NULL OR owner = $1) AND ($2 IS NULL OR kind = $2)
    ORDER BY created, id"
);

/// Styles and collections on one page of a list.
pub(crate) const PAGE: i64 = 25;

/// Where a page begins.
pub(crate) fn offset(page: u32) -> i64 {
    i64::from(page) * PAGE
}

/// What tags and models are called among the words of a style.
const TAG: &str = "tag";
const MODEL: &str = "model";

const INSERT_WORD: &str = "
    INSERT INTO style_words (style, sort, word)
    VALUES ($1, $2, $3)";

const DELETE_WORDS: &str = "
    DELETE FROM style_words
    WHERE style = $1 AND sort = $2";

/// A shared key comes with whether it is to be changed: it may be changed to none.
const UPDATE_STYLE: &str = "
    UPDATE styles
    SET name = COALESCE($2, name),
        info = COALESCE($3, info),
        prompt = COALESCE($4, prompt),
        params = COALESCE($5, params),
        models = COALESCE($6, models),
        tags = COALESCE($7, tags),
        public = COALESCE($8, public),
        nsfw = COALESCE($9, nsfw),
        shared_key = CASE WHEN $10 THEN $11 ELSE shared_key END
    WHERE id = $1";

const DELETE_STYLE: &str = "
    DELETE FROM styles
    WHERE id = $1";

/// Public styles of a kind that have the words which are asked for, before their order.
macro_rules! select_public {
    ($order:literal) => {
        concat!(
            "
    SELECT id, owner, kind, name, info, prompt, params, models, tags, public, nsfw, shared_key,
        use_count, created
    FROM styles AS s
    WHERE public AND kind = $1
        AND ($2 IS NULL
             OR EXISTS (SELECT 1
                        FROM style_words AS w
                        WHERE w.style = s.id AND w.sort = 'tag' AND w.word = $2))
        AND ($3 IS NULL
             OR EXISTS (SELECT 1
                        FROM style_words AS w
                        WHERE w.style = s.id AND w.sort = 'model' AND w.word = $3))
    ORDER BY ",
            $order,
            "
    LIMIT $4 OFFSET $5"
        )
    };
}

const LIST_POPULAR: &str = select_public!("use_count DESC, created, id");
const LIST_BY_AGE: &str = select_public!("created, id");

const LIST_OF_OWNERS_SQLITE: &str = "
    SELECT id, owner, kind, name, public
    FROM styles
    WHERE owner IN (SELECT value FROM json_each($1))
    ORDER BY created, id";

const LIST_OF_OWNERS_POSTGRES: &str = "
    SELECT id, owner, kind, name, public
    FROM styles
    WHERE owner IN (SELECT CAST(id AS BIGINT)
                    FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))
    ORDER BY created, id";

/// How often a style or a collection was used, as the statements take it.
#[derive(Debug, Serialize)]
pub(crate) struct UseRow {
    pub(crate) id: String,
    pub(crate) uses: i64,
}

macro_rules! count_uses {
    ($table:literal) => {
        (
            concat!(
                "
    UPDATE ",
                $table,
                "
    SET use_count = use_count + (i.value ->> 'uses')
    FROM json_each($1) AS i
    WHERE ",
                $table,
                ".id = unhex(i.value ->> 'id')"
            ),
            concat!(
                "
    UPDATE ",
                $table,
                " AS s
    SET use_count = s.use_count + i.uses
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (id UUID, uses BIGINT)
    WHERE s.id = i.id"
            ),
        )
    };
}

/// How uses are counted, on either database.
pub(crate) const fn count_style_uses(dialect: Dialect) -> &'static str {
    let (sqlite, postgres) = count_uses!("styles");
    match dialect {
        Dialect::Sqlite => sqlite,
        Dialect::Postgres => postgres,
    }
}

/// The same for collections.
pub(crate) const fn count_collection_uses(dialect: Dialect) -> &'static str {
    let (sqlite, postgres) = count_uses!("collections");
    match dialect {
        Dialect::Sqlite => sqlite,
        Dialect::Postgres => postgres,
    }
}

impl Store {
    /// Writes a new style.
    ///
    /// # Errors
    /// [`Error::Taken`] when its owner has a style of this name.
    pub async fn insert_style(&self, style: &NewStyle) -> Result<()> {
        let values = args![
            style.id.uuid(),
            style.owner.get(),
            style.kind.name(),
            style.name.clone(),
            style.info.clone(),
            style.prompt.clone(),
            style.params.clone(),
            json::object(&style.models)?,
            json::object(&style.tags)?,
            style.public,
            style.nsfw,
            style.shared_key.map(SharedKeyId::uuid),
            style.created.0,
        ];
        let mut connection = self.pool.begin().await?;
        let inserted = async {
            connection.execute(INSERT_STYLE, values).await?;
            insert_words(&mut connection, style.id, TAG, &style.tags).await?;
            insert_words(&mut connection, style.id, MODEL, &style.models).await
        }
        .await;
        connection.end(inserted).await
    }

    /// Changes a style.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Taken`] when its owner has another style of this name.
    pub async fn update_style(&self, id: StyleId, change: &StyleChange) -> Result<()> {
        let values = args![
            id.uuid(),
            change.name.clone(),
            change.info.clone(),
            change.prompt.clone(),
            change.params.clone(),
            change.models.as_ref().map(json::object).transpose()?,
            change.tags.as_ref().map(json::object).transpose()?,
            change.public,
            change.nsfw,
            change.shared_key.is_some(),
            change.shared_key.flatten().map(SharedKeyId::uuid),
        ];
        let mut connection = self.pool.begin().await?;
        let updated = async {
            found(connection.execute(UPDATE_STYLE, values).await?)?;
            for (sort, words) in [(TAG, &change.tags), (MODEL, &change.models)] {
                if let Some(words) = words {
                    let of = args![id.uuid(), sort];
                    connection.execute(DELETE_WORDS, of).await?;
                    insert_words(&mut connection, id, sort, words).await?;
                }
            }
            Ok(())
        }
        .await;
        connection.end(updated).await
    }

    /// Deletes a style with its examples, also out of every collection.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_style(&self, id: StyleId) -> Result<()> {
        found(self.pool.execute(DELETE_STYLE, args![id.uuid()]).await?)
    }

    /// A page of 25 public styles.
    pub async fn list_styles(&self, filter: &StyleFilter) -> Result<Vec<Style>> {
        let sql = match filter.sort {
            StyleSort::Popular => LIST_POPULAR,
            StyleSort::Age => LIST_BY_AGE,
        };
        let values = args![
            filter.kind.name(),
            filter.tag.clone(),
            filter.model.clone(),
            PAGE,
            offset(filter.page),
        ];
        let rows: Vec<StyleRow> = self.pool.all(sql, values).await?;
        rows.into_iter().map(StyleRow::into_style).collect()
    }

    /// All styles, public or not, or those of one owner or kind, oldest first.
    pub async fn list_every_style(
        &self,
        owner: Option<UserId>,
        kind: Option<WorkKind>,
    ) -> Result<Vec<Style>> {
        let values = args![
            owner.map(UserId::get),
            kind.map(|kind| kind.name().to_owned())
        ];
        let rows: Vec<StyleRow> = self.pool.all(LIST_EVERY, values).await?;
        rows.into_iter().map(StyleRow::into_style).collect()
    }

    /// The styles of some users, oldest first.
    pub async fn list_styles_of(&self, owners: &[UserId]) -> Result<Vec<OwnStyle>> {
        let sql = match self.pool.dialect() {
            Dialect::Sqlite => LIST_OF_OWNERS_SQLITE,
            Dialect::Postgres => LIST_OF_OWNERS_POSTGRES,
        };
        let ids: Vec<i64> = owners.iter().copied().map(UserId::get).collect();
        let rows: Vec<(Uuid, i64, String, String, bool)> =
            self.pool.all(sql, args![json::object(&ids)?]).await?;
        let style = |(id, maker, of, name, public): (Uuid, i64, String, String, bool)| {
            Ok(OwnStyle {
                id: StyleId::from_uuid(id),
                owner: owner(maker)?,
                kind: kind(&of)?,
                name,
                public,
            })
        };
        rows.into_iter().map(style).collect()
    }

    /// One style.
    pub async fn find_style(&self, id: StyleId) -> Result<Option<Style>> {
        let row: Option<StyleRow> = self.pool.one(FIND_STYLE, args![id.uuid()]).await?;
        row.map(StyleRow::into_style).transpose()
    }

    /// The oldest style of this name, of this owner if one is given.
    pub async fn find_style_named(
        &self,
        name: &str,
        owner: Option<UserId>,
    ) -> Result<Option<Style>> {
        let values = args![name, owner.map(UserId::get)];
        let row: Option<StyleRow> = self.pool.one(FIND_STYLE_NAMED, values).await?;
        row.map(StyleRow::into_style).transpose()
    }

    /// Notes that a request used a style, chosen from a collection or not; written within a second
    /// or so, lost in a crash.
    pub fn style_used_later(&self, style: StyleId, collection: Option<CollectionId>) {
        self.behind.style_used(style, collection);
    }
}

/// Notes words to find a style by; one that is said twice counts once.
async fn insert_words(
    connection: &mut Connection,
    style: StyleId,
    sort: &str,
    words: &[String],
) -> Result<()> {
    let distinct: BTreeSet<&String> = words.iter().collect();
    for word in distinct {
        let values = args![style.uuid(), sort, word.as_str()];
        connection.execute(INSERT_WORD, values).await?;
    }
    Ok(())
}
