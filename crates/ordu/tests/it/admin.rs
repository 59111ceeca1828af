//! `ordu admin` on a data folder: with a server that runs, and without one.

use std::path::Path;

use insta::assert_json_snapshot;
use ordu_api::image::ImagePop;
use ordu_api::worker::WorkKind;
use ordu_api::{ApiKey, UserId};
use ordu_client::Horde;
use ordu_core::Timestamp;
use ordu_store::testing::Schema;
use ordu_store::{NewStyle, Options, Store};
use serde_json::{Value, json};

use crate::program::{Running, run, run_json, text};

const DATA: &[&str] = &["--data", "data"];

fn admin(folder: &Path, arguments: &[&str]) -> Value {
    run_json(folder, &[&["admin"], arguments, DATA, &["--json"]].concat())
}

/// What a command says that ends with this code.
fn fails(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let output = run(folder, &[&["admin"], arguments].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// Lets a worker come in.
fn pop(url: &str, key: &str) {
    let horde = Horde::new(url, ApiKey::new(key), "tests:1:here").unwrap();
    let pop = ImagePop {
        name: "Painter".to_owned(),
        models: vec!["ordu-tiny".to_owned()],
        bridge_agent: "AI Horde Worker reGen:14.0.0:here".to_owned(),
        ..ImagePop::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(horde.pop_image(&pop)).unwrap();
}

#[test]
fn users_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    admin(folder, &["user", "add", "--name", "first", "--kudos", "7"]);
    admin(
        folder,
        &[
            "user",
            "add",
            "--name",
            "rich",
            "--kudos",
            "900",
            "--moderator",
        ],
    );
    assert_json_snapshot!("users", admin(folder, &["user", "list"]));
    let output = run(
        folder,
        &[&["admin", "user", "list", "--sort", "age"], DATA].concat(),
    );
    insta::assert_snapshot!("users_as_text", text(&output.stdout));
    let second = admin(folder, &["user", "list", "--page", "2"]);
    assert_eq!(second, json!([]));
    fails(folder, 1, &["user", "new-key", "0", "--data", "data"]);
    fails(
        folder,
        1,
        &["user", "set", "0", "--trusted", "true", "--data", "data"],
    );
    fails(folder, 2, &["user", "list", "--page", "0"]);
}

#[test]
fn workers_are_paused_kept_back_and_deleted_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let owner = admin(folder, &["user", "add", "--name", "owner", "--trusted"]);
    let server = Running::start(folder, &["serve"]);
    pop(&server.url, owner["api_key"].as_str().unwrap());
    let redacted = |value: Value, name: &str| {
        assert_json_snapshot!(name, value, {
            ".id" => "<id>", ".created" => "<time>", ".last_check_in" => "<time>", ".uptime" => "<seconds>",
        });
    };
    redacted(admin(folder, &["worker", "show", "Painter"]), "worker");
    let id = admin(folder, &["worker", "list", "--user", "owner#1"])[0]["id"].clone();
    let id = id.as_str().unwrap();
    assert_eq!(admin(folder, &["worker", "pause", id])["paused"], true);
    assert_eq!(
        admin(folder, &["worker", "pause", id, "--off"])["paused"],
        false
    );
    let kept = admin(
        folder,
        &["worker", "maintenance", "Painter", "--reason", "new fans"],
    );
    assert_eq!(kept["maintenance_message"], "new fans");
    let freed = admin(folder, &["worker", "maintenance", "Painter", "--off"]);
    assert_eq!(freed["maintenance"], false);
    let deleted = admin(folder, &["worker", "delete", "Painter"]);
    assert_eq!(
        (&deleted["deleted_id"], &deleted["deleted_name"]),
        (&json!(id), &json!("Painter"))
    );
    let missing = fails(folder, 1, &["worker", "show", "Painter", "--data", "data"]);
    assert!(
        missing.contains("there is no worker `Painter`"),
        "{missing}"
    );
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn filters_are_made_tried_changed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = admin(
        folder,
        &[
            "filter",
            "add",
            "bad(ger)?s",
            "--type",
            "10",
            "--replacement",
            "hens",
            "--description",
            "no beasts",
        ],
    );
    assert_json_snapshot!("filter", made);
    assert_eq!(
        admin(folder, &["filter", "add", "bad(ger)?s", "--type", "10"]),
        made
    );
    assert_json_snapshot!(
        "filter_verdict",
        admin(folder, &["filter", "test", "many badgers"])
    );
    let changed = admin(folder, &["filter", "change", "1", "--regex", "ducks"]);
    assert_eq!(
        (&changed["regex"], &changed["replacement"]),
        (&json!("ducks"), &json!("hens"))
    );
    let verdict = admin(folder, &["filter", "test", "many badgers"]);
    assert_eq!(verdict["suspicion"], 0);
    assert_eq!(
        admin(folder, &["filter", "list", "--type", "20"]),
        json!([])
    );
    let wrong = fails(
        folder,
        1,
        &["filter", "add", "(", "--type", "10", "--data", "data"],
    );
    assert!(wrong.contains("`(`"), "{wrong}");
    fails(folder, 2, &["filter", "add", "a", "--type", "9"]);
    fails(folder, 1, &["filter", "change", "1", "--data", "data"]);
    assert_eq!(admin(folder, &["filter", "remove", "1"])["deleted_id"], 1);
    fails(folder, 1, &["filter", "remove", "1", "--data", "data"]);
}

#[test]
fn addresses_are_shut_out_and_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let block = admin(folder, &["ip", "block", "192.0.2.77/24", "--hours", "2"]);
    assert_eq!(
        (&block["ipaddr"], &block["kind"]),
        (&json!("192.0.2.0/24"), &json!("block"))
    );
    admin(folder, &["ip", "block", "2001:db8::1"]);
    assert_json_snapshot!("addresses", admin(folder, &["ip", "list"]), { "[].seconds" => "<seconds>" });
    let freed = admin(folder, &["ip", "free", "192.0.2.0/24"]);
    assert_eq!(freed["freed"], json!(["192.0.2.0/24"]));
    let left = admin(folder, &["ip", "list"]);
    assert_eq!(left.as_array().unwrap().len(), 1);
    let wrong = fails(folder, 1, &["ip", "block", "nowhere", "--data", "data"]);
    assert!(wrong.contains("`nowhere` is neither"), "{wrong}");
}

