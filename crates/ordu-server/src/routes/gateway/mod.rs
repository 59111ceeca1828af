//! What OpenAI's clients call: `/v1`.
//!
//! # Source
//! `platform.md` § 4; OpenAI's public API reference.

pub(crate) mod image;
mod text;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::KeepAlive;
use ordu_api::openai::{Model, ModelList};
use ordu_api::status::ModelStatus;
use ordu_api::worker::WorkKind;

pub(crate) use image::{draw, edit};
pub(crate) use text::{chat, complete};

use crate::app::App;
use crate::gateway::Caller;
use crate::gateway::refusal::{GatewayError, GatewayResult};

/// What a stream says of itself to what lies between.
const OF_STREAMS: [(&str, &str); 2] = [("cache-control", "no-store"), ("x-accel-buffering", "no")];

fn keep_alive(app: &App) -> KeepAlive {
    KeepAlive::new().interval(app.config.keep_alive)
}

/// `GET /v1/models`: what workers serve just now.
pub(crate) async fn models(State(app): State<Arc<App>>, _: Caller) -> Json<ModelList> {
    Json(ModelList {
        object: "list",
        data: served(&app),
    })
}

/// `GET /v1/models/{model}`: a name may hold slashes.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(name): Path<String>,
) -> GatewayResult<Json<Model>> {
    let model = served(&app).into_iter().find(|model| model.id == name);
    model
        .map(Json)
        .ok_or_else(|| GatewayError::no_model(format!("No worker serves `{name}` just now")))
}

fn served(app: &App) -> Vec<Model> {
    let seeing = app.live().horde.seeing_models(app.clock.now());
    let texts = app.served(WorkKind::Text).into_iter().map(|model| Model {
        vision: Some(seeing.contains(&model.name)),
        ..show(model, "text")
    });
    let pictures = app.served(WorkKind::Image).into_iter();
    texts
        .chain(pictures.map(|model| show(model, "image")))
        .collect()
}

fn show(model: ModelStatus, makes: &'static str) -> Model {
    Model {
        id: model.name,
        object: "model",
        created: 0,
        owned_by: "horde",
        makes,
        vision: None,
        workers: model.count,
        eta: model.eta,
    }
}
