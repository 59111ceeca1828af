//! The horde as pages: in numbers, and at work. They show what the API tells anybody.
//!
//! # Source
//! `platform.md` § 5.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use ordu_api::history::Bucket;
use ordu_api::status::{ModelStatus, Performance};
use ordu_api::user::ListedUser;
use ordu_api::worker::{WorkKind, WorkerView};
use ordu_store::Step;
use serde::Deserialize;

use super::page::render;
use super::{user_list, worker};
use crate::app::App;
use crate::error::ApiResult;
use crate::web::Frame;
use crate::web::charts::{Chart, Point, Shape, when};
use crate::web::horde::{
    AccountLine, Choice, Earner, HordePage, LivePage, LoadGroup, Market, ModelLine, Moment, Number,
    WorkerLine,
};

/// So many rows a table has at most: the page stays light, the API has the rest.
const MAX_ROWS: usize = 100;

/// So many lead.
const LEADERS: usize = 10;

/// So many models of a worker are named.
const NAMED_MODELS: usize = 3;

/// Which charts to draw. What is not understood is not asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    kind: Option<String>,
    step: Option<String>,
}

impl Wanted {
    fn kind(&self) -> WorkKind {
        let named = |kind: &WorkKind| Some(kind.plain_name()) == self.kind.as_deref();
        WorkKind::ALL
            .into_iter()
            .find(named)
            .unwrap_or(WorkKind::Image)
    }

    fn step(&self) -> Step {
        match self.step.as_deref() {
            Some("day") => Step::Day,
            _ => Step::Hour,
        }
    }
}

/// `GET /horde`
pub(crate) async fn horde(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Response> {
    let (kind, step) = (wanted.kind(), wanted.step());
    let now = app.clock.now();
    let shown = match step {
        Step::Hour => 48,
        Step::Day => 90,
    };
    let since = ordu_core::Timestamp(now.0.saturating_sub(step.span().0 * (shown - 1)));
    let buckets = app.history(kind, step, since).await?;
    let (performance, image, text) = {
        let mut live = app.live();
        (
            live.horde.performance(now),
            live.horde.models(WorkKind::Image, now),
            live.horde.models(WorkKind::Text, now),
        )
    };
    let workers = worker::public(&app).await?;
    let Json(users) = user_list::list(State(Arc::clone(&app)), Query::default()).await?;
    let page = HordePage {
        frame: Frame::new(&app.config.title),
        loads: loads(&performance),
        choices: choices(kind, step),
        things: things(kind),
        unit: unit(kind),
        charts: charts(kind, step, &buckets),
        moments: buckets
            .iter()
            .rev()
            .map(|bucket| moment(step, bucket))
            .collect(),
        markets: vec![market(WorkKind::Image, image), market(WorkKind::Text, text)],
        online: workers.len(),
        earners: workers.iter().take(LEADERS).map(earner).collect(),
        workers: workers.iter().take(MAX_ROWS).map(worker_line).collect(),
        accounts: users.iter().take(LEADERS).map(account_line).collect(),
    };
    render(StatusCode::OK, &page)
}

/// `GET /live`
pub(crate) async fn live(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let page = {
        let now = app.clock.now();
        let live = app.live();
        let traffics = WorkKind::ALL.map(|kind| live.horde.traffic(kind, now));
        LivePage {
            frame: Frame::new(&app.config.title),
            waiting: traffics.iter().map(|traffic| traffic.waiting).sum(),
            running: traffics.iter().map(|traffic| traffic.running).sum(),
            workers: traffics.iter().map(|traffic| traffic.workers).sum(),
        }
    };
    render(StatusCode::OK, &page)
}

fn loads(now: &Performance) -> Vec<LoadGroup> {
    let group = |title, numbers: &[(&'static str, &'static str, String)]| LoadGroup {
        title,
        numbers: numbers
            .iter()
            .map(|(member, label, value)| Number {
                member,
                label,
                value: value.clone(),
            })
            .collect(),
    };
    let image = [
        ("queued_requests", "to make", grouped(now.queued_requests)),
        (
            "queued_megapixelsteps",
            "megapixelsteps in them",
            amount(now.queued_megapixelsteps),
        ),
        (
            "past_minute_megapixelsteps",
            "megapixelsteps in the past minute",
            amount(now.past_minute_megapixelsteps),
        ),
        ("worker_count", "workers", grouped(now.worker_count)),
        ("thread_count", "threads", grouped(now.thread_count)),
    ];
    let text = [
        (
            "queued_text_requests",
            "to write",
            grouped(now.queued_text_requests),
        ),
        ("queued_tokens", "tokens in them", amount(now.queued_tokens)),
        (
            "past_minute_tokens",
            "tokens in the past minute",
            amount(now.past_minute_tokens),
        ),
        (
            "text_worker_count",
            "workers",
            grouped(now.text_worker_count),
        ),
        (
            "text_thread_count",
            "threads",
            grouped(now.text_thread_count),
        ),
    ];
    let alchemy = [
        ("queued_forms", "forms to answer", amount(now.queued_forms)),
        (
            "interrogator_count",
            "workers",
            grouped(now.interrogator_count),
        ),
        (
            "interrogator_thread_count",
            "threads",
            grouped(now.interrogator_thread_count),
        ),
    ];
    vec![
        group("Pictures", &image),
        group("Texts", &text),
        group("Alchemy", &alchemy),
    ]
}

const fn things(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Image => "Pictures",
        WorkKind::Text => "Texts",
        WorkKind::Interrogation => "Forms",
    }
}

