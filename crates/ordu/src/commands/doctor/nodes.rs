//! The nodes that share a database: which of them live, which fell silent, and who leads.

use std::collections::BTreeMap;
use std::time::Duration;

use ordu_client::http_client;
use ordu_core::Millis;
use ordu_store::{HeardNode, NODE_LIFETIME, Probe};
use serde_json::Value;

use super::database::seconds;
use super::finding::Finding;

/// How long a node may take to say whether it leads.
const WITHIN: Duration = Duration::from_secs(2);

/// So many nodes are asked.
const ASKED: usize = 5;

/// Looks at the nodes that the database knows.
pub(super) async fn look(found: &Probe) -> Vec<Finding> {
    let mut leader = None;
    if found.led == Some(true) {
        for node in found.nodes.iter().filter(|node| lives(node)).take(ASKED) {
            // Behind an address that several share, any of them may answer.
            let mut others = found.nodes.iter().filter(|other| other.name != node.name);
            if others.all(|other| other.url != node.url) && leads(&node.url).await == Some(true) {
                leader = Some(node.name.as_str());
                break;
            }
        }
    }
    judge(found, leader)
}

/// Whether the node at `url` leads, if it answers.
async fn leads(url: &str) -> Option<bool> {
    let client = http_client(|builder| builder.timeout(WITHIN)).ok()?;
    let address = format!("{}/readyz", url.trim_end_matches('/'));
    let answer = client.get(address).send().await.ok()?;
    let facts: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    facts["nodes"]["leads"].as_bool()
}

fn lives(node: &HeardNode) -> bool {
    node.silent_for <= NODE_LIFETIME
}

fn judge(found: &Probe, leader: Option<&str>) -> Vec<Finding> {
    // One that was started again has another row for each time that it was killed.
    let mut newest: BTreeMap<&str, Millis> = BTreeMap::new();
    for node in &found.nodes {
        let heard = newest.entry(&node.name).or_insert(node.silent_for);
        *heard = (*heard).min(node.silent_for);
    }
    let (alive, silent): (Vec<_>, Vec<_>) =
        newest.into_iter().partition(|(_, it)| *it <= NODE_LIFETIME);
    let mut findings: Vec<_> = silent.into_iter().map(gone).collect();
    if alive.is_empty() {
        return findings;
    }
    let names: Vec<_> = alive.iter().map(|(name, _)| format!("`{name}`")).collect();
    let names = names.join(", ");
    if found.led == Some(false) {
        let told =
            format!("nobody leads, with {names} alive: no job times out, no request expires");
        let mend = "another node leads after 5 s: look again then; if nobody does, look at the logs of \
                    the nodes, and at whether a pooler shares sessions (`pool_mode = session`)";
        findings.push(Finding::wrong("nodes", told, mend));
        return findings;
    }
    let lead = leader.map_or("one leads".to_owned(), |name| format!("`{name}` leads"));
    findings.push(Finding::fine("nodes", format!("alive: {names}; {lead}")));
    findings
}

fn gone((name, silent_for): (&str, Millis)) -> Finding {
    let told = format!(
        "`{name}` was last heard of {} ago, and did not say that it ended",
        seconds(silent_for)
    );
    let mend = "start it again, or look at its log, its machine and its way to the database; its jobs \
                may be handed in at other nodes, and it is forgotten after an hour";
    Finding::wrong("nodes", told, mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Level;

    fn node(name: &str, silent_for: i64) -> HeardNode {
        HeardNode {
            name: name.to_owned(),
            url: String::new(),
            silent_for: Millis(silent_for),
        }
    }

    fn told(led: bool, nodes: &[HeardNode], leader: Option<&str>) -> Vec<(Level, String)> {
        let found = Probe {
            round_trip: Duration::ZERO,
            schema: 1,
            known_schema: 1,
            write: None,
            ahead: None,
            newest: None,
            nodes: nodes.to_vec(),
            led: Some(led),
            held: Vec::new(),
            timed_out: Vec::new(),
        };
        let findings = judge(&found, leader).into_iter();
        findings.map(|it| (it.level, it.found)).collect()
    }

    #[test]
    fn nodes_are_told_by_when_they_were_heard_of() {
        assert_eq!(told(false, &[], None), []);
        let both = [node("a", 900), node("b", 5000), node("a", 60_000)];
        let fine = (Level::Fine, "alive: `a`, `b`; `b` leads".to_owned());
        assert_eq!(told(true, &both, Some("b")), [fine]);
        let lost = told(true, &[node("a", 900), node("b", 5001)], None);
        assert_eq!(lost[0].0, Level::Wrong);
        assert!(lost[0].1.starts_with("`b` was last heard of 5.001 s ago"));
        assert_eq!(lost[1], (Level::Fine, "alive: `a`; one leads".to_owned()));
        let unled = told(false, &both, None);
        assert!(unled[0].1.starts_with("nobody leads"), "{unled:?}");
        assert_eq!(told(false, &[node("a", 6000)], None).len(), 1);
    }
}
