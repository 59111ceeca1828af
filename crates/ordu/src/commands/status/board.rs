//! What `ordu status --watch` shows: rows of text made of what the horde told. Pure.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use ordu_api::pulse::{ByKind, Happening, Pulse, What};
use ordu_api::status::{ModelStatus, Performance};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::commands::page::{Look, Page, Row, cell};

/// How far back deliveries are counted.
const MINUTE: Duration = Duration::from_mins(1);

/// So many happenings are kept for a screen.
const MAX_HAPPENINGS: usize = 200;

/// Rows that happenings get at least.
const HAPPENING_ROWS: usize = 5;

/// What the horde told.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// What happened since the last time, and how things are.
    Pulse(Pulse),
    /// How things are: from a horde that does not tell what happens.
    Load(Performance),
    /// The models that are offered.
    Models(Vec<ModelStatus>),
    /// It cannot be reached.
    Trouble(String),
}

impl News {
    /// The same for programs; nothing of what only makes a screen prettier.
    pub(crate) fn json(&self) -> Option<Value> {
        match self {
            Self::Pulse(pulse) => Some(json!(pulse)),
            Self::Load(load) => Some(json!({ "queued": queued(load), "workers": workers(load) })),
            Self::Trouble(reason) => Some(json!({ "error": reason })),
            Self::Models(_) => None,
        }
    }

    /// The same as a line for people.
    pub(crate) fn line(&self) -> Option<String> {
        match self {
            Self::Pulse(pulse) => Some(format!(
                "waiting: {}; running: {}; workers: {}; finished since: {}",
                words(pulse.queued),
                words(pulse.running),
                words(pulse.workers),
                words(pulse.finished)
            )),
            Self::Load(load) => Some(format!(
                "waiting: {}; workers: {}",
                words(queued(load)),
                words(workers(load))
            )),
            Self::Trouble(reason) => Some(format!("no news: {reason}")),
            Self::Models(_) => None,
        }
    }
}

fn queued(load: &Performance) -> ByKind {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count that the protocol sends as a number with a point"
    )]
    let alchemy = load.queued_forms as u64;
    ByKind {
        image: load.queued_requests,
        text: load.queued_text_requests,
        alchemy,
    }
}

fn workers(load: &Performance) -> ByKind {
    ByKind {
        image: load.worker_count,
        text: load.text_worker_count,
        alchemy: load.interrogator_count,
    }
}

fn words(counts: ByKind) -> String {
    format!(
        "{} pictures, {} texts, {} forms",
        counts.image, counts.text, counts.alchemy
    )
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Board {
    queued: ByKind,
    running: Option<ByKind>,
    workers: ByKind,
    /// When it was delivered, and how much.
    finished: VecDeque<(Instant, ByKind)>,
    happenings: VecDeque<Happening>,
    models: Vec<ModelStatus>,
    trouble: Option<String>,
}

impl Board {
    /// Takes what the horde told.
    pub(crate) fn take(&mut self, news: News, now: Instant) {
        match news {
            News::Pulse(pulse) => {
                self.trouble = None;
                (self.queued, self.workers) = (pulse.queued, pulse.workers);
                self.running = Some(pulse.running);
                self.finished.push_back((now, pulse.finished));
                self.happenings.extend(pulse.happenings);
                let too_many = self.happenings.len().saturating_sub(MAX_HAPPENINGS);
                self.happenings.drain(..too_many);
            }
            News::Load(load) => {
                self.trouble = None;
                (self.queued, self.workers) = (queued(&load), workers(&load));
                self.running = None;
            }
            News::Models(models) => self.models = models,
            News::Trouble(reason) => self.trouble = Some(reason),
        }
        let is_old = |at: Instant| now.saturating_duration_since(at) > MINUTE;
        while self.finished.front().is_some_and(|(at, _)| is_old(*at)) {
            self.finished.pop_front();
        }
    }

    fn last_minute(&self, now: Instant) -> ByKind {
        let recent = self.finished.iter();
        let recent = recent.filter(|(at, _)| now.saturating_duration_since(*at) <= MINUTE);
        recent.fold(ByKind::default(), |sum, (_, counts)| ByKind {
            image: sum.image + counts.image,
            text: sum.text + counts.text,
            alchemy: sum.alchemy + counts.alchemy,
        })
    }

    /// The rows of a screen so many columns wide and rows high.
    pub(crate) fn draw(
        &self,
        title: &str,
        (columns, rows): (usize, usize),
        now: Instant,
    ) -> Vec<Row> {
        let mut page = Page::new(columns);
        page.put(Look::Head, &cell(title, columns));
        if let Some(trouble) = &self.trouble {
            page.put(Look::Alarm, &format!("no news: {trouble}"));
        }
        page.put(Look::Title, &line("", &["pictures", "texts", "forms"]));
        let counted = |name: &str, counts: ByKind| {
            let counts = [counts.image, counts.text, counts.alchemy].map(|it| it.to_string());
            line(name, &counts.each_ref().map(String::as_str))
        };
        page.put(Look::Plain, &counted("waiting", self.queued));
        if let Some(running) = self.running {
            page.put(Look::Plain, &counted("running", running));
            page.put(Look::Plain, &counted("last minute", self.last_minute(now)));
        }
        page.put(Look::Plain, &counted("workers", self.workers));
        let free = rows.saturating_sub(page.rows.len() + HAPPENING_ROWS + 3);
        self.models(&mut page, free);
        self.happenings(&mut page, rows);
        page.finish(rows, "q quit")
    }

    fn models(&self, page: &mut Page, most: usize) {
        if self.models.is_empty() {
            page.put(Look::Title, "MODELS   none: no worker draws");
            return;
        }
        let heads = ["workers", "jobs", "wait"];
        let (head, rest) = (format!("MODELS   {}", self.models.len()), &heads[..]);
        page.put(Look::Title, &line(&head, rest));
        for model in self.models.iter().take(most) {
            let numbers = [
                model.count.to_string(),
                model.jobs.to_string(),
                format!("{} s", model.eta),
            ];
            let numbers = numbers.each_ref().map(String::as_str);
            page.put(Look::Plain, &line(&model.name, &numbers));
        }
    }

    /// The newest, as far as there is room.
    fn happenings(&self, page: &mut Page, rows: usize) {
        if self.running.is_none() {
            page.put(Look::Faint, "this horde does not tell what happens");
            return;
        }
        page.put(Look::Title, "JUST NOW");
        let free = rows.saturating_sub(page.rows.len() + 1);
        for happening in self.happenings.iter().rev().take(free) {
            let look = match happening.what {
                What::Begun | What::Returned => Look::Faint,
                What::Finished => Look::Plain,
                What::Faulted => Look::Alarm,
            };
            let what = match happening.what {
                What::Begun => "begun",
                What::Finished => "finished",
                What::Faulted => "faulted",
                What::Returned => "returned",
            };
            let model = happening.model.as_deref().unwrap_or(&happening.kind);
            let text = format!("{} {} {}", cell(what, 9), cell(model, 30), happening.worker);
            page.put(look, &text);
        }
    }
}

/// A name and numbers in columns.
fn line(name: &str, numbers: &[&str]) -> String {
    let mut text = cell(name, 40);
    for number in numbers {
        // Writing to a text cannot fail.
        let _ = write!(text, "{number:>10}");
    }
    text
}

#[cfg(test)]
mod tests;
