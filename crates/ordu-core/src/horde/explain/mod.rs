//! Why nobody takes a request, and the smallest change that would let somebody.
//!
//! Changes are tried out: each is a request of its own, compared with every worker by the same
//! matching that serves pops. That is work, so it is done in bites: the horde is asked again and
//! again ([`Horde::examine`]), and everything that needs no horde happens outside of it.
//!
//! # Source
//! `platform.md` § 4 ("Why not me?").

pub(super) mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ordu_api::explanation::{Change, Explanation, ModelExplanation, Obstacle};
use ordu_api::{RequestId, WorkerId};

use super::demand::Demand;
use super::matching::{Matcher, has_word};
use super::needs::{Reason, Reasons};
use super::queue::Queue;
use super::slots::Slots;
use super::{Entry, Horde, Request, Work};
use crate::model_reference::ModelReference;
use crate::{Kudos, Millis, Timestamp};
use edits::Edit;

/// The most workers that are compared with a request.
const MAX_WORKERS: usize = 2000;
/// The most workers that are compared before the horde is let go.
const BITE: usize = 64;
/// The most workers that are looked at before the horde is let go, those that are offline and those
/// of other kinds included.
const MAX_VISITED: usize = 4096;
/// The most models, or forms, that are explained one by one.
const MAX_NAMES: usize = 16;
/// The most changes that are tried.
const MAX_EDITS: usize = 48;

/// Whether there is more to examine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Examined {
    /// There are more workers.
    Partly,
    /// All workers that count were compared.
    Wholly,
}

/// A request that somebody asks about.
#[derive(Debug, Clone)]
pub struct Question {
    request: Request,
    open: Slots,
    reference: Arc<ModelReference>,
}

/// A request, each of its models alone, and what it could be changed into: compared with workers
/// bite by bite.
#[derive(Debug)]
pub struct Inquiry {
    request: Request,
    /// The request as it is, then with each name alone, then with each edit.
    variants: Vec<Variant>,
    names: Vec<Option<String>>,
    edits: Vec<Edit>,
    rows: Vec<Row>,
    last: Option<WorkerId>,
}

/// A request that is compared with workers.
#[derive(Debug)]
struct Variant {
    request: Request,
    open: Slots,
    price: Kudos,
}

/// One worker, compared.
#[derive(Debug)]
struct Row {
    /// Why it takes nothing of this requester at all.
    closed: Option<&'static str>,
    /// Words that it refuses.
    refused: Arc<[String]>,
    /// Which of the names it serves.
    serves: Vec<bool>,
    /// What keeps it from each variant, but for words.
    reasons: Vec<Reasons>,
}

impl Horde {
    /// Begins to look into a request; `None` if it is unknown.
    pub fn question(&self, request: RequestId) -> Option<Question> {
        let entry = self.requests.get(&request)?;
        Some(Question {
            request: entry.request.clone(),
            open: entry.open.clone(),
            reference: Arc::clone(&self.reference),
        })
    }

    /// Compares a few more workers.
    pub fn examine(&mut self, inquiry: &mut Inquiry, now: Timestamp) -> Examined {
        let kind = inquiry.request.work.kind();
        let queue = self.queues.of_mut(kind);
        let hold = |variant: &Variant| {
            let demand = queue.hold(&variant.request, &variant.open);
            let open = variant.open.clone();
            Entry::considered(variant.request.clone(), (demand, open), variant.price)
        };
        let entries: Vec<Entry> = inquiry.variants.iter().map(hold).collect();
        let mut compared = 0;
        let mut examined = Examined::Wholly;
        for (visited, worker) in self.workers.after(inquiry.last).enumerate() {
            if compared == BITE || visited == MAX_VISITED {
                examined = Examined::Partly;
                break;
            }
            inquiry.last = Some(worker.record.id);
            let Some(capacity) = &worker.capacity else {
                continue;
            };
            if worker.record.kind != kind || !worker.is_online(now) {
                continue;
            }
            compared += 1;
            let matcher = Matcher {
                queue,
                requests: &BTreeMap::new(),
                worker,
                capacity,
                near: Millis::default(),
                behind: false,
                now,
            };
            inquiry
                .rows
                .push(Row::new(&matcher, &entries, &inquiry.names));
        }
        for entry in &entries {
            queue.let_go(entry.demand);
        }
        if inquiry.rows.len() >= MAX_WORKERS {
            return Examined::Wholly;
        }
        examined
    }
}

