//! Pictures of untrusted workers that were made once more, for moderators.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use ordu_api::WorkerId;
use ordu_api::operation::TrustAuditView;
use ordu_store::TrustAudit;
use serde::Deserialize;

use super::operation::moderator;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::OptionalKey;

/// Audits on one page.
const PAGE: u32 = 50;

/// Which audits to list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    worker: Option<String>,
    page: Option<String>,
}

/// `GET /operations/trust-audits`: newest first, 50 a page.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<TrustAuditView>>> {
    let key = key.require()?;
    let worker = wanted.worker.filter(|text| !text.is_empty());
    let worker: Option<WorkerId> = worker
        .map(|text| {
            text.parse()
                .map_err(|_| ApiError::field("worker", "no worker's id"))
        })
        .transpose()?;
    let page: i64 = match &wanted.page {
        Some(text) => text
            .parse()
            .ok()
            .filter(|page| *page >= 1)
            .ok_or_else(|| ApiError::field("page", "no page: they count from 1"))?,
        None => 1,
    };
    moderator(&app, &key).await?;
    // There is nothing as far back as that.
    let page = u32::try_from(page - 1).unwrap_or(u32::MAX);
    let audits = app.store.list_trust_audits(worker, page, PAGE).await?;
    let mut views = Vec::with_capacity(audits.len());
    for audit in audits {
        views.push(view(&app, audit).await?);
    }
    Ok(Json(views))
}

#[expect(clippy::cast_precision_loss, reason = "0…1000")]
async fn view(app: &App, audit: TrustAudit) -> ApiResult<TrustAuditView> {
    let owner = app.accounts.by_id(audit.owner).await?;
    let name = |id| app.registry.by_id(id).map(|known| known.name);
    Ok(TrustAuditView {
        job: audit.job,
        worker_id: audit.worker,
        worker_name: name(audit.worker),
        owner: owner.map_or_else(|| format!("#{}", audit.owner), |owner| owner.alias()),
        twin_worker_id: audit.twin_worker,
        model: audit.model,
        distance: audit.distance as f64 / 1000.0,
        differs: audit.differs,
        created: audit.at.seconds(),
    })
}
