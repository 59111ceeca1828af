//! Whether an address hides who is behind it, as a service of the operator's choice says.
//!
//! # Source
//! `community.md` § 9.3.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use ordu_core::{Millis, Timestamp};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::GuardConfig;
use crate::fetch::is_public;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long an answer counts.
const FRESH_FOR: Millis = Millis::from_minutes(6 * 60);

/// How long it counts that there was none.
const RETRY_AFTER: Millis = Millis::from_seconds(10);

/// Answers that are remembered.
const KEPT: usize = 100_000;

/// Addresses that are asked about at the same time; more are unknown for now.
const MAX_AT_ONCE: usize = 32;

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 10;

/// What is replaced by the address in the operator's URL.
const PLACEHOLDER: &str = "{ipaddr}";

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressVerdict {
    /// It is like any other.
    Safe,
    /// It probably hides somebody.
    Unsafe,
    /// Nobody could say.
    Unknown,
}

/// Asks about addresses, each once in six hours.
pub(crate) struct Checker {
    url: Option<String>,
    threshold: f64,
    allowed: Vec<IpNet>,
    client: reqwest::Client,
    known: Cache<IpAddr, (AddressVerdict, Timestamp)>,
    turns: Semaphore,
}

impl Checker {
    pub(crate) fn new(config: &GuardConfig) -> Result<Self, reqwest::Error> {
        let client = crate::outgoing::client()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .no_proxy()
            .build()?;
        Ok(Self {
            url: config.ip_check_url.clone(),
            threshold: config.ip_check_threshold,
            allowed: config.ip_check_allowed.clone(),
            client,
            known: Cache::new(KEPT),
            turns: Semaphore::new(MAX_AT_ONCE),
        })
    }

    /// What is known of an address, asked for if nothing is. Private addresses are safe.
    pub(crate) async fn judge(&self, address: IpAddr, now: Timestamp) -> AddressVerdict {
        let Some(url) = &self.url else {
            return AddressVerdict::Safe;
        };
        let is_allowed = self.allowed.iter().any(|block| block.contains(&address));
        if is_allowed || !is_public(address) {
            return AddressVerdict::Safe;
        }
        if let Some((verdict, at)) = self.known.get(&address) {
            let fresh_for = match verdict {
                AddressVerdict::Unknown => RETRY_AFTER,
                _ => FRESH_FOR,
            };
            if now.since(at) < fresh_for {
                return verdict;
            }
        }
        let Ok(_turn) = self.turns.try_acquire() else {
            return AddressVerdict::Unknown;
        };
        let verdict = self
            .ask(&url.replace(PLACEHOLDER, &address.to_string()))
            .await;
        self.known.insert(address, (verdict, now));
        verdict
    }

    async fn ask(&self, url: &str) -> AddressVerdict {
        match self.probability(url).await {
            Ok(Some(probability)) if probability < self.threshold => AddressVerdict::Safe,
            Ok(Some(_)) => AddressVerdict::Unsafe,
            Ok(None) => {
                tracing::warn!("the address check did not answer with a probability");
                AddressVerdict::Unknown
            }
            Err(error) => {
                // The URL holds the address.
                let error = error.without_url();
                tracing::warn!(%error, "the address check did not answer");
                AddressVerdict::Unknown
            }
        }
    }

    async fn probability(&self, url: &str) -> Result<Option<f64>, reqwest::Error> {
        let request = self.client.get(url).send().await?;
        let mut response = request.error_for_status()?;
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_ANSWER_BYTES {
                return Ok(None);
            }
        }
        let number = String::from_utf8_lossy(&text).trim().parse::<f64>().ok();
        Ok(number.filter(|number| number.is_finite()))
    }
}
