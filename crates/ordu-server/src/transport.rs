//! What every answer carries, whatever it says: CORS, the node, the request's id, the field mask.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ordu_api::ApiKey;
use ordu_api::error::ErrorBody;
use ordu_api::mask::Mask;
use serde_json::{Value, json};
use tracing::Instrument;
use uuid::Uuid;

use crate::address::Client;
use crate::app::App;
use crate::body::Paced;
use crate::error::ApiError;
use crate::gateway;
use crate::limits::{Call, Gauge, TooMany};
use crate::load::Full;
use crate::metrics::Answered;

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE, PATCH");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, apikey, Client-Agent, \
     X-Fields, X-Forwarded-For, Proxied-For, Proxy-Authorization",
);
/// The same with the headers that only this server knows, for pages that name one of them.
const ALL_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, apikey, Client-Agent, \
     X-Fields, X-Forwarded-For, Proxied-For, Proxy-Authorization, Prefer, Last-Event-ID, \
     Idempotency-Key",
);
/// What a page of another origin may send to the gateway if it does not ask.
const GATEWAY_HEADERS: HeaderValue = HeaderValue::from_static("Authorization, Content-Type");
/// The headers that only this server knows, in lower case.
const OUR_HEADERS: &[&str] = &["prefer", "last-event-id", "idempotency-key"];
/// What pages of other origins may read of an answer.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, X-Request-Id, \
     Horde-Node, Preference-Applied",
);
const NODE: HeaderName = HeaderName::from_static("horde-node");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MASK: HeaderName = HeaderName::from_static("x-fields");

/// Wraps the whole router: names the request, answers `OPTIONS`, applies the mask, adds headers.
pub(crate) async fn wrap(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = Uuid::new_v4();
    let span = tracing::info_span!(
        "http",
        request.id = %id,
        method = %request.method(),
        path = request.uri().path(),
    );
    let path = request.uri().path().to_owned();
    let (method, route) = (
        request.method().clone(),
        request.extensions().get::<MatchedPath>().cloned(),
    );
    let is_gateway = gateway::holds(&path);
    let allowed = if is_gateway {
        all_asked(request.headers())
    } else {
        allowed_headers(request.headers())
    };
    let asked = route.as_ref().map_or("", MatchedPath::as_str);
    let traced = tracing::info_span!(
        target: "ordu_traces",
        "request",
        otel.name = format_args!("{method} {asked}"),
        otel.kind = "server",
        http.request.method = %method,
        http.route = asked,
        http.response.status_code = tracing::field::Empty,
        request.id = %id,
    );
    let _active = app.count_active();
    let started = tokio::time::Instant::now();
    let (response, trips) =
        ordu_store::counted(take_in_hand(&app, request, next).instrument(span.clone()))
            .instrument(traced.clone())
            .await;
    let mut response = in_form(response, id).await;
    if is_gateway {
        response = gateway::refusal::in_their_form(response).await;
    }
    traced.record("http.response.status_code", response.status().as_u16());
    let elapsed = started.elapsed();
    let route = route.as_ref().map(MatchedPath::as_str);
    let answered = Answered::new(&method, response.status(), elapsed, trips);
    app.metrics.note(route, answered);
    let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if response.status().is_server_error() && is_of_workers(&path) {
        app.live().horde.note_trouble(app.clock.now());
    }
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), duration_ms, "answered"));
    let mut response = with_headers(response, &app, id);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    response
}

/// Who comes when there is no room is sent away before anything is read, and so is the body for which
/// there is none.
async fn take_in_hand(app: &App, request: Request, next: Next) -> Response {
    let call = match app.load.enter(request.method(), request.uri().path()) {
        Ok(call) => call,
        Err(full) => return ApiError::from(full).into_response(),
    };
    let patience = app.config.patience;
    let request = request.map(|body| Paced::wrap(body, patience, Arc::clone(&call)));
    let response = call.scope(answer(app, request, next)).await;
    if call.is_cut() {
        return ApiError::from(Full).into_response();
    }
    response
}

