//! The units that workers are given: claimed, settled or failed.

use ordu_api::{JobId, RequestId, WorkerId};
use ordu_core::ledger::Event;
use ordu_core::{Kudos, Millis, Timestamp};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::pool::args;
use crate::stats::{Activity, INSERT_ACTIVITY_SQLITE};
use crate::webhook::{self, NewWebhook, WebhookRow};
use crate::writer::{Kind, Part, Pending, Statements, Write};
use crate::{Store, json, ledger, stats};

/// A job that a worker is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// The worker.
    pub worker: WorkerId,
    /// Which of the request's slots, from 0. Two unfailed jobs never have the same; `None` when
    /// slots do not differ.
    pub slot: Option<u32>,
    /// The seed it is made from.
    pub seed: Option<i64>,
    /// The model, or the form.
    pub model: String,
    /// When.
    pub assigned_at: Timestamp,
    /// After how long it counts as lost.
    pub ttl: Millis,
}

/// Jobs of one request for one worker: claimed all or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The request.
    pub request: RequestId,
    /// Until when it lives at least.
    pub expires: Timestamp,
    /// One job a slot.
    pub jobs: Vec<NewJob>,
}

/// How a claim went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The jobs exist now.
    Won,
    /// The request ended or its slots are taken: nothing was written.
    Lost,
}

/// What a delivered job moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// The job.
    pub job: JobId,
    /// Its request.
    pub request: RequestId,
    /// The delivered generation as JSON.
    pub result: String,
    /// When.
    pub at: Timestamp,
    /// Until when the request lives at least.
    pub expires: Timestamp,
    /// What the job is worth.
    pub kudos: Kudos,
    /// What it adds to the request's consumption.
    pub consumed: Kudos,
    /// The kudos it moves.
    pub event: Option<Event>,
    /// What it adds to the statistics.
    pub activity: Option<Activity>,
    /// What the requester is to be told of it.
    pub webhook: Option<NewWebhook>,
}

/// How a settlement went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Now, by this call.
    Now,
    /// The job was not waiting for a result; nothing moved. Says what it is instead.
    Already(JobState),
    /// There is no such job, or no longer; nothing moved.
    Unknown,
}

/// How a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The job.
    pub job: JobId,
    /// Its request.
    pub request: RequestId,
    /// When.
    pub at: Timestamp,
    /// How, and what becomes of its slot.
    pub how: Faulted,
}

/// What a failed job leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faulted {
    /// The slot goes to another worker; the failure counts against the request.
    Retry,
    /// The slot goes to another worker; the failure does not count: it never began, or was lost.
    Release,
    /// The slot is given up: what was asked for there failed too often, the rest goes on.
    GiveUpSlot,
    /// The request is given up with it.
    GiveUp,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// At its worker.
    Assigned,
    /// Delivered and settled.
    Done,
    /// Failed.
    Faulted,
    /// Dropped, because it was released or its request ended.
    Aborted,
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `NewJob` and `Settlement`")]
pub struct Job {
    pub id: JobId,
    pub request: RequestId,
    pub worker: WorkerId,
    pub slot: Option<u32>,
    pub seed: Option<i64>,
    pub model: String,
    pub assigned_at: Timestamp,
    pub ttl: Millis,
    pub state: JobState,
    pub finished_at: Option<Timestamp>,
    pub result: Option<String>,
    pub kudos: Option<Kudos>,
}

impl JobState {
    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Done => "done",
            Self::Faulted => "faulted",
            Self::Aborted => "aborted",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        [Self::Assigned, Self::Done, Self::Faulted, Self::Aborted]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| Error::corrupt("jobs.state", name))
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct JobRow {
    id: Uuid,
    request: Uuid,
    worker: Uuid,
    slot: Option<i64>,
    seed: Option<i64>,
    model: String,
    assigned_at: i64,
    ttl: i64,
    state: String,
    finished_at: Option<i64>,
    result: Option<String>,
    kudos: Option<i64>,
}

