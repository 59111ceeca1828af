//! Collections of styles as they are shown, made and changed.
//!
//! # Source
//! `community.md` § 8.6; `observed.md` 35.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CollectionId, StyleId};
use crate::schema::{Field, Kind, Schema};

/// The most characters of a style's id or name.
const MAX_STYLE_CHARS: usize = 1024;

const STYLES: Kind = Kind::list(&Kind::text(1, MAX_STYLE_CHARS));

/// The table of a new [`CollectionForm`].
pub const SCHEMA: Schema = Schema {
    name: "Collection",
    fields: &[
        Field::required("name", Kind::text(1, 100), "Unique among your own."),
        Field::optional("info", Kind::text(1, 1000), "What it is good for."),
        Field::optional("public", Kind::Bool, "Listed for all, default true."),
        Field::required("styles", STYLES, "Ids or names of styles of one kind."),
    ],
};

/// The table of a [`CollectionChange`].
pub const CHANGE_SCHEMA: Schema = Schema {
    name: "CollectionChange",
    fields: &[
        Field::optional("name", Kind::text(1, 100), "Unique among your own."),
        Field::optional("info", Kind::text(1, 1000), "What it is good for."),
        Field::optional("public", Kind::Bool, "Whether it is listed for all."),
        Field::optional("styles", STYLES, "Ids or names: the whole new list."),
    ],
};

/// A collection to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `SCHEMA` documents each")]
pub struct CollectionForm {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    pub public: bool,
    pub styles: Vec<String>,
}

impl Default for CollectionForm {
    fn default() -> Self {
        Self {
            name: String::new(),
            info: None,
            public: true,
            styles: Vec::new(),
        }
    }
}

/// A collection to be changed; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `SCHEMA` documents each")]
pub struct CollectionChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub styles: Option<Vec<String>>,
}

/// A collection as it is shown; what it does not have is `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollectionView {
    /// Its id.
    pub id: CollectionId,
    /// Its name.
    pub name: String,
    /// `image` or `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is good for.
    pub info: Option<String>,
    /// Whether it is listed for everybody.
    pub public: bool,
    /// Its styles, in their order.
    pub styles: Vec<Member>,
    /// How often requests used it.
    pub use_count: i64,
    /// The alias of whoever made it. Not part of the deployed protocol.
    #[serde(default)]
    pub creator: String,
}

/// A style of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CollectionMember")]
pub struct Member {
    /// `<alias>::style::<name>`.
    pub name: String,
    /// The style's id.
    pub id: StyleId,
}
