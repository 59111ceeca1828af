//! Our description against the recorded shape of every operation of the protocol.
//!
//! `testdata/endpoints.json` says of each operation which parameters, body members, bounds, statuses
//! and answer members it has. What ours has beyond that is an addition, and is allowed; what ours
//! lacks or bounds otherwise is a difference, and must be in [`DIFFERENCES`] with its reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{document, nameless};

const ENDPOINTS: &str = include_str!("../../../testdata/endpoints.json");

/// Where ours differs, and why: the place, then the reason. A place that ends in `*` covers what
/// begins like it.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "GET /find_user answer.monthly_kudos.amount",
        "kudos need not be whole",
    ),
    (
        "GET /users answer.monthly_kudos.amount",
        "kudos need not be whole",
    ),
    (
        "GET /users/{user_id} answer.monthly_kudos.amount",
        "kudos need not be whole",
    ),
    ("GET /users query.sort", "another order is the usual one"),
    (
        "GET /status/models query.type",
        "another type has no models",
    ),
    ("GET /workers query.type", "another type has no workers"),
    (
        "PATCH /filters/{filter_id} body.*",
        "texts that are stored are bounded",
    ),
    ("PUT /filters body.*", "texts that are stored are bounded"),
    (
        "PATCH /sharedkeys/{sharedkey_id} body.expiry",
        "a date must exist",
    ),
    ("PUT /sharedkeys body.expiry", "a date must exist"),
    (
        "PATCH /sharedkeys/{sharedkey_id} body.max_text_tokens",
        "texts are longer today",
    ),
    (
        "PUT /sharedkeys body.max_text_tokens",
        "texts are longer today",
    ),
    (
        "PATCH /sharedkeys/{sharedkey_id} body.name",
        "a number as name is kept as text; the length is checked then",
    ),
    (
        "PUT /sharedkeys body.name",
        "a number as name is kept as text; the length is checked then",
    ),
    (
        "POST /dev/test-user body.*",
        "names are bounded, kudos need not be whole",
    ),
    (
        "POST /generate/pop answer.payload.seed_variation",
        "worked into the seeds of the jobs",
    ),
    (
        "POST /generate/text/async answer.warnings",
        "no warning is about texts",
    ),
    (
        "POST /generate/text/async body.nsfw",
        "texts are treated as not NSFW, whatever is said",
    ),
    (
        "POST /interrogate/async body.forms",
        "a request for nothing is refused",
    ),
    ("POST /interrogate/pop body.amount", "batches are bounded"),
    (
        "POST /interrogate/submit body.state",
        "states that do not exist are refused",
    ),
    (
        "POST /kudos/transfer header.Idempotency-Key",
        "names that are stored are bounded",
    ),
    ("PUT /users/{user_id} body.filtered", "means nothing"),
    (
        "PUT /users/{user_id} body.kudos",
        "balances stay exact numbers",
    ),
    (
        "PUT /users/{user_id} body.monthly_kudos",
        "balances stay exact numbers",
    ),
    (
        "PUT /users/{user_id} body.worker_invited",
        "counts fit the database",
    ),
    (
        "PUT /workers/{worker_id} body.maintenance_msg",
        "said by `community.md` § 5.4",
    ),
    (
        "GET /styles/image answer.sharedkey",
        "a key that pays is shown as `shared_key`",
    ),
    (
        "GET /styles/image/{style_id} answer.sharedkey",
        "a key that pays is shown as `shared_key`",
    ),
    (
        "GET /styles/image_by_name/{style_name} answer.sharedkey",
        "a key that pays is shown as `shared_key`",
    ),
    (
        "PATCH /collections/{collection_id} body.styles[]",
        "texts that are stored are bounded",
    ),
    (
        "POST /collections body.styles[]",
        "texts that are stored are bounded",
    ),
    (
        "PATCH /styles/image/{style_id} body.models[]",
        "texts that are stored are bounded",
    ),
    (
        "PATCH /styles/text/{style_id} body.models[]",
        "texts that are stored are bounded",
    ),
    (
        "POST /styles/image body.models[]",
        "texts that are stored are bounded",
    ),
    (
        "POST /styles/text body.models[]",
        "texts that are stored are bounded",
    ),
    (
        "PATCH /styles/image/{style_id}/example/{example_id} body.url",
        "texts that are stored are bounded",
    ),
    (
        "POST /styles/image/{style_id}/example body.url",
        "texts that are stored are bounded",
    ),
    (
        "PATCH /styles/image/{style_id} body.sharedkey",
        "empty for none from now on",
    ),
    (
        "PATCH /styles/text/{style_id} body.sharedkey",
        "empty for none from now on",
    ),
];

