//! What happened to one request lately, in order, so that whoever was away for a moment can go on
//! where it was. Bounded: who was away for longer is told how things are instead.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use ordu_api::JobId;
use ordu_api::event::{Assigned, JobSteps, Piece};
use ordu_api::image::Progress;

/// The most entries of a log.
const MAX_ENTRIES: usize = 128;

/// The most text and previews in a log, in bytes.
const MAX_BYTES: usize = 128 << 10;

/// Something that happened. Results are only named: they are drawn for whoever reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    Queued(Progress),
    Assigned(Assigned),
    Progress(JobSteps),
    Token(Piece),
    Generation(JobId),
    Done(Progress),
    Faulted(Progress),
}

impl Entry {
    /// Whether nothing comes after it.
    pub(crate) const fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Faulted(_))
    }

    /// Whether nobody needs an older entry any more who reads this one.
    fn replaces(&self, older: &Self) -> bool {
        match (self, older) {
            (Self::Queued(_), Self::Queued(_)) => true,
            (Self::Progress(new), Self::Progress(old)) => new.id == old.id,
            (Self::Generation(job), Self::Progress(old)) => *job == old.id,
            (Self::Generation(job), Self::Token(old)) => *job == old.id,
            _ => false,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Progress(steps) => steps.preview.as_ref().map_or(0, String::len),
            Self::Token(piece) => piece.text.len(),
            _ => 0,
        }
    }
}

/// The newest entries.
#[derive(Debug)]
pub(crate) struct Log {
    /// Tells the log from others of the same request, before a restart or at another node.
    nonce: u32,
    /// The place of the newest entry; the first one has 1.
    newest: u64,
    /// The place of the newest entry that was thrown away although somebody may need it.
    lost: u64,
    entries: VecDeque<(u64, Entry)>,
    bytes: usize,
}

/// A place in a log, as clients know it: what was told up to there is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    nonce: u32,
    place: u64,
}

impl Log {
    pub(crate) fn new(nonce: u32) -> Self {
        Self {
            nonce,
            newest: 0,
            lost: 0,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        self.entries.retain(|(_, older)| !entry.replaces(older));
        self.newest += 1;
        self.entries.push_back((self.newest, entry));
        self.bytes = self.entries.iter().map(|(_, entry)| entry.bytes()).sum();
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some((place, entry)) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= entry.bytes();
            self.lost = place;
        }
    }

    /// The place of the newest entry.
    pub(crate) const fn newest(&self) -> u64 {
        self.newest
    }

    /// What comes after a place; `None` if some of it is gone.
    pub(crate) fn after(&self, place: u64) -> Option<Vec<(Mark, Entry)>> {
        if place < self.lost {
            return None;
        }
        let after = self.entries.iter().filter(|(at, _)| *at > place);
        Some(
            after
                .map(|(at, entry)| (self.mark(*at), entry.clone()))
                .collect(),
        )
    }

    pub(crate) const fn mark(&self, place: u64) -> Mark {
        Mark {
            nonce: self.nonce,
            place,
        }
    }

    /// The place of a mark, if it is one of this log from which one can go on.
    pub(crate) fn place(&self, mark: Mark) -> Option<u64> {
        let is_ours = mark.nonce == self.nonce && mark.place != Mark::NOWHERE;
        let is_known = (self.lost..=self.newest).contains(&mark.place);
        (is_ours && is_known).then_some(mark.place)
    }
}

impl Mark {
    /// Whoever comes back from here is told how things are.
    pub(crate) const NOWHERE: u64 = 0;
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.nonce, self.place)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (nonce, place) = text.split_once('-').ok_or(())?;
        Ok(Self {
            nonce: u32::from_str_radix(nonce, 16).map_err(drop)?,
            place: place.parse().map_err(drop)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use ordu_api::image::Steps;

    use super::*;

    fn job(number: u8) -> JobId {
        JobId::from_uuid(uuid::Uuid::from_u128(number.into()))
    }

    fn token(number: u8, text: &str) -> Entry {
        Entry::Token(Piece {
            id: job(number),
            steps: Steps::default(),
            at: 0,
            text: text.to_owned(),
        })
    }

    fn steps(number: u8, step: u32) -> Entry {
        Entry::Progress(JobSteps {
            id: job(number),
            steps: Steps { step, of: 9 },
            preview: None,
        })
    }

    fn entries(log: &Log, place: u64) -> Option<Vec<Entry>> {
        let after = log.after(place)?.into_iter();
        Some(after.map(|(_, entry)| entry).collect())
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut log = Log::new(7);
        for text in ["a", "b", "c"] {
            log.add(token(1, text));
        }
        let mark: Mark = log.mark(2).to_string().parse().unwrap();
        let place = log.place(mark).unwrap();
        assert_eq!(entries(&log, place).unwrap(), [token(1, "c")]);
        assert_eq!(entries(&log, 3).unwrap(), []);
    }

    #[test]
    fn marks_of_others_lead_nowhere() {
        let mut log = Log::new(7);
        log.add(token(1, "a"));
        let read = |text: &str| text.parse().ok().and_then(|mark| log.place(mark));
        assert_eq!(read("00000007-1"), Some(1));
        for text in [
            "00000007-0",
            "00000007-2",
            "00000008-1",
            "1",
            "x-1",
            "7-x",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn newer_states_replace_older_ones_and_that_is_no_loss() {
        let mut log = Log::new(7);
        log.add(steps(1, 1));
        log.add(steps(2, 1));
        log.add(steps(1, 2));
        log.add(token(1, "a"));
        assert_eq!(
            entries(&log, 0).unwrap(),
            [steps(2, 1), steps(1, 2), token(1, "a")]
        );
        log.add(Entry::Generation(job(1)));
        assert_eq!(
            entries(&log, 0).unwrap(),
            [steps(2, 1), Entry::Generation(job(1))]
        );
    }

    #[test]
    fn what_is_thrown_away_is_missed() {
        let mut log = Log::new(7);
        for _ in 0..=MAX_ENTRIES {
            log.add(token(1, "a"));
        }
        assert_eq!(log.after(0), None);
        assert_eq!(log.after(1).unwrap().len(), MAX_ENTRIES);
        assert_eq!(log.place(log.mark(1)), Some(1));
        log.add(token(1, "a"));
        assert_eq!(log.place(log.mark(1)), None);
        log.add(token(1, &"x".repeat(MAX_BYTES)));
        assert_eq!(log.after(log.newest() - 1).unwrap().len(), 1);
        log.add(token(1, &"x".repeat(MAX_BYTES + 1)));
        assert_eq!(log.after(log.newest() - 1), None);
    }
}
