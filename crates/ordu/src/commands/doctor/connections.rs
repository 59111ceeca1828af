//! The server's connections: how many of those it takes are in use, and whether a crowd behaves badly.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::Client;
use tokio::time::Instant;

use super::finding::{Finding, Level};
use super::server;

/// How long is between two looks, of which the second tells what happened since the first.
const BETWEEN: Duration = Duration::from_secs(1);

/// So many connections or bodies at once that do nothing are no accident, where there may be many.
const CROWD: f64 = 100.0;

/// Otherwise this share of what may be open is.
const MUCH: f64 = 0.5;

/// Nor are so many a second that end badly.
const OFTEN: f64 = 10.0;

/// The share of what is taken at all with which it is time to look.
const NEARLY: f64 = 0.8;

/// What the server counts.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    open: f64,
    limit: f64,
    /// Connections that have asked for nothing yet.
    mute: f64,
    /// Bodies that have not come to their end.
    bodies: f64,
    // These are of the whole life of the server.
    failed: f64,
    shed: f64,
}

/// Looks twice at the numbers of the server at `url`.
pub(super) async fn look(url: &str) -> Finding {
    match look_twice(url).await {
        Ok((first, second, between)) => judge(&first, &second, between.as_secs_f64()),
        Err(error) => Finding::untried("connections", format!("{error:#}")),
    }
}

async fn look_twice(url: &str) -> Result<(Counts, Counts, Duration)> {
    let client = server::client()?;
    let first = count(&client, url).await?;
    let began = Instant::now();
    tokio::time::sleep(BETWEEN).await;
    let second = count(&client, url).await?;
    Ok((first, second, began.elapsed()))
}

async fn count(client: &Client, url: &str) -> Result<Counts> {
    let answer = client.get(format!("{url}/metrics")).send().await;
    let answer = answer.with_context(|| format!("`{url}/metrics` does not answer"))?;
    if !answer.status().is_success() {
        bail!("`{url}` shows its numbers only to its own network");
    }
    let text = answer.text().await.context("the answer broke off")?;
    read(&text).with_context(|| format!("`{url}` does not count its connections"))
}

/// `None` if they are not counted.
fn read(text: &str) -> Option<Counts> {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    Some(Counts {
        open: value("ordu_connections")?,
        limit: value("ordu_connections_limit")?,
        mute: value("ordu_connections_mute")?,
        bodies: value("ordu_http_bodies")?,
        failed: value("ordu_connections_failed_total")?,
        shed: value("ordu_http_shed_total")?,
    })
}

fn judge(first: &Counts, second: &Counts, seconds: f64) -> Finding {
    let a_second = |of: fn(&Counts) -> f64| (of(second) - of(first)) / seconds;
    // Who is let in as a crowd is shown the door sees few of it at first.
    let at_most = |of: fn(&Counts) -> f64| of(first).max(of(second));
    let crowd = CROWD.min(MUCH * second.limit);
    let mut troubles = Vec::new();
    let open = at_most(|it| it.open);
    if open >= NEARLY * second.limit {
        troubles.push(format!("{open} of {} connections are taken", second.limit));
    }
    let mute = at_most(|it| it.mute);
    if mute >= crowd {
        troubles.push(format!(
            "{mute} of {open} connections have not said a whole request (silent, or a few bytes at a time)"
        ));
    }
    let bodies = at_most(|it| it.bodies);
    if bodies >= crowd {
        troubles.push(format!("{bodies} bodies were promised and have not come"));
    }
    let failed = a_second(|it| it.failed);
    if failed >= OFTEN {
        troubles.push(format!(
            "{failed:.0} connections a second end badly: what they say is no HTTP, or too long, or they \
             hang up before their answer"
        ));
    }
    let shed = a_second(|it| it.shed);
    if shed > 0.0 {
        troubles.push(format!(
            "{shed:.0} calls a second are sent away with 503: too much is in hand"
        ));
    }
    if troubles.is_empty() {
        let told = format!("{} of {} are open", second.open, second.limit);
        return Finding::fine("connections", told);
    }
    let mend = "see who they are (`ss -tn`, the proxy's log) and let the proxy or the firewall hold them \
                off; others are served meanwhile, as long as connections are left";
    let level = if open >= second.limit {
        Level::Wrong
    } else {
        Level::Warning
    };
    Finding::wrong("connections", troubles.join("; "), mend).at(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Counts = Counts {
        open: 70.0,
        limit: 1000.0,
        mute: 3.0,
        bodies: 5.0,
        failed: 900.0,
        shed: 900.0,
    };

    #[test]
    fn crowds_are_told_by_what_they_do() {
        for (counts, level, word) in [
            (QUIET, Level::Fine, "70 of 1000"),
            (
                Counts {
                    open: 799.0,
                    ..QUIET
                },
                Level::Fine,
                "799 of 1000",
            ),
            (
                Counts {
                    failed: 910.0,
                    ..QUIET
                },
                Level::Warning,
                "end badly",
            ),
            (
                Counts {
                    shed: 901.0,
                    ..QUIET
                },
                Level::Warning,
                "503",
            ),
        ] {
            let finding = judge(&QUIET, &counts, 1.0);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(word), "{finding:?}");
        }
        for (counts, level, word) in [
            (
                Counts {
                    open: 800.0,
                    ..QUIET
                },
                Level::Warning,
                "are taken",
            ),
            (
                Counts {
                    open: 1000.0,
                    ..QUIET
                },
                Level::Wrong,
                "are taken",
            ),
            (
                Counts {
                    mute: 100.0,
                    ..QUIET
                },
                Level::Warning,
                "a whole request",
            ),
            (
                Counts {
                    bodies: 100.0,
                    ..QUIET
                },
                Level::Warning,
                "promised",
            ),
        ] {
            let finding = judge(&counts, &counts, 1.0);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_prometheus_does() {
        let text = "# TYPE ordu_connections gauge\nordu_connections 7\nordu_connections_limit 10\n\
                    ordu_connections_mute 1\nordu_http_bodies 2\nordu_connections_failed_total 3\n\
                    ordu_http_shed_total 5\n";
        let counts = read(text).unwrap();
        assert_eq!(format!("{} of {}", counts.open, counts.limit), "7 of 10");
        assert!(read("ordu_http_shed_total 5\n").is_none());
    }
}
