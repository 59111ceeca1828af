//! The web page. It does nothing that the API cannot do, and works without scripts.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form as FormBody, Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use ordu_api::ApiKey;
use ordu_api::alchemy::FORMS;
use ordu_api::image::{
    CONTROL_TYPES, ImageParams, ImageRequest, POST_PROCESSORS, Progress, SAMPLERS,
};
use ordu_api::worker::WorkKind;

use super::image;
use super::request::{self as asking, Answer, Asked};
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::identity::Visitor;
use crate::web::{self, Alchemy, Create, Form, Frame, Moderate, Request, Write};

/// Which program the page is, for statistics.
const AGENT: &str = concat!("ordu-web:", env!("CARGO_PKG_VERSION"), ":page");

/// Scripts, styles and pictures come from here only; nothing is inline.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// `GET /`
pub(crate) async fn create(State(app): State<Arc<App>>) -> ApiResult<Response> {
    front(&app, &Form::default(), None)
}

/// `POST /`: asks, then shows the request; shows what is wrong beside the form otherwise.
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    client: Client,
    visitor: Visitor,
    FormBody(form): FormBody<Form>,
) -> ApiResult<Response> {
    visitor.check_origin()?;
    let asked = async {
        let request = read_form(&form)?;
        let key = match form.apikey.trim() {
            "" => ApiKey::anonymous(),
            key => ApiKey::new(key),
        };
        let asked = Asked {
            request,
            agent: AGENT.to_owned(),
            client,
            styled: None,
            attempt: None,
        };
        asking::ask(&app, &key, asked).await
    };
    match asked.await {
        Ok(Answer::Accepted(accepted)) => {
            Ok(Redirect::to(&format!("/requests/{}", accepted.id)).into_response())
        }
        Ok(Answer::Price(_)) => Err(ApiError::Internal("the page asked for a price".to_owned())),
        Err(ApiError::Refused(refusal)) => front(&app, &form, Some(refusal.message)),
        Err(ApiError::Fields(errors)) => {
            let lines = errors
                .iter()
                .map(|(field, complaint)| format!("{field}: {complaint}"));
            front(&app, &form, Some(lines.collect::<Vec<_>>().join("; ")))
        }
        Err(other) => Err(other),
    }
}

/// Reads the fields by the same table as the API's body.
fn read_form(form: &Form) -> ApiResult<ImageRequest> {
    let number = |name: &str, text: &str| -> ApiResult<Option<u32>> {
        match text.trim() {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::field(name, format!("'{text}' is not a whole number"))),
        }
    };
    if form.prompt.trim().is_empty() {
        return Err(ApiError::field("prompt", "say what to paint"));
    }
    let prompt = match form.negative.trim() {
        "" => form.prompt.clone(),
        negative => format!("{}###{negative}", form.prompt),
    };
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let request = ImageRequest {
        prompt,
        params: ImageParams {
            width: number("width", &form.width)?,
            height: number("height", &form.height)?,
            steps: number("steps", &form.steps)?,
            n: number("n", &form.n)?,
            seed: filled(&form.seed),
            ..ImageParams::default()
        },
        models: filled(&form.model).into_iter().collect(),
        ..ImageRequest::default()
    };
    let mut value =
        serde_json::to_value(&request).map_err(|error| ApiError::Internal(error.to_string()))?;
    ordu_api::image::REQUEST_SCHEMA.check(&mut value)?;
    Ok(request)
}

fn front(app: &App, form: &Form, complaint: Option<String>) -> ApiResult<Response> {
    let status = if complaint.is_some() {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let (performance, models) = {
        let now = app.clock.now();
        let mut live = app.live();
        (
            live.horde.performance(now),
            live.horde.models(WorkKind::Image, now),
        )
    };
    let frame = Frame::new(&app.config.title);
    render(
        status,
        &Create {
            frame,
            form,
            complaint,
            performance,
            models,
            samplers: SAMPLERS,
            controls: CONTROL_TYPES,
            post_processors: POST_PROCESSORS,
        },
    )
}

/// `GET /text`
pub(crate) async fn write(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let frame = Frame::new(&app.config.title);
    let models = {
        let now = app.clock.now();
        app.live().horde.models(WorkKind::Text, now)
    };
    render(StatusCode::OK, &Write { frame, models })
}

/// `GET /alchemy`
pub(crate) async fn alchemy(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let frame = Frame::new(&app.config.title);
    let page = Alchemy {
        frame,
        forms: FORMS,
    };
    render(StatusCode::OK, &page)
}

/// `GET /moderate`
pub(crate) async fn moderate(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let frame = Frame::new(&app.config.title);
    render(StatusCode::OK, &Moderate { frame })
}

/// `GET /requests/{id}`
pub(crate) async fn request(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let missing = || ApiError::plain(StatusCode::NOT_FOUND, "This request is unknown or expired");
    let id = id.parse().map_err(|_| missing())?;
    let status = image::read_status(&app, id).await?;
    let progress = &status.progress;
    let total = progress.finished + progress.processing + progress.waiting;
    let state = describe(progress);
    let frame = Frame::new(&app.config.title);
    render(
        StatusCode::OK,
        &Request {
            frame,
            id,
            state,
            total,
            status,
        },
    )
}

fn describe(progress: &Progress) -> String {
    match progress {
        Progress { faulted: true, .. } => "The horde gave up on this request".to_owned(),
        Progress {
            done: true,
            finished: 0,
            ..
        } => "This request was cancelled".to_owned(),
        Progress { done: true, .. } => "Done".to_owned(),
        Progress {
            processing: 1.., ..
        } => "Painting".to_owned(),
        other => format!("Waiting, place {}", other.queue_position),
    }
}

/// A page as it is sent.
pub(super) fn render(status: StatusCode, page: &impl Template) -> ApiResult<Response> {
    render_under(status, page, POLICY)
}

/// The same under another policy.
pub(super) fn render_under(
    status: StatusCode,
    page: &impl Template,
    policy: HeaderValue,
) -> ApiResult<Response> {
    let html = page
        .render()
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("same-origin"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((status, headers, Html(html)).into_response())
}

/// `GET /assets/{name}`
pub(crate) async fn asset(Path(name): Path<String>) -> ApiResult<Response> {
    let asset = web::asset(&name)
        .ok_or_else(|| ApiError::plain(StatusCode::NOT_FOUND, "There is no such file"))?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(asset.media_type),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=3600"),
        ),
        (
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((headers, asset.bytes).into_response())
}
