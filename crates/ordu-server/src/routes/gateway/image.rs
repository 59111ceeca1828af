//! Pictures, from nothing or from another picture.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Field, Multipart, MultipartRejection};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use ordu_api::openai::{Image, Images, Problem, Refused};
use serde_json::{Value, json};

use super::{OF_STREAMS, keep_alive};
use crate::app::App;
use crate::error::ApiError;
use crate::gateway::Caller;
use crate::gateway::drawing::{Drawing, Manner, Shown, read_source};
use crate::gateway::members::Members;
use crate::gateway::refusal::{GatewayError, GatewayResult};

/// The longest member of a form that is no file, in bytes.
const MAX_MEMBER_BYTES: usize = 64 << 10;

/// `POST /v1/images/generations`
pub(crate) async fn draw(
    State(app): State<Arc<App>>,
    caller: Caller,
    mut members: Members,
) -> GatewayResult<Response> {
    let manner = Manner::read(&mut members)?;
    let drawing = Drawing::begin(&app, &caller, &manner, None).await?;
    answer(&app, drawing, &manner, "image_generation").await
}

/// `POST /v1/images/edits`
pub(crate) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    form: Result<Multipart, MultipartRejection>,
) -> GatewayResult<Response> {
    let form = form.map_err(|rejection| {
        ApiError::plain(
            rejection.status(),
            format!("multipart/form-data: {rejection}"),
        )
    })?;
    let mut form = Form::read(form).await?;
    let manner = Manner::read(&mut form.members)?;
    let image = form
        .image
        .ok_or_else(|| GatewayError::member("image", "is missing"))?;
    let source = read_source(&app, image, form.mask).await?;
    let drawing = Drawing::begin(&app, &caller, &manner, Some(source)).await?;
    answer(&app, drawing, &manner, "image_edit").await
}

/// A form with files.
#[derive(Debug, Default)]
pub(crate) struct Form {
    pub(crate) members: Members,
    image: Option<Bytes>,
    mask: Option<Bytes>,
}

impl Form {
    pub(crate) async fn read(mut form: Multipart) -> GatewayResult<Self> {
        let mut read = Self::default();
        let mut members = Vec::new();
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "image" | "image[]" if read.image.is_some() => {
                    let why = "the horde begins with one picture";
                    return Err(GatewayError::unsupported("image", why));
                }
                "image" | "image[]" => read.image = Some(field.bytes().await.map_err(broken)?),
                "mask" => read.mask = Some(field.bytes().await.map_err(broken)?),
                _ => members.push((name.clone(), member(&name, field).await?)),
            }
        }
        read.members = members.into_iter().collect();
        Ok(read)
    }
}

async fn member(name: &str, field: Field<'_>) -> GatewayResult<Value> {
    let text = field.text().await.map_err(broken)?;
    if text.len() > MAX_MEMBER_BYTES {
        let complaint = format!("{} bytes: at most {MAX_MEMBER_BYTES}", text.len());
        return Err(GatewayError::member(name, complaint));
    }
    Ok(Value::String(text))
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn broken(error: axum::extract::multipart::MultipartError) -> ApiError {
    let status = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    ApiError::plain(
        status,
        format!("The form cannot be read: {}", error.body_text()),
    )
}

async fn answer(
    app: &Arc<App>,
    mut drawing: Drawing,
    manner: &Manner,
    what: &'static str,
) -> GatewayResult<Response> {
    let created = app.clock.now().seconds();
    let output_format = manner.format.name();
    if let Some(partial) = manner.partial {
        let showing = Showing {
            drawing,
            what,
            created,
            format: output_format,
            partial,
            shown: 0,
            ready: VecDeque::new(),
            ended: false,
        };
        let events = stream::unfold(showing, async |mut showing| {
            let event = showing.next().await?;
            Some((Ok::<_, Infallible>(event), showing))
        });
        let sse = Sse::new(events.boxed()).keep_alive(keep_alive(app));
        return Ok((OF_STREAMS, sse).into_response());
    }
    let mut data = Vec::new();
    while let Some(shown) = drawing.next().await? {
        if let Shown::Done(image) = shown {
            data.push(image);
        }
    }
    let images = Images {
        created,
        data,
        output_format,
        size: drawing.size.clone(),
    };
    Ok(Json(images).into_response())
}

/// A stream of pictures.
struct Showing {
    drawing: Drawing,
    /// `image_generation` or `image_edit`.
    what: &'static str,
    created: i64,
    format: &'static str,
    /// How many unfinished pictures are wanted.
    partial: u64,
    shown: u64,
    ready: VecDeque<Event>,
    ended: bool,
}

impl Showing {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.drawing.next().await {
                Ok(Some(Shown::Partial(preview))) if self.shown < self.partial => {
                    let index = json!({ "partial_image_index": self.shown });
                    self.shown += 1;
                    self.show("partial_image", &preview, index);
                }
                Ok(Some(Shown::Partial(_))) => {}
                Ok(Some(Shown::Done(image))) => self.finish(&image),
                Ok(None) => self.ended = true,
                Err(problem) => self.fail(problem),
            }
        }
    }

    fn finish(&mut self, image: &Image) {
        // Pictures of the horde are not made of tokens.
        let more = json!({
            "usage": {
                "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
                "input_tokens_details": { "text_tokens": 0, "image_tokens": 0 },
            },
            "model": image.model, "seed": image.seed, "censored": image.censored,
        });
        self.show(
            "completed",
            image.b64_json.as_deref().unwrap_or_default(),
            more,
        );
    }

    fn fail(&mut self, error: Problem) {
        self.ended = true;
        let data = serde_json::to_string(&Refused { error }).unwrap_or_default();
        self.ready
            .push_back(Event::default().event("error").data(data));
    }

    fn show(&mut self, kind: &str, picture: &str, more: Value) {
        let name = format!("{}.{kind}", self.what);
        let mut data = json!({
            "type": name, "b64_json": picture, "created_at": self.created,
            "size": self.drawing.size, "quality": "auto", "background": "auto",
            "output_format": self.format,
        });
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            data.extend(more);
        }
        self.ready
            .push_back(Event::default().event(name).data(data.to_string()));
    }
}