impl Row {
    fn new(matcher: &Matcher<'_>, entries: &[Entry], names: &[Option<String>]) -> Self {
        let worker = matcher.worker;
        let user = entries.first().map(|entry| entry.request.requester.user);
        let is_welcome = user.is_some_and(|user| worker.may_serve(user));
        let alone = entries.iter().skip(1).take(names.len());
        Self {
            closed: match worker.record.maintenance {
                _ if is_welcome => None,
                Some(_) => Some("maintenance"),
                None => Some("paused"),
            },
            refused: Arc::clone(&matcher.capacity.image.blacklist),
            serves: alone
                .map(|entry| serves(matcher, matcher.queue, entry.demand))
                .collect(),
            reasons: entries
                .iter()
                .map(|entry| matcher.obstacles(entry))
                .collect(),
        }
    }
}

/// Whether a worker has the model, or knows the form, that a request with this demand names.
fn serves(matcher: &Matcher<'_>, queue: &Queue, demand: Demand) -> bool {
    let named = demand.models.map(|set| queue.model_set(set));
    named.is_none_or(|set| matcher.capacity.offers_of(set) > 0)
}

impl Question {
    /// Prepares what is compared with workers. Costs too much to be done in the horde.
    pub fn prepare(self) -> Inquiry {
        let Self {
            request,
            open,
            reference,
        } = self;
        let variant = |work: &Work, open: &Slots| Variant {
            request: Request {
                work: work.clone(),
                ..request.clone()
            },
            open: open.clone(),
            price: work.base_price(&reference),
        };
        let alone = alone(&request.work, &open);
        let mut edits = edits::edits(&request.work);
        edits.truncate(MAX_EDITS);
        let mut variants = vec![variant(&request.work, &open)];
        variants.extend(alone.iter().map(|(_, work, open)| variant(work, open)));
        variants.extend(edits.iter().map(|edit| variant(&edit.work, &open)));
        Inquiry {
            names: alone.into_iter().map(|(name, ..)| name).collect(),
            request,
            variants,
            edits,
            rows: Vec::new(),
            last: None,
        }
    }
}

/// The request with each of its models, or open forms, alone.
fn alone(work: &Work, open: &Slots) -> Vec<(Option<String>, Work, Slots)> {
    let names: BTreeSet<&String> = work.names(open).into_iter().collect();
    if names.is_empty() {
        return vec![(None, work.clone(), open.clone())];
    }
    let of_name = |name: &String| {
        let (work, open) = only(work, open, name);
        (Some(name.clone()), work, open)
    };
    names.into_iter().take(MAX_NAMES).map(of_name).collect()
}

/// A request of which only one name is left.
fn only(work: &Work, open: &Slots, name: &String) -> (Work, Slots) {
    match work {
        Work::Image(spec) => {
            let mut spec = Arc::clone(spec);
            Arc::make_mut(&mut spec).models = vec![name.clone()];
            (Work::Image(spec), open.clone())
        }
        Work::Text(spec) => {
            let mut spec = Arc::clone(spec);
            Arc::make_mut(&mut spec).models = vec![name.clone()];
            (Work::Text(spec), open.clone())
        }
        Work::Alchemy(spec) => {
            let is_it = |slot: &u32| spec.form(*slot).is_some_and(|form| form.name == *name);
            let slots = spec.slots().filter(is_it).collect();
            (work.clone(), Slots::Forms(slots))
        }
    }
}

impl Inquiry {
    /// What came out.
    pub fn explain(mut self) -> Explanation {
        let waits = self
            .variants
            .first()
            .is_some_and(|variant| !variant.open.is_empty());
        if !waits {
            return Explanation {
                message: "Nothing of it waits for a worker".to_owned(),
                ..Explanation::default()
            };
        }
        self.compare_words();
        let able = self.rows.iter().filter(|row| row.can(0)).count() as u64;
        let models = self.by_name();
        let change = if able == 0 {
            self.smallest_change()
        } else {
            None
        };
        let workers = self.rows.len() as u64;
        Explanation {
            message: message((able, workers), &models, change.as_ref()),
            workers,
            able,
            models,
            change,
        }
    }

    /// Adds the reason that needs a look at the prompt, which no edit changes.
    fn compare_words(&mut self) {
        let prompt = self.request.work.prompt().to_lowercase();
        for row in &mut self.rows {
            if has_word(&prompt, &row.refused) {
                for reasons in &mut row.reasons {
                    reasons.add(Reason::Blacklist);
                }
            }
        }
    }

    fn by_name(&self) -> Vec<ModelExplanation> {
        let names = self.names.iter().enumerate();
        names
            .map(|(index, name)| self.of_name(index, name.clone()))
            .collect()
    }

