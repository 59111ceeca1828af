//! Requests that somebody looks at, and what is told of them.
//!
//! A request has a log here while somebody looks on and a little longer. What happens in the horde is
//! found by comparing what was told with what is; what workers report is passed on as it comes.
//! Reports about requests that nobody looks at are forgotten at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordu_api::event::{Assigned, JobProgress, JobSteps, Piece};
use ordu_api::image::{Progress, Steps};
use ordu_api::{JobId, RequestId};
use ordu_core::horde::{Horde, Job, JobState, Work};
use ordu_core::{Millis, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use super::log::{Entry, Log, Mark};
use crate::clock::Clock;

/// Reports of a job that come faster are dropped.
const LEAST_GAP: Millis = Millis(100);

/// How long a log stays when nobody looks on any more.
const KEPT_FOR: Millis = Millis::from_seconds(60);

/// An expected time that moves by less is not worth an event, in seconds.
const LEAST_SECONDS: u64 = 2;

/// All that is looked at.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    requests: Mutex<BTreeMap<RequestId, Watched>>,
    /// How many; so that nobody looks further when it is none.
    count: AtomicUsize,
}

/// One request that is looked at.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) log: Log,
    told: Told,
    bell: watch::Sender<Beat>,
    streams: u32,
    waits: u32,
    /// Since when nobody looks on.
    left: Option<Timestamp>,
    reports: BTreeMap<JobId, Report>,
    candour: Candour,
}

/// What was told of a request.
#[derive(Debug, Default)]
struct Told {
    assigned: BTreeSet<JobId>,
    generated: BTreeSet<JobId>,
    progress: Progress,
    ended: bool,
}

/// What a worker reported last of a job.
#[derive(Debug)]
struct Report {
    at: Timestamp,
    steps: Steps,
    text: Option<String>,
    preview: Option<String>,
}

/// How much of an unfinished result may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candour {
    /// All that workers show.
    Open,
    /// Only how far it is: a finished result may be withheld for what it shows, or was.
    Discreet,
}

/// How much has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Entries of the log.
    pub(crate) entries: u64,
    /// Of those, what changes the answer to a check by more than places and times.
    pub(crate) moves: u64,
}

/// Who looks on, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onlooker {
    /// By a stream of events.
    Stream,
    /// By a call that waits.
    Wait,
}

impl Watching {
    fn requests(&self) -> MutexGuard<'_, BTreeMap<RequestId, Watched>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many look on by streams, and by calls that wait.
    pub(super) fn onlookers(&self) -> (usize, usize) {
        let requests = self.requests();
        let sum = |count: fn(&Watched) -> u32| {
            let counts = requests.values().map(|watched| count(watched) as usize);
            counts.sum()
        };
        (sum(|watched| watched.streams), sum(|watched| watched.waits))
    }