/// Which headers a page of another origin may send: as deployed, unless it asks for one of ours.
fn allowed_headers(headers: &HeaderMap) -> HeaderValue {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked
        .and_then(|asked| asked.to_str().ok())
        .unwrap_or_default();
    let mut names = asked
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase());
    if names.any(|name| OUR_HEADERS.contains(&name.as_str())) {
        ALL_HEADERS
    } else {
        HEADERS
    }
}

/// The headers that a page of another origin asks to send to the gateway: OpenAI's clients have many
/// of their own. No cookie ever counts there.
fn all_asked(headers: &HeaderMap) -> HeaderValue {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    asked.cloned().unwrap_or(GATEWAY_HEADERS)
}

/// Whether workers come here for jobs and with results.
fn is_of_workers(path: &str) -> bool {
    let is_job = path.ends_with("/pop") || path.ends_with("/submit");
    is_job || path.starts_with("/blobs/")
}

/// Limits come first: who asks too often is not even read.
async fn answer(app: &App, mut request: Request, next: Next) -> Response {
    let client = match Client::of(app, request.extensions(), request.headers()) {
        Ok(client) => client,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(client);
    if gateway::holds(request.uri().path()) {
        take_bearer(request.headers_mut());
    }
    let guess = Guess::of(app, &request, client);
    if let Err(error) = guess.admit(app) {
        return error.into_response();
    }
    let gauge = match admit(app, &request, client) {
        Ok(gauge) => gauge,
        Err(too_many) => return too_many.into_response(),
    };
    let mut response = masked(request, next).await;
    guess.judge(app, response.status());
    if let Some(gauge) = gauge {
        gauge.mark(&mut response);
    }
    response
}

/// A bearer token is a key: from here on there is only one way to send it.
fn take_bearer(headers: &mut HeaderMap) {
    let key = gateway::bearer(headers).and_then(|key| HeaderValue::from_str(key).ok());
    if let Some(key) = key {
        headers.insert("apikey", key);
    }
}

/// A request with a key that may be a wrong one.
struct Guess {
    network: IpAddr,
    key: Option<ApiKey>,
    /// Whether "not found" is the answer to a wrong key here.
    is_search: bool,
}

impl Guess {
    fn of(app: &App, request: &Request, client: Client) -> Self {
        let key = request.headers().get("apikey");
        Self {
            network: client.network(),
            key: key
                .filter(|_| app.config.wrong_keys.is_some())
                .map(|key| ApiKey::new(String::from_utf8_lossy(key.as_bytes()))),
            is_search: request.uri().path().ends_with("/find_user"),
        }
    }

    /// Turns a key away that nobody used here before, while its address has to wait.
    fn admit(&self, app: &App) -> Result<(), ApiError> {
        match &self.key {
            Some(key) => app.admit_key(key, self.network),
            None => Ok(()),
        }
    }

    fn judge(&self, app: &App, status: StatusCode) {
        let is_wrong = status == StatusCode::UNAUTHORIZED
            || (self.is_search && status == StatusCode::NOT_FOUND);
        if is_wrong && self.key.is_some() {
            app.guesses.note_wrong(self.network, app.clock.now());
        }
    }
}

impl App {
    /// Turns a key away that nobody used here before, while its address has to wait.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub(crate) fn admit_key(&self, key: &ApiKey, network: IpAddr) -> Result<(), ApiError> {
        let Some(rest) = self.guesses.pause(network, self.clock.now()) else {
            return Ok(());
        };
        if self.accounts.knows(key) {
            return Ok(());
        }
        self.guesses.note_refusal();
        let seconds = (rest.0 + 999) / 1000;
        let message = format!(
            "Too many wrong keys came from this address: wait {seconds} s before you try another"
        );
        Err(ApiError::too_often(seconds, message))
    }
}

fn admit(app: &App, request: &Request, client: Client) -> Result<Option<Gauge>, TooMany> {
    let pattern = request.extensions().get::<MatchedPath>();
    let Some(pattern) = pattern.filter(|_| request.method() != Method::OPTIONS) else {
        return Ok(None);
    };
    let method = match *request.method() {
        // The same work without the body.
        Method::HEAD => &Method::GET,
        _ => request.method(),
    };
    let now = app.clock.now();
    let call = Call {
        method,
        pattern: pattern.as_str(),
        path: request.uri().path(),
        network: client.network(),
        api_key: request.headers().get("apikey").map(HeaderValue::as_bytes),
        trusted: app.trusted.contains(client, now),
    };
    app.limits.admit(&call, now)
}

