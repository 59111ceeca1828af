//! Accounts as they are shown.

use std::borrow::Cow;

use schemars::{JsonSchema, SchemaGenerator};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::ids::{RequestId, SharedKeyId, UserId, WorkerId};
use crate::schema::{Field, Kind, Schema};

/// An account as seen by the public, by itself or by a moderator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.6")]
#[expect(clippy::struct_excessive_bools, reason = "the wire is a list of roles")]
pub struct UserView {
    pub username: String,
    pub id: UserId,
    pub kudos: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluating_kudos: Option<f64>,
    pub concurrency: u32,
    pub worker_invited: u32,
    pub moderator: bool,
    pub kudos_details: KudosDetails,
    pub worker_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_ids: Option<Vec<WorkerId>>,
    pub styles: Vec<StyleLink>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharedkey_ids: Option<Vec<SharedKeyId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_generations: Option<ActiveGenerations>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_kudos: Option<MonthlyKudos>,
    pub trusted: bool,
    pub flagged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpn: Option<bool>,
    pub service: bool,
    pub education: bool,
    pub customizer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special: Option<bool>,
    pub deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspicious: Option<u64>,
    pub pseudonymous: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_passkey: Option<String>,
    pub account_age: i64,
    pub usage: ObsoleteUsage,
    pub contributions: ObsoleteContributions,
    pub records: Records,
}

/// An account in the list of all: the public view, which there has every member. What only some may
/// see is `null`, and empty where it is an object, for nobody may see it there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListedUser(pub UserView);

impl ListedUser {
    /// Members that are `null` where they are not shown.
    const NULL: &[&str] = &[
        "evaluating_kudos",
        "worker_ids",
        "sharedkey_ids",
        "vpn",
        "special",
        "suspicious",
        "contact",
        "admin_comment",
        "proxy_passkey",
    ];

    /// Members that are empty objects where they are not shown.
    const EMPTY: &[&str] = &["active_generations", "monthly_kudos"];
}

impl Serialize for ListedUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut view = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        if let Some(members) = view.as_object_mut() {
            for name in Self::NULL {
                members.entry(*name).or_insert(Value::Null);
            }
            for name in Self::EMPTY {
                members.entry(*name).or_insert_with(|| json!({}));
            }
        }
        view.serialize(serializer)
    }
}

impl JsonSchema for ListedUser {
    fn schema_name() -> Cow<'static, str> {
        "ListedUser".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let mut schema = UserView::json_schema(generator);
        let describe = |name: &str, hidden: Value, members: &mut Map<String, Value>| {
            if let Some(member) = members.get_mut(name) {
                *member = json!({ "anyOf": [member.take(), hidden] });
            }
        };
        if let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for name in Self::NULL {
                describe(name, json!({ "type": "null" }), members);
            }
            for name in Self::EMPTY {
                let empty = json!({ "type": "object", "maxProperties": 0 });
                describe(name, empty, members);
            }
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            let hidden = Self::NULL.iter().chain(Self::EMPTY);
            required.extend(hidden.map(|name| Value::from(*name)));
        }
        schema
    }
}

/// Where an account's kudos came from and went to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.6")]
pub struct KudosDetails {
    pub accumulated: f64,
    pub gifted: f64,
    pub donated: f64,
    pub admin: f64,
    pub received: f64,
    pub recurring: f64,
    pub awarded: f64,
    pub styled: f64,
}

/// A style in its owner's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StyleLink {
    /// `<alias>::style::<name>`.
    pub name: String,
    /// The style's id.
    pub id: String,
    /// `image` or `text`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Requests under way, by kind; kinds without any are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.6")]
pub struct ActiveGenerations {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image: Vec<RequestId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<RequestId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alchemy: Vec<RequestId>,
}

/// What an account is given each month.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MonthlyKudos {
    /// In kudos.
    pub amount: f64,
    /// When it came last, RFC 822.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_received: Option<String>,
}

/// Obsolete, always null inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.6")]
pub struct ObsoleteUsage {
    pub megapixelsteps: Option<i64>,
    pub requests: Option<i64>,
}

/// Obsolete, always null inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.6")]
pub struct ObsoleteContributions {
    pub megapixelsteps: Option<i64>,
    pub fulfillments: Option<i64>,
}

/// What an account used and gave, since it exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.8")]
pub struct Records {
    pub usage: WorkRecord,
    pub contribution: WorkRecord,
    pub fulfillment: CountRecord,
    pub request: CountRecord,
    pub style: CountRecord,
}

/// Amounts of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.8")]
pub struct WorkRecord {
    pub megapixelsteps: f64,
    pub tokens: i64,
}

/// Counts by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.8")]
pub struct CountRecord {
    pub image: i64,
    pub text: i64,
    pub interrogation: i64,
}

/// The answer of the gated test bootstrap, `POST /dev/test-user`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 12.3")]
pub struct TestUser {
    pub api_key: crate::ApiKey,
    pub user_id: String,
    pub username: String,
    pub alias: String,
    pub kudos: f64,
    pub trusted: bool,
    pub moderator: bool,
    pub created: bool,
}

