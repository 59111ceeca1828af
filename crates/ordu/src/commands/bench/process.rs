//! A server of its own, in a process of its own, and what it takes of the machine.
//!
//! # Source
//! proc(5): `stat`, `status` and `fd`. Where there is no `/proc`, nothing is known.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, timeout};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Ticks of the clock that the system counts CPU time with, per second: 100 on every Linux.
const TICKS: f64 = 100.0;

const READY: &str = "listening on ";

/// What a process took so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_mib: f64,
    pub(crate) peak_mib: f64,
    /// Files, connections and the like.
    pub(crate) open_files: u32,
}

impl Usage {
    /// Of a process by its number, or of `self`.
    pub(crate) fn of(process: &str) -> Option<Self> {
        let folder = Path::new("/proc").join(process);
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let open_files = fs::read_dir(folder.join("fd")).map_or(0, Iterator::count);
        Some(Self {
            open_files: u32::try_from(open_files).unwrap_or(u32::MAX),
            ..Self::read(&stat, &status)?
        })
    }

    fn read(stat: &str, status: &str) -> Option<Self> {
        // The name before may hold anything; fields 14 and 15 are 11 and 12 behind it.
        let (_, fields) = stat.rsplit_once(") ")?;
        let times = fields.split(' ').skip(11).take(2);
        let ticks: f64 = times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        let mib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kib / 1024.0)
        };
        Some(Self {
            cpu_seconds: ticks / TICKS,
            resident_mib: mib("VmRSS:")?,
            peak_mib: mib("VmHWM:")?,
            open_files: 0,
        })
    }
}

/// Where a server lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'a> {
    pub(crate) data: &'a Path,
    pub(crate) database: &'a str,
    /// Its number among several nodes, and where all of them have their pictures.
    pub(crate) node: Option<(u32, &'a Path)>,
}

/// A running server, ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    /// From its start until it said that it is ready.
    pub(crate) ready_seconds: f64,
}

impl Process {
    /// Starts `serve` and waits until it is ready.
    pub(crate) async fn start(binary: &Path, seat: Seat<'_>) -> Result<Self> {
        let mut command = Command::new(binary);
        // Nothing of this machine's settings; a generator is one address and one owner.
        command
            .env_clear()
            // Longer runs than anybody's horde finishes requests in; older programs do not know it.
            .env("ORDU_MAX_REQUESTS", "100000000")
            .args(["serve", "--listen", "127.0.0.1:0"]);
        command
            .arg("--data")
            .arg(seat.data)
            .args(["--database", seat.database]);
        if let Some((number, pictures)) = seat.node {
            let pictures = format!("file://{}", pictures.display());
            command.args(["--blobs", &pictures, "--shared-blobs", "--node"]);
            command.arg(format!("bench-{number}"));
        }
        command.args(["--no-rate-limits", "--owner-workers-trusted", "100000"]);
        command.args(["--address-workers-trusted", "100000"]);
        let begun = Instant::now();
        let child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot start `{}`", binary.display()))?;
        let mut process = Self {
            child,
            url: String::new(),
            ready_seconds: 0.0,
        };
        let output = process.child.stdout.take();
        let output = output.context("the server's output is ours")?;
        let ready = tokio::task::spawn_blocking(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let mut ready = lines.filter_map(|line| line.strip_prefix(READY).map(str::to_owned));
            ready.next()
        });
        let ready = timeout(PATIENCE, ready)
            .await
            .context("the server does not start")??;
        process.url = ready.context("the server ended instead of starting")?;
        process.ready_seconds = begun.elapsed().as_secs_f64();
        Ok(process)
    }

    pub(crate) fn usage(&self) -> Option<Usage> {
        Usage::of(&self.child.id().to_string())
    }
}

impl Drop for Process {
    /// At once, as a power cut would: nothing of it is needed any more, or the next start is what is measured.
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_as_the_system_writes_it() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1 1 1";
        let status = "Name:\tordu\nVmHWM:\t   30720 kB\nVmRSS:\t   20480 kB\n";
        let usage = Usage::read(stat, status).unwrap();
        assert!((usage.cpu_seconds - 2.0).abs() < 1e-9);
        assert!((usage.resident_mib - 20.0).abs() < 1e-9);
        assert!((usage.peak_mib - 30.0).abs() < 1e-9);
        assert_eq!(Usage::read("", status), None);
        assert_eq!(Usage::read(stat, "Name:\tordu\n"), None);
    }
}
