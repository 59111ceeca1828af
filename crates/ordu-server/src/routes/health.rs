//! Whether this process lives and can serve.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ordu_api::status::Heartbeat;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::address::Client;
use crate::app::App;
use crate::fetch::is_public;
use crate::nodes::NodeStatus;
use crate::{metrics, transport};

/// `GET /healthz`: the process answers.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: database and pictures can be reached.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Value>) {
    let database = app.store.ping().await.is_ok();
    let blobs = app.blobs.is_reachable().await;
    let ready = database && blobs && !app.is_draining();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let draining = app.is_draining();
    // The `Date` of answers stands still after the clock was put back.
    let now = app.clock.now().0;
    let mut facts = json!({
        "database": database,
        "blobs": blobs,
        "draining": draining,
        "now_ms": now,
    });
    if let (Some(nodes), Some(facts)) = (app.nodes.status(), facts.as_object_mut()) {
        facts.insert("nodes".to_owned(), described(&nodes));
    }
    (status, Json(facts))
}

/// How it goes with several nodes.
fn described(nodes: &NodeStatus) -> Value {
    json!({
        "alive": nodes.alive,
        "leads": nodes.leads,
        "claims_won": nodes.claims_won,
        "claims_lost": nodes.claims_lost,
        "changes_read": nodes.changes,
        "behind_ms": nodes.lag_ms,
        "head_start_ms": nodes.head_start_ms,
    })
}

/// `GET /metrics`: numbers for Prometheus. They are the operator's: whoever comes from the internet
/// finds nothing here.
pub(crate) async fn metrics(State(app): State<Arc<App>>, client: Client) -> Response {
    if is_public(client.ip) {
        return transport::not_found().await.into_response();
    }
    let text = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (text, app.show_metrics().await).into_response()
}

/// `GET /api/v2/status/heartbeat`: facts of this node only, nothing shared is waited for.
///
/// Always 200, as programs expect it; with `strict` a balancer may go by the status.
pub(crate) async fn heartbeat(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Strictness>,
) -> (StatusCode, Json<Heartbeat>) {
    let db_connection = app.is_reachable();
    let is_strict = matches!(wanted.strict.as_deref(), Some("1" | "true"));
    let status = if is_strict && !db_connection {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let heartbeat = Heartbeat {
        message: if db_connection { "OK" } else { "DOWN" }.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        queue: 0,
        threads: u64::from(app.config.most_load.connections),
        // This request does not count itself.
        active_count: app.active().saturating_sub(1),
        db_connection,
    };
    (status, Json(heartbeat))
}

/// Whether the status is to say how it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Strictness {
    strict: Option<String>,
}
