//! Pictures: ask, watch, fetch and cancel; pop, tell how far, submit.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::image::{
    AcceptedRequest, Generation, ImageDryRun, ImageJob, ImagePayload, ImagePop, ImageRequest,
    ImageSubmit, Progress, RequestStatus, Reward, SourceProcessing, UPLOADED,
};
use ordu_api::worker::{Skipped, WorkKind};
use ordu_api::{JobId, RequestId, ReturnCode, UserId};
use ordu_core::asking::check_metadata;
use ordu_core::horde::{Assignment, GenerationView, Outcome, Owner, Work};
use ordu_core::image::{self, warnings};
use ordu_core::model_reference::ModelReference;
use ordu_core::{Kudos, Refusal, Standing};

use super::job::{self, Popped};
use super::request::{self, Accepted, Answer, Asked, Claims, Wish};
use crate::app::App;
use crate::blobs::{self, BlobError, Permission};
use crate::error::{ApiError, ApiResult};
use crate::explaining::Explain;
use crate::extract::{Checked, ClientAgent, OptionalKey, Origin, Peer};
use crate::guard::Asker;
use crate::push::prefer::{Applied, Prefer};
use crate::repeats::Attempt;
use crate::sharing::Sharing;
use crate::{sources, styles};

impl Wish for ImageRequest {
    fn claims(&self) -> Claims<'_> {
        Claims {
            kind: WorkKind::Image,
            slots: u64::from(self.params.n.unwrap_or(1)),
            models: &self.models,
            workers: &self.workers,
            webhook: self.webhook.as_deref(),
            proxied_account: self.proxied_account.as_deref(),
            dry_run: self.dry_run,
            allow_downgrade: self.allow_downgrade,
            sharing: sharing(self),
        }
    }

    fn precheck(&self, standing: &Standing) -> Result<(), Refusal> {
        image::precheck(self, standing)
    }

    fn check_batching(&self, standing: &Standing) -> Result<(), Refusal> {
        image::check_batching(self, standing)
    }

    async fn admit(&mut self, app: &App, asker: Asker<'_>) -> ApiResult<()> {
        if let Some(prompt) = app.admit_image_prompt(asker, self).await? {
            self.prompt = prompt;
        }
        Ok(())
    }

    fn check_models(&self, standing: &Standing, reference: &ModelReference) -> Result<(), Refusal> {
        image::check_models(self, standing, reference)
    }

    fn check(&self, standing: &Standing, app: &App) -> Result<Work, Refusal> {
        let spec = image::check(self, standing, &app.reference())?;
        Ok(Work::Image(Arc::new(spec)))
    }
}

/// What began with somebody's picture is never shared.
fn sharing(request: &ImageRequest) -> Sharing {
    let brings_pictures = request.source_image.is_some() || !request.extra_source_images.is_empty();
    match request.shared {
        _ if brings_pictures => Sharing::Never,
        true => Sharing::Wanted,
        false => Sharing::Unasked,
    }
}

/// `POST /generate/async`
pub(crate) async fn async_generate(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    origin: Origin,
    Checked(mut request): Checked<ImageRequest>,
) -> ApiResult<Response> {
    let key = key.require()?;
    let attempt = Attempt::of(origin.attempt, &request);
    let styled = styles::apply_to_image(&app, &mut request).await?;
    let warnings = warnings(&request, &app.reference());
    let asked = Asked {
        request,
        agent: origin.agent.0,
        client: origin.client,
        styled,
        attempt,
    };
    match request::ask(&app, &key, asked).await? {
        Answer::Accepted(accepted) => {
            let accepted = show(&accepted, warnings);
            Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
        }
        Answer::Price(price) => Ok(Json(ImageDryRun { price, warnings }).into_response()),
    }
}

fn show(accepted: &Accepted, warnings: Vec<ordu_api::image::Warning>) -> AcceptedRequest {
    let mut answer = AcceptedRequest {
        id: accepted.id,
        kudos: request::whole(accepted.price),
        message: None,
        warnings,
    };
    if !accepted.possible {
        let warning = image::warnings::no_available_worker();
        answer.message = Some(warning.message.clone());
        answer.warnings.push(warning);
    }
    answer
}

/// `GET /generate/check/{id}`
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    ClientAgent(agent): ClientAgent,
    (Peer(peer), prefer): (Peer, Prefer),
    (Path(id), explain): (Path<String>, Explain),
) -> ApiResult<(Applied, Json<Progress>)> {
    request::check_looker(&app, &agent, peer)?;
    let id = request::read_id(&id)?;
    let applied = request::wait_for_news(&app, id, WorkKind::Image, &prefer).await?;
    let progress = request::progress(&app, id, WorkKind::Image).await?;
    let explanation = app.explanation(id, explain).await?;
    Ok((
        applied,
        Json(Progress {
            explanation,
            ..progress
        }),
    ))
}

/// `GET /generate/status/{id}`
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    prefer: Prefer,
    (Path(id), explain): (Path<String>, Explain),
) -> ApiResult<(Applied, Json<RequestStatus>)> {
    let id = request::read_id(&id)?;
    let applied = request::wait_for_news(&app, id, WorkKind::Image, &prefer).await?;
    let mut status = read_status(&app, id).await?;
    status.progress.explanation = app.explanation(id, explain).await?;
    Ok((applied, Json(status)))
}

