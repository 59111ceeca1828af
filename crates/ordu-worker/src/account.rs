//! What its owner's account has, asked for now and then.
//!
//! # Source
//! `worker.md` § 1.5, 1.18.

use std::convert::Infallible;

use ordu_client::Horde;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Timing;
use crate::status::{Account, Phase, Status};

/// Looks that are left out as long as the worker earns nothing: an idle one should cost little.
const PATIENCE: u32 = 10;

/// Shows the account until it is dropped. A worker in maintenance earns nothing for others, and one that
/// ends need not know.
pub(crate) async fn watch(
    horde: &Horde,
    status: &watch::Sender<Status>,
    timing: &Timing,
) -> Infallible {
    let mut pace = Pace::default();
    loop {
        let (earned, rests) = {
            let status = status.borrow();
            let rests = matches!(
                status.phase,
                Phase::Maintenance(_) | Phase::Draining | Phase::Stopped
            );
            (status.earned.total(), rests)
        };
        if !rests && pace.is_due(earned) {
            look(horde, status).await;
        }
        sleep(timing.account_interval).await;
    }
}

/// When it is worth looking again.
#[derive(Debug, Default)]
struct Pace {
    /// What had been earned when it was looked at last.
    earned: Option<f64>,
    left_out: u32,
}

impl Pace {
    /// At the first time, when something was earned, and once in a while.
    fn is_due(&mut self, earned: f64) -> bool {
        let is_news = self.earned.is_none_or(|before| earned > before);
        if !is_news && self.left_out + 1 < PATIENCE {
            self.left_out += 1;
            return false;
        }
        *self = Self {
            earned: Some(earned),
            left_out: 0,
        };
        true
    }
}

async fn look(horde: &Horde, status: &watch::Sender<Status>) {
    let account = match horde.find_user().await {
        Ok(user) => Account {
            alias: user.username,
            kudos: user.kudos,
        },
        Err(error) => return tracing::debug!(%error, "the horde does not tell the account"),
    };
    status.send_if_modified(|status| {
        let differs = status.account.as_ref() != Some(&account);
        status.account = Some(account);
        differs
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_worker_looks_at_its_account_hardly_ever() {
        let mut pace = Pace::default();
        assert!(pace.is_due(0.0) && !pace.is_due(0.0));
        assert!(pace.is_due(1.5), "something was earned");
        let later: Vec<bool> = (0..20).map(|_| pace.is_due(1.5)).collect();
        let looks: Vec<_> = (1..=20).zip(later).filter(|(_, due)| *due).collect();
        assert_eq!(looks, [(10, true), (20, true)]);
    }
}
