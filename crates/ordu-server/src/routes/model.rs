//! Entries of the model reference that moderators write while the server runs.
//!
//! # Source
//! Ours: `platform.md` § 4, model advice; a catalogue that can be edited.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ordu_api::ReturnCode;
use ordu_api::model::{
    ImageModelEntry, MAX_NAME_CHARS, ModelEntries, ModelEntry, ModelInput, ModelRequirements,
    TextModelEntry,
};
use ordu_api::operation::Done;
use ordu_api::worker::WorkKind;
use ordu_core::model_reference::{Baseline, Model, Requirements};
use ordu_core::text_models::TextModel;
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::moderator;
use crate::accounts::Account;
use crate::app::App;
use crate::audit::Deed;
use crate::catalogue::Edits;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};

/// For which kind of work a model is.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Wanted {
    fn kind(&self) -> ApiResult<WorkKind> {
        match self.kind.as_deref() {
            None | Some("image") => Ok(WorkKind::Image),
            Some("text") => Ok(WorkKind::Text),
            Some(other) => {
                let message = format!("`type` is '{other}': use image or text");
                Err(ApiError::refused(ReturnCode::BadRequest, message))
            }
        }
    }
}

/// `GET /operations/models`: what moderators wrote.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    key: OptionalKey,
) -> ApiResult<Json<ModelEntries>> {
    moderator(&app, &key.require()?).await?;
    let Edits { image, text } = app.catalogue.edits();
    let image = image.into_iter();
    let text = text.into_iter();
    Ok(Json(ModelEntries {
        image: image
            .map(|(name, model)| (name, image_entry(model)))
            .collect(),
        text: text
            .map(|(name, model)| (name, text_entry(model)))
            .collect(),
    }))
}

fn image_entry(model: Model) -> ImageModelEntry {
    let wanted = model.requirements;
    ImageModelEntry {
        baseline: model.baseline.name().to_owned(),
        kind: model.kind,
        nsfw: model.nsfw,
        inpainting: model.inpainting,
        only_by_name: model.only_by_name,
        requirements: ModelRequirements {
            clip_skip: wanted.clip_skip,
            min_steps: wanted.min_steps,
            max_steps: wanted.max_steps,
            cfg_scale: wanted.cfg_scale,
            min_cfg_scale: wanted.min_cfg_scale,
            max_cfg_scale: wanted.max_cfg_scale,
            samplers: wanted.samplers,
            schedulers: wanted.schedulers,
        },
    }
}

fn text_entry(model: TextModel) -> TextModelEntry {
    TextModelEntry {
        parameters: model.parameters,
        nsfw: model.nsfw,
        instruct_format: model.instruct_format,
    }
}

/// `GET /reference/models/{name}`: what is known about a model, whoever wrote it.
pub(crate) async fn known(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<ModelEntry>> {
    let reference = app.reference();
    let entry = match wanted.kind()? {
        WorkKind::Text => {
            let model = reference.text().find(&name).cloned();
            model.map(|model| ModelEntry::Text(text_entry(model)))
        }
        WorkKind::Image | WorkKind::Interrogation => {
            let model = reference.get(&name).cloned();
            model.map(|model| ModelEntry::Image(image_entry(model)))
        }
    };
    entry.map(Json).ok_or_else(|| {
        let message = format!("The model reference has no entry for `{name}`");
        ApiError::plain(StatusCode::NOT_FOUND, message)
    })
}

/// `PUT /operations/models/{name}`: a new entry, or another one for a model that has one.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    Checked(input): Checked<ModelInput>,
) -> ApiResult<Json<ModelEntry>> {
    let editor = moderator(&app, &key.require()?).await?;
    let kind = wanted.kind()?;
    check_name(&name)?;
    let entry = match kind {
        WorkKind::Text => {
            let model = text_model(&input);
            let entry = ModelEntry::Text(text_entry(model.clone()));
            let edited = app.edit_models(|edits| {
                edits.text.insert(name.clone(), model);
            });
            app.recorded(deed(&editor, &name, &json!(entry)), edited)
                .await?;
            entry
        }
        WorkKind::Image | WorkKind::Interrogation => {
            let model = image_model(&input)?;
            let entry = ModelEntry::Image(image_entry(model.clone()));
            let edited = app.edit_models(|edits| {
                edits.image.insert(name.clone(), model);
            });
            app.recorded(deed(&editor, &name, &json!(entry)), edited)
                .await?;
            entry
        }
    };
    tracing::info!(model = name, user.id = %editor.user.id, "an entry for a model was written");
    Ok(Json(entry))
}

/// What the audit log says of it.
fn deed(editor: &Account, name: &str, after: &Value) -> Deed {
    Deed::new(editor.user.id, "model.update", "model", name).change(json!({}), after.clone())
}

fn check_name(name: &str) -> ApiResult<()> {
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS || name.trim().is_empty() || name.contains(char::is_control) {
        let message = format!("1 to {MAX_NAME_CHARS} characters, none of them a control character");
        return Err(ApiError::field("name", message));
    }
    Ok(())
}

fn image_model(input: &ModelInput) -> ApiResult<Model> {
    let requirements: Requirements = match &input.requirements {
        Some(wanted) => serde_json::from_value(wanted.clone())
            .map_err(|error| ApiError::field("requirements", error.to_string()))?,
        None => Requirements::default(),
    };
    let baseline = input.baseline.as_deref().map(Baseline::from_name);
    Ok(Model {
        baseline: baseline.unwrap_or_default(),
        kind: input.kind.clone().unwrap_or_else(|| "ckpt".to_owned()),
        nsfw: input.nsfw.unwrap_or(false),
        inpainting: input.inpainting.unwrap_or(false),
        requirements,
        only_by_name: input.only_by_name.unwrap_or(false),
    })
}

fn text_model(input: &ModelInput) -> TextModel {
    TextModel {
        parameters: input.parameters.unwrap_or(0.0),
        nsfw: input.nsfw.unwrap_or(false),
        instruct_format: input.instruct_format.clone(),
    }
}

/// `DELETE /operations/models/{name}`: what the documents say holds again.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Done>> {
    let editor = moderator(&app, &key.require()?).await?;
    let kind = wanted.kind()?;
    let edits = app.catalogue.edits();
    let is_there = match kind {
        WorkKind::Text => edits.text.contains_key(&name),
        WorkKind::Image | WorkKind::Interrogation => edits.image.contains_key(&name),
    };
    if !is_there {
        let message = format!("No moderator wrote an entry for `{name}`");
        return Err(ApiError::plain(StatusCode::NOT_FOUND, message));
    }
    let edited = app.edit_models(|edits| {
        if kind == WorkKind::Text {
            edits.text.remove(&name);
        } else {
            edits.image.remove(&name);
        }
    });
    app.recorded(deed(&editor, &name, &json!({})), edited)
        .await?;
    tracing::info!(model = name, user.id = %editor.user.id, "an entry for a model was removed");
    Ok(Json(Done::default()))
}
