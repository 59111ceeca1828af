//! Who may do what: every operation, asked with every kind of key.
//!
//! A row of the matrix says what each kind of caller is answered. Each cell has things of its own
//! to act on, so no call sees what another one left. The bodies are the samples of the
//! description, which are so shown to work.

mod leaks;
mod matrix;
mod world;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::openapi::conformance::recorded;
use crate::openapi::{document, operations};
use matrix::MATRIX;
use world::{ROLES, World};

/// One row: method, path, and what each role is answered, in the order of [`ROLES`].
type Row = (&'static str, &'static str, &'static str);

fn expected(row: &Row) -> Vec<u16> {
    row.2
        .split(' ')
        .map(|status| status.parse().unwrap())
        .collect()
}

/// The sample of an operation's body.
fn sample(document: &Value, method: &str, path: &str) -> Option<Value> {
    let operation = &document["paths"][format!("/api/v2{path}")][method.to_lowercase()];
    let content = &operation["requestBody"]["content"]["application/json"];
    content.get("example").cloned()
}

#[tokio::test]
async fn every_operation_answers_every_kind_of_caller_as_expected() {
    let document = document();
    let world = World::start().await;
    let (mut cells, mut wrong, mut unproved) = (0, Vec::new(), Vec::new());
    println!("{:6} {:50} {}", "", "", ROLES.join(" "));
    for row in MATRIX {
        let (method, path, _) = row;
        let sample = sample(&document, method, path);
        let mut statuses = Vec::new();
        for role in ROLES {
            statuses.push(world.ask(method, path, sample.as_ref(), role).await);
        }
        cells += statuses.len();
        let shown: Vec<String> = statuses.iter().map(u16::to_string).collect();
        println!("{method:6} {path:50} {}", shown.join("  "));
        if statuses != expected(row) {
            wrong.push(format!(
                "{method} {path}: {} expected, {}",
                row.2,
                shown.join(" ")
            ));
        }
        if sample.is_some() && !statuses.iter().any(|status| (200..300).contains(status)) {
            unproved.push(format!("{method} {path}"));
        }
    }
    println!(
        "{} operations × {} roles = {cells} calls",
        MATRIX.len(),
        ROLES.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        unproved.is_empty(),
        "samples that nobody could send: {unproved:?}"
    );
}

#[test]
fn the_matrix_is_complete() {
    let rows: BTreeSet<(String, String)> = MATRIX
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), format!("/api/v2{path}")))
        .collect();
    assert_eq!(rows.len(), MATRIX.len(), "a row is there twice");
    let described: BTreeSet<_> = operations(&document()).into_iter().collect();
    let missing: Vec<_> = described.difference(&rows).collect();
    let stale: Vec<_> = rows.difference(&described).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "add a row for {missing:?}; nothing answers {stale:?}"
    );
    let of_protocol = recorded();
    for recorded in &of_protocol {
        let text = |member: &str| recorded[member].as_str().unwrap().to_owned();
        let operation = (text("method"), text("path"));
        assert!(rows.contains(&operation), "{operation:?} is not answered");
    }
    println!(
        "{} operations of the protocol, and {} of ours",
        of_protocol.len(),
        rows.len() - of_protocol.len()
    );
}