    fn of_name(&self, index: usize, name: Option<String>) -> ModelExplanation {
        let variant = 1 + index;
        let mut explained = ModelExplanation {
            name,
            ..ModelExplanation::default()
        };
        let mut groups: BTreeMap<(Option<&'static str>, Reasons), u64> = BTreeMap::new();
        for row in &self.rows {
            if row.serves.get(index) != Some(&true) {
                continue;
            }
            explained.workers += 1;
            if row.can(variant) {
                explained.able += 1;
            } else {
                let group = (row.closed, row.reasons_for(variant));
                *groups.entry(group).or_default() += 1;
            }
        }
        let obstacle =
            |((closed, reasons), workers): ((Option<&'static str>, Reasons), u64)| Obstacle {
                reasons: closed
                    .into_iter()
                    .chain(reasons.names())
                    .map(str::to_owned)
                    .collect(),
                workers,
            };
        explained.obstacles = groups.into_iter().map(obstacle).collect();
        explained
            .obstacles
            .sort_by_key(|group| std::cmp::Reverse(group.workers));
        explained
    }

    /// The lightest edit, or if there is none the lightest two, with which somebody could take it.
    fn smallest_change(&self) -> Option<Change> {
        self.lightest_edit().or_else(|| self.lightest_pair())
    }

    fn lightest_edit(&self) -> Option<Change> {
        // They are in the order of their weight.
        self.edits.iter().enumerate().find_map(|(index, edit)| {
            let variant = self.variant_of(index);
            self.helps(edit.change(), |row| row.can(variant))
        })
    }

    fn lightest_pair(&self) -> Option<Change> {
        let edits = || self.edits.iter().enumerate();
        let mut pairs: Vec<_> = edits()
            .flat_map(|one| edits().skip(one.0 + 1).map(move |other| (one, other)))
            .filter(|((_, one), (_, other))| one.dimension != other.dimension)
            .collect();
        pairs.sort_by_key(|((_, one), (_, other))| one.weight + other.weight);
        pairs
            .into_iter()
            .find_map(|((index, one), (other_index, other))| {
                let pair = (self.variant_of(index), self.variant_of(other_index));
                self.helps(one.with(other), |row| row.can_with(pair))
            })
    }

    /// Where the variant of an edit is.
    const fn variant_of(&self, edit: usize) -> usize {
        1 + self.names.len() + edit
    }

    /// The change, if there is anybody whom it helps.
    fn helps(&self, change: Change, can: impl Fn(&Row) -> bool) -> Option<Change> {
        let workers = self.rows.iter().filter(|row| can(row)).count() as u64;
        (workers > 0).then_some(Change { workers, ..change })
    }
}

impl Row {
    fn reasons_for(&self, variant: usize) -> Reasons {
        self.reasons.get(variant).copied().unwrap_or_default()
    }

    /// Whether the worker could take a variant.
    fn can(&self, variant: usize) -> bool {
        self.closed.is_none() && self.reasons_for(variant).is_empty()
    }

    /// Whether the worker could take two edits together: each thing that keeps it away is mended by
    /// one of them, and neither brings a new one.
    fn can_with(&self, (one, other): (usize, usize)) -> bool {
        let (one, other) = (self.reasons_for(one), self.reasons_for(other));
        let before = self.reasons_for(0);
        let is_mended = one.shared_with(other).is_empty();
        let brings_nothing = one.without(before).is_empty() && other.without(before).is_empty();
        self.closed.is_none() && is_mended && brings_nothing
    }
}

fn message(
    (able, workers): (u64, u64),
    models: &[ModelExplanation],
    change: Option<&Change>,
) -> String {
    let count = |count: u64| match count {
        1 => "1 worker".to_owned(),
        more => format!("{more} workers"),
    };
    if workers == 0 {
        return "No worker of its kind is online, so no change would help".to_owned();
    }
    if able > 0 {
        let lonely = models.iter().filter(|model| model.able == 0);
        let lonely: Vec<&str> = lonely.filter_map(|model| model.name.as_deref()).collect();
        let taken = format!("{} could take it: it waits for its turn", count(able));
        return match lonely.as_slice() {
            [] => taken,
            names => format!("{taken}. Nobody could with `{}`", names.join("`, `")),
        };
    }
    match change {
        Some(change) => format!(
            "No worker that is online can take it as it is. {}: {}",
            change.message,
            count(change.workers)
        ),
        None => "No worker that is online can take it, and nothing small would help".to_owned(),
    }
}
