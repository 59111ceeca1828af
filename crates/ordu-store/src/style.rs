//! Styles and collections of styles.

use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, SharedKeyId, StyleId, UserId};
use ordu_core::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::pool::{Dialect, args};
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

/// A new collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCollection {
    /// Its id.
    pub id: CollectionId,
    /// Who made it.
    pub owner: UserId,
    /// What its styles are for.
    pub kind: WorkKind,
    /// Its name, unique among its owner's.
    pub name: String,
    /// What its owner says about it.
    pub info: String,
    /// Whether everybody finds it.
    pub public: bool,
    /// Its styles, in their order.
    pub styles: Vec<StyleId>,
    /// When.
    pub created: Timestamp,
}

/// A collection as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the members of `NewCollection`, unless described"
)]
pub struct Collection {
    pub id: CollectionId,
    pub owner: UserId,
    pub kind: WorkKind,
    pub name: String,
    pub info: String,
    pub public: bool,
    pub styles: Vec<StyleId>,
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

#[derive(Debug, FromRow)]
struct CollectionRow {
    id: Uuid,
    owner: i64,
    kind: String,
    name: String,
    info: String,
    public: bool,
    use_count: i64,
    created: i64,
}

fn owner(number: i64) -> Result<UserId> {
    UserId::new(number).ok_or_else(|| Error::corrupt("styles.owner", &number.to_string()))
}

fn kind(name: &str) -> Result<WorkKind> {
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

/// The members of [`CollectionRow`], before a condition.
macro_rules! select_collections {
    ($condition:literal) => {
        concat!(
            "
    SELECT id, owner, kind, name, info, public, use_count, created
    FROM collections
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

const INSERT_COLLECTION: &str = "
    INSERT INTO collections (id, owner, kind, name, info, public, created)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

const INSERT_MEMBER: &str = "
    INSERT INTO collection_styles (collection, style, place)
    VALUES ($1, $2, $3)";

const FIND_COLLECTION: &str = select_collections!("WHERE id = $1");
const FIND_COLLECTION_NAMED: &str = select_collections!(
    "WHERE name = $1 AND ($2 IS NULL OR owner = $2)
    ORDER BY created, id
    LIMIT 1"
);

const LIST_MEMBERS: &str = "
    SELECT style
    FROM collection_styles
    WHERE collection = $1
    ORDER BY place";

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
        self.pool.execute(INSERT_STYLE, values).await?;
        Ok(())
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

    /// Writes a new collection.
    ///
    /// # Errors
    /// [`Error::Taken`] when its owner has a collection of this name, or a style is named twice.
    pub async fn insert_collection(&self, collection: &NewCollection) -> Result<()> {
        let id = collection.id.uuid();
        let values = args![
            id,
            collection.owner.get(),
            collection.kind.name(),
            collection.name.clone(),
            collection.info.clone(),
            collection.public,
            collection.created.0,
        ];
        let mut connection = self.pool.begin().await?;
        let inserted = async {
            connection.execute(INSERT_COLLECTION, values).await?;
            for (place, style) in (0_i64..).zip(&collection.styles) {
                let member = args![id, style.uuid(), place];
                connection.execute(INSERT_MEMBER, member).await?;
            }
            Ok(())
        }
        .await;
        connection.end(inserted).await
    }

    /// One collection.
    pub async fn find_collection(&self, id: CollectionId) -> Result<Option<Collection>> {
        let row: Option<CollectionRow> = self.pool.one(FIND_COLLECTION, args![id.uuid()]).await?;
        self.with_members(row).await
    }

    /// The oldest collection of this name, of this owner if one is given.
    pub async fn find_collection_named(
        &self,
        name: &str,
        owner: Option<UserId>,
    ) -> Result<Option<Collection>> {
        let values = args![name, owner.map(UserId::get)];
        let row: Option<CollectionRow> = self.pool.one(FIND_COLLECTION_NAMED, values).await?;
        self.with_members(row).await
    }

    async fn with_members(&self, row: Option<CollectionRow>) -> Result<Option<Collection>> {
        let Some(row) = row else { return Ok(None) };
        let members: Vec<(Uuid,)> = self.pool.all(LIST_MEMBERS, args![row.id]).await?;
        let styles = members.into_iter().map(|(id,)| StyleId::from_uuid(id));
        Ok(Some(Collection {
            id: CollectionId::from_uuid(row.id),
            owner: owner(row.owner)?,
            kind: kind(&row.kind)?,
            name: row.name,
            info: row.info,
            public: row.public,
            styles: styles.collect(),
            use_count: row.use_count,
            created: Timestamp(row.created),
        }))
    }

    /// Notes that a request used a style, chosen from a collection or not; written within a second
    /// or so, lost in a crash.
    pub fn style_used_later(&self, style: StyleId, collection: Option<CollectionId>) {
        self.behind.style_used(style, collection);
    }
}