/// A name of a test user, or of its external identity.
const TEST_NAME: Kind = Kind::text(1, 100);

/// The table of `POST /dev/test-user`. Only documentation: what is left out has defaults there.
pub const TEST_USER_SCHEMA: Schema = Schema {
    name: "TestUserInput",
    fields: &[
        Field::optional("username", TEST_NAME, "Its name, default `test_user`."),
        Field::optional(
            "oauth_id",
            TEST_NAME,
            "Its external identity, default `ci_test_user`: the same one is the same account.",
        ),
        Field::optional(
            "moderator",
            Kind::Bool,
            "Whether it keeps order, default true.",
        ),
        Field::optional(
            "trusted",
            Kind::Bool,
            "Whether it is trusted, default true.",
        ),
        Field::optional(
            "kudos",
            Kind::Nullable(&Kind::number(0.0, f64::MAX)),
            "What it has, default 10000; `null` for as much as before.",
        ),
    ],
};

/// The farthest that a balance is moved at once, in kudos.
const MAX_MOVE: i64 = 1_000_000_000_000;

/// The table of [`UserInput`].
pub const INPUT_SCHEMA: Schema = Schema {
    name: "UserInput",
    fields: &[
        Field::optional(
            "kudos",
            Kind::number(-1e12, 1e12),
            "Added to the balance; admins only.",
        ),
        Field::optional(
            "monthly_kudos",
            Kind::integer(-MAX_MOVE, MAX_MOVE),
            "Added to what it gets each month; admins only.",
        ),
        Field::optional(
            "usage_multiplier",
            Kind::number(0.1, 10.0),
            "Scales its recorded usage; admins only.",
        ),
        Field::optional("moderator", Kind::Bool, "Keeps order; admins only."),
        Field::optional(
            "concurrency",
            Kind::integer(0, 500),
            "How many results it may have waiting; moderators only.",
        ),
        Field::optional(
            "worker_invited",
            Kind::integer(0, UserId::MAX),
            "How many workers it may have by invitation; moderators only.",
        ),
        Field::optional("trusted", Kind::Bool, "Proved itself; moderators only."),
        Field::optional("flagged", Kind::Bool, "Misbehaved; moderators only."),
        Field::optional(
            "customizer",
            Kind::Bool,
            "May serve any model; moderators only.",
        ),
        Field::optional("vpn", Kind::Bool, "May work from a proxy; moderators only."),
        Field::optional(
            "service",
            Kind::Bool,
            "Speaks for users of its own; moderators only.",
        ),
        Field::optional("education", Kind::Bool, "A school; moderators only."),
        Field::optional(
            "special",
            Kind::Bool,
            "May use special models; moderators only.",
        ),
        Field::optional(
            "reset_suspicion",
            Kind::Bool,
            "Forgets what it was suspected of; moderators only.",
        ),
        Field::optional(
            "admin_comment",
            Kind::text(5, 500),
            "A note among moderators; moderators only.",
        ),
        Field::optional(
            "public_workers",
            Kind::Bool,
            "Whether everybody sees its workers.",
        ),
        Field::optional("username", Kind::text(3, 100), "Its name before the `#`."),
        Field::optional("contact", Kind::text(5, 500), "How to reach it."),
        Field::optional(
            "generate_proxy_passkey",
            Kind::Bool,
            "Makes a passkey for a service; service accounts only.",
        ),
        Field::optional("undelete", Kind::Bool, "Takes its deletion back."),
    ],
};

/// What to change about an account; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names; `INPUT_SCHEMA` documents each")]
pub struct UserInput {
    pub kudos: Option<f64>,
    pub monthly_kudos: Option<i64>,
    pub usage_multiplier: Option<f64>,
    pub moderator: Option<bool>,
    pub concurrency: Option<i64>,
    pub worker_invited: Option<i64>,
    pub trusted: Option<bool>,
    pub flagged: Option<bool>,
    pub customizer: Option<bool>,
    pub vpn: Option<bool>,
    pub service: Option<bool>,
    pub education: Option<bool>,
    pub special: Option<bool>,
    pub reset_suspicion: Option<bool>,
    pub admin_comment: Option<String>,
    pub public_workers: Option<bool>,
    pub username: Option<String>,
    pub contact: Option<String>,
    pub generate_proxy_passkey: Option<bool>,
    pub undelete: Option<bool>,
}

/// What was changed about an account, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.7")]
pub struct UserChanged {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_kudos: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_kudos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_multiplier: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderator: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_invited: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flagged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customizer: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpn: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub education: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_suspicion: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_workers: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_passkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undeleted: Option<bool>,
}

/// The answer of `GET /webhooks/secret`: what signs the messages about an account's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookSecret {
    /// `whsec_` and 32 bytes in base64, as Standard Webhooks describe it.
    pub secret: String,
}
