//! `ordu doctor` finds what was broken on purpose, and says nothing of what was not.

mod faults;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ordu_api::worker::WorkKind;
use ordu_core::{Millis, Timestamp};
use ordu_server::Clock;
use ordu_store::testing::{Schema, run_in_file};
use ordu_store::{DatabaseUrl, Load, Options, Store};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Running, ordu, run, text};
use crate::relay::{self, Manner};

/// A row of a program that is to come.
const FROM_THE_FUTURE: &str = "INSERT INTO _sqlx_migrations
    (version, description, success, checksum, execution_time)
    VALUES (9000, 'from the future', TRUE, 'x', 0)";

/// Nobody, as most systems count users.
const NOBODY: u32 = 65_534;

/// The findings of `doctor` by name and level, and all that was printed.
struct Told {
    findings: Vec<(String, String)>,
    all: String,
    code: Option<i32>,
}

impl Told {
    fn read(output: &Output) -> Self {
        let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect(&all);
        let findings = report["findings"].as_array().unwrap().iter();
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        for finding in findings.clone() {
            let is_bad = matches!(finding["level"].as_str(), Some("warning" | "wrong"));
            assert_eq!(finding["mend"].is_string(), is_bad, "{finding}");
        }
        let findings = findings.map(|it| (text(it, "check"), text(it, "level")));
        Self {
            findings: findings.collect(),
            code: output.status.code(),
            all,
        }
    }

    fn has(&self, check: &str, level: &str) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|(name, found)| name == check && found == level)
    }

    /// This is wrong, and nothing else, but how many files may be open depends on who runs the tests.
    fn only_wrong(&self, check: &str) {
        assert_eq!(self.code, Some(1), "{}", self.all);
        let wrong = self.findings.iter().filter(|(_, level)| level == "wrong");
        let wrong: Vec<_> = wrong.map(|(name, _)| name.as_str()).collect();
        assert!(
            wrong.contains(&check) && wrong.iter().all(|name| [check, "files"].contains(name)),
            "`{check}` should be wrong: {}",
            self.all
        );
    }
}

/// A folder in which a server was.
fn served() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["serve"]);
    assert_eq!(server.terminate(), Some(0));
    folder
}

fn doctor(folder: &Path, arguments: &[&str]) -> Told {
    let usual = [
        "doctor",
        "--json",
        "--data",
        "data",
        "--listen",
        "127.0.0.1:0",
    ];
    Told::read(&run(folder, &[&usual, arguments].concat()))
}

#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests have no configuration and say what they skip"
)]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert!(std::env::var("ORDU_TEST_NO_SKIP").is_err(), "{why}");
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(future)
}

#[test]
fn a_server_that_runs_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let before = doctor(folder.path(), &[]);
    assert!(before.has("data", "untried") && before.has("database", "untried"));
    assert!(!folder.path().join("data").exists());

    let server = Running::start(folder.path(), &["serve"]);
    let told = doctor(folder.path(), &[]);
    for check in [
        "data", "disk", "secrets", "port", "database", "schema", "clock", "blobs", "links",
        "proxy", "streams",
    ] {
        assert!(
            told.has(check, "fine") || (check == "disk" && told.has(check, "warning")),
            "{check}: {}",
            told.all
        );
    }
    let words = run(folder.path(), &["doctor", "--data", "data"]);
    assert!(
        text(&words.stdout).contains("fine     blobs"),
        "{}",
        text(&words.stdout)
    );
    assert_eq!(server.terminate(), Some(0));
    let left = fs::read_dir(folder.path().join("data")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "doctor.probe"));
    let pictures = fs::read_dir(folder.path().join("data/blobs")).unwrap();
    let mut pictures = pictures.map(|entry| entry.unwrap().file_name());
    assert!(pictures.all(|name| name == "ordu-probe"));
}

#[test]
fn faults_of_the_database_are_found() {
    let folder = served();
    let at = |arguments: &[&str]| doctor(folder.path(), arguments);
    at(&["--database", "postgres://127.0.0.1:1/none"]).only_wrong("database");
    at(&["--database", "mysql://127.0.0.1/none"]).only_wrong("database");
    let file = folder.path().join("data/ordu.db");
    let read_only = format!("sqlite://{}?mode=ro", file.display());
    at(&["--database", &read_only]).only_wrong("writes");
    fs::write(folder.path().join("broken.db"), "this is no database").unwrap();
    let broken = format!("sqlite://{}", folder.path().join("broken.db").display());
    at(&["--database", &broken]).only_wrong("database");
    blocking(run_in_file(&file, FROM_THE_FUTURE)).unwrap();
    at(&[]).only_wrong("schema");
}

