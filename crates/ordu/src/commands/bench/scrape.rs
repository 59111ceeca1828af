//! A server's own numbers, as `/metrics` tells them.

use std::collections::BTreeMap;

use ordu_api::ApiKey;

use super::report::{Inside, float};
use super::wire::{Call, Wire};

const BUCKET: &str = "ordu_http_answer_seconds_bucket";
const SUM: &str = "ordu_http_answer_seconds_sum";
const COUNT: &str = "ordu_http_answer_seconds_count";
const TRIPS: &str = "ordu_http_round_trips_total";

const OURS: &str = "GET /metrics";

/// What one route answered.
#[derive(Debug, Clone, Default, PartialEq)]
struct Route {
    /// Answers that took so many microseconds at most.
    below: BTreeMap<u64, f64>,
    seconds: f64,
    count: f64,
    trips: f64,
}

/// Everything at one moment, or between two.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scrape {
    /// By method and route.
    routes: BTreeMap<String, Route>,
    plain: BTreeMap<String, f64>,
}

impl Scrape {
    /// Asks; nothing if the server shows nothing to us.
    pub(crate) async fn ask(wire: &mut Wire) -> Option<Self> {
        let key = ApiKey::anonymous();
        let answer = wire.call(&Call::get("/metrics", &key)).await;
        if answer.error.is_some() {
            return None;
        }
        Some(Self::read(std::str::from_utf8(&answer.body).ok()?))
    }

    fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            match series.split_once('{') {
                Some((name, labels)) => scrape.add(name, labels, value),
                None => {
                    scrape.plain.insert(series.to_owned(), value);
                }
            }
        }
        scrape
    }

    /// All statuses of a route count together.
    fn add(&mut self, name: &str, labels: &str, value: f64) {
        let (Some(method), Some(path)) = (label(labels, "method"), label(labels, "route")) else {
            return;
        };
        let route = self.routes.entry(format!("{method} {path}")).or_default();
        match name {
            BUCKET => {
                if let Some(end) = label(labels, "le").and_then(micros) {
                    *route.below.entry(end).or_default() += value;
                }
            }
            SUM => route.seconds += value,
            COUNT => route.count += value,
            TRIPS => route.trips += value,
            _ => {}
        }
    }

    /// Both together, as of several nodes.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for (name, more) in other.routes {
            let route = self.routes.entry(name).or_default();
            for (end, count) in more.below {
                *route.below.entry(end).or_default() += count;
            }
            route.seconds += more.seconds;
            route.count += more.count;
            route.trips += more.trips;
        }
        for (name, value) in other.plain {
            *self.plain.entry(name).or_default() += value;
        }
        self
    }

    /// What happened since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let nothing = Route::default();
        let routes = self.routes.iter().map(|(name, route)| {
            let earlier = before.routes.get(name).unwrap_or(&nothing);
            let below = route.below.iter().map(|(end, count)| {
                (
                    *end,
                    count - earlier.below.get(end).copied().unwrap_or_default(),
                )
            });
            let since = Route {
                below: below.collect(),
                seconds: route.seconds - earlier.seconds,
                count: route.count - earlier.count,
                trips: route.trips - earlier.trips,
            };
            (name.clone(), since)
        });
        let plain = self.plain.iter().map(|(name, value)| {
            let earlier = before.plain.get(name).copied().unwrap_or_default();
            (name.clone(), value - earlier)
        });
        Self {
            routes: routes.collect(),
            plain: plain.collect(),
        }
    }

    /// How answers went inside the server, by route; our own looks are not among them.
    pub(crate) fn inside(&self) -> BTreeMap<String, Inside> {
        let routes = self.routes.iter();
        let busy = routes.filter(|(name, route)| route.count > 0.5 && *name != OURS);
        busy.map(|(name, route)| (name.clone(), route.inside()))
            .collect()
    }

    /// A number without labels; 0 if the server tells none.
    pub(crate) fn plain(&self, name: &str) -> f64 {
        self.find(name).unwrap_or_default()
    }

    /// A number without labels.
    pub(crate) fn find(&self, name: &str) -> Option<f64> {
        self.plain.get(name).copied()
    }
}

impl Route {
    fn inside(&self) -> Inside {
        Inside {
            count: self.count,
            mean_ms: self.seconds * 1_000.0 / self.count,
            p50_ms: self.quantile(0.5),
            p99_ms: self.quantile(0.99),
            round_trips: self.trips / self.count,
        }
    }

    /// Milliseconds below which this share of the answers lies; even within a slice.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = self.count * share;
        let (mut start, mut before) = (0.0, 0.0);
        for (end, below) in &self.below {
            let end = float(*end) / 1_000.0;
            if *below >= wanted && *below > before {
                return start + (end - start) * (wanted - before) / (below - before);
            }
            (start, before) = (end, *below);
        }
        start
    }
}

/// The value of a label; routes hold braces, but no quotation marks.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    Some(rest.split_once('"')?.0)
}

fn micros(seconds: &str) -> Option<u64> {
    let seconds: f64 = seconds.parse().ok()?;
    let micros = std::time::Duration::try_from_secs_f64(seconds)
        .ok()?
        .as_micros();
    u64::try_from(micros).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fast: u32, slow: u32, trips: u32) -> String {
        let labels = r#"method="GET",route="/a/{id}",status="200""#;
        let all = fast + slow;
        format!(
            "# HELP x y\n\
             {BUCKET}{{{labels},le=\"0.001\"}} {fast}\n\
             {BUCKET}{{{labels},le=\"0.002\"}} {all}\n\
             {BUCKET}{{{labels},le=\"+Inf\"}} {all}\n\
             {SUM}{{{labels}}} {}\n\
             {COUNT}{{{labels}}} {all}\n\
             {TRIPS}{{{labels}}} {trips}\n\
             ordu_store_commits_total {trips}\n",
            f64::from(all) / 1_000.0
        )
    }

    #[test]
    fn what_happened_between_two_looks_is_what_counts() {
        let since = Scrape::read(&page(70, 50, 30)).since(&Scrape::read(&page(20, 0, 10)));
        let inside = &since.inside()["GET /a/{id}"];
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-6, "{value}");
        near(inside.count, 100.0);
        near(inside.mean_ms, 1.0);
        near(inside.p50_ms, 1.0);
        near(inside.p99_ms, 1.98);
        near(inside.round_trips, 0.2);
        near(since.plain("ordu_store_commits_total"), 20.0);
    }

    #[test]
    fn what_several_nodes_did_counts_together() {
        let both = Scrape::read(&page(20, 0, 10)).and(Scrape::read(&page(50, 30, 5)));
        let inside = &both.inside()["GET /a/{id}"];
        assert!((inside.count - 100.0).abs() < 1e-6);
        assert!((inside.round_trips - 0.15).abs() < 1e-6);
        assert!((both.plain("ordu_store_commits_total") - 15.0).abs() < 1e-6);
    }

    #[test]
    fn routes_that_were_not_asked_say_nothing() {
        let page = Scrape::read(&page(1, 1, 0));
        assert!(page.since(&page).inside().is_empty());
        assert_eq!(Scrape::read("garbage\n{\nx{ 1\n"), Scrape::default());
    }
}
