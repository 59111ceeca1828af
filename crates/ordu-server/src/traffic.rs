//! What happened around requests, counted for whoever operates the horde.

use crate::app::App;

/// Sums since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficCounters {
    /// Requests that were refused because somebody asked too often.
    pub limited: u64,
    /// Clients whose use of a limit was forgotten too early because there were too many of them.
    pub limits_forgotten: u64,
    /// Calls that were sent away because there was too much in hand.
    pub shed: u64,
    /// Keys that were turned away because too many wrong ones came from their address.
    pub keys_refused: u64,
    /// Webhook messages that reached their receiver.
    pub webhooks_delivered: u64,
    /// Attempts to deliver one that failed.
    pub webhooks_failed: u64,
    /// Webhook messages that were given up after a day.
    pub webhooks_dropped: u64,
}

impl App {
    /// What was counted so far.
    pub(crate) fn traffic(&self) -> TrafficCounters {
        TrafficCounters {
            limited: self.limits.refused(),
            limits_forgotten: self.limits.forgotten(),
            shed: self.load.shed(),
            keys_refused: self.guesses.refused(),
            webhooks_delivered: self.webhooks.delivered(),
            webhooks_failed: self.webhooks.failed(),
            webhooks_dropped: self.webhooks.dropped(),
        }
    }
}
