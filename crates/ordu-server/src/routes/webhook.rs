//! What receivers of webhooks need to know.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ordu_api::ReturnCode;
use ordu_api::user::WebhookSecret;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::OptionalKey;

/// `GET /webhooks/secret`: what proves that a message comes from here.
pub(crate) async fn secret(
    State(app): State<Arc<App>>,
    key: OptionalKey,
) -> ApiResult<Json<WebhookSecret>> {
    let account = app.accounts.by_key(&key.require()?).await?;
    let secret = app.webhook_secret(&account).ok_or_else(|| {
        let message = "Messages about anonymous requests are not signed: make an account first";
        ApiError::refused(ReturnCode::AnonForbidden, message)
    })?;
    Ok(Json(WebhookSecret { secret }))
}
