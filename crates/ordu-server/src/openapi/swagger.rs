//! The same description as Swagger 2.0, for tools that know nothing newer.
//!
//! What Swagger 2.0 cannot say is said more loosely: `null` as `x-nullable`, alternatives not at
//! all.
#![expect(
    clippy::indexing_slicing,
    reason = "a `Value` answers null for what it has not, and only objects of our own get members"
)]

use serde_json::{Map, Value, json};

/// What every path begins with, said once.
const BASE: &str = "/api";

/// Rewrites an OpenAPI 3.1 document of ours.
pub(crate) fn downgrade(document: &Value) -> Value {
    let paths = members(&document["paths"]);
    let paths: Map<String, Value> = paths
        .map(|(path, methods)| {
            let methods: Map<String, Value> = members(methods)
                .map(|(method, operation)| (method.clone(), downgrade_operation(operation)))
                .collect();
            let path = path.strip_prefix(BASE).unwrap_or(path);
            (path.to_owned(), methods.into())
        })
        .collect();
    let definitions: Map<String, Value> = members(&document["components"]["schemas"])
        .map(|(name, schema)| (name.clone(), downgrade_schema(schema)))
        .collect();
    json!({
        "swagger": "2.0",
        "info": document["info"],
        "basePath": BASE,
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "tags": document["tags"],
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": document["components"]["securitySchemes"],
    })
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn downgrade_operation(operation: &Value) -> Value {
    let mut kept: Map<String, Value> = members(operation)
        .filter(|(name, _)| !matches!(name.as_str(), "requestBody" | "parameters" | "responses"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut parameters: Vec<Value> = operation["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(downgrade_parameter)
        .collect();
    let body = &operation["requestBody"];
    if body.is_object() {
        parameters.push(json!({
            "name": "payload",
            "in": "body",
            "required": body["required"],
            "schema": downgrade_schema(&body["content"]["application/json"]["schema"]),
        }));
    }
    let responses: Map<String, Value> = members(&operation["responses"])
        .map(|(status, response)| (status.clone(), downgrade_response(response)))
        .collect();
    kept.insert("parameters".to_owned(), parameters.into());
    kept.insert("responses".to_owned(), responses.into());
    kept.into()
}

/// A parameter outside the body carries its schema itself.
fn downgrade_parameter(parameter: &Value) -> Value {
    let mut flat = downgrade_schema(&parameter["schema"]);
    for name in ["name", "in", "required", "description"] {
        flat[name] = parameter[name].clone();
    }
    flat
}

fn downgrade_response(response: &Value) -> Value {
    let mut flat = json!({ "description": response["description"] });
    let schema = &response["content"]["application/json"]["schema"];
    if !schema.is_null() {
        flat["schema"] = downgrade_schema(schema);
    }
    flat
}

fn downgrade_schema(schema: &Value) -> Value {
    let Value::Object(keywords) = schema else {
        // `true`: anything.
        return json!({});
    };
    if let Some(chosen) = keywords.get("anyOf").or(keywords.get("oneOf")) {
        return downgrade_choice(keywords, chosen);
    }
    let mut flat = Map::new();
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("$ref", Value::String(place)) => {
                let place = place.replace("#/components/schemas/", "#/definitions/");
                flat.insert("$ref".to_owned(), place.into());
            }
            ("type", Value::Array(types)) => downgrade_types(&mut flat, types),
            ("const", value) => {
                flat.insert("enum".to_owned(), json!([value]));
            }
            ("properties", properties) => {
                let properties: Map<String, Value> = members(properties)
                    .map(|(name, schema)| (name.clone(), downgrade_schema(schema)))
                    .collect();
                flat.insert("properties".to_owned(), properties.into());
            }
            ("items", items) => {
                flat.insert("items".to_owned(), downgrade_schema(items));
            }
            ("additionalProperties", value) if value.is_object() => {
                flat.insert(keyword.clone(), downgrade_schema(value));
            }
            _ => {
                flat.insert(keyword.clone(), value.clone());
            }
        }
    }
    flat.into()
}

/// One of several types: `null` becomes a mark, of others none is said.
fn downgrade_types(flat: &mut Map<String, Value>, types: &[Value]) {
    let mut named = types.iter().filter(|name| *name != "null");
    if let (Some(name), None) = (named.next(), named.next()) {
        flat.insert("type".to_owned(), name.clone());
    }
    if types.iter().any(|name| name == "null") {
        flat.insert("x-nullable".to_owned(), true.into());
    }
}

/// Words to choose from become an `enum`; a structure or `null` becomes the structure.
fn downgrade_choice(keywords: &Map<String, Value>, chosen: &Value) -> Value {
    let chosen = chosen.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<&Value> = chosen
        .iter()
        .filter_map(|choice| choice.get("const"))
        .collect();
    let mut flat = if words.len() == chosen.len() {
        json!({ "type": "string", "enum": words })
    } else {
        let mut others = chosen.iter().filter(|choice| choice["type"] != "null");
        match (others.next(), others.next()) {
            (Some(only), None) => downgrade_schema(only),
            _ => json!({}),
        }
    };
    if let (Some(said), None) = (keywords.get("description"), flat.get("$ref")) {
        flat["description"] = said.clone();
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_swagger_cannot_say_is_said_more_loosely() {
        let cases = [
            (
                json!({ "type": ["string", "null"], "maxLength": 3 }),
                json!({ "type": "string", "x-nullable": true, "maxLength": 3 }),
            ),
            (
                json!({ "anyOf": [{ "$ref": "#/components/schemas/A" }, { "type": "null" }] }),
                json!({ "$ref": "#/definitions/A" }),
            ),
            (
                json!({ "oneOf": [{ "type": "string", "const": "a" }, { "const": "b" }] }),
                json!({ "type": "string", "enum": ["a", "b"] }),
            ),
            (json!({ "type": ["string", "number"] }), json!({})),
            (json!(true), json!({})),
        ];
        for (newer, older) in cases {
            assert_eq!(downgrade_schema(&newer), older, "{newer}");
        }
    }

    /// No keyword that Swagger 2.0 does not know is left anywhere.
    #[test]
    fn the_whole_document_is_swagger() {
        let document = downgrade(&super::super::description("Test"));
        assert_eq!(document["swagger"], "2.0");
        assert_eq!(document["info"]["version"], "2.5");
        let text = document.to_string();
        for newer in [
            "\"anyOf\"",
            "\"oneOf\"",
            "\"const\"",
            "#/components",
            "\"null\"",
        ] {
            assert!(!text.contains(newer), "{newer}");
        }
    }
}
