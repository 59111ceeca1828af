//! What lies in `contrib/` is well-formed, and names nothing that this program does not have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::{run, run_json, text};

/// The port that servers listen on by default.
const PORT: &str = "7001";

/// Sections that a systemd unit of a service may have.
const SECTIONS: &[&str] = &["Unit", "Service", "Install"];

/// Commands whose options the files may name.
const COMMANDS: &[&str] = &["serve", "work", "doctor", "completions", "man"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files with their texts.
fn files() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("contrib"), root().join(".github")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(files.len() >= 14, "the files were not found");
    files
}

/// Words made of these characters that begin with `start`.
fn words<'a>(text: &'a str, start: &str, is_part: fn(char) -> bool) -> Vec<&'a str> {
    let pieces = text.split(|character| !is_part(character));
    pieces.filter(|word| word.starts_with(start)).collect()
}

#[test]
fn options_and_variables_that_files_name_exist() {
    let folder = tempfile::tempdir().unwrap();
    let listing = run_json(folder.path(), &["config", "print", "--json"]);
    let settings = listing.as_object().unwrap().values();
    let variables: BTreeSet<_> = settings
        .map(|it| it["variable"].as_str().unwrap())
        .collect();
    assert!(variables.contains("ORDU_LISTEN"));
    let helps = COMMANDS.iter().map(|command| {
        let output = run(folder.path(), &[command, "--help"]);
        assert!(output.status.success());
        text(&output.stdout)
    });
    let help = helps.collect::<String>();
    let is_option = |character: char| character.is_ascii_lowercase() || character == '-';
    let options: BTreeSet<_> = words(&help, "--", is_option).into_iter().collect();
    assert!(options.contains("--trusted-proxy") && options.contains("--cache-home"));
    let (mut named, mut set) = (0, 0);
    for (path, text) in files() {
        let path = path.display();
        let is_variable = |character: char| {
            character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_'
        };
        for variable in words(&text, "ORDU_", is_variable) {
            set += 1;
            assert!(
                variables.contains(variable),
                "{path}: nobody reads `{variable}`"
            );
        }
        let ours = text.lines().filter(|line| {
            let mut commands = COMMANDS.iter();
            line.contains("/ordu ") && commands.any(|it| line.contains(it))
                || line.contains("--public-url")
        });
        for option in ours.flat_map(|line| words(line, "--", is_option)) {
            named += 1;
            assert!(options.contains(option), "{path}: there is no `{option}`");
        }
    }
    assert!(
        named > 8 && set > 12,
        "{named} options and {set} variables were found"
    );
}

#[test]
fn the_example_of_settings_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = root().join("contrib/systemd/ordu.toml");
    let file = file.to_str().unwrap();
    let told = run_json(
        folder.path(),
        &["--config", file, "config", "print", "--json"],
    );
    assert_eq!(told["public_url"]["value"], "https://horde.example.org");
    assert_eq!(told["listen"]["value"], format!("127.0.0.1:{PORT}"));
    let garage: toml::Table = read("contrib/compose/garage.toml").parse().unwrap();
    assert_eq!(
        garage["s3_api"]["api_bind_addr"].as_str(),
        Some("[::]:3900")
    );
}

#[test]
fn units_are_well_formed() {
    for (path, command) in [
        ("contrib/systemd/ordu.service", "serve"),
        ("contrib/systemd/ordu-worker.service", "work"),
    ] {
        let mut sections = Vec::new();
        let mut started = None;
        for line in read(path)
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            if let Some(section) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                sections.push(section.to_owned());
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .unwrap_or_else(|| panic!("{path}: {line}"));
            assert!(
                key.chars().all(|it| it.is_ascii_alphanumeric()),
                "{path}: {line}"
            );
            if key == "ExecStart" {
                started = Some(value.to_owned());
            }
        }
        assert_eq!(sections, SECTIONS, "{path}");
        let started = started.unwrap();
        let mut parts = started.split(' ');
        assert_eq!(parts.next(), Some("/usr/local/bin/ordu"), "{path}");
        assert!(parts.any(|part| part == command), "{path}");
    }
}

