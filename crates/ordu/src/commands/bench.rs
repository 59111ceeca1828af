//! `ordu bench`: puts load on a server and measures it.
//!
//! The server is a process of its own, reached over HTTP like any other; the generator knows nothing of its
//! inside but what `/metrics` tells and what the system says about the process.

mod scenario;

mod drive;
mod recorder;
mod wire;

mod delay;
mod process;
mod scrape;
mod stage;

mod compare;
mod report;

mod run;

mod engine;
mod opponent;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ordu_api::ApiKey;

use self::report::{Report, ScenarioReport};
use self::run::{Bench, Subject};
use self::scenario::{SCENARIOS, Scenario};
use crate::cli::{Bench as Args, BenchCommand, BenchCompare, BenchRun};
use crate::exit::Exit;

pub(crate) async fn run(args: Args) -> Result<Exit> {
    match args.what {
        BenchCommand::Run(args) => measure(args).await,
        BenchCommand::Compare(args) => compare(args).await,
        BenchCommand::List => {
            print!("{}", list());
            Ok(Exit::Done)
        }
        // It computes, and waits for nobody.
        BenchCommand::Engine(args) => tokio::task::block_in_place(|| engine::run(&args)),
    }
}

async fn measure(args: BenchRun) -> Result<Exit> {
    let subject = match (&args.horde, &args.api_key) {
        (Some(url), Some(key)) => Subject::Running {
            url: url.clone(),
            key: ApiKey::new(key.as_str()),
        },
        _ => Subject::Program(match args.binary {
            Some(binary) => binary,
            None => this_program()?,
        }),
    };
    let scenarios = chosen(&args.scenarios)?;
    let bench = Bench {
        subject,
        load: args.load,
    };
    let mut report = bench.report().await?;
    if !bench.load.json {
        print!("{}", report.head());
    }
    for scenario in scenarios {
        let measured = bench.scenario(scenario).await?;
        if !bench.load.json {
            // Long runs show what they have.
            print!("{}", measured.table());
        }
        report.scenarios.push(measured);
    }
    if bench.load.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    let is_missed = report.scenarios.iter().any(ScenarioReport::misses);
    Ok(if args.strict && is_missed {
        Exit::Failed
    } else {
        Exit::Done
    })
}

async fn compare(args: BenchCompare) -> Result<Exit> {
    let (a, b) = match (read_report(&args.a)?, read_report(&args.b)?) {
        (Some(a), Some(b)) => (vec![a], vec![b]),
        (None, None) => in_turns(&args).await?,
        _ => bail!("a report and a program cannot be compared: give two of one kind"),
    };
    let ratios = compare::ratios(&a, &b);
    if args.load.json {
        println!("{}", serde_json::to_string_pretty(&ratios)?);
    } else {
        print!("{}", compare::table(&ratios));
    }
    Ok(Exit::Done)
}

/// Measures A, B, A, B, …
async fn in_turns(args: &BenchCompare) -> Result<(Vec<Report>, Vec<Report>)> {
    let scenarios = chosen(&args.scenario)?;
    let mut reports = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        for (binary, reports) in [(&args.a, &mut reports.0), (&args.b, &mut reports.1)] {
            let bench = Bench {
                subject: Subject::Program(binary.clone()),
                load: args.load.clone(),
            };
            let mut report = bench.report().await?;
            for scenario in &scenarios {
                report.scenarios.push(bench.scenario(scenario).await?);
            }
            reports.push(report);
        }
    }
    Ok(reports)
}

/// The report in a file, if it is one and no program.
fn read_report(path: &Path) -> Result<Option<Report>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let report = serde_json::from_slice(&bytes)
        .with_context(|| format!("`{}` is no report of `bench run --json`", path.display()))?;
    Ok(Some(report))
}

fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program; name it with `--binary`")
}

/// The scenarios of these names; the usual ones if none is given.
fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| scenario.usual).collect());
    }
    let find = |name: &String| {
        let unknown = || format!("there is no scenario `{name}`; `ordu bench list` lists them");
        scenario::find(name).with_context(unknown)
    };
    names.iter().map(find).collect()
}

fn list() -> String {
    let mut text = String::new();
    for scenario in SCENARIOS {
        let mark = if scenario.usual {
            ""
        } else {
            " (only if named)"
        };
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{}{mark}: {}", scenario.name, scenario.about);
        for budget in scenario.budgets {
            let _ = writeln!(text, "  {} {}", budget.what, budget.bound);
        }
    }
    text
}
