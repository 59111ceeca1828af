//! Alchemy: ask about a picture, watch and cancel; pop, submit.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use ordu_api::RequestId;
use ordu_api::alchemy::{
    AcceptedAlchemy, AlchemyJob, AlchemyJobs, AlchemyPop, AlchemyRequest, AlchemyState,
    AlchemyStatus, AlchemySubmit, FormStatus, makes_picture,
};
use ordu_api::image::{Reward, UPLOADED};
use ordu_api::worker::WorkKind;
use ordu_core::alchemy::{self, AlchemySpec};
use ordu_core::horde::{Assignment, FormState, FormView, Job, Outcome, Owner, Work};
use ordu_core::{Kudos, Refusal, Standing};
use serde_json::{Map, Value};

use super::job::{self, Popped};
use super::request::{self, Answer, Asked, Claims, Wish};
use crate::app::App;
use crate::blobs::{self, Permission};
use crate::error::{ApiError, ApiResult};
use crate::explaining::Explain;
use crate::extract::{Checked, OptionalKey, Origin, Peer};
use crate::guard::Asker;
use crate::push::prefer::{Applied, Prefer};
use crate::repeats::Attempt;
use crate::sharing::Sharing;
use crate::sources;

impl Wish for AlchemyRequest {
    fn claims(&self) -> Claims<'_> {
        Claims {
            kind: WorkKind::Interrogation,
            slots: alchemy::distinct_forms(&self.forms) as u64,
            models: &[],
            workers: &[],
            webhook: self.webhook.as_deref(),
            proxied_account: None,
            dry_run: self.dry_run,
            allow_downgrade: false,
            sharing: Sharing::Never,
        }
    }

    fn precheck(&self, _: &Standing) -> Result<(), Refusal> {
        Ok(())
    }

    /// There is no prompt.
    async fn admit(&mut self, _: &App, _: Asker<'_>) -> ApiResult<()> {
        Ok(())
    }

    fn check(&self, _: &Standing, _: &App) -> Result<Work, Refusal> {
        Ok(Work::Alchemy(Arc::new(alchemy::check(self)?)))
    }
}

/// `POST /interrogate/async`
pub(crate) async fn async_interrogate(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    origin: Origin,
    Checked(request): Checked<AlchemyRequest>,
) -> ApiResult<Response> {
    let key = key.require()?;
    let attempt = Attempt::of(origin.attempt, &request);
    let asked = Asked {
        request,
        agent: origin.agent.0,
        client: origin.client,
        styled: None,
        attempt,
    };
    match request::ask(&app, &key, asked).await? {
        Answer::Accepted(accepted) => {
            // As deployed, nothing is said when nobody is there to look at it.
            let accepted = AcceptedAlchemy {
                id: accepted.id,
                message: None,
            };
            Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
        }
        Answer::Price(price) => Ok(Json(price).into_response()),
    }
}

/// `GET /interrogate/status/{id}`
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    prefer: Prefer,
    (Path(id), explain): (Path<String>, Explain),
) -> ApiResult<(Applied, Json<AlchemyStatus>)> {
    let id = request::read_id(&id)?;
    let applied = request::wait_for_news(&app, id, WorkKind::Interrogation, &prefer).await?;
    let mut status = read_status(&app, id).await?;
    status.explanation = app.explanation(id, explain).await?;
    Ok((applied, Json(status)))
}

async fn read_status(app: &Arc<App>, id: RequestId) -> ApiResult<AlchemyStatus> {
    request::find(app, id, WorkKind::Interrogation).await?;
    let views = app.live().horde.forms(id);
    let mut forms = Vec::new();
    for view in views.ok_or_else(|| request::not_found(id))? {
        forms.push(form_status(app, view));
    }
    Ok(AlchemyStatus {
        state: overall(&forms),
        forms,
        explanation: None,
    })
}

fn form_status(app: &App, view: FormView) -> FormStatus {
    let mut result = None;
    let state = match view.state {
        FormState::Waiting => AlchemyState::Waiting,
        FormState::Processing => AlchemyState::Processing,
        FormState::Faulted => AlchemyState::Faulted,
        FormState::Cancelled => AlchemyState::Cancelled,
        FormState::Done(job, mut found) => {
            let uploaded = found.get(&view.name).and_then(Value::as_str) == Some(UPLOADED);
            if uploaded && makes_picture(&view.name) {
                let link = sources::result_link(app, job);
                found.insert(view.name.clone(), Value::String(link));
            }
            result = Some(found).filter(|found| !found.is_empty());
            AlchemyState::Done
        }
    };
    FormStatus {
        form: view.name,
        state,
        result,
    }
}