impl JobRow {
    pub(crate) fn into_job(self) -> Result<Job> {
        Ok(Job {
            id: JobId::from_uuid(self.id),
            request: RequestId::from_uuid(self.request),
            worker: WorkerId::from_uuid(self.worker),
            slot: self.slot.and_then(|slot| u32::try_from(slot).ok()),
            seed: self.seed,
            model: self.model,
            assigned_at: Timestamp(self.assigned_at),
            ttl: Millis(self.ttl),
            state: JobState::from_name(&self.state)?,
            finished_at: self.finished_at.map(Timestamp),
            result: self.result,
            kudos: self.kudos.map(Kudos::from_milli),
        })
    }
}

#[derive(Debug, Serialize)]
struct ClaimRow {
    request: String,
    count: usize,
    expires: i64,
}

/// A new job as the statements take it.
#[derive(Debug, Serialize)]
pub(crate) struct NewJobRow<'a> {
    id: String,
    request: String,
    worker: String,
    slot: Option<u32>,
    seed: Option<i64>,
    model: &'a str,
    assigned_at: i64,
    ttl: i64,
}

impl Assignment {
    /// Its jobs.
    pub(crate) fn rows(&self) -> impl Iterator<Item = NewJobRow<'_>> {
        let request = json::hex(self.request.uuid());
        self.jobs.iter().map(move |job| NewJobRow {
            id: json::hex(job.id.uuid()),
            request: request.clone(),
            worker: json::hex(job.worker.uuid()),
            slot: job.slot,
            seed: job.seed,
            model: &job.model,
            assigned_at: job.assigned_at.0,
            ttl: job.ttl.0,
        })
    }
}

/// Rows: [`ClaimRow`], [`NewJobRow`]. A slot that is taken breaks `jobs_slot`.
pub(crate) const ASSIGN: Statements = Statements {
    postgres: "
    WITH i AS (
        SELECT request, count, expires
        FROM json_to_recordset(CAST($1 AS JSON)) AS i (
            request UUID, count BIGINT, expires BIGINT)
    ), held AS (
        SELECT r.id
        FROM requests AS r
        WHERE r.id IN (SELECT request FROM i)
        ORDER BY r.id
        FOR NO KEY UPDATE
    ), won AS (
        UPDATE requests AS r
        SET open = r.open - i.count,
            running = r.running + i.count,
            expires = GREATEST(r.expires, i.expires)
        FROM i JOIN held ON held.id = i.request
        WHERE r.id = i.request AND r.state || '' = 'live' AND r.open >= i.count
        RETURNING r.id
    ), claimed AS (
        INSERT INTO jobs (id, request, worker, slot, seed, model, assigned_at, ttl)
        SELECT j.id, j.request, j.worker, j.slot, j.seed, j.model, j.assigned_at, j.ttl
        FROM json_to_recordset(CAST($2 AS JSON)) AS j (
            id UUID, request UUID, worker UUID, slot BIGINT, seed BIGINT, model TEXT,
            assigned_at BIGINT, ttl BIGINT)
        JOIN won ON won.id = j.request
    )
    SELECT id FROM won",
    sqlite: "
    UPDATE requests
    SET open = open - (i.value ->> 'count'),
        running = running + (i.value ->> 'count'),
        expires = MAX(expires, i.value ->> 'expires')
    FROM jsonb_each($1) AS i
    WHERE requests.id = unhex(i.value ->> 'request') AND requests.state = 'live'
        AND requests.open >= (i.value ->> 'count')",
    sqlite_returning: Some("RETURNING requests.id"),
    sqlite_then: &[(
        Part::First,
        "
    INSERT INTO jobs (id, request, worker, slot, seed, model, assigned_at, ttl)
    SELECT unhex(value ->> 'id'), unhex(value ->> 'request'), unhex(value ->> 'worker'),
        value ->> 'slot', value ->> 'seed', value ->> 'model', value ->> 'assigned_at',
        value ->> 'ttl'
    FROM jsonb_each($1)",
    )],
    parts: 2,
};

#[derive(Debug, Serialize)]
struct SettleRow<'a> {
    job: String,
    request: String,
    result: &'a str,
    at: i64,
    expires: i64,
    kudos: i64,
    consumed: i64,
    #[serde(flatten)]
    webhook: Option<WebhookRow<'a>>,
}

