//! The store: opening, closing, health. Its operations lie with their nouns.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use ordu_core::Timestamp;

use crate::behind::Behind;
use crate::change;
use crate::counters::{Counters, Tally};
use crate::error::Result;
use crate::pool::{DatabaseUrl, Options, Pool};
use crate::writer::Writer;

/// How often what nobody needs after a crash is written.
const WRITE_BEHIND: Duration = Duration::from_secs(1);

/// Everything durable besides the blobs.
///
/// Whatever returns `Ok` is committed, except `…_later`.
#[derive(Debug)]
pub struct Store {
    pub(crate) pool: Arc<Pool>,
    pub(crate) writer: Writer,
    pub(crate) behind: Arc<Behind>,
    pub(crate) tally: Arc<Tally>,
    closing: watch::Sender<bool>,
    tasks: std::sync::Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Store {
    /// Opens a database, creates it if it is a missing SQLite file, and brings its schema up to
    /// date. `now` dates the anonymous account if it has to be made.
    ///
    /// # Errors
    /// [`crate::Error::NewerSchema`] when a newer program wrote it.
    pub async fn open(url: &DatabaseUrl, options: &Options, now: Timestamp) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let pool = Arc::new(Pool::open(url, options, Arc::clone(&tally.trips)).await?);
        crate::user::ensure_anonymous(&pool, now).await?;
        let (closing, closed) = watch::channel(false);
        let writer = Writer::start(&pool, &tally, &closed);
        let behind = Arc::new(Behind::new(Arc::clone(&pool), Arc::clone(&tally)));
        let mut tasks = Vec::new();
        if let Some(written) = pool.written() {
            let announcer = change::announce(Arc::downgrade(&pool), written, closed.clone());
            tasks.push(crate::task::start(announcer));
        }
        tasks.push(crate::task::start(flush_often(
            Arc::downgrade(&behind),
            closed,
        )));
        Ok(Self {
            pool,
            writer,
            behind,
            tally,
            closing,
            tasks: std::sync::Mutex::new(tasks),
        })
    }

    /// Writes what waits, then closes the database. Later operations fail as closed.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        self.writer.ended().await;
        let tasks = match self.tasks.lock() {
            Ok(mut tasks) => std::mem::take(&mut *tasks),
            Err(_) => Vec::new(),
        };
        for task in tasks {
            // Its only way to end badly is a panic, which is logged where it happened.
            let _ = task.await;
        }
        if let Err(error) = self.behind.flush().await {
            tracing::warn!(error = %error, "the last check-ins were not written");
        }
        self.pool.close().await;
    }

    /// Whether the database answers and can be written to, for readiness.
    pub async fn ping(&self) -> Result<()> {
        self.pool.check_disk()?;
        self.pool.reader().await?.plain("SELECT 1").await
    }

    /// What the store did so far.
    pub fn counters(&self) -> Counters {
        self.tally.read()
    }

    /// Writes now what `…_later` put aside.
    pub async fn flush(&self) -> Result<()> {
        self.behind.flush().await
    }
}

async fn flush_often(behind: std::sync::Weak<Behind>, mut closing: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = closing.changed() => return,
            () = tokio::time::sleep(WRITE_BEHIND) => {}
        }
        let Some(behind) = behind.upgrade() else {
            return;
        };
        if let Err(error) = behind.flush().await {
            tracing::warn!(error = %error, "check-ins wait for the database");
        }
    }
}
