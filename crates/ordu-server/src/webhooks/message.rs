//! What a message says. What can change until it is sent, such as the link to a picture, is filled
//! in when it is.
//!
//! # Source
//! `generation.md` § 9.2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::JobId;
use ordu_api::alchemy::{AlchemyState, makes_picture};
use ordu_api::image::UPLOADED;
use ordu_core::horde::{Content, Delivery, Effect, Job, Settlement, Work};
use ordu_core::image::ImageSpec;
use ordu_store::{Due, NewWebhook};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::app::App;
use crate::routes::text;
use crate::{blobs, sources};

/// A message as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    body: Map<String, Value>,
    /// How the body's picture is to be handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    picture: Option<Picture>,
}

/// How a requester wants the picture, which is the job's blob.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Picture {
    Link,
    Inline,
    /// As a link, in the member of the form's result that is called like the form.
    InResult,
}

impl Message {
    fn new(
        members: impl IntoIterator<Item = (&'static str, Value)>,
        picture: Option<Picture>,
    ) -> Self {
        let owned = |(name, value): (&str, Value)| (name.to_owned(), value);
        Self {
            body: members.into_iter().map(owned).collect(),
            picture,
        }
    }
}

impl App {
    /// What the requester is to be told of a settlement, if it wants to be told anything.
    pub(crate) fn message(&self, settlement: &Settlement) -> Option<NewWebhook> {
        let Effect::Delivered(delivery) = &settlement.effect else {
            return None;
        };
        let (owner, url, message) = {
            let live = self.live();
            let job = live.horde.job(settlement.job)?;
            let request = live.horde.request(settlement.request)?;
            let (url, message) = match &request.work {
                Work::Image(spec) => (spec.webhook.value()?, image(spec, job, delivery)),
                Work::Text(spec) => (spec.webhook.value()?, text(job, delivery)),
                Work::Alchemy(spec) => (spec.webhook.clone()?, form(job, delivery)?),
            };
            (request.requester.user, url, message)
        };
        let Message { mut body, picture } = message;
        body.insert("request".to_owned(), json!(settlement.request));
        body.insert("kudos".to_owned(), json!(settlement.reward.as_f64()));
        Some(NewWebhook {
            owner,
            turn: self.webhooks.next_turn(delivery.event.at),
            host: host(&url)?,
            url,
            payload: serde_json::to_string(&Message { body, picture }).ok()?,
        })
    }

    /// The body of a message that is sent now.
    pub(super) async fn webhook_body(&self, due: &Due) -> Result<String, serde_json::Error> {
        let Message { mut body, picture } = serde_json::from_str(&due.payload)?;
        if let Some(picture) = picture {
            let job = JobId::from_uuid(due.id);
            let shown = Value::String(self.picture(job, picture).await);
            match picture {
                Picture::Link | Picture::Inline => {
                    body.insert("img".to_owned(), shown);
                }
                Picture::InResult => put_into_result(&mut body, shown),
            }
        }
        serde_json::to_string(&body)
    }

    async fn picture(&self, job: JobId, picture: Picture) -> String {
        match picture {
            Picture::Link | Picture::InResult => sources::result_link(self, job),
            Picture::Inline => match self.blobs.get(&blobs::result_name(job)).await {
                Ok(bytes) => STANDARD.encode(bytes),
                Err(_) => sources::GONE.to_owned(),
            },
        }
    }
}

fn put_into_result(body: &mut Map<String, Value>, shown: Value) {
    let form = body.get("form").and_then(Value::as_str);
    let Some(form) = form.map(str::to_owned) else {
        return;
    };
    if let Some(result) = body.get_mut("result").and_then(Value::as_object_mut) {
        result.insert(form, shown);
    }
}

/// A picture: the members of a generation, the seed as a number.
fn image(spec: &ImageSpec, job: &Job, delivery: &Delivery) -> Message {
    let delivered = &delivery.delivered;
    let members = [
        ("seed", json!(delivered.seed)),
        ("worker_id", json!(job.worker)),
        ("worker_name", json!(job.worker_name)),
        ("model", json!(job.model)),
        ("id", json!(job.id)),
        ("censored", json!(delivered.censored)),
        ("gen_metadata", json!(delivered.metadata)),
    ];
    let picture = if spec.r2 {
        Picture::Link
    } else {
        Picture::Inline
    };
    Message::new(members, Some(picture))
}

/// A text: the members of a generation.
fn text(job: &Job, delivery: &Delivery) -> Message {
    let delivered = &delivery.delivered;
    let text = match &delivered.content {
        Content::Text(text) => text.as_str(),
        Content::Uploaded | Content::Form(_) | Content::Withdrawn => "",
    };
    let state = text::state(delivered.censored, &delivered.metadata);
    let members = [
        ("text", json!(text)),
        ("seed", json!(delivered.seed)),
        ("worker_id", json!(job.worker)),
        ("worker_name", json!(job.worker_name)),
        ("model", json!(job.model)),
        ("id", json!(job.id)),
        ("state", json!(state)),
        ("gen_metadata", json!(delivered.metadata)),
    ];
    Message::new(members, None)
}

/// A form, unless it was its requester that gave it up.
fn form(job: &Job, delivery: &Delivery) -> Option<Message> {
    let Content::Form(result) = &delivery.delivered.content else {
        return None;
    };
    let uploaded = result.get(&job.model).and_then(Value::as_str) == Some(UPLOADED);
    let members = [
        ("form", json!(job.model)),
        ("state", json!(AlchemyState::Done)),
        ("result", json!(result)),
        ("worker_id", json!(job.worker)),
        ("worker_name", json!(job.worker_name)),
        ("id", json!(job.id)),
    ];
    let picture = (uploaded && makes_picture(&job.model)).then_some(Picture::InResult);
    Some(Message::new(members, picture))
}

/// Whom a URL speaks to: host and port.
fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let port = url.port_or_known_default()?;
    Some(format!("{}:{port}", url.host_str()?))
}
