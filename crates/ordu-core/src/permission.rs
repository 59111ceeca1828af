//! Who may change what about an account, a worker or a team.
//!
//! # Source
//! `community.md` § 2.7, § 4, § 5.4; `observed.md` 24, 25.

use ordu_api::ReturnCode;

use crate::Refusal;

/// Whoever wants to change something, seen from what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a role of its own, and several may hold"
)]
pub struct Caller {
    /// Named as an admin by the operator.
    pub admin: bool,
    /// Keeps order.
    pub moderator: bool,
    /// It is about the caller's own.
    pub own: bool,
    /// The account that everybody shares.
    pub anonymous: bool,
    /// Speaks for users of its own.
    pub service: bool,
}

/// What it takes to change a member of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserTier {
    /// Admins.
    Admin,
    /// Moderators.
    Moderator,
    /// The account itself, and moderators.
    Own,
    /// The same, for services.
    Service,
}

impl UserTier {
    /// Checks whether `caller` may change a member of this tier.
    ///
    /// # Errors
    /// `NotAdmin`, `NotModerator`, `AnonForbiddenUserMod`, `NonServiceForbidden`.
    pub fn check(self, caller: Caller) -> Result<(), Refusal> {
        let may = match self {
            Self::Admin => caller.admin,
            Self::Moderator => caller.moderator,
            Self::Own | Self::Service => caller.moderator || caller.own,
        };
        if !may {
            return Err(match self {
                Self::Admin => refusal(ReturnCode::NotAdmin, "Only admins change this"),
                _ => refusal(ReturnCode::NotModerator, "Only moderators change this"),
            });
        }
        if caller.anonymous && self != Self::Admin {
            let message = "The anonymous account cannot be changed by itself";
            return Err(refusal(ReturnCode::AnonForbiddenUserMod, message));
        }
        if self == Self::Service && !caller.service {
            let message = "Only service accounts have a proxy passkey";
            return Err(refusal(ReturnCode::NonServiceForbidden, message));
        }
        Ok(())
    }
}

/// What it takes to change a member of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerTier {
    /// Moderators.
    Moderator,
    /// Its owner, and moderators: how it works.
    Operation,
    /// The same: who it is.
    Identity,
}

impl WorkerTier {
    /// Checks whether `caller` may change a member of this tier.
    ///
    /// # Errors
    /// `NotOwner`, `NotModerator`.
    pub fn check(self, caller: Caller) -> Result<(), Refusal> {
        let may = caller.moderator || caller.own && self != Self::Moderator;
        if may {
            return Ok(());
        }
        Err(match self {
            Self::Operation => refusal(ReturnCode::NotOwner, "This is somebody else's worker"),
            _ => refusal(ReturnCode::NotModerator, "Only moderators may do this"),
        })
    }
}

/// What it takes to change a member of a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeamTier {
    /// Its creator, and moderators: what is said about it.
    Info,
    /// The same: what it is called, and whether it is there.
    Identity,
}

impl TeamTier {
    /// Checks whether `caller` may change a member of this tier.
    ///
    /// # Errors
    /// `NotOwner`, `NotModerator`.
    pub fn check(self, caller: Caller) -> Result<(), Refusal> {
        if caller.moderator || caller.own {
            return Ok(());
        }
        Err(match self {
            Self::Info => refusal(ReturnCode::NotOwner, "This is somebody else's team"),
            Self::Identity => refusal(
                ReturnCode::NotModerator,
                "Only its creator and moderators may do this",
            ),
        })
    }
}

fn refusal(code: ReturnCode, message: &str) -> Refusal {
    Refusal::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Caller = Caller {
        admin: false,
        moderator: false,
        own: false,
        anonymous: false,
        service: false,
    };
    const OWN: Caller = Caller {
        own: true,
        ..NOBODY
    };
    const MODERATOR: Caller = Caller {
        moderator: true,
        ..NOBODY
    };
    const ADMIN: Caller = Caller {
        admin: true,
        ..MODERATOR
    };
    const ANONYMOUS: Caller = Caller {
        anonymous: true,
        ..NOBODY
    };

    fn code(result: Result<(), Refusal>) -> Option<ReturnCode> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn accounts_are_changed_by_tier() {
        use ReturnCode::{AnonForbiddenUserMod, NonServiceForbidden, NotAdmin, NotModerator};
        let service = Caller {
            service: true,
            ..OWN
        };
        let itself = Caller {
            own: true,
            ..ANONYMOUS
        };
        // Admin, moderator, own, service.
        let table = [
            (
                NOBODY,
                [
                    Some(NotAdmin),
                    Some(NotModerator),
                    Some(NotModerator),
                    Some(NotModerator),
                ],
            ),
            (
                ANONYMOUS,
                [
                    Some(NotAdmin),
                    Some(NotModerator),
                    Some(NotModerator),
                    Some(NotModerator),
                ],
            ),
            (
                OWN,
                [
                    Some(NotAdmin),
                    Some(NotModerator),
                    None,
                    Some(NonServiceForbidden),
                ],
            ),
            (
                MODERATOR,
                [Some(NotAdmin), None, None, Some(NonServiceForbidden)],
            ),
            (ADMIN, [None, None, None, Some(NonServiceForbidden)]),
            (service, [Some(NotAdmin), Some(NotModerator), None, None]),
            (
                itself,
                [
                    Some(NotAdmin),
                    Some(NotModerator),
                    Some(AnonForbiddenUserMod),
                    Some(AnonForbiddenUserMod),
                ],
            ),
        ];
        let tiers = [
            UserTier::Admin,
            UserTier::Moderator,
            UserTier::Own,
            UserTier::Service,
        ];
        for (caller, wanted) in table {
            assert_eq!(
                tiers.map(|tier| code(tier.check(caller))),
                wanted,
                "{caller:?}"
            );
        }
    }

    #[test]
    fn workers_are_changed_by_tier() {
        use ReturnCode::{NotModerator, NotOwner};
        // Moderator, operation, identity.
        let table = [
            (
                NOBODY,
                [Some(NotModerator), Some(NotOwner), Some(NotModerator)],
            ),
            (
                ANONYMOUS,
                [Some(NotModerator), Some(NotOwner), Some(NotModerator)],
            ),
            (OWN, [Some(NotModerator), None, None]),
            (MODERATOR, [None, None, None]),
        ];
        let tiers = [
            WorkerTier::Moderator,
            WorkerTier::Operation,
            WorkerTier::Identity,
        ];
        for (caller, wanted) in table {
            assert_eq!(
                tiers.map(|tier| code(tier.check(caller))),
                wanted,
                "{caller:?}"
            );
        }
    }
    #[test]
    fn teams_are_changed_by_their_creator_and_moderators() {
        use ReturnCode::{NotModerator, NotOwner};
        // Info, identity.
        let table = [
            (NOBODY, [Some(NotOwner), Some(NotModerator)]),
            (ANONYMOUS, [Some(NotOwner), Some(NotModerator)]),
            (OWN, [None, None]),
            (MODERATOR, [None, None]),
        ];
        let tiers = [TeamTier::Info, TeamTier::Identity];
        for (caller, wanted) in table {
            assert_eq!(
                tiers.map(|tier| code(tier.check(caller))),
                wanted,
                "{caller:?}"
            );
        }
    }
}
