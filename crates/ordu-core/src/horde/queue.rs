//! What waits, of one kind of work: in order, by demand and by user.
//!
//! Knows requests by id, place and demand only.

use std::collections::BTreeMap;

use ordu_api::{RequestId, UserId};

use super::Request;
use super::demand::{self, Demand, WorkerList};
use super::kinds;
use super::names::Interner;
use super::rank::{Ahead, Item, Load, Place, Ranking};
use super::slots::Slots;

/// Requests with the same demand.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) demand: Demand,
    pub(super) load: Load,
    members: BTreeMap<Place, RequestId>,
}

impl Group {
    /// How many requests wait in it.
    pub(super) fn len(&self) -> u64 {
        self.members.len() as u64
    }

    /// Its requests, first to be served first.
    pub(super) fn members(&self) -> impl Iterator<Item = (Place, RequestId)> {
        self.members.iter().map(|(place, id)| (*place, *id))
    }
}

/// A request's way into the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) request: RequestId,
    pub(super) user: UserId,
    pub(super) place: Place,
    pub(super) demand: Demand,
}

/// Names that requests ask for or workers offer.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) models: Interner<String>,
    pub(super) softprompts: Interner<String>,
}

/// The queue of one kind of work.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    ranking: Ranking,
    /// Groups that became empty stay until a new demand takes their number.
    groups: Vec<Group>,
    empty_groups: Vec<usize>,
    by_demand: BTreeMap<Demand, usize>,
    users: BTreeMap<UserId, BTreeMap<Place, RequestId>>,
    /// Results by user that wait or run.
    jobs: BTreeMap<UserId, u64>,
    pub(super) names: Names,
    model_sets: Interner<Vec<usize>>,
    worker_lists: Interner<WorkerList>,
}

impl Queue {
    /// Computes the demand of a request of which these slots are open, and holds its names until
    /// [`Self::let_go`].
    pub(super) fn hold(&mut self, request: &Request, open: &Slots) -> Demand {
        let mut names: Vec<usize> = Vec::new();
        for name in request.work.names(open) {
            let number = self.names.models.hold(name);
            if names.contains(&number) {
                self.names.models.let_go(number);
            } else {
                names.push(number);
            }
        }
        names.sort_unstable();
        let models = (!names.is_empty()).then(|| {
            let set = self.model_sets.hold(&names);
            // The set holds each name once, however many requests share it.
            if self.model_sets.holders(set) > 1 {
                for number in &names {
                    self.names.models.let_go(*number);
                }
            }
            set
        });
        let list = WorkerList::of(request).map(|list| self.worker_lists.hold(&list));
        Demand {
            needs: demand::needs(request),
            models,
            list,
            softprompt: request
                .work
                .softprompt()
                .map(|name| self.names.softprompts.hold(name)),
            size: kinds::size(&request.work),
        }
    }

    /// Gives back what a demand held.
    pub(super) fn let_go(&mut self, demand: Demand) {
        let freed = demand.models.and_then(|set| self.model_sets.let_go(set));
        for number in freed.unwrap_or_default() {
            self.names.models.let_go(number);
        }
        if let Some(list) = demand.list {
            self.worker_lists.let_go(list);
        }
        if let Some(softprompt) = demand.softprompt {
            self.names.softprompts.let_go(softprompt);
        }
    }

    /// Puts a request in, or changes what it means for the queue; without open slots it leaves.
    pub(super) fn set(&mut self, ticket: &Ticket, load: Load) {
        if load.slots == 0 {
            self.remove(ticket);
            return;
        }
        let group = self.group_of(ticket.demand);
        let Some(found) = self.groups.get_mut(group) else {
            return;
        };
        let item = Item {
            place: ticket.place,
            request: ticket.request,
            group,
            load,
        };
        if let Some(before) = self.ranking.update(ticket.place, load) {
            found.load.sub(before);
        } else {
            self.ranking.insert(item);
            found.members.insert(ticket.place, ticket.request);
            let places = self.users.entry(ticket.user).or_default();
            places.insert(ticket.place, ticket.request);
        }
        found.load.add(load);
    }

    /// Takes a request out, if it is in.
    pub(super) fn remove(&mut self, ticket: &Ticket) {
        let Some(item) = self.ranking.remove(ticket.place) else {
            return;
        };
        if let Some(places) = self.users.get_mut(&ticket.user) {
            places.remove(&ticket.place);
            if places.is_empty() {
                self.users.remove(&ticket.user);
            }
        }
        let Some(group) = self.groups.get_mut(item.group) else {
            return;
        };
        group.load.sub(item.load);
        group.members.remove(&ticket.place);
        if group.members.is_empty() {
            self.by_demand.remove(&group.demand);
            self.empty_groups.push(item.group);
        }
    }

    /// Counts results of a user that wait or run: so many more, so many less.
    pub(super) fn count(&mut self, user: UserId, more: u64, less: u64) {
        let jobs = self.jobs.entry(user).or_default();
        *jobs = jobs.saturating_add(more).saturating_sub(less);
        if *jobs == 0 {
            self.jobs.remove(&user);
        }
    }

    /// Results of a user that wait or run.
    pub(super) fn jobs_of(&self, user: UserId) -> u64 {
        self.jobs.get(&user).copied().unwrap_or(0)
    }

    fn group_of(&mut self, demand: Demand) -> usize {
        if let Some(&group) = self.by_demand.get(&demand) {
            return group;
        }
        let fresh = Group {
            demand,
            load: Load::default(),
            members: BTreeMap::new(),
        };
        let number = self.empty_groups.pop().unwrap_or(self.groups.len());
        match self.groups.get_mut(number) {
            Some(place) => *place = fresh,
            None => self.groups.push(fresh),
        }
        self.by_demand.insert(demand, number);
        number
    }

    /// The groups in which something waits.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| !group.members.is_empty())
    }

    /// Everything that waits, first to be served first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Item> {
        self.ranking.iter()
    }

    /// The requests of a user that wait, first to be served first.
    pub(super) fn of_user(&self, user: UserId) -> impl Iterator<Item = RequestId> {
        let places = self.users.get(&user);
        places
            .into_iter()
            .flat_map(|places| places.values().copied())
    }

    /// The same with their places.
    pub(super) fn places_of(&self, user: UserId) -> impl Iterator<Item = (Place, RequestId)> {
        let places = self.users.get(&user);
        places
            .into_iter()
            .flat_map(|places| places.iter().map(|(place, id)| (*place, *id)))
    }

    /// What stands ahead of a place, itself included.
    pub(super) fn ahead(&self, place: Place) -> Option<Ahead> {
        self.ranking.ahead(place)
    }

    /// What all that waits amounts to.
    pub(super) const fn totals(&self) -> Load {
        self.ranking.total()
    }

    /// The numbers of the models in a set.
    pub(super) fn model_set(&self, set: usize) -> &[usize] {
        self.model_sets.get(set).map_or(&[], Vec::as_slice)
    }

    /// A list of workers.
    pub(super) fn worker_list(&self, list: usize) -> Option<&WorkerList> {
        self.worker_lists.get(list)
    }
}
