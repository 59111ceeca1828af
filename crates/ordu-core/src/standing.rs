//! Who an account is to the rules: its roles and what it can spend.
//!
//! Knows nothing of keys, sessions or storage.

use ordu_api::UserId;
use serde::{Deserialize, Serialize};

use crate::Kudos;

/// What an account was granted, or is held against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Proved itself, or was vouched for.
    Trusted,
    /// Supports the horde with money.
    Patron,
    /// May use special models and fields.
    Special,
    /// A school: everything is kept safe for work.
    Education,
    /// Asks on behalf of users of its own.
    Service,
    /// Misbehaved.
    Flagged,
    /// Keeps order.
    Moderator,
    /// May serve models that nobody knows.
    Customizer,
    /// May work from an address that looks like a proxy.
    Vpn,
    /// Registered without a proof of identity.
    Pseudonymous,
}

/// A set of [`Role`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(u16);

impl Roles {
    /// No role at all.
    pub const NONE: Self = Self(0);

    /// The same roles and one more.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | 1 << role as u16)
    }

    /// The same roles without one.
    #[must_use]
    pub const fn without(self, role: Role) -> Self {
        Self(self.0 & !(1 << role as u16))
    }

    /// Whether the role is among them.
    pub const fn has(self, role: Role) -> bool {
        self.0 & 1 << role as u16 != 0
    }

    /// Whether any of these roles is among them.
    pub fn has_any(self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Self::NONE, Self::with)
    }
}

/// An account at the moment it asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The account.
    pub user: UserId,
    /// Its public name, `name#id`.
    pub alias: String,
    /// Its roles.
    pub roles: Roles,
    /// What it can spend, holds and unfolded debits taken off, in kudos.
    pub kudos: Kudos,
}

impl Standing {
    /// The account that everybody shares.
    pub fn anonymous(kudos: Kudos) -> Self {
        Self {
            user: UserId::ANONYMOUS,
            alias: "Anonymous#0".to_owned(),
            roles: Roles::NONE,
            kudos,
        }
    }

    /// Whether the account is the one that everybody shares.
    pub fn is_anonymous(&self) -> bool {
        self.user == UserId::ANONYMOUS
    }

    /// The balance below which the account never falls.
    ///
    /// # Source
    /// `generation.md` § 7.10.
    pub fn floor(&self) -> Kudos {
        floor(self.user, self.roles)
    }

    /// What is left above the floor; negative for a new account.
    pub fn available(&self) -> Kudos {
        self.kudos - self.floor()
    }

    /// The priority that a request of this account is born with.
    ///
    /// # Source
    /// `generation.md` § 6.5.
    pub fn priority(&self, service: Service) -> Kudos {
        /// What a flagged account needs to be more than last.
        const FLAGGED_MINIMUM: Kudos = Kudos::new(10);
        match service {
            Service::Downgraded => Kudos::new(-50),
            Service::Full if !self.roles.has(Role::Flagged) => self.kudos,
            Service::Full if self.kudos > FLAGGED_MINIMUM => {
                let whole = self.kudos.milli().saturating_add(500_000) / 1_000_000;
                Kudos::new(whole)
            }
            Service::Full => Kudos::new(-100),
        }
    }
}

/// How well a request is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// As its owner's balance deserves.
    Full,
    /// Last of all, because the shared key behind it is empty.
    Downgraded,
}

/// The balance below which an account never falls.
///
/// # Source
/// `generation.md` § 7.10.
pub fn floor(user: UserId, roles: Roles) -> Kudos {
    if user == UserId::ANONYMOUS {
        Kudos::new(-50)
    } else if roles.has(Role::Pseudonymous) {
        Kudos::new(14)
    } else {
        Kudos::new(25)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_kudos(kudos: i64, roles: Roles) -> Standing {
        Standing {
            user: UserId::new(7).unwrap(),
            alias: "a#7".to_owned(),
            roles,
            kudos: Kudos::new(kudos),
        }
    }

    #[test]
    fn roles_are_a_set() {
        let roles: Roles = [Role::Trusted, Role::Vpn].into_iter().collect();
        assert!(roles.has(Role::Trusted) && !roles.has(Role::Patron));
        assert!(roles.has_any(&[Role::Patron, Role::Vpn]));
        assert!(!roles.without(Role::Vpn).has(Role::Vpn));
    }

    #[test]
    fn priority_is_the_balance_unless_something_is_held_against_it() {
        let flagged = Roles::NONE.with(Role::Flagged);
        let cases = [
            (with_kudos(120, Roles::NONE), Service::Full, 120),
            (with_kudos(120, Roles::NONE), Service::Downgraded, -50),
            (with_kudos(10_600, flagged), Service::Full, 11),
            (with_kudos(11, flagged), Service::Full, 0),
            (with_kudos(10, flagged), Service::Full, -100),
        ];
        for (standing, service, priority) in cases {
            assert_eq!(standing.priority(service), Kudos::new(priority));
        }
    }
}
