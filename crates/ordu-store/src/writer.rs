//! Group commit: writes that wait together are written together and answered after the commit.
//!
//! A write is a few rows of JSON; a batch of one kind is one JSON array and runs through the same
//! few statements however long it is. On PostgreSQL a batch is a single statement and with that a
//! single round trip, and several are on their way at once ([`mod@line`]); on SQLite all batches of a
//! bite share one transaction and one fsync, one after the other.
//! A batch that fails is taken back and repeated write by write, so that a bad write spoils none
//! of its neighbours.

mod line;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::counters::{Tally, note_trip};
use crate::error::{Error, Result};
use crate::pool::{Connection, Dialect, Pool, Value, args};
use line::{Gone, Line};

/// Writes that may wait, before they are taken note of and after; more callers wait for a place.
const QUEUE: usize = 4096;

/// Writes that share a commit at most.
const BITE: usize = 512;

/// What a write does, in the order in which one bite does them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
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
    pub(crate) postgres: &'static str,
    /// Decides which writes take place and answers their tokens …
    pub(crate) sqlite: &'static str,
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
        let scribe = Scribe {
            pool: Arc::clone(pool),
            tally: Arc::clone(tally),
        };
        let closing = closing.clone();
        let task = match pool.dialect() {
            Dialect::Sqlite => crate::task::start(scribe.write_in_turn(receiver, closing)),
            Dialect::Postgres => {
                crate::task::start(Arc::new(scribe).write_at_once(receiver, closing))
            }
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
        if crate::planted::loses() {
            // The caller waits on the other end.
            let _ = answer.send(Ok(true));
            return Ok(Pending(pending));
        }
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
}

/// Writes of one kind that can share a statement, each with where its answer goes.
type Batch = Vec<Waiting>;

/// The answer to each write of a batch.
type Answers = Vec<Result<bool>>;

impl Scribe {
    /// SQLite: everything that waits, then everything that came meanwhile.
    async fn write_in_turn(
        self,
        mut receiver: mpsc::Receiver<Waiting>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut bite = Vec::with_capacity(BITE);
        loop {
            tokio::select! {
                biased;
                // An error means that the store is gone; the channel then ends by itself.
                Ok(()) = closing.changed() => receiver.close(),
                taken = receiver.recv_many(&mut bite, BITE) => {
                    if taken == 0 {
                        return;
                    }
                    self.write_together(batches(std::mem::take(&mut bite))).await;
                }
            }
        }
    }

    /// PostgreSQL: each batch by itself, as many at once as the line lets go.
    async fn write_at_once(
        self: Arc<Self>,
        mut receiver: mpsc::Receiver<Waiting>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut line = Line::default();
        let mut on_their_way = JoinSet::new();
        let mut gone: HashMap<Id, Gone> = HashMap::new();
        let mut bite = Vec::with_capacity(BITE);
        let mut is_over = false;
        loop {
            while let Some((what, batch)) = line.next(Instant::now()) {
                let scribe = Arc::clone(&self);
                let way = on_their_way.spawn(async move { scribe.write_apart(batch).await });
                gone.insert(way.id(), what);
            }
            if is_over && line.is_idle() {
                return;
            }
            let due = line.next_due(Instant::now());
            tokio::select! {
                biased;
                Ok(()) = closing.changed() => receiver.close(),
                Some(ended) = on_their_way.join_next_with_id() => {
                    if let Some(what) = gone.remove(&way_of(ended)) {
                        line.end(&what);
                    }
                }
                taken = receiver.recv_many(&mut bite, BITE), if line.has_room() && !is_over => {
                    is_over = taken == 0;
                    bite.drain(..).for_each(|waiting| line.push(waiting));
                }
                () = at(due) => {}
            }
        }
    }

    /// SQLite: all batches in one transaction.
    async fn write_together(&self, batches: Vec<Batch>) {
        let done = match self.in_one_go(&batches).await {
            // Somebody's write is bad: whose, only savepoints tell.
            Err(error) if !is_away(&error) => self.in_savepoints(&batches).await,
            done => done,
        };
        let results = match done {
            Ok(results) => results,
            Err(error) => {
                tracing::warn!(error = %error, "a group of writes failed");
                for waiting in batches.into_iter().flatten() {
                    self.answer(waiting, Err(error.clone()));
                }
                return;
            }
        };
        self.tally.committed(batches.iter().map(Vec::len).sum());
        for (batch, answers) in batches.into_iter().zip(results) {
            for (waiting, answer) in batch.into_iter().zip(answers) {
                self.answer(waiting, answer);
            }
        }
    }

    /// With as few statements as can be, each of which wakes another thread: all or nothing.
    async fn in_one_go(&self, batches: &[Batch]) -> Result<Vec<Answers>> {
        let mut connection = self.pool.begin().await?;
        let written = async {
            let mut results = Vec::with_capacity(batches.len());
            for batch in batches {
                let writes: Vec<&Write> = batch.iter().map(|waiting| &waiting.write).collect();
                let won = run_steps(&mut connection, &writes).await?;
                results.push(answers(&writes, &won));
            }
            Ok(results)
        };
        let written = written.await;
        connection.end(written).await
    }

