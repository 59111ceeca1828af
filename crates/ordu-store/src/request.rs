//! What users asked for.

use std::time::Duration;

use ordu_api::worker::WorkKind;
use ordu_api::{RequestId, SharedKeyId, UserId};
use ordu_core::ledger::Event;
use ordu_core::{Kudos, Timestamp};
use serde::Serialize;
use sqlx::FromRow;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::job::{Assignment, Job, JobRow, NewJobRow};
use crate::pool::{Dialect, args};
use crate::stats::{Activity, INSERT_ACTIVITY_SQLITE};
use crate::writer::{Kind, Part, Statements, Write};
use crate::{Store, json, ledger, stats};

/// How long some requests may be read, as many and as large as they are; then the connection hangs.
const READING: Duration = Duration::from_mins(1);

/// Ended requests that one statement deletes at most.
const DELETE_BITE: i64 = 1000;

/// A request with what becomes durable together with it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRequest {
    /// Its id.
    pub id: RequestId,
    /// Who pays.
    pub owner: UserId,
    /// The kind of work.
    pub kind: WorkKind,
    /// The checked request as JSON.
    pub spec: String,
    /// How many results.
    pub n: u32,
    /// Larger goes first.
    pub priority: i64,
    /// When it came.
    pub created: Timestamp,
    /// When it is given up unless something happens.
    pub expires: Timestamp,
    /// Which program asked.
    pub client_agent: String,
    /// From where.
    pub ip: Option<String>,
    /// The shared key it came with.
    pub shared_key: Option<SharedKeyId>,
    /// What is held of the owner's kudos until it ends.
    pub hold: Kudos,
    /// What it consumed already, such as its activation.
    pub consumed: Kudos,
    /// The price of making it active.
    pub activation: Option<Event>,
    /// What it adds to the statistics.
    pub activity: Option<Activity>,
    /// What its requester was answered, if it may ask again with the same id.
    pub answer: Option<String>,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestState {
    /// Waits or is being worked on.
    Live,
    /// Nothing is left to do.
    Finished,
    /// Too many of its jobs failed.
    Faulted,
    /// Nobody served it in time.
    Expired,
}

/// A request as it is stored.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the members of `NewRequest`, unless described")]
pub struct Request {
    pub id: RequestId,
    pub owner: UserId,
    pub kind: WorkKind,
    pub spec: String,
    /// How many results are asked for; less after a cancellation.
    pub n: i64,
    /// Slots that no worker has.
    pub open: i64,
    /// Slots at workers.
    pub running: i64,
    /// Delivered results.
    pub done: i64,
    /// Failed jobs.
    pub faults: i64,
    pub priority: i64,
    pub created: Timestamp,
    pub expires: Timestamp,
    pub state: RequestState,
    /// Whether its client gave it up.
    pub cancelled: bool,
    pub client_agent: String,
    pub ip: Option<String>,
    pub shared_key: Option<SharedKeyId>,
    pub hold: Kudos,
    pub consumed: Kudos,
    /// Its jobs, oldest first.
    pub jobs: Vec<Job>,
}

impl RequestState {
    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Finished => "finished",
            Self::Faulted => "faulted",
            Self::Expired => "expired",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        [Self::Live, Self::Finished, Self::Faulted, Self::Expired]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| Error::corrupt("requests.state", name))
    }
}

#[derive(Debug, FromRow)]
struct RequestRow {
    id: Uuid,
    owner: i64,
    kind: String,
    spec: String,
    n: i64,
    open: i64,
    running: i64,
    done: i64,
    faults: i64,
    priority: i64,
    created: i64,
    expires: i64,
    state: String,
    cancelled: bool,
    client_agent: String,
    ip: Option<String>,
    shared_key: Option<Uuid>,
    hold: i64,
    consumed: i64,
}

impl RequestRow {
    fn into_request(self) -> Result<Request> {
        let kind = self.kind.parse();
        Ok(Request {
            id: RequestId::from_uuid(self.id),
            owner: UserId::new(self.owner)
                .ok_or_else(|| Error::corrupt("requests.owner", &self.owner.to_string()))?,
            kind: kind.map_err(|_| Error::corrupt("requests.kind", &self.kind))?,
            spec: self.spec,
            n: self.n,
            open: self.open,
            running: self.running,
            done: self.done,
            faults: self.faults,
            priority: self.priority,
            created: Timestamp(self.created),
            expires: Timestamp(self.expires),
            state: RequestState::from_name(&self.state)?,
            cancelled: self.cancelled,
            client_agent: self.client_agent,
            ip: self.ip,
            shared_key: self.shared_key.map(SharedKeyId::from_uuid),
            hold: Kudos::from_milli(self.hold),
            consumed: Kudos::from_milli(self.consumed),
            jobs: Vec::new(),
        })
    }
}

