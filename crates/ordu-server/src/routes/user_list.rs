//! The list of all accounts, page by page.
//!
//! # Source
//! `community.md` § 2.4.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use ordu_api::UserId;
use ordu_store::{User, UserSort};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::profiles::{Profiles, View};

/// Accounts on one page.
const PAGE: usize = 25;

/// The last page that is not empty by definition.
const MAX_PAGES: u16 = 10_000;

/// Members that only some may see: `null` in the list, where nobody may.
const HIDDEN: &[&str] = &[
    "evaluating_kudos",
    "worker_ids",
    "sharedkey_ids",
    "vpn",
    "special",
    "suspicious",
    "contact",
    "admin_comment",
    "proxy_passkey",
];

/// The same, for objects: they are empty.
const HIDDEN_OBJECTS: &[&str] = &["active_generations", "monthly_kudos"];

/// Which part of the list.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    page: Option<String>,
    sort: Option<String>,
}

/// `GET /users`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<Value>>> {
    let Some(page) = read_page(wanted.page.as_deref().unwrap_or("1"))? else {
        return Ok(Json(Vec::new()));
    };
    let sort = match wanted.sort.as_deref() {
        Some("age") => UserSort::Age,
        _ => UserSort::Kudos,
    };
    let ranking = app.ranking(sort).await?;
    let ids = ranking.chunks(PAGE).nth(page).unwrap_or_default();
    if ids.is_empty() {
        return Ok(Json(Vec::new()));
    }
    let users = app.store.list_users(ids).await?.into_iter();
    let mut users: BTreeMap<UserId, User> = users.map(|user| (user.id, user)).collect();
    let profiles = Profiles::read(&app, ids).await?;
    let users = ids.iter().filter_map(|id| users.remove(id));
    let views: ApiResult<Vec<Value>> = users
        .map(|user| everything(&profiles.draw(&app, &user, View::Public)))
        .collect();
    views.map(Json)
}

/// The number of a page, from 0; `None` past the end of any list.
fn read_page(text: &str) -> ApiResult<Option<usize>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::field("page", "not a whole number"));
    }
    if text.starts_with('-') {
        return Ok(Some(0));
    }
    let page = digits.parse().ok().filter(|page| *page <= MAX_PAGES);
    Ok(page.map(|page: u16| usize::from(page.saturating_sub(1))))
}

/// An account with all its members, also those that nobody may see here.
fn everything(view: &ordu_api::user::UserView) -> ApiResult<Value> {
    let mut value =
        serde_json::to_value(view).map_err(|error| ApiError::Internal(error.to_string()))?;
    if let Some(members) = value.as_object_mut() {
        for name in HIDDEN {
            members.entry(*name).or_insert(Value::Null);
        }
        for name in HIDDEN_OBJECTS {
            members.entry(*name).or_insert_with(|| json!({}));
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_numbers_from_one() {
        let cases = [
            ("1", Some(0)),
            ("0", Some(0)),
            ("-7", Some(0)),
            ("-99999999999999999999", Some(0)),
            ("2", Some(1)),
            ("10000", Some(9999)),
            ("10001", None),
            ("99999999999999999999", None),
        ];
        for (text, page) in cases {
            assert_eq!(read_page(text).ok(), Some(page), "{text}");
        }
        for text in ["", "x", "1.5", "-", "1 ", "½"] {
            assert!(read_page(text).is_err(), "{text}");
        }
    }
}
