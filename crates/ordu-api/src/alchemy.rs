//! Alchemy: what is asked about one picture, form by form. On the wire it is called interrogation.
//!
//! # Source
//! `generation.md` § 5 (asking), § 6 (workers). Defaults are the effective ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::explanation::Explanation;
use crate::ids::{JobId, RequestId};
use crate::image::{POST_PROCESSORS, SUBMIT_STATES, SubmitState};
use crate::schema::{Field, Kind, Schema};
use crate::worker::Skipped;

/// The forms of the protocol: questions about a picture, then the post-processors.
pub const FORMS: &[&str] = &[
    "caption",
    "interrogation",
    "nsfw",
    "vectorize",
    "palette",
    "describe",
    "aesthetic",
    "GFPGAN",
    "RealESRGAN_x4plus",
    "RealESRGAN_x2plus",
    "RealESRGAN_x4plus_anime_6B",
    "NMKD_Siax",
    "4x_AnimeSharp",
    "CodeFormers",
    "strip_background",
    "4xNomos8kSC",
    "4xLSDIRplus",
    "4xNomosWebPhoto_RealPLKSR",
    "4xNomos2_realplksr_dysample",
    "4xNomos2_hq_dat2",
    "2xModernSpanimationV1",
    "GFPGANv1.3",
    "RestoreFormer",
];

/// Whether a form makes a picture, which is uploaded, instead of an answer.
pub fn makes_picture(form: &str) -> bool {
    POST_PROCESSORS.contains(&form)
}

/// What a client asks for at `POST /interrogate/async`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlchemyRequest {
    /// What to do with the picture.
    pub forms: Vec<Form>,
    /// URL or base64.
    pub source_image: String,
    /// Whether only workers of trusted owners may serve.
    pub trusted_workers: bool,
    /// Whether slow workers may serve.
    pub slow_workers: bool,
    /// Where each result is posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Only answer what it would cost. Not part of the deployed protocol.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Default for AlchemyRequest {
    fn default() -> Self {
        Self {
            forms: Vec::new(),
            source_image: String::new(),
            trusted_workers: false,
            slow_workers: true,
            webhook: None,
            dry_run: false,
        }
    }
}

/// One thing to do with a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// One of [`FORMS`].
    pub name: String,
    /// Options, whatever the worker makes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Map<String, Value>>,
}

/// The answer 202 to an accepted request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedAlchemy {
    /// The request's id: the capability to watch and cancel it.
    pub id: RequestId,
    /// Something the requester should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a form, or a request as a whole, is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlchemyState {
    /// No worker has it.
    #[default]
    Waiting,
    /// A worker has it.
    Processing,
    /// There is a result.
    Done,
    /// It was given up.
    Faulted,
    /// Its requester gave it up. Forms only.
    Cancelled,
    /// Some of its forms are done, nothing more will come. Requests only.
    Partial,
}

/// The answer of `GET /interrogate/status/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlchemyStatus {
    /// How far it is as a whole.
    pub state: AlchemyState,
    /// How far each form is, in the order in which they were asked for.
    #[serde(default)]
    pub forms: Vec<FormStatus>,
    /// Why nobody takes it, if `explain=true` asked for that. Not part of the deployed protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Box<Explanation>>,
}

/// How far a form is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FormStatus {
    /// Its name.
    pub form: String,
    /// How far it is.
    pub state: AlchemyState,
    /// What came of it; left out until there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
}

/// What an alchemist can do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlchemyPop {
    /// The worker's name.
    pub name: String,
    /// Aliases of users to serve first.
    pub priority_usernames: Vec<String>,
    /// The forms that it knows.
    pub forms: Vec<String>,
    /// Forms that it takes at once.
    pub amount: u32,
    /// `name:version:contact`.
    pub bridge_agent: String,
    /// Forms at the same time.
    pub threads: u32,
    /// The largest picture, in tiles of 512×512 pixels.
    pub max_tiles: u32,
}