pub(crate) async fn read_status(app: &Arc<App>, id: RequestId) -> ApiResult<RequestStatus> {
    let progress = request::progress(app, id, WorkKind::Image).await?;
    let (views, delivery, shared) = {
        let live = app.live();
        let work = live.horde.request(id).map(|request| &request.work);
        let (delivery, shared) = match work {
            Some(Work::Image(spec)) if !spec.r2 => (Delivery::Inline, spec.shared),
            Some(Work::Image(spec)) => (Delivery::Link, spec.shared),
            _ => (Delivery::Link, false),
        };
        (live.horde.generations(id), delivery, shared)
    };
    // All at once: at most as many as one request may ask for.
    let shown = views
        .into_iter()
        .map(|view| generation(app, view, delivery));
    let generations = futures::future::try_join_all(shown).await?;
    Ok(RequestStatus {
        progress,
        shared,
        generations,
    })
}

/// How a requester wants results.
#[derive(Clone, Copy)]
enum Delivery {
    Link,
    Inline,
}

async fn generation(app: &App, view: GenerationView, delivery: Delivery) -> ApiResult<Generation> {
    let img = match delivery {
        Delivery::Link => return Ok(linked(app, view)),
        Delivery::Inline => match app.blobs.get(&blobs::result_name(view.job)).await {
            Ok(bytes) => STANDARD.encode(bytes),
            Err(BlobError::Missing) => sources::GONE.to_owned(),
            Err(error) => return Err(error.into()),
        },
    };
    Ok(Generation {
        img,
        ..linked(app, view)
    })
}

/// A result with a link to its picture.
pub(crate) fn linked(app: &App, view: GenerationView) -> Generation {
    Generation {
        img: sources::result_link(app, view.job),
        seed: view.seed.to_string(),
        id: view.job,
        censored: view.censored,
        gen_metadata: view.metadata,
        worker_id: view.worker,
        worker_name: view.worker_name,
        model: view.model,
        state: "ok".to_owned(),
    }
}

/// `DELETE /generate/status/{id}`: the answer is computed before the cancellation takes effect.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<RequestStatus>> {
    let id = request::read_id(&id)?;
    let status = read_status(&app, id).await?;
    request::cancel(&app, id).await?;
    Ok(Json(status))
}

/// `POST /generate/pop`
pub(crate) async fn pop(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    (Peer(peer), prefer): (Peer, Prefer),
    Checked(pop): Checked<ImagePop>,
) -> ApiResult<(Applied, Json<ImageJob>)> {
    let mut popped = job::pop(&app, key, (peer, prefer), pop.into()).await?;
    let applied = popped.applied;
    let messages = std::mem::take(&mut popped.messages);
    let Some(assignment) = popped.assignments.first() else {
        let job = no_job(popped.skipped);
        return Ok((applied, Json(ImageJob { messages, ..job })));
    };
    match job_answer(&app, &popped, assignment).await {
        Ok(job) => {
            popped.assignments.handed_over();
            Ok((applied, Json(ImageJob { messages, ..job })))
        }
        Err(error) => {
            popped.assignments.take_back().await;
            Err(error)
        }
    }
}

async fn job_answer(app: &App, popped: &Popped, assignment: &Assignment) -> ApiResult<ImageJob> {
    let Work::Image(spec) = &assignment.work else {
        return Err(ApiError::Internal(
            "an image worker got other work".to_owned(),
        ));
    };
    let ids = assignment.ids();
    let batch = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let upload = |id: &JobId| {
        let name = blobs::result_name(*id);
        app.blobs.link(&name, Permission::Upload, popped.now)
    };
    let uploads: Vec<String> = ids.iter().map(upload).collect();
    let sources = sources::hand_over(app, spec, &popped.agent, popped.now).await?;
    Ok(ImageJob {
        payload: spec.payload(batch, assignment.seed),
        id: ids.first().copied(),
        ids,
        ttl: Some(assignment.ttl),
        skipped: Skipped::new(),
        model: Some(assignment.model.clone()),
        source_image: sources.image,
        source_processing: spec.source_processing,
        source_mask: sources.mask,
        extra_source_images: sources.extra,
        r2_upload: uploads.first().cloned(),
        r2_uploads: Some(uploads),
        messages: Vec::new(),
    })
}

/// The answer when there is nothing to do.
fn no_job(skipped: Skipped) -> ImageJob {
    ImageJob {
        payload: ImagePayload::default(),
        id: None,
        ids: Vec::new(),
        ttl: None,
        skipped,
        model: None,
        source_image: None,
        source_processing: SourceProcessing::Img2Img,
        source_mask: None,
        extra_source_images: None,
        r2_upload: None,
        r2_uploads: None,
        messages: Vec::new(),
    }
}

/// `POST /generate/submit`
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(submit): Checked<ImageSubmit>,
) -> ApiResult<Json<Reward>> {
    let (id, account) = job::identify(&app, key, &submit.id, WorkKind::Image).await?;
    check_metadata(&submit.gen_metadata)?;
    let outcome = Outcome::image(&submit);
    if matches!(outcome, Outcome::Delivered { .. }) {
        keep_inline_result(&app, id, account.user.id, &submit.generation).await?;
    }
    let by = Owner::from(&account.standing(Kudos::ZERO));
    job::settle(&app, id, by, outcome).await.map(Json)
}

/// Keeps a result that was sent as base64 instead of being uploaded.
async fn keep_inline_result(
    app: &App,
    id: JobId,
    owner: UserId,
    generation: &str,
) -> ApiResult<()> {
    let is_owner = app
        .live()
        .horde
        .job(id)
        .is_some_and(|job| job.owner == owner);
    if generation == UPLOADED || !is_owner {
        return Ok(());
    }
    let bytes = STANDARD.decode(generation).map_err(|error| {
        let message = format!("`generation` is neither `{UPLOADED}` nor base64: {error}");
        ApiError::refused(ReturnCode::ImageValidationFailed, message)
    })?;
    let name = blobs::result_name(id);
    Ok(app.blobs.put(&name, bytes.into()).await?)
}