const fn unit(kind: WorkKind) -> Option<&'static str> {
    match kind {
        WorkKind::Image => Some("Megapixelsteps"),
        WorkKind::Text => Some("Tokens"),
        WorkKind::Interrogation => None,
    }
}

const fn step_name(step: Step) -> &'static str {
    match step {
        Step::Hour => "hour",
        Step::Day => "day",
    }
}

/// Links to the other charts: kinds first, then steps.
fn choices(kind: WorkKind, step: Step) -> Vec<Choice> {
    let link = |kind: WorkKind, step| {
        format!(
            "/horde?kind={}&step={}#over-time",
            kind.plain_name(),
            step_name(step)
        )
    };
    let kinds = WorkKind::ALL.map(|other| Choice {
        link: link(other, step),
        label: things(other),
        chosen: other == kind,
    });
    let steps = [(Step::Hour, "By the hour"), (Step::Day, "By the day")];
    let steps = steps.map(|(other, label)| Choice {
        link: link(kind, other),
        label,
        chosen: other == step,
    });
    kinds.into_iter().chain(steps).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn charts(kind: WorkKind, step: Step, buckets: &[Bucket]) -> Vec<Chart> {
    let points = |value: fn(&Bucket) -> Option<f64>| -> Vec<Point> {
        let points = buckets.iter();
        points.map(|bucket| (bucket.start, value(bucket))).collect()
    };
    let finished = points(|bucket| Some(bucket.finished as f64));
    let work = points(|bucket| bucket.megapixelsteps.or(bucket.tokens.map(|t| t as f64)));
    let mut charts = vec![Chart::new(
        ("finished", "Delivered"),
        Shape::Bars,
        step,
        &finished,
    )];
    if let Some(unit) = unit(kind) {
        charts.push(Chart::new(("work", unit), Shape::Bars, step, &work));
    }
    for (name, value) in [
        (
            ("queued", "Waiting for a worker"),
            points(|bucket| bucket.queued),
        ),
        (
            ("workers", "Workers online"),
            points(|bucket| bucket.workers),
        ),
    ] {
        charts.push(Chart::new(name, Shape::Line, step, &value));
    }
    charts
}

fn moment(step: Step, bucket: &Bucket) -> Moment {
    let known = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), amount);
    let tokens = bucket.tokens.map(grouped);
    Moment {
        when: when(step, bucket.start),
        finished: grouped(bucket.finished),
        work: tokens.unwrap_or_else(|| known(bucket.megapixelsteps)),
        queued: known(bucket.queued),
        workers: known(bucket.workers),
    }
}

