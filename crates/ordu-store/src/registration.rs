//! Accounts that strangers make for themselves, so many from one place.

use ordu_api::UserId;
use ordu_core::Timestamp;

use crate::Store;
use crate::error::Result;
use crate::pool::args;
use crate::user::{self, NewUser};

/// How many accounts one place may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// The place; what tells two of them apart, not where they are.
    pub place: String,
    /// Since when accounts count.
    pub since: Timestamp,
    /// So many in all.
    pub most: u32,
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// There is a new account.
    Account(UserId),
    /// The place has made too many; the oldest of those that count is from then.
    TooMany(Timestamp),
}

const COUNT: &str = "
    SELECT COUNT(*), COALESCE(MIN(happened_at), 0)
    FROM registrations
    WHERE place = $1 AND happened_at > $2";

const INSERT: &str = "
    INSERT INTO registrations (account, place, happened_at)
    VALUES ($1, $2, $3)";

const DELETE_OLD: &str = "
    DELETE FROM registrations
    WHERE happened_at <= $1";

impl Store {
    /// Makes an account with the next number, unless its place has made too many.
    ///
    /// # Errors
    /// [`crate::Error::Taken`] when the key or the subject has an account.
    pub async fn register_user(&self, new: &NewUser, allowance: &Allowance) -> Result<Registered> {
        let mut connection = self.pool.begin().await?;
        let registered = async {
            // Taking a number makes others wait: the count below holds until the commit.
            let id = user::next_id(&mut connection).await?;
            let values = args![allowance.place.clone(), allowance.since.0];
            let row: Option<(i64, i64)> = connection.one(COUNT, values).await?;
            let (count, oldest) = row.unwrap_or_default();
            if count >= i64::from(allowance.most) {
                connection.execute(user::GIVE_ID_BACK, args![]).await?;
                return Ok(Registered::TooMany(Timestamp(oldest)));
            }
            user::insert(&mut connection, id, new).await?;
            let values = args![id.get(), allowance.place.clone(), new.created.0];
            connection.execute(INSERT, values).await?;
            Ok(Registered::Account(id))
        }
        .await;
        connection.end(registered).await
    }

    /// Forgets from where accounts were made until then; says how many.
    pub async fn delete_registrations(&self, until: Timestamp) -> Result<u64> {
        self.pool.execute(DELETE_OLD, args![until.0]).await
    }
}
