//! The names of all teams, at hand, so that showing a worker costs no round trip.
//!
//! # Source
//! `community.md` § 4, § 5.3.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordu_api::TeamId;

use crate::app::App;

/// What is known of teams. Never larger than the table of teams.
#[derive(Debug, Default)]
pub(crate) struct Teams(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    by_id: BTreeMap<TeamId, String>,
    /// Grows with every change that is made here.
    changes: u64,
}

impl Teams {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a team is called.
    pub(crate) fn name(&self, id: TeamId) -> Option<String> {
        self.names().by_id.get(&id).cloned()
    }

    /// Takes note of a team, new or renamed.
    pub(crate) fn put(&self, id: TeamId, name: String) {
        let mut names = self.names();
        names.by_id.insert(id, name);
        names.changes += 1;
    }

    /// Forgets a team that was deleted.
    pub(crate) fn remove(&self, id: TeamId) {
        let mut names = self.names();
        names.by_id.remove(&id);
        names.changes += 1;
    }

    fn changes(&self) -> u64 {
        self.names().changes
    }

    /// Takes over what was read, unless something changed here meanwhile.
    fn replace(&self, read: BTreeMap<TeamId, String>, changes: u64) {
        let mut names = self.names();
        if names.changes == changes {
            names.by_id = read;
        }
    }
}

impl App {
    /// Reads the names again.
    pub(crate) async fn load_teams(&self) -> Result<(), ordu_store::Error> {
        let changes = self.teams.changes();
        let teams = self.store.list_teams().await?.into_iter();
        let names = teams.map(|team| (team.id, team.name)).collect();
        self.teams.replace(names, changes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_meanwhile_is_not_overwritten() {
        let teams = Teams::default();
        let id = TeamId::from_uuid(uuid::Uuid::from_u128(1));
        let changes = teams.changes();
        teams.put(id, "new".to_owned());
        teams.replace(BTreeMap::new(), changes);
        assert_eq!(teams.name(id).as_deref(), Some("new"));
        let read = BTreeMap::from([(id, "read".to_owned())]);
        teams.replace(read, teams.changes());
        assert_eq!(teams.name(id).as_deref(), Some("read"));
        teams.remove(id);
        assert_eq!(teams.name(id), None);
    }
}
