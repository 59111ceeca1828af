//! Styles and their examples as they are shown, made and changed.
//!
//! # Source
//! `community.md` § 8.1, § 8.2; `observed.md` 33.

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{StyleExampleId, StyleId};
use crate::image::{self, ImageParams, Warning};
use crate::schema::{Field, Kind, Schema};
use crate::shared_key::SharedKeyView;
use crate::text::{self, TextParams};
use crate::worker::WorkKind;

/// The prompt of a style that says nothing about it.
pub const DEFAULT_PROMPT: &str = "{p}{np}";

/// The most characters of a model's name, and of the link to an example.
const MAX_MODEL_CHARS: usize = 255;
const MAX_URL_CHARS: usize = 2048;

/// What a style for pictures says about painting: not how many, not which seed, no controls.
const IMAGE_PARAMS: &[Field] = &without::<18>(
    image::PARAM_FIELDS,
    &[
        "n",
        "seed",
        "seed_variation",
        "control_type",
        "image_is_control",
        "return_control_map",
        "extra_texts",
    ],
);

/// What a style for texts says about writing: not how many.
const TEXT_PARAMS: &[Field] = &without::<23>(text::PARAM_FIELDS, &["n"]);

/// The table of a new [`StyleForm`] for pictures.
const IMAGE_FORM: Schema = Schema {
    name: "ImageStyle",
    fields: &making(IMAGE_PARAMS, 7),
};

/// The table of a [`StyleChange`] for pictures.
const IMAGE_CHANGE: Schema = Schema {
    name: "ImageStyleChange",
    fields: &changing(IMAGE_PARAMS),
};

/// The table of a new [`StyleForm`] for texts.
const TEXT_FORM: Schema = Schema {
    name: "TextStyle",
    fields: &making(TEXT_PARAMS, 3),
};

/// The table of a [`StyleChange`] for texts.
const TEXT_CHANGE: Schema = Schema {
    name: "TextStyleChange",
    fields: &changing(TEXT_PARAMS),
};

const fn making(params: &'static [Field], least_prompt_chars: usize) -> [Field; 9] {
    let name = Kind::text(1, 100);
    let prompt = Kind::text(least_prompt_chars, usize::MAX);
    [
        Field::required("name", name, "Unique among your own."),
        Field::optional("info", Kind::text(10, 1000), "What it is good for."),
        Field::optional("prompt", prompt, "With `{p}` and `{np}`."),
        Field::optional("params", Kind::Object(params), "How to work."),
        Field::optional("public", Kind::Bool, "Listed for all, default true."),
        Field::optional("nsfw", Kind::Bool, "Makes NSFW things, default false."),
        Field::optional("tags", TAGS, "At most 10."),
        Field::optional("models", MODELS, "1 to 5."),
        Field::optional("sharedkey", Kind::text(36, 36), "Your key that pays."),
    ]
}

const fn changing(params: &'static [Field]) -> [Field; 9] {
    [
        Field::optional("name", Kind::text(1, 100), "Unique among your own."),
        Field::optional("info", Kind::text(1, 1000), "What it is good for."),
        Field::optional(
            "prompt",
            Kind::text(7, usize::MAX),
            "With `{p}` and `{np}`.",
        ),
        Field::optional("params", Kind::Object(params), "How to work."),
        Field::optional("public", Kind::Bool, "Whether it is listed for all."),
        Field::optional("nsfw", Kind::Bool, "Whether it makes NSFW things."),
        Field::optional("tags", TAGS, "At most 10; `[]` for none."),
        Field::optional("models", MODELS, "1 to 5; `[]` changes nothing."),
        Field::optional(
            "sharedkey",
            Kind::text(0, 36),
            "Your key that pays; empty for none.",
        ),
    ]
}

const TAGS: Kind = Kind::list(&Kind::text(1, 25));
const MODELS: Kind = Kind::list(&Kind::text(1, MAX_MODEL_CHARS));

/// The table of a new [`ExampleForm`].
pub const EXAMPLE_SCHEMA: Schema = Schema {
    name: "StyleExample",
    fields: &[
        Field::required("url", Kind::text(0, MAX_URL_CHARS), "Where it is, https."),
        Field::required("primary", Kind::Bool, "Whether it is shown first."),
    ],
};

