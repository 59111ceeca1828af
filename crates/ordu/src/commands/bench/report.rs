//! What was measured: as JSON for programs, as tables for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::recorder::{Line, Record};
use super::scenario::Scenario;

/// Everything of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The program that was measured.
    pub(crate) program: String,
    /// Which database.
    pub(crate) database: String,
    /// Processors that server and generator share.
    pub(crate) processors: u32,
    /// The share of everything that was prepared.
    pub(crate) scale: f64,
    pub(crate) scenarios: Vec<ScenarioReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScenarioReport {
    pub(crate) name: String,
    pub(crate) phases: Vec<PhaseReport>,
    #[serde(default)]
    pub(crate) verdicts: Vec<Verdict>,
}

/// One kind of load on one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseReport {
    pub(crate) case: String,
    pub(crate) name: String,
    pub(crate) seconds: f64,
    /// Requests that went all the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lifecycles_per_second: Option<f64>,
    pub(crate) endpoints: BTreeMap<String, EndpointReport>,
    /// As the server counted, by method and route; nothing if it does not tell.
    pub(crate) inside: BTreeMap<String, Inside>,
    /// What its process took; nothing if it is another machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerReport>,
    /// CPU of the generator, in percent of one core.
    pub(crate) generator_percent: f64,
    /// Whatever else there is to say, by name.
    pub(crate) figures: BTreeMap<String, f64>,
    /// What its process held, from time to time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) samples: Vec<Sample>,
    /// When it was measured.
    #[serde(skip)]
    pub(crate) measured: Option<Range<Instant>>,
}

/// What a server held at some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Since the beginning of the phase.
    pub(crate) seconds: f64,
    pub(crate) resident_mib: f64,
    pub(crate) open_files: u32,
}

/// As clients saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EndpointReport {
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// By return code, status, or what the connection said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) errors: BTreeMap<String, u64>,
}

/// As the server saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inside {
    pub(crate) count: f64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// To the database, per answer.
    pub(crate) round_trips: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    pub(crate) cpu_seconds: f64,
    /// Of one core.
    pub(crate) cpu_percent: f64,
    pub(crate) resident_mib: f64,
    /// Since its start.
    pub(crate) peak_mib: f64,
    pub(crate) commits: f64,
    /// Writes that shared commits.
    pub(crate) writes: f64,
    pub(crate) round_trips: f64,
}

/// Whether a budget is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) value: Option<f64>,
    /// Such as `≤ 60`.
    pub(crate) budget: String,
    pub(crate) kept: bool,
}

/// A count as a number to compute with.
#[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

