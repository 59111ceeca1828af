//! Reading the answer to a pop without ever refusing one.
//!
//! A horde that puts a number where the protocol has a text must not cost its requester the job. The
//! table below says what each member should be; what is something else is converted where that makes
//! sense and reads as absent where it does not.

use ordu_api::JobId;
use ordu_api::image::{ImageJob, ImagePayload, SourceProcessing};
use serde_json::{Map, Value, json};

/// What a member should be.
#[derive(Clone, Copy)]
enum Shape {
    Bool,
    /// A whole number, 0 to `u32::MAX`.
    Integer,
    Number,
    Text,
    /// A list of texts. What is none becomes empty, so that places keep their meaning.
    Texts,
    /// A list of objects with these members. Those without all of the needed ones are left out.
    Objects {
        needed: &'static [&'static str],
        members: &'static [Member],
    },
    FreeObject,
}

type Member = (&'static str, Shape);

const fn objects(needed: &'static [&'static str], members: &'static [Member]) -> Shape {
    Shape::Objects { needed, members }
}

const LORA: &[Member] = &[
    ("name", Shape::Text),
    ("model", Shape::Number),
    ("clip", Shape::Number),
    ("inject_trigger", Shape::Text),
    ("is_version", Shape::Bool),
];

const TEXTUAL_INVERSION: &[Member] = &[
    ("name", Shape::Text),
    ("inject_ti", Shape::Text),
    ("strength", Shape::Number),
];

const EXTRA_TEXT: &[Member] = &[("text", Shape::Text), ("reference", Shape::Text)];

const EXTRA_SOURCE_IMAGE: &[Member] = &[("image", Shape::Text), ("strength", Shape::Number)];

const MESSAGE: &[Member] = &[
    ("id", Shape::Text),
    ("message", Shape::Text),
    ("origin", Shape::Text),
    ("expiry", Shape::Text),
];

const PAYLOAD: &[Member] = &[
    ("prompt", Shape::Text),
    ("ddim_steps", Shape::Integer),
    ("n_iter", Shape::Integer),
    ("use_nsfw_censor", Shape::Bool),
    ("seed", Shape::Text),
    ("sampler_name", Shape::Text),
    ("cfg_scale", Shape::Number),
    ("width", Shape::Integer),
    ("height", Shape::Integer),
    ("karras", Shape::Bool),
    ("tiling", Shape::Bool),
    ("hires_fix", Shape::Bool),
    ("transparent", Shape::Bool),
    ("image_is_control", Shape::Bool),
    ("return_control_map", Shape::Bool),
    ("denoising_strength", Shape::Number),
    ("hires_fix_denoising_strength", Shape::Number),
    ("clip_skip", Shape::Integer),
    ("post_processing", Shape::Texts),
    ("facefixer_strength", Shape::Number),
    ("loras", objects(&["name"], LORA)),
    ("tis", objects(&["name"], TEXTUAL_INVERSION)),
    ("special", Shape::FreeObject),
    ("workflow", Shape::Text),
    ("control_type", Shape::Text),
    ("extra_texts", objects(&["text"], EXTRA_TEXT)),
];

const JOB: &[Member] = &[
    ("id", Shape::Text),
    ("ids", Shape::Texts),
    ("ttl", Shape::Integer),
    ("model", Shape::Text),
    ("source_image", Shape::Text),
    ("source_processing", Shape::Text),
    ("source_mask", Shape::Text),
    (
        "extra_source_images",
        objects(&["image"], EXTRA_SOURCE_IMAGE),
    ),
    ("r2_upload", Shape::Text),
    ("r2_uploads", Shape::Texts),
    ("messages", objects(&["id", "message"], MESSAGE)),
];

/// Reads the answer to an image pop, wherever it comes from. `ids` names every job of the batch, `id` the
/// first of them.
///
/// # Errors
/// If its payload makes no sense at all.
pub fn image_job(body: Value) -> Result<ImageJob, serde_json::Error> {
    let Value::Object(mut body) = body else {
        return image_job(json!({}));
    };
    let payload = body.remove("payload").unwrap_or_default();
    let skipped = body.remove("skipped").unwrap_or_default();
    let mut job = declared_members(body, JOB);
    job.insert("payload".to_owned(), image_payload(payload)?);
    job.insert("skipped".to_owned(), counts(skipped));
    keep_ids(&mut job);
    job.retain(|name, value| name != "source_processing" || is_processing(value));
    serde_json::from_value(Value::Object(job))
}

/// What is missing is as in an answer without a job.
fn image_payload(payload: Value) -> Result<Value, serde_json::Error> {
    let mut whole = serde_json::to_value(ImagePayload::default())?;
    if let Some(whole) = whole.as_object_mut() {
        whole.extend(object(payload, PAYLOAD));
    }
    Ok(whole)
}

fn counts(skipped: Value) -> Value {
    let Value::Object(mut skipped) = skipped else {
        return json!({});
    };
    skipped.retain(|_, count| count.is_u64());
    Value::Object(skipped)
}

/// A horde may say `id` and `ids`, or one of them. What is no id cannot be submitted.
fn keep_ids(job: &mut Map<String, Value>) {
    let is_id = |value: &Value| value.as_str().is_some_and(|id| id.parse::<JobId>().is_ok());
    let alone = job.remove("id").filter(is_id);
    let mut ids = match job.remove("ids") {
        Some(Value::Array(ids)) => ids,
        _ => Vec::new(),
    };
    ids.retain(is_id);
    if ids.is_empty() {
        ids.extend(alone);
    }
    if let Some(first) = ids.first() {
        job.insert("id".to_owned(), first.clone());
    }
    job.insert("ids".to_owned(), Value::Array(ids));
}

fn is_processing(value: &Value) -> bool {
    serde_json::from_value::<SourceProcessing>(value.clone()).is_ok()
}

fn object(value: Value, declared: &[Member]) -> Map<String, Value> {
    match value {
        Value::Object(found) => declared_members(found, declared),
        _ => Map::new(),
    }
}

/// The declared members of an object, each in its shape.
fn declared_members(mut found: Map<String, Value>, declared: &[Member]) -> Map<String, Value> {
    let convert_one = |(name, shape): &Member| {
        let value = convert(found.remove(*name)?, *shape)?;
        Some(((*name).to_owned(), value))
    };
    declared.iter().filter_map(convert_one).collect()
}

fn convert(value: Value, shape: Shape) -> Option<Value> {
    match shape {
        Shape::Bool => boolean(&value).map(Value::Bool),
        Shape::Integer => whole(number(&value)?).map(Value::from),
        Shape::Number => number(&value).map(Value::from),
        Shape::Text => text(value).map(Value::String),
        Shape::Texts => {
            let texts = list(value)?
                .into_iter()
                .map(|item| text(item).unwrap_or_default());
            Some(texts.map(Value::String).collect())
        }
        Shape::Objects { needed, members } => {
            let objects = list(value)?.into_iter().map(|item| object(item, members));
            let whole =
                objects.filter(|object| needed.iter().all(|name| object.contains_key(*name)));
            Some(whole.map(Value::Object).collect())
        }
        Shape::FreeObject => value.is_object().then_some(value),
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(_) => number(value).map(|number| number != 0.0),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Some(true),
            "false" | "0" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is within the bounds of the type"
)]
fn whole(number: f64) -> Option<u32> {
    number
        .is_finite()
        .then(|| number.round().clamp(0.0, f64::from(u32::MAX)) as u32)
}

/// A text as it is, a number as its digits.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 => format!("{float:.0}"),
            _ => number.to_string(),
        }),
        _ => None,
    }
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        Value::String(_) => Some(vec![value]),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
