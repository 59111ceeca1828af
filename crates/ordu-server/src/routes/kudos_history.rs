//! What came to an account and what went.
//!
//! # Source
//! `platform.md` § 5.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use ordu_api::history::{KudosEntry, KudosHistory};
use ordu_api::{ReturnCode, UserId};
use ordu_core::Timestamp;
use ordu_core::ledger::{Account as LedgerAccount, Reason};
use ordu_store::{Posting, PostingMark};
use serde::Deserialize;
use uuid::Uuid;

use crate::accounts::Account;
use crate::app::App;
use crate::dates;
use crate::error::{ApiError, ApiResult};
use crate::extract::OptionalKey;

/// Entries on a page.
const PAGE: u32 = 50;

/// Which part of whose history.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    user: Option<String>,
    before: Option<String>,
}

/// `GET /kudos/history`: one's own; moderators see anybody's.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<KudosHistory>> {
    let key = key.require()?;
    let before = wanted.before.as_deref().map(read_mark).transpose()?;
    let account = app.accounts.by_key(&key).await?;
    let user = match wanted.user.as_deref() {
        Some(alias) => chosen(&app, &account, alias).await?,
        None => account.user.id,
    };
    if user == UserId::ANONYMOUS {
        let message = "The anonymous account is everybody's: it has no history";
        return Err(ApiError::refused(ReturnCode::AnonForbidden, message));
    }
    let found = app.store.list_postings(user, before.as_ref(), PAGE + 1);
    let mut postings = found.await?;
    let has_more = postings.len() > PAGE as usize;
    postings.truncate(PAGE as usize);
    let next = postings.last().filter(|_| has_more);
    let next = next.map(|last| write_mark(&last.mark));
    let mut entries = Vec::with_capacity(postings.len());
    for posting in postings {
        entries.push(entry(&app, user, posting).await?);
    }
    Ok(Json(KudosHistory {
        entries,
        before: next,
    }))
}

/// Whose history somebody asks for, if it may.
async fn chosen(app: &App, asker: &Account, alias: &str) -> ApiResult<UserId> {
    let wrong = || ApiError::field("user", "an account's number or `name#id`");
    let user = UserId::from_alias(alias).ok_or_else(wrong)?;
    if user == asker.user.id {
        return Ok(user);
    }
    if !app.is_moderator(asker) {
        let message = "Only moderators see the kudos of others: leave `user` out";
        return Err(ApiError::refused(ReturnCode::NotModerator, message));
    }
    if app.accounts.by_id(user).await?.is_none() {
        let message = format!("User '{alias}' not found");
        return Err(ApiError::refused(ReturnCode::UserNotFound, message));
    }
    Ok(user)
}

/// What a movement means for an account: what it can spend counts, or, where that does not move,
/// what it has in escrow.
async fn entry(app: &App, user: UserId, posting: Posting) -> ApiResult<KudosEntry> {
    let own = LedgerAccount::Spendable(user);
    let (came, escrow) = match (posting.from, posting.to) {
        (_, to) if to == own => (true, false),
        (from, _) if from == own => (false, false),
        (_, to) => (to == LedgerAccount::Escrow(user), true),
    };
    let amount = posting.amount.as_f64();
    let is_gift = posting.mark.reason == Reason::Transfer.name();
    let other = if came { posting.from } else { posting.to };
    let counterpart = match other {
        LedgerAccount::Spendable(other) if is_gift => alias(app, other).await?,
        _ => None,
    };
    Ok(KudosEntry {
        created: dates::rfc822(posting.mark.at),
        amount: if came { amount } else { -amount },
        kind: posting.kind.map(|kind| kind.plain_name().to_owned()),
        reason: posting.mark.reason,
        escrow,
        counterpart,
    })
}

/// The name that everybody sees; none of accounts that are gone.
async fn alias(app: &App, user: UserId) -> ApiResult<Option<String>> {
    let account = app.accounts.by_id(user).await?;
    let account = account.filter(|account| !account.user.roles.deleted);
    Ok(account.map(|account| account.alias()))
}

fn write_mark(mark: &PostingMark) -> String {
    let PostingMark {
        at,
        event,
        reason,
        line,
    } = mark;
    format!("{}.{}.{reason}.{line}", at.0, event.simple())
}

pub(crate) fn read_mark(text: &str) -> ApiResult<PostingMark> {
    let read = || {
        let mut parts = text.split('.');
        let mark = PostingMark {
            at: Timestamp(parts.next()?.parse().ok()?),
            event: Uuid::try_parse(parts.next()?).ok()?,
            reason: parts.next()?.to_owned(),
            line: parts.next()?.parse().ok()?,
        };
        let is_plain = mark.reason.bytes().all(|byte| byte.is_ascii_lowercase());
        (is_plain && parts.next().is_none()).then_some(mark)
    };
    let wrong = || ApiError::field("before", "not a mark: send what the page before said");
    read().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::{read_mark, write_mark};

    #[test]
    fn marks_are_read_as_they_were_written_and_nothing_else_is() {
        let written = "1770114030000.00000000000000010000000000000002.transfer.3";
        let mark = read_mark(written).unwrap();
        assert_eq!(write_mark(&mark), written);
        for wrong in [
            "",
            "1",
            "1.2.3.4",
            "99999999999999999999.00000000000000010000000000000002.transfer.3",
            "1.00000000000000010000000000000002.trans\0fer.3",
            "1.00000000000000010000000000000002.transfer.3.4",
            "1.00000000000000010000000000000002.transfer.x",
        ] {
            assert!(read_mark(wrong).is_err(), "{wrong}");
        }
    }
}
