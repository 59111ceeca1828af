//! Shows what a worker does, and does what its owner's keys say: a screen on a terminal, lines in a log
//! elsewhere.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_worker::{Controls, Phase, Status};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::memory::Memory;
use super::screen::{self, View};
use super::steward::{Maintenance, Steward};
use super::tell_level;
use crate::commands::terminal::Terminal;
use crate::logs::Logs;

/// How often a screen may change.
const FRAME: Duration = Duration::from_millis(250);

/// How often memory is looked at, in frames.
const FRAMES_PER_LOOK: u32 = 8;

/// Between two lines while the last jobs are finished.
const ENDING: Duration = Duration::from_secs(5);

/// How long the answer to a key stays.
const NOTICE: Duration = Duration::from_secs(8);

/// How it is shown.
pub(crate) enum Show {
    /// On a terminal.
    Screen {
        terminal: Terminal,
        keys: mpsc::Receiver<u8>,
    },
    /// As a line each so often; never if there is no time.
    Lines(Option<Duration>),
}

/// What there is to show, and whom to tell what the keys say.
pub(crate) struct Console {
    pub(crate) controls: Controls,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) steward: Steward,
    pub(crate) title: String,
    pub(crate) logs: Logs,
    /// Without jobs before a word is said about it; never if 0.
    pub(crate) patience: Duration,
    /// SIGUSR1.
    switch: Signal,
    /// What keys have started, with what to tell when it is done.
    acting: JoinSet<String>,
    notice: Option<(String, Instant)>,
}

/// What it takes to make a [`Console`].
pub(crate) struct Parts {
    pub(crate) controls: Controls,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) steward: Steward,
    pub(crate) title: String,
    pub(crate) logs: Logs,
    pub(crate) patience: Duration,
}

impl Console {
    pub(crate) fn new(parts: Parts) -> Result<Self> {
        let switch = signal(SignalKind::user_defined1()).context("cannot listen for signals")?;
        let Parts {
            controls,
            status,
            steward,
            title,
            logs,
            patience,
        } = parts;
        Ok(Self {
            controls,
            status,
            steward,
            title,
            logs,
            patience,
            switch,
            acting: JoinSet::new(),
            notice: None,
        })
    }

    /// Shows until it is dropped.
    pub(crate) async fn run(mut self, show: Show) -> Infallible {
        match show {
            Show::Screen { terminal, keys } => self.draw(terminal, keys).await,
            Show::Lines(period) => self.tell(period).await,
        }
    }

    async fn draw(&mut self, mut terminal: Terminal, mut keys: mpsc::Receiver<u8>) -> Infallible {
        let mut frames = patient(FRAME);
        let mut idle = Idle::new(self.patience);
        let mut memory = Memory::now();
        let mut frame = 0_u32;
        loop {
            tokio::select! {
                Some(key) = keys.recv() => self.press(key),
                _ = self.switch.recv() => self.switch_maintenance(),
                Some(told) = self.acting.join_next() => self.notify(told.unwrap_or_default()),
                _ = frames.tick() => {}
            }
            frame = frame.wrapping_add(1);
            if frame.is_multiple_of(FRAMES_PER_LOOK) {
                memory = Memory::now();
            }
            let now = Instant::now();
            let status = self.status.borrow().clone();
            idle.look(&status, now);
            self.notice.take_if(|(_, since)| now - *since > NOTICE);
            let (columns, rows) = Terminal::size();
            let log = self.logs.last(rows);
            let view = View {
                status: &status,
                memory,
                title: &self.title,
                now,
                notice: self.notice.as_ref().map(|(text, _)| text.as_str()),
                log: &log,
            };
            // A terminal that is gone sends a signal of its own.
            drop(terminal.draw(screen::draw(&view, columns, rows)));
        }
    }

