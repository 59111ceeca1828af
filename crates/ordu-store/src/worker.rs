//! Workers of every kind.

use ordu_api::worker::WorkKind;
use ordu_api::{TeamId, UserId, WorkerId};
use ordu_core::{Kudos, Timestamp};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::pool::args;
use crate::writer::{Kind, Statements, Write};
use crate::{Store, json};

/// A worker that checks in for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorker {
    /// Its id.
    pub id: WorkerId,
    /// Its name, unique among all kinds.
    pub name: String,
    /// Its kind.
    pub kind: WorkKind,
    /// Who runs it.
    pub owner: UserId,
    /// Which program it is.
    pub agent: String,
    /// What it says it can do, as JSON.
    pub declared: String,
    /// From where.
    pub ip: Option<String>,
    /// When.
    pub created: Timestamp,
}

/// A worker as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its id.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: WorkKind,
    /// Who runs it.
    pub owner: UserId,
    /// Which program it is.
    pub agent: String,
    /// What it said it can do, as JSON.
    pub declared: String,
    /// Gets no jobs.
    pub paused: bool,
    /// Serves only its owner.
    pub maintenance: bool,
    /// What its owner is told while in maintenance.
    pub maintenance_message: Option<String>,
    /// What its owner says about it.
    pub info: Option<String>,
    /// Its team.
    pub team: Option<TeamId>,
    /// From where it last came.
    pub ip: Option<String>,
    /// When it first came.
    pub created: Timestamp,
    /// When it last came.
    pub last_check_in: Timestamp,
    /// Seconds online.
    pub uptime: i64,
    /// Jobs it dropped.
    pub uncompleted: i64,
    /// Earned by being there.
    pub kudos_uptime: Kudos,
    /// Jobs done, as far as folded.
    pub fulfilled: i64,
    /// Things made (pixelsteps, tokens), as far as folded.
    pub things: i64,
    /// Earned by jobs, as far as folded.
    pub kudos_generated: Kudos,
    /// Raw units a second of its newest jobs, oldest first.
    pub speeds: Vec<f64>,
    /// Jobs it dropped lately, and since when that is counted.
    pub drops: (i64, Timestamp),
}

/// What is new about a worker; the newest replaces what was not written yet.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckIn {
    /// The worker.
    pub worker: WorkerId,
    /// When.
    pub at: Timestamp,
    /// Which program it is.
    pub agent: String,
    /// What it says it can do, as JSON.
    pub declared: String,
    /// From where.
    pub ip: Option<String>,
    /// Seconds online, all in all.
    pub uptime: i64,
    /// Jobs it dropped, all in all.
    pub uncompleted: i64,
    /// Earned by being there, all in all.
    pub kudos_uptime: Kudos,
    /// Raw units a second of its newest jobs, oldest first.
    pub speeds: Vec<f64>,
    /// Jobs it dropped lately, and since when that is counted.
    pub drops: (i64, Timestamp),
}

/// What to change about a worker; `None` stays as it is. An empty text removes the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `Worker`")]
pub struct WorkerChange {
    pub name: Option<String>,
    pub paused: Option<bool>,
    pub maintenance: Option<bool>,
    pub maintenance_message: Option<String>,
    pub info: Option<String>,
    /// Inside: `None` to leave its team.
    pub team: Option<Option<TeamId>>,
}

#[derive(Debug, FromRow)]
struct WorkerRow {
    id: Uuid,
    name: String,
    kind: String,
    owner: i64,
    agent: String,
    declared: String,
    paused: bool,
    maintenance: bool,
    maintenance_message: Option<String>,
    info: Option<String>,
    team: Option<Uuid>,
    ip: Option<String>,
    created: i64,
    last_check_in: i64,
    uptime: i64,
    uncompleted: i64,
    kudos_uptime: i64,
    fulfilled: i64,
    things: i64,
    kudos_generated: i64,
    speeds: String,
    drops: i64,
    drops_since: i64,
}

