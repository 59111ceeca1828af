//! Terms, privacy, sponsors: for programs, and as pages.
//!
//! # Source
//! `community.md` § 11, § 12.2.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use ordu_api::ReturnCode;
use ordu_api::document::DocumentView;
use serde::Deserialize;

use super::page;
use crate::app::App;
use crate::documents::Document;
use crate::error::{ApiError, ApiResult};
use crate::web::{DocumentPage, Frame};

/// In which form.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    format: Option<String>,
}

/// `GET /documents/terms`
pub(crate) async fn terms(
    app: State<Arc<App>>,
    wanted: Query<Wanted>,
) -> ApiResult<Json<DocumentView>> {
    answer(&app, Document::Terms, &wanted).await
}

/// `GET /documents/privacy`
pub(crate) async fn privacy(
    app: State<Arc<App>>,
    wanted: Query<Wanted>,
) -> ApiResult<Json<DocumentView>> {
    answer(&app, Document::Privacy, &wanted).await
}

/// `GET /documents/sponsors`
pub(crate) async fn sponsors(
    app: State<Arc<App>>,
    wanted: Query<Wanted>,
) -> ApiResult<Json<DocumentView>> {
    answer(&app, Document::Sponsors, &wanted).await
}

async fn answer(app: &App, which: Document, wanted: &Wanted) -> ApiResult<Json<DocumentView>> {
    let form = wanted.format.as_deref().unwrap_or("html");
    if !matches!(form, "html" | "markdown") {
        let message = format!("`format` is '{form}': use html or markdown");
        return Err(ApiError::refused(ReturnCode::BadRequest, message));
    }
    let written = app.document(which).await?;
    let mut view = DocumentView::default();
    if form == "html" {
        view.html = Some(written.into_html());
    } else {
        view.markdown = Some(written.into_markdown());
    }
    Ok(Json(view))
}

/// `GET /terms`
pub(crate) async fn terms_page(app: State<Arc<App>>) -> ApiResult<Response> {
    show(&app, Document::Terms).await
}

/// `GET /privacy`
pub(crate) async fn privacy_page(app: State<Arc<App>>) -> ApiResult<Response> {
    show(&app, Document::Privacy).await
}

/// `GET /sponsors`
pub(crate) async fn sponsors_page(app: State<Arc<App>>) -> ApiResult<Response> {
    show(&app, Document::Sponsors).await
}

async fn show(app: &App, which: Document) -> ApiResult<Response> {
    let html = app.document(which).await?.into_html();
    let document = DocumentPage {
        frame: Frame::new(&app.config.title),
        name: which.name(),
        html,
    };
    page::render(StatusCode::OK, &document)
}