    /// Each batch in a savepoint of its own, so that a bad write spoils none of the others.
    async fn in_savepoints(&self, batches: &[Batch]) -> Result<Vec<Answers>> {
        let mut connection = self.pool.begin().await?;
        let written = async {
            let mut results = Vec::with_capacity(batches.len());
            for batch in batches {
                results.push(self.batch_in_savepoint(&mut connection, batch).await?);
            }
            Ok(results)
        };
        let written = written.await;
        connection.end(written).await
    }

    /// Fails only when the whole transaction must be given up.
    async fn batch_in_savepoint(
        &self,
        connection: &mut Connection,
        batch: &[Waiting],
    ) -> Result<Answers> {
        let writes: Vec<&Write> = batch.iter().map(|waiting| &waiting.write).collect();
        let together = in_savepoint(connection, &writes).await?;
        if let Ok(won) = together {
            return Ok(answers(&writes, &won));
        }
        self.tally.split();
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            let alone = in_savepoint(connection, &[write]).await?;
            answers.push(only(write, alone));
        }
        Ok(answers)
    }

    /// PostgreSQL: a batch is one statement and its own transaction.
    async fn write_apart(&self, batch: Batch) {
        let writes: Vec<&Write> = batch.iter().map(|waiting| &waiting.write).collect();
        let answers: Answers = match self.statement(&writes).await {
            Ok(won) => answers(&writes, &won),
            Err(error) if is_away(&error) => writes.iter().map(|_| Err(error.clone())).collect(),
            Err(_) => {
                self.tally.split();
                let mut answers = Vec::with_capacity(writes.len());
                for write in writes {
                    answers.push(only(write, self.statement(&[write]).await));
                }
                answers
            }
        };
        self.tally.committed(batch.len());
        for (waiting, answer) in batch.into_iter().zip(answers) {
            self.answer(waiting, answer);
        }
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
        let mut connection = self.pool.writer().await?;
        let rows: Vec<(Uuid,)> = connection.all(statements.postgres, values).await?;
        self.pool.note_written();
        Ok(rows.into_iter().map(|(token,)| token).collect())
    }

    fn answer(&self, waiting: Waiting, answer: Result<bool>) {
        if matches!(answer, Err(Error::Unavailable(_))) {
            self.tally.unavailable();
        }
        // A caller that went away does not need the answer.
        let _ = waiting.answer.send(answer);
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

/// Sorts a bite into batches: one kind each, no key twice.
fn batches(bite: Vec<Waiting>) -> Vec<Batch> {
    let mut batches: Vec<(Kind, BTreeSet<Uuid>, Batch)> = Vec::new();
    for waiting in bite {
        let (kind, key) = (waiting.write.kind, waiting.write.key);
        let fitting = batches
            .iter_mut()
            .find(|(other, keys, _)| *other == kind && !keys.contains(&key));
        if let Some((_, keys, batch)) = fitting {
            keys.insert(key);
            batch.push(waiting);
        } else {
            batches.push((kind, BTreeSet::from([key]), vec![waiting]));
        }
    }
    // Stable: batches of one kind stay in the order of arrival.
    batches.sort_by_key(|(kind, _, _)| *kind);
    batches.into_iter().map(|(_, _, batch)| batch).collect()
}

/// The outer error gives up the transaction, the inner one only the savepoint.
async fn in_savepoint(
    connection: &mut Connection,
    writes: &[&Write],
) -> Result<Result<BTreeSet<Uuid>>> {
    connection.plain("SAVEPOINT writes").await?;
    match run_steps(connection, writes).await {
        Ok(won) => {
            connection.plain("RELEASE writes").await?;
            Ok(Ok(won))
        }
        Err(error) if is_away(&error) => Err(error),
        Err(error) => {
            connection.plain("ROLLBACK TO writes").await?;
            connection.plain("RELEASE writes").await?;
            Ok(Err(error))
        }
    }
}

async fn run_steps(connection: &mut Connection, writes: &[&Write]) -> Result<BTreeSet<Uuid>> {
    let Some(write) = writes.first() else {
        return Ok(BTreeSet::new());
    };
    let statements = write.kind.statements();
    let rows = array(writes.iter().copied(), Part::Row);
    let tokens: Vec<(Uuid,)> = connection.all(statements.sqlite, args![rows]).await?;
    let won: BTreeSet<Uuid> = tokens.into_iter().map(|(token,)| token).collect();
    for (part, sql) in statements.sqlite_then {
        let winners = writes
            .iter()
            .copied()
            .filter(|write| won.contains(&write.token));
        let rows = array(winners, *part);
        if rows != "[]" {
            connection.execute(sql, args![rows]).await?;
        }
    }
    Ok(won)
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
