//! Every answer of every test, held against the description of the API.
//!
//! [`check`] is called for each answer that `support::Answer` reads. Other than clients, who take
//! members that they do not know, it complains about members that are not described.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| ordu_server::openapi::description("Ordu"));

/// What a call was about and what came back.
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) body: &'a Value,
}

/// Panics unless the answer is one that the description foretells.
pub(crate) fn check(exchange: &Exchange<'_>) {
    let problems = problems(exchange);
    assert!(
        problems.is_empty(),
        "{} {} answered {}, which is not as described:\n{}\n{}",
        exchange.method,
        exchange.path,
        exchange.status,
        problems.join("\n"),
        exchange.body
    );
}

fn problems(exchange: &Exchange<'_>) -> Vec<String> {
    let Some(methods) = find(exchange.path) else {
        let is_none = exchange.status == 404 || !exchange.path.starts_with(ordu_api::BASE_PATH);
        return complain(!is_none, "the path is not described");
    };
    if exchange.method == "HEAD" && methods.get("get").is_some() {
        // A GET that keeps its body to itself.
        return complain(exchange.body != "", "an answer to HEAD has a body");
    }
    let Some(operation) = methods.get(exchange.method.to_ascii_lowercase()) else {
        // `PUT /workers/messages` is no operation: it says so with a 400.
        let is_none = exchange.method == "OPTIONS" || matches!(exchange.status, 400 | 405);
        return complain(!is_none, "the method is not described");
    };
    let Some(response) = operation["responses"].get(exchange.status.to_string()) else {
        return complain(true, "the status is not described");
    };
    let schema = &response["content"]["application/json"]["schema"];
    if schema.is_null() {
        return complain(exchange.body != "", "a body is not described");
    }
    let mut problems = Vec::new();
    validate(schema, exchange.body, "body", &mut problems);
    problems
}

fn complain(is_wrong: bool, what: &str) -> Vec<String> {
    is_wrong.then(|| what.to_owned()).into_iter().collect()
}

/// What is described of a path; literal segments win over parameters.
fn find(path: &str) -> Option<&'static Value> {
    let sent: Vec<&str> = path.split('/').collect();
    let fits = |template: &&String| {
        let segments: Vec<&str> = template.split('/').collect();
        segments.len() == sent.len()
            && segments
                .iter()
                .zip(&sent)
                .all(|(named, given)| named == given || named.starts_with('{'))
    };
    let paths = DOCUMENT["paths"].as_object()?;
    let best = paths
        .keys()
        .filter(fits)
        .min_by_key(|template| template.matches('{').count())?;
    paths.get(best)
}

fn validate(schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    let mut complain = |what: String| problems.push(format!("{at}: {what}"));
    if let Some(place) = schema["$ref"].as_str() {
        let pointer = place.trim_start_matches('#');
        let target = DOCUMENT.pointer(pointer);
        return match target {
            Some(target) => validate(target, value, at, problems),
            None => complain(format!("{place} is nowhere")),
        };
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[keyword].as_array() {
            let passes = |choice: &Value| {
                let mut found = Vec::new();
                validate(choice, value, at, &mut found);
                found.is_empty()
            };
            if !choices.iter().any(passes) {
                complain(format!("{value} is none of the described"));
            }
        }
    }
    if let Some(wanted) = schema.get("const").filter(|wanted| *wanted != value) {
        complain(format!("{value} is not {wanted}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        complain(format!("{value} is none of {words:?}"));
    }
    if !is_of_type(&schema["type"], value) {
        return complain(format!("{value} is not of type {}", schema["type"]));
    }
    let too_small = schema["minimum"].as_f64().zip(value.as_f64());
    if too_small.is_some_and(|(least, number)| number < least) {
        complain(format!("{value} is too small"));
    }
    if schema["format"] == "uuid"
        && let Some(text) = value.as_str()
        && text.parse::<ordu_api::RequestId>().is_err()
    {
        complain(format!("{text} is not a UUID"));
    }
    match value {
        Value::Object(members) => validate_members(schema, members, at, problems),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                validate(&schema["items"], item, &format!("{at}[{index}]"), problems);
            }
        }
        _ => {}
    }
}

fn validate_members(
    schema: &Value,
    members: &Map<String, Value>,
    at: &str,
    problems: &mut Vec<String>,
) {
    let is_free = schema == true || schema.is_null();
    let others = &schema["additionalProperties"];
    for (name, member) in members {
        let place = format!("{at}.{name}");
        match schema["properties"].get(name) {
            Some(known) => validate(known, member, &place, problems),
            None if others.is_object() => validate(others, member, &place, problems),
            None if others == true || is_free || schema.get("anyOf").is_some() => {}
            None => problems.push(format!("{place}: not described")),
        }
    }
    let required = schema["required"].as_array();
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            problems.push(format!("{at}.{name}: missing"));
        }
    }
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    match wanted {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

#[test]
fn what_is_not_described_is_found() {
    let heartbeat = serde_json::json!({
        "message": "OK", "version": "1", "queue": 0, "threads": 1, "active_count": 0,
        "db_connection": true,
    });
    let problems = |path: &str, status: u16, change: &dyn Fn(&mut Value)| {
        let mut body = heartbeat.clone();
        change(&mut body);
        let path = format!("/api/v2{path}");
        super::described::problems(&Exchange {
            method: "GET",
            path: &path,
            status,
            body: &body,
        })
        .len()
    };
    assert_eq!(problems("/status/heartbeat", 200, &|_| ()), 0);
    assert_eq!(problems("/status/heartbeat", 418, &|_| ()), 1);
    assert_eq!(problems("/status/nothing", 200, &|_| ()), 1);
    assert_eq!(problems("/status/nothing", 404, &|_| ()), 0);
    let more = |body: &mut Value| body["secret"] = "x".into();
    let other = |body: &mut Value| body["queue"] = "x".into();
    let less = |body: &mut Value| drop(body.as_object_mut().unwrap().remove("queue"));
    let changes: [&dyn Fn(&mut Value); 3] = [&more, &other, &less];
    for change in changes {
        assert_eq!(problems("/status/heartbeat", 200, change), 1);
    }
}
