//! The reputation of addresses: how often one was reported, and who is shut out until when.
//!
//! Everybody behind an IPv4 address is one party; so is everybody behind an IPv6 /64, because its
//! owner has all of it. Reports shut a party out for longer each time; moderators shut out single
//! addresses and whole blocks. Knows no storage: each change answers the [`Entry`] to be stored,
//! and entries that others stored are [merged](Reputation::merge) in.
//!
//! # Source
//! `generation.md` § 8.5, `community.md` § 9.1, § 9.2.

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

/// Reads an address or a block; bits behind the prefix are cleared.
pub fn read_network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text.parse().ok()?;
    Some(network.trunc())
}

/// An address without its prefix, a block with it.
pub fn show_network(network: IpNet) -> String {
    match scope_of(network) {
        Scope::Single => network.addr().to_string(),
        Scope::Block => network.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn at(minutes: i64) -> Timestamp {
        NOW + Millis::from_minutes(minutes)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn net(text: &str) -> IpNet {
        read_network(text).unwrap()
    }

    fn rest_minutes(reputation: &Reputation, address: &str, minutes: i64) -> i64 {
        let rest = reputation.rest(ip(address), at(minutes));
        rest.map_or(0, |rest| rest.0 / 60_000)
    }

    #[test]
    fn each_report_shuts_out_for_longer() {
        let mut reputation = Reputation::default();
        for (n, minutes) in [(1, 3), (2, 9), (3, 15), (4, 21)] {
            let entry = reputation
                .report(ip("203.0.113.5"), Party::Ordinary, NOW)
                .unwrap();
            assert_eq!(entry.suspicion, n);
            assert_eq!(rest_minutes(&reputation, "203.0.113.5", 0), minutes);
        }
        assert_eq!(rest_minutes(&reputation, "203.0.113.6", 0), 0);
        assert_eq!(rest_minutes(&reputation, "203.0.113.5", 21), 0);
    }

    #[test]
    fn reports_are_forgotten_a_day_after_the_last() {
        let mut reputation = Reputation::default();
        let address = ip("203.0.113.5");
        let day = 24 * 60;
        let counts = [0, day - 1, 2 * day - 2, 3 * day - 2].map(|minutes| {
            let entry = reputation.report(address, Party::Ordinary, at(minutes));
            entry.unwrap().suspicion
        });
        assert_eq!(counts, [1, 2, 3, 1]);
    }

    #[test]
    fn services_are_shut_out_for_five_minutes_at_most() {
        let mut reputation = Reputation::default();
        for minutes in [3, 5, 5] {
            reputation.report(ip("203.0.113.5"), Party::Service, NOW);
            assert_eq!(rest_minutes(&reputation, "203.0.113.5", 0), minutes);
        }
        let entry = reputation
            .report(ip("203.0.113.5"), Party::Service, at(61))
            .unwrap();
        assert_eq!(entry.suspicion, 1, "an hour later it is forgotten");
    }

    #[test]
    fn an_ipv6_party_is_its_64() {
        let mut reputation = Reputation::default();
        reputation.report(ip("2001:db8:1:2:3::1"), Party::Ordinary, NOW);
        assert_eq!(rest_minutes(&reputation, "2001:db8:1:2:ffff::9", 0), 3);
        assert_eq!(rest_minutes(&reputation, "2001:db8:1:3::1", 0), 0);
        let around = reputation.around(net("2001:db8:1:2::5"), NOW);
        assert_eq!(show_network(around[0].0), "2001:db8:1:2::/64");
        assert!(reputation.blocks(NOW).is_empty(), "nobody named it a block");
        reputation.let_in(net("2001:db8:1:2::7"), NOW);
        assert_eq!(rest_minutes(&reputation, "2001:db8:1:2:3::1", 0), 0);
    }

    #[test]
    fn blocks_shut_out_what_is_in_them() {
        let mut reputation = Reputation::default();
        reputation.shut_out(net("198.51.100.7/24"), at(60), NOW);
        reputation.shut_out(net("198.51.0.0/16"), at(30), NOW);
        reputation.shut_out(net("2001:db8:5::/48"), at(10), NOW);
        let cases = [
            ("198.51.100.200", 30),
            ("198.51.7.7", 30),
            ("198.52.0.1", 0),
            ("2001:db8:5:1::9", 10),
            ("2001:db8:6::9", 0),
        ];
        for (address, minutes) in cases {
            assert_eq!(rest_minutes(&reputation, address, 0), minutes, "{address}");
        }
        assert_eq!(rest_minutes(&reputation, "198.51.100.200", 31), 29);
        assert_eq!(reputation.blocks(NOW).len(), 3);
        assert_eq!(reputation.around(net("198.51.100.7"), NOW).len(), 2);
        assert_eq!(reputation.around(net("198.51.100.0/24"), NOW).len(), 2);
        reputation.let_in(net("198.51.100.0/24"), NOW);
        assert_eq!(reputation.blocks(NOW).len(), 2);
        assert_eq!(rest_minutes(&reputation, "198.51.100.200", 0), 30);
    }

    #[test]
    fn the_own_entry_decides_before_blocks() {
        let mut reputation = Reputation::default();
        reputation.shut_out(net("198.51.100.0/24"), at(60), NOW);
        reputation.shut_out(net("198.51.100.7"), at(5), NOW);
        assert_eq!(rest_minutes(&reputation, "198.51.100.7", 0), 5);
        assert_eq!(rest_minutes(&reputation, "198.51.100.7", 6), 54);
        assert!(
            reputation
                .blocks(NOW)
                .iter()
                .all(|(block, _)| block.prefix_len() == 24)
        );
    }

    #[test]
    fn letting_in_forgets_reports() {
        let mut reputation = Reputation::default();
        let address = ip("203.0.113.5");
        for _ in 0..5 {
            reputation.report(address, Party::Ordinary, NOW);
        }
        let changed = reputation.let_in(net("203.0.113.5"), at(1));
        assert_eq!((changed.len(), changed[0].suspicion), (1, 0));
        assert!(reputation.let_in(net("203.0.113.9"), NOW).is_empty());
        let entry = reputation.report(address, Party::Ordinary, at(1)).unwrap();
        assert_eq!(entry.suspicion, 1);
    }

    #[test]
    fn the_newest_change_wins_whoever_made_it() {
        let mut here = Reputation::default();
        let mut there = Reputation::default();
        let old = here
            .report(ip("203.0.113.5"), Party::Ordinary, NOW)
            .unwrap();
        there.merge(&old);
        assert_eq!(rest_minutes(&there, "203.0.113.5", 0), 3);
        let free = there.let_in(net("203.0.113.5"), at(1)).remove(0);
        here.merge(&free);
        here.merge(&old);
        assert_eq!(here.rest(ip("203.0.113.5"), at(1)), None);
        let block = there.shut_out(net("10.0.0.0/8"), at(60), at(1));
        here.merge(&block);
        assert_eq!(rest_minutes(&here, "10.9.8.7", 0), 60);
    }

    #[test]
    fn what_is_over_is_pruned_and_what_cannot_be_stored_is_short() {
        let mut reputation = Reputation::default();
        let address = ip("203.0.113.5");
        for _ in 0..10 {
            reputation.report(address, Party::Ordinary, NOW);
        }
        reputation.cap(address, NOW);
        assert_eq!(rest_minutes(&reputation, "203.0.113.5", 0), 15);
        reputation.shut_out(net("10.0.0.0/8"), at(60), NOW);
        reputation.prune(at(61));
        assert_eq!((reputation.singles.len(), reputation.blocks.len()), (1, 0));
        reputation.prune(at(24 * 60));
        assert!(reputation.singles.is_empty() && reputation.prefixes.is_empty());
    }

    #[test]
    fn networks_are_read_as_people_write_them() {
        let cases = [
            ("203.0.113.5", "203.0.113.5"),
            ("203.0.113.5/32", "203.0.113.5"),
            ("198.51.100.7/24", "198.51.100.0/24"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:DB8:5::1/48", "2001:db8:5::/48"),
            ("::ffff:203.0.113.5", "203.0.113.5"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ];
        for (text, shown) in cases {
            assert_eq!(show_network(net(text)), shown, "{text}");
        }
        for wrong in [
            "",
            "garbage!",
            "1.2",
            "1.2.3.4/33",
            "1.2.3.4/",
            "::/129",
            "1.2.3.4/-1",
        ] {
            assert_eq!(read_network(wrong), None, "{wrong}");
        }
    }
}