#[test]
fn a_clock_that_was_put_back_is_found() {
    let folder = served();
    let file = folder.path().join("data/ordu.db");
    let url: DatabaseUrl = format!("sqlite://{}", file.display()).parse().unwrap();
    blocking(async {
        let now = Clock::System.now() + Millis::from_minutes(60);
        let store = Store::open(&url, &Options::default(), now).await.unwrap();
        sample(&store, now).await;
        store.close().await;
    });
    doctor(folder.path(), &[]).only_wrong("clock");
}

async fn sample(store: &Store, now: Timestamp) {
    let load = Load {
        kind: WorkKind::Image,
        queued: 0,
        workers: 0,
    };
    store.sample_load(&[load], now).await.unwrap();
}

#[test]
fn faults_of_postgresql_are_found() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test database comes by an environment variable"
    )]
    let Ok(address) = std::env::var("ORDU_TEST_POSTGRES") else {
        return skipped("ORDU_TEST_POSTGRES names no database");
    };
    let folder = served();
    blocking(async {
        let schema = Schema::create(&address).await.unwrap();
        let url: DatabaseUrl = schema.url().parse().unwrap();
        let now = Clock::System.now();
        Store::open(&url, &Options::default(), now)
            .await
            .unwrap()
            .close()
            .await;
        let at = |url: &str| doctor(folder.path(), &["--database", url]);
        let told = at(&schema.url());
        for check in ["schema", "clock"] {
            assert!(told.has(check, "fine"), "{check}: {}", told.all);
        }
        // A machine with much else to do makes both slow, and that is said.
        for check in ["database", "writes"] {
            let is_well = told.has(check, "fine") || told.has(check, "warning");
            assert!(is_well, "{check}: {}", told.all);
        }
        at(&format!(
            "{}&options[default_transaction_read_only]=on",
            schema.url()
        ))
        .only_wrong("writes");
        let told = at(&slowed(&schema.url()));
        assert!(told.has("database", "warning"), "{}", told.all);
        assert!(told.all.contains("cost 1 each"), "{}", told.all);
        let store = Store::open(&url, &Options::default(), now).await.unwrap();
        sample(&store, now + Millis::from_minutes(60)).await;
        store.close().await;
        at(&schema.url()).only_wrong("clock");
        schema.run("DELETE FROM loads").await.unwrap();
        schema.run(FROM_THE_FUTURE).await.unwrap();
        at(&schema.url()).only_wrong("schema");
        schema.drop_schema().await.unwrap();
    });
}

/// The same database, milliseconds away.
fn slowed(url: &str) -> String {
    let mut url: url::Url = url.parse().unwrap();
    let target = (url.host_str().unwrap(), url.port().unwrap_or(5432));
    let target = std::net::ToSocketAddrs::to_socket_addrs(&target)
        .unwrap()
        .next()
        .unwrap();
    let relay = relay::start(target, Manner::Slow(Duration::from_millis(4)));
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(relay.port())).unwrap();
    url.into()
}

#[test]
fn a_full_disk_is_found() {
    let folder = served();
    let script = "mount -t tmpfs -o size=16m none full && cp -r data full/data \
        && { head -c 20000000 /dev/zero > full/filler; true; } 2>/dev/null \
        && cd full && exec \"$0\" doctor --json --data data --listen 127.0.0.1:0";
    fs::create_dir(folder.path().join("full")).unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_ordu"))
        .current_dir(folder.path())
        .output();
    match output {
        Ok(output) if !output.stdout.is_empty() => {
            let told = Told::read(&output);
            assert!(
                told.has("disk", "wrong") && told.code == Some(1),
                "{}",
                told.all
            );
        }
        Ok(output) => println!(
            "skipped: no file system of its own: {}",
            text(&output.stderr)
        ),
        Err(error) => println!("skipped: `unshare` cannot be run: {error}"),
    }
}