impl ScenarioReport {
    /// The phase of this name, of whichever case has it.
    pub(crate) fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// The lifecycles a second of all phases of a name, in the mean.
    pub(crate) fn lifecycles(&self, name: &str) -> Option<f64> {
        let phases = self.phases.iter().filter(|phase| phase.name == name);
        let rates = phases.filter_map(|phase| phase.lifecycles_per_second);
        let (sum, count) = rates.fold((0.0, 0.0), |(sum, count), rate| (sum + rate, count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    /// The p50 of an endpoint in the phase of a name in which it was slowest, in milliseconds.
    pub(crate) fn slowest_p50(&self, name: &str, endpoint: &str) -> Option<f64> {
        let phases = self.phases.iter().filter(|phase| phase.name == name);
        let medians = phases.filter_map(|phase| phase.p50(endpoint));
        medians.max_by(f64::total_cmp)
    }

    /// The phase of this name of one case.
    pub(crate) fn of(&self, case: &str, name: &str) -> Option<&PhaseReport> {
        let mut phases = self.phases.iter();
        phases.find(|phase| phase.case == case && phase.name == name)
    }

    /// Whether a budget is missed.
    pub(crate) fn misses(&self) -> bool {
        self.verdicts.iter().any(|verdict| !verdict.kept)
    }

    /// Holds the budgets of a scenario against what was measured.
    pub(crate) fn judge(&mut self, scenario: &Scenario) {
        let verdicts = scenario.budgets.iter().map(|budget| {
            let value = (budget.measure)(self).filter(|value| value.is_finite());
            Verdict {
                what: budget.what.to_owned(),
                value,
                budget: budget.bound.to_string(),
                kept: value.is_some_and(|value| budget.bound.holds(value)),
            }
        });
        self.verdicts = verdicts.collect();
    }
}

impl PhaseReport {
    /// Requests a second of an endpoint.
    pub(crate) fn rate(&self, endpoint: &str) -> Option<f64> {
        Some(self.endpoints.get(endpoint)?.per_second)
    }

    /// Seconds between another phase and this one.
    pub(crate) fn pause_after(&self, other: &Self) -> Option<f64> {
        let (ended, begun) = (other.measured.as_ref()?.end, self.measured.as_ref()?.start);
        Some((begun - ended).as_secs_f64())
    }

    /// Milliseconds, as clients saw it.
    pub(crate) fn p50(&self, endpoint: &str) -> Option<f64> {
        Some(self.endpoints.get(endpoint)?.p50_ms)
    }

    /// Milliseconds inside the server.
    pub(crate) fn inside_p50(&self, route: &str) -> Option<f64> {
        Some(self.inside.get(route)?.p50_ms)
    }

    /// Milliseconds inside the server.
    pub(crate) fn inside_mean(&self, route: &str) -> Option<f64> {
        Some(self.inside.get(route)?.mean_ms)
    }

    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    /// What there was of something in the last quarter of the phase to what there was in the one before,
    /// in the mean.
    pub(crate) fn growth(&self, of: fn(&Sample) -> f64) -> Option<f64> {
        let mean = |from: f64, to: f64| {
            let quarter = self.samples.iter().filter(|sample| {
                let at = sample.seconds / self.seconds;
                from < at && at <= to
            });
            let (sum, count) = quarter.fold((0.0, 0.0), |(sum, count), sample| {
                (sum + of(sample), count + 1.0)
            });
            (count > 0.0).then(|| sum / count)
        };
        Some(mean(0.75, 1.0)? / mean(0.5, 0.75)?)
    }

    pub(crate) fn errors(&self) -> u64 {
        let lines = self.endpoints.values();
        lines.flat_map(|endpoint| endpoint.errors.values()).sum()
    }

    /// Takes over what drivers noted in so many seconds.
    pub(crate) fn take(&mut self, record: &Record, seconds: f64) {
        self.seconds = seconds;
        if record.lifecycles > 0 {
            self.lifecycles_per_second = Some(float(record.lifecycles) / seconds);
        }
        if record.backlog > 0 {
            self.figures
                .insert("backlog".to_owned(), float(record.backlog));
        }
        let endpoints = record.lines.iter();
        let endpoints = endpoints.map(|(name, line)| ((*name).to_owned(), endpoint(line, seconds)));
        self.endpoints = endpoints.collect();
    }

    /// Every figure that can be compared, by name.
    pub(crate) fn measures(&self) -> Vec<(String, f64)> {
        let mut all = Vec::new();
        let mut add = |name: String, value: f64| all.push((name, value));
        if let Some(rate) = self.lifecycles_per_second {
            add("lifecycles/s".to_owned(), rate);
        }
        for (name, endpoint) in &self.endpoints {
            add(format!("{name}, /s"), endpoint.per_second);
            add(format!("{name}, p50 ms"), endpoint.p50_ms);
            add(format!("{name}, p99 ms"), endpoint.p99_ms);
        }
        for (route, inside) in &self.inside {
            add(format!("{route}, mean ms inside"), inside.mean_ms);
        }
        if let Some(server) = &self.server {
            let answers: f64 = self.inside.values().map(|inside| inside.count).sum();
            if answers > 0.0 {
                let micros = server.cpu_seconds * 1e6 / answers;
                add("server CPU per answer, µs".to_owned(), micros);
            }
            add("server memory at its peak, MiB".to_owned(), server.peak_mib);
        }
        for (name, value) in &self.figures {
            add(name.clone(), *value);
        }
        all
    }
}

fn endpoint(line: &Line, seconds: f64) -> EndpointReport {
    let ms = |micros: u64| float(micros) / 1_000.0;
    let at = |share: f64| ms(line.times.value_at_quantile(share));
    EndpointReport {
        count: line.times.len(),
        per_second: float(line.times.len()) / seconds,
        p50_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        max_ms: ms(line.times.max()),
        errors: line.errors.clone(),
    }
}

impl Report {
    /// What was measured, in words.
    pub(crate) fn head(&self) -> String {
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = writeln!(
            text,
            "{}, {}, {} processors for server and generator",
            self.program, self.database, self.processors
        );
        if self.scale < 1.0 {
            let _ = writeln!(
                text,
                "Only {} of everything was prepared: budgets do not hold",
                self.scale
            );
        }
        text
    }
}

impl ScenarioReport {
    /// As tables.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for phase in &self.phases {
            phase.write(&self.name, &mut text);
        }
        let _ = writeln!(
            text,
            "\n{:<62} {:>10} {:>10}",
            self.name, "measured", "budget"
        );
        for verdict in &self.verdicts {
            let value = verdict.value.map_or("not".to_owned(), short);
            let word = if verdict.kept { "kept" } else { "MISSED" };
            let _ = writeln!(
                text,
                "  {:<60} {:>10} {:>10} {word}",
                verdict.what, value, verdict.budget
            );
        }
        text
    }
}

impl PhaseReport {
    fn write(&self, scenario: &str, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{scenario}: {}, {} ({} s)",
            self.case,
            self.name,
            short(self.seconds)
        );
        if let Some(rate) = self.lifecycles_per_second {
            let _ = writeln!(text, "  {} lifecycles a second", short(rate));
        }
        if !self.endpoints.is_empty() {
            let _ = writeln!(
                text,
                "  {:<24} {:>9} {:>8} {:>8} {:>8} {:>8}",
                "as clients saw it, ms", "/s", "p50", "p95", "p99", "max"
            );
        }
        for (name, line) in &self.endpoints {
            let [p50, p95, p99, max] =
                [line.p50_ms, line.p95_ms, line.p99_ms, line.max_ms].map(short);
            let _ = writeln!(
                text,
                "  {name:<24} {:>9} {p50:>8} {p95:>8} {p99:>8} {max:>8}",
                short(line.per_second)
            );
            for (error, count) in &line.errors {
                let _ = writeln!(text, "    {count} × {error}");
            }
        }
        self.write_inside(text);
        if let Some(server) = &self.server {
            let _ = writeln!(
                text,
                "  server {} % of a core, {} MiB at its peak; {} commits for {} writes, {} round trips",
                short(server.cpu_percent),
                short(server.peak_mib),
                server.commits,
                server.writes,
                server.round_trips
            );
        }
        let _ = writeln!(
            text,
            "  generator {} % of a core",
            short(self.generator_percent)
        );
        for (name, value) in &self.figures {
            let _ = writeln!(text, "  {name} {}", short(*value));
        }
    }