impl WorkerRow {
    fn into_worker(self) -> Result<Worker> {
        let kind = self.kind.parse();
        Ok(Worker {
            id: WorkerId::from_uuid(self.id),
            name: self.name,
            kind: kind.map_err(|_| Error::corrupt("workers.kind", &self.kind))?,
            owner: UserId::new(self.owner)
                .ok_or_else(|| Error::corrupt("workers.owner", &self.owner.to_string()))?,
            agent: self.agent,
            declared: self.declared,
            paused: self.paused,
            maintenance: self.maintenance,
            maintenance_message: self.maintenance_message,
            info: self.info,
            team: self.team.map(TeamId::from_uuid),
            ip: self.ip,
            created: Timestamp(self.created),
            last_check_in: Timestamp(self.last_check_in),
            uptime: self.uptime,
            uncompleted: self.uncompleted,
            kudos_uptime: Kudos::from_milli(self.kudos_uptime),
            fulfilled: self.fulfilled,
            things: self.things,
            kudos_generated: Kudos::from_milli(self.kudos_generated),
            // Speeds are made anew: what cannot be read is not worth an error.
            speeds: serde_json::from_str(&self.speeds).unwrap_or_default(),
            drops: (self.drops, Timestamp(self.drops_since)),
        })
    }
}

/// A check-in as the statements take it.
#[derive(Debug, Serialize)]
pub(crate) struct CheckInRow<'a> {
    id: String,
    at: i64,
    agent: &'a str,
    declared: &'a str,
    ip: Option<&'a str>,
    uptime: i64,
    uncompleted: i64,
    kudos_uptime: i64,
    speeds: String,
    drops: i64,
    drops_since: i64,
}

impl CheckIn {
    pub(crate) fn row(&self) -> CheckInRow<'_> {
        CheckInRow {
            id: json::hex(self.worker.uuid()),
            at: self.at.0,
            agent: &self.agent,
            declared: &self.declared,
            ip: self.ip.as_deref(),
            uptime: self.uptime,
            uncompleted: self.uncompleted,
            kudos_uptime: self.kudos_uptime.milli(),
            speeds: serde_json::to_string(&self.speeds).unwrap_or_else(|_| "[]".to_owned()),
            drops: self.drops.0,
            drops_since: self.drops.1.0,
        }
    }
}

/// Of what only grows the most counts: a node may know less than another one wrote.
pub(crate) const WRITE_CHECK_INS_SQLITE: &str = "
    UPDATE workers
    SET last_check_in = MAX(last_check_in, i.value ->> 'at'),
        agent = i.value ->> 'agent',
        declared = i.value ->> 'declared',
        ip = i.value ->> 'ip',
        uptime = MAX(uptime, i.value ->> 'uptime'),
        uncompleted = MAX(uncompleted, i.value ->> 'uncompleted'),
        kudos_uptime = MAX(kudos_uptime, i.value ->> 'kudos_uptime'),
        speeds = i.value ->> 'speeds',
        drops = i.value ->> 'drops',
        drops_since = i.value ->> 'drops_since'
    FROM json_each($1) AS i
    WHERE workers.id = unhex(i.value ->> 'id')";

pub(crate) const WRITE_CHECK_INS_POSTGRES: &str = "
    UPDATE workers AS w
    SET last_check_in = GREATEST(w.last_check_in, i.at),
        agent = i.agent,
        declared = i.declared,
        ip = i.ip,
        uptime = GREATEST(w.uptime, i.uptime),
        uncompleted = GREATEST(w.uncompleted, i.uncompleted),
        kudos_uptime = GREATEST(w.kudos_uptime, i.kudos_uptime),
        speeds = i.speeds,
        drops = i.drops,
        drops_since = i.drops_since
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (
        id UUID, at BIGINT, agent TEXT, declared TEXT, ip TEXT, uptime BIGINT,
        uncompleted BIGINT, kudos_uptime BIGINT, speeds TEXT, drops BIGINT,
        drops_since BIGINT)
    WHERE w.id = i.id";

