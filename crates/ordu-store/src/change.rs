//! The change log: what one node changed, for the others to read again.
//!
//! Triggers write it, in the transaction of the change, so that no statement can forget it and the
//! command line is heard as well. They exist only while several nodes share the database.
//!
//! A reader remembers the snapshot that its last look had. The next look takes every line that this
//! snapshot did not see, and nothing else: a transaction that commits late is seen when it commits,
//! and holds nobody up meanwhile. A look without a snapshot of before is not possible.
//!
//! Only PostgreSQL can be shared, so nothing in here is done on SQLite.
//!
//! # Source
//! `platform.md` § 3; `docs/decisions/0012`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ordu_core::Millis;
use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::{Dialect, Pool, args};

/// Guards the making of triggers among PostgreSQL's advisory locks.
const LOCK: &str = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(7093116402)) AS held";

/// Whether the triggers are there.
const HAS_TRIGGERS: &str = "
    SELECT COUNT(*)
    FROM pg_trigger
    WHERE tgname = 'ordu_request_told' AND tgrelid = CAST('requests' AS REGCLASS)";

/// Whole statements tell of requests and messages, single rows of what changes rarely and has
/// columns that nobody else keeps a copy of.
const MAKE_TRIGGERS: &str = "
    CREATE OR REPLACE FUNCTION ordu_tell_all() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO changes (xact, node, noun, subject, happened_at)
        SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT),
            CAST(NULLIF(current_setting('ordu.node', TRUE), '') AS UUID),
            TG_ARGV[0], CAST(told.id AS TEXT),
            CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)
        FROM told;
        RETURN NULL;
    END $$;
    CREATE OR REPLACE FUNCTION ordu_tell_row() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO changes (xact, node, noun, subject, happened_at)
        VALUES (CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT),
            CAST(NULLIF(current_setting('ordu.node', TRUE), '') AS UUID),
            TG_ARGV[0], COALESCE(to_jsonb(NEW), to_jsonb(OLD)) ->> TG_ARGV[1],
            CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT));
        RETURN NULL;
    END $$;
    CREATE TRIGGER ordu_request_told AFTER INSERT ON requests
        REFERENCING NEW TABLE AS told
        FOR EACH STATEMENT EXECUTE FUNCTION ordu_tell_all('request');
    CREATE TRIGGER ordu_request_changed AFTER UPDATE ON requests
        REFERENCING NEW TABLE AS told
        FOR EACH STATEMENT EXECUTE FUNCTION ordu_tell_all('request');
    CREATE TRIGGER ordu_request_deleted AFTER DELETE ON requests
        FOR EACH ROW WHEN (OLD.state = 'live')
        EXECUTE FUNCTION ordu_tell_row('request', 'id');
    CREATE TRIGGER ordu_worker_told AFTER INSERT OR DELETE ON workers
        FOR EACH ROW EXECUTE FUNCTION ordu_tell_row('worker', 'id');
    CREATE TRIGGER ordu_worker_changed AFTER UPDATE OF
            name, paused, maintenance, maintenance_message, info, team, last_check_in ON workers
        FOR EACH ROW EXECUTE FUNCTION ordu_tell_row('worker', 'id');
    CREATE TRIGGER ordu_user_changed AFTER UPDATE OF
            username, key_hash, moderator, trusted, concurrency, deleted ON users
        FOR EACH ROW EXECUTE FUNCTION ordu_tell_row('user', 'id');
    CREATE TRIGGER ordu_setting_changed AFTER INSERT OR UPDATE ON settings
        FOR EACH ROW EXECUTE FUNCTION ordu_tell_row('setting', 'name');
    CREATE TRIGGER ordu_shared_key_changed AFTER DELETE OR UPDATE OF
            name, expires ON shared_keys
        FOR EACH ROW EXECUTE FUNCTION ordu_tell_row('shared_key', 'id')";

/// Without it, one node alone pays nothing for what nobody reads.
const DROP_TRIGGERS: &str = "
    DROP FUNCTION IF EXISTS ordu_tell_all() CASCADE;
    DROP FUNCTION IF EXISTS ordu_tell_row() CASCADE;
    DELETE FROM changes";

