//! Which of several nodes a request is at home at.
//!
//! Every node knows every request and may give it away. So that two rarely reach for the same one,
//! each request has a home, the same in every node's eyes, and an order in which the other nodes
//! come after it. They leave it alone for a moment each; of what is as good as equal a node takes
//! what is its own, and if nothing is, what its home comes to last.
//!
//! The moment must be several times as long as it takes until others know of a claim: otherwise
//! what waits that long is just what its home reaches for now.
//!
//! # Source
//! `platform.md` § 3; `docs/decisions/0012`.

use ordu_api::{RequestId, WorkerId};
use uuid::Uuid;

use super::{Entry, Horde};
use crate::{Millis, Timestamp};

/// How long another node leaves a request alone at least: long enough that its home hears of it and
/// has its own workers look, too short for a person to notice.
pub const HEAD_START: Millis = Millis(200);

/// The same at most, however slow the database is: the home may have no worker for it.
pub const MAX_HEAD_START: Millis = Millis::from_seconds(3);

/// It makes no difference worth speaking of which of two comes first that wait so long one after the
/// other.
const NEAR: Millis = Millis::from_seconds(1);

/// The node whose turn is later waits no longer than the one with this turn.
const LAST_TURN: u8 = 3;

/// This node among those that live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// This node.
    pub own: Uuid,
    /// The nodes that live, this one included, in any order.
    pub alive: Vec<Uuid>,
}

impl Neighbours {
    /// How many nodes come before this one: those with a larger hash. Where there is none, it is at
    /// home. When a node comes or goes, only what it came before moves.
    fn turn_of(&self, id: Uuid) -> u8 {
        let hash = |node: Uuid| (mixed(node, id), node);
        let own = hash(self.own);
        let others = self.alive.iter().filter(|node| **node != self.own);
        let before = others.filter(|node| hash(**node) > own).count();
        u8::try_from(before).unwrap_or(u8::MAX)
    }
}

impl Entry {
    /// Whether it is at home at another node.
    pub(super) const fn is_foreign(&self) -> bool {
        self.turn > 0
    }

    /// Whether others may take it first until a time that has not come.
    pub(super) fn is_kept_back(&self, now: Timestamp) -> bool {
        self.is_foreign() && now < self.kept_back_until
    }
}

impl Horde {
    /// Tells which nodes live; `None` if there is only this one.
    pub fn set_neighbours(&mut self, neighbours: Option<Neighbours>) {
        self.neighbours = neighbours;
        for (id, entry) in &mut self.requests {
            let neighbours = self.neighbours.as_ref();
            entry.turn = neighbours.map_or(0, |nodes| nodes.turn_of(id.uuid()));
        }
    }

    /// Tells how long other nodes' requests are left alone from now on, from [`HEAD_START`] to
    /// [`MAX_HEAD_START`].
    pub fn set_head_start(&mut self, long: Millis) {
        self.head_start = long.clamp(HEAD_START, MAX_HEAD_START);
    }

    /// Tells whether this node is late to hear what others do. Then it does not know which of their
    /// requests still wait, and leaves them all alone.
    pub const fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// The requests of other nodes that wait, by id.
    pub fn foreign_requests(&self) -> impl Iterator<Item = RequestId> {
        let waiting = self.requests.iter();
        let foreign = waiting.filter(|(_, entry)| entry.is_foreign() && !entry.open.is_empty());
        foreign.map(|(id, _)| *id)
    }

    /// How long a request that has come open just now is left to nodes that come before this one;
    /// nothing if it is at home here.
    pub fn head_start_of(&self, request: RequestId) -> Millis {
        let turn = self.requests.get(&request).map_or(0, |entry| entry.turn);
        Millis(self.head_start.0 * i64::from(turn.min(LAST_TURN)))
    }

    /// Requests that wait so long one after the other are as good as equal. What others took and this
    /// node does not know of yet seems to wait at the front for as long as news takes: if that counted
    /// for more than a fraction, each node would take the other for late and help it out.
    pub(super) fn near(&self) -> Millis {
        NEAR.max(Millis(self.head_start.0 * 3))
    }

    /// Whether this node counts how long a worker is online, whichever node it comes to.
    pub fn is_home_of(&self, worker: WorkerId) -> bool {
        let neighbours = self.neighbours.as_ref();
        neighbours.is_none_or(|nodes| nodes.turn_of(worker.uuid()) == 0)
    }

    pub(super) fn turn_of_id(&self, request: RequestId) -> u8 {
        let neighbours = self.neighbours.as_ref();
        neighbours.map_or(0, |nodes| nodes.turn_of(request.uuid()))
    }

    /// Lets the nodes that come before this one take a request first.
    pub(super) fn keep_back(&mut self, request: RequestId, now: Timestamp) {
        let until = now + self.head_start_of(request);
        if let Some(entry) = self.requests.get_mut(&request) {
            entry.kept_back_until = until;
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

    /// The turn of each node, in its own eyes.
    fn turns(nodes: &Neighbours, id: Uuid) -> Vec<u8> {
        let in_eyes_of = |own: &Uuid| {
            let eyes = Neighbours {
                own: *own,
                ..nodes.clone()
            };
            eyes.turn_of(id)
        };
        nodes.alive.iter().map(in_eyes_of).collect()
    }

    #[test]
    fn each_node_is_home_and_comes_second_as_often_as_any_other() {
        let nodes = nodes(3);
        for place in 0..3 {
            for turn in 0..3 {
                let count = ids().filter(|id| turns(&nodes, *id)[place] == turn).count();
                assert!((850..1150).contains(&count), "{count} of 3000");
            }
        }
    }

    #[test]
    fn all_nodes_have_turns_of_their_own_and_order_does_not_matter() {
        let one = nodes(4);
        let mut other = one.clone();
        other.alive.reverse();
        for id in ids() {
            let mut there = turns(&other, id);
            there.reverse();
            let mut here = turns(&one, id);
            assert_eq!(here, there);
            here.sort_unstable();
            assert_eq!(here, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_node_that_goes_moves_only_those_behind_it() {
        let (four, three) = (nodes(4), nodes(3));
        for id in ids() {
            let (before, after) = (turns(&four, id), turns(&three, id));
            for place in 0..3 {
                let was_behind = u8::from(before[place] > before[3]);
                assert_eq!(after[place], before[place] - was_behind);
            }
        }
    }
}