/// Rows: [`SettleRow`], ledger entries, activities. Whoever turns the job `done` has won.
pub(crate) const SETTLE: Statements = Statements {
    postgres: "
    WITH i AS (
        SELECT job, request, result, at, expires, kudos, consumed, hook_owner, hook_turn, hook_url,
            hook_host, hook_payload
        FROM json_to_recordset(CAST($1 AS JSON)) AS i (
            job UUID, request UUID, result TEXT, at BIGINT, expires BIGINT, kudos BIGINT,
            consumed BIGINT, hook_owner BIGINT, hook_turn BIGINT, hook_url TEXT, hook_host TEXT,
            hook_payload TEXT)
    ), held AS (
        SELECT r.id
        FROM requests AS r
        WHERE r.id IN (SELECT request FROM i)
        ORDER BY r.id
        FOR NO KEY UPDATE
    ), won AS (
        UPDATE jobs AS j
        SET state = 'done', result = i.result, kudos = i.kudos, finished_at = i.at
        FROM i JOIN held ON held.id = i.request
        WHERE j.id = i.job AND j.request = i.request AND j.state || '' = 'assigned'
        RETURNING j.id
    ), counted AS (
        UPDATE requests AS r
        SET done = r.done + 1,
            running = r.running - 1,
            consumed = r.consumed + i.consumed,
            expires = GREATEST(r.expires, i.expires),
            state = CASE WHEN r.state = 'live' AND r.open = 0 AND r.running = 1 THEN 'finished'
                         ELSE r.state END
        FROM won JOIN i ON i.job = won.id
        WHERE r.id = i.request
    ), entries AS (
        INSERT INTO ledger
            (event, reason, line, source, target, amount, kind, happened_at)
        SELECT e.event, e.reason, e.line, e.source, e.target, e.amount, e.kind, e.at
        FROM json_to_recordset(CAST($2 AS JSON)) AS e (
            token UUID, event UUID, reason TEXT, line BIGINT, source BIGINT, target BIGINT,
            amount BIGINT, kind TEXT, at BIGINT)
        JOIN won ON won.id = e.token
    ), activities AS (
        INSERT INTO activity
            (event, happened_at, kind, requester, usage, owner, worker, things, worker_kudos,
             style_owner, model, team)
        SELECT a.event, a.at, a.kind, a.requester, a.usage, a.owner, a.worker, a.things,
            a.worker_kudos, a.style_owner, a.model, a.team
        FROM json_to_recordset(CAST($3 AS JSON)) AS a (
            token UUID, event UUID, at BIGINT, kind TEXT, requester BIGINT, usage BIGINT,
            owner BIGINT, worker UUID, things BIGINT, worker_kudos BIGINT, style_owner BIGINT,
            model TEXT, team UUID)
        JOIN won ON won.id = a.token
        ON CONFLICT (event) DO NOTHING
    ), told AS (
        INSERT INTO webhooks
            (id, request, owner, turn, url, host, payload, created, due)
        SELECT i.job, i.request, i.hook_owner, i.hook_turn, i.hook_url, i.hook_host,
            i.hook_payload, i.at, i.at
        FROM won JOIN i ON i.job = won.id
        WHERE i.hook_url IS NOT NULL
    ), charges AS (
        INSERT INTO shared_key_charges (event, shared_key, amount, happened_at)
        SELECT i.job, r.shared_key, i.consumed, i.at
        FROM won JOIN i ON i.job = won.id JOIN requests AS r ON r.id = i.request
            JOIN shared_keys AS k ON k.id = r.shared_key AND k.owner = r.owner
    )
    SELECT id FROM won",
    sqlite: "
    UPDATE jobs
    SET state = 'done',
        result = i.value ->> 'result',
        kudos = i.value ->> 'kudos',
        finished_at = i.value ->> 'at'
    FROM jsonb_each($1) AS i
    WHERE jobs.id = unhex(i.value ->> 'job') AND jobs.request = unhex(i.value ->> 'request')
        AND jobs.state = 'assigned'",
    sqlite_returning: Some("RETURNING jobs.id"),
    sqlite_then: &[
        (
            Part::Row,
            "
    UPDATE requests
    SET done = done + 1,
        running = running - 1,
        consumed = consumed + (i.value ->> 'consumed'),
        expires = MAX(expires, i.value ->> 'expires'),
        state = CASE WHEN state = 'live' AND open = 0 AND running = 1 THEN 'finished'
                     ELSE state END
    FROM jsonb_each($1) AS i
    WHERE requests.id = unhex(i.value ->> 'request')",
        ),
        (Part::First, ledger::INSERT_ENTRIES_SQLITE),
        (Part::Second, INSERT_ACTIVITY_SQLITE),
        (Part::Row, webhook::INSERT_SQLITE),
        (
            Part::Row,
            "
    INSERT INTO shared_key_charges (event, shared_key, amount, happened_at)
    SELECT unhex(i.value ->> 'job'), r.shared_key, i.value ->> 'consumed', i.value ->> 'at'
    FROM jsonb_each($1) AS i JOIN requests AS r ON r.id = unhex(i.value ->> 'request')
        JOIN shared_keys AS k ON k.id = r.shared_key AND k.owner = r.owner",
        ),
    ],
    parts: 3,
};

