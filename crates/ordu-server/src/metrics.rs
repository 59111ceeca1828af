//! Numbers for Prometheus: how long answers took and how often they asked the database, what the store
//! did, how much waits.
//!
//! No prompt, name or address is in them; the only labels are routes, methods, statuses and kinds.
//!
//! # Source
//! `platform.md` § 7; Prometheus' text exposition format 0.0.4.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use ordu_api::worker::WorkKind;

use crate::app::App;

/// The media type of the answer.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper ends of the slices of time that answers are counted in, in microseconds. Fine where most
/// answers are, so that a median can be read from them.
const SLICES: &[u64] = &[
    50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000,
    15_000, 20_000, 30_000, 40_000, 50_000, 60_000, 75_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The histogram of answers.
const SECONDS: &str = "ordu_http_answer_seconds";
/// What they asked of the database.
const TRIPS: &str = "ordu_http_round_trips_total";

/// What is written for a path that does not exist.
const NO_ROUTE: &str = "none";

/// The methods that the router knows; all others are `other`.
const METHODS: &[Method] = &[
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// Position in [`METHODS`], or behind them.
    method: usize,
    status: u16,
    micros: u64,
    trips: u64,
}

impl Answered {
    /// `trips` is how often it asked the database.
    pub(crate) fn new(method: &Method, status: StatusCode, took: Duration, trips: u64) -> Self {
        let known = METHODS.iter().position(|known| known == method);
        Self {
            method: known.unwrap_or(METHODS.len()),
            status: status.as_u16(),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            trips,
        }
    }
}

/// All answers of one method with one status on one route.
#[derive(Debug, Clone, Default)]
struct Line {
    /// By slice; those that took longer than all are in `count` only.
    slices: [u64; SLICES.len()],
    count: u64,
    micros: u64,
    trips: u64,
}

impl Line {
    fn add(&mut self, answered: Answered) {
        let slice = SLICES.partition_point(|end| *end < answered.micros);
        if let Some(slice) = self.slices.get_mut(slice) {
            *slice += 1;
        }
        self.count += 1;
        self.micros = self.micros.saturating_add(answered.micros);
        self.trips += answered.trips;
    }
}

/// By method and status.
type Lines = BTreeMap<(usize, u16), Line>;

/// What was counted of requests since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Made once, so that counting only waits for others on the same route.
    routes: HashMap<String, Mutex<Lines>>,
    elsewhere: Mutex<Lines>,
}

impl Metrics {
    /// Nothing yet, of these routes.
    pub(crate) fn new(routes: Vec<String>) -> Self {
        let routes = routes.into_iter().map(|route| (route, Mutex::default()));
        Self {
            routes: routes.collect(),
            elsewhere: Mutex::default(),
        }
    }

    /// Counts one answer.
    pub(crate) fn note(&self, route: Option<&str>, answered: Answered) {
        let lines = route.and_then(|route| self.routes.get(route));
        let lines = lines.unwrap_or(&self.elsewhere);
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry((answered.method, answered.status)).or_default();
        line.add(answered);
    }

    /// Everything so far, by route.
    fn read(&self) -> BTreeMap<&str, Lines> {
        let routes = self.routes.iter();
        let routes = routes.map(|(route, lines)| (route.as_str(), lines));
        let all = routes.chain([(NO_ROUTE, &self.elsewhere)]);
        all.map(|(route, lines)| {
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            (route, lines.clone())
        })
        .collect()
    }
}

/// A text in Prometheus' format.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, about: &str) {
        // Writing into a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {about}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }

    /// A number that only grows.
    fn sum(&mut self, name: &str, about: &str, value: u64) {
        self.head(name, "counter", about);
        self.sample(name, "", value);
    }

    fn answers(&mut self, routes: &BTreeMap<&str, Lines>) {
        self.head(SECONDS, "histogram", "How long answers took, by route.");
        for (labels, line) in labelled(routes) {
            let mut below = 0;
            for (end, count) in SLICES.iter().zip(line.slices) {
                below += count;
                let end = seconds(*end);
                let labels = format!("{labels},le=\"{end}\"");
                self.sample(&format!("{SECONDS}_bucket"), &labels, below);
            }
            let all = format!("{labels},le=\"+Inf\"");
            self.sample(&format!("{SECONDS}_bucket"), &all, line.count);
            self.sample(&format!("{SECONDS}_sum"), &labels, seconds(line.micros));
            self.sample(&format!("{SECONDS}_count"), &labels, line.count);
        }
        let about = "Round trips to the database that answers waited for, by route.";
        self.head(TRIPS, "counter", about);
        for (labels, line) in labelled(routes) {
            self.sample(TRIPS, &labels, line.trips);
        }
    }
}

