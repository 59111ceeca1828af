//! Monthly grants: what an account is given each month.
//!
//! # Source
//! `community.md` § 2.9; `generation.md` § 7.9.

use crate::{Kudos, Role, Roles};

/// What moderators get each month.
pub const MODERATOR: Kudos = Kudos::new(300_000);

/// What an account with `own` granted to it, and `subscribed` for its subscriptions, gets each
/// month in all.
pub fn monthly(own: Kudos, subscribed: Kudos, roles: Roles) -> Kudos {
    let all = own + subscribed;
    if roles.has(Role::Moderator) {
        all + MODERATOR
    } else {
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moderators_get_more_than_their_own() {
        let moderator = Roles::NONE.with(Role::Moderator);
        let (own, subscribed) = (Kudos::new(5), Kudos::new(20));
        assert_eq!(monthly(own, Kudos::ZERO, Roles::NONE), own);
        assert_eq!(monthly(own, subscribed, Roles::NONE), Kudos::new(25));
        assert_eq!(monthly(own, subscribed, moderator), Kudos::new(300_025));
    }
}