/// One operation of the recorded protocol.
pub(crate) fn recorded() -> Vec<Value> {
    let recorded: Vec<Value> = serde_json::from_str(ENDPOINTS).unwrap();
    assert_eq!(recorded.len(), 91);
    recorded
}

#[test]
fn operations_are_as_recorded() {
    let document = document();
    let mut found = BTreeMap::new();
    let mut compared = 0;
    for recorded in recorded() {
        let (method, path) = (text(&recorded["method"]), text(&recorded["path"]));
        let ours = document["paths"].as_object().unwrap().iter();
        let ours = ours
            .filter(|(ours, _)| nameless(ours) == nameless(path))
            .find_map(|(ours, methods)| Some((ours, methods.get(method.to_lowercase())?)));
        let Some((our_path, operation)) = ours else {
            panic!("{method} {path} is not described");
        };
        assert_eq!(our_path, path, "{method}: the parameters have other names");
        let name = format!("{method} {}", path.trim_start_matches("/api/v2"));
        let mut comparison = Comparison::new(&document, name);
        comparison.operation(&recorded, operation);
        found.extend(comparison.found);
        compared += 1;
    }
    let is_listed = |place: &String| DIFFERENCES.iter().any(|(listed, _)| covers(listed, place));
    let unlisted: Vec<String> = found
        .iter()
        .filter(|(place, _)| !is_listed(place))
        .map(|(place, what)| format!("{place}: {what}"))
        .collect();
    let stale: Vec<_> = DIFFERENCES
        .iter()
        .filter(|(listed, _)| !found.keys().any(|place| covers(listed, place)))
        .collect();
    println!(
        "{compared} operations compared, {} differences listed",
        DIFFERENCES.len()
    );
    assert!(
        unlisted.is_empty() && stale.is_empty(),
        "{}\nlisted, but the same: {stale:?}",
        unlisted.join("\n")
    );
}

