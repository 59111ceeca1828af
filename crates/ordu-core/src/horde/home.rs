//! Which of several nodes a request is at home at.
//!
//! Every node knows every request and may give it away. So that two rarely reach for the same one,
//! each request has a home, the same in every node's eyes: the others leave it alone for a moment,
//! and of what is as good as equal they take what is their own.
//!
//! # Source
//! `platform.md` § 3; `docs/decisions/0012`.

use ordu_api::{RequestId, WorkerId};
use uuid::Uuid;

use super::{Entry, Horde};
use crate::{Millis, Timestamp};

/// How long other nodes leave a request alone: long enough that its home hears of it and has its
/// own workers look, too short for a person to notice.
pub const HEAD_START: Millis = Millis(200);

/// This node among those that live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// This node.
    pub own: Uuid,
    /// The nodes that live, this one included, in any order.
    pub alive: Vec<Uuid>,
}

impl Neighbours {
    /// The node that something is at home at: of all nodes the one with the largest hash. When a
    /// node comes or goes, only what is or was its own moves.
    fn home_of(&self, id: Uuid) -> Uuid {
        let hash = |node: &Uuid| (mixed(*node, id), *node);
        self.alive
            .iter()
            .copied()
            .max_by_key(hash)
            .unwrap_or(self.own)
    }

    fn is_own(&self, id: Uuid) -> bool {
        self.home_of(id) == self.own
    }
}

impl Entry {
    /// Whether its home may take it first, just now.
    pub(super) fn is_kept_back(&self, now: Timestamp) -> bool {
        self.foreign && now < self.kept_back_until
    }
}

impl Horde {
    /// Tells which nodes live; `None` if there is only this one.
    pub fn set_neighbours(&mut self, neighbours: Option<Neighbours>) {
        self.neighbours = neighbours;
        for (id, entry) in &mut self.requests {
            let neighbours = self.neighbours.as_ref();
            entry.foreign = neighbours.is_some_and(|nodes| !nodes.is_own(id.uuid()));
        }
    }

    /// Whether another node comes first with a request.
    pub fn is_foreign(&self, request: RequestId) -> bool {
        let entry = self.requests.get(&request);
        entry.is_some_and(|entry| entry.foreign)
    }

    /// Whether this node counts how long a worker is online, whichever node it comes to.
    pub fn is_home_of(&self, worker: WorkerId) -> bool {
        let neighbours = self.neighbours.as_ref();
        neighbours.is_none_or(|nodes| nodes.is_own(worker.uuid()))
    }

    pub(super) fn is_foreign_id(&self, request: RequestId) -> bool {
        let neighbours = self.neighbours.as_ref();
        neighbours.is_some_and(|nodes| !nodes.is_own(request.uuid()))
    }

    /// Lets the home of a request take it first, if that is another node.
    pub(super) fn keep_back(&mut self, request: RequestId, now: Timestamp) {
        if let Some(entry) = self.requests.get_mut(&request) {
            entry.kept_back_until = now + HEAD_START;
        }
    }
}

/// A hash of both, as good as random (the finisher of `MurmurHash3`, once for each half).
fn mixed(node: Uuid, id: Uuid) -> u64 {
    let (node_high, node_low) = node.as_u64_pair();
    let (id_high, id_low) = id.as_u64_pair();
    finish(finish(node_high ^ id_high).wrapping_add(node_low ^ id_low.rotate_left(32)))
}

const fn finish(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u128) -> Neighbours {
        let alive: Vec<Uuid> = (1..=count).map(|n| Uuid::from_u128(n << 64 | 7)).collect();
        Neighbours {
            own: alive[0],
            alive,
        }
    }

    fn ids() -> impl Iterator<Item = Uuid> {
        (0..3000_u128).map(|n| Uuid::from_u128(n.wrapping_mul(0x9E37_79B9_7F4A_7C15_0000_0001)))
    }

    #[test]
    fn requests_are_at_home_everywhere_alike() {
        let nodes = nodes(3);
        for node in &nodes.alive {
            let here = ids().filter(|id| nodes.home_of(*id) == *node).count();
            assert!((850..1150).contains(&here), "{here} of 3000");
        }
    }

    #[test]
    fn all_nodes_agree_and_order_does_not_matter() {
        let one = nodes(4);
        let mut other = one.clone();
        other.alive.reverse();
        other.own = other.alive[0];
        assert!(ids().all(|id| one.home_of(id) == other.home_of(id)));
    }

    #[test]
    fn a_node_that_goes_moves_only_what_was_its_own() {
        let (four, three) = (nodes(4), nodes(3));
        for id in ids() {
            let before = four.home_of(id);
            if three.alive.contains(&before) {
                assert_eq!(before, three.home_of(id));
            }
        }
    }
}
