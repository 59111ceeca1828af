//! The list of all accounts, page by page.
//!
//! # Source
//! `community.md` § 2.4.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use ordu_api::UserId;
use ordu_api::user::ListedUser;
use ordu_store::{User, UserSort};
use serde::Deserialize;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::profiles::{Profiles, View};

/// Accounts on one page.
const PAGE: usize = 25;

/// The last page that is not empty by definition.
const MAX_PAGES: u16 = 10_000;

/// Which part of the list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    page: Option<String>,
    sort: Option<String>,
}

/// `GET /users`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<ListedUser>>> {
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
    let views = users.map(|user| ListedUser(profiles.draw(&app, &user, View::Public)));
    Ok(Json(views.collect()))
}

/// The number of a page, from 0; `None` past the end of any list.
pub(crate) fn read_page(text: &str) -> ApiResult<Option<usize>> {
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