fn covers(listed: &str, place: &str) -> bool {
    match listed.strip_suffix('*') {
        Some(start) => place.starts_with(start),
        None => listed == place,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

struct Comparison<'a> {
    document: &'a Value,
    name: String,
    /// Place → what differs.
    found: BTreeMap<String, String>,
}

impl<'a> Comparison<'a> {
    fn new(document: &'a Value, name: String) -> Self {
        Self {
            document,
            name,
            found: BTreeMap::new(),
        }
    }

    fn note(&mut self, place: &str, what: String) {
        self.found.insert(format!("{} {place}", self.name), what);
    }

    fn operation(&mut self, recorded: &Value, ours: &'a Value) {
        self.statuses(recorded, ours);
        for field in recorded["request_fields"].as_array().unwrap() {
            let place = text(&field["in"]);
            if place != "body" {
                self.parameter(place, field, ours);
            }
        }
        let body = &ours["requestBody"]["content"]["application/json"]["schema"];
        let in_body = |field: &&Value| field["in"] == "body";
        let fields = recorded["request_fields"].as_array().unwrap();
        let fields: Vec<&Value> = fields.iter().filter(in_body).collect();
        self.members("body", &fields, body, Side::In);
        let yes = ours["responses"].as_object().unwrap().iter();
        let yes: Vec<&Value> = yes
            .filter(|(status, _)| status.starts_with('2'))
            .map(|(_, response)| &response["content"]["application/json"]["schema"])
            .map(|schema| match text(&recorded["response_shape"]) {
                "array" => &schema["items"],
                _ => schema,
            })
            .collect();
        let fields: Vec<&Value> = recorded["response_fields"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        self.answers(&fields, &yes);
    }

    fn statuses(&mut self, recorded: &Value, ours: &Value) {
        let ours: BTreeSet<&String> = ours["responses"].as_object().unwrap().keys().collect();
        for status in recorded["statuses"].as_array().unwrap() {
            if !ours.contains(&status.to_string()) {
                self.note(&format!("status {status}"), "ours has it not".to_owned());
            }
        }
    }

    /// A key is no parameter of ours: it is how the operation is secured.
    fn parameter(&mut self, place: &str, field: &Value, ours: &'a Value) {
        let name = text(&field["name"]);
        let required = field["required"] == true;
        let here = format!("{place}.{name}");
        if name == "apikey" {
            let security = ours["security"].as_array().unwrap();
            let needed =
                !security.is_empty() && security.iter().all(|way| way["apikey"].is_array());
            if security.is_empty() || needed != required {
                self.note(&here, format!("required: {required}, ours {security:?}"));
            }
            return;
        }
        let parameters = ours["parameters"].as_array().unwrap();
        let found = parameters
            .iter()
            .find(|p| p["name"] == name && p["in"] == place);
        match found {
            None => self.note(&here, "ours has it not".to_owned()),
            Some(found) if (found["required"] == true) != required => {
                self.note(&here, format!("required: {required}"));
            }
            // A segment of a path is never empty.
            Some(found) if place == "path" => self.value(&here, field, &found["schema"], Side::Out),
            Some(found) => self.value(&here, field, &found["schema"], Side::In),
        }
    }

    /// Every recorded member must be in one of our answers, with the recorded type.
    fn answers(&mut self, fields: &[&Value], ours: &[&'a Value]) {
        for field in fields {
            let name = text(&field["name"]);
            let known = ours
                .iter()
                .find_map(|schema| self.resolve(schema)["properties"].get(name));
            let here = format!("answer.{name}");
            match known {
                Some(known) => self.value(&here, field, known, Side::Out),
                None => self.note(&here, "ours has it not".to_owned()),
            }
        }
    }

    fn members(&mut self, place: &str, fields: &[&Value], ours: &'a Value, side: Side) {
        let ours = self.resolve(ours);
        for field in fields.iter().filter(|field| field["name"] != "*") {
            let name = text(&field["name"]);
            let here = format!("{place}.{name}");
            let Some(known) = ours["properties"].get(name) else {
                if ours["additionalProperties"].is_null() {
                    self.note(&here, "ours has it not".to_owned());
                }
                continue;
            };
            let required = ours["required"].as_array().into_iter().flatten();
            let required = required.into_iter().any(|one| one == name);
            if side == Side::In && required != (field["required"] == true) {
                self.note(&here, format!("required: {}", field["required"]));
            }
            self.value(&here, field, known, side);
        }
    }

    fn value(&mut self, here: &str, field: &Value, ours: &'a Value, side: Side) {
        let ours = self.resolve(ours);
        let wanted = match text(&field["type"]) {
            "any" => return,
            "datetime-rfc822" => "string",
            other => other,
        };
        let is_choice = ours.get("oneOf").is_some();
        let types = match &ours["type"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several.iter().map(|one| text(one).to_owned()).collect(),
            _ if is_choice => vec!["string".to_owned()],
            _ => Vec::new(),
        };
        // Some numbers that happen to be whole where it was recorded.
        let fits = |ours: &String| ours == wanted || (wanted == "number" && ours == "integer");
        if !types.iter().any(fits) {
            self.note(here, format!("{wanted}, ours {types:?}"));
        }
        if side == Side::In {
            self.bounds(here, field, ours);
        }
        if let Some(fields) = field["fields"].as_array() {
            let fields: Vec<&Value> = fields.iter().collect();
            self.members(here, &fields, ours, side);
        }
        if field["items"].is_object() {
            self.value(&format!("{here}[]"), &field["items"], &ours["items"], side);
        }
    }

    fn bounds(&mut self, here: &str, field: &Value, ours: &Value) {
        let pairs = [
            ("min", "minimum"),
            ("max", "maximum"),
            ("min_length", "minLength"),
            ("max_length", "maxLength"),
            ("multiple_of", "multipleOf"),
            ("unique_items", "uniqueItems"),
        ];
        for (recorded, keyword) in pairs {
            let (wanted, ours) = (&field[recorded], &ours[keyword]);
            let same = wanted == ours
                || wanted.as_f64() == ours.as_f64() && wanted.is_number() == ours.is_number()
                || (wanted == 0 && ours.is_null());
            if !same {
                self.note(here, format!("{keyword} {wanted}, ours {ours}"));
            }
        }
        let set = |value: &Value| -> BTreeSet<String> {
            let words = value.as_array().into_iter().flatten();
            words.map(|word| text(word).to_owned()).collect()
        };
        let (wanted, ours) = (set(&field["enum"]), set(&ours["enum"]));
        if wanted != ours {
            self.note(here, format!("one of {wanted:?}, ours {ours:?}"));
        }
    }

    /// The structure behind a reference; that which is not `null` of two.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        resolve(self.document, schema)
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(place) = schema["$ref"].as_str() {
        let found = document.pointer(place.trim_start_matches('#'));
        return resolve(document, found.unwrap());
    }
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    match choices.into_iter().find(|choice| choice["type"] != "null") {
        Some(choice) => resolve(document, choice),
        None => schema,
    }
}

/// What a schema is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// What is sent: bounds count.
    In,
    /// What comes back.
    Out,
}
