//! The store's own tasks. They end by themselves when the store is closed or dropped.

use tokio::task::JoinHandle;

/// Starts a task that [`crate::Store::close`] waits for.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the task set: every handle is kept and awaited by `Store::close`"
)]
pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}
