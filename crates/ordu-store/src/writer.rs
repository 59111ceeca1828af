//! Group commit: writes that wait together are written together and answered after the commit.
//!
//! A write is a few rows of JSON; a batch of one kind is one JSON array and runs through the same
//! few statements however long it is. On PostgreSQL a batch is a single statement and with that a
//! single round trip, and several are on their way at once ([`mod@line`]); on SQLite all batches of a
//! bite share one transaction and one way to the disk, one after the other ([`mod@turn`]).
//! A batch that fails is taken back and repeated write by write, so that a bad write spoils none
//! of its neighbours.

mod line;
mod spares;
mod turn;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::counters::{Tally, note_trip};
use crate::error::{Error, Result};
use crate::pool::{Connection, Dialect, Pool, Value};
pub(crate) use line::WAYS;
use line::{Gone, Line};
use spares::{Place, Spares};

/// Writes that may wait, before they are taken note of and after; more callers wait for a place.
const QUEUE: usize = 4096;

/// Writes that are taken from the queue at once, and on SQLite share a commit, at most.
const BITE: usize = 512;

/// What a write does, in the order in which one bite does them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Enlist,
    Insert,
    Assign,
    Settle,
    Fault,
    Cancel,
    End,
    Record,
}

/// The statements of one kind of write.
///
/// Rows reach them as JSON arrays: first the writes themselves, then up to two lists of rows that
/// belong to them, each naming its write by `token`.
pub(crate) struct Statements {
    /// One statement for everything; answers the tokens of the writes that took place.
    ///
    /// Where rows are named by their keys, `state || ''` keeps PostgreSQL from looking for them in the
    /// index of those in that state: until the next vacuum it still names all that were in it.
    pub(crate) postgres: &'static str,
    /// Decides which writes take place …
    pub(crate) sqlite: &'static str,
    /// … and with this behind it answers their tokens; without it if nothing is needed …
    pub(crate) sqlite_returning: Option<&'static str>,
    /// … then these see only the rows of those.
    pub(crate) sqlite_then: &'static [(Part, &'static str)],
    /// How many of the lists the statement for PostgreSQL takes.
    pub(crate) parts: usize,
}

/// One of the lists of rows of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Row,
    First,
    Second,
}

/// A write, ready to be joined with others.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) kind: Kind,
    /// Writes of one kind with the same key never share a statement.
    pub(crate) key: Uuid,
    /// By which the statements report that it took place.
    pub(crate) token: Uuid,
    /// JSON objects, joined by commas.
    pub(crate) row: String,
    pub(crate) first: String,
    pub(crate) second: String,
}

#[derive(Debug)]
struct Waiting {
    write: Write,
    answer: oneshot::Sender<Result<bool>>,
}

/// The answer to a write that is on its way.
#[derive(Debug)]
pub(crate) struct Pending(oneshot::Receiver<Result<bool>>);

impl Pending {
    /// Waits for the commit; says whether the write took place.
    pub(crate) async fn wait(self) -> Result<bool> {
        self.0.await.unwrap_or(Err(Error::Closed))
    }
}

/// The queue with the task that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the task that writes. It ends when `closing` turns true, after what still waits.
    pub(crate) fn start(
        pool: &Arc<Pool>,
        tally: &Arc<Tally>,
        closing: &watch::Receiver<bool>,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let scribe = Arc::new(Scribe {
            pool: Arc::clone(pool),
            tally: Arc::clone(tally),
            spares: Spares::default(),
        });
        let closing = closing.clone();
        let task = match pool.dialect() {
            Dialect::Sqlite => crate::task::start(scribe.write_in_turn(receiver, closing)),
            Dialect::Postgres => crate::task::start(scribe.write_at_once(receiver, closing)),
        };
        Self {
            queue,
            task: std::sync::Mutex::new(Some(task)),
        }
    }

    /// Queues a write; waits while the queue is full.
    pub(crate) async fn send(&self, write: Write) -> Result<Pending> {
        let (answer, pending) = oneshot::channel();
        #[cfg(feature = "chaos")]
        let Some(write) = crate::planted::spoilt(write) else {
            // The caller waits on the other end.
            let _ = answer.send(Ok(true));
            return Ok(Pending(pending));
        };
        let waiting = Waiting { write, answer };
        self.queue.send(waiting).await.map_err(|_| Error::Closed)?;
        note_trip();
        Ok(Pending(pending))
    }

    /// Writes and waits for the commit; says whether the write took place.
    pub(crate) async fn write(&self, write: Write) -> Result<bool> {
        let commit = tracing::info_span!(target: "ordu_traces", "commit", otel.kind = "client");
        let written = async { self.send(write).await?.wait().await };
        written.instrument(commit).await
    }

    /// Waits until the task has ended.
    pub(crate) async fn ended(&self) {
        let task = match self.task.lock() {
            Ok(mut task) => task.take(),
            Err(_) => return,
        };
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(error = %error, "the task that writes ended badly");
        }
    }
}

