//! The same tables as JSON Schema, for the documentation of the API.

use serde_json::{Map, Value, json};

use super::{Field, Kind, Schema};

impl Schema {
    /// The table as JSON Schema, draft 2020-12. What it lets through, [`Schema::check`] does.
    pub fn describe(&self) -> Value {
        object(self.fields)
    }
}

impl Kind {
    /// The same for a single value.
    pub fn describe(&self) -> Value {
        match self {
            Self::Bool => json!({ "type": "boolean" }),
            Self::Text { min, max } => {
                let mut schema = typed("string");
                put(&mut schema, "minLength", *min, *min > 0);
                put(&mut schema, "maxLength", *max, *max < usize::MAX);
                schema.into()
            }
            Self::Choice(choices) => json!({ "type": "string", "enum": choices }),
            Self::Integer {
                min,
                max,
                multiple_of,
            } => {
                let mut schema = typed("integer");
                put(&mut schema, "minimum", *min, *min > i64::MIN);
                put(&mut schema, "maximum", *max, *max < i64::MAX);
                put(&mut schema, "multipleOf", *multiple_of, *multiple_of > 1);
                schema.into()
            }
            Self::Number { min, max } => {
                let mut schema = typed("number");
                put(&mut schema, "minimum", *min, *min > f64::MIN);
                put(&mut schema, "maximum", *max, *max < f64::MAX);
                schema.into()
            }
            Self::List { items, unique } => {
                let mut schema = typed("array");
                schema.insert("items".to_owned(), items.describe());
                put(&mut schema, "uniqueItems", true, *unique);
                schema.into()
            }
            Self::Object(fields) => object(fields),
            Self::FreeObject => json!({ "type": "object", "additionalProperties": true }),
            Self::Nullable(kind) => {
                let mut schema = kind.describe();
                if let Some(name) = schema.get_mut("type") {
                    *name = json!([name.take(), "null"]);
                }
                schema
            }
            Self::Any => json!({ "type": ["string", "number", "boolean", "array", "object"] }),
        }
    }
}

fn object(fields: &[Field]) -> Value {
    let mut schema = typed("object");
    let describe = |field: &Field| {
        let mut value = field.kind.describe();
        if let Value::Object(members) = &mut value {
            put(members, "description", field.doc, !field.doc.is_empty());
        }
        (field.name.to_owned(), value)
    };
    let properties: Map<String, Value> = fields.iter().map(describe).collect();
    schema.insert("properties".to_owned(), properties.into());
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let any = !required.is_empty();
    put(&mut schema, "required", required, any);
    schema.into()
}

fn typed(name: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), name.into())])
}

/// Says a keyword where it means something.
fn put(schema: &mut Map<String, Value>, keyword: &str, value: impl Into<Value>, means: bool) {
    if means {
        schema.insert(keyword.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_read_as_json_schema() {
        const SCHEMA: Schema = Schema {
            name: "Test",
            fields: &[
                Field::required("name", Kind::text(1, 3), "Its name."),
                Field::optional("any", Kind::Nullable(&Kind::INTEGER), ""),
                Field::optional("tags", Kind::list(&Kind::Choice(&["a", "b"])), ""),
                Field::optional(
                    "size",
                    Kind::Integer {
                        min: 64,
                        max: 128,
                        multiple_of: 64,
                    },
                    "",
                ),
            ],
        };
        assert_eq!(
            SCHEMA.describe(),
            json!({
                "type": "object",
                "properties": {
                    "name": { "type": "string", "minLength": 1, "maxLength": 3,
                        "description": "Its name." },
                    "any": { "type": ["integer", "null"] },
                    "tags": { "type": "array", "items": { "type": "string", "enum": ["a", "b"] } },
                    "size": { "type": "integer", "minimum": 64, "maximum": 128, "multipleOf": 64 },
                },
                "required": ["name"],
            })
        );
    }
}
