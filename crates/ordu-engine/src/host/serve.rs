//! The inside of an engine's process.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::wire::{Call, Description, Fault, Reply, receive, send};
use crate::{Engine, ProgressSink, Step};

/// Does what comes in at `input` and answers at `output`, until the input ends. Tasks run side by
/// side, each on a thread of its own.
///
/// # Errors
/// If the caller is gone, or says what nobody understands.
pub fn serve(
    engine: &dyn Engine,
    mut input: impl Read,
    output: impl Write + Send,
) -> io::Result<()> {
    let desk = Desk {
        engine,
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
            match call {
                Call::Describe => desk.describe()?,
                Call::Cancel { attempt } => desk.cancel(attempt),
                Call::Run {
                    attempt,
                    previews,
                    task,
                } => {
                    lock(&desk.running).insert(attempt, AtomicBool::new(false));
                    let desk = &desk;
                    scope.spawn(move || {
                        let sink = Sink {
                            desk,
                            attempt,
                            previews,
                        };
                        let made = catch_unwind(AssertUnwindSafe(|| desk.engine.run(*task, &sink)));
                        lock(&desk.running).remove(&attempt);
                        // A caller that is gone needs no answer, and its going ends the loop above.
                        let _ = desk.answer(&match made {
                            Ok(Ok(pictures)) => Reply::Made { attempt, pictures },
                            Ok(Err(error)) => Reply::Failed {
                                attempt,
                                fault: Fault::from(error),
                            },
                            Err(_) => Reply::Failed {
                                attempt,
                                fault: Fault::Failed {
                                    reason: "the engine panicked".to_owned(),
                                },
                            },
                        });
                    });
                }
            }
        }
    })
}

/// What the threads of a process share.
struct Desk<'a, W> {
    engine: &'a dyn Engine,
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
        })))
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
}

impl<W: Write> ProgressSink for Sink<'_, W> {
    fn step(&self, step: Step) {
        // As above.
        let _ = self.desk.answer(&Reply::Step {
            attempt: self.attempt,
            step,
        });
    }

    fn cancelled(&self) -> bool {
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
