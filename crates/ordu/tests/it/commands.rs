//! What the commands print and how they exit.

use serde_json::json;

use crate::program::{Running, run, run_json, text};

#[test]
fn wrong_usage_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["frobnicate"][..],
        &["imagine"],
        &["imagine", "a", "--size", "65x64"],
        &["serve", "--listen", "nowhere"],
        &["work", "--device", "gpu"],
        &["up", "--precision", "f8"],
        &["--config", "missing.toml", "serve"],
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn an_unknown_key_of_the_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ordu.toml"), "lisen = '127.0.0.1:1'").unwrap();
    let output = run(folder.path(), &["--config", "ordu.toml", "config", "print"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`lisen`"));
}

#[cfg(not(any(feature = "cuda", feature = "metal")))]
#[test]
fn a_device_that_was_not_built_in_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, name) in [
        (&["up", "--device", "cuda:1"][..], "CUDA"),
        (&["work", "--api-key", "a", "--device", "metal"], "Metal"),
    ] {
        let output = run(folder.path(), arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("built without {name}")), "{told}");
        assert!(told.contains("--features"), "{told}");
    }
}

#[test]
fn an_unreachable_horde_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["status", "--horde", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("does not answer"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn accounts_are_made_shown_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", "data", "--json"];
    let admin = |arguments: &[&str]| {
        run_json(
            folder.path(),
            &[&["admin", "user"], arguments, &data[..]].concat(),
        )
    };
    let added = admin(&["add", "--name", "first", "--kudos", "112.5"]);
    assert_eq!(
        (&added["id"], &added["alias"], &added["kudos"]),
        (&json!(1), &json!("first#1"), &json!(112.5))
    );
    assert_eq!(added["api_key"].as_str().unwrap().len(), 22);
    let changed = admin(&["set", "1", "--moderator", "true", "--add-kudos", "-2.5"]);
    assert_eq!(
        (&changed["moderator"], &changed["trusted"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(admin(&["show", "first#1"])["kudos"], json!(110.0));
    assert_ne!(admin(&["new-key", "1"])["api_key"], added["api_key"]);
    let missing = run(
        folder.path(),
        &["admin", "user", "show", "77", "--data", "data"],
    );
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("there is no account `77`"));
}

#[test]
fn a_server_ends_with_0_and_a_second_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["serve"]);
    let second = run(
        folder.path(),
        &["serve", "--listen", "127.0.0.1:0", "--data", "data"],
    );
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another server"));
    let status = run_json(folder.path(), &["status", "--json", "--horde", &server.url]);
    assert_eq!(status["performance"]["worker_count"], 0);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn what_the_operator_does_is_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", "data", "--json"];
    let admin = |arguments: &[&str]| {
        let whole = [&["admin", "user"], arguments, &data[..]].concat();
        run_json(folder.path(), &whole)
    };
    let moderator = admin(&["add", "--name", "mod", "--moderator"]);
    admin(&["set", "1", "--concurrency", "7", "--add-kudos", "5"]);
    let renewed = admin(&["new-key", "1"]);
    let server = Running::start(folder.path(), &["serve"]);
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log: serde_json::Value = runtime.block_on(async {
        let url = format!("{}/api/v2/operations/audit", server.url);
        let key = renewed["api_key"].as_str().unwrap();
        let asked = reqwest::Client::new().get(url).header("apikey", key);
        asked.send().await.unwrap().json().await.unwrap()
    });
    let mut deeds: Vec<_> = log.as_array().unwrap().iter().collect();
    deeds.sort_by_key(|deed| deed["operation"].to_string());
    let operations: Vec<_> = deeds.iter().map(|deed| &deed["operation"]).collect();
    assert_eq!(operations, ["user.create", "user.new_key", "user.update"]);
    assert!(
        deeds
            .iter()
            .all(|deed| deed["target"] == "1" && deed.get("actor").is_none())
    );
    assert_eq!(
        deeds[2]["before"],
        json!({ "concurrency": 30, "kudos": 0.0 })
    );
    assert_eq!(deeds[2]["after"], json!({ "concurrency": 7, "kudos": 5.0 }));
    for key in [&moderator["api_key"], &renewed["api_key"]] {
        assert!(!log.to_string().contains(key.as_str().unwrap()));
    }
}
