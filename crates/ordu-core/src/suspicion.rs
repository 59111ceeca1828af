//! Suspicion: what speaks against workers and accounts, and when it is enough.
//!
//! # Source
//! `generation.md` § 6.15, `community.md` § 2.11.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ordu_api::worker::WorkKind;
use ordu_api::{UserId, WorkerId};

use crate::{Role, Roles};

/// So many reasons pause a worker, or take its privileges from an account.
pub const THRESHOLD: u32 = 5;

/// A worker of an untrusted owner that claims more pixels is suspected.
pub const EXTREME_PIXELS: i64 = 3072 * 3072;

/// Names up to this length, in characters, are nothing special.
pub const LONG_NAME_CHARS: usize = 100;
/// Names beyond this length are suspected twice.
pub const EXTREMELY_LONG_NAME_CHARS: usize = 200;

/// No worker paints faster, in pixelsteps a second.
const FASTEST_PIXELSTEPS: f64 = 20_000_000.0;
/// No worker writes faster, in tokens a second.
const FASTEST_TOKENS: f64 = 150.0;
/// The same for untrusted owners and models of at least so many billion parameters.
const FASTEST_TOKENS_BY_SIZE: &[(f64, f64)] = &[(70.0, 30.0), (14.0, 100.0), (8.0, 150.0)];
/// A model of several experts is so many times faster than its size tells.
const EXPERTS_FACTOR: f64 = 3.0;

/// What speaks against somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A worker's name is long.
    WorkerNameLong,
    /// A worker's name is extremely long.
    WorkerNameExtreme,
    /// A worker's name is profane.
    WorkerProfanity,
    /// A worker hides where it is.
    UnsafeIp,
    /// A worker claims to make extremely large pictures.
    ExtremeMaxPixels,
    /// A worker was faster than any can be.
    UnreasonablyFast,
    /// An account's name is long.
    UsernameLong,
    /// An account's name is profane.
    UsernameProfanity,
    /// An account asked for what nobody may ask for.
    CorruptPrompt,
    /// A worker dropped too many jobs.
    TooManyJobsAborted,
    /// A worker's pictures are not those that a trusted worker makes with the same seed.
    UnlikePictures,
}

impl Reason {
    /// All of them, by number.
    pub const ALL: [Self; 11] = [
        Self::WorkerNameLong,
        Self::WorkerNameExtreme,
        Self::WorkerProfanity,
        Self::UnsafeIp,
        Self::ExtremeMaxPixels,
        Self::UnreasonablyFast,
        Self::UsernameLong,
        Self::UsernameProfanity,
        Self::CorruptPrompt,
        Self::TooManyJobsAborted,
        Self::UnlikePictures,
    ];

    /// Its number, as it is stored.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The reason of this number.
    pub fn from_number(number: i64) -> Option<Self> {
        let found = |reason: &Self| i64::from(reason.number()) == number;
        Self::ALL.into_iter().find(found)
    }

    /// Whether it counts each time.
    pub const fn is_repeatable(self) -> bool {
        matches!(
            self,
            Self::UnreasonablyFast | Self::TooManyJobsAborted | Self::UnlikePictures
        )
    }

    /// A few words for moderators.
    pub const fn words(self) -> &'static str {
        match self {
            Self::WorkerNameLong => "long worker name",
            Self::WorkerNameExtreme => "extremely long worker name",
            Self::WorkerProfanity => "profane worker name",
            Self::UnsafeIp => "unsafe address",
            Self::ExtremeMaxPixels => "extreme `max_pixels`",
            Self::UnreasonablyFast => "unreasonably fast",
            Self::UsernameLong => "long user name",
            Self::UsernameProfanity => "profane user name",
            Self::CorruptPrompt => "corrupt prompt",
            Self::TooManyJobsAborted => "too many jobs aborted",
            Self::UnlikePictures => "pictures that others do not get",
        }
    }
}

/// Who is suspected: an account itself, or one of its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspect {
    /// The account.
    pub user: UserId,
    /// Its worker.
    pub worker: Option<WorkerId>,
}

/// How often each reason speaks against somebody.
type Tally = BTreeMap<Reason, u32>;

/// What speaks against everybody who is suspected.
#[derive(Debug, Clone, Default)]
pub struct Suspicions(BTreeMap<Suspect, Tally>);

