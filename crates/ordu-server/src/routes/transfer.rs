//! The page by which people give kudos away; the rules are those of `POST /kudos/transfer`.
//!
//! # Source
//! `community.md` § 6.1, § 6.3, § 12.2.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::Response;
use ordu_api::ApiKey;
use serde::Deserialize;
use uuid::Uuid;

use super::kudos::{Gift, pass_on, read_digits};
use super::page::render;
use crate::accounts::Account;
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::identity::Visitor;
use crate::web::{Frame, Transfer};

/// The fields of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    src_api_key: String,
    username: String,
    amount: String,
    /// A form that is sent twice gives once.
    attempt: String,
    form_token: String,
}

/// What became of the last try.
#[derive(Default)]
struct Outcome {
    complaint: Option<String>,
    done: Option<String>,
    /// Who gave, if that is known.
    giver: Option<Arc<Account>>,
    fields: Fields,
}

/// `GET /transfer`
pub(crate) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> ApiResult<Response> {
    show(&app, &visitor, StatusCode::OK, Outcome::default()).await
}

async fn show(
    app: &App,
    visitor: &Visitor,
    status: StatusCode,
    outcome: Outcome,
) -> ApiResult<Response> {
    let signed_in = visitor.account(app).await?;
    let giver = outcome.giver.as_ref().or(signed_in.as_ref());
    let kudos = match giver {
        Some(giver) => Some(app.balance_now(giver.user.id).await?),
        None => None,
    };
    let page = Transfer {
        frame: Frame::new(&app.config.title),
        form_token: visitor.form_token(app),
        attempt: Uuid::new_v4().to_string(),
        complaint: outcome.complaint,
        done: outcome.done,
        giver: giver.map(|giver| giver.alias()),
        kudos,
        is_signed_in: signed_in.is_some(),
        username: outcome.fields.username,
        amount: outcome.fields.amount,
    };
    let mut response = render(status, &page)?;
    visitor.greet(app, &mut response);
    Ok(response)
}

/// `POST /transfer`
pub(crate) async fn give(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    client: Client,
    Form(fields): Form<Fields>,
) -> ApiResult<Response> {
    let given = async {
        visitor.check_form(&app, &fields.form_token)?;
        let giver = if let Some(account) = visitor.account(&app).await? {
            account
        } else {
            let key = ApiKey::new(fields.src_api_key.trim());
            app.try_key(&key, client).await?
        };
        let amount = read_digits(&fields.amount)
            .ok_or_else(|| ApiError::field("amount", "digits only: whole kudos"))?;
        let gift = Gift {
            username: fields.username.trim().to_owned(),
            amount,
        };
        let name = format!("page {}", fields.attempt);
        let attempt = Uuid::try_parse(&fields.attempt).is_ok();
        pass_on(&app, &giver, &gift, attempt.then_some(name.as_bytes())).await?;
        ApiResult::Ok((giver, gift))
    };
    match given.await {
        Ok((giver, gift)) => {
            let outcome = Outcome {
                done: Some(format!("{} kudos went to {}.", gift.amount, gift.username)),
                giver: Some(giver),
                ..Outcome::default()
            };
            show(&app, &visitor, StatusCode::OK, outcome).await
        }
        Err(error) => {
            let (status, complaint) = error.told()?;
            let outcome = Outcome {
                complaint: Some(complaint),
                fields,
                ..Outcome::default()
            };
            show(&app, &visitor, status, outcome).await
        }
    }
}
