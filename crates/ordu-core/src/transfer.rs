//! Gifts of kudos: who may give to whom.
//!
//! Whether there is enough is not asked here: that is decided where the movement is written.
//!
//! # Source
//! `community.md` § 6.1: the order decides which refusal wins.

use ordu_api::{ReturnCode, UserId};

use crate::{Kudos, Refusal, Role, Roles};

/// One side of a gift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// Who.
    pub user: UserId,
    /// Its roles.
    pub roles: Roles,
    /// Whether the account is about to be deleted.
    pub deleted: bool,
    /// Whether it was suspected too often.
    pub suspicious: bool,
}

/// Whom a gift is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nobody has this name.
    Nobody,
    /// An account.
    Account(Party),
    /// A shared key of an account.
    SharedKey {
        /// Whose key it is.
        owner: Party,
        /// Whether its time is over.
        expired: bool,
    },
}

/// A gift that somebody wants to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// From whom.
    pub source: Party,
    /// For whom.
    pub target: Target,
    /// How much.
    pub amount: Kudos,
    /// Whether the target gave something to the source just before.
    pub is_answer: bool,
}

impl Transfer {
    /// Checks everything but the balance; answers who receives.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<UserId, Refusal> {
        if self.source.user == UserId::ANONYMOUS {
            return refuse(
                ReturnCode::KudosTransferFromAnon,
                "Anonymous users cannot give kudos away",
            );
        }
        let target = self.receiver()?;
        self.check_pair(target)?;
        self.check_standing(target)?;
        if self.amount < Kudos::ZERO {
            let message = "Nobody can be made to give: the amount is negative";
            return refuse(ReturnCode::NegativeKudosTransfer, message);
        }
        if self.amount == Kudos::ZERO {
            let message = "The amount must be at least one kudo";
            return refuse(ReturnCode::InvalidKudosTransferAmount, message);
        }
        Ok(target.user)
    }

    fn receiver(&self) -> Result<Party, Refusal> {
        match self.target {
            Target::Nobody => refuse(
                ReturnCode::InvalidTargetUsername,
                "No account and no shared key has this name",
            ),
            Target::SharedKey { expired: true, .. } => refuse(
                ReturnCode::SharedKeyExpiredNamed,
                "This shared key has expired",
            ),
            Target::Account(party) | Target::SharedKey { owner: party, .. } => Ok(party),
        }
    }

    fn check_pair(&self, target: Party) -> Result<(), Refusal> {
        if target.user == UserId::ANONYMOUS {
            let message = "Nobody could spend what is given to the anonymous account";
            return refuse(ReturnCode::KudosTransferToAnon, message);
        }
        if target.user == self.source.user {
            let message = "This is your own account";
            return refuse(ReturnCode::KudosTransferToSelf, message);
        }
        if self.is_answer {
            let message = "You got kudos from there just now: wait a minute";
            return refuse(ReturnCode::TooFastKudosTransfers, message);
        }
        Ok(())
    }

    fn check_standing(&self, target: Party) -> Result<(), Refusal> {
        let source = self.source;
        let rules = [
            (
                source.suspicious,
                ReturnCode::FaultWhenKudosSending,
                "You cannot give kudos away",
            ),
            (
                source.roles.has(Role::Flagged),
                ReturnCode::SourceAccountFlagged,
                "Your account is flagged and cannot give kudos away",
            ),
            (
                source.roles.has(Role::Education),
                ReturnCode::EducationCannotSendKudos,
                "Accounts of education cannot give kudos away",
            ),
            (
                target.suspicious,
                ReturnCode::FaultWhenKudosReceiving,
                "This account cannot be given kudos",
            ),
            (
                target.roles.has(Role::Flagged),
                ReturnCode::TargetAccountFlagged,
                "This account is flagged and cannot be given kudos",
            ),
            (
                target.deleted || source.deleted,
                ReturnCode::DeletedUserTransfer,
                "One of the accounts is about to be deleted",
            ),
        ];
        let broken = rules.into_iter().find(|(is_broken, ..)| *is_broken);
        broken.map_or(Ok(()), |(_, code, message)| refuse(code, message))
    }
}

