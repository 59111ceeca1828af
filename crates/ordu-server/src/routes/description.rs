//! What the API says about itself: `docs/api.md`, § The description.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;

use super::page::render;
use crate::app::App;
use crate::error::ApiResult;
use crate::openapi::{Page, Site};
use crate::web::{Description, Frame};

fn site(app: &App) -> Site<'_> {
    Site {
        title: &app.config.title,
        contact: app.config.site.contact.as_deref(),
    }
}

/// `GET /api/openapi.json`
pub(crate) async fn openapi(State(app): State<Arc<App>>) -> Response {
    json(app.descriptions.openapi(&site(&app)))
}

/// `GET /api/swagger.json`: the older form.
pub(crate) async fn swagger(State(app): State<Arc<App>>) -> Response {
    json(app.descriptions.swagger(&site(&app)))
}

fn json(document: Bytes) -> Response {
    let media_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, media_type)], document).into_response()
}

/// `GET /api`: how `serviceinfo` calls the page.
pub(crate) async fn front() -> Redirect {
    Redirect::permanent("/api/")
}

/// `GET /api/`: the same for people.
pub(crate) async fn page(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let frame = Frame::new(&app.config.title);
    let page = Page::new(&site(&app));
    render(StatusCode::OK, &Description { frame, page })
}
