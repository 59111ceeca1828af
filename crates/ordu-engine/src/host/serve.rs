//! The inside of an engine's process.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{Call, Description, Fault, Reading, Reply, receive, send};
use crate::{AlchemyEngine, Engine, ProgressSink, Step, TextEngine, TextTask};

/// Does what comes in at `input` and answers at `output`, until the input ends. Tasks run side by
/// side, each on a thread of its own. `writer` does those that are texts, `reader` those that are forms
/// about pictures, if there are such.
///
/// # Errors
/// If the caller is gone, or says what nobody understands.
pub fn serve(
    engine: &dyn Engine,
    writer: Option<&dyn TextEngine>,
    reader: Option<&dyn AlchemyEngine>,
    mut input: impl Read,
    output: impl Write + Send,
) -> io::Result<()> {
    let desk = Desk {
        engine,
        writer,
        reader,
        output: Mutex::new(output),
        running: Mutex::default(),
    };
    desk.describe()?;
    thread::scope(|scope| {
        loop {
            let call = match receive(&mut input) {
                Ok(Some(call)) => call,
                Ok(None) => break desk.stop(Ok(())),
                Err(error) => break desk.stop(Err(error)),
            };
            let desk = &desk;
            match call {
                Call::Describe => desk.describe()?,
                Call::Cancel { attempt } => desk.cancel(attempt),
                Call::Release => desk.engine.release(),
                Call::Run {
                    attempt,
                    previews,
                    task,
                } => {
                    desk.begin(attempt);
                    scope.spawn(move || {
                        desk.work(attempt, || {
                            let pictures = desk.engine.run(*task, &desk.sink(attempt, previews))?;
                            Ok(Reply::Made { attempt, pictures })
                        });
                    });
                }
                Call::Write { attempt, task } => {
                    desk.begin(attempt);
                    scope.spawn(move || desk.work(attempt, || desk.write(attempt, &task)));
                }
                Call::Read { attempt, task } => {
                    desk.begin(attempt);
                    scope.spawn(move || desk.work(attempt, || desk.read(attempt, &task)));
                }
            }
        }
    })
}

/// What the threads of a process share.
struct Desk<'a, W> {
    engine: &'a dyn Engine,
    writer: Option<&'a dyn TextEngine>,
    reader: Option<&'a dyn AlchemyEngine>,
    output: Mutex<W>,
    /// The attempts that run, and whether they have been cancelled.
    running: Mutex<BTreeMap<u64, AtomicBool>>,
}

impl<W: Write> Desk<'_, W> {
    fn answer(&self, reply: &Reply) -> io::Result<()> {
        send(&mut *lock(&self.output), reply)
    }

    fn describe(&self) -> io::Result<()> {
        self.answer(&Reply::Described(Box::new(Description {
            capabilities: self.engine.capabilities(),
            holdings: self.engine.holdings(),
            text: self
                .writer
                .and_then(|writer| writer.capabilities().ok())
                .map(Into::into),
            forms: self.reader.map(AlchemyEngine::forms).unwrap_or_default(),
        })))
    }

    /// An attempt can be cancelled from now on.
    fn begin(&self, attempt: u64) {
        lock(&self.running).insert(attempt, AtomicBool::new(false));
    }

    /// Does an attempt and says what came of it.
    fn work(&self, attempt: u64, work: impl FnOnce() -> Result<Reply, Fault>) {
        let made = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            Err(Fault::Failed {
                reason: "the engine panicked".to_owned(),
            })
        });
        lock(&self.running).remove(&attempt);
        // A caller that is gone needs no answer, and its going ends the loop in `serve`.
        let _ = self.answer(&made.unwrap_or_else(|fault| Reply::Failed { attempt, fault }));
    }

    fn write(&self, attempt: u64, task: &TextTask) -> Result<Reply, Fault> {
        let Some(writer) = self.writer else {
            return Err(Fault::BadTask {
                reason: "there is nothing here that writes".to_owned(),
            });
        };
        let text = writer.write(task, &self.sink(attempt, false))?;
        Ok(Reply::Written { attempt, text })
    }

    fn read(&self, attempt: u64, task: &Reading) -> Result<Reply, Fault> {
        let Some(reader) = self.reader else {
            return Err(Fault::BadTask {
                reason: "there is nothing here that reads pictures".to_owned(),
            });
        };
        let sink = self.sink(attempt, false);
        let answer = reader.answer(&task.form, &task.picture, &task.options, &sink)?;
        Ok(Reply::Answered {
            attempt,
            told: answer.into(),
        })
    }

    fn sink(&self, attempt: u64, previews: bool) -> Sink<'_, W> {
        Sink {
            desk: self,
            attempt,
            previews,
            said: Cell::new(Instant::now()),
            told: Cell::new(0),
        }
    }

    fn cancel(&self, attempt: u64) {
        if let Some(cancelled) = lock(&self.running).get(&attempt) {
            cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Nobody listens any more: whatever runs ends after its present step.
    fn stop(&self, ended: io::Result<()>) -> io::Result<()> {
        for cancelled in lock(&self.running).values() {
            cancelled.store(true, Ordering::Relaxed);
        }
        ended
    }
}

struct Sink<'a, W> {
    desk: &'a Desk<'a, W>,
    attempt: u64,
    previews: bool,
    /// When something was last said.
    said: Cell<Instant>,
    /// How much of a text was told, in bytes.
    told: Cell<usize>,
}

/// How long somebody who works may say nothing.
const SILENT: Duration = Duration::from_secs(5);

impl<W: Write> Sink<'_, W> {
    fn say(&self, reply: &Reply) {
        // As above.
        let _ = self.desk.answer(reply);
        self.said.set(Instant::now());
    }
}

impl<W: Write> ProgressSink for Sink<'_, W> {
    fn step(&self, step: Step) {
        self.say(&Reply::Step {
            attempt: self.attempt,
            step,
        });
    }

    fn wants_text(&self) -> bool {
        true
    }

    fn text(&self, so_far: &str) {
        let piece = so_far.get(self.told.replace(so_far.len())..);
        self.say(&Reply::Piece {
            attempt: self.attempt,
            text: piece.unwrap_or_default().to_owned(),
        });
    }

    fn cancelled(&self) -> bool {
        if self.said.get().elapsed() > SILENT {
            self.say(&Reply::Busy);
        }
        lock(&self.desk.running)
            .get(&self.attempt)
            .is_some_and(|cancelled| cancelled.load(Ordering::Relaxed))
    }

    fn wants_preview(&self) -> bool {
        self.previews
    }
}

/// A panic of one task leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
