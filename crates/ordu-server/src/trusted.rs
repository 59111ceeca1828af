//! Addresses that may ask more often: the operator's list, and those from which a trusted account
//! asked lately.
//!
//! They are at hand in memory; a copy is written every minute, so that a restart forgets no more
//! than that.
//!
//! # Source
//! `generation.md` § 1.8 and § 3.3 step 10, `community.md` § 1.5.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use ipnet::IpNet;
use ordu_core::{Millis, Timestamp};
use ordu_store::Store;

use crate::accounts::Account;
use crate::address::Client;

/// How long an address is trusted after a trusted account asked from it.
const LIFETIME: Millis = Millis::from_minutes(24 * 60);

/// How long an address counts before it is noted anew.
const NOTE_EVERY: Millis = Millis::from_minutes(60);

/// The most addresses; one more pushes out the one that was noted first.
const MAX_ADDRESSES: usize = 10_000;

/// The name under which the copy is stored.
const SETTING: &str = "trusted_addresses";

/// The trusted addresses.
pub(crate) struct TrustedAddresses {
    listed: Vec<IpNet>,
    /// When each was noted last.
    noted: RwLock<BTreeMap<IpAddr, Timestamp>>,
    changed: AtomicBool,
}

impl TrustedAddresses {
    /// Starts with the operator's list.
    pub(crate) fn new(listed: &[IpNet]) -> Self {
        Self {
            listed: listed.to_vec(),
            noted: RwLock::default(),
            changed: AtomicBool::new(false),
        }
    }

    /// Whether a client may ask more often.
    pub(crate) fn contains(&self, client: Client, now: Timestamp) -> bool {
        let address = client.network();
        let noted = || {
            let noted = self.noted.read().unwrap_or_else(PoisonError::into_inner);
            noted
                .get(&address)
                .is_some_and(|at| now.since(*at) < LIFETIME)
        };
        self.listed.iter().any(|block| block.contains(&client.ip)) || noted()
    }

    /// Takes note of an account that asks for something from here, if it is one to be trusted.
    /// What comes through a proxy says nothing about the address.
    pub(crate) fn note(&self, account: &Account, client: Client, now: Timestamp) {
        let roles = &account.user.roles;
        let counts = roles.trusted || roles.service || roles.education;
        if !counts || client.proxy.is_some() {
            return;
        }
        let address = client.network();
        let fresh = |at: &Timestamp| now.since(*at) < NOTE_EVERY;
        let known = self.noted.read().unwrap_or_else(PoisonError::into_inner);
        if known.get(&address).is_some_and(fresh) {
            return;
        }
        drop(known);
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        noted.insert(address, now);
        if noted.len() > MAX_ADDRESSES {
            let first = noted.iter().min_by_key(|(_, at)| **at);
            if let Some(first) = first.map(|(address, _)| *address) {
                noted.remove(&first);
            }
        }
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Takes over what was stored.
    pub(crate) async fn load(&self, store: &Store) -> Result<(), ordu_store::Error> {
        let Some(text) = store.find_setting(SETTING).await? else {
            return Ok(());
        };
        // A copy that cannot be read is as good as none: it fills again by itself.
        let stored: BTreeMap<IpAddr, i64> = serde_json::from_str(&text).unwrap_or_default();
        let stored = stored.into_iter().map(|(ip, at)| (ip, Timestamp(at)));
        *self.noted.write().unwrap_or_else(PoisonError::into_inner) = stored.collect();
        Ok(())
    }

    /// Stores a copy if anything changed, without what is over.
    pub(crate) async fn save(
        &self,
        store: &Store,
        now: Timestamp,
    ) -> Result<(), ordu_store::Error> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let text = {
            let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
            noted.retain(|_, at| now.since(*at) < LIFETIME);
            let plain: BTreeMap<IpAddr, i64> = noted.iter().map(|(ip, at)| (*ip, at.0)).collect();
            serde_json::to_string(&plain).unwrap_or_default()
        };
        let saved = store.set_setting(SETTING, &text).await;
        if saved.is_err() {
            self.changed.store(true, Ordering::Relaxed);
        }
        saved
    }
}
