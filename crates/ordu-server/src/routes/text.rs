//! Texts: ask, watch and cancel; pop, submit.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ordu_api::RequestId;
use ordu_api::image::{Metadata, Reward};
use ordu_api::schema::Schema;
use ordu_api::text::{
    AcceptedText, TextGeneration, TextJob, TextPayload, TextPop, TextRequest, TextStatus,
    TextSubmit,
};
use ordu_api::worker::{Skipped, WorkKind};
use ordu_core::asking::check_metadata;
use ordu_core::horde::{Assignment, Content, GenerationView, Outcome, Owner, Work, is_csam};
use ordu_core::text::Vision;
use ordu_core::{Kudos, Refusal, Standing, text};
use serde::{Deserialize, Serialize};

use super::job::{self, Popped};
use super::request::{self, Answer, Asked, Claims, Wish};
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::explaining::Explain;
use crate::extract::{Checked, Input, OptionalKey, Origin, Peer};
use crate::guard::Asker;
use crate::push::prefer::{Applied, Prefer};
use crate::repeats::Attempt;
use crate::sharing::Sharing;
use crate::{sources, styles};

impl Wish for TextRequest {
    fn claims(&self) -> Claims<'_> {
        Claims {
            kind: WorkKind::Text,
            slots: u64::from(self.params.n.unwrap_or(1)),
            models: &self.models,
            workers: &self.workers,
            webhook: self.webhook.as_deref(),
            proxied_account: self.proxied_account.as_deref(),
            dry_run: self.dry_run,
            allow_downgrade: self.allow_downgrade,
            sharing: Sharing::Never,
        }
    }

    fn precheck(&self, standing: &Standing) -> Result<(), Refusal> {
        text::precheck(self, standing)
    }

    fn check_batching(&self, standing: &Standing) -> Result<(), Refusal> {
        text::check_batching(self, standing)
    }

    async fn admit(&mut self, app: &App, asker: Asker<'_>) -> ApiResult<()> {
        if let Some(prompt) = app.admit_text_prompt(asker, self)? {
            self.prompt = prompt;
        }
        Ok(())
    }

    fn check(&self, standing: &Standing, app: &App) -> Result<Work, Refusal> {
        let spec = text::check(self, standing, app.config.text_vision)?;
        Ok(Work::Text(Arc::new(spec)))
    }
}

/// A text of which it is known that workers look at the pictures that it brings, if any.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SeeingText(pub(crate) TextRequest);

impl Input for SeeingText {
    const SCHEMA: Schema = TextRequest::SCHEMA;
}

impl Wish for SeeingText {
    fn claims(&self) -> Claims<'_> {
        self.0.claims()
    }

    fn precheck(&self, standing: &Standing) -> Result<(), Refusal> {
        self.0.precheck(standing)
    }

    fn check_batching(&self, standing: &Standing) -> Result<(), Refusal> {
        self.0.check_batching(standing)
    }

    async fn admit(&mut self, app: &App, asker: Asker<'_>) -> ApiResult<()> {
        self.0.admit(app, asker).await
    }

    fn check(&self, standing: &Standing, _: &App) -> Result<Work, Refusal> {
        let spec = text::check(&self.0, standing, Vision::On)?;
        Ok(Work::Text(Arc::new(spec)))
    }
}

/// `POST /generate/text/async`
pub(crate) async fn async_generate(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    origin: Origin,
    Checked(mut request): Checked<TextRequest>,
) -> ApiResult<Response> {
    let key = key.require()?;
    let attempt = Attempt::of(origin.attempt, &request);
    let styled = styles::apply_to_text(&app, &mut request).await?;
    let asked = Asked {
        request,
        agent: origin.agent.0,
        client: origin.client,
        styled,
        attempt,
    };
    match request::ask(&app, &key, asked).await? {
        Answer::Accepted(accepted) => {
            let accepted = AcceptedText {
                id: accepted.id,
                kudos: request::whole(accepted.price),
                message: accepted.message(),
            };
            Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
        }
        Answer::Price(price) => Ok(Json(price).into_response()),
    }
}

