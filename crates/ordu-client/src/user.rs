//! Accounts as they are shown.

use ordu_api::UserId;
use ordu_api::user::{TestUser, UserView};
use serde::Serialize;

use crate::transport::answer;
use crate::{Error, Horde};

/// What the gated test bootstrap makes: a fresh key for the account of `oauth_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewTestUser {
    /// The name to show.
    pub username: String,
    /// Who it is: the same id gives the same account.
    pub oauth_id: String,
    /// Whether it moderates.
    pub moderator: bool,
    /// Whether it is trusted; means something for accounts that do not moderate.
    pub trusted: bool,
    /// Its balance, in kudos.
    pub kudos: u64,
}

impl Default for NewTestUser {
    fn default() -> Self {
        Self {
            username: "test_user".to_owned(),
            oauth_id: "ci_test_user".to_owned(),
            moderator: true,
            trusted: true,
            kudos: 10_000,
        }
    }
}

impl Horde {
    /// The account behind the key of this handle (`GET /find_user`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `UserNotFound` if nobody has the key.
    pub async fn find_user(&self) -> Result<UserView, Error> {
        answer(self.get(&["find_user"])).await
    }

    /// An account by its number (`GET /users/{id}`).
    ///
    /// # Errors
    /// [`Error::Refused`] with `UserNotFound`.
    pub async fn user(&self, id: UserId) -> Result<UserView, Error> {
        answer(self.get(&["users", &id.to_string()])).await
    }

    /// Makes or refreshes an account for tests (`POST /dev/test-user`), where the horde has that
    /// switched on and the caller is on the same machine.
    ///
    /// # Errors
    /// [`Error::Refused`]: 404 if it is switched off, 403 from another machine.
    pub async fn test_user(&self, user: &NewTestUser) -> Result<TestUser, Error> {
        answer(self.post(&["dev", "test-user"], user)).await
    }
}
