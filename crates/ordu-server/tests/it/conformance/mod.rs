//! The rules of the protocol, each tried on a horde of its own, and shown as a table.
//!
//! The rules are text, in `testdata/conformance`; [`script`] says how to read them. `docs/conformance.md` is the
//! table; a run with `ORDU_WRITE=1` writes it anew. `ORDU_RULE=6.7` tries only the rules of a section.
//!
//! # Source
//! `generation.md`; the ids of rules begin with its sections.

mod members;
mod order;
mod script;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use ordu_api::ReturnCode;

use script::Rule;
use world::World;

/// The files of rules, by what they are about.
const FILES: &[(&str, &str)] = &[
    (
        "Keys, envelopes, bodies",
        include_str!("../../../testdata/conformance/transport.txt"),
    ),
    (
        "Asking for pictures",
        include_str!("../../../testdata/conformance/image.txt"),
    ),
    (
        "Asking for texts and alchemy",
        include_str!("../../../testdata/conformance/text.txt"),
    ),
    (
        "Workers",
        include_str!("../../../testdata/conformance/workers.txt"),
    ),
    (
        "The community",
        include_str!("../../../testdata/conformance/community.txt"),
    ),
    (
        "Whole stories",
        include_str!("../../../testdata/conformance/scenarios.txt"),
    ),
    (
        "The checklist of the community",
        include_str!("../../../testdata/conformance/checklist.txt"),
    ),
    (
        "Styles and collections",
        include_str!("../../../testdata/conformance/styles.txt"),
    ),
    (
        "Ratings",
        include_str!("../../../testdata/conformance/rating.txt"),
    ),
];

/// The numbered lists of the protocol, of which every number must have a rule.
const LISTS: &[(&str, std::ops::RangeInclusive<u32>, &[u32])] = &[
    // 10 and 17 refuse nothing; the body's table refuses an empty prompt before 11.
    ("3.3", 1..=39, &[10, 11, 17]),
    ("4.3", 1..=25, &[9, 10]),
    ("5.1", 1..=8, &[]),
    ("6.1", 1..=9, &[]),
    ("6.7", 1..=21, &[]),
    ("6.12", 1..=13, &[]),
    ("9.1", 1..=14, &[]),
    ("C6.1", 1..=17, &[]),
    ("17", 1..=40, &[]),
];

/// Codes that are declared but never sent, as `generation.md` § 2 says.
const RESERVED: &[ReturnCode] = &[
    ReturnCode::InvalidSize,
    ReturnCode::TooManySteps,
    ReturnCode::UnsupportedSampler,
    ReturnCode::UnsupportedModel,
    ReturnCode::HiResFixMismatch,
    ReturnCode::Img2ImgMismatch,
    ReturnCode::TilingMismatch,
    ReturnCode::InvalidRemixModel,
    ReturnCode::BadClientAgent,
    ReturnCode::NoValidWorkers,
    ReturnCode::RequestExpired,
    ReturnCode::InvalidAestheticAttempt,
    // Families of codes, sent by no rule of their own.
    ReturnCode::KudosValidationError,
    ReturnCode::Profanity,
    ReturnCode::TooLong,
    ReturnCode::NameAlreadyExists,
    ReturnCode::NoValidActions,
    ReturnCode::NotPrivileged,
    ReturnCode::NotTrusted,
    ReturnCode::SharedKeyNotFound,
    // Never sent by the deployed server either (`observed.md` 11).
    ReturnCode::ControlNetInvalidPayload,
    // The body's table refuses it first.
    ReturnCode::BadCFGNumber,
    ReturnCode::TooLongWorkerName,
];

fn rules() -> Vec<(&'static str, Vec<Rule>)> {
    FILES
        .iter()
        .map(|(title, file)| (*title, Rule::read_all(file)))
        .collect()
}

