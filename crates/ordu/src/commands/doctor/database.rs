//! The database: whether it answers, how fast, whether it fits this program, and its clock.

use std::time::Duration;

use ordu_core::{Millis, Timestamp};
use ordu_server::Clock;
use ordu_store::{DatabaseUrl, Error, Probe, probe};

use super::finding::{Finding, Level, words};
use super::{jobs, nodes};

/// How long it may take to look.
const WITHIN: Duration = Duration::from_secs(30);

/// A round trip above this is felt.
const SLOW_TRIP: Duration = Duration::from_millis(5);

/// A durable write above this is.
const SLOW_WRITE: Duration = Duration::from_millis(20);

/// Clocks that differ by more are noticed.
const ODD: Millis = Millis(1000);

/// Clocks that differ by more break what is signed or expires.
const WRONG: Millis = Millis(10_000);

/// What is from further in the future was written by a clock that was ahead, or was put back since.
const WRITTEN_WITHIN: Millis = Millis::from_minutes(2);

/// Looks at the database at an address.
pub(super) async fn look(address: &str, clock: &Clock) -> Vec<Finding> {
    let url: DatabaseUrl = match address.parse() {
        Ok(url) => url,
        Err(error) => return vec![unusable(&error, None)],
    };
    match tokio::time::timeout(WITHIN, probe(&url, || clock.now())).await {
        Ok(Ok(found)) => {
            let mut findings = judge(&found, clock.now());
            findings.extend(nodes::look(&found).await);
            findings.extend(jobs::judge(&found, clock.now()));
            findings
        }
        Ok(Err(Error::NotFound)) => vec![Finding::untried("database", "there is none yet")],
        Ok(Err(error)) if error.is_silence() => {
            let found = "no answer: no connection came about within seconds, and nobody said why";
            vec![Finding::wrong("database", found, MEND_SILENT)]
        }
        Ok(Err(error)) => vec![unusable(&error, Some(&url))],
        Err(_) => {
            let found = format!("no answer within {} s", WITHIN.as_secs());
            vec![Finding::wrong("database", found, MEND_SILENT)]
        }
    }
}

const MEND_SILENT: &str = "look at the way there (a firewall that drops, a network that is apart), and whether its \
                           machine hangs, waits for its disk, or has no connection left";

const MEND_AWAY: &str = "start it, or correct `--database`: host, port, name, user, password, and \
                         whether it lets this machine in";

const MEND_FILE: &str = "look at its disk (full? mounted?), let the server's user own the file and its \
                         folder; if the file is damaged, restore a backup (`ordu admin restore`)";

fn unusable(error: &Error, url: Option<&DatabaseUrl>) -> Finding {
    let mend = match error {
        Error::Invalid(_) => {
            "write `--database` as `sqlite:///FILE` or `postgres://user:password@host/name`"
        }
        _ if url.is_some_and(|url| !url.is_shared()) => MEND_FILE,
        _ => MEND_AWAY,
    };
    Finding::wrong("database", words(error), mend)
}

fn judge(found: &Probe, now: Timestamp) -> Vec<Finding> {
    vec![
        round_trip(found.round_trip),
        schema(found),
        writes(found),
        clock(found, now),
    ]
}