const MOMENT: &str = "
    SELECT CAST(pg_current_snapshot() AS TEXT)";

/// What the snapshot `$1` did not see and node `$2` did not do, with the snapshot of this look. The
/// first condition is the one that an index serves.
const READ: &str = "
    SELECT CAST(pg_current_snapshot() AS TEXT), c.noun, c.subject, c.happened_at
    FROM (SELECT 1) AS look LEFT JOIN (
        SELECT noun, subject, MIN(happened_at) AS happened_at
        FROM changes
        WHERE xact >= CAST(CAST(pg_snapshot_xmin(CAST($1 AS pg_snapshot)) AS TEXT) AS BIGINT)
            AND NOT pg_visible_in_snapshot(
                CAST(CAST(xact AS TEXT) AS xid8), CAST($1 AS pg_snapshot))
            AND node IS DISTINCT FROM $2
        GROUP BY noun, subject) AS c ON TRUE";

const DELETE_OLD: &str = "
    DELETE FROM changes
    WHERE happened_at < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - $1";

/// Channels belong to the whole database, schemas do not.
const CHANNEL: &str = "
    SELECT 'ordu_' || md5(current_schema())";

const NOTIFY: &str = "
    SELECT pg_notify('ordu_' || md5(current_schema()), $1)";

/// The longest text that can be told to other nodes, in bytes.
pub const MAX_WORD: usize = 7_900;

/// What a reader of the change log has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(String);

/// What changed since the last look, without what the reader itself changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Which things, by what they are.
    pub subjects: BTreeMap<Noun, BTreeSet<String>>,
    /// When the first of it was written, in milliseconds by the clock of the database.
    pub oldest: Option<i64>,
}

/// What kinds of things nodes tell each other about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// A request with its jobs.
    Request,
    /// A worker: new, changed, checked in or gone.
    Worker,
    /// An account.
    User,
    /// A setting.
    Setting,
    /// A shared key.
    SharedKey,
}

impl Noun {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "request" => Self::Request,
            "worker" => Self::Worker,
            "user" => Self::User,
            "setting" => Self::Setting,
            "shared_key" => Self::SharedKey,
            _ => return None,
        })
    }
}

/// What another node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// There may be something in the change log.
    Look,
    /// Something that is not stored.
    Said(String),
}

/// Hears what other nodes say.
#[derive(Debug)]
pub struct Listener {
    ear: PgListener,
    own: String,
}

impl Listener {
    /// Waits for the next word. While the connection is away words are lost: who must know looks
    /// into the change log now and then.
    pub async fn next(&mut self) -> Result<Word> {
        loop {
            let heard = self.ear.recv().await?;
            // Who says nothing else says that there is something in the change log.
            let (node, word) = heard.payload().split_once(' ').unwrap_or_default();
            match word {
                _ if node == self.own => {}
                "" => return Ok(Word::Look),
                said => return Ok(Word::Said(said.to_owned())),
            }
        }
    }
}

/// What is seen with a line, its noun, its subject and when it was written; without a line the first
/// alone.
type ChangeRow = (String, Option<String>, Option<String>, Option<i64>);

impl Store {
    /// Has every change told from now on, whoever makes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the database cannot be shared.
    pub async fn tell_changes(&self) -> Result<()> {
        self.check_shared()?;
        let mut connection = self.pool.begin().await?;
        let made = async {
            let _: Option<(i32,)> = connection.one(LOCK, args![]).await?;
            let found: Option<(i64,)> = connection.one(HAS_TRIGGERS, args![]).await?;
            if found.is_none_or(|(count,)| count == 0) {
                connection.plain(MAKE_TRIGGERS).await?;
            }
            Ok(())
        };
        let made = made.await;
        connection.end(made).await
    }

