//! SQLite's way: everything that waits goes into one transaction, one after the other. While one is on
//! its way to the disk, the next one is written already; a few writes that nobody waits behind bring
//! themselves there.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use super::{
    Answers, BITE, Batch, Kind, Part, Scribe, Waiting, Write, answers, array, is_away, only,
};
use crate::error::Result;
use crate::pool::{Connection, Outcome, SYNCS, Script, args};

/// The list of rows that has none.
const NO_ROWS: &str = "[]";

/// Transactions after which whoever else writes has a turn, however much waits.
const STINT: usize = 16;

/// So many writes, with nothing before or behind them, wait for the disk in their commit: to go there
/// apart from it takes three more calls.
const FEW: usize = 4;

/// The connection that is kept from one transaction to the next, and how many it has seen.
#[derive(Debug, Default)]
struct Seat {
    connection: Option<Connection>,
    transactions: usize,
}

/// Who waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The commit.
    Calm,
    /// Only those who wait for an answer; the next transaction does not.
    Haste,
}

impl Seat {
    /// How a bite of so many goes on, `more` being there before or behind it.
    const fn pace(&self, taken: usize, more: bool) -> Pace {
        if taken <= FEW && !more && self.connection.is_none() {
            Pace::Calm
        } else {
            Pace::Haste
        }
    }

    /// Lets others write.
    async fn leave(&mut self) {
        self.transactions = 0;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.give_back().await
        {
            tracing::warn!(%error, "a connection that wrote was closed");
        }
    }
}

impl Scribe {
    /// Writes everything that waits, then everything that came meanwhile.
    pub(super) async fn write_in_turn(
        self: Arc<Self>,
        mut receiver: mpsc::Receiver<Waiting>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut bite = Vec::with_capacity(BITE);
        let mut to_disk = JoinSet::new();
        let mut seat = Seat::default();
        loop {
            tokio::select! {
                biased;
                // An error means that the store is gone; the channel then ends by itself.
                Ok(()) = closing.changed() => receiver.close(),
                Some(ended) = to_disk.join_next() => note_end(ended),
                taken = receiver.recv_many(&mut bite, BITE), if to_disk.len() < SYNCS => {
                    if taken == 0 {
                        break;
                    }
                    let more = !receiver.is_empty() || !to_disk.is_empty();
                    let pace = seat.pace(taken, more);
                    let written = self.write_together(&mut seat, batches(&mut bite), pace).await;
                    if let Some(written) = written {
                        to_disk.spawn(Arc::clone(&self).bring_to_disk(written));
                    }
                }
            }
            let rests = receiver.is_empty() && to_disk.is_empty();
            if rests || seat.transactions >= STINT {
                seat.leave().await;
            }
        }
        seat.leave().await;
        while let Some(ended) = to_disk.join_next().await {
            note_end(ended);
        }
    }

    /// Writes all batches in one transaction. Answers those who wait unless that is left to do when
    /// they are on the disk.
    async fn write_together(
        &self,
        seat: &mut Seat,
        batches: Vec<Batch>,
        pace: Pace,
    ) -> Option<Vec<Batch>> {
        match self.in_one_go(seat, &batches, pace).await {
            Ok(true) if pace == Pace::Haste => return Some(batches),
            Ok(true) => self.finish(batches, &Ok(())),
            Err(error) if is_away(&error) => {
                tracing::warn!(%error, "a group of writes failed");
                self.finish(batches, &Err(error));
            }
            // Somebody was late, or somebody's write is bad: who, only step by step tells.
            Ok(false) | Err(_) => {
                seat.leave().await;
                self.write_by_steps(batches).await;
            }
        }
        None
    }

