//! A PostgreSQL of our own, which may be killed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use url::Url;

/// How often it is looked at, a tenth of a second apart, until it must be back.
const TRIES: usize = 300;

/// How often in a row it must be ready.
const READY: usize = 3;

/// Whether there is one on this machine; a skip is told.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
pub(crate) fn is_here() -> bool {
    let is_here = std::env::var("ORDU_TEST_POSTGRES").is_ok();
    if !is_here {
        assert!(
            std::env::var("ORDU_TEST_NO_SKIP").is_err(),
            "ORDU_TEST_POSTGRES is not set and skipping is forbidden"
        );
        eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
    }
    is_here
}

/// A cluster in a folder.
#[derive(Debug)]
pub(crate) struct Postgres {
    folder: PathBuf,
    pub(crate) url: Url,
}

impl Postgres {
    pub(crate) fn start(folder: &Path) -> Self {
        let url = script("start", folder);
        Self {
            folder: folder.to_owned(),
            url,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.url.port().unwrap()))
    }

    /// Ends every process of it at once, as a power cut would.
    pub(crate) fn kill(&self) {
        let Some(postmaster) = self.postmaster() else {
            return;
        };
        // The children first: a new postmaster waits until the last one is gone.
        let mut processes = children(postmaster);
        processes.insert(0, postmaster);
        let ids = processes.iter().map(ToString::to_string);
        // Some may have ended by themselves.
        Command::new("kill")
            .arg("-KILL")
            .args(ids)
            .output()
            .unwrap();
    }

    /// Starts it again, maybe on another port, and waits until it stays.
    pub(crate) fn revive(&mut self) {
        let mut seen_ready = 0;
        for _ in 0..TRIES {
            match self.state().as_deref() {
                Some("ready") => seen_ready += 1,
                // On its way up or down.
                Some(_) => seen_ready = 0,
                None => {
                    seen_ready = 0;
                    self.url = script("start", &self.folder);
                }
            }
            // One that could not write may say so for a moment before it ends.
            if seen_ready == READY {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("PostgreSQL did not come back");
    }

    fn lock_file(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("postgres/data/postmaster.pid")).ok()
    }

    fn postmaster(&self) -> Option<u32> {
        let file = self.lock_file()?;
        let id = file.lines().next()?.parse().ok()?;
        let [state, _] = state_and_parent(id)?;
        // One that nobody has buried yet has ended, too.
        (state != "Z").then_some(id)
    }

    /// What it says of itself; `None` when it is gone.
    fn state(&self) -> Option<String> {
        self.postmaster()?;
        let file = self.lock_file()?;
        Some(file.lines().nth(7).unwrap_or_default().trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        Command::new("bash")
            .arg(path())
            .arg("stop")
            .arg(&self.folder)
            .output()
            .ok();
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/postgres.sh")
}

fn script(verb: &str, folder: &Path) -> Url {
    // Its server would keep a pipe open for ever.
    let output = folder.join("url");
    let status = Command::new("bash")
        .arg(path())
        .arg(verb)
        .arg(folder)
        .stdout(fs::File::create(&output).unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "PostgreSQL did not start");
    fs::read_to_string(output).unwrap().trim().parse().unwrap()
}

/// The processes that this one started, by what the system says.
fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let is_child = |[_, of]: [String; 2]| of == parent.to_string();
        if state_and_parent(id).is_some_and(is_child) {
            found.push(id);
        }
    }
    found
}

/// What the system says of a process: how it is, and who started it.
fn state_and_parent(id: u32) -> Option<[String; 2]> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some([fields.next()?, fields.next()?])
}
