//! Telling a worker to stop, ever more urgently.

use std::sync::Arc;

use tokio::sync::watch;

/// How urgently the worker should stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    #[default]
    Run,
    /// Pop nothing more, finish what was popped.
    Drain,
    /// Also hand back what is not being sampled yet.
    Hurry,
    /// Hand everything back, as far as that goes quickly.
    Abort,
}

impl Level {
    fn next(self) -> Self {
        match self {
            Self::Run => Self::Drain,
            Self::Drain => Self::Hurry,
            Self::Hurry | Self::Abort => Self::Abort,
        }
    }
}

/// The one signal that all tasks of a worker listen to. Clones are the same signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<watch::Sender<Level>>);

impl Shutdown {
    /// A signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more request to stop: the first drains, the second hurries, the third aborts.
    pub fn escalate(&self) -> Level {
        self.0.send_modify(|level| *level = level.next());
        self.level()
    }

    /// At least this urgent. A level is never taken back.
    pub fn raise(&self, to: Level) {
        self.0.send_modify(|level| *level = to.max(*level));
    }

    /// How urgent it is now.
    pub fn level(&self) -> Level {
        *self.0.borrow()
    }

    /// Ends when it is this urgent.
    pub async fn reached(&self, level: Level) {
        let mut changes = self.0.subscribe();
        // The sender is part of `self`, so it cannot be gone.
        drop(changes.wait_for(|now| *now >= level).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_is_more_urgent_and_none_is_taken_back() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.level(), Level::Run);
        assert_eq!(shutdown.clone().escalate(), Level::Drain);
        shutdown.reached(Level::Drain).await;
        assert_eq!(shutdown.escalate(), Level::Hurry);
        shutdown.raise(Level::Drain);
        assert_eq!(shutdown.level(), Level::Hurry);
        assert_eq!(shutdown.escalate(), Level::Abort);
        assert_eq!(shutdown.escalate(), Level::Abort);
        shutdown.reached(Level::Run).await;
    }
}
