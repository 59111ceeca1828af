//! The reputation of addresses: how often one was reported, and who is shut out until when.
//!
//! Everybody behind an IPv4 address is one party; so is everybody behind an IPv6 /64, because its
//! owner has all of it. Reports shut a party out for longer each time; moderators shut out single
//! addresses and whole blocks. Knows no storage: each change answers the [`Entry`] to be stored,
//! and entries that others stored are [merged](Reputation::merge) in.
//!
//! # Source
//! `generation.md` § 8.5, `community.md` § 9.1, § 9.2.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Millis, Timestamp};

/// How long a report counts.
pub const REPORT_LIFETIME: Millis = Millis::from_minutes(24 * 60);

/// How long a report of a service's address counts.
pub const SERVICE_REPORT_LIFETIME: Millis = Millis::from_minutes(60);

/// The longest that reports shut a service's address out.
pub const SERVICE_MAX_TIMEOUT: Millis = Millis::from_minutes(5);

/// The longest that reports shut somebody out while nothing can be stored.
pub const UNSTORED_MAX_TIMEOUT: Millis = Millis::from_minutes(15);

/// A party is told the rest of its time-out unless it is longer than this.
pub const TOLD_REST: Millis = Millis::from_minutes(4 * 24 * 60);

/// So many parties are remembered at most; reports of further ones are forgotten.
pub const MAX_PARTIES: usize = 500_000;

/// Minutes in the first time-out; each further report adds twice as many.
const TIMEOUT_STEP_MINUTES: i64 = 3;

/// Whose address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Anybody's.
    Ordinary,
    /// A service's, which speaks for many.
    Service,
}

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One party.
    Single,
    /// A block that a moderator named.
    Block,
}

/// What is known of one address or block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub network: IpNet,
    /// What it stands for.
    pub scope: Scope,
    /// Reports that count.
    pub suspicion: u32,
    /// Until when they count.
    pub suspicion_until: Timestamp,
    /// Until when it is shut out.
    pub shut_until: Timestamp,
    /// When this was last changed.
    pub changed: Timestamp,
}

impl Entry {
    fn new(network: IpNet, scope: Scope) -> Self {
        let never = Timestamp::default();
        Self {
            network,
            scope,
            suspicion: 0,
            suspicion_until: never,
            shut_until: never,
            changed: never,
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.shut_until <= now && self.suspicion_until <= now
    }

    fn rest(&self, now: Timestamp) -> Option<Millis> {
        let rest = self.shut_until.since(now);
        (rest > Millis(0)).then_some(rest)
    }
}

/// Everybody who was reported or shut out.
#[derive(Debug, Clone, Default)]
pub struct Reputation {
    singles: BTreeMap<IpNet, Entry>,
    blocks: BTreeMap<IpNet, Entry>,
    /// The kinds of prefix that blocks have: IPv6 or not, and how long.
    prefixes: BTreeSet<(bool, u8)>,
}

impl Reputation {
    /// How much longer an address is shut out: by its own entry, else by a block around it.
    pub fn rest(&self, address: IpAddr, now: Timestamp) -> Option<Millis> {
        if self.singles.is_empty() && self.blocks.is_empty() {
            return None;
        }
        let single = self.singles_of(address).filter_map(|entry| entry.rest(now));
        single.max().or_else(|| {
            self.blocks_around(address)
                .find_map(|entry| entry.rest(now))
        })
    }

    /// Everything that shuts an address or a block out, with how much longer: blocks first.
    pub fn around(&self, network: IpNet, now: Timestamp) -> Vec<(IpNet, Millis)> {
        let wider = |entry: &&Entry| entry.network.contains(&network);
        let blocks = self.blocks.values().filter(wider);
        let singles = self.singles.values().filter(wider);
        let listed = |entry: &Entry| entry.rest(now).map(|rest| (entry.network, rest));
        blocks.chain(singles).filter_map(listed).collect()
    }

    /// All blocks that are shut out, with how much longer.
    pub fn blocks(&self, now: Timestamp) -> Vec<(IpNet, Millis)> {
        let listed = |entry: &Entry| entry.rest(now).map(|rest| (entry.network, rest));
        self.blocks.values().filter_map(listed).collect()
    }

    /// Reports an address: it is shut out for 3, 9, 15, 21 … minutes.
    ///
    /// `None` if there is no room for one more party.
    pub fn report(&mut self, address: IpAddr, party: Party, now: Timestamp) -> Option<Entry> {
        let network = party_of(address);
        if !self.singles.contains_key(&network) && self.singles.len() >= MAX_PARTIES {
            return None;
        }
        let entry = self
            .singles
            .entry(network)
            .or_insert_with(|| Entry::new(network, Scope::Single));
        let before = if entry.suspicion_until > now {
            entry.suspicion
        } else {
            0
        };
        let minutes = TIMEOUT_STEP_MINUTES.saturating_mul(2 * i64::from(before) + 1);
        let (lifetime, timeout) = match party {
            Party::Ordinary => (REPORT_LIFETIME, Millis::from_minutes(minutes)),
            Party::Service => (
                SERVICE_REPORT_LIFETIME,
                Millis::from_minutes(minutes).min(SERVICE_MAX_TIMEOUT),
            ),
        };
        entry.suspicion = before.saturating_add(1);
        entry.suspicion_until = now + lifetime;
        entry.shut_until = entry.shut_until.max(now + timeout);
        entry.changed = now;
        Some(entry.clone())
    }

