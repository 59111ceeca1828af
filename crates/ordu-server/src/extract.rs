//! What handlers take out of a request: its body, its key, its address.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use ordu_api::schema::Schema;
use ordu_api::{ApiKey, UNKNOWN_AGENT};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::address::Client;
use crate::app::App;
use crate::body::is_too_slow;
use crate::error::{ApiError, ApiResult};

/// The largest body of an ordinary operation, in bytes.
pub(crate) const MAX_JSON_BYTES: usize = 1 << 20;

/// The largest body that may carry what came of a form, such as a vector drawing, in bytes.
pub(crate) const MAX_RESULT_JSON_BYTES: usize = 4 << 20;

/// The largest body that may carry pictures as base64, in bytes.
pub(crate) const MAX_PICTURE_JSON_BYTES: usize = 64 << 20;

/// A body with its table. The struct always reads from what passes the table.
pub(crate) trait Input: DeserializeOwned {
    /// The table.
    const SCHEMA: Schema;
    /// The largest body, in bytes.
    const MAX_BYTES: usize = MAX_JSON_BYTES;
    /// What is made of a body that is no JSON object at all.
    const FORMLESS: Formless = Formless::Refused;
}

/// What is made of a body that is no JSON object at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Formless {
    /// It is refused for that.
    Refused,
    /// It counts as empty, so that the first missing member is complained about.
    ///
    /// # Source
    /// `observed.md` 2.
    Empty,
}

impl Input for ordu_api::image::ImageRequest {
    const SCHEMA: Schema = ordu_api::image::REQUEST_SCHEMA;
    const MAX_BYTES: usize = MAX_PICTURE_JSON_BYTES;
}

impl Input for ordu_api::image::ImagePop {
    const SCHEMA: Schema = ordu_api::image::POP_SCHEMA;
}

impl Input for ordu_api::event::JobProgress {
    const SCHEMA: Schema = ordu_api::event::PROGRESS_SCHEMA;
}

impl Input for ordu_api::image::ImageSubmit {
    const SCHEMA: Schema = ordu_api::image::SUBMIT_SCHEMA;
    const MAX_BYTES: usize = MAX_PICTURE_JSON_BYTES;
}

impl Input for ordu_api::text::TextRequest {
    const SCHEMA: Schema = ordu_api::text::REQUEST_SCHEMA;
    const MAX_BYTES: usize = MAX_PICTURE_JSON_BYTES;
}

impl Input for ordu_api::text::TextPop {
    const SCHEMA: Schema = ordu_api::text::POP_SCHEMA;
}

impl Input for ordu_api::text::TextSubmit {
    const SCHEMA: Schema = ordu_api::text::SUBMIT_SCHEMA;
}

impl Input for ordu_api::rating::RatingForm {
    const SCHEMA: Schema = ordu_api::rating::RATING_SCHEMA;
}

impl Input for ordu_api::alchemy::AlchemyRequest {
    const SCHEMA: Schema = ordu_api::alchemy::REQUEST_SCHEMA;
    const MAX_BYTES: usize = MAX_PICTURE_JSON_BYTES;
}

impl Input for ordu_api::alchemy::AlchemyPop {
    const SCHEMA: Schema = ordu_api::alchemy::POP_SCHEMA;
}

impl Input for ordu_api::alchemy::AlchemySubmit {
    const SCHEMA: Schema = ordu_api::alchemy::SUBMIT_SCHEMA;
    const MAX_BYTES: usize = MAX_RESULT_JSON_BYTES;
    const FORMLESS: Formless = Formless::Empty;
}

impl Input for ordu_api::message::MessageInput {
    const SCHEMA: Schema = ordu_api::message::SCHEMA;
}

impl Input for ordu_api::user::UserInput {
    const SCHEMA: Schema = ordu_api::user::INPUT_SCHEMA;
}

impl Input for ordu_api::worker::WorkerInput {
    const SCHEMA: Schema = ordu_api::worker::INPUT_SCHEMA;
}

impl Input for ordu_api::shared_key::SharedKeyInput {
    const SCHEMA: Schema = ordu_api::shared_key::SCHEMA;
}

impl<P: ordu_api::style::StyleParams> Input for ordu_api::style::StyleForm<P> {
    const SCHEMA: Schema = P::FORM;
}

impl<P: ordu_api::style::StyleParams> Input for ordu_api::style::StyleChange<P> {
    const SCHEMA: Schema = P::CHANGE;
}

impl Input for ordu_api::style::ExampleForm {
    const SCHEMA: Schema = ordu_api::style::EXAMPLE_SCHEMA;
}

impl Input for ordu_api::style::ExampleChange {
    const SCHEMA: Schema = ordu_api::style::EXAMPLE_CHANGE_SCHEMA;
}

impl Input for ordu_api::collection::CollectionForm {
    const SCHEMA: Schema = ordu_api::collection::SCHEMA;
}

impl Input for ordu_api::collection::CollectionChange {
    const SCHEMA: Schema = ordu_api::collection::CHANGE_SCHEMA;
}

impl Input for ordu_api::model::ModelInput {
    const SCHEMA: Schema = ordu_api::model::SCHEMA;
}

impl Input for ordu_api::team::NewTeam {
    const SCHEMA: Schema = ordu_api::team::NEW_SCHEMA;
}

impl Input for ordu_api::team::TeamInput {
    const SCHEMA: Schema = ordu_api::team::INPUT_SCHEMA;
}