/// The table of an [`ExampleChange`].
pub const EXAMPLE_CHANGE_SCHEMA: Schema = Schema {
    name: "StyleExampleChange",
    fields: &[
        Field::optional("url", Kind::text(0, MAX_URL_CHARS), "Where it is, https."),
        Field::optional("primary", Kind::Bool, "Whether it is shown first."),
    ],
};

/// The members of `from` without those that are `left_out`. It does not compile unless `N` remain.
#[expect(
    clippy::indexing_slicing,
    reason = "constants: a wrong index does not compile"
)]
const fn without<const N: usize>(from: &[Field], left_out: &[&str]) -> [Field; N] {
    let mut kept = [Field::optional("", Kind::Bool, ""); N];
    let (mut next, mut count) = (0, 0);
    while next < from.len() {
        if !is_among(from[next].name, left_out) {
            kept[count] = from[next];
            count += 1;
        }
        next += 1;
    }
    assert!(count == N, "another number of members remains");
    kept
}

#[expect(
    clippy::indexing_slicing,
    reason = "constants: a wrong index does not compile"
)]
const fn is_among(name: &str, names: &[&str]) -> bool {
    let mut next = 0;
    while next < names.len() {
        if is_same(name.as_bytes(), names[next].as_bytes()) {
            return true;
        }
        next += 1;
    }
    false
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([a, one @ ..], [b, other @ ..]) => *a == *b && is_same(one, other),
        _ => false,
    }
}

/// What differs between styles for pictures and for texts.
pub trait StyleParams: Clone + Default + PartialEq + Serialize + DeserializeOwned {
    /// What such a style is for.
    const KIND: WorkKind;
    /// What such a style may say about the work; other members are ignored.
    const FIELDS: &'static [Field];
    /// The table of a new style.
    const FORM: Schema;
    /// The table of a change.
    const CHANGE: Schema;

    /// The parameters as everybody sees them.
    #[must_use]
    fn shown(&self) -> Map<String, Value>;
}

impl StyleParams for ImageParams {
    const KIND: WorkKind = WorkKind::Image;
    const FIELDS: &'static [Field] = IMAGE_PARAMS;
    const FORM: Schema = IMAGE_FORM;
    const CHANGE: Schema = IMAGE_CHANGE;

    fn shown(&self) -> Map<String, Value> {
        members(self)
    }
}

impl StyleParams for TextParams {
    const KIND: WorkKind = WorkKind::Text;
    const FIELDS: &'static [Field] = TEXT_PARAMS;
    const FORM: Schema = TEXT_FORM;
    const CHANGE: Schema = TEXT_CHANGE;

    /// With the defaults of the samplers, and without the lengths: so it is today.
    fn shown(&self) -> Map<String, Value> {
        members(&Self {
            n: None,
            max_length: None,
            max_context_length: None,
            ..self.clone().with_defaults()
        })
    }
}

/// The members of what is an object on the wire.
fn members(params: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(params) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// A style to be made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, bound(deserialize = "P: StyleParams"))]
#[expect(missing_docs, reason = "the wire names; the tables document each")]
pub struct StyleForm<P> {
    pub name: String,
    pub info: String,
    pub prompt: String,
    #[serde(deserialize_with = "read_params")]
    pub params: P,
    pub public: bool,
    pub nsfw: bool,
    pub tags: Vec<String>,
    pub models: Vec<String>,
    pub sharedkey: Option<String>,
}

impl<P: StyleParams> Default for StyleForm<P> {
    fn default() -> Self {
        Self {
            name: String::new(),
            info: String::new(),
            prompt: DEFAULT_PROMPT.to_owned(),
            params: P::default(),
            public: true,
            nsfw: false,
            tags: Vec::new(),
            models: Vec::new(),
            sharedkey: None,
        }
    }
}

/// A style to be changed; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, bound(deserialize = "P: StyleParams"))]
#[expect(missing_docs, reason = "the wire names; the tables document each")]
pub struct StyleChange<P> {
    pub name: Option<String>,
    pub info: Option<String>,
    pub prompt: Option<String>,
    #[serde(deserialize_with = "read_some_params")]
    pub params: Option<P>,
    pub public: Option<bool>,
    pub nsfw: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub models: Option<Vec<String>>,
    pub sharedkey: Option<String>,
}

/// Reads what a style may say, and nothing else.
fn read_params<'de, P: StyleParams, D: Deserializer<'de>>(from: D) -> Result<P, D::Error> {
    let mut members = Map::deserialize(from)?;
    members.retain(|name, _| P::FIELDS.iter().any(|field| field.name == name));
    serde_json::from_value(Value::Object(members)).map_err(D::Error::custom)
}

fn read_some_params<'de, P, D>(from: D) -> Result<Option<P>, D::Error>
where
    P: StyleParams,
    D: Deserializer<'de>,
{
    read_params(from).map(Some)
}

/// A style as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StyleView {
    /// Its id.
    pub id: StyleId,
    /// How often requests used it.
    pub use_count: i64,
    /// The alias of whoever made it.
    pub creator: String,
    /// What it makes, the oldest first; for pictures only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<Vec<ExampleView>>,
    /// The shared key that pays for its requests; for pictures only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_key: Option<SharedKeyView>,
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub info: String,
    /// The template of the prompt.
    pub prompt: String,
    /// How it works.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Whether it is listed for everybody.
    pub public: bool,
    /// Whether it makes NSFW things.
    pub nsfw: bool,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The models that it wants.
    pub models: Vec<String>,
}

