//! The description as OpenAPI 3.1.
#![expect(
    clippy::indexing_slicing,
    reason = "a `Value` answers null for what it has not, and only objects of our own get members"
)]

use axum::http::StatusCode;
use ordu_api::API_VERSION;
use ordu_api::error::ErrorBody;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Site;
use super::operation::{Access, Answer, Group, Operation, Parameter, Place, Shape};

/// What an answer that says no is called among the structures.
const ERROR: &str = "#/components/schemas/ErrorBody";

/// The whole description.
pub(crate) fn document(site: &Site<'_>, groups: &[Group]) -> Value {
    let mut structures = Structures::new();
    let mut paths: Map<String, Value> = Map::new();
    for group in groups {
        for operation in &group.operations {
            let path = format!("{}{}", ordu_api::BASE_PATH, operation.path);
            let methods = paths.entry(path).or_insert_with(|| json!({}));
            let method = operation.method.as_str().to_ascii_lowercase();
            if let Value::Object(methods) = methods {
                methods.insert(method, describe(operation, group.name, &mut structures));
            }
        }
    }
    let tags: Vec<Value> = groups
        .iter()
        .map(|group| json!({ "name": group.name, "description": group.doc }))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": info(site),
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": structures.finish(),
            "securitySchemes": {
                "apikey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "apikey",
                    "description": "An account's key, or where the operation says so a shared key. \
                        `0000000000` is everybody's.",
                },
            },
        },
    })
}

fn info(site: &Site<'_>) -> Value {
    let mut info = json!({
        "title": site.title,
        "version": API_VERSION,
        "description": "Pooled, volunteer-run inference. Every answer can be cut down with the \
            header `X-Fields: member,list{member}`.",
    });
    if let Some(contact) = site.contact {
        let member = if contact.starts_with("http://") || contact.starts_with("https://") {
            "url"
        } else if contact.contains('@') && !contact.contains(char::is_whitespace) {
            "email"
        } else {
            "name"
        };
        info["contact"] = json!({ member: contact });
    }
    info
}

/// The structures of bodies and answers, by name.
struct Structures {
    generator: SchemaGenerator,
    bodies: Map<String, Value>,
}

impl Structures {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12()
            .for_serialize()
            .with(|settings| settings.definitions_path = "/components/schemas".into());
        let mut generator = settings.into_generator();
        generator.subschema_for::<ErrorBody>();
        Self {
            generator,
            bodies: Map::new(),
        }
    }

    fn finish(mut self) -> Value {
        let mut all = self.generator.take_definitions(true);
        all.extend(self.bodies);
        let mut all = Value::Object(all);
        drop_defaults(&mut all);
        all
    }
}

/// An answer has no defaults: what is not there is not there.
fn drop_defaults(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("default");
            members.values_mut().for_each(drop_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_defaults),
        _ => {}
    }
}

fn describe(operation: &Operation, tag: &str, structures: &mut Structures) -> Value {
    let mut described = json!({
        "operationId": operation.id(),
        "tags": [tag],
        "summary": operation.summary,
        "parameters": parameters(operation),
        "responses": responses(operation, structures),
        "security": match operation.access {
            Access::Open => json!([]),
            Access::Optional(_) => json!([{}, { "apikey": [] }]),
            Access::Key(_) => json!([{ "apikey": [] }]),
        },
    });
    let mut said = operation.access.sentence();
    if !operation.note.is_empty() {
        said.push(' ');
        said.push_str(operation.note);
    }
    described["description"] = json!(said);
    if let Some(body) = &operation.body {
        let name = body.schema.name;
        structures
            .bodies
            .insert(name.to_owned(), body.schema.describe());
        let sample: Value = serde_json::from_str(body.sample).unwrap_or_default();
        described["requestBody"] = json!({
            "required": body.required,
            "content": { "application/json": {
                "schema": { "$ref": format!("#/components/schemas/{name}") },
                "example": sample,
            } },
        });
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let agent = Parameter {
        name: "Client-Agent",
        place: Place::Header,
        kind: ordu_api::schema::Kind::TEXT,
        doc: "The program that asks, `name:version:contact`.",
    };
    let all = operation.parameters.iter().chain([&agent]);
    all.map(|parameter| {
        json!({
            "name": parameter.name,
            "in": match parameter.place {
                Place::Path => "path",
                Place::Query => "query",
                Place::Header => "header",
            },
            "required": parameter.place == Place::Path,
            "description": parameter.doc,
            "schema": parameter.kind.describe(),
        })
    })
    .collect()
}

fn responses(operation: &Operation, structures: &mut Structures) -> Value {
    let mut responses = Map::new();
    for answer in &operation.answers {
        responses.insert(answer.status.to_string(), response(answer, structures));
    }
    for status in operation.all_refusals() {
        responses.insert(
            status.to_string(),
            json!({
                "description": refusal(status),
                "content": { "application/json": { "schema": { "$ref": ERROR } } },
            }),
        );
    }
    responses.into()
}

fn response(answer: &Answer, structures: &mut Structures) -> Value {
    let mut response = json!({ "description": answer.doc });
    match answer.shape {
        Shape::Nothing => {}
        Shape::Json(shape) => {
            let schema = shape(&mut structures.generator).to_value();
            response["content"] = json!({ "application/json": { "schema": schema } });
        }
        Shape::Events => {
            response["content"] =
                json!({ "text/event-stream": { "schema": { "type": "string" } } });
        }
    }
    response
}

/// What a refusal with this status means, whatever its return code.
pub(crate) fn refusal(status: u16) -> &'static str {
    match status {
        400 => "The input is wrong: `errors` or `rc` says how",
        401 => "The key is unknown",
        403 => "The rules say no: `rc` says why",
        404 => "There is no such thing",
        408 => "The body arrived too slowly",
        410 => "It is over",
        413 => "The body is too large",
        423 => "It is in use: try again later",
        429 => "Too often, or too much at the same time",
        503 => "The horde cannot do this at the moment: try again after `Retry-After`",
        other => StatusCode::from_u16(other)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("No"),
    }
}

impl Access {
    /// Who may do it, as a sentence.
    pub(crate) fn sentence(self) -> String {
        match self {
            Self::Open => "No key is needed.".to_owned(),
            Self::Optional(what) => format!("No key is needed. {what}"),
            Self::Key(whose) => format!("With the key of {whose}."),
        }
    }
}

impl Operation {
    /// A name for generated clients: `get_users_user_id`.
    pub(crate) fn id(&self) -> String {
        let mut id = self.method.as_str().to_ascii_lowercase();
        for part in self.path.split('/').filter(|part| !part.is_empty()) {
            id.push('_');
            id.push_str(part.trim_matches(['{', '}']));
        }
        id.replace(['-', '.'], "_")
    }
}