/// `GET /generate/text/status/{id}`
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    prefer: Prefer,
    (Path(id), explain): (Path<String>, Explain),
) -> ApiResult<(Applied, Json<TextStatus>)> {
    let id = request::read_id(&id)?;
    let applied = request::wait_for_news(&app, id, WorkKind::Text, &prefer).await?;
    let mut status = read_status(&app, id).await?;
    status.progress.explanation = app.explanation(id, explain).await?;
    Ok((applied, Json(status)))
}

async fn read_status(app: &Arc<App>, id: RequestId) -> ApiResult<TextStatus> {
    let progress = request::progress(app, id, WorkKind::Text).await?;
    let views = app.live().horde.generations(id);
    Ok(TextStatus {
        progress,
        generations: views.into_iter().map(generation).collect(),
    })
}

/// How a result is called, by what its worker said about it.
pub(crate) fn state(censored: bool, remarks: &[Metadata]) -> &'static str {
    if remarks.iter().any(is_csam) {
        "csam"
    } else if censored {
        "censored"
    } else {
        "ok"
    }
}

pub(crate) fn generation(view: GenerationView) -> TextGeneration {
    let state = state(view.censored, &view.metadata);
    TextGeneration {
        text: match view.content {
            Content::Text(text) => text,
            Content::Uploaded | Content::Form(_) | Content::Withdrawn => String::new(),
        },
        seed: view.seed,
        gen_metadata: view.metadata,
        worker_id: view.worker,
        worker_name: view.worker_name,
        model: view.model,
        state: state.to_owned(),
    }
}

/// `DELETE /generate/text/status/{id}`: the answer is computed before the cancellation takes
/// effect.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<TextStatus>> {
    let id = request::read_id(&id)?;
    let status = read_status(&app, id).await?;
    request::cancel(&app, id).await?;
    Ok(Json(status))
}

/// `POST /generate/text/pop`
pub(crate) async fn pop(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    (Peer(peer), prefer): (Peer, Prefer),
    Checked(pop): Checked<TextPop>,
) -> ApiResult<(Applied, Json<TextJob>)> {
    let mut popped = job::pop(&app, key, (peer, prefer), pop.into()).await?;
    let messages = std::mem::take(&mut popped.messages);
    let job = match popped.assignments.first() {
        Some(assignment) => job_answer(&app, &popped, assignment)?,
        None => no_job(std::mem::take(&mut popped.skipped)),
    };
    popped.assignments.handed_over();
    Ok((popped.applied, Json(TextJob { messages, ..job })))
}

fn job_answer(app: &App, popped: &Popped, assignment: &Assignment) -> ApiResult<TextJob> {
    let Work::Text(spec) = &assignment.work else {
        return Err(ApiError::Internal(
            "a text worker got other work".to_owned(),
        ));
    };
    let ids = assignment.ids();
    Ok(TextJob {
        payload: spec.payload(),
        id: ids.first().copied(),
        ids,
        ttl: Some(assignment.ttl),
        extra_source_images: sources::links(app, &spec.extra_source_images, popped.now),
        softprompt: spec.softprompt.value(),
        // A worker that names no model does not need to be told.
        model: Some(assignment.model.clone()).filter(|model| !model.is_empty()),
        ..no_job(Skipped::new())
    })
}

/// The answer when there is nothing to do.
fn no_job(skipped: Skipped) -> TextJob {
    TextJob {
        payload: TextPayload::default(),
        id: None,
        ids: Vec::new(),
        messages: Vec::new(),
        ttl: None,
        extra_source_images: None,
        skipped,
        softprompt: None,
        model: None,
    }
}

/// `POST /generate/text/submit`
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(submit): Checked<TextSubmit>,
) -> ApiResult<Json<Reward>> {
    let (id, account) = job::identify(&app, key, &submit.id, WorkKind::Text).await?;
    check_metadata(&submit.gen_metadata)?;
    let outcome = Outcome::text(&submit);
    let by = Owner::from(&account.standing(Kudos::ZERO));
    job::settle(&app, id, by, outcome).await.map(Json)
}