/// Writes what waits.
#[derive(Debug)]
struct Scribe {
    pool: Arc<Pool>,
    tally: Arc<Tally>,
    spares: Spares,
}

/// Writes of one kind that can share a statement, each with where its answer goes.
type Batch = Vec<Waiting>;

/// The answer to each write of a batch.
type Answers = Vec<Result<bool>>;

impl Scribe {
    /// PostgreSQL: each batch by itself, as many at once as the line lets go.
    async fn write_at_once(
        self: Arc<Self>,
        mut receiver: mpsc::Receiver<Waiting>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut line = Line::default();
        let mut on_their_way = JoinSet::new();
        let mut gone: HashMap<Id, Gone> = HashMap::new();
        let mut openings = Openings::of(&self);
        let mut bite = Vec::with_capacity(BITE);
        let mut is_over = false;
        loop {
            line.allow(self.spares.ways(Instant::now()));
            while let Some((what, batch)) = line.next(Instant::now()) {
                let scribe = Arc::clone(&self);
                let way = on_their_way.spawn(async move { scribe.write_apart(batch).await });
                gone.insert(way.id(), what);
            }
            if is_over && line.is_idle() {
                self.spares.let_go();
                return;
            }
            let now = Instant::now();
            let again = openings.begin(line.wanted(now), now);
            let due = line.next_due(now).into_iter().chain(again).min();
            tokio::select! {
                biased;
                Ok(()) = closing.changed() => receiver.close(),
                Some(ended) = on_their_way.join_next_with_id() => {
                    if let Some(what) = gone.remove(&way_of(ended)) {
                        line.end(&what);
                    }
                }
                () = openings.one() => {}
                taken = receiver.recv_many(&mut bite, BITE), if line.has_room() && !is_over => {
                    is_over = taken == 0;
                    bite.drain(..).for_each(|waiting| line.push(waiting));
                }
                () = at(due) => {}
            }
        }
    }

    /// PostgreSQL: a connection that is there, or a new one where there is none.
    async fn connection(&self) -> Result<(Place<'_>, Connection)> {
        if let Some(taken) = self.spares.take(Instant::now()) {
            return Ok(taken);
        }
        let (begun, place) = (Instant::now(), self.spares.reserve());
        let opened = self.pool.line().await;
        let connection = opened.inspect_err(|_| self.spares.note_refused(begun))?;
        Ok((place, connection))
    }

    /// PostgreSQL: one more connection.
    async fn open_ahead(&self) {
        let begun = Instant::now();
        match self.pool.line().await {
            Ok(connection) => self.spares.reserve().keep(connection, Instant::now()),
            Err(error) => {
                tracing::warn!(%error, "one more connection to the database could not be opened");
                self.spares.note_refused(begun);
            }
        }
    }

    /// PostgreSQL: a batch is one statement and its own transaction.
    async fn write_apart(&self, batch: Batch) {
        let writes: Vec<&Write> = batch.iter().map(|waiting| &waiting.write).collect();
        let answers: Answers = match self.statement(&writes).await {
            Ok(won) => answers(&writes, &won),
            Err(error) if is_away(&error) => writes.iter().map(|_| Err(error.clone())).collect(),
            Err(_) => {
                self.tally.split();
                self.one_by_one(&writes).await
            }
        };
        self.tally.committed(batch.len());
        for (waiting, answer) in batch.into_iter().zip(answers) {
            self.answer(waiting, answer);
        }
    }

    /// Each write of a batch by itself, until the database is away.
    async fn one_by_one(&self, writes: &[&Write]) -> Answers {
        let mut answers = Vec::with_capacity(writes.len());
        let mut away = None;
        for write in writes {
            let answer = match &away {
                Some(error) => Err(Error::clone(error)),
                None => only(write, self.statement(&[write]).await),
            };
            away = answer
                .as_ref()
                .err()
                .filter(|error| is_away(error))
                .cloned();
            answers.push(answer);
        }
        answers
    }