#[derive(Debug, Serialize)]
struct FaultRow<'a> {
    job: String,
    request: String,
    at: i64,
    state: &'a str,
    faults: i64,
    /// How many slots open again: 0 or 1.
    reopened: i64,
    request_state: &'a str,
}

/// Rows: [`FaultRow`]. A request that is live takes its slot back, unless it was cancelled or the
/// slot is given up; a request of which nothing is left to do is finished.
pub(crate) const FAULT: Statements = Statements {
    postgres: "
    WITH i AS (
        SELECT job, request, at, state, faults, reopened, request_state
        FROM json_to_recordset(CAST($1 AS JSON)) AS i (
            job UUID, request UUID, at BIGINT, state TEXT, faults BIGINT, reopened BIGINT,
            request_state TEXT)
    ), held AS (
        SELECT r.id
        FROM requests AS r
        WHERE r.id IN (SELECT request FROM i)
        ORDER BY r.id
        FOR NO KEY UPDATE
    ), won AS (
        UPDATE jobs AS j
        SET state = i.state, finished_at = i.at
        FROM i JOIN held ON held.id = i.request
        WHERE j.id = i.job AND j.request = i.request AND j.state || '' = 'assigned'
        RETURNING j.id
    ), counted AS (
        UPDATE requests AS r
        SET running = r.running - 1,
            faults = r.faults + i.faults,
            open = CASE WHEN r.state <> 'live' OR r.cancelled OR i.request_state <> 'live' THEN 0
                        ELSE r.open + i.reopened END,
            state = CASE WHEN r.state <> 'live' THEN r.state
                         WHEN r.cancelled AND r.running = 1 THEN 'finished'
                         WHEN i.reopened = 0 AND r.open = 0 AND r.running = 1 THEN 'finished'
                         ELSE i.request_state END
        FROM won JOIN i ON i.job = won.id
        WHERE r.id = i.request
    )
    SELECT id FROM won",
    sqlite: "
    UPDATE jobs
    SET state = i.value ->> 'state', finished_at = i.value ->> 'at'
    FROM jsonb_each($1) AS i
    WHERE jobs.id = unhex(i.value ->> 'job') AND jobs.request = unhex(i.value ->> 'request')
        AND jobs.state = 'assigned'",
    sqlite_returning: Some("RETURNING jobs.id"),
    sqlite_then: &[(
        Part::Row,
        "
    UPDATE requests
    SET running = running - 1,
        faults = faults + (i.value ->> 'faults'),
        open = CASE WHEN state <> 'live' OR cancelled OR i.value ->> 'request_state' <> 'live' THEN 0
                    ELSE open + (i.value ->> 'reopened') END,
        state = CASE WHEN state <> 'live' THEN state
                     WHEN cancelled AND running = 1 THEN 'finished'
                     WHEN i.value ->> 'reopened' = 0 AND open = 0 AND running = 1 THEN 'finished'
                     ELSE i.value ->> 'request_state' END
    FROM jsonb_each($1) AS i
    WHERE requests.id = unhex(i.value ->> 'request')",
    )],
    parts: 1,
};

