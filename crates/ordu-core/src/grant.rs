//! Monthly grants: what an account is given each month.
//!
//! # Source
//! `community.md` § 2.9; `generation.md` § 7.9.

use crate::{Kudos, Role, Roles};

/// What moderators get each month.
pub const MODERATOR: Kudos = Kudos::new(300_000);

/// What an account with `own` granted to it gets each month in all.
pub fn monthly(own: Kudos, roles: Roles) -> Kudos {
    if roles.has(Role::Moderator) {
        own + MODERATOR
    } else {
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moderators_get_more_than_their_own() {
        let moderator = Roles::NONE.with(Role::Moderator);
        assert_eq!(monthly(Kudos::new(5), Roles::NONE), Kudos::new(5));
        assert_eq!(monthly(Kudos::new(5), moderator), Kudos::new(300_005));
    }
}