    /// Tells what happened to these requests.
    pub(crate) fn follow(&self, horde: &mut Horde, touched: &BTreeSet<RequestId>, clock: &Clock) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut requests = self.requests();
        for id in touched {
            if let Some(watched) = requests.get_mut(id) {
                watched.follow(horde, *id, clock.now());
            }
        }
    }

    /// Passes a report on. Answers whether somebody looks on.
    pub(crate) fn report(
        &self,
        request: RequestId,
        job: JobId,
        report: JobProgress,
        now: Timestamp,
    ) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut requests = self.requests();
        let watched = requests.get_mut(&request);
        let Some(watched) = watched.filter(|watched| watched.streams > 0) else {
            return false;
        };
        watched.report(job, report, now);
        true
    }

    /// The requests that somebody looks at by a stream.
    pub(crate) fn streamed(&self) -> Vec<RequestId> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let requests = self.requests();
        let streamed = requests
            .iter()
            .filter(|(_, watched)| watched.streams > 0 && !watched.told.ended);
        streamed.map(|(id, _)| *id).collect()
    }

    /// Does something with a request that somebody looks at.
    pub(super) fn with<T>(
        &self,
        request: RequestId,
        act: impl FnOnce(&mut Watched) -> T,
    ) -> Option<T> {
        self.requests().get_mut(&request).map(act)
    }

    /// Takes note of somebody who looks on.
    pub(super) fn enter<T>(
        &self,
        horde: &mut Horde,
        (request, onlooker): (RequestId, Onlooker),
        now: Timestamp,
        act: impl FnOnce(&mut Watched, &mut Horde) -> T,
    ) -> T {
        let mut requests = self.requests();
        let watched = requests.entry(request).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            let work = horde.request(request).map(|request| &request.work);
            Watched::new(Candour::about(work))
        });
        watched.follow(horde, request, now);
        *watched.count(onlooker) += 1;
        watched.left = None;
        act(watched, horde)
    }

    pub(super) fn leave(&self, request: RequestId, onlooker: Onlooker, now: Timestamp) {
        if let Some(watched) = self.requests().get_mut(&request) {
            let count = watched.count(onlooker);
            *count = count.saturating_sub(1);
            if watched.streams == 0 {
                watched.reports.clear();
            }
            if watched.streams == 0 && watched.waits == 0 {
                watched.left = Some(now);
            }
        }
    }

    /// The requests whose places in the queue somebody wants to know. Forgets what nobody came back
    /// to.
    pub(crate) fn sweep(&self, now: Timestamp) -> Vec<RequestId> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut requests = self.requests();
        let before = requests.len();
        requests.retain(|_, watched| watched.left.is_none_or(|left| now.since(left) < KEPT_FOR));
        self.count
            .fetch_sub(before - requests.len(), Ordering::Relaxed);
        let waiting = requests.iter().filter(|(_, watched)| {
            watched.streams > 0 && !watched.told.ended && watched.told.progress.waiting > 0
        });
        waiting.map(|(id, _)| *id).collect()
    }

    /// Tells a request's place in the queue, if it moved.
    pub(crate) fn place(&self, horde: &mut Horde, request: RequestId, now: Timestamp) {
        if let Some(watched) = self.requests().get_mut(&request)
            && let Some(progress) = horde.progress(request, now)
        {
            watched.place(progress);
        }
    }
}

impl Candour {
    /// A worker that is asked to censor does so when the picture is there: before, it would leak.
    fn about(work: Option<&Work>) -> Self {
        match work {
            Some(Work::Image(spec)) if spec.censor_nsfw && !spec.nsfw => Self::Discreet,
            _ => Self::Open,
        }
    }
}

impl Watched {
    fn new(candour: Candour) -> Self {
        Self {
            log: Log::new(Uuid::new_v4().as_fields().0),
            told: Told::default(),
            bell: watch::Sender::default(),
            streams: 0,
            waits: 0,
            left: None,
            reports: BTreeMap::new(),
            candour,
        }
    }

    const fn count(&mut self, onlooker: Onlooker) -> &mut u32 {
        match onlooker {
            Onlooker::Stream => &mut self.streams,
            Onlooker::Wait => &mut self.waits,
        }
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.told.ended
    }

    pub(super) fn listen(&self) -> watch::Receiver<Beat> {
        self.bell.subscribe()
    }

    fn add(&mut self, entry: Entry, moves: u64) {
        self.told.ended |= entry.is_last();
        self.log.add(entry);
        self.bell.send_modify(|beat| {
            beat.entries += 1;
            beat.moves += moves;
        });
    }

    /// Tells what is different from what was told.
    fn follow(&mut self, horde: &mut Horde, request: RequestId, now: Timestamp) {
        if self.told.ended {
            return;
        }
        let Some(progress) = horde.progress(request, now) else {
            return self.add(Entry::Faulted(gone()), 1);
        };
        let mut running = BTreeSet::new();
        let mut fresh = Vec::new();
        for job in horde.jobs(request) {
            match &job.state {
                JobState::Running => {
                    running.insert(job.id);
                    if self.told.assigned.insert(job.id) {
                        fresh.push(Entry::Assigned(assigned(job)));
                    }
                }
                JobState::Done(delivered) => {
                    if delivered.censored {
                        self.candour = Candour::Discreet;
                    }
                    if self.told.generated.insert(job.id) {
                        fresh.push(Entry::Generation(job.id));
                    }
                }
                JobState::Faulted => {}
            }
        }
        self.reports.retain(|job, _| running.contains(job));
        for entry in fresh {
            self.add(entry, 1);
        }
        let came_back = progress.waiting > self.told.progress.waiting
            || progress.restarted > self.told.progress.restarted;
        self.told.progress = progress.clone();
        if progress.faulted {
            self.add(Entry::Faulted(progress), 1);
        } else if progress.done {
            self.add(Entry::Done(progress), 1);
        } else if came_back {
            self.add(Entry::Queued(progress), 1);
        }
    }

