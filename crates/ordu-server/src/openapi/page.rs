//! The same description for people: what the page of the API shows.
#![expect(
    clippy::indexing_slicing,
    reason = "a `Value` answers null for what it has not, and only objects of our own get members"
)]

use serde_json::Value;

use super::operation::{Body, Operation, Place};
use super::{Group, Site, document, refusal, table};

/// Everything on the page.
pub(crate) struct Page {
    pub(crate) sections: Vec<Section>,
    pub(crate) structures: Vec<Structure>,
}

/// Operations about one noun.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) entries: Vec<Entry>,
}

/// One operation.
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) summary: &'static str,
    pub(crate) note: &'static str,
    pub(crate) access: String,
    pub(crate) inputs: Vec<Row>,
    pub(crate) answers: Vec<Reply>,
    pub(crate) sample: Option<String>,
}

/// A member of a body or an answer, or a parameter.
pub(crate) struct Row {
    /// Nested members are dotted.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) place: &'static str,
    pub(crate) kind: String,
    pub(crate) required: bool,
    pub(crate) doc: String,
}

/// One status that an operation may answer with.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) doc: &'static str,
    /// The structure of its body, if it has one.
    pub(crate) structure: Option<String>,
    pub(crate) is_list: bool,
}

/// What an answer holds.
pub(crate) struct Structure {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) rows: Vec<Row>,
}

impl Page {
    pub(crate) fn new(site: &Site<'_>) -> Self {
        let groups = table::groups();
        let document = document::document(site, &groups);
        let bodies: Vec<&str> = groups
            .iter()
            .flat_map(|group| &group.operations)
            .filter_map(|operation| Some(operation.body.as_ref()?.schema.name))
            .collect();
        let structures = document["components"]["schemas"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !bodies.contains(&name.as_str()))
            .map(|(name, schema)| structure(name, schema))
            .collect();
        let sections = groups.iter().map(|group| section(group, &document));
        Self {
            sections: sections.collect(),
            structures,
        }
    }
}

fn section(group: &Group, document: &Value) -> Section {
    let entries = group.operations.iter();
    Section {
        name: group.name,
        doc: group.doc,
        entries: entries
            .map(|operation| entry(operation, document))
            .collect(),
    }
}

fn entry(operation: &Operation, document: &Value) -> Entry {
    let path = format!("{}{}", ordu_api::BASE_PATH, operation.path);
    let method = operation.method.as_str();
    let described = &document["paths"][&path][method.to_ascii_lowercase()];
    Entry {
        id: operation.id(),
        method: method.to_owned(),
        summary: operation.summary,
        note: operation.note,
        access: operation.access.sentence(),
        inputs: inputs(operation),
        answers: replies(operation, described),
        sample: operation.body.as_ref().map(sample),
        path,
    }
}

fn inputs(operation: &Operation) -> Vec<Row> {
    let parameters = operation.parameters.iter();
    let mut rows: Vec<Row> = parameters
        .map(|parameter| Row {
            name: parameter.name.to_owned(),
            place: match parameter.place {
                Place::Path => "path",
                Place::Query => "query",
                Place::Header => "header",
            },
            kind: kind(&parameter.kind.describe()),
            required: parameter.place == Place::Path,
            doc: parameter.doc.to_owned(),
        })
        .collect();
    if let Some(body) = &operation.body {
        members(&body.schema.describe(), "", "body", &mut rows);
    }
    rows
}

fn replies(operation: &Operation, described: &Value) -> Vec<Reply> {
    let mut replies: Vec<Reply> = operation
        .answers
        .iter()
        .map(|answer| {
            let content = &described["responses"][answer.status.to_string()]["content"];
            let schema = &content["application/json"]["schema"];
            let is_list = schema["type"] == "array";
            let named = if is_list { &schema["items"] } else { schema };
            Reply {
                status: answer.status,
                doc: answer.doc,
                structure: named["$ref"].as_str().map(last_part),
                is_list,
            }
        })
        .collect();
    replies.extend(operation.all_refusals().into_iter().map(|status| Reply {
        status,
        doc: refusal(status),
        structure: Some("ErrorBody".to_owned()),
        is_list: false,
    }));
    replies
}

fn sample(body: &Body) -> String {
    let value: Value = serde_json::from_str(body.sample).unwrap_or_default();
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn structure(name: &str, schema: &Value) -> Structure {
    let mut rows = Vec::new();
    members(schema, "", "", &mut rows);
    let words = schema["oneOf"].as_array().into_iter().flatten();
    rows.extend(words.map(|word| Row {
        name: word["const"].as_str().unwrap_or_default().to_owned(),
        place: "",
        kind: "word".to_owned(),
        required: false,
        doc: said(word),
    }));
    Structure {
        name: name.to_owned(),
        doc: said(schema),
        rows,
    }
}

fn said(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The members of an object, and those of objects in it.
fn members(schema: &Value, within: &str, place: &'static str, rows: &mut Vec<Row>) {
    let required = schema["required"].as_array().map(Vec::as_slice);
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let dotted = match within {
            "" => name.clone(),
            within => format!("{within}.{name}"),
        };
        rows.push(Row {
            name: dotted.clone(),
            place,
            kind: kind(member),
            required: required.is_some_and(|all| all.iter().any(|one| one == name)),
            doc: said(member),
        });
        members(member, &dotted, place, rows);
        members(&member["items"], &format!("{dotted}[]"), place, rows);
    }
}

/// A type with its bounds, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return last_part(name);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let kinds: Vec<String> = choices.iter().map(kind).collect();
        return kinds.join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return format!("one of {}", words.join(", "));
    }
    let name = match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ => "anything".to_owned(),
    };
    let bounds = bounds(schema);
    match schema.get("items") {
        Some(items) => format!("list of {}", kind(items)),
        None if bounds.is_empty() => name,
        None => format!("{name} {bounds}"),
    }
}

fn bounds(schema: &Value) -> String {
    let (low, high) = if schema["type"] == "string" {
        (&schema["minLength"], &schema["maxLength"])
    } else {
        (&schema["minimum"], &schema["maximum"])
    };
    let range = match (low, high) {
        (Value::Null, Value::Null) => String::new(),
        (low, Value::Null) => format!("≥ {low}"),
        (Value::Null, high) => format!("≤ {high}"),
        (low, high) => format!("{low}…{high}"),
    };
    let unit = match (range.is_empty(), schema["type"] == "string") {
        (false, true) => " characters",
        _ => "",
    };
    match &schema["multipleOf"] {
        Value::Null => format!("{range}{unit}"),
        step => format!("{range} in steps of {step}"),
    }
}

fn last_part(place: &str) -> String {
    place.rsplit('/').next().unwrap_or(place).to_owned()
}