#[test]
fn containers_find_each_other() {
    let compose = yaml("contrib/compose/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let ordu = &services["ordu-1"]["environment"];
    let other = &services["ordu-2"]["environment"];
    assert_ne!(ordu["ORDU_NODE"], other["ORDU_NODE"]);
    assert_eq!(ordu["ORDU_LISTEN"], format!("0.0.0.0:{PORT}"));
    let blobs = ordu["ORDU_BLOBS"].as_str().unwrap();
    assert!(blobs.contains("endpoint=http://garage:3900&"));
    assert_eq!(
        services["garage"]["environment"]["GARAGE_DEFAULT_BUCKET"],
        "pictures"
    );
    assert!(blobs.starts_with("s3://pictures?"));
    // The address that is believed is that of the proxy.
    let proxy = &services["caddy"]["networks"]["inside"]["ipv4_address"];
    assert_eq!(&ordu["ORDU_TRUSTED_PROXY"], proxy);
    let volumes = compose["volumes"].as_object().unwrap();
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let file = root().join("contrib/compose").join(source);
            assert!(
                volumes.contains_key(source) || file.is_file(),
                "{name}: {source}"
            );
        }
    }
    let known = read("contrib/compose/.env.example");
    let known: BTreeSet<_> = known
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let known: BTreeSet<_> = known.into_iter().map(|(name, _)| name).collect();
    let text = read("contrib/compose/compose.yaml");
    let used = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    let used: BTreeSet<_> = used.collect();
    assert_eq!(used, known);
    let caddy = read("contrib/compose/Caddyfile");
    let nodes = format!("reverse_proxy ordu-1:{PORT} ordu-2:{PORT}");
    assert!(caddy.contains(&nodes) && caddy.contains("garage:3900"));
    let image = read("contrib/container/Containerfile");
    assert!(image.contains(&format!("EXPOSE {PORT}")) && image.contains("\nUSER 10001"));
}

#[test]
fn proxies_lead_to_the_server_and_hold_nothing_back() {
    for (path, wanted) in [
        (
            "contrib/proxy/nginx.conf",
            "X-Forwarded-For $proxy_add_x_forwarded_for;",
        ),
        ("contrib/proxy/nginx.conf", "proxy_buffering off;"),
        ("contrib/proxy/nginx.conf", "client_max_body_size 64m;"),
        ("contrib/proxy/Caddyfile", "flush_interval -1"),
        ("contrib/proxy/Caddyfile", "max_size 64MB"),
        (
            "contrib/proxy/haproxy.cfg",
            "set-header X-Forwarded-For %[src]",
        ),
    ] {
        let text = read(path);
        assert!(text.contains(wanted), "{path}: {wanted}");
        assert!(text.contains(&format!("127.0.0.1:{PORT}")), "{path}");
        assert_eq!(
            text.matches('{').count(),
            text.matches('}').count(),
            "{path}"
        );
        // A minute may pass before an answer, and 15 s between two signs of life.
        assert!(text.contains("90s"), "{path}");
    }
}

#[test]
fn the_dashboard_asks_for_what_is_measured() {
    let of_workers = root().join("crates/ordu/src/commands").join("work");
    asks_for_what_is_measured("workers", &of_workers);
    asks_for_what_is_measured("servers", &root().join("crates/ordu-server/src"));
}

/// Against the names in the `metrics.rs` of a folder, and in what belongs to it.
fn asks_for_what_is_measured(dashboard: &str, folder: &Path) {
    let dashboard = read(&format!("contrib/grafana/{dashboard}.json"));
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut measured = std::fs::read_to_string(folder.join("metrics.rs")).unwrap();
    if let Ok(shown) = std::fs::read_to_string(folder.join("metrics/shown.rs")) {
        measured += &shown;
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
            let names = words(expression, "ordu_", is_name);
            assert!(!names.is_empty(), "{expression}");
            asked.extend(names.iter().map(|name| (*name).to_owned()));
        }
    }
    for name in &asked {
        let measure = name.trim_end_matches("_bucket").trim_end_matches("_count");
        assert!(
            measured.contains(&format!("\"{measure}\"")),
            "nobody measures `{name}`"
        );
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    assert!(asked.len() > 10, "{asked:?}");
}

#[test]
fn the_release_is_a_workflow_that_builds_this_program() {
    let release = yaml(".github/workflows/release.yml");
    let build = &release["jobs"]["build"];
    let targets = build["strategy"]["matrix"]["include"].as_array().unwrap();
    let targets: Vec<_> = targets
        .iter()
        .map(|it| it["target"].as_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]
    );
    let steps = build["steps"].as_array().unwrap();
    let script: Vec<_> = steps
        .iter()
        .filter_map(|step| step["run"].as_str())
        .collect();
    assert!(
        script
            .concat()
            .contains("cargo +stable build --locked --release -p ordu --target")
    );
    assert_eq!(release["jobs"]["publish"]["needs"], "build");
}
