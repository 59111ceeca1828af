//! Those who look at a request: by a stream of events, or by a call that waits for the next one.

use std::collections::VecDeque;
use std::sync::Arc;

use ordu_api::RequestId;
use ordu_api::event::{Event, Generated, WrittenText};
use ordu_core::horde::Work;
use tokio::sync::watch;

use super::log::{Entry, Mark};
use super::prefer::{Applied, Prefer};
use super::seats::Seat;
use super::watching::{Beat, Onlooker};
use crate::app::App;
use crate::routes::{image, text};

/// One who looks on. It reads at its own pace; who falls behind is told how things are.
pub(crate) struct Viewer {
    app: Arc<App>,
    request: RequestId,
    /// What is to be told next.
    entries: VecDeque<(Mark, Entry)>,
    /// Up to where it was told.
    place: u64,
    bell: watch::Receiver<Beat>,
    ended: bool,
    _seat: Seat,
}

impl Viewer {
    /// Looks at a request of the live horde, from a mark on that was told before, if it is of use.
    /// `None` if everything was told.
    pub(crate) fn open(
        app: &Arc<App>,
        request: RequestId,
        last: Option<Mark>,
        seat: Seat,
    ) -> Option<Self> {
        let now = app.clock.now();
        let live = &mut *app.live();
        let watching = &app.push.watching;
        let who = (request, Onlooker::Stream);
        let viewer = watching.enter(&mut live.horde, who, now, |watched, horde| {
            let place = last.and_then(|mark| watched.log.place(mark));
            let entries = match place {
                Some(_) => Vec::new(),
                None => watched.present(horde, request, now),
            };
            Self {
                app: Arc::clone(app),
                request,
                entries: entries.into(),
                place: place.unwrap_or(watched.log.newest()),
                bell: watched.listen(),
                ended: place == Some(watched.log.newest()) && watched.has_ended(),
                _seat: seat,
            }
        });
        (!viewer.ended).then_some(viewer)
    }

    /// The next event with its mark; `None` after the last one, and when the server ends.
    pub(crate) async fn next(&mut self) -> Option<(Mark, Event)> {
        loop {
            if self.ended {
                return None;
            }
            let Some((mark, entry)) = self.entries.pop_front() else {
                self.look().await?;
                continue;
            };
            self.ended = entry.is_last();
            if let Some(event) = self.draw(entry) {
                return Some((mark, event));
            }
        }
    }

    /// Takes what is new out of the log, or waits for it.
    async fn look(&mut self) -> Option<()> {
        // What comes from here on rings the bell again.
        self.bell.borrow_and_update();
        if self.read()? {
            return Some(());
        }
        tokio::select! {
            rung = self.bell.changed() => rung.ok(),
            () = self.app.closing.cancelled() => None,
        }
    }

    /// Whether there was something new; `None` if the log is gone.
    fn read(&mut self) -> Option<bool> {
        let watching = &self.app.push.watching;
        let place = self.place;
        let (newest, after) = watching.with(self.request, |watched| {
            (watched.log.newest(), watched.log.after(place))
        })?;
        if let Some(entries) = after {
            self.place = newest;
            self.entries = entries.into();
        } else {
            let now = self.app.clock.now();
            let live = &mut *self.app.live();
            (self.place, self.entries) = watching.with(self.request, |watched| {
                let present = watched.present(&mut live.horde, self.request, now);
                (watched.log.newest(), present.into())
            })?;
        }
        Some(!self.entries.is_empty())
    }

    /// An entry as it is told; `None` if what it names is gone.
    fn draw(&self, entry: Entry) -> Option<Event> {
        Some(match entry {
            Entry::Queued(progress) => Event::Queued(progress),
            Entry::Assigned(assigned) => Event::Assigned(assigned),
            Entry::Progress(steps) => Event::Progress(steps),
            Entry::Token(piece) => Event::Token(piece),
            Entry::Done(progress) => Event::Done(progress),
            Entry::Faulted(progress) => Event::Faulted(progress),
            Entry::Generation(job) => {
                let (views, is_text) = {
                    let live = self.app.live();
                    let work = live.horde.request(self.request).map(|found| &found.work);
                    let is_text = matches!(work, Some(Work::Text(_)));
                    (live.horde.generations(self.request), is_text)
                };
                let view = views.into_iter().find(|view| view.job == job)?;
                let generated = if is_text {
                    let generation = text::generation(view);
                    Generated::Text(WrittenText {
                        id: job,
                        generation,
                    })
                } else {
                    Generated::Image(image::linked(&self.app, view))
                };
                Event::Generation(Box::new(generated))
            }
        })
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let now = self.app.clock.now();
        let watching = &self.app.push.watching;
        watching.leave(self.request, Onlooker::Stream, now);
    }
}

/// A call that waits for something to happen to a request.
struct Listener<'a> {
    app: &'a App,
    request: RequestId,
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let now = self.app.clock.now();
        self.app
            .push
            .watching
            .leave(self.request, Onlooker::Wait, now);
    }
}

impl App {
    /// Waits until something happens to a request, if the client would: a worker takes a job, a
    /// result is there, a job comes back, it ends. A request that has ended is not waited for.
    pub(crate) async fn wait_for_news(&self, request: RequestId, prefer: &Prefer) -> Applied {
        if !prefer.is_wait() || self.live().horde.request(request).is_none() {
            return Applied::default();
        }
        let Some(patient) = prefer.sit_down(self) else {
            return Applied::default();
        };
        patient.seat.wait();
        let (_listener, mut bell) = {
            let now = self.clock.now();
            let live = &mut *self.live();
            let watching = &self.push.watching;
            let who = (request, Onlooker::Wait);
            let bell = watching.enter(&mut live.horde, who, now, |watched, _| {
                (!watched.has_ended()).then(|| watched.listen())
            });
            let listener = Listener { app: self, request };
            match bell {
                Some(bell) => (listener, bell),
                None => return prefer.applied(),
            }
        };
        let before = bell.borrow_and_update().moves;
        tokio::select! {
            _ = bell.wait_for(|beat| beat.moves > before) => {}
            () = tokio::time::sleep(patient.limit) => {}
            () = self.closing.cancelled() => {}
        }
        prefer.applied()
    }
}