    /// Ends [`Self::tell_changes`]: one node alone needs no change log.
    pub async fn stop_telling_changes(&self) -> Result<()> {
        if self.pool.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let mut connection = self.pool.begin().await?;
        let dropped = async {
            let _: Option<(i32,)> = connection.one(LOCK, args![]).await?;
            let found: Option<(i64,)> = connection.one(HAS_TRIGGERS, args![]).await?;
            if found.is_some_and(|(count,)| count > 0) {
                connection.plain(DROP_TRIGGERS).await?;
            }
            Ok(())
        };
        let dropped = dropped.await;
        connection.end(dropped).await
    }

    /// What is read after this needs no look into the change log.
    pub async fn seen_by_now(&self) -> Result<Seen> {
        self.check_shared()?;
        let row: Option<(String,)> = self.pool.one(MOMENT, args![]).await?;
        let (snapshot,) = row.ok_or(Error::NotFound)?;
        Ok(Seen(snapshot))
    }

    /// What others than `node` changed that was not seen yet, and what is seen with it.
    pub async fn read_changes(&self, seen: &Seen, node: Uuid) -> Result<(Changed, Seen)> {
        self.check_shared()?;
        let values = args![seen.0.clone(), node];
        let rows: Vec<ChangeRow> = self.pool.all(READ, values).await?;
        let mut changed = Changed::default();
        let mut now = seen.clone();
        for (snapshot, noun, subject, at) in rows {
            now = Seen(snapshot);
            // What a newer program tells of and this one does not know, it keeps no copy of.
            if let (Some(noun), Some(subject)) =
                (noun.as_deref().and_then(Noun::from_name), subject)
            {
                changed.subjects.entry(noun).or_default().insert(subject);
                changed.oldest = changed.oldest.into_iter().chain(at).min();
            }
        }
        Ok((changed, now))
    }

    /// Deletes what every node has read by now; says how much that was.
    pub async fn delete_changes(&self, older_than: Millis) -> Result<u64> {
        self.check_shared()?;
        self.pool.execute(DELETE_OLD, args![older_than.0]).await
    }

    /// Says something to the other nodes that is not stored: it may get lost. At most [`MAX_WORD`]
    /// bytes.
    pub async fn say(&self, word: &str) -> Result<()> {
        self.check_shared()?;
        if word.len() > MAX_WORD || word.contains('\0') {
            return Err(Error::Invalid("too long to be said".to_owned()));
        }
        say(&self.pool, word).await
    }

    /// Hears what other nodes say from now on.
    pub async fn listen(&self) -> Result<Listener> {
        let row: Option<(String,)> = self.pool.one(CHANNEL, args![]).await?;
        let (channel,) = row.ok_or(Error::NotFound)?;
        let mut listener = self.pool.listener().await?;
        listener.listen(&channel).await?;
        let own = self.pool.node().map(|node| node.to_string());
        Ok(Listener {
            ear: listener,
            own: own.unwrap_or_default(),
        })
    }

    fn check_shared(&self) -> Result<()> {
        match self.pool.dialect() {
            Dialect::Postgres => Ok(()),
            Dialect::Sqlite => Err(Error::Invalid(
                "several nodes need a PostgreSQL database".to_owned(),
            )),
        }
    }
}

async fn say(pool: &Pool, word: &str) -> Result<()> {
    // Not by `Pool::execute`, which would have this very thing announced.
    let node = pool.node().unwrap_or_default();
    let said = format!("{node} {word}");
    pool.writer().await?.execute(NOTIFY, args![said]).await?;
    Ok(())
}

/// Tells the other nodes that something was written, until the store is closed. Many writes in
/// quick succession are announced once; a notice apart from the writes spares these the lock that
/// notices take at their commit.
pub(crate) async fn announce(
    pool: std::sync::Weak<Pool>,
    written: Arc<tokio::sync::Notify>,
    mut closing: tokio::sync::watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = closing.changed() => return,
            () = written.notified() => {}
        }
        let Some(pool) = pool.upgrade() else {
            return;
        };
        if let Err(error) = say(&pool, "").await {
            tracing::debug!(%error, "other nodes find out by themselves");
        }
    }
}
