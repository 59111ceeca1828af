//! Every worker there is, online or not: by name and by id, with what it last declared.
//!
//! What a worker did and earned is the live horde's knowledge; here is who it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordu_api::worker::WorkKind;
use ordu_api::{TeamId, UserId, WorkerId};
use ordu_core::Millis;
use ordu_core::horde::{Declared, WorkerRecord};
use ordu_store::Worker;

/// The reason of a maintenance that nobody gave a reason for. Workers look for the word.
pub(crate) const DEFAULT_MAINTENANCE: &str =
    "This worker has been put into maintenance mode by its owner";

/// Who a worker is.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    pub(crate) kind: WorkKind,
    pub(crate) owner: UserId,
    pub(crate) info: Option<String>,
    pub(crate) team: Option<TeamId>,
    /// Where it came from last.
    pub(crate) address: Option<IpAddr>,
    /// What it declared at its last pop.
    pub(crate) declared: Arc<Declared>,
}

/// All workers. Never larger than the table of workers.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_id: BTreeMap<WorkerId, Known>,
    by_name: BTreeMap<String, WorkerId>,
}

impl Registry {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a worker, new or changed.
    pub(crate) fn put(&self, known: Known) {
        let mut tables = self.tables();
        if let Some(before) = tables
            .by_id
            .get(&known.id)
            .map(|before| before.name.clone())
        {
            tables.by_name.remove(&before);
        }
        tables.by_name.insert(known.name.clone(), known.id);
        tables.by_id.insert(known.id, known);
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Known> {
        let tables = self.tables();
        tables
            .by_name
            .get(name)
            .and_then(|id| tables.by_id.get(id))
            .cloned()
    }

    pub(crate) fn by_id(&self, id: WorkerId) -> Option<Known> {
        self.tables().by_id.get(&id).cloned()
    }

    /// Forgets a worker that was deleted.
    pub(crate) fn remove(&self, id: WorkerId) {
        let mut tables = self.tables();
        if let Some(known) = tables.by_id.remove(&id) {
            tables.by_name.remove(&known.name);
        }
    }

    /// Whether there is such a worker.
    pub(crate) fn contains(&self, id: WorkerId) -> bool {
        self.tables().by_id.contains_key(&id)
    }

    /// All workers of an owner, by id.
    pub(crate) fn owned_by(&self, owner: UserId) -> Vec<WorkerId> {
        let tables = self.tables();
        let owned = tables.by_id.values().filter(|known| known.owner == owner);
        owned.map(|known| known.id).collect()
    }

    /// The team of a worker.
    pub(crate) fn team_of(&self, id: WorkerId) -> Option<TeamId> {
        self.tables().by_id.get(&id)?.team
    }

    /// All workers that are in teams, by team.
    pub(crate) fn members(&self) -> BTreeMap<TeamId, Vec<Known>> {
        let mut members: BTreeMap<TeamId, Vec<Known>> = BTreeMap::new();
        for known in self.tables().by_id.values() {
            if let Some(team) = known.team {
                members.entry(team).or_default().push(known.clone());
            }
        }
        members
    }

    /// All workers of one team.
    pub(crate) fn members_of(&self, team: TeamId) -> Vec<Known> {
        let tables = self.tables();
        let members = tables.by_id.values();
        members
            .filter(|known| known.team == Some(team))
            .cloned()
            .collect()
    }

    /// Puts everybody out of a team that was deleted.
    pub(crate) fn dissolve(&self, team: TeamId) {
        for known in self.tables().by_id.values_mut() {
            known.team = known.team.filter(|theirs| *theirs != team);
        }
    }

    /// All workers of each of some owners, by id; who has none is left out.
    pub(crate) fn owned_by_each(
        &self,
        owners: &BTreeSet<UserId>,
    ) -> BTreeMap<UserId, Vec<WorkerId>> {
        let mut owned: BTreeMap<UserId, Vec<WorkerId>> = BTreeMap::new();
        for known in self.tables().by_id.values() {
            if owners.contains(&known.owner) {
                owned.entry(known.owner).or_default().push(known.id);
            }
        }
        owned
    }

    /// How many workers of an owner came from an address last.
    pub(crate) fn owned_at(&self, owner: UserId, address: IpAddr) -> usize {
        let tables = self.tables();
        let is_here = |known: &&Known| known.owner == owner && known.address == Some(address);
        tables.by_id.values().filter(is_here).count()
    }
}

impl Known {
    /// A worker as it is stored. What it declared is left out if it cannot be read any more.
    pub(crate) fn from_stored(worker: &Worker) -> Self {
        Self {
            id: worker.id,
            name: worker.name.clone(),
            kind: worker.kind,
            owner: worker.owner,
            info: worker.info.clone(),
            team: worker.team,
            address: worker.ip.as_ref().and_then(|ip| ip.parse().ok()),
            declared: Arc::new(Declared::from_json(worker.kind, &worker.declared)),
        }
    }
}

/// What the live horde must know of a stored worker.
pub(crate) fn record(worker: &Worker) -> WorkerRecord {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let reason = || {
        worker
            .maintenance_message
            .clone()
            .unwrap_or(DEFAULT_MAINTENANCE.to_owned())
    };
    let uptime = Millis::from_seconds(worker.uptime);
    WorkerRecord {
        maintenance: worker.maintenance.then(reason),
        paused: worker.paused,
        checked_in: worker.last_check_in,
        uptime,
        uptime_counted: uptime,
        fulfilled: count(worker.fulfilled),
        uncompleted: count(worker.uncompleted),
        things: count(worker.things),
        kudos_generated: worker.kudos_generated,
        kudos_uptime: worker.kudos_uptime,
        speeds: worker.speeds.iter().copied().collect(),
        drops: u32::try_from(worker.drops.0).unwrap_or(0),
        drops_since: worker.drops.1,
        ..WorkerRecord::new(worker.id, worker.kind, worker.name.clone(), worker.owner)
    }
}
