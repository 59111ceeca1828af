//! Every declared member of every body: at its bounds it is taken, one step beyond it is refused by its name.
//!
//! # Source
//! `generation.md` § 1.7; the bounds themselves are compared with the published description elsewhere.

use ordu_api::image::ImageParams;
use ordu_api::schema::{Field, Kind, Schema};
use ordu_api::style::StyleParams as _;
use ordu_api::text::TextParams;
use serde_json::{Value, json};

/// The bodies, by the path that takes them.
fn bodies() -> [(&'static str, &'static Schema); 12] {
    [
        ("/generate/async", &ordu_api::image::REQUEST_SCHEMA),
        ("/generate/pop", &ordu_api::image::POP_SCHEMA),
        ("/generate/submit", &ordu_api::image::SUBMIT_SCHEMA),
        ("/generate/text/async", &ordu_api::text::REQUEST_SCHEMA),
        ("/generate/text/pop", &ordu_api::text::POP_SCHEMA),
        ("/generate/text/submit", &ordu_api::text::SUBMIT_SCHEMA),
        ("/interrogate/async", &ordu_api::alchemy::REQUEST_SCHEMA),
        ("/interrogate/pop", &ordu_api::alchemy::POP_SCHEMA),
        ("/interrogate/submit", &ordu_api::alchemy::SUBMIT_SCHEMA),
        ("/styles/image", &ImageParams::FORM),
        ("/styles/text", &TextParams::FORM),
        ("/collections", &ordu_api::collection::SCHEMA),
    ]
}

/// A value for a member, and whether it is taken.
struct Case {
    path: Vec<String>,
    value: Value,
    is_taken: bool,
}

#[tokio::test]
async fn members_are_taken_within_their_bounds_and_refused_beyond() {
    let horde = crate::support::TestHorde::start().await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, schema) in bodies() {
        for case in cases(schema.fields, &[]) {
            tried += 1;
            let mut body = least(schema.fields);
            put(&mut body, &case.path, case.value.clone());
            // Without a key nothing else is looked at.
            let answer = horde.post(path, None, &body).await;
            let name = case.path.join(".");
            let errors = answer.body["errors"].as_object();
            let is_refused = errors.is_some_and(|errors| {
                errors
                    .keys()
                    .any(|key| *key == name || key.starts_with(&format!("{name}.")))
            });
            if answer.status != 400 || is_refused == case.is_taken {
                let value: String = case.value.to_string().chars().take(60).collect();
                wrong.push(format!("{path} {name} = {value}: {}", answer.body));
            }
        }
    }
    println!("{tried} values of members were tried");
    assert!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn cases(fields: &[Field], outer: &[String]) -> Vec<Case> {
    let mut cases = Vec::new();
    for field in fields {
        let mut path = outer.to_vec();
        path.push(field.name.to_owned());
        let case = |(value, is_taken)| Case {
            path: path.clone(),
            value,
            is_taken,
        };
        cases.extend(values(&field.kind).into_iter().map(case));
        let takes_null = matches!(field.kind, Kind::Nullable(_));
        cases.push(case((Value::Null, takes_null)));
        match &field.kind {
            Kind::Object(inner) => cases.extend(self::cases(inner, &path)),
            Kind::List {
                items: Kind::Object(inner),
                ..
            } => {
                path.push("0".to_owned());
                cases.extend(self::cases(inner, &path));
            }
            _ => {}
        }
    }
    cases
}

/// Values at the bounds of a kind, and one step beyond.
fn values(kind: &Kind) -> Vec<(Value, bool)> {
    match *kind {
        Kind::Bool => vec![
            (json!(true), true),
            (json!("true"), false),
            (json!(1), false),
        ],
        Kind::Text { min, max } => {
            let mut values = vec![(json!(5), false), (json!("a".repeat(min)), true)];
            if min > 0 {
                values.push((json!("a".repeat(min - 1)), false));
            }
            if max < usize::MAX {
                values.push((json!("ä".repeat(max)), true));
                values.push((json!("ä".repeat(max + 1)), false));
            }
            values
        }
        Kind::Choice(choices) => {
            let mut values: Vec<_> = choices.iter().map(|choice| (json!(choice), true)).collect();
            values.extend([(json!("none of them"), false), (json!(0), false)]);
            values
        }
        Kind::Integer {
            min,
            max,
            multiple_of,
        } => {
            let mut values = vec![(json!("1"), false), (json!(1.5), false)];
            if multiple_of > 1 {
                values.push((json!(min + 1), false));
            }
            if min > i64::MIN {
                values.extend([(json!(min), true), (json!(min - multiple_of), false)]);
            }
            if max < i64::MAX {
                values.extend([(json!(max), true), (json!(max + multiple_of), false)]);
            }
            values
        }
        Kind::Number { min, max } => {
            let mut values = vec![(json!("1"), false), (json!([1]), false)];
            if min > f64::MIN {
                values.extend([(json!(min), true), (json!(min - 0.001), false)]);
            }
            if max < f64::MAX {
                values.extend([(json!(max), true), (json!(max + 0.001), false)]);
            }
            values
        }
        Kind::List { items, unique } => {
            let mut values = vec![(json!({}), false), (json!("a"), false)];
            for (item, is_taken) in self::values(items) {
                values.push((json!([item]), is_taken));
            }
            if let (true, Some((item, _))) = (unique, self::values(items).first()) {
                values.push((json!([item, item]), false));
            }
            values
        }
        Kind::Object(_) => vec![(json!([]), false), (json!("a"), false)],
        Kind::FreeObject => vec![(json!({ "a": 1 }), true), (json!([]), false)],
        Kind::Nullable(kind) => values(kind),
        Kind::Any => vec![(json!(5), true)],
    }
}

/// The least body that is taken.
fn least(fields: &[Field]) -> Value {
    let mut body = json!({});
    for field in fields.iter().filter(|field| field.required) {
        body[field.name] = some(&field.kind);
    }
    body
}

fn some(kind: &Kind) -> Value {
    match kind {
        Kind::Object(fields) => least(fields),
        Kind::List { items, .. } => json!([some(items)]),
        kind => {
            let taken = values(kind).into_iter().find(|(_, is_taken)| *is_taken);
            taken.map_or(json!(1), |(value, _)| value)
        }
    }
}

/// Puts a value at a path, over the least that is there.
fn put(body: &mut Value, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        *body = value;
        return;
    };
    if name == "0" {
        let is_list = body.is_array();
        if !is_list {
            *body = json!([{}]);
        }
        return put(&mut body[0], rest, value);
    }
    if !body.is_object() {
        *body = json!({});
    }
    put(&mut body[name.as_str()], rest, value);
}