/// Tries the rules of a file.
async fn keep(title: &str) {
    let only = std::env::var("ORDU_RULE").unwrap_or_default();
    let mut failures = Vec::new();
    let (_, rules) = rules().into_iter().find(|(t, _)| *t == title).unwrap();
    for rule in rules.iter().filter(|rule| rule.id.starts_with(&only)) {
        if let Err(why) = World::try_rule(rule).await {
            failures.push(why);
        }
    }
    let count = failures.len();
    assert!(
        failures.is_empty(),
        "{count} rules failed:\n\n{}",
        failures.join("\n\n")
    );
}

#[tokio::test]
async fn keys_envelopes_and_bodies() {
    keep("Keys, envelopes, bodies").await;
}

#[tokio::test]
async fn asking_for_pictures() {
    keep("Asking for pictures").await;
}

#[tokio::test]
async fn asking_for_texts_and_alchemy() {
    keep("Asking for texts and alchemy").await;
}

#[tokio::test]
async fn workers() {
    keep("Workers").await;
}

#[tokio::test]
async fn the_community() {
    keep("The community").await;
}

#[tokio::test]
async fn whole_stories() {
    keep("Whole stories").await;
}

#[tokio::test]
async fn the_checklist() {
    keep("The checklist of the community").await;
}

#[tokio::test]
async fn styles_and_collections() {
    keep("Styles and collections").await;
}

#[tokio::test]
async fn ratings() {
    keep("Ratings").await;
}

#[test]
fn the_table_is_what_the_rules_say() {
    let table = table();
    println!("{table}");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    if std::env::var("ORDU_WRITE").is_ok() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == table,
        "docs/conformance.md is old: run this test with ORDU_WRITE=1"
    );
}

fn table() -> String {
    let mut table = "# Rules and their proofs\n\nWritten by the tests: each line is a rule of the protocol that a test \
                     tries over HTTP (`crates/ordu-server/testdata/conformance`).\n"
        .to_owned();
    for (title, rules) in rules() {
        write!(
            table,
            "\n## {title}\n\n| rule | when | answer |\n|---|---|---|\n"
        )
        .unwrap();
        for rule in rules {
            let answer = rule.proof().expected.show().replace('|', "\\|");
            let answer = if answer.chars().count() > 120 {
                answer.chars().take(117).collect::<String>() + "…"
            } else {
                answer
            };
            writeln!(table, "| {} | {} | `{answer}` |", rule.id, rule.text).unwrap();
        }
    }
    table
}

#[test]
fn no_row_is_missing() {
    let all: Vec<Rule> = rules().into_iter().flat_map(|(_, rules)| rules).collect();
    let mut seen = BTreeSet::new();
    for rule in &all {
        assert!(seen.insert(rule.id.clone()), "{} is there twice", rule.id);
    }
    let mut missing = Vec::new();
    for (list, numbers, silent) in LISTS {
        let has = |n: u32| all.iter().any(|rule| is_part(&rule.id, list, n));
        let without = numbers.clone().filter(|n| !silent.contains(n) && !has(*n));
        missing.extend(without.map(|n| format!("{list}/{n}")));
    }
    let proved: BTreeMap<(String, u16), &str> = all
        .iter()
        .filter_map(|rule| {
            let expected = &rule.proof().expected;
            let rc = expected.rc.clone()?;
            Some(((rc, expected.status), rule.id.as_str()))
        })
        .collect();
    for code in ReturnCode::ALL {
        let is_proved = proved.contains_key(&(code.name().to_owned(), code.status()));
        let is_reserved = RESERVED.contains(code);
        assert!(
            !(is_proved && is_reserved),
            "{code} is called reserved, and is sent"
        );
        if !is_proved && !is_reserved {
            missing.push(format!("{} {code}", code.status()));
        }
    }
    assert!(missing.is_empty(), "without a rule: {}", missing.join(", "));
}

/// Whether an id is `LIST/N`, or `LIST/N` with letters behind.
fn is_part(id: &str, list: &str, n: u32) -> bool {
    let Some(number) = id
        .strip_prefix(list)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return false;
    };
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse() == Ok(n)
}
