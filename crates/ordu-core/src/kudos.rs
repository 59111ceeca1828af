//! The unit of thanks.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// An amount of kudos, counted in millikudos (1 kudos = 1,000).
///
/// Integers, because sums must be exact and independent of order. Floats live only inside
/// `pricing` and leave it through [`Kudos::round`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Kudos(i64);

impl Kudos {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Whole kudos.
    pub const fn new(kudos: i64) -> Self {
        Self(kudos.saturating_mul(1000))
    }

    /// An amount as it is stored.
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli)
    }

    /// The stored form.
    pub const fn milli(self) -> i64 {
        self.0
    }

    /// Rounds to whole millikudos, half away from zero; what is not finite or does not fit becomes
    /// the nearest amount that does, and NaN zero.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, which is what is wanted"
    )]
    pub fn round(kudos: f64) -> Self {
        Self((kudos * 1000.0).round() as i64)
    }

    /// Rounds to the two decimals that the protocol shows, half away from zero.
    pub fn round_to_cents(kudos: f64) -> Self {
        Self::round((kudos * 100.0).round() / 100.0)
    }

    /// The amount in kudos, for the wire and for prices.
    #[expect(
        clippy::cast_precision_loss,
        reason = "amounts are far below 2^53 millikudos"
    )]
    pub const fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The larger of two amounts.
    #[must_use]
    pub fn at_least(self, floor: Self) -> Self {
        self.max(floor)
    }
}

impl Add for Kudos {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Kudos {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Kudos {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Kudos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Kudos {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Kudos {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Kudos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_away_from_zero_and_total() {
        assert_eq!(Kudos::round(0.0005), Kudos::from_milli(1));
        assert_eq!(Kudos::round(-0.0005), Kudos::from_milli(-1));
        assert_eq!(Kudos::round_to_cents(7.615), Kudos::from_milli(7620));
        assert_eq!(Kudos::round(f64::NAN), Kudos::ZERO);
        assert_eq!(Kudos::round(f64::INFINITY), Kudos::from_milli(i64::MAX));
    }
}