/// A body that passed its table.
pub(crate) struct Checked<T>(pub(crate) T);

impl<S: Sync, T: Input> FromRequest<S> for Checked<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let (parts, body) = request.into_parts();
        let mut value = match (
            read_json(&parts.headers, body, T::MAX_BYTES).await,
            T::FORMLESS,
        ) {
            (Ok(value), Formless::Refused) => value,
            (Ok(value), Formless::Empty) if value.is_object() => value,
            (Err(error), Formless::Refused) => return Err(error),
            (_, Formless::Empty) => Value::Object(serde_json::Map::new()),
        };
        T::SCHEMA.check(&mut value)?;
        let input = serde_json::from_value(value)
            .map_err(|error| ApiError::plain(StatusCode::BAD_REQUEST, error.to_string()))?;
        Ok(Self(input))
    }
}

/// A body that passed its table, or none at all, which counts as an empty object. Nobody looks at
/// its content type.
pub(crate) struct Loose<T>(pub(crate) T);

impl<S: Sync, T: Input> FromRequest<S> for Loose<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let bytes = read_bytes(request.into_body(), T::MAX_BYTES).await?;
        let mut value = if bytes.is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            parse_json(&bytes)?
        };
        T::SCHEMA.check(&mut value)?;
        let input = serde_json::from_value(value)
            .map_err(|error| ApiError::plain(StatusCode::BAD_REQUEST, error.to_string()))?;
        Ok(Self(input))
    }
}

/// The members of a body whose form nobody looks at: what is no object has none.
pub(crate) async fn read_loosely(body: Body) -> ApiResult<serde_json::Map<String, Value>> {
    let bytes = read_bytes(body, MAX_JSON_BYTES).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Ok(serde_json::Map::new()),
    }
}

pub(crate) async fn read_json(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> ApiResult<Value> {
    if !is_json(headers) {
        let message = "The body must be JSON: send `Content-Type: application/json`";
        return Err(ApiError::plain(StatusCode::BAD_REQUEST, message));
    }
    parse_json(&read_bytes(body, max_bytes).await?)
}

async fn read_bytes(body: Body, max_bytes: usize) -> ApiResult<bytes::Bytes> {
    to_bytes(body, max_bytes)
        .await
        .map_err(|error| unreadable(&error, max_bytes))
}

/// The answer to a body that did not arrive whole.
pub(crate) fn unreadable(error: &axum::Error, max_bytes: usize) -> ApiError {
    if is_too_slow(error) {
        let message = "The body arrives too slowly";
        return ApiError::plain(StatusCode::REQUEST_TIMEOUT, message);
    }
    let message = format!("The body broke off or holds more than {max_bytes} bytes");
    ApiError::plain(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn parse_json(bytes: &[u8]) -> ApiResult<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::plain(
            StatusCode::BAD_REQUEST,
            format!("The body is not valid JSON: {error}"),
        )
    })
}

/// `application/json` and everything that ends in `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// The key that was presented, if any.
pub(crate) struct OptionalKey(pub(crate) Option<ApiKey>);

impl<S: Sync> FromRequestParts<S> for OptionalKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let key = parts.headers.get("apikey");
        Ok(Self(key.map(|key| {
            ApiKey::new(String::from_utf8_lossy(key.as_bytes()))
        })))
    }
}

impl OptionalKey {
    /// The key of an operation that cannot do without.
    ///
    /// Called by handlers after the body passed: a missing key is the last thing complained about.
    pub(crate) fn require(self) -> ApiResult<ApiKey> {
        self.0.ok_or_else(|| {
            ApiError::field("apikey", "Missing required parameter in the HTTP headers")
        })
    }
}

/// The name that a client gave to an attempt, so that a repetition is recognised.
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

/// The longest name of an attempt, in characters.
const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default();
        if text.is_empty() || text.len() > MAX_IDEMPOTENCY_KEY_CHARS {
            let message = format!("1 to {MAX_IDEMPOTENCY_KEY_CHARS} printable characters");
            return Err(ApiError::field("Idempotency-Key", message));
        }
        Ok(Self(Some(text.to_owned())))
    }
}

/// Who asks for work: with which program, from where, and how the attempt is called.
pub(crate) struct Origin {
    pub(crate) agent: ClientAgent,
    pub(crate) client: Client,
    pub(crate) attempt: IdempotencyKey,
}

impl FromRequestParts<Arc<App>> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        Ok(Self {
            agent: ClientAgent::from_request_parts(parts, app).await?,
            client: Client::from_request_parts(parts, app).await?,
            attempt: IdempotencyKey::from_request_parts(parts, app).await?,
        })
    }
}

/// The agent of a client, `name:version:contact`.
pub(crate) struct ClientAgent(pub(crate) String);

/// The longest agent that is kept, in characters.
const MAX_AGENT_CHARS: usize = 1000;

impl<S: Sync> FromRequestParts<S> for ClientAgent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let agent = parts
            .headers
            .get("client-agent")
            .and_then(|agent| agent.to_str().ok());
        Ok(Self(
            agent
                .unwrap_or(UNKNOWN_AGENT)
                .chars()
                .take(MAX_AGENT_CHARS)
                .collect(),
        ))
    }
}

/// The effective address that a request comes from; see [`Client`].
pub(crate) struct Peer(pub(crate) IpAddr);

impl FromRequestParts<Arc<App>> for Peer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        let client = Client::from_request_parts(parts, app).await?;
        Ok(Self(client.ip))
    }
}
