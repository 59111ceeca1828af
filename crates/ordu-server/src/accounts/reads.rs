//! Accounts that are being read: whoever wants one of them meanwhile waits for the same answer.
//!
//! Hundreds of calls at once come of one account: the anonymous one, or that of somebody with many workers.
//! When its copy is too old, each of them would ask the database for the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use ordu_core::Kudos;
use ordu_store::{Error, User};
use tokio::time::timeout;

/// How long others are waited for: longer than they wait for a connection. One may hang, and then only those
/// hang who met it.
const PATIENCE: Duration = Duration::from_secs(6);

/// The account, if there is one, with what of its debits is not folded yet.
pub(super) type Answer = Result<Option<(User, Kudos)>, Error>;

type Shares = Shared<BoxFuture<'static, Answer>>;

/// What is being read, by how it was asked for.
#[derive(Debug)]
pub(super) struct Reads<K: Hash + Eq + Clone> {
    begun: Mutex<HashMap<K, Read>>,
    patience: Duration,
}

#[derive(Debug)]
struct Read {
    answer: Shares,
    waiting: usize,
    /// What was taken off the account since this began.
    debited: Kudos,
    /// Whether something was taken off that may have been this account's.
    is_doubtful: bool,
}

/// One of those who wait for an answer.
#[derive(Debug)]
struct Waiting<'a, K: Hash + Eq + Clone> {
    reads: &'a Reads<K>,
    key: K,
    answer: Shares,
    /// Whether somebody else began it.
    joined: bool,
}

impl<K: Hash + Eq + Clone> Default for Reads<K> {
    fn default() -> Self {
        Self {
            begun: Mutex::default(),
            patience: PATIENCE,
        }
    }
}

impl<K: Hash + Eq + Clone> Reads<K> {
    /// Waits for what is being read under this key already, or else reads it. What others began is not
    /// waited for for ever, and their failure is not everybody's: then each reads for itself.
    ///
    /// Of those who wait for one answer, one keeps it, with what was taken off the account meanwhile. It
    /// is not kept if it may be older than what was forgotten, or taken off, meanwhile.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn share<F>(
        &self,
        key: &K,
        read: impl Fn() -> F,
        keep: impl FnOnce(&User, Kudos, Kudos),
    ) -> Answer
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let waiting = self.wait(key, &read);
        loop {
            match timeout(self.patience, waiting.answer.clone()).await {
                Ok(answer) if answer.is_ok() || !waiting.joined => {
                    self.end(&waiting, &answer, keep);
                    return answer;
                }
                // Who began it is with it to the end, and looks now and then: where one of the others goes
                // away who was about to look, nobody else is woken (futures-rs, issue 2706).
                Err(_) if !waiting.joined => {}
                Ok(_) | Err(_) => break,
            }
        }
        waiting.give_up();
        read().await
    }

    /// Whoever wants it from now on reads anew.
    pub(super) fn forget(&self, key: &K) {
        self.all().remove(key);
    }

    /// The same of all: one of them may be what has changed.
    pub(super) fn forget_all(&self) {
        self.all().clear();
    }

    /// Something was taken off an account that may be being read.
    pub(super) fn debit(&self, key: &K, amount: Kudos) {
        if let Some(read) = self.all().get_mut(key) {
            read.debited += amount;
        }
    }

    /// Something was taken off an account that may be any of these.
    pub(super) fn doubt_all(&self) {
        let mut all = self.all();
        all.values_mut().for_each(|read| read.is_doubtful = true);
    }

    fn wait<F>(&self, key: &K, read: &impl Fn() -> F) -> Waiting<'_, K>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut all = self.all();
        let joined = all.contains_key(key);
        let read = all.entry(key.clone()).or_insert_with(|| Read {
            answer: read().boxed().shared(),
            waiting: 0,
            debited: Kudos::ZERO,
            is_doubtful: false,
        });
        read.waiting += 1;
        Waiting {
            reads: self,
            key: key.clone(),
            answer: read.answer.clone(),
            joined,
        }
    }

    /// It has been read. The first who hears that keeps it, before anybody can change it again.
    fn end(
        &self,
        waiting: &Waiting<'_, K>,
        answer: &Answer,
        keep: impl FnOnce(&User, Kudos, Kudos),
    ) {
        let mut all = self.all();
        let Some(read) = waiting.find(&mut all) else {
            return;
        };
        if let Ok(Some((user, unfolded))) = answer
            && !read.is_doubtful
        {
            keep(user, *unfolded, read.debited);
        }
        all.remove(&waiting.key);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, Read>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Waiting<'_, K> {
    /// What this waits for, unless it has ended or was forgotten.
    fn find<'a>(&self, all: &'a mut HashMap<K, Read>) -> Option<&'a mut Read> {
        let read = all.get_mut(&self.key);
        read.filter(|read| read.answer.ptr_eq(&self.answer))
    }

    /// Nobody else is to wait for this, either.
    fn give_up(self) {
        let mut all = self.reads.all();
        if self.find(&mut all).is_some() {
            all.remove(&self.key);
        }
    }
}