/// A new request as the statements take it.
#[derive(Debug, Serialize)]
struct InsertRow<'a> {
    id: String,
    owner: i64,
    kind: &'a str,
    spec: &'a str,
    n: u32,
    priority: i64,
    created: i64,
    expires: i64,
    client_agent: &'a str,
    ip: Option<&'a str>,
    shared_key: Option<String>,
    hold: i64,
    consumed: i64,
    answer: Option<&'a str>,
    /// How many of its slots are taken from the beginning, and by which jobs.
    taken: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<NewJobRow<'a>>,
}

/// Rows: [`InsertRow`], ledger entries, activities. A request comes with the jobs that are its own from
/// the beginning.
pub(crate) const INSERT: Statements = Statements {
    postgres: "
    WITH i AS (
        SELECT id, owner, kind, spec, n, priority, created, expires, client_agent, ip, shared_key,
            hold, consumed, answer, taken, jobs
        FROM json_to_recordset(CAST($1 AS JSON)) AS i (
            id UUID, owner BIGINT, kind TEXT, spec TEXT, n BIGINT, priority BIGINT,
            created BIGINT, expires BIGINT, client_agent TEXT, ip TEXT, shared_key UUID,
            hold BIGINT, consumed BIGINT, answer TEXT, taken BIGINT, jobs JSON)
    ), won AS (
        INSERT INTO requests
            (id, owner, kind, spec, n, open, running, priority, created, expires, client_agent,
             ip, shared_key, hold, consumed, answer)
        SELECT id, owner, kind, spec, n, n - taken, taken, priority, created, expires,
            client_agent, ip, shared_key, hold, consumed, answer
        FROM i
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    ), claimed AS (
        INSERT INTO jobs (id, request, worker, slot, seed, model, assigned_at, ttl)
        SELECT j.id, j.request, j.worker, j.slot, j.seed, j.model, j.assigned_at, j.ttl
        FROM won JOIN i ON i.id = won.id
            CROSS JOIN LATERAL json_to_recordset(i.jobs) AS j (
                id UUID, request UUID, worker UUID, slot BIGINT, seed BIGINT, model TEXT,
                assigned_at BIGINT, ttl BIGINT)
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
             style_owner, model)
        SELECT a.event, a.at, a.kind, a.requester, a.usage, a.owner, a.worker, a.things,
            a.worker_kudos, a.style_owner, a.model
        FROM json_to_recordset(CAST($3 AS JSON)) AS a (
            token UUID, event UUID, at BIGINT, kind TEXT, requester BIGINT, usage BIGINT,
            owner BIGINT, worker UUID, things BIGINT, worker_kudos BIGINT, style_owner BIGINT,
            model TEXT)
        JOIN won ON won.id = a.token
        ON CONFLICT (event) DO NOTHING
    ), charges AS (
        INSERT INTO shared_key_charges (event, shared_key, amount, happened_at)
        SELECT i.id, i.shared_key, i.consumed, i.created
        FROM won JOIN i ON i.id = won.id
            JOIN shared_keys AS k ON k.id = i.shared_key AND k.owner = i.owner
    )
    SELECT id FROM won",
    sqlite: "
    INSERT INTO requests
        (id, owner, kind, spec, n, open, running, priority, created, expires, client_agent, ip,
         shared_key, hold, consumed, answer)
    SELECT unhex(value ->> 'id'), value ->> 'owner', value ->> 'kind', value ->> 'spec',
        value ->> 'n', (value ->> 'n') - (value ->> 'taken'), value ->> 'taken',
        value ->> 'priority', value ->> 'created',
        value ->> 'expires', value ->> 'client_agent', value ->> 'ip',
        unhex(value ->> 'shared_key'), value ->> 'hold', value ->> 'consumed',
        value ->> 'answer'
    FROM jsonb_each($1)
    WHERE TRUE
    ON CONFLICT (id) DO NOTHING",
    sqlite_returning: Some("RETURNING id"),
    sqlite_then: &[
        (
            Part::Row,
            "
    INSERT INTO jobs (id, request, worker, slot, seed, model, assigned_at, ttl)
    SELECT unhex(j.value ->> 'id'), unhex(j.value ->> 'request'), unhex(j.value ->> 'worker'),
        j.value ->> 'slot', j.value ->> 'seed', j.value ->> 'model',
        j.value ->> 'assigned_at', j.value ->> 'ttl'
    FROM jsonb_each($1) AS i JOIN jsonb_each(i.value, '$.jobs') AS j",
        ),
        (Part::First, ledger::INSERT_ENTRIES_SQLITE),
        (Part::Second, INSERT_ACTIVITY_SQLITE),
        (
            Part::Row,
            "
    INSERT INTO shared_key_charges (event, shared_key, amount, happened_at)
    SELECT unhex(i.value ->> 'id'), k.id, i.value ->> 'consumed', i.value ->> 'created'
    FROM jsonb_each($1) AS i JOIN shared_keys AS k
        ON k.id = unhex(i.value ->> 'shared_key') AND k.owner = i.value ->> 'owner'",
        ),
    ],
    parts: 3,
};

