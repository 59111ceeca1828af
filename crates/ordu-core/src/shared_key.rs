//! Shared keys: what one allows, and what it does not.
//!
//! Knows no balances and no storage: what is left of a budget is told by the caller.
//!
//! # Source
//! `generation.md` § 1.3, § 3.3 step 36; `community.md` § 3.

use ordu_api::ReturnCode;

use crate::horde::Work;
use crate::image::ImageSpec;
use crate::{Kudos, Refusal, Timestamp};

/// What a shared key allows. `None` is no limit everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// What is left to spend, in kudos.
    pub budget: Option<Kudos>,
    /// From when on it is of no use.
    pub expires: Option<Timestamp>,
    /// The largest picture, in pixels.
    pub max_image_pixels: Option<u64>,
    /// The most steps of a picture.
    pub max_image_steps: Option<u32>,
    /// The longest text, in tokens.
    pub max_text_tokens: Option<u32>,
}

/// What a key is presented for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// By itself.
    Direct,
    /// Because the request's style carries it.
    ByStyle,
}

/// Whether something else may be done where the key does not suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// Ask for less, or wait behind all others.
    Allowed,
    /// Refuse.
    Refused,
}

impl Downgrade {
    /// What a request says in `allow_downgrade`.
    pub const fn from_request(allow_downgrade: bool) -> Self {
        if allow_downgrade {
            Self::Allowed
        } else {
            Self::Refused
        }
    }
}

impl Terms {
    /// Whether there is nothing left to spend.
    pub fn is_empty(&self) -> bool {
        self.budget.is_some_and(|left| left <= Kudos::ZERO)
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Checks whether the key can be used at all.
    ///
    /// # Errors
    /// `SharedKeyEmpty`, `SharedKeyExpired`.
    pub fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.is_empty() {
            let message = "Nothing is left of this shared key's kudos; its owner can add some, or \
                set `allow_downgrade` to wait behind all others";
            return Err(Refusal::new(ReturnCode::SharedKeyEmpty, message));
        }
        if self.is_expired(now) {
            let message = "This shared key has expired";
            return Err(Refusal::new(ReturnCode::SharedKeyExpired, message));
        }
        Ok(())
    }

    /// Checks work against the limits for a job.
    ///
    /// # Errors
    /// `BadRequest`.
    pub fn check_work(&self, work: &Work) -> Result<(), Refusal> {
        match work {
            Work::Image(spec) => self.check_image(spec),
            Work::Text(spec) => self.check_text(spec.max_length),
            Work::Alchemy(_) => Ok(()),
        }
    }

    /// Checks one picture against the limits for a job.
    ///
    /// # Errors
    /// `BadRequest`.
    pub fn check_image(&self, spec: &ImageSpec) -> Result<(), Refusal> {
        within("pixels", spec.pixels(), self.max_image_pixels)?;
        let max_steps = self.max_image_steps.map(u64::from);
        within("steps", u64::from(spec.steps), max_steps)
    }

    /// Checks one text of at most `max_length` tokens against the limits for a job.
    ///
    /// # Errors
    /// `BadRequest`.
    pub fn check_text(&self, max_length: u32) -> Result<(), Refusal> {
        let max_tokens = self.max_text_tokens.map(u64::from);
        within("tokens", u64::from(max_length), max_tokens)
    }
}

/// Refuses a request that costs more than is left of the key's budget.
pub fn insufficient(most_cost: Kudos, left: Kudos) -> Refusal {
    let message = format!(
        "This may cost {most_cost} kudos, and {left} are left of the shared key's; ask for less, or \
         set `allow_downgrade` to wait behind all others"
    );
    Refusal::new(ReturnCode::SharedKeyInsufficientKudos, message)
}

fn within(what: &str, asked: u64, limit: Option<u64>) -> Result<(), Refusal> {
    match limit {
        Some(limit) if asked > limit => {
            let message = format!("{asked} {what} are more than the {limit} of this shared key");
            Err(Refusal::new(ReturnCode::BadRequest, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn code(result: Result<(), Refusal>) -> Option<ReturnCode> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_key_is_good_until_it_is_empty_or_over() {
        let cases = [
            (None, None, None),
            (Some(1), None, None),
            (Some(0), None, Some(ReturnCode::SharedKeyEmpty)),
            (None, Some(1_001), None),
            (None, Some(1_000), Some(ReturnCode::SharedKeyExpired)),
            (Some(0), Some(0), Some(ReturnCode::SharedKeyEmpty)),
        ];
        for (milli, expires, wanted) in cases {
            let terms = Terms {
                budget: milli.map(Kudos::from_milli),
                expires: expires.map(Timestamp),
                ..Terms::default()
            };
            assert_eq!(code(terms.check(NOW)), wanted, "{terms:?}");
        }
    }

    #[test]
    fn limits_are_inclusive() {
        let spec = ImageSpec {
            width: 512,
            height: 512,
            steps: 30,
            ..ImageSpec::default()
        };
        let terms = |pixels, steps| Terms {
            max_image_pixels: pixels,
            max_image_steps: steps,
            max_text_tokens: Some(80),
            ..Terms::default()
        };
        let refused = Some(ReturnCode::BadRequest);
        assert_eq!(
            code(terms(Some(262_144), Some(30)).check_image(&spec)),
            None
        );
        assert_eq!(code(terms(Some(262_143), None).check_image(&spec)), refused);
        assert_eq!(code(terms(None, Some(29)).check_image(&spec)), refused);
        assert_eq!(code(terms(None, None).check_text(80)), None);
        assert_eq!(code(terms(None, None).check_text(81)), refused);
    }
}