fn refuse<T>(code: ReturnCode, message: &str) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(user: i64) -> Party {
        Party {
            user: UserId::new(user).unwrap(),
            roles: Roles::NONE,
            deleted: false,
            suspicious: false,
        }
    }

    fn with(role: Role, user: i64) -> Party {
        Party {
            roles: Roles::NONE.with(role),
            ..party(user)
        }
    }

    fn bad() -> Party {
        Party {
            roles: [Role::Flagged, Role::Education].into_iter().collect(),
            deleted: true,
            suspicious: true,
            ..party(1)
        }
    }

    /// Each case breaks one rule and every rule after it.
    #[test]
    fn the_first_broken_rule_wins() {
        let bad = bad();
        let worst = Transfer {
            source: Party {
                user: UserId::ANONYMOUS,
                ..bad
            },
            target: Target::Nobody,
            amount: Kudos::new(-1),
            is_answer: true,
        };
        let key = |expired, user| Target::SharedKey {
            owner: Party {
                user: UserId::new(user).unwrap(),
                ..bad
            },
            expired,
        };
        let from = |source| Transfer { source, ..worst };
        let cases = [
            (worst, ReturnCode::KudosTransferFromAnon),
            (from(bad), ReturnCode::InvalidTargetUsername),
            (
                Transfer {
                    target: key(true, 0),
                    ..from(bad)
                },
                ReturnCode::SharedKeyExpiredNamed,
            ),
            (
                Transfer {
                    target: key(false, 0),
                    ..from(bad)
                },
                ReturnCode::KudosTransferToAnon,
            ),
            (
                Transfer {
                    target: key(false, 1),
                    ..from(bad)
                },
                ReturnCode::KudosTransferToSelf,
            ),
            (
                Transfer {
                    target: key(false, 2),
                    ..from(bad)
                },
                ReturnCode::TooFastKudosTransfers,
            ),
        ];
        for (transfer, code) in cases {
            assert_eq!(transfer.check().unwrap_err().code, code, "{transfer:?}");
        }
    }

    /// Each case breaks one rule and every rule after it.
    #[test]
    fn the_first_broken_rule_wins_between_accounts() {
        let bad = bad();
        let to = |source, target, amount| Transfer {
            source,
            target: Target::Account(target),
            amount: Kudos::new(amount),
            is_answer: false,
        };
        let bad_target = Party {
            user: UserId::new(2).unwrap(),
            ..bad
        };
        let calm = Party {
            suspicious: false,
            ..bad
        };
        let cases = [
            (to(bad, bad_target, -1), ReturnCode::FaultWhenKudosSending),
            (to(calm, bad_target, -1), ReturnCode::SourceAccountFlagged),
            (
                to(with(Role::Education, 1), bad_target, -1),
                ReturnCode::EducationCannotSendKudos,
            ),
            (
                to(party(1), bad_target, -1),
                ReturnCode::FaultWhenKudosReceiving,
            ),
            (
                to(party(1), with(Role::Flagged, 2), -1),
                ReturnCode::TargetAccountFlagged,
            ),
            (
                to(
                    Party {
                        deleted: true,
                        ..party(1)
                    },
                    party(2),
                    -1,
                ),
                ReturnCode::DeletedUserTransfer,
            ),
            (
                to(party(1), party(2), -1),
                ReturnCode::NegativeKudosTransfer,
            ),
            (
                to(party(1), party(2), 0),
                ReturnCode::InvalidKudosTransferAmount,
            ),
        ];
        for (transfer, code) in cases {
            assert_eq!(transfer.check().unwrap_err().code, code, "{transfer:?}");
        }
        let good = to(party(1), with(Role::Education, 2), 1);
        assert_eq!(good.check().unwrap().get(), 2);
    }
}
