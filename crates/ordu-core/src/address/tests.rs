//! Who is shut out, until when.

use proptest::prelude::*;

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

proptest! {
    #[test]
    fn nodes_agree_whatever_they_learn_first(
        changes in proptest::collection::vec((0_u8..6, 0_i64..30, 0_i64..90), 0..12),
        turn in any::<usize>(),
    ) {
        let networks = ["10.0.0.1", "10.0.0.2", "10.0.0.0/24", "10.0.0.0/8", "::1", "::/64"];
        let mut node = Reputation::default();
        let mut stored = Vec::new();
        for (step, (which, minutes, lasts)) in (0..).zip(changes) {
            let network = net(networks[usize::from(which)]);
            let now = at(minutes) + Millis(step);
            match lasts {
                0 => stored.extend(node.let_in(network, now)),
                1..10 => stored.extend(node.report(network.addr(), Party::Ordinary, now)),
                _ => stored.push(node.shut_out(network, at(lasts), now)),
            }
        }
        let mut first = Reputation::default();
        for entry in &stored {
            first.merge(entry);
        }
        let mut second = Reputation::default();
        let middle = turn.checked_rem(stored.len()).unwrap_or(0);
        stored.rotate_left(middle);
        for entry in stored.iter().rev() {
            second.merge(entry);
        }
        for address in ["10.0.0.1", "10.0.0.2", "10.0.0.77", "10.9.9.9", "::1", "::2", "::1:0:0:0:0"] {
            for minutes in [0, 10, 40, 80] {
                let rests = [&first, &second].map(|node| node.rest(ip(address), at(minutes)));
                prop_assert_eq!(rests[0], rests[1], "{} at {}", address, minutes);
            }
        }
    }
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
        ("::ffff:203.0.113.5/128", "203.0.113.5"),
        ("::ffff:198.51.100.7/120", "198.51.100.0/24"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ("::/95", "::/95"),
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