    fn write_inside(&self, text: &mut String) {
        if self.inside.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "  {:<44} {:>8} {:>8} {:>8} {:>6}",
            "inside the server, ms", "mean", "p50", "p99", "trips"
        );
        for (route, inside) in &self.inside {
            let [mean, p50, p99] = [inside.mean_ms, inside.p50_ms, inside.p99_ms].map(short);
            let _ = writeln!(
                text,
                "  {route:<44} {mean:>8} {p50:>8} {p99:>8} {:>6.2}",
                inside.round_trips
            );
        }
    }
}

/// A number with as many digits as mean something.
pub(crate) fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::recorder::Recorder;
    use super::super::scenario;
    use super::*;

    fn report() -> Report {
        let recorder = Recorder::default();
        recorder.begin();
        for ms in 1..=100 {
            recorder.note("text async", Duration::from_millis(ms), None);
        }
        recorder.note(
            "text submit",
            Duration::from_millis(7),
            Some("InvalidJobID"),
        );
        recorder.note_lifecycle();
        let mut phase = PhaseReport {
            case: "32+32".to_owned(),
            name: "lifecycle".to_owned(),
            generator_percent: 41.0,
            server: Some(ServerReport {
                cpu_seconds: 1.0,
                cpu_percent: 50.0,
                resident_mib: 40.0,
                peak_mib: 41.5,
                commits: 10.0,
                writes: 30.0,
                round_trips: 99.0,
            }),
            ..PhaseReport::default()
        };
        phase.take(&recorder.end(), 2.0);
        let route = Inside {
            count: 100.0,
            mean_ms: 0.5,
            p50_ms: 0.4,
            p99_ms: 3.0,
            round_trips: 1.0,
        };
        phase
            .inside
            .insert("POST /api/v2/generate/text/async".to_owned(), route);
        let mut scenario = ScenarioReport {
            name: "lifecycle".to_owned(),
            phases: vec![phase],
            verdicts: Vec::new(),
        };
        scenario.judge(scenario::find("lifecycle").unwrap());
        Report {
            program: "ordu 0.1.0".to_owned(),
            database: "SQLite".to_owned(),
            processors: 2,
            scale: 1.0,
            scenarios: vec![scenario],
        }
    }

    #[test]
    fn a_report_reads_like_this() {
        let report = report();
        let table = report.head() + &report.scenarios[0].table();
        insta::assert_snapshot!(table, @r"
        ordu 0.1.0, SQLite, 2 processors for server and generator

        lifecycle: 32+32, lifecycle (2.00 s)
          0.500 lifecycles a second
          as clients saw it, ms           /s      p50      p95      p99      max
          text async                    50.0     50.0     95.0     99.0      100
          text submit                  0.500     7.00     7.00     7.00     7.00
            1 × InvalidJobID
          inside the server, ms                            mean      p50      p99  trips
          POST /api/v2/generate/text/async                0.500    0.400     3.00   1.00
          server 50.0 % of a core, 41.5 MiB at its peak; 10 commits for 30 writes, 99 round trips
          generator 41.0 % of a core

        lifecycle                                                        measured     budget
          lifecycles a second                                               0.500     ≥ 1500 MISSED
          p99 of the slowest endpoint, ms                                    99.0       ≤ 60 MISSED
          errors                                                             1.00        ≤ 0 MISSED
        ");
    }

    #[test]
    fn a_report_comes_back_from_its_json() {
        let report = report();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn what_was_not_measured_keeps_no_budget() {
        let mut empty = ScenarioReport {
            name: "queue".to_owned(),
            phases: Vec::new(),
            verdicts: Vec::new(),
        };
        empty.judge(scenario::find("queue").unwrap());
        let errors = empty.verdicts.pop().unwrap();
        assert!(errors.kept, "nothing went wrong");
        assert!(empty.verdicts.iter().all(|verdict| !verdict.kept));
    }

    #[test]
    fn a_missed_budget_is_a_miss() {
        let mut scenario = report().scenarios.remove(0);
        assert!(scenario.misses());
        scenario.verdicts.retain(|verdict| verdict.kept);
        assert!(!scenario.misses());
    }

    #[test]
    fn what_grows_until_the_end_is_seen() {
        let mib = [100.0, 200.0, 300.0, 300.0, 300.0, 330.0, 330.0, 330.0];
        let samples = (1..).zip(mib).map(|(number, resident_mib)| Sample {
            seconds: f64::from(number),
            resident_mib,
            open_files: 7,
        });
        let phase = PhaseReport {
            seconds: 8.0,
            samples: samples.collect(),
            ..PhaseReport::default()
        };
        let growth = phase.growth(|sample| sample.resident_mib).unwrap();
        assert!((growth - 330.0 / 315.0).abs() < 1e-9, "{growth}");
        let files = phase.growth(|sample| f64::from(sample.open_files));
        assert!((files.unwrap() - 1.0).abs() < 1e-9);
        let growth = PhaseReport::default().growth(|sample| sample.resident_mib);
        assert_eq!(growth, None, "nothing was looked at");
    }
}
