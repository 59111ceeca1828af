//! The gateway for OpenAI's clients: their words in, the horde's work, their words out.
//!
//! A call is read by its members ([`members`]), so that a complaint names the one that is wrong.
//! [`choice`] finds who serves the model, [`writing`] and [`drawing`] make a request of the horde out
//! of the call, and [`follow`] looks after it as any onlooker does: until it is done, or the client
//! hangs up, which cancels it. [`draft`] makes of a growing text what may be shown. Every no comes in
//! OpenAI's form: [`refusal`].
//!
//! Keys are the horde's, as bearer tokens; `transport` hands them on as `apikey`.
//!
//! # Source
//! `platform.md` § 4; OpenAI's public API reference; `docs/decisions/0011`.

pub(crate) mod choice;
pub(crate) mod draft;
pub(crate) mod drawing;
pub(crate) mod follow;
pub(crate) mod members;
pub(crate) mod refusal;
pub(crate) mod tokens;
pub(crate) mod writing;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use ordu_api::openai::BASE_PATH;
use ordu_api::{ApiKey, ReturnCode};
use ordu_core::shared_key::Downgrade;

use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::{IdempotencyKey, OptionalKey, Origin};
use crate::payer;

/// Whether a path belongs to the gateway.
pub(crate) fn holds(path: &str) -> bool {
    let rest = path.strip_prefix(BASE_PATH);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The key of a bearer token.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who calls.
pub(crate) struct Caller {
    pub(crate) key: ApiKey,
    pub(crate) origin: Origin,
}

/// The longest name of a program that is kept, in characters.
const MAX_PROGRAM_CHARS: usize = 200;

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        let OptionalKey(key) = OptionalKey::from_request_parts(parts, app).await?;
        let key = key.ok_or_else(|| {
            let message = format!(
                "There is no key: send one as `Authorization: Bearer KEY`; `{}` asks without an \
                 account",
                ordu_api::ANONYMOUS_KEY
            );
            ApiError::refused(ReturnCode::InvalidAPIKey, message)
        })?;
        let mut origin = Origin::from_request_parts(parts, app).await?;
        if !parts.headers.contains_key("client-agent") {
            origin.agent.0 = program(&parts.headers);
        }
        // Nothing is answered without a good key, whatever else may be wrong.
        payer::resolve(app, &key, Downgrade::Allowed, None).await?;
        Ok(Self { key, origin })
    }
}

impl Caller {
    /// The same caller once more, for another request of the same call.
    fn again(&self) -> Origin {
        Origin {
            agent: crate::extract::ClientAgent(self.origin.agent.0.clone()),
            client: self.client(),
            attempt: IdempotencyKey(None),
        }
    }

    fn client(&self) -> Client {
        self.origin.client
    }
}

/// The program that calls, as clients of the horde name themselves: `name:version:contact`.
fn program(headers: &HeaderMap) -> String {
    let name = headers.get(header::USER_AGENT);
    let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|letter| *letter != ':')
        .take(MAX_PROGRAM_CHARS)
        .collect();
    match name.trim() {
        "" => "OpenAI client:0:gateway".to_owned(),
        name => format!("{name}:0:gateway"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_lies_below_belongs_here() {
        for (path, expected) in [
            ("/v1", true),
            ("/v1/models", true),
            ("/v10", false),
            ("/api/v2/v1", false),
            ("/", false),
        ] {
            assert_eq!(holds(path), expected, "{path}");
        }
    }

    #[test]
    fn a_bearer_token_is_a_key() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(bearer(&headers), expected, "{value}");
        }
    }
}
