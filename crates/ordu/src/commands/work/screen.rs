//! What whoever runs a worker sees: rows of text made of its status. Pure.

use ordu_api::worker::WorkKind;
use ordu_worker::{JobStatus, Phase, Stage, Status};
use tokio::time::Instant;

use super::memory::Memory;
use crate::commands::page::{Look, Page, Row, cell, span};

/// Everything that is shown.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) status: &'a Status,
    pub(crate) memory: Memory,
    /// Whose worker this is, and where it works.
    pub(crate) title: &'a str,
    pub(crate) now: Instant,
    /// The answer to the last key.
    pub(crate) notice: Option<&'a str>,
    /// The newest last.
    pub(crate) log: &'a [String],
}

/// Rows that the log gets at least.
const LOG_ROWS: usize = 3;

/// The rows of a screen so many columns wide and rows high.
pub(crate) fn draw(view: &View<'_>, columns: usize, rows: usize) -> Vec<Row> {
    let mut page = Page::new(columns);
    head(&mut page, view);
    engines(&mut page, view);
    let rest = troubles(view);
    // Above and below the jobs: titles, troubles, log, keys.
    let around = page.rows.len() + rest.len() + LOG_ROWS + 4;
    jobs(&mut page, view, rows.saturating_sub(around).max(1));
    for (look, text) in rest {
        page.put(look, &text);
    }
    let free = rows.saturating_sub(page.rows.len() + 2);
    page.put(Look::Title, "LOG");
    let first = view.log.len().saturating_sub(free);
    for line in view.log.iter().skip(first) {
        page.put(Look::Plain, line);
    }
    let keys = "q finish and quit   m maintenance on/off   p pause on/off";
    page.finish(rows, view.notice.unwrap_or(keys))
}

fn head(page: &mut Page, view: &View<'_>) {
    let Status {
        done,
        faulted,
        lost,
        earned,
        ..
    } = view.status;
    let up = span(earned.age(view.now));
    let title = cell(view.title, page.columns.saturating_sub(up.len() + 4));
    page.put(Look::Head, &format!("{title} up {up}"));
    let look = match view.status.phase {
        Phase::Maintenance(_) | Phase::NoEngine(_) | Phase::Paused(_) => Look::Alarm,
        _ => Look::Plain,
    };
    page.put(look, &phase(&view.status.phase));
    let account = view.status.account.as_ref();
    let account = account.map(|account| format!("; {} has {:.0}", account.alias, account.kudos));
    page.put(
        Look::Plain,
        &format!(
            "kudos    {:.0} in all, {:.0} an hour{}",
            earned.total(),
            earned.per_hour(view.now),
            account.unwrap_or_default()
        ),
    );
    page.put(
        Look::Plain,
        &format!("jobs     {done} done, {faulted} faulted, {lost} lost"),
    );
    let pops = counts(view.status.pops.iter().map(|(name, count)| (*name, *count)));
    page.put(Look::Plain, &format!("pops     {pops}"));
    let engine = match view.memory.engine {
        Some(bytes) => format!(", engine {}", size(bytes)),
        None => String::new(),
    };
    let own = view.memory.worker.map_or("unknown".to_owned(), size);
    page.put(Look::Plain, &format!("memory   {own}{engine}"));
}

/// What the worker does, in words.
pub(crate) fn phase(phase: &Phase) -> String {
    match phase {
        Phase::Starting => "starting".to_owned(),
        Phase::Serving => "serving".to_owned(),
        Phase::Maintenance(reason) => format!("maintenance: {reason}"),
        Phase::Paused(wait) => format!("too many jobs failed: no pops for {}", span(*wait)),
        Phase::OnHold => "paused: `p` goes on".to_owned(),
        Phase::NothingToOffer => "nothing to offer at this moment".to_owned(),
        Phase::NoEngine(reason) => format!("no engine: {reason}"),
        Phase::Draining => "finishing what was popped".to_owned(),
        Phase::Stopped => "stopped".to_owned(),
    }
}

/// What does the work, in each role.
fn engines(page: &mut Page, view: &View<'_>) {
    page.put(Look::Title, "ENGINES");
    for (kind, engine) in &view.status.engines {
        let offered = engine.offered.join(", ");
        let state = if engine.is_up {
            format!("up, offers {offered}")
        } else {
            "down".to_owned()
        };
        let backlog = engine.backlog.filter(|backlog| !backlog.is_zero());
        let waits = backlog.map(|backlog| format!("; {} of work waits", span(backlog)));
        let waits = waits.unwrap_or_default();
        let text = format!("{} {state}{waits}", cell(role(*kind), 8));
        let look = if engine.is_up {
            Look::Plain
        } else {
            Look::Alarm
        };
        page.put(look, &text);
        for held in &engine.held {
            let bytes = match held.bytes {
                0 => String::new(),
                bytes => format!(", {}", size(bytes)),
            };
            page.put(
                Look::Faint,
                &format!("         in memory: {}{bytes}", held.model),
            );
        }
        for (name, until) in &engine.quarantined {
            let left = span(until.saturating_duration_since(view.now));
            let text = format!("         left out for {left}: {name}");
            page.put(Look::Alarm, &text);
        }
    }
}

fn role(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Image => "pictures",
        WorkKind::Text => "texts",
        WorkKind::Interrogation => "forms",
    }
}

fn jobs(page: &mut Page, view: &View<'_>, most: usize) {
    let jobs = &view.status.jobs;
    page.put(Look::Title, &format!("JOBS     {}", jobs.len()));
    for job in jobs.iter().take(most) {
        page.put(Look::Plain, &job_row(job, view.now));
    }
    if jobs.len() > most {
        page.put(Look::Faint, &format!("         {} more", jobs.len() - most));
    }
}

fn job_row(job: &JobStatus, now: Instant) -> String {
    let id = job.id.to_string();
    let id = id.get(..8).unwrap_or_default();
    let state = match job.stage {
        Stage::Sampling { step, of } if of > 0 => format!("{} {step}/{of}", job.stage.name()),
        stage => stage.name().to_owned(),
    };
    let parts = match job.parts {
        1 => String::new(),
        parts => format!(" ×{parts}"),
    };
    let age = span(now.saturating_duration_since(job.popped));
    let model = cell(&format!("{}{parts}", job.model), 30);
    format!("{id} {model} {} {age}", cell(&state, 18))
}

/// What keeps the worker from working, if there is any.
fn troubles(view: &View<'_>) -> Vec<(Look, String)> {
    let status = view.status;
    let mut found = Vec::new();
    if !status.faults.is_empty() {
        let faults = status.faults.iter().map(|(cause, count)| (*cause, *count));
        found.push((Look::Plain, format!("faults   {}", counts(faults))));
    }
    if let Some(error) = &status.last_error {
        found.push((Look::Alarm, format!("trouble  {error}")));
    }
    if !status.skipped.is_empty() {
        let skipped = status.skipped.iter();
        let skipped = skipped.map(|(reason, count)| (reason.as_str(), *count));
        let text = format!("skipped  {}", counts(skipped));
        found.push((Look::Faint, text));
    }
    if let Some(news) = status.messages.last() {
        found.push((Look::Plain, format!("news     {}", news.message)));
    }
    found
}

fn counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let all: Vec<_> = counts
        .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
        .collect();
    if all.is_empty() {
        "none yet".to_owned()
    } else {
        all.join(", ")
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes >> 20 {
        megabytes @ 0..10_240 => format!("{megabytes} MiB"),
        megabytes => format!("{} GiB", megabytes >> 10),
    }
}

#[cfg(test)]
mod tests;
