//! Which of two errors wins: the one whose check comes first.
//!
//! # Source
//! `generation.md` § 3.3 and § 4.3.

use serde_json::{Map, Value};

use super::script::{Body, Call, Rule, Step, Target};
use super::world::{World, judge};

/// Rules that a call with a source image does not break.
const WITHOUT_SOURCE: &[&str] = &["3.3/29", "3.3/30c", "3.3/33b", "3.3/33c", "3.3/33d"];

/// Rules that a call with a workflow does not break.
const WITHOUT_WORKFLOW: &[&str] = &["3.3/32c"];

/// Rules that are no step of their own: the order of their parts is tried by others.
const NO_STEP: &[&str] = &["3.3/2", "4.3/2"];

/// A rule that a single call breaks, whoever else is there.
struct Breach {
    id: String,
    call: Call,
    body: Map<String, Value>,
}

#[tokio::test]
async fn the_earlier_check_wins() {
    let files = [
        (
            "async",
            include_str!("../../../testdata/conformance/image.txt"),
        ),
        (
            "text",
            include_str!("../../../testdata/conformance/text.txt"),
        ),
    ];
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (verb, file) in files {
        let mut world = World::new(&[]).await;
        let breaches = breaches(verb, file);
        for (i, first) in breaches.iter().enumerate() {
            for second in breaches.iter().skip(i + 1) {
                let Some(call) = both(first, second) else {
                    continue;
                };
                tried += 1;
                let answer = world.send(&call).await;
                // Together they may break a third rule, before both.
                let is_early = |breach: &Breach| judge(&breach.call.expected, &answer).is_ok();
                if !breaches.iter().take(i + 1).any(is_early) {
                    wrong.push(format!("{} with {}: {}", first.id, second.id, answer.body));
                }
            }
        }
    }
    println!("{tried} pairs of errors were tried");
    assert!(tried > 500, "only {tried} pairs");
    assert!(
        wrong.is_empty(),
        "{} pairs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn breaches(verb: &str, file: &str) -> Vec<Breach> {
    Rule::read_all(file)
        .into_iter()
        .filter_map(|rule| breach(verb, rule))
        .collect()
}

fn breach(verb: &str, rule: Rule) -> Option<Breach> {
    let [Step::Call(call)] = rule.steps.as_slice() else {
        return None;
    };
    let is_refused = call.expected.status >= 400;
    if !is_refused || !rule.settings.is_empty() || call.target != Target::Verb(verb.to_owned()) {
        return None;
    }
    let body = match &call.body {
        Body::Json(text) => serde_json::from_str(text).ok()?,
        Body::None => Map::new(),
        Body::Raw(_) => return None,
    };
    Some(Breach {
        id: rule.id,
        call: (**call).clone(),
        body,
    })
}

/// A call that breaks both rules, where there is one.
fn both(first: &Breach, second: &Breach) -> Option<Call> {
    if is_undone(first, second) {
        return None;
    }
    let who = match (first.call.who.as_str(), second.call.who.as_str()) {
        (one, other) if one == other => one,
        // Most rules hold for whoever asks.
        ("user", other @ ("none" | "nobody" | "leaver" | "poor"))
        | (other @ ("none" | "nobody" | "leaver" | "poor"), "user") => other,
        _ => return None,
    };
    let body = united(&first.body, &second.body)?;
    let headers = first.call.headers.iter().chain(&second.call.headers);
    Some(Call {
        who: who.to_owned(),
        headers: headers.cloned().collect(),
        body: Body::Json(Value::Object(body).to_string()),
        ..first.call.clone()
    })
}

/// Whether what breaks the second rule keeps the first.
fn is_undone(first: &Breach, second: &Breach) -> bool {
    let is = |rules: &[&str], breach: &Breach| rules.contains(&breach.id.as_str());
    let has = |name: &str| second.body.contains_key(name);
    let has_workflow = second
        .body
        .get("params")
        .is_some_and(|params| params.get("workflow").is_some());
    is(NO_STEP, first)
        || is(NO_STEP, second)
        || is(WITHOUT_SOURCE, first) && has("source_image")
        || is(WITHOUT_WORKFLOW, first) && has_workflow
}

/// The members of both; `None` if they want different things of one member.
fn united(first: &Map<String, Value>, second: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut united = first.clone();
    for (name, value) in second {
        let value = match (united.get(name), value) {
            (Some(Value::Object(one)), Value::Object(other)) => {
                Value::Object(self::united(one, other)?)
            }
            (Some(one), other) if one != other => return None,
            _ => value.clone(),
        };
        united.insert(name.clone(), value);
    }
    Some(united)
}
