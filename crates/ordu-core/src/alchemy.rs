//! Alchemy requests: what is allowed, what is meant, what a worker gets.
//!
//! A client's [`AlchemyRequest`] becomes an [`AlchemySpec`] only through [`check`]; its size is
//! known once its picture was looked at. Knows no prices and no queue.
//!
//! # Source
//! `generation.md` § 5.

use ordu_api::ReturnCode;
use ordu_api::alchemy::{AlchemyRequest, Form};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Refusal;
use crate::asking::{self, Verdict, refuse_if};

/// The most characters in the options of a form.
const MAX_PAYLOAD_CHARS: usize = 10_000;

/// The side of a tile, in pixels.
pub const TILE: u32 = 512;

/// The most tiles of a picture.
pub const MAX_TILES: u64 = 255;

/// A checked alchemy request.
///
/// Stored as JSON: members may be added, never renamed; what is missing reads as its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlchemySpec {
    /// What to do, each form once, options as texts. A form's place is the number of its slot.
    pub forms: Vec<Form>,
    /// A URL, passed on as given, or the name of the stored picture. Until whoever stores it put
    /// that name here: base64.
    pub source_image: String,
    /// The picture's size in tiles of [`TILE`]² pixels, once it is known.
    pub tiles: u32,
    /// Whether only workers of trusted owners may serve.
    pub trusted_workers: bool,
    /// Whether slow workers may serve.
    pub slow_workers: bool,
    /// Where each result is posted.
    pub webhook: Option<String>,
}

/// Checks a request; a form that is asked for twice is done once.
///
/// # Errors
/// `BadRequest` without a form, or with too many options; `NulByteInPayload`.
pub fn check(request: &AlchemyRequest) -> Result<AlchemySpec, Refusal> {
    refuse_if(
        request.forms.is_empty(),
        ReturnCode::BadRequest,
        "`forms` is empty, say what to do with the picture",
    )?;
    let mut forms: Vec<Form> = Vec::new();
    for form in &request.forms {
        if !forms.iter().any(|other| other.name == form.name) {
            forms.push(as_texts(form));
        }
    }
    forms.iter().try_for_each(check_payload)?;
    asking::no_nul(request.webhook.as_deref())?;
    Ok(AlchemySpec {
        forms,
        source_image: request.source_image.clone(),
        tiles: 1,
        trusted_workers: request.trusted_workers,
        slow_workers: request.slow_workers,
        webhook: request.webhook.clone(),
    })
}

/// How many different forms a request asks for.
pub fn distinct_forms(forms: &[Form]) -> usize {
    let names: std::collections::BTreeSet<&str> =
        forms.iter().map(|form| form.name.as_str()).collect();
    names.len()
}

/// A form with its options as workers get them: texts.
///
/// # Source
/// `observed.md` 19.
fn as_texts(form: &Form) -> Form {
    let as_text = |value: &Value| match value {
        Value::String(text) => Value::String(text.clone()),
        other => Value::String(other.to_string()),
    };
    let texts = |payload: &Map<String, Value>| {
        let options = payload.iter();
        options
            .map(|(name, value)| (name.clone(), as_text(value)))
            .collect()
    };
    Form {
        name: form.name.clone(),
        payload: form.payload.as_ref().map(texts),
    }
}

fn check_payload(form: &Form) -> Verdict {
    let options = form.payload.iter().flatten();
    let texts = options.flat_map(|(name, value)| [Some(name.as_str()), value.as_str()]);
    let texts: Vec<&str> = texts.flatten().collect();
    let chars: usize = texts.iter().map(|text| text.chars().count()).sum();
    refuse_if(
        chars > MAX_PAYLOAD_CHARS,
        ReturnCode::BadRequest,
        format!(
            "`payload` of `{}` holds {chars} characters, {MAX_PAYLOAD_CHARS} are allowed",
            form.name
        ),
    )?;
    asking::no_nul(texts)
}

/// The size of a picture in tiles.
///
/// # Errors
/// `SourceImageResolutionExceeded` for more than [`MAX_TILES`].
pub fn tiles(width: u32, height: u32) -> Result<u32, Refusal> {
    let tiles = u64::from(width.div_ceil(TILE)) * u64::from(height.div_ceil(TILE));
    refuse_if(
        tiles > MAX_TILES,
        ReturnCode::SourceImageResolutionExceeded,
        format!("The picture is {width}x{height}: {tiles} tiles, {MAX_TILES} are allowed"),
    )?;
    Ok(u32::try_from(tiles).unwrap_or(u32::MAX).max(1))
}

impl AlchemySpec {
    /// Whether the picture is fetched by workers from where the client said.
    pub fn is_linked(&self) -> bool {
        is_link(&self.source_image)
    }

    /// The form of a slot.
    pub fn form(&self, slot: u32) -> Option<&Form> {
        self.forms.get(usize::try_from(slot).ok()?)
    }

    /// The numbers of all slots.
    pub fn slots(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.forms.len()).unwrap_or(u32::MAX)
    }
}

/// Whether a source is a URL.
pub fn is_link(source: &str) -> bool {
    source.starts_with("http")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(forms: &Value) -> AlchemyRequest {
        serde_json::from_value(json!({"source_image": "x", "forms": forms})).unwrap()
    }

    #[test]
    fn forms_are_done_once_with_options_as_texts() {
        let forms = json!([
            {"name": "caption", "payload": {"k": 0, "t": "a", "b": true, "l": [1, "x"]}},
            {"name": "nsfw"},
            {"name": "caption"}
        ]);
        let request = request(&forms);
        assert_eq!(distinct_forms(&request.forms), 2);
        let spec = check(&request).unwrap();
        let shown = serde_json::to_value(&spec.forms).unwrap();
        let expected = json!([
            {"name": "caption", "payload": {"k": "0", "t": "a", "b": "true", "l": r#"[1,"x"]"#}},
            {"name": "nsfw"}
        ]);
        assert_eq!(shown, expected);
        assert_eq!(spec.slots().count(), 2);
        assert_eq!(spec.form(1).unwrap().name, "nsfw");
    }

    #[test]
    fn rules_refuse_with_their_code() {
        let with = |payload: Value| json!([{"name": "caption", "payload": payload}]);
        let cases = [
            (json!([]), Some(ReturnCode::BadRequest)),
            (with(json!({"k": "a".repeat(9_999)})), None),
            (
                with(json!({"k": "a".repeat(10_000)})),
                Some(ReturnCode::BadRequest),
            ),
            (
                with(json!({"k": "\u{0}"})),
                Some(ReturnCode::NulByteInPayload),
            ),
            (
                with(json!({"\u{0}": 1})),
                Some(ReturnCode::NulByteInPayload),
            ),
        ];
        for (forms, code) in cases {
            let found = check(&request(&forms)).err();
            assert_eq!(found.map(|refusal| refusal.code), code, "{forms}");
        }
    }

    #[test]
    fn pictures_are_measured_in_tiles() {
        for (width, height, expected) in [
            (1, 1, Some(1)),
            (512, 512, Some(1)),
            (513, 512, Some(2)),
            (1100, 600, Some(6)),
            (255 * 512, 512, Some(255)),
            (255 * 512 + 1, 512, None),
            (u32::MAX, u32::MAX, None),
        ] {
            assert_eq!(tiles(width, height).ok(), expected, "{width}x{height}");
        }
    }
}