/// The models of a kind, those that most workers serve first.
fn market(kind: WorkKind, mut models: Vec<ModelStatus>) -> Market {
    models.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    let is_image = kind == WorkKind::Image;
    let line = |model: &ModelStatus| ModelLine {
        name: model.name.clone(),
        threads: model.count,
        jobs: amount(model.jobs),
        wait: wait(model),
        speed: if model.performance > 0.0 {
            amount(if is_image {
                model.performance / 1e6
            } else {
                model.performance
            })
        } else {
            "–".to_owned()
        },
    };
    Market {
        kind: kind.name(),
        title: if is_image {
            "Models for pictures"
        } else {
            "Models for texts"
        },
        speed_unit: if is_image {
            "Megapixelsteps a second"
        } else {
            "Tokens a second"
        },
        more: models.len().saturating_sub(MAX_ROWS),
        models: models.iter().take(MAX_ROWS).map(line).collect(),
    }
}

/// How long who asks now waits.
fn wait(model: &ModelStatus) -> String {
    match (model.count, model.eta) {
        (0, _) => "nobody serves it".to_owned(),
        (_, 0) => "none".to_owned(),
        (_, seconds @ ..=120) => format!("{seconds} s"),
        (_, 10_000) => "unknown".to_owned(),
        (_, seconds) => format!("{} min", seconds / 60),
    }
}

const fn role(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Image => "pictures",
        WorkKind::Text => "texts",
        WorkKind::Interrogation => "alchemy",
    }
}

fn worker_line(worker: &WorkerView) -> WorkerLine {
    let words = [
        (worker.maintenance_mode, "in maintenance"),
        (worker.trusted, "trusted"),
        (!worker.trusted, "new"),
    ];
    let standing = words
        .iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, word)| *word);
    WorkerLine {
        name: worker.name.clone(),
        kind: role(worker.kind),
        speed: worker.performance.clone(),
        offers: offers(worker),
        standing: standing.collect::<Vec<_>>().join(", "),
        done: grouped(worker.requests_fulfilled),
    }
}

fn offers(worker: &WorkerView) -> String {
    let empty = Vec::new();
    let names = worker
        .models
        .as_ref()
        .or(worker.forms.as_ref())
        .unwrap_or(&empty);
    let more = names.len().saturating_sub(NAMED_MODELS);
    let named: Vec<&str> = names
        .iter()
        .take(NAMED_MODELS)
        .map(String::as_str)
        .collect();
    let text = named.join(", ");
    if more > 0 {
        format!("{text} and {more} more")
    } else {
        text
    }
}

fn earner(worker: &WorkerView) -> Earner {
    Earner {
        name: worker.name.clone(),
        kind: role(worker.kind),
        kudos: amount(worker.kudos_rewards),
        done: grouped(worker.requests_fulfilled),
    }
}

fn account_line(ListedUser(user): &ListedUser) -> AccountLine {
    let given = &user.records.contribution;
    AccountLine {
        name: user.username.clone(),
        kudos: amount(user.kudos),
        megapixelsteps: amount(given.megapixelsteps),
        tokens: grouped(given.tokens.unsigned_abs()),
        workers: user.worker_count,
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An amount: to a tenth while it is small, whole when it is large.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and the sign is written before"
)]
fn amount(number: f64) -> String {
    let sign = if number < 0.0 { "−" } else { "" };
    let size = number.abs();
    if size < 100.0 {
        let text = format!("{size:.1}");
        return format!("{sign}{}", text.strip_suffix(".0").unwrap_or(&text));
    }
    format!("{sign}{}", grouped(size.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::{amount, grouped};

    #[test]
    fn numbers_are_written_for_people() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        let cases = [(0.0, "0"), (1.25, "1.2"), (99.0, "99"), (-1234.5, "−1,235")];
        for (number, text) in cases {
            assert_eq!(amount(number), text);
        }
    }
}