async fn masked(request: Request, next: Next) -> Response {
    let mask = match read_mask(request.headers()) {
        Ok(mask) => mask,
        Err(error) => return error.into_response(),
    };
    let asks_options = request.method() == Method::OPTIONS;
    let response = next.run(request).await;
    match mask {
        _ if asks_options => allow_options(&response).unwrap_or(response),
        Some(mask) if response.status().is_success() => apply_mask(response, &mask).await,
        _ => response,
    }
}

pub(crate) fn read_mask(headers: &HeaderMap) -> Result<Option<Mask>, ApiError> {
    let Some(text) = headers.get(MASK) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(text.as_bytes());
    let complain = |error: ordu_api::mask::MaskError| {
        ApiError::plain(StatusCode::BAD_REQUEST, error.to_string())
    };
    text.parse().map(Some).map_err(complain)
}

/// A path that exists has no handler for `OPTIONS`, so the router answers 405, and says outside of
/// this which methods there are.
fn allow_options(response: &Response) -> Option<Response> {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return None;
    }
    // The media type of nothing: as deployed.
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    Some((StatusCode::OK, [(header::CONTENT_TYPE, html)]).into_response())
}

/// The longest complaint of a library that is passed on, in bytes.
const MAX_COMPLAINT_BYTES: usize = 4 << 10;

/// Every no is JSON with a `message`, also one that a library said; what must not happen names the
/// request, so that its line in the log is found.
async fn in_form(response: Response, id: Uuid) -> Response {
    let status = response.status();
    let is_server_error = status.is_server_error();
    let is_no = status.is_client_error() || is_server_error;
    let was_json = is_json(&response);
    let is_page = is_media(&response, "text/html");
    if !is_no || is_page || (was_json && !is_server_error) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let said = to_bytes(body, MAX_COMPLAINT_BYTES).await;
    let said = said.unwrap_or_default();
    let mut complaint = match serde_json::from_slice::<Value>(&said) {
        Ok(complaint @ Value::Object(_)) if was_json => complaint,
        _ => json!({ "message": String::from_utf8_lossy(&said) }),
    };
    if let Value::Object(members) = &mut complaint
        && is_server_error
    {
        members.insert("request_id".to_owned(), json!(id));
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Response::from_parts(parts, Body::from(complaint.to_string()))
}

fn is_json(response: &Response) -> bool {
    is_media(response, "application/json")
}

fn is_media(response: &Response, wanted: &str) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    media_type.is_some_and(|value| value.starts_with(wanted))
}

async fn apply_mask(response: Response, mask: &Mask) -> Response {
    if !is_json(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let masked = to_bytes(body, usize::MAX).await.ok().and_then(|bytes| {
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        serde_json::to_vec(&mask.apply(value)).ok()
    });
    parts.headers.remove(header::CONTENT_LENGTH);
    match masked {
        Some(bytes) => Response::from_parts(parts, Body::from(bytes)),
        None => ApiError::Internal("an answer is not JSON".to_owned()).into_response(),
    }
}

fn with_headers(mut response: Response, app: &App, id: Uuid) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.insert(NODE, app.node_name());
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    if headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == "application/json")
    {
        let value = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, value);
    }
    response
}

/// The answer to a path that does not exist.
pub(crate) async fn not_found() -> ApiError {
    ApiError::plain(StatusCode::NOT_FOUND, "There is nothing at this path")
}

/// The answer to a method that a path does not know.
pub(crate) async fn method_not_allowed() -> ApiError {
    let message = "The method is not allowed for this path";
    ApiError::plain(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// The answer when a handler panicked: one request is lost, never the process.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the panic layer hands the payload over"
)]
pub(crate) fn after_panic(payload: Box<dyn Any + Send>) -> Response {
    let cause = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(cause, "a handler panicked");
    let message = "Internal Server Error".to_owned();
    let body = ErrorBody {
        message,
        ..ErrorBody::default()
    };
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
}
