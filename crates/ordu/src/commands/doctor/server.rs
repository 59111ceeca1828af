//! The server that runs here, or should: whether it is there and ready, its clock, and its connections.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_client::http_client;
use ordu_core::{Millis, Timestamp};
use ordu_server::Clock;
use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::connections;
use super::finding::{Finding, Level};
use super::folder::Folder;

/// How long it may take: a server whose database is silent looks for a while itself.
const WITHIN: Duration = Duration::from_secs(25);

/// Clocks that differ by more are noticed. The answer may have been on its way for a moment.
const ODD: Millis = Millis(2000);

/// Clocks that differ by more break what is signed or expires.
const WRONG: Millis = Millis(10_000);

const HALF_A_SECOND: Millis = Millis(500);

/// What it says about itself.
struct Ready {
    status: StatusCode,
    facts: Value,
    /// What time it is, to the millisecond or, by older servers, to the second.
    now: Option<Timestamp>,
    /// When it answered, by our clock.
    at: Timestamp,
}

/// Looks at the folder's server, or else at the one that is said to be at `public`.
pub(super) async fn look(folder: &Folder, public: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(url) = &folder.lost_at {
        let found = format!("a server ran at `{url}`, and is gone without having ended");
        let mend = "start it again; its log and the system's say why (`journalctl -k`: too little memory?)";
        findings.push(Finding::wrong("server", found, mend));
    }
    let Some(url) = folder.served_at.as_deref().or(public) else {
        if findings.is_empty() {
            findings.push(Finding::untried("server", "none runs here"));
        }
        return findings;
    };
    let url = url.trim_end_matches('/');
    match ready(url).await {
        Ok(ready) => {
            findings.push(judge(url, &ready));
            findings.push(clock(&ready));
        }
        Err(error) => {
            let mend = "look at its log, whether its process still does something, and whether it is the \
                        one that listens there; then start it again";
            findings.push(Finding::wrong("server", format!("{error:#}"), mend));
            return findings;
        }
    }
    findings.push(connections::look(url).await);
    findings
}

pub(super) fn client() -> Result<Client> {
    Ok(http_client(|builder| builder.timeout(WITHIN))?)
}

async fn ready(url: &str) -> Result<Ready> {
    let answer = client()?.get(format!("{url}/readyz")).send().await;
    let answer = answer.with_context(|| format!("`{url}` does not answer"))?;
    let at = Clock::System.now();
    let (status, date) = (answer.status(), date(answer.headers()));
    // That of a second which has begun.
    let date = date.map(|date| date + HALF_A_SECOND);
    let body = answer.bytes().await.context("the answer broke off")?;
    let facts: Value = serde_json::from_slice(&body)
        .with_context(|| format!("`{url}` answers {status}: no server of this version is there"))?;
    let told = facts["now_ms"].as_i64().map(Timestamp);
    Ok(Ready {
        status,
        facts,
        now: told.or(date),
        at,
    })
}

/// What time an answer says it is.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get("date")?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(Timestamp(date.timestamp().as_millisecond()))
}

fn judge(url: &str, ready: &Ready) -> Finding {
    let facts = &ready.facts;
    let told = |name: &str| facts[name].as_bool();
    let wrong = |found: &str, mend: &str| {
        let found = format!("`{url}` is not ready: {found}");
        Finding::wrong("server", found, mend)
    };
    if told("database") == Some(false) {
        let mend =
            "look at the database, at the server's way to it, and at whether its disk is full";
        return wrong("it cannot reach or write its database", mend);
    }
    if told("blobs") == Some(false) {
        return wrong(
            "it cannot reach its pictures",
            "look at what `--blobs` names",
        );
    }
    if told("draining") == Some(true) {
        return wrong("it is ending", "wait, and start it again");
    }
    if !ready.status.is_success() {
        return wrong(&format!("it answers {}", ready.status), "look at its log");
    }
    let leads = match facts["nodes"]["leads"].as_bool() {
        None => "",
        Some(true) => ", and leads",
        Some(false) => ", and another node leads",
    };
    Finding::fine("server", format!("`{url}` is ready{leads}"))
}

fn clock(ready: &Ready) -> Finding {
    let Some(told) = ready.now else {
        return Finding::untried("clock", "the server does not say what time it is");
    };
    let ahead = told.0 - ready.at.0;
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let found = format!("the server's clock is {} s {side} ours", ahead.abs() / 1000);
    let level = match ahead.abs() {
        apart if apart > WRONG.0 => Level::Wrong,
        apart if apart > ODD.0 => Level::Warning,
        _ => return Finding::fine("clock", found),
    };
    let mend = "let all machines ask a time server (`timedatectl set-ntp true`); a server notices at once \
                when its clock is right again";
    Finding::wrong("clock", found, mend).at(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(facts: Value, ahead: i64) -> Ready {
        let is_ready = facts["database"] == true && facts["draining"] == false;
        let at = Timestamp(1_700_000_000_700);
        Ready {
            status: if is_ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            facts,
            now: Some(Timestamp(1_700_000_000_000 + ahead)),
            at,
        }
    }

    #[test]
    fn a_server_is_judged_by_what_it_says() {
        for (database, draining, level, word) in [
            (true, false, Level::Fine, "is ready"),
            (false, false, Level::Wrong, "database"),
            (true, true, Level::Wrong, "ending"),
        ] {
            let facts =
                serde_json::json!({ "database": database, "blobs": true, "draining": draining });
            let finding = judge("http://x", &ready(facts, 0));
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn its_clock_is_judged_against_ours() {
        for (ahead, level) in [
            (0, Level::Fine),
            (-1000, Level::Fine),
            (3000, Level::Warning),
            (-300_000, Level::Wrong),
            (300_000, Level::Wrong),
        ] {
            let finding = clock(&ready(Value::Null, ahead));
            assert_eq!(finding.level, level, "{ahead}: {finding:?}");
        }
    }
}
