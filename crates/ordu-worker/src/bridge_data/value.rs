//! Values as people write them: `"5"` for 5, `"true"` for true, one word for a list of one. Pure.

use serde_json::Value;

/// A document of YAML. Back-slashes inside double quotes, which YAML reads as the start of an escape,
/// are read as themselves where they start none, as in `"C:\models"`.
pub(super) fn yaml(text: &str) -> Result<Value, String> {
    // Whoever edits with Notepad.
    let text = text.trim_start_matches('\u{feff}');
    let read = |text: &str| serde_saphyr::from_str::<Option<Value>>(text);
    let value = read(text).or_else(|error| {
        let mended = with_literal_back_slashes(text);
        if mended == text {
            return Err(error);
        }
        // The first error is about what its owner wrote.
        read(&mended).map_err(|_| error)
    });
    let value = value.map_err(|error| format!("it is no YAML: {error}"))?;
    Ok(value.unwrap_or(Value::Null))
}

/// The text with every back-slash between double quotes doubled.
fn with_literal_back_slashes(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut letters = line.chars().peekable();
        let mut quoted = false;
        while let Some(letter) = letters.next() {
            mended.push(letter);
            match letter {
                '#' if !quoted => {
                    mended.extend(letters);
                    break;
                }
                '"' => quoted = !quoted,
                '\\' if quoted => {
                    mended.push('\\');
                    // What is written as two already is one.
                    letters.next_if_eq(&'\\');
                }
                _ => {}
            }
        }
    }
    mended
}

pub(super) fn flag(value: &Value) -> Result<bool, String> {
    let text = match value {
        Value::Bool(flag) => return Ok(*flag),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_lowercase(),
        _ => String::new(),
    };
    match text.as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("must be `true` or `false`, not {}", shown(value))),
    }
}

pub(super) fn whole(value: &Value, least: u64, most: u64) -> Result<u64, String> {
    let number = match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let number = number.as_f64()?;
            let is_whole = number.fract() == 0.0 && (0.0..=9e15).contains(&number);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is whole, positive and small"
            )]
            is_whole.then_some(number as u64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            format!(
                "must be a whole number from {least} to {most}, not {}",
                shown(value)
            )
        })
}

pub(super) fn share(value: &Value) -> Result<f64, String> {
    let number = value
        .as_f64()
        .or_else(|| value.as_str()?.trim().parse().ok());
    number
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| format!("must be a number from 0 to 1, not {}", shown(value)))
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err("must be a text".to_owned()),
    }
}

/// A list of texts; one text is a list of one.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, String> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let read: Result<Vec<_>, _> = items.iter().map(text).collect();
    let mut texts = read.map_err(|_| "must be a list of texts".to_owned())?;
    texts.retain(|text| !text.is_empty());
    Ok(texts)
}

pub(super) fn address(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let url = url::Url::parse(&text).ok();
    let is_web = url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if is_web {
        Ok(text)
    } else {
        Err("must start with `http://` or `https://`".to_owned())
    }
}

/// A value in a message, cut short. Lists and objects are not shown at all.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Array(_) => return "a list".to_owned(),
        Value::Object(_) => return "a list of keys".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!("`{}`", text.chars().take(40).collect::<String>())
}
