//! Trust: when a worker owner has earned it.
//!
//! # Source
//! `generation.md` § 7.8; `community.md` § 2.12.

use ordu_api::UserId;

use crate::{Kudos, Millis, Role, Roles, Timestamp};

/// How old an account must be.
const MINIMUM_AGE: Millis = Millis::from_minutes(7 * 24 * 60);

/// With so many suspicions an account is not trusted, and moves no kudos to others.
pub const SUSPICIOUS: u64 = 5;

/// An account that may have earned trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is.
    pub user: UserId,
    /// Its roles.
    pub roles: Roles,
    /// What it earned and cannot spend yet.
    pub escrow: Kudos,
    /// When the account was made.
    pub created: Timestamp,
    /// How often it was suspected.
    pub suspicions: u64,
}

impl Candidate {
    /// Whether it is to be trusted now. Without a threshold nobody ever is.
    pub fn has_earned_trust(&self, threshold: Option<Kudos>, now: Timestamp) -> bool {
        let Some(threshold) = threshold else {
            return false;
        };
        self.user != UserId::ANONYMOUS
            && !self.roles.has(Role::Trusted)
            && self.escrow > threshold
            && self.suspicions < SUSPICIOUS
            && now.since(self.created) >= MINIMUM_AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn candidate() -> Candidate {
        Candidate {
            user: UserId::new(7).unwrap(),
            roles: Roles::NONE,
            escrow: Kudos::from_milli(50_001),
            created: Timestamp(NOW.0 - MINIMUM_AGE.0),
            suspicions: 4,
        }
    }

    #[test]
    fn trust_is_earned_at_the_border_and_not_before() {
        let at = Some(Kudos::new(50));
        let good = candidate();
        assert!(good.has_earned_trust(at, NOW));
        assert!(!good.has_earned_trust(None, NOW));
        let bad = [
            Candidate {
                escrow: Kudos::new(50),
                ..good
            },
            Candidate {
                suspicions: 5,
                ..good
            },
            Candidate {
                created: Timestamp(good.created.0 + 1),
                ..good
            },
            Candidate {
                user: UserId::ANONYMOUS,
                ..good
            },
            Candidate {
                roles: Roles::NONE.with(Role::Trusted),
                ..good
            },
        ];
        for candidate in bad {
            assert!(!candidate.has_earned_trust(at, NOW), "{candidate:?}");
        }
    }
}
