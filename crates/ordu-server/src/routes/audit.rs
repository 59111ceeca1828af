//! The audit log, for moderators.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use ordu_api::UserId;
use ordu_api::audit::AuditView;
use ordu_core::Timestamp;
use ordu_store::{AuditEntry, AuditFilter};
use serde::Deserialize;

use super::operation::moderator;
use crate::app::App;
use crate::dates;
use crate::error::{ApiError, ApiResult};
use crate::extract::OptionalKey;

/// Which entries to list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    page: Option<String>,
    actor: Option<String>,
    operation: Option<String>,
    target_type: Option<String>,
    target: Option<String>,
    since: Option<String>,
}

impl Wanted {
    pub(crate) fn filter(self) -> ApiResult<(AuditFilter, u32)> {
        let page: i64 = number("page", self.page.as_deref())?.unwrap_or(1);
        let seconds: Option<i64> = number("since", self.since.as_deref())?;
        let wrong = || ApiError::field("actor", "an account's number or `name#id`");
        let actor = self
            .actor
            .map(|alias| UserId::from_alias(&alias).ok_or_else(wrong))
            .transpose()?;
        for text in [&self.operation, &self.target_type, &self.target] {
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                return Err(ApiError::field("target", "it holds a NUL character"));
            }
        }
        let filter = AuditFilter {
            actor,
            operation: self.operation,
            target_kind: self.target_type,
            target: self.target,
            since: seconds.map(|seconds| Timestamp(seconds.saturating_mul(1000))),
        };
        Ok((filter, u32::try_from(page.max(1) - 1).unwrap_or(u32::MAX)))
    }
}

fn number(name: &str, text: Option<&str>) -> ApiResult<Option<i64>> {
    let wrong = || ApiError::field(name, "not a whole number");
    text.map(|text| text.parse().map_err(|_| wrong()))
        .transpose()
}

/// `GET /operations/audit`: what those who keep order did, newest first, 50 a page.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<AuditView>>> {
    let key = key.require()?;
    let (filter, page) = wanted.filter()?;
    moderator(&app, &key).await?;
    let mut views = Vec::new();
    for entry in app.store.list_audit(&filter, page).await? {
        views.push(view(&app, entry).await?);
    }
    Ok(Json(views))
}

async fn view(app: &App, entry: AuditEntry) -> ApiResult<AuditView> {
    let actor = match entry.actor {
        Some(id) => Some(match app.accounts.by_id(id).await? {
            Some(account) => account.alias(),
            // It was wiped since.
            None => format!("#{id}"),
        }),
        None => None,
    };
    // Written by us, and always objects.
    let read = |text: &str| serde_json::from_str(text).unwrap_or_default();
    Ok(AuditView {
        id: entry.id.to_string(),
        created: dates::rfc822(entry.at),
        actor,
        actor_id: entry.actor,
        operation: entry.operation,
        target_type: entry.target_kind,
        target: entry.target,
        before: read(&entry.before),
        after: read(&entry.after),
    })
}