/// What a report led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// What is to be stored: each suspect with how often the reason speaks against it now.
    pub user: (Suspect, u32),
    /// The same for the worker, if it is about one.
    pub worker: Option<(Suspect, u32)>,
    /// Whether the worker is to be paused.
    pub pause: bool,
}

impl Suspicions {
    /// Reports a worker, and with it its owner, or an account alone.
    ///
    /// `None` if nothing changes: trusted and anonymous accounts are never suspected, and most
    /// reasons count once.
    pub fn report(&mut self, suspect: Suspect, roles: Roles, reason: Reason) -> Option<Noted> {
        if suspect.user == UserId::ANONYMOUS || roles.has(Role::Trusted) {
            return None;
        }
        let account = Suspect {
            worker: None,
            ..suspect
        };
        let of_user = self.count(account, reason);
        let of_worker = suspect.worker.map(|_| self.count(suspect, reason));
        let changed = of_user.1 || of_worker.is_some_and(|counted| counted.1);
        changed.then(|| Noted {
            user: (account, of_user.0),
            worker: of_worker.map(|(count, _)| (suspect, count)),
            pause: of_worker.is_some() && self.total(suspect) >= THRESHOLD,
        })
    }

    /// How often the reason speaks now, and whether that is new.
    fn count(&mut self, suspect: Suspect, reason: Reason) -> (u32, bool) {
        let tally = self.0.entry(suspect).or_default();
        let count = tally.entry(reason).or_default();
        let is_new = *count == 0 || reason.is_repeatable();
        *count = count.saturating_add(u32::from(is_new));
        (*count, is_new)
    }

    /// How much speaks against an account, its workers' reasons included, or against a worker.
    pub fn total(&self, suspect: Suspect) -> u32 {
        let tally = self.0.get(&suspect);
        tally.map_or(0, |tally| tally.values().sum())
    }

    /// Whether an account lost its privileges: it gets no trust by itself and moves no kudos.
    pub fn is_suspicious(&self, user: UserId, roles: Roles) -> bool {
        let account = Suspect { user, worker: None };
        !roles.has(Role::Trusted) && self.total(account) >= THRESHOLD
    }

    /// Forgets what speaks against an account and all its workers.
    pub fn forget(&mut self, user: UserId) {
        self.0.retain(|suspect, _| suspect.user != user);
    }

    /// Takes over what was stored.
    pub fn merge(&mut self, suspect: Suspect, reason: Reason, count: u32) {
        if count == 0 {
            if let Some(tally) = self.0.get_mut(&suspect) {
                tally.remove(&reason);
            }
            return;
        }
        self.0.entry(suspect).or_default().insert(reason, count);
    }
}

/// How a job was done, as far as its speed tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace<'a> {
    /// The kind of work.
    pub kind: WorkKind,
    /// Raw units a second: pixelsteps, tokens.
    pub speed: f64,
    /// The model.
    pub model: &'a str,
    /// Its parameters in billions, if they are known.
    pub billions: Option<f64>,
    /// The roles of the worker's owner.
    pub owner: Roles,
}

impl Pace<'_> {
    /// Whether no worker can be that fast.
    pub fn is_unreasonable(&self) -> bool {
        match self.kind {
            WorkKind::Image => self.speed > FASTEST_PIXELSTEPS,
            WorkKind::Text => self.speed > FASTEST_TOKENS || self.is_too_fast_for_its_size(),
            WorkKind::Interrogation => false,
        }
    }

    fn is_too_fast_for_its_size(&self) -> bool {
        let Some(billions) = self.billions.filter(|_| !self.owner.has(Role::Trusted)) else {
            return false;
        };
        let factor = if self.model.contains("8x") {
            EXPERTS_FACTOR
        } else {
            1.0
        };
        let fits = |(size, _): &&(f64, f64)| billions >= *size;
        let fastest = FASTEST_TOKENS_BY_SIZE.iter().find(fits);
        fastest.is_some_and(|(_, fastest)| self.speed > fastest * factor)
    }
}

/// What the length of a worker's name says against it.
pub fn of_name_length(chars: usize) -> &'static [Reason] {
    if chars > EXTREMELY_LONG_NAME_CHARS {
        &[Reason::WorkerNameLong, Reason::WorkerNameExtreme]
    } else if chars > LONG_NAME_CHARS {
        &[Reason::WorkerNameLong]
    } else {
        &[]
    }
}
