//! Pictures behind signed links: `PUT` for workers, `GET` for clients.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::app::App;
use crate::blobs::{BlobError, Link, MAX_PICTURE_BYTES, Permission};
use crate::error::{ApiError, ApiResult};
use crate::extract::unreadable;

/// The permission that a link carries.
#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    #[serde(default)]
    expires: i64,
    #[serde(default)]
    signature: String,
}

/// `GET /blobs/{name}`
pub(crate) async fn download(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(signed): Query<Signed>,
) -> ApiResult<Response> {
    authorize(&app, &name, &signed, Permission::Download)?;
    let bytes = app.blobs.get(&name).await.map_err(|error| match error {
        BlobError::Missing => ApiError::plain(StatusCode::NOT_FOUND, "The picture is gone"),
        other => other.into(),
    })?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/webp")),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, max-age=1800, immutable"),
        ),
        // What a worker uploaded is never more than a picture to a browser.
        (
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// `PUT /blobs/{name}`
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(signed): Query<Signed>,
    body: Body,
) -> ApiResult<StatusCode> {
    authorize(&app, &name, &signed, Permission::Upload)?;
    let bytes = to_bytes(body, MAX_PICTURE_BYTES)
        .await
        .map_err(|error| unreadable(&error, MAX_PICTURE_BYTES))?;
    app.blobs.put(&name, bytes).await?;
    Ok(StatusCode::OK)
}

fn authorize(app: &App, name: &str, signed: &Signed, permission: Permission) -> ApiResult<()> {
    let link = Link {
        name,
        expires: signed.expires,
        signature: &signed.signature,
    };
    if app.blobs.allows(&link, permission, app.clock.now()) {
        return Ok(());
    }
    Err(ApiError::plain(
        StatusCode::FORBIDDEN,
        "The link is not valid or has expired",
    ))
}