/// A picture that shows what a style does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExampleView {
    /// Where it is.
    pub url: String,
    /// Whether it is shown first.
    pub primary: bool,
    /// Its id.
    pub id: StyleExampleId,
}

/// The answer to a style or a collection that was made or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SavedOf{Id}")]
pub struct Saved<Id> {
    /// What was made or changed.
    pub id: Id,
    /// Always `OK`.
    pub message: String,
    /// What may go less well than hoped; styles for texts have no such list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<Warning>>,
}

impl<Id> Saved<Id> {
    /// All went well.
    pub fn new(id: Id, warnings: Option<Vec<Warning>>) -> Self {
        Self {
            id,
            message: "OK".to_owned(),
            warnings,
        }
    }
}

/// An example to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleForm {
    /// Where it is.
    pub url: String,
    /// Whether it is shown first.
    pub primary: bool,
}

/// An example to be changed; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExampleChange {
    /// Where it is.
    pub url: Option<String>,
    /// Whether it is shown first.
    pub primary: Option<bool>,
}

/// The answer to an example that was added or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExampleSaved {
    /// The example.
    pub id: StyleExampleId,
    /// Always `OK`.
    pub message: String,
    /// One warning of nothing: so it is today.
    pub warnings: Vec<NoWarning>,
}

/// A warning whose members are `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoWarning {
    /// Nothing.
    pub code: Option<String>,
    /// Nothing.
    pub message: Option<String>,
}

impl ExampleSaved {
    /// All went well.
    pub fn new(id: StyleExampleId) -> Self {
        Self {
            id,
            message: "OK".to_owned(),
            warnings: vec![NoWarning::default()],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_style_may_not_say_is_ignored() {
        let mut body = json!({
            "name": "x", "params": { "steps": 20.0, "n": "many", "seed": 5, "control_type": [] },
        });
        ImageParams::FORM.check(&mut body).unwrap();
        let form: StyleForm<ImageParams> = serde_json::from_value(body).unwrap();
        let wanted = ImageParams {
            steps: Some(20),
            ..ImageParams::default()
        };
        assert_eq!((form.params, form.prompt.as_str()), (wanted, "{p}{np}"));
    }

    #[test]
    fn a_change_says_only_what_it_says() {
        let change: StyleChange<TextParams> = serde_json::from_value(json!({})).unwrap();
        assert_eq!(change, StyleChange::default());
        let body = json!({ "params": {}, "tags": [] });
        let change: StyleChange<TextParams> = serde_json::from_value(body).unwrap();
        assert_eq!(change.params, Some(TextParams::default()));
        assert_eq!((change.tags, change.models), (Some(Vec::new()), None));
    }

    #[test]
    fn lengths_of_a_text_style_are_kept_to_itself() {
        let params = TextParams {
            max_length: Some(120),
            temperature: Some(0.5),
            ..TextParams::default()
        };
        let wanted = json!({
            "temperature": 0.5, "min_p": 0.0, "smoothing_factor": 0.0, "dynatemp_range": 0.0,
            "dynatemp_exponent": 1.0,
        });
        assert_eq!(Value::Object(params.shown()), wanted);
    }
}
