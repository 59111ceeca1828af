//! The nodes that share a database: which of them live, and which of them does what only one may.
//!
//! # Source
//! `platform.md` § 3.

use ordu_core::Millis;
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::{Connection, Dialect, args};

/// A node that is silent for longer is dead.
pub const NODE_LIFETIME: Millis = Millis::from_seconds(5);

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its id, new with each start.
    pub id: Uuid,
    /// What its operator calls it.
    pub name: String,
    /// How it is reached.
    pub url: String,
}

#[derive(Debug, FromRow)]
struct NodeRow {
    id: Uuid,
    name: String,
    url: String,
}

/// Answers the nodes that live, this one included.
const BEAT: &str = "
    WITH own AS (
        INSERT INTO nodes (id, name, url, started, beat)
        SELECT $1, $2, $3, t.now, t.now
        FROM (SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now) AS t
        ON CONFLICT (id) DO UPDATE SET beat = excluded.beat
        RETURNING id, name, url, beat
    )
    SELECT id, name, url FROM own
    UNION ALL
    SELECT n.id, n.name, n.url
    FROM nodes AS n, own
    WHERE n.id <> own.id AND n.beat > own.beat - $4
    ORDER BY 1";

const LIST: &str = "
    SELECT id, name, url
    FROM nodes
    WHERE beat > CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - $1
    ORDER BY id";

const DELETE: &str = "
    DELETE FROM nodes
    WHERE id = $1";

const DELETE_DEAD: &str = "
    DELETE FROM nodes
    WHERE beat < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - $1";

/// Locks belong to the whole database, schemas do not.
const TRY_LEAD: &str = "
    SELECT pg_try_advisory_lock(709311640, hashtext(current_schema()))";

/// A node that fell silent, with its machine or its network, must not lead for ever.
const LEAD_ATTENTIVELY: &str = "SET idle_session_timeout = '5s'";

const STILL_THERE: &str = "SELECT 1";

const GIVE_UP: &str = "SELECT pg_advisory_unlock_all()";

/// The right to do what only one node does, as long as the connection behind it lives. Dropping it
/// gives it up.
#[derive(Debug)]
pub struct Lead(Connection);

impl Lead {
    /// Whether it still is one's own. To be asked every second or so: the database takes it away
    /// from who is silent.
    pub async fn holds(&mut self) -> bool {
        self.0.plain(STILL_THERE).await.is_ok()
    }

    /// Lets another node have it at once.
    pub async fn give_up(mut self) {
        // Otherwise it is given up when the connection is closed.
        let _ = self.0.plain(GIVE_UP).await;
    }
}

impl Store {
    /// Says that a node lives; answers all that do.
    pub async fn beat(&self, node: &Node) -> Result<Vec<Node>> {
        self.check_several()?;
        let values = args![
            node.id,
            node.name.clone(),
            node.url.clone(),
            NODE_LIFETIME.0
        ];
        // Not by `Pool::execute`: this is nothing to announce.
        let rows: Vec<NodeRow> = self.pool.writer().await?.all(BEAT, values).await?;
        Ok(rows.into_iter().map(NodeRow::into_node).collect())
    }

    /// The nodes that live; none where there cannot be several.
    pub async fn list_nodes(&self) -> Result<Vec<Node>> {
        if self.check_several().is_err() {
            return Ok(Vec::new());
        }
        let rows: Vec<NodeRow> = self.pool.all(LIST, args![NODE_LIFETIME.0]).await?;
        Ok(rows.into_iter().map(NodeRow::into_node).collect())
    }

    /// A node ends, and says so.
    pub async fn delete_node(&self, id: Uuid) -> Result<()> {
        self.pool.execute(DELETE, args![id]).await?;
        Ok(())
    }

    /// Forgets nodes that died long ago; says how many.
    pub async fn delete_dead_nodes(&self, silent_for: Millis) -> Result<u64> {
        self.check_several()?;
        self.pool.execute(DELETE_DEAD, args![silent_for.0]).await
    }

    /// Takes the lead, unless another node has it.
    pub async fn try_lead(&self) -> Result<Option<Lead>> {
        self.check_several()?;
        let mut connection = self.pool.writer().await?;
        // Its session has a lock and a temper: nobody else may get it.
        connection.keep_apart();
        let row: Option<(bool,)> = connection.one(TRY_LEAD, args![]).await?;
        if !row.is_some_and(|(taken,)| taken) {
            return Ok(None);
        }
        connection.plain(LEAD_ATTENTIVELY).await?;
        Ok(Some(Lead(connection)))
    }

    fn check_several(&self) -> Result<()> {
        match self.pool.dialect() {
            Dialect::Postgres => Ok(()),
            Dialect::Sqlite => Err(Error::Invalid(
                "several nodes need a PostgreSQL database".to_owned(),
            )),
        }
    }
}

impl NodeRow {
    fn into_node(self) -> Node {
        Node {
            id: self.id,
            name: self.name,
            url: self.url,
        }
    }
}
