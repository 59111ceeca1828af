//! Gives accounts what they are granted each month, on the day of the month when it first was.
//!
//! # Source
//! `community.md` § 2.9: one grant a round, however many months are overdue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordu_api::UserId;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::{Kudos, Millis, Timestamp};
use ordu_store::{Recorded, User, UserChange};
use uuid::Uuid;

use crate::app::App;
use crate::dates;

/// How often.
pub(crate) const PAUSE: Duration = Duration::from_hours(1);

/// How many accounts one round looks at.
const BITE: u32 = 1000;

/// No month is shorter.
const SHORTEST_MONTH: Millis = Millis::from_minutes(28 * 24 * 60);

/// One round.
pub(crate) async fn run(app: Arc<App>) {
    let now = app.clock.now();
    let users = match app.may_be_due(now).await {
        Ok(users) => users,
        Err(error) => {
            tracing::warn!(%error, "no monthly grants");
            return;
        }
    };
    for user in users.into_values() {
        if let Err(error) = app.give_monthly(&user, now).await {
            tracing::warn!(%error, user.id = %user.id, "no monthly grant");
        }
    }
}

impl App {
    /// Those whose month may be over: by what is stored with them, or by a subscription.
    async fn may_be_due(
        &self,
        now: Timestamp,
    ) -> Result<BTreeMap<UserId, User>, ordu_store::Error> {
        let before = now - SHORTEST_MONTH;
        let granted = self.store.list_grants(before, BITE).await?;
        let mut users: BTreeMap<UserId, User> =
            granted.into_iter().map(|user| (user.id, user)).collect();
        let subscribers = self.subscriptions.all();
        let subscribed: Vec<UserId> = subscribers.entitled().collect();
        for some in subscribed.chunks(BITE as usize) {
            let mut found = self.store.list_users(some).await?;
            found.retain(|user| user.monthly_received.is_none_or(|at| at <= before));
            users.extend(found.into_iter().map(|user| (user.id, user)));
        }
        Ok(users)
    }

    /// Gives a user its month, if that is due.
    async fn give_monthly(&self, user: &User, now: Timestamp) -> Result<(), ordu_store::Error> {
        let due = user.monthly_received.map(dates::month_after);
        if due.is_some_and(|due| due > now) {
            return Ok(());
        }
        let amount = self.monthly(user);
        if amount <= Kudos::ZERO {
            return Ok(());
        }
        let event = Event {
            id: event_id(user),
            at: now,
            kind: None,
            entries: vec![Entry::reward(user.id, amount, Reason::Recurring)],
        };
        // A grant that was recorded before, but whose date was not moved, only moves the date.
        if self.store.record(&event).await? == Recorded::Now {
            tracing::info!(user.id = %user.id, kudos_milli = amount.milli(), "a monthly grant");
        }
        let change = UserChange {
            monthly_received: Some(due.unwrap_or(now)),
            ..UserChange::default()
        };
        self.store.update_user(user.id, &change).await?;
        self.accounts.forget(user.id);
        Ok(())
    }
}

/// Names the grant that follows the last one, so that it is given once whoever gives it.
fn event_id(user: &User) -> Uuid {
    /// Keeps these ids apart from all others: `monthly`.
    const MONTHLY: u64 = 0x6d6f_6e74_0000_0000;
    let last = user.monthly_received.unwrap_or_default();
    Uuid::from_u64_pair(
        MONTHLY | user.id.get().unsigned_abs(),
        last.0.unsigned_abs(),
    )
}