const FIND_JOB: &str = "
    SELECT id, request, worker, slot, seed, model, assigned_at, ttl, state, finished_at, result,
        kudos
    FROM jobs
    WHERE id = $1";

impl Store {
    /// Claims slots of one request for a worker: all of them, or none.
    pub async fn assign(&self, assignment: &Assignment) -> Result<Claim> {
        self.send_assignment(assignment)
            .await?
            .wait()
            .await
            .map(Claim::from_won)
    }

    /// Claims slots of several requests at once, each claim for itself.
    pub async fn assign_all(&self, assignments: &[Assignment]) -> Vec<Result<Claim>> {
        let mut pending = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            pending.push(self.send_assignment(assignment).await);
        }
        let mut claims = Vec::with_capacity(pending.len());
        for sent in pending {
            let won = match sent {
                Ok(answer) => answer.wait().await,
                Err(error) => Err(error),
            };
            claims.push(won.map(Claim::from_won));
        }
        claims
    }

    async fn send_assignment(&self, assignment: &Assignment) -> Result<Pending> {
        let token = assignment.request.uuid();
        let claim = ClaimRow {
            request: json::hex(token),
            count: assignment.jobs.len(),
            expires: assignment.expires.0,
        };
        let write = Write {
            kind: Kind::Assign,
            key: token,
            token,
            row: json::object(&claim)?,
            first: json::rows(assignment.rows())?,
            second: String::new(),
        };
        self.writer.send(write).await
    }

    /// Writes a result, its kudos and its statistics in one commit, once for a job.
    pub async fn settle(&self, settlement: &Settlement) -> Result<Settled> {
        let token = settlement.job.uuid();
        let row = SettleRow {
            job: json::hex(token),
            request: json::hex(settlement.request.uuid()),
            result: &settlement.result,
            at: settlement.at.0,
            expires: settlement.expires.0,
            kudos: settlement.kudos.milli(),
            consumed: settlement.consumed.milli(),
            webhook: settlement.webhook.as_ref().map(NewWebhook::row),
        };
        let write = Write {
            kind: Kind::Settle,
            key: settlement.request.uuid(),
            token,
            row: json::object(&row)?,
            first: ledger::entry_rows(token, settlement.event.as_slice())?,
            second: stats::row(token, settlement.activity.as_ref())?,
        };
        if self.writer.write(write).await? {
            return Ok(Settled::Now);
        }
        let job = self.find_job(settlement.job).await?;
        match job.map(|job| job.state) {
            // Another event with the job's id and reason is in the ledger.
            Some(JobState::Assigned) => Err(Error::Taken),
            Some(state) => Ok(Settled::Already(state)),
            None => Ok(Settled::Unknown),
        }
    }

    /// Notes that a job failed and gives its slot back, once for a job. Says whether it did.
    pub async fn fault(&self, fault: &Fault) -> Result<bool> {
        let token = fault.job.uuid();
        let (state, faults, reopened, request_state) = match fault.how {
            Faulted::Retry => ("faulted", 1, 1, "live"),
            Faulted::Release => ("aborted", 0, 1, "live"),
            Faulted::GiveUpSlot => ("faulted", 1, 0, "live"),
            Faulted::GiveUp => ("faulted", 1, 1, "faulted"),
        };
        let row = FaultRow {
            job: json::hex(token),
            request: json::hex(fault.request.uuid()),
            at: fault.at.0,
            state,
            faults,
            reopened,
            request_state,
        };
        let write = Write {
            kind: Kind::Fault,
            key: fault.request.uuid(),
            token,
            row: json::object(&row)?,
            first: String::new(),
            second: String::new(),
        };
        self.writer.write(write).await
    }

    /// One job, whatever became of it.
    pub async fn find_job(&self, id: JobId) -> Result<Option<Job>> {
        let row: Option<JobRow> = self.pool.one(FIND_JOB, args![id.uuid()]).await?;
        row.map(JobRow::into_job).transpose()
    }
}

impl Claim {
    const fn from_won(won: bool) -> Self {
        if won { Self::Won } else { Self::Lost }
    }
}
