//! Collections of styles.

use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, StyleId, UserId};
use ordu_core::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::Result;
use crate::fold::{self, Bulk};
use crate::pool::{Connection, args};
use crate::style::{PAGE, StyleSort, kind, offset, owner};
use crate::worker::found;
use crate::{Store, json};

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

/// What is to be changed of a collection; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `NewCollection`")]
pub struct CollectionChange {
    pub name: Option<String>,
    pub info: Option<String>,
    pub public: Option<bool>,
    pub styles: Option<Vec<StyleId>>,
}

/// A style of a collection, as it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whose it is a style of.
    pub collection: CollectionId,
    /// The style.
    pub style: StyleId,
    /// The style's name.
    pub name: String,
    /// Whose style it is.
    pub owner: UserId,
    /// The name of that account, before the `#`.
    pub username: String,
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

impl CollectionRow {
    fn into_collection(self, styles: Vec<StyleId>) -> Result<Collection> {
        Ok(Collection {
            id: CollectionId::from_uuid(self.id),
            owner: owner(self.owner)?,
            kind: kind(&self.kind)?,
            name: self.name,
            info: self.info,
            public: self.public,
            styles,
            use_count: self.use_count,
            created: Timestamp(self.created),
        })
    }
}

#[derive(Debug, FromRow)]
struct MemberRow {
    collection: Uuid,
    style: Uuid,
    name: String,
    owner: i64,
    username: String,
}

/// A style on its way into a collection.
#[derive(Debug, Serialize)]
struct PlaceRow {
    collection: String,
    style: String,
    place: i64,
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

const INSERT: &str = "
    INSERT INTO collections (id, owner, kind, name, info, public, created)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// A style that is gone meanwhile is left out.
const INSERT_MEMBERS: Bulk = Bulk {
    sqlite: "
    INSERT INTO collection_styles (collection, style, place)
    SELECT unhex(i.value ->> 'collection'), s.id, i.value ->> 'place'
    FROM json_each($1) AS i
    JOIN styles AS s ON s.id = unhex(i.value ->> 'style')",
    postgres: "
    INSERT INTO collection_styles (collection, style, place)
    SELECT i.collection, s.id, i.place
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (collection UUID, style UUID, place BIGINT)
    JOIN styles AS s ON s.id = i.style",
};

const DELETE_MEMBERS: &str = "
    DELETE FROM collection_styles
    WHERE collection = $1";

const UPDATE: &str = "
    UPDATE collections
    SET name = COALESCE($2, name),
        info = COALESCE($3, info),
        public = COALESCE($4, public)
    WHERE id = $1";

const DELETE: &str = "
    DELETE FROM collections
    WHERE id = $1";

const FIND: &str = select_collections!("WHERE id = $1");
const FIND_NAMED: &str = select_collections!(
    "WHERE name = $1 AND ($2 IS NULL OR owner = $2)
    ORDER BY created, id
    LIMIT 1"
);

const LIST_POPULAR: &str = select_collections!(
    "WHERE public AND ($1 IS NULL OR kind = $1)
    ORDER BY use_count DESC, created, id
    LIMIT $2 OFFSET $3"
);
const LIST_BY_AGE: &str = select_collections!(
    "WHERE public AND ($1 IS NULL OR kind = $1)
    ORDER BY created, id
    LIMIT $2 OFFSET $3"
);

const MEMBERS: &str = "
    SELECT style
    FROM collection_styles
    WHERE collection = $1
    ORDER BY place";

const NAMED_MEMBERS: Bulk = Bulk {
    sqlite: "
    SELECT m.collection, m.style, s.name, s.owner, COALESCE(u.username, '') AS username
    FROM collection_styles AS m
    JOIN styles AS s ON s.id = m.style
    LEFT JOIN users AS u ON u.id = s.owner
    WHERE m.collection IN (SELECT unhex(value) FROM json_each($1))
    ORDER BY m.collection, m.place",
    postgres: "
    SELECT m.collection, m.style, s.name, s.owner, COALESCE(u.username, '') AS username
    FROM collection_styles AS m
    JOIN styles AS s ON s.id = m.style
    LEFT JOIN users AS u ON u.id = s.owner
    WHERE m.collection IN (SELECT CAST(id AS UUID)
                           FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))
    ORDER BY m.collection, m.place",
};