#[test]
fn a_running_horde_is_backed_up_and_restored_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let user = admin(folder, &["user", "add", "--name", "first", "--kudos", "7"]);
    let key = user["api_key"].as_str().unwrap();
    let server = Running::start(folder, &["serve"]);
    let made = admin(folder, &["backup", "plain"]);
    assert_json_snapshot!("backup", made, { ".rows" => "<rows>" });
    let again = fails(folder, 1, &["backup", "plain", "--data", "data"]);
    assert!(again.contains("`plain`"), "{again}");
    admin(folder, &["backup", "whole", "--with-secret"]);
    let served = fails(folder, 1, &["restore", "whole", "--data", "data"]);
    assert!(served.contains("a server serves"), "{served}");
    assert_eq!(server.terminate(), Some(0));

    let without = fails(folder, 1, &["restore", "plain", "--data", "elsewhere"]);
    assert!(without.contains("secret.key"), "{without}");
    let wrong = [
        "restore",
        "plain",
        "--data",
        "elsewhere",
        "--secret-key",
        "guessed",
    ];
    let wrong = fails(folder, 1, &wrong);
    assert!(wrong.contains("salted with another secret"), "{wrong}");
    let restored = run_json(
        folder,
        &["admin", "restore", "whole", "--data", "elsewhere", "--json"],
    );
    assert_eq!(restored["rows"], made["rows"]);
    let full = fails(folder, 1, &["restore", "whole", "--data", "elsewhere"]);
    assert!(full.contains("not empty"), "{full}");

    std::fs::rename(folder.join("data"), folder.join("lost")).unwrap();
    std::fs::rename(folder.join("elsewhere"), folder.join("data")).unwrap();
    let server = Running::start(folder, &["serve"]);
    pop(&server.url, key);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn styles_are_listed_shown_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    admin(folder, &["user", "add", "--name", "maker"]);
    let url = format!("sqlite://{}", folder.join("data/ordu.db").display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = url.parse().unwrap();
        let now = Timestamp(1_700_000_000_000);
        let store = Store::open(&url, &Options::default(), now).await.unwrap();
        store.insert_style(&style(now)).await.unwrap();
        store.close().await;
    });
    let shown = admin(folder, &["style", "show", "maker#1::style::etching"]);
    assert_json_snapshot!("style", shown);
    let output = run(folder, &[&["admin", "style", "list"], DATA].concat());
    insta::assert_snapshot!("styles_as_text", text(&output.stdout));
    assert_eq!(
        admin(folder, &["style", "list", "--kind", "text"]),
        json!([])
    );
    let theirs = admin(folder, &["style", "list", "--user", "0"]);
    assert_eq!(theirs, json!([]));
    let collection = ["style", "show", "collection::etching", "--data", "data"];
    assert!(fails(folder, 1, &collection).contains("names a collection"));
    let removed = admin(folder, &["style", "remove", STYLE]);
    assert_eq!(removed["deleted_name"], "etching");
    fails(folder, 1, &["style", "remove", STYLE, "--data", "data"]);
}

