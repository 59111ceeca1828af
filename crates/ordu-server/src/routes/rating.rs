//! Ratings of delivered pictures.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use ordu_api::image::Reward;
use ordu_api::rating::{Rater, RatingForm, RatingReport};
use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, ReturnCode, UserId};
use ordu_core::horde::Work;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::rating::{Subject, judge};
use ordu_core::{Kudos, Refusal};
use ordu_store::{Bucket, Recorded};

use super::request;
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, ClientAgent};

/// `POST /generate/rate/{id}`: paid only once the ratings service has taken it.
pub(crate) async fn rate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    ClientAgent(agent): ClientAgent,
    client: Client,
    Checked(form): Checked<RatingForm>,
) -> ApiResult<Json<Reward>> {
    let id = request::read_id(&id)?;
    let rated = rated(&app, id).await?;
    let subject = Subject {
        images: &rated.images,
        consumed: rated.consumed,
    };
    let verdict = judge(&form, subject)?;
    let report = RatingReport {
        set: id,
        all_set_ids: rated.images,
        client_agent: agent,
        user: rater(&app, rated.owner, client).await?,
        ratings: form.ratings,
        best: verdict.best,
    };
    app.ratings.send(&report).await?;
    let this = Arc::clone(&app);
    app.complete(async move { pay(&this, id, rated.owner, verdict.reward).await })
        .await?;
    Ok(Json(Reward {
        reward: verdict.reward.as_f64(),
    }))
}

/// A request that may be rated.
struct Rated {
    owner: UserId,
    images: Vec<JobId>,
    consumed: Kudos,
}

async fn rated(app: &Arc<App>, id: RequestId) -> ApiResult<Rated> {
    let progress = request::progress(app, id, WorkKind::Image).await?;
    let (owner, shared, images) = {
        let live = app.live();
        let found = live.horde.request(id);
        let found = found.ok_or_else(|| request::not_found(id))?;
        let shared = match &found.work {
            Work::Image(spec) => spec.shared,
            Work::Text(_) | Work::Alchemy(_) => false,
        };
        let generations = live.horde.generations(id);
        let images = generations.iter().map(|generation| generation.job);
        (found.requester.user, shared, images.collect())
    };
    if !progress.done {
        let message = "Rate the pictures when all of them are there";
        return Err(ApiError::refused(
            ReturnCode::AestheticsNotCompleted,
            message,
        ));
    }
    if !shared {
        let message = "Only pictures that are shared can be rated";
        return Err(ApiError::refused(ReturnCode::AestheticsNotPublic, message));
    }
    Ok(Rated {
        owner,
        images,
        consumed: Kudos::round(progress.kudos),
    })
}

async fn rater(app: &App, owner: UserId, client: Client) -> ApiResult<Rater> {
    let account = app.accounts.by_id(owner).await?;
    let account = account.ok_or_else(|| {
        let message = "The account that asked for these pictures is gone";
        Refusal::new(ReturnCode::InvalidAestheticAttempt, message)
    })?;
    let totals = app.store.totals(&[owner]).await?.remove(&owner);
    let accumulated = totals.map(|totals| totals.kudos(Bucket::Accumulated));
    Ok(Rater {
        username: account.alias(),
        trusted: account.user.roles.trusted,
        account_age: app.clock.now().since(account.user.created).0 / 1000,
        kudos: account.balance.as_f64(),
        kudos_accumulated: accumulated.unwrap_or_default().as_f64(),
        ipaddr: client.ip.to_string(),
    })
}

/// Pays the reward, once for a request whatever the service says.
async fn pay(app: &App, id: RequestId, owner: UserId, reward: Kudos) -> ApiResult<()> {
    if reward == Kudos::ZERO {
        return Ok(());
    }
    let event = Event {
        id: id.uuid(),
        at: app.clock.now(),
        kind: Some(WorkKind::Image),
        entries: vec![Entry::reward(owner, reward, Reason::Rating)],
    };
    match app.store.record(&event).await? {
        Recorded::Now => {
            tracing::info!(request.id = %id, kudos_milli = reward.milli(), "a rating was paid");
            Ok(())
        }
        Recorded::Already | Recorded::Conflict => {
            let message = "These pictures were rated before";
            Err(ApiError::refused(
                ReturnCode::AestheticsAlreadyExist,
                message,
            ))
        }
    }
}