fn labelled<'a>(
    routes: &'a BTreeMap<&str, Lines>,
) -> impl Iterator<Item = (String, &'a Line)> + use<'a> {
    routes.iter().flat_map(|(route, lines)| {
        lines.iter().map(move |((method, status), line)| {
            let method = METHODS.get(*method).map_or("other", Method::as_str);
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            (labels, line)
        })
    })
}

/// Microseconds as exact seconds.
fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{whole}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl App {
    /// All numbers, as Prometheus reads them.
    pub(crate) fn show_metrics(&self) -> String {
        let mut page = Page::default();
        page.answers(&self.metrics.read());
        page.head("ordu_http_active", "gauge", "Requests in flight.");
        page.sample("ordu_http_active", "", self.active());
        self.show_store(&mut page);
        self.show_nodes(&mut page);
        self.show_traffic(&mut page);
        self.show_horde(&mut page);
        page.0
    }

    fn show_store(&self, page: &mut Page) {
        let counters = self.store.counters();
        page.sum(
            "ordu_store_round_trips_total",
            "Statements sent to the database, for whatever purpose.",
            counters.round_trips,
        );
        page.sum(
            "ordu_store_commits_total",
            "Commits that writes shared.",
            counters.commits,
        );
        page.sum(
            "ordu_store_writes_total",
            "Writes that shared commits.",
            counters.grouped_writes,
        );
        let largest = "ordu_store_largest_group_writes";
        page.head(largest, "gauge", "The most writes that shared a commit.");
        page.sample(largest, "", counters.largest_group);
        page.sum(
            "ordu_store_split_batches_total",
            "Batches that failed and were repeated write by write.",
            counters.split_batches,
        );
        page.sum(
            "ordu_store_unavailable_writes_total",
            "Writes that failed because the database was away or full.",
            counters.unavailable,
        );
        page.sum(
            "ordu_store_behind_rows_total",
            "Rows that were written behind.",
            counters.written_behind,
        );
    }

    /// Of a server alone nothing.
    fn show_nodes(&self, page: &mut Page) {
        let Some(nodes) = self.nodes.status() else {
            return;
        };
        page.sum(
            "ordu_claims_won_total",
            "Claims of jobs that this node won.",
            nodes.claims_won,
        );
        page.sum(
            "ordu_claims_lost_total",
            "Claims of jobs that another node was faster with.",
            nodes.claims_lost,
        );
        let head_start = "ordu_head_start_milliseconds";
        let help = "How long this node leaves the requests of others to them.";
        page.head(head_start, "gauge", help);
        page.sample(head_start, "", nodes.head_start_ms);
    }

    fn show_traffic(&self, page: &mut Page) {
        let traffic = self.traffic();
        page.sum(
            "ordu_limits_refused_total",
            "Requests of who asked too often.",
            traffic.limited,
        );
        page.sum(
            "ordu_limits_forgotten_total",
            "Clients whose use of a limit was forgotten too early.",
            traffic.limits_forgotten,
        );
        page.sum(
            "ordu_keys_refused_total",
            "Keys turned away after too many wrong ones.",
            traffic.keys_refused,
        );
        page.sum(
            "ordu_webhooks_delivered_total",
            "Webhook messages that arrived.",
            traffic.webhooks_delivered,
        );
        page.sum(
            "ordu_webhooks_failed_total",
            "Attempts to deliver a webhook message that failed.",
            traffic.webhooks_failed,
        );
        page.sum(
            "ordu_webhooks_dropped_total",
            "Webhook messages that were given up.",
            traffic.webhooks_dropped,
        );
    }

    fn show_horde(&self, page: &mut Page) {
        let now = self.clock.now();
        let traffic = WorkKind::ALL.map(|kind| {
            let traffic = self.live().horde.traffic(kind, now);
            (format!("kind=\"{}\"", kind.name()), traffic)
        });
        let name = "ordu_results_waiting";
        page.head(name, "gauge", "Results that no worker has, by kind.");
        for (kind, traffic) in &traffic {
            page.sample(name, kind, traffic.waiting);
        }
        let name = "ordu_jobs_running";
        page.head(name, "gauge", "Results that a worker has, by kind.");
        for (kind, traffic) in &traffic {
            page.sample(name, kind, traffic.running);
        }
        let name = "ordu_workers_online";
        page.head(name, "gauge", "Workers that are online, by kind.");
        for (kind, traffic) in &traffic {
            page.sample(name, kind, traffic.workers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_exactly() {
        assert_eq!(seconds(50), "0.00005");
        assert_eq!(seconds(1_000_000), "1");
        assert_eq!(seconds(2_500_000), "2.5");
        assert_eq!(seconds(0), "0");
    }

    #[test]
    fn answers_are_counted_in_the_slice_that_they_fit() {
        let metrics = Metrics::new(vec!["/a".to_owned()]);
        let note = |route, micros, trips| {
            let took = Duration::from_micros(micros);
            let answered = Answered::new(&Method::GET, StatusCode::OK, took, trips);
            metrics.note(route, answered);
        };
        note(Some("/a"), 50, 1);
        note(Some("/a"), 51, 2);
        note(Some("/a"), 99_000_000, 0);
        note(None, 1, 0);
        note(Some("/never-heard-of"), 1, 0);
        let mut page = Page::default();
        page.answers(&metrics.read());
        let has = |line: &str| assert!(page.0.lines().any(|found| found == line), "{line}");
        let bucket = "ordu_http_answer_seconds_bucket{method=\"GET\",route=\"/a\",status=\"200\"";
        has(&format!("{bucket},le=\"0.00005\"}} 1"));
        has(&format!("{bucket},le=\"0.000075\"}} 2"));
        has(&format!("{bucket},le=\"60\"}} 2"));
        has(&format!("{bucket},le=\"+Inf\"}} 3"));
        let of_a = "{method=\"GET\",route=\"/a\",status=\"200\"}";
        has(&format!("ordu_http_answer_seconds_sum{of_a} 99.000101"));
        has(&format!("ordu_http_round_trips_total{of_a} 3"));
        let elsewhere = "{method=\"GET\",route=\"none\",status=\"200\"}";
        has(&format!("ordu_http_answer_seconds_count{elsewhere} 2"));
    }
}