const STYLE: &str = "00000000-0000-4000-8000-000000000001";

fn style(created: Timestamp) -> NewStyle {
    NewStyle {
        id: STYLE.parse().unwrap(),
        owner: UserId::new(1).unwrap(),
        kind: WorkKind::Image,
        name: "etching".to_owned(),
        info: "fine lines".to_owned(),
        prompt: "{p}, etching{np}".to_owned(),
        params: r#"{"steps":8}"#.to_owned(),
        models: vec!["ordu-tiny".to_owned()],
        tags: vec!["old".to_owned(), "fine".to_owned()],
        public: true,
        nsfw: false,
        shared_key: None,
        created,
    }
}

#[test]
fn an_import_prints_what_it_did() {
    let Some(address) = postgres() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let old = runtime.block_on(async {
        let old = Schema::create(&address).await.unwrap();
        old.run(&format!("{OLD_LAYOUT} {OLD_ROWS}")).await.unwrap();
        old
    });
    let url = old.url();
    let import = ["admin", "import", "aihorde", &url, "--data", "data"];
    let import = [&import[..], &["--secret-key", "old secret"]].concat();
    let dry = run_json(folder, &[&import[..], &["--dry-run", "--json"]].concat());
    assert_eq!(dry["dry_run"], true);
    assert!(
        admin(folder, &["worker", "list"])
            .as_array()
            .unwrap()
            .is_empty()
    );
    std::fs::remove_dir_all(folder.join("data")).unwrap();
    let done = run_json(folder, &[&import[..], &["--json"]].concat());
    assert_eq!(done["tables"], dry["tables"]);
    assert_eq!(done["tables"][0]["imported"], 301);
    let output = run(folder, &import);
    // Columns are as wide as what is in them.
    let lines = text(&output.stdout);
    let lines = lines
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let said: String = lines.map(|words| words.join(" ") + "\n").collect();
    for line in [
        "users 301 0 301 0\n",
        "styles: style 40 (00000000-0000-4000-e000-000000000040) skipped: its parameters",
        "workers: Odd 2 (00000000-0000-4000-b000-000000000002) skipped: it belongs to nobody",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    runtime.block_on(old.drop_schema()).unwrap();

    let server = Running::start(folder, &["serve"]);
    pop(&server.url, "key-of-150");
    assert_eq!(
        server.terminate(),
        Some(0),
        "the folder remembers the old secret"
    );
}

const OLD_LAYOUT: &str = include_str!("../../../ordu-store/tests/data/aihorde.sql");
const OLD_ROWS: &str = include_str!("../../../ordu-store/tests/data/aihorde-rows.sql");

/// A PostgreSQL server to make old databases in.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests have no configuration and say what they skip"
)]
fn postgres() -> Option<String> {
    let address = std::env::var("ORDU_TEST_POSTGRES").ok();
    if address.is_none() {
        assert!(
            std::env::var("ORDU_TEST_NO_SKIP").is_err(),
            "ORDU_TEST_POSTGRES is not set"
        );
        eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
    }
    address
}

#[test]
fn an_import_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let import = [
        "import",
        "aihorde",
        "postgres://127.0.0.1:1/old",
        "--data",
        "data",
    ];
    let said = fails(folder, 1, &import);
    assert!(said.contains("`--secret-key`"), "{said}");
    let said = fails(folder, 1, &[&import[..], &["--secret-key", "s"]].concat());
    assert!(said.contains("the old database cannot be read"), "{said}");
    let wrong = [
        "import",
        "aihorde",
        "mysql://old",
        "--data",
        "data",
        "--secret-key",
        "s",
    ];
    let said = fails(folder, 1, &wrong);
    assert!(said.contains("postgres:"), "{said}");
    fails(folder, 2, &["import", "nowhere"]);
}