#[test]
fn wrong_permissions_are_found() {
    let folder = served();
    let data = folder.path().join("data");
    let secret = data.join("secret.key");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    doctor(folder.path(), &[]).only_wrong("secrets");
    fs::remove_file(&secret).unwrap();
    doctor(folder.path(), &[]).only_wrong("secrets");

    let folder = served();
    let data = folder.path().join("data");
    let arguments = [
        "doctor",
        "--json",
        "--data",
        "data",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut command = ordu(folder.path());
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(data.join("probe"), "").is_ok() {
        // Who may do everything is told about nothing: then it is somebody else who looks, with a
        // program of theirs, since a build may lie in a folder that only its owner may enter.
        let theirs = folder.path().join("ordu");
        fs::copy(command.get_program(), &theirs).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command = Command::new(theirs);
        command.current_dir(folder.path()).env_clear();
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(arguments);
    let told = Told::read(&command.output().unwrap());
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(told.has("data", "wrong"), "{}", told.all);
}

#[test]
fn too_few_files_and_a_taken_port_are_found() {
    let folder = served();
    let script = "ulimit -n 200; exec \"$0\" doctor --json --data data --listen 127.0.0.1:0";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_ordu")]);
    let told = Told::read(&command.current_dir(folder.path()).output().unwrap());
    told.only_wrong("files");
    assert!(told.has("files", "wrong"));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["doctor", "--json", "--data", "data", "--listen", &address];
    Told::read(&run(folder.path(), &arguments)).only_wrong("port");
}

#[test]
fn pictures_that_cannot_be_kept_or_reached_are_found() {
    let folder = served();
    let bucket = "s3://pictures?endpoint=http://127.0.0.1:1&access_key_id=a&secret_access_key=b";
    doctor(folder.path(), &["--blobs", bucket]).only_wrong("blobs");
    let told = doctor(folder.path(), &["--public-url", "http://127.0.0.1:1"]);
    assert!(
        told.has("links", "wrong") && told.has("proxy", "wrong"),
        "{}",
        told.all
    );
    let blobs = folder.path().join("data/blobs");
    fs::remove_dir_all(&blobs).unwrap();
    fs::write(&blobs, "in the way").unwrap();
    let in_the_way = format!("file://{}", blobs.display());
    doctor(folder.path(), &["--blobs", &in_the_way]).only_wrong("blobs");
}

#[test]
fn what_a_proxy_does_wrong_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = ["serve", "--trusted-proxy", "127.0.0.1"];
    let server = Running::start(folder.path(), &trusting);
    let target: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    let through = |manner| {
        let url = format!("http://{}", relay::start(target, manner));
        doctor(folder.path(), &["--public-url", &url])
    };
    through(Manner::Edits(str::to_owned)).only_wrong("proxy");
    through(Manner::Edits(without_forwarded)).only_wrong("proxy");
    let appends = through(Manner::Edits(with_client));
    assert!(appends.has("proxy", "fine"), "{}", appends.all);
    let small = through(Manner::Refuses(1 << 20));
    assert!(
        small.has("links", "wrong") && small.all.contains("413"),
        "{}",
        small.all
    );
    drop(server);

    let other = tempfile::tempdir().unwrap();
    let server = Running::start(other.path(), &["serve"]);
    let target: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    let url = format!(
        "http://{}",
        relay::start(target, Manner::Edits(with_client))
    );
    let untrusted = doctor(other.path(), &["--public-url", &url]);
    untrusted.only_wrong("proxy");
    assert!(
        untrusted.all.contains("--trusted-proxy 127.0.0.1"),
        "{}",
        untrusted.all
    );
    // Another horde's secret is no key to this one.
    let stranger = doctor(served().path(), &["--public-url", &server.url]);
    assert!(stranger.has("proxy", "wrong"), "{}", stranger.all);
}

fn without_forwarded(fields: &str) -> String {
    let lines = fields.split_inclusive("\r\n");
    let kept = lines.filter(|line| !line.to_lowercase().starts_with("x-forwarded-for:"));
    kept.collect()
}

fn with_client(fields: &str) -> String {
    format!(
        "x-forwarded-for: 203.0.113.77, 192.0.2.1\r\n{}",
        without_forwarded(fields)
    )
}

#[test]
fn a_worker_is_looked_at_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["up", "--no-worker"]);
    let worker = |arguments: &[&str]| {
        let usual = ["doctor", "work", "--json", "--data", "data"];
        Told::read(&run(folder.path(), &[&usual, arguments].concat()))
    };
    let told = worker(&["--dreamer"]);
    for check in ["horde", "key", "clock", "engine"] {
        assert!(told.has(check, "fine"), "{check}: {}", told.all);
    }
    worker(&["--scribe", "--engine", "kobold=http://127.0.0.1:1"]).only_wrong("engine");
    worker(&["--engine", "comfyui=http://127.0.0.1:1"]).only_wrong("engine");
    worker(&["--dreamer", "--horde", "http://127.0.0.1:1"]).only_wrong("horde");
    worker(&["--dreamer", "--api-key", "nobody's"]).only_wrong("key");

    let models = folder.path().join("models");
    fs::create_dir(&models).unwrap();
    fs::write(models.join("torn.safetensors"), [9; 100]).unwrap();
    worker(&["--dreamer", "--models-dir", "models"]).only_wrong("models");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    worker(&["--dreamer", "--metrics", &address]).only_wrong("port");
    assert_eq!(server.terminate(), Some(0));
}
