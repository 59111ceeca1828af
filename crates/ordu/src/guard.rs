//! The options of the countermeasures, and what they amount to.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use ipnet::IpNet;
use ordu_api::UserId;
use ordu_core::address::read_network;
use ordu_core::filter::Terms;
use ordu_server::{GuardConfig, Hook, HookConfig, OnboardingLimits, TrustAuditConfig};

/// How a horde protects itself.
#[derive(Debug, Clone, Args)]
pub(crate) struct Guard {
    /// Do not filter prompts.
    #[arg(long, env = "ORDU_NO_PROMPT_FILTERS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_prompt_filters: bool,

    /// The share of the pictures of untrusted workers that a trusted one makes once more, 0 to 1.
    #[arg(
        long,
        env = "ORDU_TRUST_AUDIT_SHARE",
        default_value_t = 0.0,
        value_name = "NUMBER",
        value_parser = share
    )]
    pub(crate) trust_audit_share: f64,

    /// Pictures that differ more than this are not the same: 0 is the same, 1 has nothing to do with
    /// it.
    #[arg(
        long,
        env = "ORDU_TRUST_AUDIT_DISTANCE",
        default_value_t = 0.5,
        value_name = "NUMBER",
        value_parser = share
    )]
    pub(crate) trust_audit_distance: f64,

    /// From how many different pictures within 30 days on each of them speaks against the worker.
    #[arg(
        long,
        env = "ORDU_TRUST_AUDIT_STRIKES",
        default_value_t = 3,
        value_name = "N"
    )]
    pub(crate) trust_audit_strikes: u32,

    /// A program of yours that is asked before something happens, as
    /// `STAGE[+KIND…][+open|closed][+Nms]=URL`. Stages: admission, assignment, result. Kinds: image,
    /// text, alchemy. `closed` stops what it does not answer to. Repeatable.
    #[arg(long, env = "ORDU_HOOK", value_name = "HOOK", value_delimiter = ',')]
    pub(crate) hook: Vec<Hook>,

    /// What signs the questions to hooks: any text, or `whsec_` and base64.
    #[arg(
        long,
        env = "ORDU_HOOK_SECRET",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) hook_secret: Option<String>,

    /// Do not look for profanity in names and notes.
    #[arg(long, env = "ORDU_NO_PROFANITY_CHECK", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_profanity_check: bool,

    /// A JSON file of terms for prompt filters and profanity, instead of the built-in ones.
    #[arg(long, env = "ORDU_TERMS", value_name = "FILE")]
    pub(crate) terms: Option<PathBuf>,

    /// A client agent that may not ask: a whole `name:version:contact`, or a name in any version.
    /// Repeatable.
    #[arg(
        long,
        env = "ORDU_BANNED_AGENT",
        value_name = "AGENT",
        value_delimiter = ','
    )]
    pub(crate) banned_agent: Vec<String>,

    /// An account that may try prompts on the filters without being a moderator. Repeatable.
    #[arg(
        long,
        env = "ORDU_FILTER_CHECKER",
        value_name = "ALIAS",
        value_delimiter = ','
    )]
    pub(crate) filter_checker: Vec<String>,

    /// Answers how likely the address in `{ipaddr}` hides somebody, as a number from 0 to 1.
    #[arg(long, env = "ORDU_IP_CHECK_URL", value_name = "URL")]
    pub(crate) ip_check_url: Option<String>,

    /// Addresses that are less likely to hide somebody are safe.
    #[arg(
        long,
        env = "ORDU_IP_CHECK_THRESHOLD",
        default_value_t = 0.93,
        value_name = "NUMBER"
    )]
    pub(crate) ip_check_threshold: f64,

    /// A block of addresses that are always safe, as CIDR. Repeatable.
    #[arg(
        long,
        env = "ORDU_IP_CHECK_ALLOW",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub(crate) ip_check_allow: Vec<String>,

    /// Addresses that speak for many users, such as a bot's, as CIDR: they may ask more often, and
    /// reports shut them out for minutes only. Repeatable.
    #[arg(
        long,
        env = "ORDU_SERVICE_ADDRESS",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub(crate) service_address: Vec<String>,

    /// Where notices for moderators are posted, as `{"content": "…"}`.
    #[arg(
        long,
        env = "ORDU_MODERATOR_WEBHOOK",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) moderator_webhook: Option<url::Url>,

    /// Untrusted accounts with more workers get no new ones.
    #[arg(
        long,
        env = "ORDU_OWNER_WORKERS",
        default_value_t = 3,
        value_name = "N"
    )]
    pub(crate) owner_workers: usize,

    /// Trusted accounts with more workers get no new ones unless they are invited to.
    #[arg(
        long,
        env = "ORDU_OWNER_WORKERS_TRUSTED",
        default_value_t = 20,
        value_name = "N"
    )]
    pub(crate) owner_workers_trusted: usize,

    /// Untrusted accounts with more workers at one address get no new ones there.
    #[arg(
        long,
        env = "ORDU_ADDRESS_WORKERS",
        default_value_t = 3,
        value_name = "N"
    )]
    pub(crate) address_workers: usize,

    /// Trusted accounts with more workers at one address get no new ones there.
    #[arg(
        long,
        env = "ORDU_ADDRESS_WORKERS_TRUSTED",
        default_value_t = 20,
        value_name = "N"
    )]
    pub(crate) address_workers_trusted: usize,
}