/// A request to stop, and how, as the statements take it.
#[derive(Debug, Serialize)]
struct StopRow<'a> {
    id: String,
    state: &'a str,
    /// Only if it expires by then.
    due: Option<i64>,
}

/// Rows: [`StopRow`].
pub(crate) const CANCEL: Statements = Statements {
    postgres: "
    UPDATE requests AS r
    SET n = r.done + r.running,
        open = 0,
        cancelled = TRUE,
        state = CASE WHEN r.running = 0 THEN 'finished' ELSE r.state END
    FROM (SELECT held.id
          FROM requests AS held
          WHERE held.id IN (SELECT id FROM json_to_recordset(CAST($1 AS JSON)) AS i (id UUID))
          ORDER BY held.id
          FOR NO KEY UPDATE) AS held
    WHERE r.id = held.id AND r.state || '' = 'live' AND NOT r.cancelled
    RETURNING r.id",
    sqlite: "
    UPDATE requests
    SET n = done + running,
        open = 0,
        cancelled = TRUE,
        state = CASE WHEN running = 0 THEN 'finished' ELSE state END
    WHERE id IN (SELECT unhex(value ->> 'id') FROM jsonb_each($1))
        AND state = 'live' AND NOT cancelled",
    sqlite_returning: Some("RETURNING id"),
    sqlite_then: &[],
    parts: 1,
};

/// Rows: [`StopRow`]. Running jobs are dropped without settlement.
pub(crate) const END: Statements = Statements {
    postgres: "
    WITH i AS (
        SELECT id, state, due
        FROM json_to_recordset(CAST($1 AS JSON)) AS i (id UUID, state TEXT, due BIGINT)
    ), held AS (
        SELECT r.id
        FROM requests AS r
        WHERE r.id IN (SELECT id FROM i)
        ORDER BY r.id
        FOR NO KEY UPDATE
    ), won AS (
        UPDATE requests AS r
        SET state = i.state, open = 0, running = 0
        FROM i JOIN held ON held.id = i.id
        WHERE r.id = i.id AND r.state || '' = 'live' AND (i.due IS NULL OR r.expires <= i.due)
        RETURNING r.id
    ), dropped AS (
        UPDATE jobs AS j
        SET state = 'aborted'
        FROM won
        WHERE j.request = won.id AND j.state || '' = 'assigned'
    )
    SELECT id FROM won",
    sqlite: "
    UPDATE requests
    SET state = i.value ->> 'state', open = 0, running = 0
    FROM jsonb_each($1) AS i
    WHERE requests.id = unhex(i.value ->> 'id') AND requests.state = 'live'
        AND (i.value ->> 'due' IS NULL OR requests.expires <= i.value ->> 'due')",
    sqlite_returning: Some("RETURNING requests.id"),
    sqlite_then: &[(
        Part::Row,
        "
    UPDATE jobs
    SET state = 'aborted'
    WHERE request IN (SELECT unhex(value ->> 'id') FROM jsonb_each($1)) AND state = 'assigned'",
    )],
    parts: 1,
};

const FIND: &str = "
    SELECT id, owner, kind, spec, n, open, running, done, faults, priority, created, expires,
        state, cancelled, client_agent, ip, shared_key, hold, consumed
    FROM requests
    WHERE id = $1";

const FIND_ANSWER: &str = "
    SELECT answer
    FROM requests
    WHERE id = $1";

const FIND_JOBS: &str = "
    SELECT id, request, worker, slot, seed, model, assigned_at, ttl, state, finished_at, result,
        kudos
    FROM jobs
    WHERE request = $1
    ORDER BY assigned_at, slot, id";

const LIST_LIVE: &str = "
    SELECT id
    FROM requests
    WHERE state = 'live'
    ORDER BY created, id";

