//! The servers, the database between them, and the clock they go by.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::disk::Disk;
use super::link::Link;
use super::load::{Given, People};
use super::postgres::Postgres;
use super::record::Heard;
use crate::program::{Running, ordu};

/// Room for the rows of a run, and quickly filled.
const DISK_MEBIBYTES: u32 = 400;

/// Where Debian keeps the library that lets a process see another time.
pub(crate) const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// What to start.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// PostgreSQL instead of SQLite.
    pub(crate) postgres: bool,
    /// Two nodes instead of one server.
    pub(crate) two: bool,
    /// The usual number of connections, instead of fewer than a crowd takes.
    pub(crate) roomy: bool,
    /// What is to go wrong with every so manieth write; for builds that can.
    pub(crate) plant: Option<(&'static str, u32)>,
}

/// A horde with everything that can be broken.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) disk: Disk,
    pub(crate) clock: Option<PathBuf>,
    folder: TempDir,
    roomy: bool,
    plant: Option<(&'static str, u32)>,
}

struct Node {
    port: u16,
    server: Option<Running>,
    link: Option<Link>,
}

impl Cluster {
    pub(crate) fn start(options: &Options, runtime: &Runtime) -> Self {
        let disk = Disk::new(DISK_MEBIBYTES);
        let folder = tempfile::tempdir().unwrap();
        let postgres = options.postgres.then(|| Postgres::start(disk.path()));
        let clock = Path::new(FAKETIME)
            .exists()
            .then(|| folder.path().join("clock"));
        match &clock {
            Some(clock) => fs::write(clock, "+0").unwrap(),
            None => skip_clock(),
        }
        let count = if options.two { 2 } else { 1 };
        let node = |_| Node {
            port: free_port(),
            server: None,
            link: postgres
                .as_ref()
                .map(|postgres| runtime.block_on(Link::lead_to(postgres.address()))),
        };
        let nodes = (0..count).map(node).collect();
        let mut cluster = Self {
            nodes,
            postgres,
            disk,
            clock,
            folder,
            roomy: options.roomy,
            plant: options.plant,
        };
        cluster.revive();
        cluster
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        let url = |node: &Node| format!("http://127.0.0.1:{}", node.port);
        self.nodes.iter().map(url).collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.nodes[0].port))
    }

    /// The database as it is, not through the links.
    pub(crate) fn database_url(&self) -> String {
        match &self.postgres {
            Some(postgres) => postgres.url.to_string(),
            None => format!(
                "sqlite://{}",
                self.disk.path().join("data/ordu.db").display()
            ),
        }
    }

    /// The ways of the nodes to the database.
    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.nodes.iter().filter_map(|node| node.link.as_ref())
    }

    /// Ends a node at once.
    pub(crate) fn kill(&mut self, place: usize) {
        if let Some(server) = self.nodes[place].server.take() {
            server.kill();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Starts every node that is down.
    pub(crate) fn revive(&mut self) {
        for place in 0..self.nodes.len() {
            if self.nodes[place].server.is_none() {
                let command = self.command(place);
                let node = &mut self.nodes[place];
                let listen = format!("127.0.0.1:{}", node.port);
                node.server = Some(Running::start_command(command, &listen));
            }
        }
    }

    fn command(&self, place: usize) -> Command {
        let node = &self.nodes[place];
        let home = if self.nodes.len() == 1 {
            self.disk.path().to_owned()
        } else {
            self.disk.path().join(format!("node-{place}"))
        };
        fs::create_dir_all(&home).unwrap();
        let mut command = ordu(&home);
        command.args(["serve", "--no-rate-limits"]);
        if !self.roomy {
            // It is shown the door before others give up.
            command.args(["--max-connections", "150", "--client-timeout", "2"]);
        }
        command.env("ORDU_TEST_APIKEYS", "1");
        if self.nodes.len() > 1 {
            let pictures = format!("file://{}", self.disk.path().join("pictures").display());
            command.args(["--blobs", &pictures, "--shared-blobs"]);
            command.args(["--secret-key", "of all nodes", "--node"]);
            command.arg(format!("node-{place}"));
        }
        if let (Some(link), Some(postgres)) = (&node.link, &self.postgres) {
            let mut url = postgres.url.clone();
            url.set_port(Some(link.port)).unwrap();
            command.arg("--database").arg(url.as_str());
        }
        if let Some(clock) = &self.clock {
            command.env("LD_PRELOAD", FAKETIME);
            command.env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_CACHE_DURATION", "1");
            command.env("DONT_FAKE_MONOTONIC", "1");
        }
        if let Some((plant, every)) = self.plant {
            command.env("ORDU_CHAOS_PLANT", plant);
            command.env("ORDU_CHAOS_EVERY", every.to_string());
        }
        let log = self.folder.path().join(format!("node-{}.log", node.port));
        let log = fs::OpenOptions::new().create(true).append(true).open(log);
        command.stderr(log.unwrap());
        command
    }

    /// Waits until another node than this one leads.
    pub(crate) async fn led_without(&self, lost: usize, limit: Duration) -> Result<(), String> {
        let client = reqwest::Client::new();
        let started = Instant::now();
        loop {
            for (place, url) in self.urls().iter().enumerate() {
                let ready = client.get(format!("{url}/readyz")).send().await;
                let Ok(ready) = ready else {
                    continue;
                };
                let facts: Value = ready.json().await.unwrap_or_default();
                if place != lost && facts["nodes"]["leads"] == true {
                    return Ok(());
                }
            }
            if started.elapsed() > limit {
                return Err(format!("nobody leads {limit:?} after a node was lost"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets the servers see a time that is so many seconds from now, if they can.
    pub(crate) fn set_clock(&self, seconds: i64) {
        if let Some(clock) = &self.clock {
            fs::write(clock, format!("{seconds:+}")).unwrap();
        }
    }

    /// Leads every node to the database where it is now.
    pub(crate) fn reconnect(&self) {
        if let Some(postgres) = &self.postgres {
            for link in self.links() {
                link.redirect(postgres.address());
            }
        }
    }

    /// Waits until every node is ready and takes writes.
    pub(crate) async fn recovered(
        &self,
        people: &People,
        limit: Duration,
    ) -> Result<Vec<Heard>, String> {
        let client = reqwest::Client::new();
        let started = Instant::now();
        let mut heard = Vec::new();
        for url in self.urls() {
            loop {
                let said = match people.give(&client, &url).await {
                    Given::Thanks => {
                        heard.push(Heard::Gift { acknowledged: true });
                        let ready = client.get(format!("{url}/readyz")).send().await;
                        if ready.is_ok_and(|ready| ready.status().is_success()) {
                            break;
                        }
                        "it takes writes and is not ready".to_owned()
                    }
                    Given::Silence(said) => {
                        heard.push(Heard::Gift {
                            acknowledged: false,
                        });
                        said
                    }
                    Given::Refused(said) | Given::Breach(said) => said,
                };
                if started.elapsed() > limit {
                    return Err(format!("not recovered {limit:?} after the fault: {said}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(heard)
    }

    /// Ends every node as an operator would.
    pub(crate) fn stop(&mut self) {
        for node in &mut self.nodes {
            if let Some(server) = node.server.take() {
                server.terminate();
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn skip_clock() {
    assert!(
        std::env::var("ORDU_TEST_NO_SKIP").is_err(),
        "{FAKETIME} is missing (Debian package `libfaketime`) and skipping is forbidden"
    );
    eprintln!(
        "SKIPPED: jumps of the clock, because {FAKETIME} is missing (Debian package `libfaketime`)"
    );
}

/// A port that was free a moment ago: a node keeps it over its lives.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
