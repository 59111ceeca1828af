//! Two builds side by side: measured in turns, so that a machine that is busy disturbs both alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::report::{Report, short};

/// One figure of both, the median of all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Compared {
    pub(crate) scenario: String,
    pub(crate) phase: String,
    pub(crate) what: String,
    pub(crate) a: f64,
    pub(crate) b: f64,
    /// `b` divided by `a`.
    pub(crate) ratio: f64,
}

/// Scenario, phase, figure.
type Name = (String, String, String);

/// What both have measured.
pub(crate) fn ratios(a: &[Report], b: &[Report]) -> Vec<Compared> {
    let (order, of_a) = medians(a);
    let (_, of_b) = medians(b);
    let both = order.into_iter().filter_map(|name| {
        let (a, b) = (*of_a.get(&name)?, *of_b.get(&name)?);
        let (scenario, phase, what) = name;
        Some(Compared {
            scenario,
            phase,
            what,
            a,
            b,
            ratio: b / a,
        })
    });
    both.filter(|ratio| ratio.ratio.is_finite()).collect()
}

/// The figures in the order of the reports, and the median of each.
fn medians(reports: &[Report]) -> (Vec<Name>, BTreeMap<Name, f64>) {
    let mut order = Vec::new();
    let mut values: BTreeMap<Name, Vec<f64>> = BTreeMap::new();
    let scenarios = reports.iter().flat_map(|report| &report.scenarios);
    for scenario in scenarios {
        for phase in &scenario.phases {
            let place = format!("{}, {}", phase.case, phase.name);
            for (what, value) in phase.measures() {
                let name = (scenario.name.clone(), place.clone(), what);
                let found = values.entry(name.clone()).or_default();
                if found.is_empty() {
                    order.push(name);
                }
                found.push(value);
            }
        }
    }
    let medians = values
        .into_iter()
        .map(|(name, values)| (name, median(values)));
    (order, medians.collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |position: usize| values.get(position).copied().unwrap_or_default();
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

/// As a table.
pub(crate) fn table(ratios: &[Compared]) -> String {
    let mut text = String::new();
    let mut place = None;
    for ratio in ratios {
        let here = (&ratio.scenario, &ratio.phase);
        if place != Some(here) {
            place = Some(here);
            let place = format!("{}: {}", ratio.scenario, ratio.phase);
            // Writing into a text cannot fail.
            let _ = writeln!(text, "\n{place:<52} {:>10} {:>10} {:>6}", "A", "B", "B/A");
        }
        let _ = writeln!(
            text,
            "  {:<50} {:>10} {:>10} {:>6.2}",
            ratio.what,
            short(ratio.a),
            short(ratio.b),
            ratio.ratio
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::report::{PhaseReport, ScenarioReport};
    use super::*;

    fn report(rate: f64, cpu: f64) -> Report {
        let mut phase = PhaseReport {
            case: "32+32".to_owned(),
            name: "lifecycle".to_owned(),
            lifecycles_per_second: Some(rate),
            ..PhaseReport::default()
        };
        phase.figures.insert("ready_seconds".to_owned(), cpu);
        let scenario = ScenarioReport {
            name: "lifecycle".to_owned(),
            phases: vec![phase],
            verdicts: Vec::new(),
        };
        Report {
            program: String::new(),
            database: String::new(),
            processors: 2,
            scale: 1.0,
            scenarios: vec![scenario],
        }
    }

    #[test]
    fn medians_of_all_rounds_are_compared() {
        let a = [report(100.0, 0.0), report(900.0, 0.0), report(200.0, 0.0)];
        let b = [report(300.0, 1.0), report(500.0, 1.0)];
        let ratios = ratios(&a, &b);
        // Nothing can be said against nothing.
        assert_eq!(ratios.len(), 1);
        assert!((ratios[0].ratio - 2.0).abs() < 1e-9);
        insta::assert_snapshot!(table(&ratios).trim_start(), @r"
        lifecycle: 32+32, lifecycle                                   A          B    B/A
          lifecycles/s                                              200        400   2.00
        ");
    }
}
