//! Every no in OpenAI's form.
//!
//! Handlers say no as all handlers do, and limits, guards and the transport know nothing of the
//! gateway: what they say is put into the other form when it leaves, by [`in_their_form`].

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ordu_api::error::ErrorBody;
use ordu_api::openai::{Problem, Refused};

use crate::error::ApiError;

/// The longest no that is read, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Why the gateway says no.
#[derive(Debug)]
pub(crate) enum GatewayError {
    /// As any other part of the server.
    Horde(ApiError),
    /// In words that the protocol of the horde does not have.
    Own(StatusCode, Problem),
}

pub(crate) type GatewayResult<T> = Result<T, GatewayError>;

impl<E: Into<ApiError>> From<E> for GatewayError {
    fn from(error: E) -> Self {
        Self::Horde(error.into())
    }
}

impl GatewayError {
    /// A member of the call is wrong.
    pub(crate) fn member(name: &str, complaint: impl Into<String>) -> Self {
        Self::Horde(ApiError::field(name, complaint))
    }

    /// A member of the call asks for what the horde does not do.
    pub(crate) fn unsupported(name: &str, complaint: &str) -> Self {
        let problem = Problem {
            message: format!("`{name}`: {complaint}"),
            kind: INVALID,
            param: Some(name.to_owned()),
            code: Some("unsupported_parameter".to_owned()),
        };
        Self::Own(StatusCode::BAD_REQUEST, problem)
    }

    /// Nobody serves a model.
    pub(crate) fn no_model(message: String) -> Self {
        let problem = Problem {
            message,
            kind: INVALID,
            param: Some("model".to_owned()),
            code: Some("model_not_found".to_owned()),
        };
        Self::Own(StatusCode::NOT_FOUND, problem)
    }

    /// The horde could not do it.
    pub(crate) fn failed(problem: Problem) -> Self {
        Self::Own(StatusCode::SERVICE_UNAVAILABLE, problem)
    }
}

/// Something that the horde could not do, also in the middle of a stream.
pub(crate) fn failure(code: &str, message: impl Into<String>) -> Problem {
    Problem {
        message: message.into(),
        kind: SERVER,
        param: None,
        code: Some(code.to_owned()),
    }
}

impl IntoResponse for GatewayError {
    fn into_response(self) -> Response {
        match self {
            Self::Horde(error) => error.into_response(),
            Self::Own(status, error) => (status, Json(Refused { error })).into_response(),
        }
    }
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

/// The kind of problem and its code that go with a status.
const KINDS: &[(u16, &str, &str)] = &[
    (401, INVALID, "invalid_api_key"),
    (403, "permission_error", "forbidden"),
    (404, INVALID, "not_found"),
    (408, INVALID, "too_slow"),
    (413, INVALID, "too_large"),
    (429, "requests", "rate_limit_exceeded"),
];

/// Puts a no into OpenAI's form; leaves alone what has it, and what is no no.
pub(crate) async fn in_their_form(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let said = to_bytes(body, MAX_BYTES).await.unwrap_or_default();
    let body = match serde_json::from_slice::<ErrorBody>(&said) {
        // A message is what every no of the horde has, and none of OpenAI's at this place.
        Ok(no) if !no.message.is_empty() => {
            let error = translate(status, no);
            serde_json::to_vec(&Refused { error }).unwrap_or_default()
        }
        _ => said.to_vec(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

fn translate(status: StatusCode, no: ErrorBody) -> Problem {
    let known = KINDS.iter().find(|(number, ..)| *number == status.as_u16());
    let (kind, code) = match known {
        Some((_, kind, code)) => (*kind, Some(*code)),
        None if status.is_server_error() => (SERVER, None),
        None => (INVALID, None),
    };
    // OpenAI's own word is what its clients look for; only where it has none is ours better.
    let fixed = matches!(status.as_u16(), 401 | 429);
    let code = match no.rc {
        Some(rc) if !fixed => Some(rc),
        _ => code.map(str::to_owned),
    };
    let wrong = no.errors.and_then(|errors| errors.into_iter().next());
    let (param, message) = match wrong {
        Some((name, complaint)) => {
            let message = format!("`{name}`: {complaint}");
            (Some(name), message)
        }
        None => (None, no.message),
    };
    Problem {
        message,
        kind,
        param,
        code,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use ordu_api::ReturnCode;

    async fn shown(response: Response) -> Value {
        let response = in_their_form(response).await;
        let body = to_bytes(response.into_body(), MAX_BYTES).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn every_no_comes_in_their_form() {
        let refused = |code, message| ApiError::refused(code, message).into_response();
        for (response, expected) in [
            (
                refused(ReturnCode::InvalidAPIKey, "no"),
                json!({"message": "no", "type": INVALID, "param": null, "code": "invalid_api_key"}),
            ),
            (
                refused(ReturnCode::KudosUpfront, "poor"),
                json!({"message": "poor", "type": "permission_error", "param": null,
                    "code": "KudosUpfront"}),
            ),
            (
                ApiError::field("n", "too many").into_response(),
                json!({"message": "`n`: too many", "type": INVALID, "param": "n", "code": null}),
            ),
            (
                ApiError::too_often(3, "slowly").into_response(),
                json!({"message": "slowly", "type": "requests", "param": null,
                    "code": "rate_limit_exceeded"}),
            ),
            (
                GatewayError::unsupported("tools", "not here").into_response(),
                json!({"message": "`tools`: not here", "type": INVALID, "param": "tools",
                    "code": "unsupported_parameter"}),
            ),
            (
                GatewayError::failed(failure("faulted", "gone")).into_response(),
                json!({"message": "gone", "type": SERVER, "param": null, "code": "faulted"}),
            ),
        ] {
            assert_eq!(shown(response).await, json!({ "error": expected }));
        }
        let yes = Json(json!({"message": "fine"})).into_response();
        assert_eq!(shown(yes).await, json!({"message": "fine"}));
    }
}
