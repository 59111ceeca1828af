//! What an operator decides about the countermeasures.

use std::sync::Arc;

use ipnet::IpNet;
use ordu_api::UserId;
use ordu_core::filter::Terms;
use url::Url;

/// The countermeasures' settings.
#[derive(Debug, Clone)]
pub struct GuardConfig {
    /// Whether prompts are filtered.
    pub check_prompts: bool,
    /// Whether names and notes are checked for profanity.
    pub check_profanity: bool,
    /// The operator's words.
    pub terms: Arc<Terms>,
    /// Client agents that may not ask: a whole agent, or the name of a program in any version.
    pub banned_agents: Vec<String>,
    /// Accounts that are no moderators and may try prompts on the filters.
    pub filter_checkers: Vec<UserId>,
    /// Addresses that speak for many users: they may ask more often, and reports shut them out for
    /// minutes only.
    pub service_addresses: Vec<IpNet>,
    /// Answers how likely `{ipaddr}` hides somebody, 0…1; all addresses are safe if `None`.
    pub ip_check_url: Option<String>,
    /// An address that is less likely to hide somebody is safe.
    pub ip_check_threshold: f64,
    /// Blocks that are always safe.
    pub ip_check_allowed: Vec<IpNet>,
    /// Where notices for moderators are posted.
    pub moderator_webhook: Option<Url>,
    /// How many workers an account may have.
    pub onboarding: OnboardingLimits,
}

/// How many workers an account may have before it gets no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnboardingLimits {
    /// An untrusted one.
    pub workers: usize,
    /// A trusted one, unless it is invited to have more.
    pub workers_trusted: usize,
    /// An untrusted one at one address.
    pub same_address: usize,
    /// A trusted one at one address.
    pub same_address_trusted: usize,
}

impl Default for OnboardingLimits {
    fn default() -> Self {
        Self {
            workers: 3,
            workers_trusted: 20,
            same_address: 3,
            same_address_trusted: 20,
        }
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            check_prompts: true,
            check_profanity: true,
            terms: super::built_in_terms(),
            banned_agents: Vec::new(),
            filter_checkers: Vec::new(),
            service_addresses: Vec::new(),
            ip_check_url: None,
            ip_check_threshold: 0.93,
            ip_check_allowed: Vec::new(),
            moderator_webhook: None,
            onboarding: OnboardingLimits::default(),
        }
    }
}