/// A new worker as the statements take it.
#[derive(Debug, Serialize)]
struct InsertRow<'a> {
    id: String,
    name: &'a str,
    name_folded: String,
    kind: &'a str,
    owner: i64,
    agent: &'a str,
    declared: &'a str,
    ip: Option<&'a str>,
    created: i64,
}

/// Rows: [`InsertRow`]. On PostgreSQL whoever inserts a name that another transaction has inserted waits
/// for its end: all insert in one order, so that none waits for one that waits for it.
pub(crate) const INSERT: Statements = Statements {
    postgres: "
    INSERT INTO workers
        (id, name, name_folded, kind, owner, agent, declared, ip, created, last_check_in)
    SELECT id, name, name_folded, kind, owner, agent, declared, ip, created, created
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (
        id UUID, name TEXT, name_folded TEXT, kind TEXT, owner BIGINT, agent TEXT,
        declared TEXT, ip TEXT, created BIGINT)
    ORDER BY name
    ON CONFLICT (name) DO NOTHING
    RETURNING id",
    sqlite: "
    INSERT INTO workers
        (id, name, name_folded, kind, owner, agent, declared, ip, created, last_check_in)
    SELECT unhex(value ->> 'id'), value ->> 'name', value ->> 'name_folded', value ->> 'kind',
        value ->> 'owner', value ->> 'agent', value ->> 'declared', value ->> 'ip',
        value ->> 'created', value ->> 'created'
    FROM jsonb_each($1)
    WHERE TRUE
    ON CONFLICT (name) DO NOTHING",
    sqlite_returning: Some("RETURNING id"),
    sqlite_then: &[],
    parts: 1,
};

/// The members of [`WorkerRow`], before a condition.
macro_rules! select_workers {
    ($condition:literal) => {
        concat!(
            "
    SELECT id, name, kind, owner, agent, declared, paused, maintenance, maintenance_message,
        info, team, ip, created, last_check_in, uptime, uncompleted, kudos_uptime, fulfilled,
        things, kudos_generated, speeds, drops, drops_since
    FROM workers
    ",
            $condition
        )
    };
}

const FIND: &str = select_workers!("WHERE id = $1");
const FIND_BY_NAME: &str = select_workers!("WHERE name = $1");
const LIST_BY_FOLDED_NAME: &str = select_workers!("WHERE name_folded = $1 ORDER BY name");
const LIST_BY_OWNER: &str = select_workers!("WHERE owner = $1 ORDER BY created, id");
const LIST: &str = select_workers!("ORDER BY created, id");

const UPDATE: &str = "
    UPDATE workers
    SET name = COALESCE($2, name),
        name_folded = COALESCE($3, name_folded),
        paused = COALESCE($4, paused),
        maintenance = COALESCE($5, maintenance),
        maintenance_message = NULLIF(COALESCE($6, maintenance_message), ''),
        info = NULLIF(COALESCE($7, info), ''),
        team = CASE WHEN $8 THEN $9 ELSE team END
    WHERE id = $1";

const DELETE: &str = "
    DELETE FROM workers
    WHERE id = $1 AND NOT EXISTS (SELECT 1
                                  FROM jobs
                                  WHERE jobs.worker = workers.id AND jobs.state = 'assigned')";

const DELETE_SUSPICIONS: &str = "
    DELETE FROM suspicions
    WHERE worker = $1";

const DELETE_PROBLEM_JOBS: &str = "
    DELETE FROM problem_jobs
    WHERE worker = $1";

const DELETE_MESSAGES: &str = "
    DELETE FROM worker_messages
    WHERE worker = $1";

