//! The walls of the house: who may know whom, how long a module may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Crate → the crates of ours that it may use; tests may use those in the second list too.
const WALLS: &[(&str, &[&str], &[&str])] = &[
    ("ordu-api", &[], &[]),
    ("ordu-core", &["ordu-api"], &[]),
    ("ordu-store", &["ordu-api", "ordu-core"], &["ordu-store"]),
    ("ordu-client", &["ordu-api"], &[]),
    ("ordu-engine", &[], &[]),
    (
        "ordu-worker",
        &["ordu-api", "ordu-client", "ordu-engine"],
        &["ordu-engine"],
    ),
    (
        "ordu-server",
        &["ordu-api", "ordu-core", "ordu-store"],
        &["ordu-client", "ordu-store"],
    ),
    (
        "ordu",
        &[
            "ordu-api",
            "ordu-client",
            "ordu-core",
            "ordu-engine",
            "ordu-server",
            "ordu-store",
            "ordu-worker",
        ],
        &["ordu-store"],
    ),
];

/// Foreign crate → the only crates of ours that may use it.
const KEPT_IN: &[(&str, &[&str])] = &[
    ("sqlx", &["ordu-store"]),
    ("axum", &["ordu-server"]),
    ("candle-core", &["ordu-engine"]),
    ("tokio-tungstenite", &["ordu-engine"]),
    ("clap", &["ordu"]),
];

/// What the pure core must never use.
const BANNED_IN_CORE: &[&str] = &[
    "tokio",
    "sqlx",
    "axum",
    "reqwest",
    "hyper",
    "tracing",
    "getrandom",
    "jiff",
    "chrono",
    "time",
];

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata works");
    metadata.packages
}

fn dependencies(package: &Package, tests: bool) -> BTreeSet<String> {
    let wanted = |kind| (kind == DependencyKind::Development) == tests;
    let found = package
        .dependencies
        .iter()
        .filter(|dependency| wanted(dependency.kind));
    found.map(|dependency| dependency.name.clone()).collect()
}

fn ours(names: BTreeSet<String>) -> BTreeSet<String> {
    names
        .into_iter()
        .filter(|name| name.starts_with("ordu"))
        .collect()
}

#[test]
fn crates_know_only_whom_they_may() {
    let walls: BTreeMap<&str, (&[&str], &[&str])> = WALLS
        .iter()
        .map(|(name, shipped, tests)| (*name, (*shipped, *tests)))
        .collect();
    for package in packages() {
        let (shipped, tests) = walls
            .get(package.name.as_str())
            .unwrap_or_else(|| panic!("{} has no walls: add a line to WALLS", package.name));
        for (allowed, known) in [
            (*shipped, dependencies(&package, false)),
            (*tests, dependencies(&package, true)),
        ] {
            for other in ours(known) {
                assert!(
                    allowed.contains(&other.as_str()),
                    "{} must not know {other}",
                    package.name
                );
            }
        }
    }
}

#[test]
fn foreign_crates_stay_where_they_belong() {
    for package in packages() {
        let mut known = dependencies(&package, false);
        known.append(&mut dependencies(&package, true));
        for (foreign, homes) in KEPT_IN {
            let at_home = homes.contains(&package.name.as_str());
            assert!(
                at_home || !known.contains(*foreign),
                "{} must not use {foreign}",
                package.name
            );
        }
        if package.name.as_str() == "ordu-core" {
            let shipped = dependencies(&package, false);
            for banned in BANNED_IN_CORE {
                assert!(
                    !shipped.contains(*banned),
                    "the core must stay pure: no {banned}"
                );
            }
        }
    }
}

#[test]
fn the_engine_reaches_out_in_one_place_only() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ordu-engine/src");
    let mut files = Vec::new();
    collect(&engine, &mut files);
    let outside = files
        .iter()
        .filter(|file| !file.starts_with(engine.join("remote")));
    for file in outside {
        let text = fs::read_to_string(file).unwrap();
        assert!(
            !text.contains("reqwest") && !text.contains("std::net"),
            "{} must not know a network: that is for `remote`",
            file.display()
        );
    }
}

#[test]
fn modules_fit_a_reader() {
    const MOST_LINES: usize = 800;
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(
            lines <= MOST_LINES,
            "{} has {lines} lines: split it",
            file.display()
        );
        assert!(
            text.starts_with("//!"),
            "{} does not say what it is for",
            file.display()
        );
    }
}

#[test]
fn nothing_is_left_unfinished() {
    // Written apart, so that this file does not find itself.
    let marks = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
    ];
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for mark in marks {
            assert!(!text.contains(mark), "{} holds {mark}", file.display());
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    collect(crates, &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}