impl Default for AlchemyPop {
    fn default() -> Self {
        Self {
            name: String::new(),
            priority_usernames: Vec::new(),
            forms: Vec::new(),
            amount: 1,
            bridge_agent: crate::UNKNOWN_AGENT.to_owned(),
            threads: 1,
            max_tiles: 80,
        }
    }
}

/// The answer to a pop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlchemyJobs {
    /// What to do; `None` when there is nothing.
    pub forms: Option<Vec<AlchemyJob>>,
    /// Why waiting forms were passed over.
    #[serde(default)]
    pub skipped: Skipped,
}

/// One form to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlchemyJob {
    /// The job.
    pub id: JobId,
    /// The form's name.
    pub form: String,
    /// Its options, as texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Map<String, Value>>,
    /// URL of the picture.
    pub source_image: String,
    /// Where a picture that comes of it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r2_upload: Option<String>,
}

/// A finished or given-up form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlchemySubmit {
    /// The job.
    pub id: String,
    /// What came of it, by the form's name; [`crate::image::UPLOADED`] for a picture.
    pub result: Map<String, Value>,
    /// How it ended.
    #[serde(default)]
    pub state: SubmitState,
}

const FORM: &[Field] = &[
    Field::required("name", Kind::Choice(FORMS), "What to do."),
    Field::optional("payload", Kind::FreeObject, "Options."),
];

/// The body of `POST /interrogate/async`.
pub const REQUEST_SCHEMA: Schema = Schema {
    name: "AlchemyRequest",
    fields: &[
        Field::required_last(
            "forms",
            Kind::list(&Kind::Object(FORM)),
            "What to do with the picture; each form once.",
        ),
        Field::required("source_image", Kind::TEXT, "URL or base64."),
        Field::optional("trusted_workers", Kind::Bool, "Trusted owners only."),
        Field::optional(
            "slow_workers",
            Kind::Bool,
            "Allow slow workers, default true.",
        ),
        Field::optional(
            "webhook",
            Kind::text(10, 1024),
            "Where to post each result, https.",
        ),
        Field::optional(
            "dry_run",
            Kind::Bool,
            "Only answer the price. Not part of the deployed protocol.",
        ),
    ],
};

/// The body of `POST /interrogate/pop`.
pub const POP_SCHEMA: Schema = Schema {
    name: "AlchemyPop",
    fields: &[
        Field::required(
            "name",
            Kind::TEXT,
            "The worker's name, unique in the horde.",
        ),
        Field::optional(
            "priority_usernames",
            Kind::list(&Kind::TEXT),
            "Aliases served first.",
        ),
        Field::optional(
            "forms",
            Kind::list(&Kind::Choice(FORMS)),
            "What it can do, default `caption`.",
        ),
        Field::optional(
            "amount",
            Kind::integer(1, 100),
            "Forms taken at once, default 1.",
        ),
        Field::optional(
            "bridge_agent",
            Kind::text(0, 1000),
            "`name:version:contact`.",
        ),
        Field::optional(
            "threads",
            Kind::integer(1, 100),
            "Forms at the same time, default 1.",
        ),
        Field::optional(
            "max_tiles",
            Kind::integer(1, 256),
            "The largest picture in tiles of 512×512 pixels, default 80.",
        ),
    ],
};

/// The body of `POST /interrogate/submit`.
pub const SUBMIT_SCHEMA: Schema = Schema {
    name: "AlchemySubmit",
    fields: &[
        Field::required("id", Kind::TEXT, "The job."),
        Field::required_last(
            "result",
            Kind::FreeObject,
            "What came of it; also of a form that faulted.",
        ),
        Field::optional("state", Kind::Choice(SUBMIT_STATES), "Default `ok`."),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_post_processor_is_a_form() {
        assert!(POST_PROCESSORS.iter().all(|name| FORMS.contains(name)));
        let questions = FORMS.iter().filter(|form| !makes_picture(form));
        assert_eq!(questions.count(), FORMS.len() - POST_PROCESSORS.len());
        assert_eq!(FORMS.len(), 23);
    }
}