/// The members of [`RequestRow`] of the requests that `$1` names, before a condition.
macro_rules! select_some {
    ($condition:literal) => {
        concat!(
            "
    SELECT id, owner, kind, spec, n, open, running, done, faults, priority, created, expires,
        state, cancelled, client_agent, ip, shared_key, hold, consumed
    FROM requests
    WHERE id IN ",
            $condition,
            "
    ORDER BY created, id"
        )
    };
}

/// The same for the members of [`JobRow`].
macro_rules! select_their_jobs {
    ($condition:literal) => {
        concat!(
            "
    SELECT id, request, worker, slot, seed, model, assigned_at, ttl, state, finished_at, result,
        kudos
    FROM jobs
    WHERE request IN ",
            $condition,
            "
    ORDER BY assigned_at, slot, id"
        )
    };
}

const LIST_SOME_SQLITE: &str = select_some!("(SELECT unhex(value) FROM json_each($1))");
const LIST_SOME_POSTGRES: &str = select_some!(
    "(SELECT CAST(value AS UUID) FROM json_array_elements_text(CAST($1 AS JSON)) AS i (value))"
);
const LIST_THEIR_JOBS_SQLITE: &str = select_their_jobs!("(SELECT unhex(value) FROM json_each($1))");
const LIST_THEIR_JOBS_POSTGRES: &str = select_their_jobs!(
    "(SELECT CAST(value AS UUID) FROM json_array_elements_text(CAST($1 AS JSON)) AS i (value))"
);

const DELETE_ENDED: &str = "
    DELETE FROM requests
    WHERE id IN (SELECT id
                 FROM requests
                 WHERE state <> 'live' AND expires < $1
                 ORDER BY expires
                 LIMIT $2)";

impl Store {
    /// Writes a request, the price of its activation and its statistics in one commit.
    ///
    /// # Errors
    /// [`Error::Taken`] when the id exists: nothing is written then.
    pub async fn insert_request(&self, request: &NewRequest) -> Result<()> {
        self.insert_with(request, None).await
    }

    /// The same of a request some of whose slots are assigned from the beginning, with their jobs in
    /// the same commit.
    ///
    /// # Errors
    /// [`Error::Taken`] when the id exists: nothing is written then.
    pub async fn insert_assigned(
        &self,
        request: &NewRequest,
        assignment: &Assignment,
    ) -> Result<()> {
        self.insert_with(request, Some(assignment)).await
    }

    async fn insert_with(
        &self,
        request: &NewRequest,
        assignment: Option<&Assignment>,
    ) -> Result<()> {
        let token = request.id.uuid();
        let expires = assignment.map_or(request.expires, |assignment| assignment.expires);
        let jobs: Vec<NewJobRow<'_>> = assignment
            .map(Assignment::rows)
            .into_iter()
            .flatten()
            .collect();
        let row = InsertRow {
            id: json::hex(token),
            owner: request.owner.get(),
            kind: request.kind.name(),
            spec: &request.spec,
            n: request.n,
            priority: request.priority,
            created: request.created.0,
            expires: request.expires.max(expires).0,
            client_agent: &request.client_agent,
            ip: request.ip.as_deref(),
            shared_key: request.shared_key.map(|key| json::hex(key.uuid())),
            hold: request.hold.milli(),
            consumed: request.consumed.milli(),
            answer: request.answer.as_deref(),
            taken: jobs.len(),
            jobs,
        };
        let write = Write {
            kind: Kind::Insert,
            key: token,
            token,
            row: json::object(&row)?,
            first: ledger::entry_rows(token, request.activation.as_slice())?,
            second: stats::row(token, request.activity.as_ref())?,
        };
        let inserted = self.writer.write(write).await?;
        inserted.then_some(()).ok_or(Error::Taken)
    }

    /// What the requester of a request was answered, if that was kept.
    pub async fn find_answer(&self, id: RequestId) -> Result<Option<String>> {
        let row: Option<(Option<String>,)> = self.pool.one(FIND_ANSWER, args![id.uuid()]).await?;
        Ok(row.and_then(|(answer,)| answer))
    }

    /// Stops further assignment; running jobs settle normally. Says whether that changed anything.
    pub async fn cancel_request(&self, request: RequestId) -> Result<bool> {
        self.writer
            .write(stop(Kind::Cancel, request, RequestState::Finished, None)?)
            .await
    }

    /// Ends live requests for good, their running jobs dropped without settlement. Answers the
    /// ids that were live, or the first failure after all were tried.
    pub async fn end_requests(
        &self,
        requests: &[RequestId],
        state: RequestState,
    ) -> Result<Vec<RequestId>> {
        self.stop_requests(requests, state, None).await
    }

