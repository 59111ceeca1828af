//! Accounts as they are shown.

use serde::{Deserialize, Serialize};

use crate::ids::{RequestId, UserId, WorkerId};

/// An account as seen by the public, by itself or by a moderator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    pub sharedkey_ids: Option<Vec<String>>,
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
    pub account_age: i64,
    pub usage: ObsoleteUsage,
    pub contributions: ObsoleteContributions,
    pub records: Records,
}

/// Where an account's kudos came from and went to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonthlyKudos {
    /// In kudos.
    pub amount: f64,
    /// When it came last, RFC 822.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_received: Option<String>,
}

/// Obsolete, always null inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.6")]
pub struct ObsoleteUsage {
    pub megapixelsteps: Option<i64>,
    pub requests: Option<i64>,
}

/// Obsolete, always null inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.6")]
pub struct ObsoleteContributions {
    pub megapixelsteps: Option<i64>,
    pub fulfillments: Option<i64>,
}

/// What an account used and gave, since it exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.8")]
pub struct WorkRecord {
    pub megapixelsteps: f64,
    pub tokens: i64,
}

/// Counts by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the wire names of `community.md` § 2.8")]
pub struct CountRecord {
    pub image: i64,
    pub text: i64,
    pub interrogation: i64,
}

/// The answer of the gated test bootstrap, `POST /dev/test-user`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// The answer of `GET /webhooks/secret`: what signs the messages about an account's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSecret {
    /// `whsec_` and 32 bytes in base64, as Standard Webhooks describe it.
    pub secret: String,
}