    /// All or nothing, with as few calls as can be. Says no, and has written nothing, if a write would
    /// not take place.
    async fn in_one_go(&self, seat: &mut Seat, batches: &[Batch], pace: Pace) -> Result<bool> {
        let mut connection = match (seat.connection.take(), pace) {
            (Some(connection), _) => connection,
            (None, Pace::Haste) => self.pool.hasty_writer().await?,
            (None, Pace::Calm) => self.pool.calm_writer().await?,
        };
        let (script, decisions) = script(batches);
        let done = match connection.run(script).await {
            Ok(outcomes) if decisions.iter().all(|decision| decision.holds(&outcomes)) => {
                connection.plain("COMMIT").await.map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        if !matches!(done, Ok(true)) && connection.plain("ROLLBACK").await.is_err() {
            // The connection is closed, which takes it back as well.
            return done;
        }
        match pace {
            Pace::Calm => connection.let_go(),
            Pace::Haste => {
                seat.connection = Some(connection);
                seat.transactions += 1;
            }
        }
        done
    }

    async fn bring_to_disk(self: Arc<Self>, batches: Vec<Batch>) {
        let synced = self.pool.sync().await;
        self.finish(batches, &synced);
    }

    /// All that was written together has become of one thing.
    fn finish(&self, batches: Vec<Batch>, end: &Result<()>) {
        if end.is_ok() {
            self.tally.committed(batches.iter().map(Vec::len).sum());
        }
        for waiting in batches.into_iter().flatten() {
            self.answer(waiting, end.clone().map(|()| true));
        }
    }

    /// Step by step, so that who was late writes nothing, and each batch for itself.
    async fn write_by_steps(&self, batches: Vec<Batch>) {
        let results = match self.in_savepoints(&batches).await {
            Ok(results) => results,
            Err(error) => {
                tracing::warn!(%error, "a group of writes failed");
                return self.finish(batches, &Err(error));
            }
        };
        self.tally.committed(batches.iter().map(Vec::len).sum());
        for (batch, answers) in batches.into_iter().zip(results) {
            for (waiting, answer) in batch.into_iter().zip(answers) {
                self.answer(waiting, answer);
            }
        }
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
}

/// What the deciding statement of a batch must have done if every write of it takes place.
#[derive(Debug)]
struct Decision {
    statement: usize,
    writes: u64,
    /// Whether it changes the rows that it decides on; otherwise it answers a row for each.
    changes: bool,
}

impl Decision {
    fn holds(&self, outcomes: &[Outcome]) -> bool {
        outcomes.get(self.statement).is_some_and(|outcome| {
            let decided = if self.changes {
                outcome.changed
            } else {
                outcome.rows
            };
            decided == self.writes
        })
    }
}

/// A transaction that is not committed yet, as it is if every write takes place, and how to see
/// whether that is so.
fn script(batches: &[Batch]) -> (Script, Vec<Decision>) {
    let mut script = Script::default();
    script.push_plain("BEGIN IMMEDIATE");
    let mut decisions = Vec::with_capacity(batches.len());
    for batch in batches {
        let Some(first) = batch.first() else { continue };
        let statements = first.write.kind.statements();
        let rows = |part| array(batch.iter().map(|waiting| &waiting.write), part);
        decisions.push(Decision {
            statement: script.push(statements.sqlite, rows(Part::Row)),
            writes: batch.len() as u64,
            changes: statements.sqlite_returning.is_some(),
        });
        for (part, sql) in statements.sqlite_then {
            let rows = rows(*part);
            if rows != NO_ROWS {
                script.push(sql, rows);
            }
        }
    }
    (script, decisions)
}

/// Sorts a bite into batches: one kind each, no key twice.
fn batches(bite: &mut Vec<Waiting>) -> Vec<Batch> {
    let mut batches: Vec<(Kind, BTreeSet<Uuid>, Batch)> = Vec::new();
    for waiting in bite.drain(..) {
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
    let returning = statements.sqlite_returning.unwrap_or_default();
    let sql = format!("{} {returning}", statements.sqlite);
    let tokens: Vec<(Uuid,)> = connection.all_made(sql, args![rows]).await?;
    let won: BTreeSet<Uuid> = tokens.into_iter().map(|(token,)| token).collect();
    for (part, sql) in statements.sqlite_then {
        let winners = writes
            .iter()
            .copied()
            .filter(|write| won.contains(&write.token));
        let rows = array(winners, *part);
        if rows != NO_ROWS {
            connection.execute(sql, args![rows]).await?;
        }
    }
    Ok(won)
}

fn note_end(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a group of writes ended badly");
    }
}
