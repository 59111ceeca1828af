//! All accounts in an order, at hand for a while.
//!
//! # Source
//! `community.md` § 2.4.

use std::sync::Arc;

use ordu_api::UserId;
use ordu_core::{Millis, Timestamp};
use ordu_store::UserSort;
use tokio::sync::Mutex;

use crate::app::App;
use crate::error::ApiResult;

/// Accounts that are put into order.
const MAX_LISTED: u32 = 250_000;

/// How old an order may be that is shown …
const FRESH: Millis = Millis::from_seconds(300);

/// … or this, if it is quickly made.
const FRESH_IF_SHORT: Millis = Millis::from_seconds(10);

/// How many accounts are quickly put into order.
const SHORT: usize = 10_000;

/// The orders of the list, as they were last made. Making one looks at every account, so it is not
/// made for each page anew.
#[derive(Debug, Default)]
pub(crate) struct Rankings {
    by_kudos: Mutex<Option<Ranking>>,
    by_age: Mutex<Option<Ranking>>,
}

/// One order.
#[derive(Debug, Clone)]
struct Ranking {
    users: Arc<[UserId]>,
    made: Timestamp,
}

impl Ranking {
    fn is_fresh(&self, now: Timestamp) -> bool {
        let fresh = if self.users.len() < SHORT {
            FRESH_IF_SHORT
        } else {
            FRESH
        };
        now.since(self.made) < fresh
    }
}

impl App {
    /// An order of all accounts. Whoever comes while it is made waits for it.
    pub(crate) async fn ranking(&self, sort: UserSort) -> ApiResult<Arc<[UserId]>> {
        let kept = match sort {
            UserSort::Kudos => &self.rankings.by_kudos,
            UserSort::Age => &self.rankings.by_age,
        };
        let mut kept = kept.lock().await;
        let now = self.clock.now();
        if let Some(fresh) = kept.as_ref().filter(|kept| kept.is_fresh(now)) {
            return Ok(Arc::clone(&fresh.users));
        }
        let users: Arc<[UserId]> = self.store.rank_users(sort, MAX_LISTED).await?.into();
        *kept = Some(Ranking {
            users: Arc::clone(&users),
            made: now,
        });
        Ok(users)
    }
}