/// How far a request is as a whole.
///
/// # Source
/// `generation.md` § 5.2.
fn overall(forms: &[FormStatus]) -> AlchemyState {
    let all = |state| forms.iter().all(|form| form.state == state);
    let any = |state| forms.iter().any(|form| form.state == state);
    if all(AlchemyState::Faulted) {
        AlchemyState::Faulted
    } else if all(AlchemyState::Done) {
        AlchemyState::Done
    } else if any(AlchemyState::Processing) {
        AlchemyState::Processing
    } else if any(AlchemyState::Waiting) {
        AlchemyState::Waiting
    } else {
        AlchemyState::Partial
    }
}

/// `DELETE /interrogate/status/{id}`: what is in processing is paid for as if it were delivered.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<AlchemyStatus>> {
    let id = request::read_id(&id)?;
    request::find(&app, id, WorkKind::Interrogation).await?;
    let this = Arc::clone(&app);
    app.complete(async move {
        // Nothing new is given away from here on, so what runs now is all that ever runs.
        request::cancel(&this, id).await?;
        let running = this.live().horde.running(id);
        let withdrawn = running.into_iter().map(|job| withdraw(&this, job));
        join_all(withdrawn)
            .await
            .into_iter()
            .collect::<ApiResult<()>>()
    })
    .await?;
    read_status(&app, id).await.map(Json)
}

/// Settles a form that its requester gave up while a worker had it.
async fn withdraw(app: &Arc<App>, job: Job) -> ApiResult<()> {
    let owner = app.accounts.by_id(job.owner).await?;
    let by = Owner {
        user: job.owner,
        roles: owner.map(|owner| owner.roles()).unwrap_or_default(),
    };
    match job::settle(app, job.id, by, Outcome::withdrawn()).await {
        // Its worker was faster.
        Err(ApiError::Refused(_)) | Ok(_) => Ok(()),
        Err(other) => Err(other),
    }
}

/// `POST /interrogate/pop`
pub(crate) async fn pop(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    (Peer(peer), prefer): (Peer, Prefer),
    Checked(pop): Checked<AlchemyPop>,
) -> ApiResult<(Applied, Json<AlchemyJobs>)> {
    let mut popped = job::pop(&app, key, (peer, prefer), pop.into()).await?;
    let mut forms = Vec::new();
    for assignment in popped.assignments.iter() {
        forms.extend(jobs_of(&app, &popped, assignment)?);
    }
    popped.assignments.handed_over();
    let jobs = AlchemyJobs {
        forms: Some(forms).filter(|forms| !forms.is_empty()),
        skipped: popped.skipped,
    };
    Ok((popped.applied, Json(jobs)))
}

fn jobs_of(app: &App, popped: &Popped, assignment: &Assignment) -> ApiResult<Vec<AlchemyJob>> {
    let Work::Alchemy(spec) = &assignment.work else {
        return Err(ApiError::Internal("an alchemist got other work".to_owned()));
    };
    let source = source_link(app, spec, popped);
    let to_wire = |job: &Job| AlchemyJob {
        id: job.id,
        form: job.model.clone(),
        payload: options(spec, job),
        source_image: source.clone(),
        r2_upload: makes_picture(&job.model).then(|| {
            let name = blobs::result_name(job.id);
            app.blobs.link(&name, Permission::Upload, popped.now)
        }),
    };
    Ok(assignment.jobs.iter().map(to_wire).collect())
}

fn source_link(app: &App, spec: &AlchemySpec, popped: &Popped) -> String {
    if spec.is_linked() {
        return spec.source_image.clone();
    }
    app.blobs
        .link(&spec.source_image, Permission::Download, popped.now)
}

fn options(spec: &AlchemySpec, job: &Job) -> Option<Map<String, Value>> {
    spec.form(job.slot?)?.payload.clone()
}

/// `POST /interrogate/submit`
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(submit): Checked<AlchemySubmit>,
) -> ApiResult<Json<Reward>> {
    let (id, account) = job::identify(&app, key, &submit.id, WorkKind::Interrogation).await?;
    let by = Owner::from(&account.standing(Kudos::ZERO));
    let outcome = Outcome::form(&submit);
    let reward = job::settle(&app, id, by, outcome).await?;
    Ok(Json(reward))
}