fn round_trip(trip: Duration) -> Finding {
    let told = format!("a round trip takes {:.2} ms", milliseconds(trip));
    if trip <= SLOW_TRIP {
        return Finding::fine("database", told);
    }
    let costs = format!(
        "{told}; asking, a pop with a job and a submit cost 1 each and never more than 2, so {:.0} to {:.0} ms \
         of each answer; checks, statuses and idle pops cost none",
        milliseconds(trip),
        2.0 * milliseconds(trip)
    );
    Finding::warning("database", costs, "move the database nearer to the server")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn schema(found: &Probe) -> Finding {
    let Probe {
        schema,
        known_schema,
        ..
    } = found;
    if schema > known_schema {
        let told = format!("the database has schema {schema}, this program knows {known_schema}");
        let mend = "a newer program wrote it: use that one";
        return Finding::wrong("schema", told, mend);
    }
    let told = if schema == known_schema {
        format!("{schema}, which this program knows")
    } else {
        format!("{schema}; the next start brings it to {known_schema}")
    };
    Finding::fine("schema", told)
}

fn writes(found: &Probe) -> Finding {
    match &found.write {
        None => Finding::untried("writes", "there is nothing yet that could be written"),
        Some(Ok(time)) => {
            let told = format!("a durable write takes {:.2} ms", milliseconds(*time));
            if *time > SLOW_WRITE {
                let mend = "writes under way at once share one, but alone each waits so long: look at \
                            the database's disk";
                return Finding::warning("writes", told, mend);
            }
            Finding::fine("writes", told)
        }
        Some(Err(error)) => {
            let told = format!("the database cannot be written: {}", words(error));
            let mend = "make room on its disk, give its file to the server's user, or lead \
                        `--database` to the primary";
            Finding::wrong("writes", told, mend)
        }
    }
}

/// Our clock against that of the database, and against what was written by it before.
fn clock(found: &Probe, now: Timestamp) -> Finding {
    let mend = "let all machines ask a time server (`timedatectl set-ntp true`)";
    if let Some(newest) = found.newest
        && newest > now + WRITTEN_WITHIN
    {
        let told = format!(
            "the database holds what was written {} in the future: a server's clock is ahead, or was put \
             back since",
            seconds(newest.since(now))
        );
        return Finding::wrong("clock", told, mend);
    }
    let Some(ahead) = found.ahead else {
        return Finding::fine("clock", "not behind what was written by it");
    };
    let told = format!("the database's clock is {} ahead of ours", seconds(ahead));
    let apart = Millis(ahead.0.abs());
    let level = if apart > WRONG {
        Level::Wrong
    } else if apart > ODD {
        Level::Warning
    } else {
        return Finding::fine("clock", told);
    };
    Finding::wrong("clock", told, mend).at(level)
}

pub(super) fn seconds(span: Millis) -> String {
    format!("{}.{:03} s", span.0 / 1000, (span.0 % 1000).abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn healthy() -> Probe {
        Probe {
            round_trip: Duration::from_millis(1),
            schema: 9,
            known_schema: 9,
            write: Some(Ok(Duration::from_millis(3))),
            ahead: Some(Millis(-3)),
            newest: Some(NOW),
            nodes: Vec::new(),
            led: Some(false),
            held: Vec::new(),
            timed_out: Vec::new(),
        }
    }

    fn levels(found: &Probe) -> Vec<(&'static str, Level)> {
        let bad = judge(found, NOW).into_iter();
        let bad = bad.filter(|finding| finding.level != Level::Fine);
        bad.map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn a_healthy_database_is_fine() {
        assert_eq!(levels(&healthy()), []);
        let older = Probe {
            schema: 8,
            ahead: None,
            ..healthy()
        };
        assert_eq!(levels(&older), []);
    }

    #[test]
    fn each_fault_has_its_name() {
        let slow = Probe {
            round_trip: Duration::from_micros(5001),
            write: Some(Ok(Duration::from_millis(21))),
            ..healthy()
        };
        let expected = [("database", Level::Warning), ("writes", Level::Warning)];
        assert_eq!(levels(&slow), expected);
        let newer = Probe {
            schema: 10,
            write: Some(Err(Error::Closed)),
            ..healthy()
        };
        let expected = [("schema", Level::Wrong), ("writes", Level::Wrong)];
        assert_eq!(levels(&newer), expected);
        for (ahead, level) in [(1001, Level::Warning), (-10_001, Level::Wrong)] {
            let apart = Probe {
                ahead: Some(Millis(ahead)),
                ..healthy()
            };
            assert_eq!(levels(&apart), [("clock", level)]);
        }
        let put_back = Probe {
            newest: Some(NOW + Millis(120_001)),
            ..healthy()
        };
        assert_eq!(levels(&put_back), [("clock", Level::Wrong)]);
    }
}
