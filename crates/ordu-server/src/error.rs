//! The only error that handlers return, and how each kind of "no" looks on the wire.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ordu_api::ReturnCode;
use ordu_api::error::{ErrorBody, FieldErrors, VALIDATION_MESSAGE};
use ordu_core::Refusal;

use crate::blobs::BlobError;
use crate::load::{self, Full};

/// Why a handler says no.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The rules say no.
    Refused(Refusal),
    /// Members of the body, the query or the headers are wrong; each by its dotted path.
    Fields(FieldErrors),
    /// The transport's own kind of no, without a return code.
    Plain(StatusCode, String),
    /// The horde cannot answer at the moment; try again after so many seconds.
    Unavailable(u64),
    /// There is too much to do at the moment; try again after so many seconds.
    Busy(u64),
    /// Somebody did something too often; try again after so many seconds.
    TooOften(i64, String),
    /// Something that must not happen. The cause is logged, not sent.
    Internal(String),
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// The rules say no.
    pub(crate) fn refused(code: ReturnCode, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }

    /// One argument is missing or wrong.
    pub(crate) fn field(name: &str, complaint: impl Into<String>) -> Self {
        Self::Fields(FieldErrors::from([(name.to_owned(), complaint.into())]))
    }

    /// A no of the transport.
    pub(crate) fn plain(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Plain(status, message.into())
    }
}

impl ApiError {
    /// Somebody did something too often.
    pub(crate) fn too_often(seconds: i64, message: impl Into<String>) -> Self {
        Self::TooOften(seconds.max(1), message.into())
    }

    /// What to tell a person in front of a page, with the status; the rest is no answer for one.
    ///
    /// # Errors
    /// The error itself.
    pub(crate) fn told(self) -> Result<(StatusCode, String), Self> {
        match self {
            Self::Refused(refusal) => Ok((status(refusal.code.status()), refusal.message)),
            Self::Plain(status, message) => Ok((status, message)),
            Self::TooOften(_, message) => Ok((StatusCode::TOO_MANY_REQUESTS, message)),
            Self::Fields(errors) => {
                let lines = errors
                    .iter()
                    .map(|(field, complaint)| format!("{field}: {complaint}"));
                let lines = lines.collect::<Vec<_>>().join("; ");
                Ok((StatusCode::BAD_REQUEST, lines))
            }
            other => Err(other),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Self::Fields(errors)
    }
}

/// How long a client should wait when database or pictures are away, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;

impl From<ordu_store::Error> for ApiError {
    fn from(error: ordu_store::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        match error {
            error if error.is_unavailable() => Self::Unavailable(RETRY_AFTER_SECONDS),
            // What the checks before it let through and a database does not take, such as NUL.
            ordu_store::Error::Invalid(_) => {
                let message = "This holds something that cannot be stored, such as a NUL character";
                Self::refused(ReturnCode::BadRequest, message)
            }
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<Full> for ApiError {
    fn from(Full: Full) -> Self {
        Self::Busy(load::RETRY_AFTER_SECONDS)
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the store of pictures failed"
        );
        Self::Unavailable(RETRY_AFTER_SECONDS)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Refused(refusal) => {
                let rc = Some(refusal.code.name().to_owned());
                let body = ErrorBody {
                    message: refusal.message,
                    rc,
                    errors: None,
                    request_id: None,
                };
                (status(refusal.code.status()), body)
            }
            Self::Fields(errors) => {
                let message = VALIDATION_MESSAGE.to_owned();
                (
                    StatusCode::BAD_REQUEST,
                    ErrorBody {
                        message,
                        rc: None,
                        errors: Some(errors),
                        request_id: None,
                    },
                )
            }
            Self::Plain(status, message) => (
                status,
                ErrorBody {
                    message,
                    ..ErrorBody::default()
                },
            ),
            Self::Unavailable(seconds) => {
                let what = "The horde cannot store this at the moment";
                return unavailable(what, seconds);
            }
            Self::Busy(seconds) => {
                let what = "The horde has too much to do at the moment";
                return unavailable(what, seconds);
            }
            Self::TooOften(seconds, message) => return too_often(seconds, message),
            Self::Internal(cause) => {
                tracing::error!(cause, "a request failed for a reason that must not happen");
                let message = "Internal Server Error".to_owned();
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    ErrorBody {
                        message,
                        ..ErrorBody::default()
                    },
                )
            }
        };
        (status, Json(body)).into_response()
    }
}

fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::BAD_REQUEST)
}

fn unavailable(what: &str, seconds: u64) -> Response {
    let message = format!("{what}, try again in {seconds} s");
    let body = Json(ErrorBody {
        message,
        ..ErrorBody::default()
    });
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn too_often(seconds: i64, message: String) -> Response {
    let body = Json(ErrorBody {
        message,
        ..ErrorBody::default()
    });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, body).into_response();
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

impl From<crate::accounts::AccountError> for ApiError {
    fn from(error: crate::accounts::AccountError) -> Self {
        match error {
            crate::accounts::AccountError::Store(error) => error.into(),
            crate::accounts::AccountError::Key(error) => Self::Internal(error.to_string()),
            crate::accounts::AccountError::Name => {
                Self::plain(StatusCode::BAD_REQUEST, error.to_string())
            }
        }
    }
}
