//! What a body may look like, as a table: one table per body serves validation and documentation.
//!
//! A [`Schema`] is checked against a JSON value as it came; every violation is reported at once,
//! keyed by its dotted path. Unknown members pass and are ignored. `null` is a wrong type for every
//! declared member that does not say otherwise. Whole numbers written as `512.0` count as integers and are rewritten to `512`,
//! so that a value which passed always reads into the struct beside its table.

use serde_json::{Map, Number, Value};

use crate::error::FieldErrors;

mod describe;

/// A body: an object with these members.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The name in the API documentation.
    pub name: &'static str,
    /// The declared members.
    pub fields: &'static [Field],
}

/// One declared member of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The name on the wire.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// Whether it is missed only when nothing else is wrong.
    pub last: bool,
    /// One sentence for the API documentation.
    pub doc: &'static str,
}

/// What a member may hold. All bounds are inclusive.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A text of so many characters.
    Text {
        /// The least number of characters.
        min: usize,
        /// The most characters.
        max: usize,
    },
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A whole number.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
        /// What it must be a multiple of; 1 for anything.
        multiple_of: i64,
    },
    /// Any number.
    Number {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// A list.
    List {
        /// What each item may be.
        items: &'static Self,
        /// Whether an item may appear only once.
        unique: bool,
    },
    /// An object with declared members.
    Object(&'static [Field]),
    /// An object with whatever members.
    FreeObject,
    /// Anything but `null`.
    Any,
    /// This, or `null`.
    Nullable(&'static Self),
}

impl Kind {
    /// Any text.
    pub const TEXT: Self = Self::Text {
        min: 0,
        max: usize::MAX,
    };
    /// Any whole number that fits 64 bits.
    pub const INTEGER: Self = Self::Integer {
        min: i64::MIN,
        max: i64::MAX,
        multiple_of: 1,
    };
    /// Any number.
    pub const NUMBER: Self = Self::Number {
        min: f64::MIN,
        max: f64::MAX,
    };

    /// A text of `min` to `max` characters.
    pub const fn text(min: usize, max: usize) -> Self {
        Self::Text { min, max }
    }

    /// A whole number between bounds.
    pub const fn integer(min: i64, max: i64) -> Self {
        Self::Integer {
            min,
            max,
            multiple_of: 1,
        }
    }

    /// A number between bounds.
    pub const fn number(min: f64, max: f64) -> Self {
        Self::Number { min, max }
    }

    /// A list of such items.
    pub const fn list(items: &'static Self) -> Self {
        Self::List {
            items,
            unique: false,
        }
    }
}

impl Field {
    /// A member that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            required: false,
            last: false,
            doc,
        }
    }

    /// A member that must be there.
    pub const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            required: true,
            last: false,
            doc,
        }
    }

    /// A member that must be there, but is missed only when nothing else is wrong.
    ///
    /// # Source
    /// `generation.md` § 1.6.
    pub const fn required_last(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            last: true,
            ..Self::required(name, kind, doc)
        }
    }
}