    /// Ends live requests of which nobody took a job meanwhile, so that they expire by `due`;
    /// otherwise like [`Self::end_requests`].
    pub async fn expire_requests(
        &self,
        requests: &[RequestId],
        due: Timestamp,
    ) -> Result<Vec<RequestId>> {
        let state = RequestState::Expired;
        self.stop_requests(requests, state, Some(due)).await
    }

    async fn stop_requests(
        &self,
        requests: &[RequestId],
        state: RequestState,
        due: Option<Timestamp>,
    ) -> Result<Vec<RequestId>> {
        let mut pending = Vec::with_capacity(requests.len());
        for request in requests {
            let write = stop(Kind::End, *request, state, due)?;
            pending.push((*request, self.writer.send(write).await?));
        }
        let mut ended = Vec::with_capacity(pending.len());
        let mut failure = None;
        for (request, answer) in pending {
            match answer.wait().await {
                Ok(true) => ended.push(request),
                Ok(false) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(ended), Err)
    }

    /// One request with its jobs, live or ended.
    pub async fn find_request(&self, id: RequestId) -> Result<Option<Request>> {
        let mut connection = self.pool.reader().await?;
        let row: Option<RequestRow> = connection.one(FIND, args![id.uuid()]).await?;
        let Some(row) = row else { return Ok(None) };
        let mut request = row.into_request()?;
        let jobs: Vec<JobRow> = connection.all(FIND_JOBS, args![id.uuid()]).await?;
        request.jobs = jobs
            .into_iter()
            .map(JobRow::into_job)
            .collect::<Result<_>>()?;
        Ok(Some(request))
    }

    /// All requests that wait or run, oldest first: what the horde is rebuilt from. What they are,
    /// [`Self::list_requests`] tells, some at a time: all together are too large.
    pub async fn list_live(&self) -> Result<Vec<RequestId>> {
        let rows: Vec<(Uuid,)> = self.pool.all(LIST_LIVE, args![]).await?;
        let ids = rows.into_iter().map(|(id,)| RequestId::from_uuid(id));
        Ok(ids.collect())
    }

    /// Some requests, live or ended, oldest first, each with its jobs; those that are not there are
    /// left out. A job may be further than the counts of its request: it is read later.
    pub async fn list_requests(&self, ids: &[RequestId]) -> Result<Vec<Request>> {
        let (requests_sql, jobs_sql) = match self.pool.dialect() {
            Dialect::Sqlite => (LIST_SOME_SQLITE, LIST_THEIR_JOBS_SQLITE),
            Dialect::Postgres => (LIST_SOME_POSTGRES, LIST_THEIR_JOBS_POSTGRES),
        };
        let ids: Vec<String> = ids.iter().map(|id| json::hex(id.uuid())).collect();
        let ids = json::object(&ids)?;
        let mut connection = self.pool.keyed().await?;
        let read = async {
            let rows: Vec<RequestRow> = connection.all(requests_sql, args![ids.clone()]).await?;
            let jobs: Vec<JobRow> = connection.all(jobs_sql, args![ids]).await?;
            joined(rows, jobs)
        };
        timeout(READING, read)
            .await
            .unwrap_or_else(|_| Err(Error::silence()))
    }

    /// Deletes requests that ended and expired before a time, with their jobs, in bites. Says how
    /// many.
    pub async fn delete_ended(&self, before: Timestamp) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let bite = self
                .pool
                .execute(DELETE_ENDED, args![before.0, DELETE_BITE])
                .await?;
            deleted += bite;
            if bite < DELETE_BITE.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }
}

/// Requests with their jobs, each in the order in which they were read.
fn joined(rows: Vec<RequestRow>, jobs: Vec<JobRow>) -> Result<Vec<Request>> {
    let mut requests: Vec<Request> = rows
        .into_iter()
        .map(RequestRow::into_request)
        .collect::<Result<_>>()?;
    let mut places: std::collections::BTreeMap<RequestId, &mut Request> = requests
        .iter_mut()
        .map(|request| (request.id, request))
        .collect();
    for job in jobs {
        let job = job.into_job()?;
        if let Some(request) = places.get_mut(&job.request) {
            request.jobs.push(job);
        }
    }
    Ok(requests)
}

fn stop(
    kind: Kind,
    request: RequestId,
    state: RequestState,
    due: Option<Timestamp>,
) -> Result<Write> {
    let token = request.uuid();
    let row = StopRow {
        id: json::hex(token),
        state: state.name(),
        due: due.map(|due| due.0),
    };
    Ok(Write {
        kind,
        key: token,
        token,
        row: json::object(&row)?,
        first: String::new(),
        second: String::new(),
    })
}