impl Default for Guard {
    fn default() -> Self {
        let config = GuardConfig::default();
        let limits = config.onboarding;
        Self {
            no_prompt_filters: false,
            no_profanity_check: false,
            terms: None,
            banned_agent: Vec::new(),
            filter_checker: Vec::new(),
            trust_audit_share: 0.0,
            trust_audit_distance: 0.5,
            trust_audit_strikes: 3,
            hook: Vec::new(),
            hook_secret: None,
            ip_check_url: None,
            ip_check_threshold: config.ip_check_threshold,
            ip_check_allow: Vec::new(),
            service_address: Vec::new(),
            moderator_webhook: None,
            owner_workers: limits.workers,
            owner_workers_trusted: limits.workers_trusted,
            address_workers: limits.same_address,
            address_workers_trusted: limits.same_address_trusted,
        }
    }
}

/// The settings of the countermeasures from their options.
pub(crate) fn config(options: &Guard) -> Result<GuardConfig> {
    let default = GuardConfig::default();
    let mut filter_checkers = Vec::with_capacity(options.filter_checker.len());
    for alias in &options.filter_checker {
        let user = UserId::from_alias(alias).with_context(|| {
            format!("`--filter-checker {alias}` names no account: write it as `name#id`")
        })?;
        filter_checkers.push(user);
    }
    Ok(GuardConfig {
        check_prompts: !options.no_prompt_filters,
        check_profanity: !options.no_profanity_check,
        terms: read_terms(options)?.unwrap_or(default.terms),
        banned_agents: options.banned_agent.clone(),
        filter_checkers,
        service_addresses: blocks("service-address", &options.service_address)?,
        ip_check_url: options.ip_check_url.clone(),
        ip_check_threshold: options.ip_check_threshold,
        ip_check_allowed: blocks("ip-check-allow", &options.ip_check_allow)?,
        moderator_webhook: options.moderator_webhook.clone(),
        onboarding: OnboardingLimits {
            workers: options.owner_workers,
            workers_trusted: options.owner_workers_trusted,
            same_address: options.address_workers,
            same_address_trusted: options.address_workers_trusted,
        },
    })
}

/// A number from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| format!("`{text}` is no number from 0 to 1"))
}

/// How closely untrusted workers are looked at.
pub(crate) const fn trust_audits(options: &Guard) -> TrustAuditConfig {
    TrustAuditConfig {
        share: options.trust_audit_share,
        max_distance: options.trust_audit_distance,
        strikes: options.trust_audit_strikes,
    }
}

/// The programs that decide with the horde.
pub(crate) fn hooks(options: &Guard) -> Result<HookConfig> {
    let secret = options.hook_secret.as_deref().map(HookConfig::read_secret);
    let secret = secret.transpose().map_err(anyhow::Error::msg);
    Ok(HookConfig {
        hooks: options.hook.clone(),
        secret: secret.context("`--hook-secret` cannot be used")?,
    })
}

fn blocks(option: &str, given: &[String]) -> Result<Vec<IpNet>> {
    let read = |block: &String| {
        read_network(block)
            .with_context(|| format!("`--{option} {block}` is no address and no block"))
    };
    given.iter().map(read).collect()
}

fn read_terms(options: &Guard) -> Result<Option<Arc<Terms>>> {
    let Some(path) = &options.terms else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the terms `{}`", path.display()))?;
    let terms = Terms::from_json(&text)
        .with_context(|| format!("the terms `{}` cannot be used", path.display()))?;
    Ok(Some(Arc::new(terms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_sense_are_told() {
        let wrong_block = Guard {
            ip_check_allow: vec!["10.0.0.0/99".to_owned()],
            ..Guard::default()
        };
        let wrong_alias = Guard {
            filter_checker: vec!["nobody".to_owned()],
            ..Guard::default()
        };
        let missing = Guard {
            terms: Some("missing.json".into()),
            ..Guard::default()
        };
        for options in [wrong_block, wrong_alias, missing] {
            assert!(config(&options).is_err(), "{options:?}");
        }
        let fine = config(&Guard::default()).unwrap();
        assert!(fine.check_prompts && fine.check_profanity);
        assert_eq!(fine.onboarding, OnboardingLimits::default());
    }
}