    async fn statement(&self, writes: &[&Write]) -> Result<BTreeSet<Uuid>> {
        let Some(write) = writes.first() else {
            return Ok(BTreeSet::new());
        };
        let statements = write.kind.statements();
        let values = [Part::Row, Part::First, Part::Second]
            .into_iter()
            .take(statements.parts)
            .map(|part| Value::from(array(writes.iter().copied(), part)))
            .collect();
        let (place, mut connection) = self.connection().await?;
        let begun = Instant::now();
        let answer = connection.all(statements.postgres, values);
        let rows: Result<Vec<(Uuid,)>> = match timeout(self.pool.patience(), answer).await {
            Ok(Err(error)) if is_cut(&error) => {
                connection.keep_apart();
                self.spares.note_cut();
                Err(error.after_a_write())
            }
            Ok(rows) => {
                place.keep(connection, Instant::now());
                rows
            }
            // In the middle of a statement, it is closed.
            Err(_) => {
                self.spares.note_silent(begun);
                Err(Error::silence().after_a_write())
            }
        };
        let rows = rows?;
        self.pool.note_written();
        Ok(rows.into_iter().map(|(token,)| token).collect())
    }

    fn answer(&self, waiting: Waiting, answer: Result<bool>) {
        if matches!(answer, Err(Error::Unavailable(_) | Error::Unheard(_))) {
            self.tally.unavailable();
        }
        // A caller that went away does not need the answer.
        let _ = waiting.answer.send(answer);
    }
}

/// PostgreSQL: connections that are opened ahead, while writes go through others.
struct Openings {
    scribe: Arc<Scribe>,
    begun: JoinSet<()>,
}

impl Openings {
    fn of(scribe: &Arc<Scribe>) -> Self {
        Self {
            scribe: Arc::clone(scribe),
            begun: JoinSet::new(),
        }
    }

    /// Sees to it that so many are opened; says from when on, if it is too early for that.
    fn begin(&mut self, wanted: u32, now: Instant) -> Option<Instant> {
        let begun = u32::try_from(self.begun.len()).unwrap_or(u32::MAX);
        if begun >= wanted {
            return None;
        }
        let paused = self.scribe.spares.paused_until(now);
        if paused.is_none() {
            for _ in begun..wanted {
                let scribe = Arc::clone(&self.scribe);
                self.begun.spawn(async move { scribe.open_ahead().await });
            }
        }
        paused
    }

    /// Waits for the end of one, for ever if none was begun.
    async fn one(&mut self) {
        match self.begun.join_next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!(%error, "a connection was opened badly"),
            None => std::future::pending().await,
        }
    }
}

/// Which batch ended.
fn way_of(ended: std::result::Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(error = %error, "a group of writes ended badly");
            error.id()
        }
    }
}

/// Waits until then, or for ever.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Which of the writes took place.
fn answers(writes: &[&Write], won: &BTreeSet<Uuid>) -> Answers {
    let took_place = |write: &&Write| Ok(won.contains(&write.token));
    writes.iter().map(took_place).collect()
}

/// A unique index that objects means that somebody else was first.
fn only(write: &Write, result: Result<BTreeSet<Uuid>>) -> Result<bool> {
    match result {
        Ok(won) => Ok(won.contains(&write.token)),
        Err(Error::Taken) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether repeating the writes one by one would only fail again. A deadlock would not.
fn is_away(error: &Error) -> bool {
    error.is_unavailable() && !error.is_rollback()
}

/// Whether nothing more comes of a connection: it was cut, or its server ends, or no longer writes.
fn is_cut(error: &Error) -> bool {
    let Error::Unavailable(error) = error else {
        return false;
    };
    let database = error.as_database_error();
    let code = database.and_then(sqlx::error::DatabaseError::code);
    code.is_none_or(|code| code.starts_with("08") || code.starts_with("57P") || code == "25006")
}

fn array<'a>(writes: impl Iterator<Item = &'a Write>, part: Part) -> String {
    let mut json = String::from("[");
    for write in writes {
        let rows = match part {
            Part::Row => &write.row,
            Part::First => &write.first,
            Part::Second => &write.second,
        };
        if rows.is_empty() {
            continue;
        }
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(rows);
    }
    json.push(']');
    json
}

impl Kind {
    const fn statements(self) -> &'static Statements {
        match self {
            Self::Enlist => &crate::worker::INSERT,
            Self::Insert => &crate::request::INSERT,
            Self::Assign => &crate::job::ASSIGN,
            Self::Settle => &crate::job::SETTLE,
            Self::Fault => &crate::job::FAULT,
            Self::Cancel => &crate::request::CANCEL,
            Self::End => &crate::request::END,
            Self::Record => &crate::ledger::RECORD,
        }
    }
}
