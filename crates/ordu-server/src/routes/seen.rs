//! What this server sees of who asks, for whoever has its secret.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use serde::Deserialize;

use crate::address::{Client, socket_peer};
use crate::app::App;
use crate::checkup::{Seen, may_see};
use crate::error::{ApiError, ApiResult};

/// The permission that a link carries.
#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    #[serde(default)]
    expires: i64,
    #[serde(default)]
    signature: String,
}

/// `GET /healthz/seen`
pub(crate) async fn seen(
    State(app): State<Arc<App>>,
    Query(signed): Query<Signed>,
    client: Client,
    extensions: Extensions,
    headers: HeaderMap,
) -> ApiResult<Json<Seen>> {
    let link = (signed.expires, signed.signature.as_str());
    if !may_see(&app.secret, link, app.clock.now()) {
        return Err(ApiError::plain(
            StatusCode::FORBIDDEN,
            "The link is not valid or has expired",
        ));
    }
    let peer = socket_peer(&extensions)?;
    let all = |name: &str| {
        let lines = headers.get_all(name).iter();
        let lines: Vec<_> = lines.filter_map(|line| line.to_str().ok()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    };
    Ok(Json(Seen {
        peer,
        client: client.ip,
        trusted: app.config.trusted_proxies.contains(&peer),
        forwarded_for: all("x-forwarded-for"),
        forwarded_proto: all("x-forwarded-proto"),
        host: all("host"),
    }))
}
