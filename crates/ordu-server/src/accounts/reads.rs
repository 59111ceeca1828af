//! Accounts that are being read: whoever wants one of them meanwhile waits for the same answer.
//!
//! Hundreds of calls at once come of one account: the anonymous one, or that of somebody with many workers.
//! When its copy is too old, each of them would ask the database for the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use ordu_core::Kudos;
use ordu_store::{Error, User};

/// The account, if there is one, with what of its debits is not folded yet.
type Answer = Result<Option<(User, Kudos)>, Error>;

/// What is being read, by how it was asked for.
#[derive(Debug)]
pub(super) struct Reads<K: Hash + Eq + Clone>(Mutex<HashMap<K, Read>>);

#[derive(Debug)]
struct Read {
    answer: Shared<BoxFuture<'static, Answer>>,
    waiting: usize,
    /// What was taken off the account since this began.
    debited: Kudos,
}

/// One of those who wait for an answer.
#[derive(Debug)]
struct Waiting<'a, K: Hash + Eq + Clone> {
    reads: &'a Reads<K>,
    key: K,
    answer: Shared<BoxFuture<'static, Answer>>,
}

impl<K: Hash + Eq + Clone> Default for Reads<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Reads<K> {
    /// Waits for what is being read under this key already, or else reads it.
    ///
    /// Of those who wait for one answer one may keep it, and is told what was taken off the account
    /// meanwhile. Nobody is if the key was forgotten meanwhile: the answer may be older than that.
    pub(super) async fn share<F>(
        &self,
        key: &K,
        read: impl FnOnce() -> F,
    ) -> Result<Option<(User, Kudos, Option<Kudos>)>, Error>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let waiting = self.wait(key, read);
        let answer = waiting.answer.clone().await;
        let debited = self.end(&waiting);
        Ok(answer?.map(|(user, unfolded)| (user, unfolded, debited)))
    }

    /// Whoever wants it from now on reads anew.
    pub(super) fn forget(&self, key: &K) {
        self.all().remove(key);
    }

    /// Something was taken off an account that may be being read.
    pub(super) fn debit(&self, key: &K, amount: Kudos) {
        if let Some(read) = self.all().get_mut(key) {
            read.debited += amount;
        }
    }

    fn wait<F>(&self, key: &K, read: impl FnOnce() -> F) -> Waiting<'_, K>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut all = self.all();
        let read = all.entry(key.clone()).or_insert_with(|| Read {
            answer: read().boxed().shared(),
            waiting: 0,
            debited: Kudos::ZERO,
        });
        read.waiting += 1;
        Waiting {
            reads: self,
            key: key.clone(),
            answer: read.answer.clone(),
        }
    }

    /// It has been read; says what was taken off meanwhile, to the first who heard.
    fn end(&self, waiting: &Waiting<'_, K>) -> Option<Kudos> {
        let mut all = self.all();
        all.get(&waiting.key)
            .filter(|read| read.answer.ptr_eq(&waiting.answer))?;
        all.remove(&waiting.key).map(|read| read.debited)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Drop for Waiting<'_, K> {
    /// What nobody waits for any more is given up: it would not go on.
    fn drop(&mut self) {
        let mut all = self.reads.all();
        let Some(read) = all.get_mut(&self.key) else {
            return;
        };
        if read.answer.ptr_eq(&self.answer) {
            read.waiting -= 1;
            if read.waiting == 0 {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::pending;
    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    fn never() -> BoxFuture<'static, Answer> {
        unreachable!("it is being read already")
    }

    /// A read that ends when it is told.
    async fn told(end: oneshot::Receiver<()>) -> Answer {
        end.await.unwrap();
        Err(Error::Closed)
    }

    /// What is left when all have heard.
    fn left(reads: &Reads<u8>) -> usize {
        reads.all().len()
    }

    #[tokio::test]
    async fn one_answer_is_for_all_who_wait() {
        let reads = Reads::default();
        let (tell, end) = oneshot::channel();
        let first = reads.wait(&1, || told(end));
        let second = reads.wait(&1, never);
        reads.debit(&1, Kudos::new(3));
        reads.debit(&2, Kudos::new(5));
        assert!(poll!(second.answer.clone()).is_pending());
        tell.send(()).unwrap();
        // Only the second one looks.
        assert!(matches!(second.answer.clone().await, Err(Error::Closed)));
        assert_eq!(reads.end(&second), Some(Kudos::new(3)));
        assert!(matches!(first.answer.clone().await, Err(Error::Closed)));
        assert_eq!(reads.end(&first), None);
        assert_eq!(left(&reads), 0);
    }

    #[tokio::test]
    async fn who_comes_after_a_change_reads_anew() {
        let reads = Reads::default();
        let before = reads.wait(&1, || async { Ok(None) });
        reads.forget(&1);
        let mut begun = false;
        let after = reads.wait(&1, || {
            begun = true;
            async { Ok(None) }
        });
        before.answer.clone().await.unwrap();
        assert_eq!(reads.end(&before), None);
        drop(before);
        assert_eq!(left(&reads), 1);
        after.answer.clone().await.unwrap();
        assert_eq!(reads.end(&after), Some(Kudos::ZERO));
        assert!(begun);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_up() {
        let reads = Reads::default();
        let (tell, end) = oneshot::channel();
        let gone = reads.wait(&1, || told(end));
        assert!(poll!(gone.answer.clone()).is_pending());
        let stays = reads.wait(&1, never);
        drop(gone);
        tell.send(()).unwrap();
        assert!(stays.answer.clone().await.is_err());
        drop(stays);
        assert_eq!(left(&reads), 0);
        drop(reads.wait(&1, pending));
        assert_eq!(left(&reads), 0);
    }
}
