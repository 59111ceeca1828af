//! Reads the change log: as soon as another node says that there is something, and every second.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ordu_api::{RequestId, UserId};
use ordu_store::{Changed, Error, Listener, Noun, Seen, Word};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::presence::KEPT;
use super::{locked, words};
use crate::app::App;

/// How often to look although nobody said anything.
const PAUSE: Duration = Duration::from_secs(1);

/// Until the shutdown begins.
pub(crate) async fn follow_log(app: Arc<App>, shutdown: CancellationToken) {
    let mut ear: Option<Listener> = None;
    loop {
        catch_up(&app).await;
        if ear.is_none() {
            ear = app.store.listen().await.ok();
            if ear.is_some() {
                // What was said in between was not heard.
                continue;
            }
        }
        let heard = tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => continue,
            heard = hear(&mut ear) => heard,
        };
        match heard {
            Ok(Word::Look) => {}
            Ok(Word::Said(said)) => words::note(&app, &said),
            Err(_) => ear = None,
        }
    }
}

async fn hear(ear: &mut Option<Listener>) -> Result<Word, Error> {
    match ear {
        Some(ear) => ear.next().await,
        None => std::future::pending().await,
    }
}

/// Reads what others changed and has not been read yet.
pub(super) async fn catch_up(app: &Arc<App>) {
    let mut log = app.nodes.log.lock().await;
    let Some((seen, read)) = &*log else {
        return;
    };
    let began = Instant::now();
    *locked(&app.nodes.looking) = Some(began);
    let done = if read.elapsed() > Duration::from_millis(KEPT.0.unsigned_abs() / 2) {
        app.read_everything().await
    } else {
        app.read_log(seen).await
    };
    let was_behind = app.nodes.is_behind();
    *locked(&app.nodes.looking) = None;
    if was_behind {
        app.ring_for_others();
    }
    match done {
        Ok(seen) => *log = Some((seen, began)),
        // What is not read now is read the next time.
        Err(error) => tracing::warn!(%error, "what other nodes do cannot be read"),
    }
}

impl App {
    /// What is read from now on needs no look into what was written before.
    pub(crate) async fn begin_log(&self) -> Result<(), Error> {
        if self.nodes.are_several() {
            let seen = self.store.seen_by_now().await?;
            *self.nodes.log.lock().await = Some((seen, Instant::now()));
        }
        Ok(())
    }

    async fn read_log(self: &Arc<Self>, seen: &Seen) -> Result<Seen, Error> {
        let Some(own) = self.nodes.own_id() else {
            return Ok(seen.clone());
        };
        let begun = Instant::now();
        let (changed, seen) = self.store.read_changes(seen, own).await?;
        self.note_lag(&changed);
        self.apply(&changed).await?;
        if changed.subjects.contains_key(&Noun::Request) {
            self.nodes.pace.note_look(begun.elapsed());
        }
        Ok(seen)
    }

    async fn apply(self: &Arc<Self>, changed: &Changed) -> Result<(), Error> {
        let of = |noun| changed.subjects.get(&noun).into_iter().flatten();
        for user in of(Noun::User) {
            if let Some(user) = user.parse().ok().and_then(UserId::new) {
                self.accounts.forget(user);
            }
        }
        for key in of(Noun::SharedKey).filter_map(|id| id.parse().ok()) {
            self.accounts.shared_keys().forget(key);
        }
        if of(Noun::Setting).next().is_some() {
            self.load_modes().await?;
            self.load_model_edits().await?;
        }
        // Jobs name workers: those come first.
        for worker in of(Noun::Worker).filter_map(|id| id.parse().ok()) {
            self.refresh_worker(worker).await?;
        }
        let requests = of(Noun::Request).filter_map(|id| id.parse().ok());
        self.refresh_with_again(requests.collect()).await
    }

    /// After a long absence the change log does not lead on from what was seen.
    async fn read_everything(self: &Arc<Self>) -> Result<Seen, Error> {
        tracing::warn!("this node was cut off for long: everything is read again");
        let seen = self.store.seen_by_now().await?;
        for worker in self.store.list_workers().await? {
            self.refresh_worker(worker.id).await?;
        }
        let stored = self.store.list_live().await?;
        let mut requests: BTreeSet<RequestId> = stored.into_iter().collect();
        requests.extend(self.live().horde.unfinished());
        let requests: Vec<RequestId> = requests.into_iter().collect();
        self.refresh_requests(&requests).await?;
        self.load_modes().await?;
        Ok(seen)
    }

    fn note_lag(&self, changed: &Changed) {
        let count = changed.subjects.values().map(BTreeSet::len).sum::<usize>();
        self.nodes
            .changes
            .fetch_add(count as u64, Ordering::Relaxed);
        let now = self.clock.now().0;
        let lag = changed
            .oldest
            .map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        self.nodes.lag.store(lag, Ordering::Relaxed);
    }
}