impl Store {
    /// Writes a new worker.
    ///
    /// # Errors
    /// [`Error::Taken`] when a worker of any kind has its name.
    pub async fn insert_worker(&self, worker: &NewWorker) -> Result<()> {
        let token = worker.id.uuid();
        let row = InsertRow {
            id: json::hex(token),
            name: &worker.name,
            name_folded: worker.name.to_lowercase(),
            kind: worker.kind.name(),
            owner: worker.owner.get(),
            agent: &worker.agent,
            declared: &worker.declared,
            ip: worker.ip.as_deref(),
            created: worker.created.0,
        };
        let write = Write {
            kind: Kind::Enlist,
            key: token,
            token,
            row: json::object(&row)?,
            first: String::new(),
            second: String::new(),
        };
        let inserted = self.writer.write(write).await?;
        inserted.then_some(()).ok_or(Error::Taken)
    }

    /// One worker.
    pub async fn find_worker(&self, id: WorkerId) -> Result<Option<Worker>> {
        let row: Option<WorkerRow> = self.pool.one(FIND, args![id.uuid()]).await?;
        row.map(WorkerRow::into_worker).transpose()
    }

    /// The worker with exactly this name.
    pub async fn find_worker_by_name(&self, name: &str) -> Result<Option<Worker>> {
        let row: Option<WorkerRow> = self.pool.one(FIND_BY_NAME, args![name]).await?;
        row.map(WorkerRow::into_worker).transpose()
    }

    /// The workers with this name in any mixture of capitals.
    pub async fn list_workers_named(&self, name: &str) -> Result<Vec<Worker>> {
        let rows = self
            .pool
            .all(LIST_BY_FOLDED_NAME, args![name.to_lowercase()])
            .await?;
        rows.into_iter().map(WorkerRow::into_worker).collect()
    }

    /// The workers of one user, oldest first.
    pub async fn list_workers_of(&self, owner: UserId) -> Result<Vec<Worker>> {
        let rows = self.pool.all(LIST_BY_OWNER, args![owner.get()]).await?;
        rows.into_iter().map(WorkerRow::into_worker).collect()
    }

    /// All workers, oldest first.
    pub async fn list_workers(&self) -> Result<Vec<Worker>> {
        let rows = self.pool.all(LIST, args![]).await?;
        rows.into_iter().map(WorkerRow::into_worker).collect()
    }

    /// Changes a worker.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Taken`] when another worker has the new name.
    pub async fn update_worker(&self, id: WorkerId, change: &WorkerChange) -> Result<()> {
        let values = args![
            id.uuid(),
            change.name.clone(),
            change.name.as_deref().map(str::to_lowercase),
            change.paused,
            change.maintenance,
            change.maintenance_message.clone(),
            change.info.clone(),
            change.team.is_some(),
            change.team.flatten().map(TeamId::uuid),
        ];
        found(self.pool.execute(UPDATE, values).await?)
    }

    /// Notes what a worker said; written within a second or so, lost in a crash.
    pub fn check_in_later(&self, check_in: CheckIn) {
        self.behind.check_in(check_in);
    }

    /// Deletes a worker that has no running job, with what speaks against it. Its finished jobs
    /// stay. Says whether it did.
    pub async fn delete_worker(&self, id: WorkerId) -> Result<bool> {
        let mut connection = self.pool.begin().await?;
        let deleted = async {
            let deleted = connection.execute(DELETE, args![id.uuid()]).await? > 0;
            if deleted {
                let suspicions = args![id.to_string()];
                connection.execute(DELETE_SUSPICIONS, suspicions).await?;
                connection
                    .execute(DELETE_PROBLEM_JOBS, args![id.uuid()])
                    .await?;
                connection
                    .execute(DELETE_MESSAGES, args![id.uuid()])
                    .await?;
            }
            Ok(deleted)
        }
        .await;
        let deleted = connection.end(deleted).await?;
        if deleted {
            self.behind.forget(id);
        }
        Ok(deleted)
    }
}

/// Whether a change found what it was to change.
pub(crate) fn found(rows: u64) -> Result<()> {
    if rows == 0 {
        Err(Error::NotFound)
    } else {
        Ok(())
    }
}
