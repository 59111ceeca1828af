//! What speaks against a text or an account. Nobody judges yet: everything passes.

use ordu_api::{ReturnCode, UserId};
use ordu_core::trust::SUSPICIOUS;

use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// Whether a text is not fit to be shown to everybody.
const fn is_profane(_: &App, _: &str) -> bool {
    false
}

/// How often an account was suspected.
pub(crate) const fn suspicions(_: &App, _: UserId) -> u64 {
    0
}

/// Forgets what an account and its workers were suspected of.
pub(crate) const fn forget_suspicions(_: &App, _: UserId) {}

/// Whether an account was suspected too often. Who is trusted is not suspected.
pub(crate) fn is_suspicious(app: &App, account: &Account) -> bool {
    !account.user.roles.trusted && suspicions(app, account.user.id) >= SUSPICIOUS
}

/// Refuses a text that is not fit to be shown to everybody.
///
/// # Errors
/// `code`.
pub(crate) fn check_text(app: &App, text: &str, code: ReturnCode) -> ApiResult<()> {
    if is_profane(app, text) {
        let message = "Find kinder words for this";
        return Err(ApiError::refused(code, message));
    }
    Ok(())
}
