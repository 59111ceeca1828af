//! The countermeasures: what is at hand in memory to judge prompts, addresses, workers and names.
//!
//! The rules are `ordu-core`'s. Here they meet the database: everything is read at the start, kept
//! fresh behind, and written before it is acknowledged. No check on a hot path asks the database.

mod addresses;
mod checker;
mod config;
mod filters;
mod notices;
mod problems;
mod prompts;
mod proxies;
mod suspicions;

use std::sync::Arc;

use ordu_api::ReturnCode;
use ordu_core::filter::Terms;
use ordu_core::profanity::Profanity;

pub(crate) use addresses::{Addresses, Asker};
pub(crate) use checker::{AddressVerdict, Checker};
pub use config::{GuardConfig, OnboardingLimits};
pub(crate) use filters::Filters;
pub(crate) use notices::{Notices, post_notices};
pub(crate) use suspicions::SuspicionBook;

use proxies::Proxies;

use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// What is read back this much further than what was seen last: other nodes' clocks differ, and
/// what was written first can become visible later. In milliseconds.
const OVERLAP_MS: i64 = 60_000;

/// Everything that the countermeasures keep in memory.
pub(crate) struct Guard {
    pub(crate) filters: Filters,
    pub(crate) addresses: Addresses,
    pub(crate) checker: Checker,
    pub(crate) suspicions: SuspicionBook,
    pub(crate) notices: Notices,
    proxies: Proxies,
    pub(crate) limits: OnboardingLimits,
    profanity: Profanity,
}

impl Guard {
    pub(crate) fn new(config: &GuardConfig) -> Result<Self, reqwest::Error> {
        let terms = Arc::clone(&config.terms);
        let profanity = if config.check_profanity {
            terms.profanity().clone()
        } else {
            Profanity::off()
        };
        Ok(Self {
            filters: Filters::new(terms, config.check_prompts),
            addresses: Addresses::default(),
            checker: Checker::new(config)?,
            suspicions: SuspicionBook::default(),
            proxies: Proxies::default(),
            notices: Notices::new(config.moderator_webhook.clone())?,
            limits: config.onboarding,
            profanity,
        })
    }

    /// Whether a name or note holds obvious profanity.
    pub(crate) fn is_profane(&self, text: &str) -> bool {
        self.profanity.is_in(text)
    }
}

impl App {
    /// Refuses a text that is not fit to be shown to everybody.
    ///
    /// # Errors
    /// `code`.
    pub(crate) fn check_text(&self, text: &str, code: ReturnCode) -> ApiResult<()> {
        if self.guard.is_profane(text) {
            let message = "Find kinder words for this";
            return Err(ApiError::refused(code, message));
        }
        Ok(())
    }
}

/// The operator's terms, or the built-in ones.
pub(crate) fn built_in_terms() -> Arc<Terms> {
    Arc::new(Terms::embedded())
}