    async fn tell(&mut self, period: Option<Duration>) -> Infallible {
        let mut ticks = patient(period.unwrap_or(ENDING).min(ENDING));
        let mut idle = Idle::new(self.patience);
        let mut told = Instant::now();
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = self.switch.recv() => self.switch_maintenance(),
                Some(done) = self.acting.join_next() => {
                    let done = done.unwrap_or_default();
                    tracing::info!("{done}");
                }
                _ = ticks.tick() => {
                    let status = self.status.borrow().clone();
                    let now = Instant::now();
                    idle.look(&status, now);
                    if is_due(period, &status.phase, now - told) {
                        report(&status);
                        told = now;
                    }
                }
            }
        }
    }

    fn press(&mut self, key: u8) {
        match key {
            b'q' | b'Q' => tell_level(self.controls.shutdown().escalate()),
            b'p' | b'P' => {
                let told = if self.controls.toggle_pause() {
                    "paused: nothing is popped until `p` is pressed again"
                } else {
                    "going on"
                };
                self.notify(told.to_owned());
            }
            b'm' | b'M' => self.switch_maintenance(),
            _ => {}
        }
    }

    /// One change at a time; a second key while it goes on is lost on purpose.
    fn switch_maintenance(&mut self) {
        if !self.acting.is_empty() {
            return;
        }
        self.notify("telling the horde …".to_owned());
        let (steward, controls) = (self.steward.clone(), self.controls.clone());
        self.acting.spawn(async move {
            match steward.toggle().await {
                Ok(Maintenance::On) => {
                    "maintenance: the horde gives this worker its owner's jobs only".to_owned()
                }
                Ok(Maintenance::Off) => {
                    controls.stir();
                    "maintenance is over".to_owned()
                }
                Err(error) => {
                    let paused = if controls.toggle_pause() {
                        "paused here instead"
                    } else {
                        "going on here"
                    };
                    format!("the horde does not change it ({error:#}): {paused}")
                }
            }
        });
    }

    fn notify(&mut self, text: String) {
        self.notice = Some((text, Instant::now()));
    }
}

/// Whether the next line about the worker is due. Who waits for its end hears of it more often.
fn is_due(period: Option<Duration>, phase: &Phase, since: Duration) -> bool {
    let Some(period) = period else {
        return false;
    };
    let is_ending = *phase == Phase::Draining;
    let most = if is_ending {
        period.min(ENDING)
    } else {
        period
    };
    // Ticks are not exact.
    since + ENDING / 10 >= most
}

/// Ticks that are late are left out.
fn patient(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The line that says how it goes.
fn report(status: &Status) {
    let memory = Memory::now();
    let now = Instant::now();
    let megabytes = |bytes: Option<u64>| bytes.unwrap_or_default() >> 20;
    tracing::info!(
        phase = screen::phase(&status.phase),
        jobs = status.jobs.len(),
        done = status.done,
        faulted = status.faulted,
        lost = status.lost,
        kudos = format_args!("{:.0}", status.kudos),
        kudos_per_hour = format_args!("{:.0}", status.earned.per_hour(now)),
        worker_mib = megabytes(memory.worker),
        engine_mib = megabytes(memory.engine),
        "at work"
    );
}

/// Notices when no job comes for long.
struct Idle {
    patience: Duration,
    since: Instant,
    told: bool,
}

impl Idle {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            told: false,
        }
    }

    fn look(&mut self, status: &Status, now: Instant) {
        if !status.jobs.is_empty() {
            self.since = now;
            self.told = false;
        } else if !self.told && !self.patience.is_zero() && now - self.since >= self.patience {
            self.told = true;
            let minutes = self.patience.as_secs() / 60;
            tracing::warn!(minutes, "no job came for long; `skipped` says why");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_end_hears_of_it_more_often() {
        let minute = Some(Duration::from_mins(1));
        let due = |phase, seconds| is_due(minute, &phase, Duration::from_secs(seconds));
        assert!(due(Phase::Draining, 5) && !due(Phase::Draining, 4));
        assert!(due(Phase::Serving, 60) && !due(Phase::Serving, 55));
        assert!(!is_due(None, &Phase::Draining, Duration::from_hours(1)));
    }

    #[test]
    fn a_long_wait_is_told_once() {
        let mut idle = Idle::new(Duration::from_mins(30));
        let start = idle.since;
        let status = Status::default();
        idle.look(&status, start + Duration::from_mins(29));
        assert!(!idle.told);
        idle.look(&status, start + Duration::from_mins(30));
        assert!(idle.told);
        let mut never = Idle::new(Duration::ZERO);
        never.look(&status, start + Duration::from_hours(9));
        assert!(!never.told);
    }
}