impl<K: Hash + Eq + Clone> Drop for Waiting<'_, K> {
    /// What nobody waits for any more is given up: it would not go on.
    fn drop(&mut self) {
        let mut all = self.reads.all();
        if let Some(read) = self.find(&mut all) {
            read.waiting -= 1;
            if read.waiting == 0 {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;

    use futures::future::{join, pending, ready};
    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    fn keep_nothing(_: &User, _: Kudos, _: Kudos) {}

    fn nobody() -> futures::future::Ready<Answer> {
        ready(Ok(None))
    }

    fn never() -> BoxFuture<'static, Answer> {
        unreachable!("it is being read already")
    }

    /// How many are being read.
    fn begun(reads: &Reads<u8>) -> usize {
        reads.all().len()
    }

    #[tokio::test]
    async fn one_answer_is_for_all_who_wait() {
        let reads = Reads::default();
        let (tell, end) = oneshot::channel::<()>();
        let end = Cell::new(Some(end));
        let told = || {
            let end = end.take();
            async move {
                end.unwrap().await.unwrap();
                Ok(None)
            }
        };
        let mut first = pin!(reads.share(&1, told, keep_nothing));
        assert!(poll!(&mut first).is_pending());
        let mut second = pin!(reads.share(&1, never, keep_nothing));
        assert!(poll!(&mut second).is_pending());
        tell.send(()).unwrap();
        assert!(second.await.unwrap().is_none());
        assert!(first.await.unwrap().is_none());
        assert_eq!(begun(&reads), 0);
    }

    #[tokio::test]
    async fn who_comes_after_a_change_reads_anew() {
        for forget in [|reads: &Reads<u8>| reads.forget(&1), Reads::forget_all] {
            let reads = Reads::default();
            let before = reads.wait(&1, &nobody);
            forget(&reads);
            let after = reads.wait(&1, &nobody);
            assert!(!before.joined && !after.joined);
            assert!(!before.answer.ptr_eq(&after.answer));
            // It is not theirs to end any more.
            reads.end(&before, &Ok(None), keep_nothing);
            drop(before);
            assert_eq!(begun(&reads), 1);
            drop(after);
            assert_eq!(begun(&reads), 0);
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_up() {
        let reads = Reads::default();
        let gone = reads.wait(&1, &pending);
        let stays = reads.wait(&1, &never);
        assert!(stays.joined);
        drop(gone);
        assert_eq!(begun(&reads), 1);
        drop(stays);
        assert_eq!(begun(&reads), 0);
    }

    #[tokio::test]
    async fn a_read_that_hangs_is_not_waited_for() {
        let reads = Reads {
            patience: Duration::from_millis(10),
            ..Reads::default()
        };
        let mut hangs = pin!(reads.share(&1, pending, keep_nothing));
        assert!(poll!(&mut hangs).is_pending());
        let own = || {
            assert_eq!(begun(&reads), 0, "nobody else is to wait for it");
            ready(Ok(None))
        };
        let read = timeout(Duration::from_secs(20), reads.share(&1, own, keep_nothing));
        assert!(read.await.unwrap().unwrap().is_none());
        // Who began it stays with it.
        let long = Duration::from_millis(30);
        assert!(timeout(long, &mut hangs).await.is_err());
    }

    #[tokio::test]
    async fn who_joins_a_failure_reads_for_itself() {
        let reads = Reads::default();
        let tries = Cell::new(0);
        let fails = || {
            tries.set(tries.get() + 1);
            async {
                tokio::task::yield_now().await;
                Err(Error::Closed)
            }
        };
        let (first, second) = join(
            reads.share(&1, fails, keep_nothing),
            reads.share(&1, nobody, keep_nothing),
        )
        .await;
        assert!(matches!(first, Err(Error::Closed)));
        assert!(second.unwrap().is_none());
        assert_eq!(tries.get(), 1);
        assert_eq!(begun(&reads), 0);
    }
}