impl Schema {
    /// Checks `value` and rewrites whole numbers to integers.
    ///
    /// # Errors
    /// Every violation by dotted path; the key `""` stands for a body that is not an object.
    pub fn check(&self, value: &mut Value) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::new();
        match value {
            Value::Object(members) => {
                check_members(members, self.fields, "", &mut errors);
                if errors.is_empty() {
                    check_last(members, self.fields, &mut errors);
                }
            }
            _ => {
                errors.insert(
                    String::new(),
                    format!("{} is not of type 'object'", show(value)),
                );
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

fn check_members(
    members: &mut Map<String, Value>,
    fields: &[Field],
    path: &str,
    errors: &mut FieldErrors,
) {
    for field in fields {
        let member_path = join(path, field.name);
        match members.get_mut(field.name) {
            Some(value) => check_value(value, &field.kind, &member_path, errors),
            None if field.required && !field.last => {
                errors.insert(member_path, missing(field));
            }
            None => {}
        }
    }
}

/// Complains about the first of the members that are missed last.
fn check_last(members: &Map<String, Value>, fields: &[Field], errors: &mut FieldErrors) {
    let is_missing = |field: &&Field| field.last && !members.contains_key(field.name);
    if let Some(field) = fields.iter().find(is_missing) {
        errors.insert(field.name.to_owned(), missing(field));
    }
}

fn missing(field: &Field) -> String {
    format!("'{}' is a required property", field.name)
}

fn check_value(value: &mut Value, kind: &Kind, path: &str, errors: &mut FieldErrors) {
    let complaint = match kind {
        Kind::Bool => value
            .is_boolean()
            .then_some(())
            .ok_or_else(|| wrong_type(value, "boolean")),
        Kind::Text { min, max } => check_text(value, *min, *max),
        Kind::Choice(choices) => match value.as_str() {
            Some(text) if choices.contains(&text) => Ok(()),
            _ => Err(format!("{} is not one of {choices:?}", show(value))),
        },
        Kind::Integer {
            min,
            max,
            multiple_of,
        } => check_integer(value, *min, *max, *multiple_of),
        Kind::Number { min, max } => check_number(value, *min, *max),
        Kind::List { items, unique } => return check_list(value, items, *unique, path, errors),
        Kind::Object(fields) => match value {
            Value::Object(members) => return check_members(members, fields, path, errors),
            _ => Err(wrong_type(value, "object")),
        },
        Kind::FreeObject => value
            .is_object()
            .then_some(())
            .ok_or_else(|| wrong_type(value, "object")),
        Kind::Nullable(_) if value.is_null() => Ok(()),
        Kind::Nullable(kind) => return check_value(value, kind, path, errors),
        Kind::Any => (!value.is_null())
            .then_some(())
            .ok_or_else(|| "null is not allowed".into()),
    };
    if let Err(complaint) = complaint {
        errors.insert(path.to_owned(), complaint);
    }
}

fn check_text(value: &Value, min: usize, max: usize) -> Result<(), String> {
    let text = value.as_str().ok_or_else(|| wrong_type(value, "string"))?;
    let length = text.chars().count();
    if length < min {
        return Err(format!(
            "{} is too short: at least {min} characters",
            show(value)
        ));
    }
    if length > max {
        return Err(format!(
            "{} is too long: at most {max} characters",
            show(value)
        ));
    }
    Ok(())
}

fn check_integer(value: &mut Value, min: i64, max: i64, multiple_of: i64) -> Result<(), String> {
    let whole = whole_number(value).ok_or_else(|| wrong_type(value, "integer"))?;
    if whole < min {
        return Err(format!("{whole} is less than the minimum of {min}"));
    }
    if whole > max {
        return Err(format!("{whole} is greater than the maximum of {max}"));
    }
    if whole % multiple_of != 0 {
        return Err(format!("{whole} is not a multiple of {multiple_of}"));
    }
    *value = Value::Number(Number::from(whole));
    Ok(())
}

/// The whole number that a JSON number stands for, `512.0` included.
fn whole_number(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(whole) = value.as_i64() {
        return Some(whole);
    }
    let float = value.as_f64()?;
    let exact = float.fract() == 0.0 && float.abs() <= EXACT;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked: whole and within 2^53"
    )]
    exact.then_some(float as i64)
}

fn check_number(value: &Value, min: f64, max: f64) -> Result<(), String> {
    let number = value.as_f64().ok_or_else(|| wrong_type(value, "number"))?;
    if number < min {
        return Err(format!("{number} is less than the minimum of {min}"));
    }
    if number > max {
        return Err(format!("{number} is greater than the maximum of {max}"));
    }
    Ok(())
}

fn check_list(value: &mut Value, items: &Kind, unique: bool, path: &str, errors: &mut FieldErrors) {
    let Value::Array(list) = value else {
        errors.insert(path.to_owned(), wrong_type(value, "array"));
        return;
    };
    for (index, item) in list.iter_mut().enumerate() {
        check_value(item, items, &join(path, &index.to_string()), errors);
    }
    if unique && has_duplicates(list) {
        errors.insert(path.to_owned(), "the items are not unique".to_owned());
    }
}

fn has_duplicates(list: &[Value]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !list.iter().all(|item| seen.insert(item.to_string()))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn wrong_type(value: &Value, wanted: &str) -> String {
    format!("{} is not of type '{wanted}'", show(value))
}

/// The value for a message: short, so that a hostile body is not echoed back in full.
fn show(value: &Value) -> String {
    const SHOWN: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SCHEMA: Schema = Schema {
        name: "Test",
        fields: &[
            Field::required("name", Kind::text(1, 3), ""),
            Field::required_last("late", Kind::Bool, ""),
            Field::optional(
                "size",
                Kind::Integer {
                    min: 64,
                    max: 128,
                    multiple_of: 64,
                },
                "",
            ),
            Field::optional(
                "inner",
                Kind::Object(&[Field::optional(
                    "tags",
                    Kind::List {
                        items: &Kind::Choice(&["a", "b"]),
                        unique: true,
                    },
                    "",
                )]),
                "",
            ),
        ],
    };

    fn paths(mut value: Value) -> Vec<String> {
        SCHEMA
            .check(&mut value)
            .err()
            .unwrap_or_default()
            .into_keys()
            .collect()
    }

    #[test]
    fn violations_are_named_by_dotted_path_all_at_once() {
        assert_eq!(
            paths(json!({"name": "abc", "late": true, "size": 64, "more": null})),
            Vec::<String>::new()
        );
        assert_eq!(paths(json!([])), [""]);
        assert_eq!(
            paths(json!({"size": 65, "inner": {"tags": ["a", "c"]}})),
            ["inner.tags.1", "name", "size"]
        );
        assert_eq!(
            paths(json!({"name": null, "inner": {"tags": ["a", "a"]}})),
            ["inner.tags", "name"]
        );
        assert_eq!(
            paths(json!({"name": "abcd", "size": true, "inner": null})),
            ["inner", "name", "size"]
        );
    }

    #[test]
    fn some_members_are_missed_last() {
        assert_eq!(paths(json!({"name": "abc"})), ["late"]);
        assert_eq!(paths(json!({"name": ""})), ["name"]);
        assert_eq!(paths(json!({"name": "", "late": 5})), ["late", "name"]);
    }

    #[test]
    fn whole_floats_become_integers() {
        let mut value = json!({"name": "a", "late": true, "size": 64.0});
        SCHEMA.check(&mut value).unwrap();
        assert_eq!(value, json!({"name": "a", "late": true, "size": 64}));
        assert_eq!(paths(json!({"name": "a", "size": 64.5})), ["size"]);
        assert_eq!(paths(json!({"name": "a", "size": 1e300})), ["size"]);
    }
}
