//! A worker: whether it reaches its horde, whether its engines work, whether its model files are whole.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_api::ApiKey;
use ordu_client::{Error, Horde, http_client};
use ordu_core::{Millis, Timestamp};
use ordu_engine::{DeviceChoice, NativeEngine, NativeOptions};
use ordu_server::Clock;
use ordu_worker::{Config, Trial};

use super::finding::{Finding, Level, words};
use super::{machine, server};
use crate::cli::Work;
use crate::commands::{models, work};
use crate::logs::Logs;

/// How long the horde may take to answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Clocks that differ by more are noticed. A date is told in whole seconds.
const ODD: Millis = Millis(10_000);

/// Clocks that differ by more break what is signed or expires.
const WRONG: Millis = Millis(120_000);

/// How we call ourselves.
const AGENT: &str = concat!("ordu:", env!("CARGO_PKG_VERSION"), ":doctor");

/// Looks at a worker with these options.
pub(super) async fn look(args: Work, logs: &Logs) -> Vec<Finding> {
    let mut findings = vec![machine::files()];
    if let Some(address) = args.metrics
        && let Err(error) = TcpListener::bind(address)
    {
        let found = format!("cannot answer `/metrics` at {address}: {error}");
        findings.push(Finding::wrong("port", found, "give another `--metrics`"));
    }
    match Box::pin(work::examine(args, logs)).await {
        Ok(examined) => {
            findings.extend(horde(&examined.config).await);
            findings.extend(examined.trials.iter().map(engine));
            findings.extend(files(examined.models_dir).await);
            if examined.args.stock.has_settings() || !examined.args.stock.cache_home.is_empty() {
                findings.push(checksums(&examined.args).await);
            }
        }
        Err(error) => {
            let mend = "correct the option or the file that it names";
            findings.push(Finding::wrong("engine", format!("{error:#}"), mend));
        }
    }
    findings
}

/// The horde: whether it answers, knows the key, and has the same time.
async fn horde(config: &Config) -> Vec<Finding> {
    let url = &config.horde_url;
    let mut findings = Vec::new();
    match date(url).await {
        Ok(told) => {
            findings.push(Finding::fine("horde", format!("`{url}` answers")));
            findings.push(clock(told, Clock::System.now()));
        }
        Err(error) => {
            let mend = "correct `--horde`, or look at the way there: name, proxy, certificate";
            findings.push(Finding::wrong("horde", format!("{error:#}"), mend));
            return findings;
        }
    }
    findings.push(match key(url, &config.api_key).await {
        Ok(alias) => Finding::fine("key", format!("it is that of {alias}")),
        Err(Error::Refused(refusal)) => {
            let mend = "give the key of an account with `--api-key`";
            Finding::wrong("key", refusal.message, mend)
        }
        Err(error) => Finding::untried("key", words(&error)),
    });
    findings
}

async fn key(url: &str, key: &ApiKey) -> Result<String, Error> {
    let horde = Horde::new(url, key.clone(), AGENT)?;
    let user = horde.find_user().await?;
    Ok(user.username)
}

/// What the horde says the time is.
async fn date(url: &str) -> Result<Option<Timestamp>> {
    let horde = Horde::new(url, ApiKey::anonymous(), AGENT)?;
    let client = http_client(|builder| builder.timeout(WITHIN))?;
    let address = format!("{}/status/heartbeat", horde.base_url());
    let answer = client.get(address).send().await;
    let answer = answer.with_context(|| format!("`{url}` does not answer"))?;
    let answer = answer.error_for_status().context("it is not well")?;
    Ok(server::date(answer.headers()))
}

fn clock(told: Option<Timestamp>, now: Timestamp) -> Finding {
    let Some(told) = told else {
        return Finding::untried("clock", "the horde does not say what time it is");
    };
    let ahead = told.0.saturating_sub(now.0);
    let found = format!("the horde's clock is {} s ahead of ours", ahead / 1000);
    let level = match ahead.abs() {
        apart if apart > WRONG.0 => Level::Wrong,
        apart if apart > ODD.0 => Level::Warning,
        _ => return Finding::fine("clock", found),
    };
    let mend = "let this machine ask a time server (`timedatectl set-ntp true`)";
    Finding::wrong("clock", found, mend).at(level)
}

fn engine(trial: &Trial) -> Finding {
    let kind = trial.kind.plain_name();
    match &trial.tried {
        Ok((with, took)) => {
            let absent = match trial.missing.as_slice() {
                [] => String::new(),
                missing => format!("; not offered: {}", missing.join("; ")),
            };
            let found = format!("{kind}: `{with}` took {:.2} s{absent}", took.as_secs_f64());
            Finding::fine("engine", found)
        }
        Err(reason) => {
            let mend = "start the program that `--engine` names, or correct its address; \
                        `ordu work --check` tells more";
            Finding::wrong("engine", format!("{kind}: {reason}"), mend)
        }
    }
}

/// Whether what lies among the models can be read.
async fn files(folder: Option<PathBuf>) -> Vec<Finding> {
    let Some(folder) = folder else {
        return Vec::new();
    };
    let shown = folder.display().to_string();
    let opened = tokio::task::spawn_blocking(move || {
        let options = NativeOptions {
            models: Some(folder),
            device: DeviceChoice::Cpu,
            ..NativeOptions::default()
        };
        let engine = NativeEngine::open(&options)?;
        let problems = engine.problems().iter().map(ToString::to_string);
        anyhow::Ok(problems.collect::<Vec<_>>())
    });
    let mend = "fetch the file again, or take it out of the folder";
    match opened.await {
        Ok(Ok(problems)) if problems.is_empty() => {
            vec![Finding::fine(
                "models",
                format!("what lies in `{shown}` can be read"),
            )]
        }
        Ok(Ok(problems)) => {
            let wrong = problems.into_iter();
            wrong
                .map(|problem| Finding::wrong("models", problem, mend))
                .collect()
        }
        Ok(Err(error)) => vec![Finding::wrong("models", format!("{error:#}"), mend)],
        Err(_) => vec![Finding::wrong("models", "reading them broke off", mend)],
    }
}

/// Whether the files of the store are those that their makers published.
async fn checksums(args: &Work) -> Finding {
    let report = match models::examine(args).await {
        Ok(report) => report,
        Err(error) => {
            let found = format!("nobody says what the files should be: {error:#}");
            return Finding::untried("checksums", found);
        }
    };
    let rows = report.as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |state: &str| {
        let rows = rows.iter().filter(|row| row["state"] == state);
        let names = rows.map(|row| row["file"].as_str().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    let (wrong, missing) = (of("wrong"), of("missing"));
    if !wrong.is_empty() {
        let found = format!("not what was published: {}", wrong.join(", "));
        let mend = "fetch them again: `ordu work --models fetch NAME`";
        return Finding::wrong("checksums", found, mend);
    }
    let (right, unchecked) = (of("right").len(), of("unchecked").len());
    let mut found = format!("{right} files are right, {unchecked} unchecked");
    if !missing.is_empty() {
        // Models share files: that one of two is there does not mean that the other is wanted.
        found.push_str("; missing of models that are there in part: ");
        found.push_str(&missing.join(", "));
    }
    Finding::fine("checksums", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_against_the_hordes() {
        let now = Timestamp(1_700_000_000_000);
        for (ahead, level) in [
            (900, Level::Fine),
            (-11_000, Level::Warning),
            (121_000, Level::Wrong),
        ] {
            let told = Timestamp(now.0 + ahead);
            assert_eq!(clock(Some(told), now).level, level, "{ahead}");
        }
        assert_eq!(clock(None, now).level, Level::Untried);
    }
}