    /// Tells the place in the queue, if it moved.
    fn place(&mut self, progress: Progress) {
        let told = &self.told.progress;
        let drift = told.wait_time.abs_diff(progress.wait_time);
        let has_moved = told.queue_position != progress.queue_position
            || told.is_possible != progress.is_possible
            || (drift >= LEAST_SECONDS && drift > told.wait_time / 10);
        if has_moved && !self.told.ended {
            self.told.progress = progress.clone();
            self.add(Entry::Queued(progress), 0);
        }
    }

    fn report(&mut self, job: JobId, report: JobProgress, now: Timestamp) {
        let JobProgress {
            steps,
            preview,
            text,
            ..
        } = report;
        let known = self.reports.get_mut(&job);
        if known
            .as_ref()
            .is_some_and(|known| now.since(known.at) < LEAST_GAP)
        {
            return;
        }
        let is_open = self.candour == Candour::Open;
        // What is not there is no news.
        let text = text
            .filter(|_| is_open)
            .map(|text| text.replace('\0', "\u{fffd}"));
        let preview = preview.filter(|_| is_open);
        let before = known.as_ref().and_then(|known| known.text.as_deref());
        let change = text
            .as_deref()
            .map(|text| Piece::between(before.unwrap_or_default(), text));
        let entry = match change {
            Some(None) if preview.is_none() => None,
            Some(Some((at, text))) => Some(Entry::Token(Piece {
                id: job,
                steps,
                at,
                text,
            })),
            _ => Some(Entry::Progress(JobSteps {
                id: job,
                steps,
                preview: preview.clone(),
            })),
        };
        let (old_text, old_preview) = self
            .reports
            .remove(&job)
            .map_or((None, None), |known| (known.text, known.preview));
        let known = Report {
            at: now,
            steps,
            text: text.or(old_text),
            preview: preview.or(old_preview),
        };
        self.reports.insert(job, known);
        if let Some(entry) = entry {
            self.add(entry, 0);
        }
    }

    /// How things are, for whoever knows nothing. Only the last entry leads on from there: who loses
    /// sight before it begins anew.
    pub(super) fn present(
        &self,
        horde: &mut Horde,
        request: RequestId,
        now: Timestamp,
    ) -> Vec<(Mark, Entry)> {
        let mut entries = Vec::new();
        let progress = horde.progress(request, now).unwrap_or_else(gone);
        let is_over = progress.done || progress.faulted;
        if !is_over {
            entries.push(Entry::Queued(progress.clone()));
        }
        for job in horde.jobs(request) {
            match job.state {
                JobState::Running => {
                    entries.push(Entry::Assigned(assigned(job)));
                    entries.extend(self.reports.get(&job.id).map(|known| known.entry(job.id)));
                }
                JobState::Done(_) => entries.push(Entry::Generation(job.id)),
                JobState::Faulted => {}
            }
        }
        if progress.faulted {
            entries.push(Entry::Faulted(progress));
        } else if progress.done {
            entries.push(Entry::Done(progress));
        }
        let last = entries.len().saturating_sub(1);
        let place_of = |index| match index {
            index if index == last => self.log.newest(),
            _ => Mark::NOWHERE,
        };
        let marked = entries.into_iter().enumerate();
        marked
            .map(|(index, entry)| (self.log.mark(place_of(index)), entry))
            .collect()
    }
}

impl Report {
    fn entry(&self, job: JobId) -> Entry {
        match &self.text {
            Some(text) => Entry::Token(Piece {
                id: job,
                steps: self.steps,
                at: 0,
                text: text.clone(),
            }),
            None => Entry::Progress(JobSteps {
                id: job,
                steps: self.steps,
                preview: self.preview.clone(),
            }),
        }
    }
}

fn assigned(job: &Job) -> Assigned {
    Assigned {
        id: job.id,
        model: job.model.clone(),
    }
}

/// A request that nobody knows any more.
fn gone() -> Progress {
    Progress {
        done: true,
        faulted: true,
        ..Progress::default()
    }
}
