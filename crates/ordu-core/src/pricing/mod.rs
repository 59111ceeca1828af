//! What work costs and earns. The only place with floats: every amount leaves as [`Kudos`],
//! rounded to the protocol's two decimals.
//!
//! # Source
//! `generation.md` § 7.

pub mod alchemy;
pub mod breakdown;
pub mod image;
pub mod text;
pub mod upfront;

use ordu_api::UserId;
use ordu_api::worker::WorkKind;

use crate::ledger::{Account, Entry, Reason};
use crate::{Kudos, Role, Roles, standing};

/// Uptime that is rewarded at once, in seconds: a reward is due past this much.
pub const UPTIME_REWARD_SECONDS: i64 = 600;

/// How much of a reward an owner gets at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All: the owner is trusted, or the anonymous account.
    Full,
    /// Half; the rest is held until the owner is trusted.
    Half,
    /// Nothing yet.
    Later,
}

impl Share {
    /// The share of a job's reward.
    ///
    /// # Source
    /// `generation.md` § 7.8.
    pub fn of_job(owner: UserId, roles: Roles) -> Self {
        if roles.has(Role::Trusted) || owner == UserId::ANONYMOUS {
            Self::Full
        } else {
            Self::Half
        }
    }

    /// The share of an uptime reward; that of an alchemist is never held.
    ///
    /// # Source
    /// `generation.md` § 7.8.
    pub fn of_uptime(kind: WorkKind, owner: UserId, roles: Roles) -> Self {
        let is_trusted = roles.has(Role::Trusted) || owner == UserId::ANONYMOUS;
        if is_trusted || kind == WorkKind::Interrogation {
            Self::Full
        } else {
            Self::Later
        }
    }
}

/// The entries that credit an owner: new kudos, spendable now or held. Nothing for zero.
pub fn credit(owner: UserId, amount: Kudos, share: Share, reason: Reason) -> Vec<Entry> {
    let held = match share {
        Share::Full => Kudos::ZERO,
        Share::Half => Kudos::round_to_cents(amount.as_f64() / 2.0),
        Share::Later => amount,
    };
    let targets = [
        (Account::Spendable(owner), amount - held),
        (Account::Escrow(owner), held),
    ];
    targets
        .into_iter()
        .filter(|(_, amount)| *amount > Kudos::ZERO)
        .map(|(to, amount)| Entry {
            from: Account::Mint,
            to,
            amount,
            reason,
        })
        .collect()
}

/// What lifts a balance that fell below the account's floor back to it: the forgiven part.
/// Written together with the debit that caused it.
///
/// # Source
/// `generation.md` § 7.10.
pub fn forgive(user: UserId, roles: Roles, balance: Kudos) -> Option<Entry> {
    let missing = standing::floor(user, roles) - balance;
    (missing > Kudos::ZERO).then(|| Entry::reward(user, missing, Reason::Floor))
}

/// The reward for an image worker that was online for [`UPTIME_REWARD_SECONDS`].
///
/// # Source
/// `generation.md` § 7.9.
pub fn image_uptime(models: usize, loras: Loras) -> Kudos {
    let by_models = Kudos::new(i64::try_from(models).unwrap_or(i64::MAX).saturating_mul(2));
    let by_loras = match loras {
        Loras::Allowed => Kudos::new(30),
        Loras::Refused => Kudos::ZERO,
    };
    Kudos::new(50) + by_models + by_loras
}

/// Whether a worker fetches LoRAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loras {
    /// It does.
    Allowed,
    /// It does not.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn credit_is_split_by_trust_and_loses_nothing() {
        let amount = Kudos::from_milli(7_610);
        let entries = credit(user(3), amount, Share::Half, Reason::Generation);
        let amounts: Vec<i64> = entries.iter().map(|entry| entry.amount.milli()).collect();
        assert_eq!(amounts, [3_800, 3_810]);
        for share in [Share::Full, Share::Later] {
            let entries = credit(user(3), amount, share, Reason::Uptime);
            assert_eq!(entries.len(), 1);
            assert_eq!(entries[0].amount, amount);
        }
        assert!(credit(user(3), Kudos::ZERO, Share::Half, Reason::Generation).is_empty());
    }

    #[test]
    fn uptime_waits_for_trust_unless_an_alchemist_was_there() {
        let trusted = Roles::NONE.with(Role::Trusted);
        let cases = [
            (WorkKind::Image, Roles::NONE, Share::Later),
            (WorkKind::Text, Roles::NONE, Share::Later),
            (WorkKind::Interrogation, Roles::NONE, Share::Full),
            (WorkKind::Image, trusted, Share::Full),
        ];
        for (kind, roles, share) in cases {
            assert_eq!(Share::of_uptime(kind, user(3), roles), share);
        }
        let nobody = Share::of_uptime(WorkKind::Text, UserId::ANONYMOUS, Roles::NONE);
        assert_eq!(nobody, Share::Full);
    }

    #[test]
    fn forgiveness_lifts_to_the_floor_exactly() {
        let cases = [
            (0, Roles::NONE, -53, Some(3)),
            (0, Roles::NONE, -50, None),
            (9, Roles::NONE, -3, Some(28)),
            (9, Roles::NONE, 25, None),
            (9, Roles::NONE.with(Role::Pseudonymous), 13, Some(1)),
        ];
        for (id, roles, balance, forgiven) in cases {
            let entry = forgive(user(id), roles, Kudos::new(balance));
            assert_eq!(entry.map(|entry| entry.amount), forgiven.map(Kudos::new));
        }
    }

    #[test]
    fn uptime_is_worth_more_with_models_and_loras() {
        assert_eq!(image_uptime(3, Loras::Refused), Kudos::new(56));
        assert_eq!(image_uptime(0, Loras::Allowed), Kudos::new(80));
    }
}
