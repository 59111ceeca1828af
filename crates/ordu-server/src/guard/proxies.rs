//! Corrupt prompts that came through services, counted by the service's own address.
//!
//! A service speaks for many users: its address is not shut out for one of them, but moderators
//! are told when it passes on too much. Counted on each node for itself: it decides nothing.
//!
//! # Source
//! `generation.md` § 8.3, `community.md` § 2.10.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ordu_core::{Millis, Timestamp};

/// How long a count grows before it begins anew.
const WINDOW: Millis = Millis::from_minutes(60);

/// More corrupt prompts than this in a window are told.
const MAX_IN_WINDOW: u32 = 10;

/// Services that are counted at most.
const MAX_PROXIES: usize = 1_000;

/// How many corrupt prompts each service passed on.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Mutex<BTreeMap<IpAddr, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Timestamp,
    prompts: u32,
}

impl Proxies {
    /// Counts one more; says whether moderators must be told, once in a window.
    pub(crate) fn is_too_much(&self, proxy: IpAddr, now: Timestamp) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, count| now.since(count.since) < WINDOW);
        if counts.len() >= MAX_PROXIES && !counts.contains_key(&proxy) {
            return false;
        }
        let count = counts.entry(proxy).or_insert(Count {
            since: now,
            prompts: 0,
        });
        count.prompts = count.prompts.saturating_add(1);
        count.prompts == MAX_IN_WINDOW + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_in_an_hour_is_told_once() {
        let proxies = Proxies::default();
        let service: IpAddr = "203.0.113.9".parse().unwrap();
        let other: IpAddr = "203.0.113.8".parse().unwrap();
        let told = |minutes| {
            let now = Timestamp(0) + Millis::from_minutes(minutes);
            proxies.is_too_much(service, now)
        };
        let first: Vec<bool> = (0..12).map(told).collect();
        assert_eq!(first.iter().filter(|told| **told).count(), 1);
        assert!(first[10]);
        assert!(!proxies.is_too_much(other, Timestamp(0)));
        let again: Vec<bool> = (0..12).map(|_| told(60)).collect();
        assert!(again[10] && again.iter().filter(|told| **told).count() == 1);
    }
}