    /// Shortens what a report led to, because it could not be stored for the other nodes.
    pub fn cap(&mut self, address: IpAddr, now: Timestamp) {
        if let Some(entry) = self.singles.get_mut(&party_of(address)) {
            entry.shut_until = entry.shut_until.min(now + UNSTORED_MAX_TIMEOUT);
        }
    }

    /// Shuts an address or a block out until then.
    pub fn shut_out(&mut self, network: IpNet, until: Timestamp, now: Timestamp) -> Entry {
        let scope = scope_of(network);
        let entry = self.entry(network, scope);
        entry.shut_until = until;
        entry.changed = now;
        let entry = entry.clone();
        self.note_prefix(&entry);
        entry
    }

    /// Lets an address or a block in again, and forgets what was reported of it.
    ///
    /// An IPv6 address also frees the /64 that was reported for it, a /64 also what reports did.
    pub fn let_in(&mut self, network: IpNet, now: Timestamp) -> Vec<Entry> {
        let reported = party_of(network.addr());
        let is_party = network.prefix_len() >= reported.prefix_len();
        let singles = [network, reported].into_iter().filter(|_| is_party);
        let singles: BTreeSet<IpNet> = singles.collect();
        let mut changed = Vec::new();
        for network in &singles {
            changed.extend(self.singles.get_mut(network).map(|entry| free(entry, now)));
        }
        changed.extend(self.blocks.get_mut(&network).map(|entry| free(entry, now)));
        changed
    }

    /// Takes over what was stored, by whoever it was, unless something newer is known.
    pub fn merge(&mut self, stored: &Entry) {
        let known = self.entry(stored.network, stored.scope);
        if stored.changed >= known.changed {
            *known = stored.clone();
        }
        self.note_prefix(stored);
    }

    /// Forgets what is over.
    pub fn prune(&mut self, now: Timestamp) {
        self.singles.retain(|_, entry| !entry.is_over(now));
        self.blocks.retain(|_, entry| !entry.is_over(now));
        self.prefixes = self.blocks.keys().map(|block| prefix(*block)).collect();
    }

    fn entry(&mut self, network: IpNet, scope: Scope) -> &mut Entry {
        let entries = match scope {
            Scope::Single => &mut self.singles,
            Scope::Block => &mut self.blocks,
        };
        entries
            .entry(network)
            .or_insert_with(|| Entry::new(network, scope))
    }

    fn note_prefix(&mut self, entry: &Entry) {
        if entry.scope == Scope::Block {
            self.prefixes.insert(prefix(entry.network));
        }
    }

    fn singles_of(&self, address: IpAddr) -> impl Iterator<Item = &Entry> {
        let exact = IpNet::from(address);
        let party = party_of(address);
        let networks = [Some(exact), (party != exact).then_some(party)];
        networks
            .into_iter()
            .flatten()
            .filter_map(|network| self.singles.get(&network))
    }

    fn blocks_around(&self, address: IpAddr) -> impl Iterator<Item = &Entry> {
        let same_kind = self
            .prefixes
            .iter()
            .filter(move |(is_v6, _)| *is_v6 == address.is_ipv6());
        same_kind.filter_map(move |(_, length)| {
            let network = IpNet::new(address, *length).ok()?.trunc();
            self.blocks.get(&network)
        })
    }
}

/// Nothing speaks against it any more; that is kept, so that the other nodes learn of it.
fn free(entry: &mut Entry, now: Timestamp) -> Entry {
    *entry = Entry {
        changed: now,
        ..Entry::new(entry.network, entry.scope)
    };
    entry.clone()
}

fn prefix(network: IpNet) -> (bool, u8) {
    (matches!(network, IpNet::V6(_)), network.prefix_len())
}

fn scope_of(network: IpNet) -> Scope {
    if network.prefix_len() == network.max_prefix_len() {
        Scope::Single
    } else {
        Scope::Block
    }
}

/// Everybody who is behind the same address: itself, or its /64.
pub fn party_of(address: IpAddr) -> IpNet {
    /// What one customer gets of IPv6.
    const IPV6_PARTY: u8 = 64;
    let address = address.to_canonical();
    let exact = IpNet::from(address);
    match address {
        IpAddr::V4(_) => exact,
        IpAddr::V6(_) => IpNet::new(address, IPV6_PARTY).map_or(exact, |network| network.trunc()),
    }
}

/// Reads an address or a block; bits behind the prefix are cleared. What is IPv4 in the form of IPv6
/// becomes IPv4, as the addresses of clients do.
pub fn read_network(text: &str) -> Option<IpNet> {
    /// The bits before the IPv4 address.
    const MAPPED: u8 = 96;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    let network = text.parse::<IpNet>().ok()?.trunc();
    let length = network.prefix_len().checked_sub(MAPPED);
    match (network.addr().to_canonical(), length) {
        (address @ IpAddr::V4(_), Some(length)) => IpNet::new(address, length).ok(),
        _ => Some(network),
    }
}

/// An address without its prefix, a block with it.
pub fn show_network(network: IpNet) -> String {
    match scope_of(network) {
        Scope::Single => network.addr().to_string(),
        Scope::Block => network.to_string(),
    }
}