impl Store {
    /// Writes a new collection.
    ///
    /// # Errors
    /// [`crate::Error::Taken`] when its owner has a collection of this name, or a style is named
    /// twice.
    pub async fn insert_collection(&self, collection: &NewCollection) -> Result<()> {
        let values = args![
            collection.id.uuid(),
            collection.owner.get(),
            collection.kind.name(),
            collection.name.clone(),
            collection.info.clone(),
            collection.public,
            collection.created.0,
        ];
        let mut connection = self.pool.begin().await?;
        let inserted = async {
            connection.execute(INSERT, values).await?;
            insert_members(&mut connection, collection.id, &collection.styles).await
        }
        .await;
        connection.end(inserted).await
    }

    /// Changes a collection.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], or as [`Self::insert_collection`].
    pub async fn update_collection(
        &self,
        id: CollectionId,
        change: &CollectionChange,
    ) -> Result<()> {
        let values = args![
            id.uuid(),
            change.name.clone(),
            change.info.clone(),
            change.public,
        ];
        let mut connection = self.pool.begin().await?;
        let updated = async {
            found(connection.execute(UPDATE, values).await?)?;
            let Some(styles) = &change.styles else {
                return Ok(());
            };
            connection.execute(DELETE_MEMBERS, args![id.uuid()]).await?;
            insert_members(&mut connection, id, styles).await
        }
        .await;
        connection.end(updated).await
    }

    /// Deletes a collection; its styles stay.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub async fn delete_collection(&self, id: CollectionId) -> Result<()> {
        found(self.pool.execute(DELETE, args![id.uuid()]).await?)
    }

    /// One collection.
    pub async fn find_collection(&self, id: CollectionId) -> Result<Option<Collection>> {
        let row: Option<CollectionRow> = self.pool.one(FIND, args![id.uuid()]).await?;
        self.with_members(row).await
    }

    /// The oldest collection of this name, of this owner if one is given.
    pub async fn find_collection_named(
        &self,
        name: &str,
        owner: Option<UserId>,
    ) -> Result<Option<Collection>> {
        let values = args![name, owner.map(UserId::get)];
        let row: Option<CollectionRow> = self.pool.one(FIND_NAMED, values).await?;
        self.with_members(row).await
    }

    async fn with_members(&self, row: Option<CollectionRow>) -> Result<Option<Collection>> {
        let Some(row) = row else { return Ok(None) };
        let members: Vec<(Uuid,)> = self.pool.all(MEMBERS, args![row.id]).await?;
        let styles = members.into_iter().map(|(id,)| StyleId::from_uuid(id));
        row.into_collection(styles.collect()).map(Some)
    }

    /// A page of 25 public collections, of one kind if it is given; the first page is 0. Their
    /// styles are listed by [`Self::list_members`].
    pub async fn list_collections(
        &self,
        kind: Option<WorkKind>,
        sort: StyleSort,
        page: u32,
    ) -> Result<Vec<Collection>> {
        let sql = match sort {
            StyleSort::Popular => LIST_POPULAR,
            StyleSort::Age => LIST_BY_AGE,
        };
        let kind = kind.map(|kind| kind.name().to_owned());
        let rows: Vec<CollectionRow> = self.pool.all(sql, args![kind, PAGE, offset(page)]).await?;
        rows.into_iter()
            .map(|row| row.into_collection(Vec::new()))
            .collect()
    }

    /// The styles of some collections, of each in their order.
    pub async fn list_members(&self, collections: &[CollectionId]) -> Result<Vec<Member>> {
        let ids: Vec<String> = collections.iter().map(|id| json::hex(id.uuid())).collect();
        let mut connection = self.pool.reader().await?;
        let rows: Vec<MemberRow> = fold::bulk(&mut connection, &NAMED_MEMBERS, &ids).await?;
        let member = |row: MemberRow| {
            Ok(Member {
                collection: CollectionId::from_uuid(row.collection),
                style: StyleId::from_uuid(row.style),
                name: row.name,
                owner: owner(row.owner)?,
                username: row.username,
            })
        };
        rows.into_iter().map(member).collect()
    }
}

async fn insert_members(
    connection: &mut Connection,
    collection: CollectionId,
    styles: &[StyleId],
) -> Result<()> {
    let rows: Vec<PlaceRow> = (0_i64..)
        .zip(styles)
        .map(|(place, style)| PlaceRow {
            collection: json::hex(collection.uuid()),
            style: json::hex(style.uuid()),
            place,
        })
        .collect();
    fold::write_bulk(connection, &INSERT_MEMBERS, &rows).await
}
