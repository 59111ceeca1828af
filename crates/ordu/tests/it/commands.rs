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

#[test]
fn shells_and_readers_learn_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    let help = text(&run(folder.path(), &["--help"]).stdout);
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<_> = commands
        .filter(|name| !["", "help"].contains(name))
        .collect();
    assert!(
        commands.contains(&"doctor") && commands.len() > 9,
        "{commands:?}"
    );
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(folder.path(), &["completions", shell]);
        let script = text(&output.stdout);
        assert!(output.status.success());
        for name in &commands {
            assert!(script.contains(name), "{shell}: {name}");
        }
        assert!(script.contains("trusted-proxy"), "{shell}");
    }
    assert!(run(folder.path(), &["man", "pages"]).status.success());
    let page = |name: &str| {
        let file = folder.path().join("pages").join(name);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    for name in &commands {
        assert!(
            page(&format!("ordu-{name}.1")).contains(".SH NAME"),
            "{name}"
        );
    }
    assert!(page("ordu-serve.1").contains("trusted\\-proxy"));
    assert!(page("ordu-admin-user-add.1").contains(".SH OPTIONS"));
    assert!(!folder.path().join("pages/ordu-engine-host.1").exists());
}

#[test]
fn settings_are_printed_with_their_sources_and_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ordu.toml");
    std::fs::write(
        &path,
        "listen = '127.0.0.1:9'\nadmins = ['a#1', 'b#2']\nno_rate_limits = true\nsecret_key = 'hidden'",
    )
    .unwrap();
    let print = |arguments: &[&str]| {
        let mut command = crate::program::ordu(folder.path());
        command.env("ORDU_TITLE", "Ours").env("ADMINS", "[\"c#3\"]");
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let first = print(&["--config", "ordu.toml", "config", "print"]);
    assert!(first.contains("listen = \"127.0.0.1:9\"\n"), "{first}");
    assert!(first.contains("from the file `ordu.toml`"), "{first}");
    assert!(first.contains("title = \"Ours\"\n"), "{first}");
    assert!(
        first.contains("from the environment, `ORDU_TITLE`"),
        "{first}"
    );
    // The names of existing deployments stand above the file.
    assert!(first.contains("admins = \"c#3\"\n"), "{first}");
    assert!(
        first.contains("#secret_key = ") && !first.contains("hidden"),
        "{first}"
    );
    std::fs::write(folder.path().join("second.toml"), &first).unwrap();
    let second = print(&["--config", "second.toml", "config", "print", "--json"]);
    let second: serde_json::Value = serde_json::from_str(&second).unwrap();
    assert_eq!(second["listen"]["value"], "127.0.0.1:9");
    assert_eq!(second["no_rate_limits"]["value"], true);
    assert_eq!(second["data"]["source"], "the default");
    assert_eq!(second["secret_key"]["source"], "nobody");
}

#[test]
fn a_watched_horde_is_told_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["serve"]);
    let mut command = crate::program::ordu(folder.path());
    command.args(["status", "--watch", "--json", "--horde", &server.url]);
    let mut watching = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(watching.stdout.take().unwrap()));
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    assert_eq!(next()["queued"]["image"], 0);
    let horde =
        ordu_client::Horde::new(&server.url, ordu_api::ApiKey::anonymous(), "a:1:b").unwrap();
    let request = ordu_api::image::ImageRequest {
        prompt: "a red circle".to_owned(),
        ..Default::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(horde.async_image(&request)).unwrap();
    let pulse = next();
    assert_eq!(
        (&pulse["queued"]["image"], &pulse["accepted"]["image"]),
        (&json!(1), &json!(1))
    );
    let id = watching.id().to_string();
    std::process::Command::new("kill")
        .args(["-INT", &id])
        .status()
        .unwrap();
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    assert_eq!(server.terminate(), Some(0));
}

/// A horde that knows no streams.
fn old_horde() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let Ok((head, _)) = crate::relay::head(&mut client) else {
                continue;
            };
            let (status, body) = if head.contains("/status/performance") {
                (
                    200,
                    r#"{"queued_requests": 7, "worker_count": 3, "queued_forms": 2.0}"#,
                )
            } else {
                (404, r#"{"message": "no such thing"}"#)
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            // Who hangs up is answered no more.
            drop(std::io::Write::write_all(&mut client, answer.as_bytes()));
        }
    });
    url
}

#[test]
fn a_horde_that_does_not_tell_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::program::ordu(folder.path());
    command.args(["status", "--watch", "--horde", &old_horde()]);
    let mut watching = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(watching.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(
        line,
        "waiting: 7 pictures, 0 texts, 2 forms; workers: 3 pictures, 0 texts, 0 forms\n"
    );
    let id = watching.id().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status()
        .unwrap();
    assert_eq!(watching.wait().unwrap().code(), Some(0));
}
