//! Making accounts: the page for people, and the operation for programs where the operator lets
//! them.
//!
//! # Source
//! `community.md` § 2.2; `platform.md` § 4.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use ordu_api::registration::{FreshKey, NewUserInput};
use ordu_api::schema::Schema;
use ordu_api::{ApiKey, ReturnCode, UserId};
use serde::Deserialize;

use super::page::{POLICY, render_under};
use crate::accounts::Account;
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, Input, OptionalKey};
use crate::identity::{Captcha, Name, Registration, Visitor, Who};
use crate::web::{Frame, Issued, Register};

impl Input for NewUserInput {
    const SCHEMA: Schema = ordu_api::registration::SCHEMA;
}

/// The page's policy where there is a captcha: its widget is another site's.
const CAPTCHA_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'; connect-src https://www.google.com; \
     script-src https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/; \
     frame-src https://www.google.com/recaptcha/ https://recaptcha.google.com/recaptcha/",
);

/// The fields of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    username: String,
    form_token: String,
    #[serde(rename = "g-recaptcha-response")]
    captcha: String,
}

/// `GET /register`
pub(crate) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> ApiResult<Response> {
    let known = visitor.account(&app).await?;
    let shown = Shown {
        username: known.as_ref().map(|known| known.user.username.clone()),
        known,
        ..Shown::default()
    };
    show(&app, &visitor, StatusCode::OK, shown)
}

/// What the page shows beside its form.
#[derive(Default)]
struct Shown {
    known: Option<Arc<Account>>,
    username: Option<String>,
    complaint: Option<String>,
    issued: Option<(Arc<Account>, ApiKey)>,
}

fn show(app: &App, visitor: &Visitor, status: StatusCode, shown: Shown) -> ApiResult<Response> {
    let captcha = app.identity.captcha.as_ref();
    let site = visitor.session.as_ref().map(|session| match &session.who {
        Who::Subject { site, .. } => site.clone(),
        Who::Key { .. } => "your key".to_owned(),
    });
    let page = Register {
        frame: Frame::new(&app.config.title),
        form_token: visitor.form_token(app),
        complaint: shown.complaint,
        username: shown.username.unwrap_or_default(),
        captcha: captcha.map(Captcha::site_key),
        sites: app.identity.sign_in.sites().collect(),
        site,
        alias: shown.known.map(|known| known.alias()),
        issued: shown.issued.map(|(account, key)| Issued {
            alias: account.alias(),
            key: key.reveal().to_owned(),
        }),
    };
    let policy = if captcha.is_some() {
        CAPTCHA_POLICY
    } else {
        POLICY
    };
    let mut response = render_under(status, &page, policy)?;
    visitor.greet(app, &mut response);
    Ok(response)
}

/// `POST /register`: a new account, or a new name and key for the account of who is signed in.
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    client: Client,
    Form(fields): Form<Fields>,
) -> ApiResult<Response> {
    match issue(&app, &visitor, client, &fields).await {
        Ok(issued) => {
            let shown = Shown {
                issued: Some(issued),
                ..Shown::default()
            };
            show(&app, &visitor, StatusCode::OK, shown)
        }
        Err(error) => {
            let (status, complaint) = error.told()?;
            let shown = Shown {
                known: visitor.account(&app).await?,
                username: Some(fields.username),
                complaint: Some(complaint),
                issued: None,
            };
            show(&app, &visitor, status, shown)
        }
    }
}

async fn issue(
    app: &Arc<App>,
    visitor: &Visitor,
    client: Client,
    fields: &Fields,
) -> ApiResult<(Arc<Account>, ApiKey)> {
    visitor.check_form(app, &fields.form_token)?;
    app.check_captcha(Some(&fields.captcha)).await?;
    app.check_shut_out(Some(client.ip))?;
    let name = Name::read(app, &fields.username)?;
    if let Some(account) = visitor.account(app).await? {
        return app.renew_key(&account, Some(name)).await;
    }
    match visitor.session.as_ref().map(|session| &session.who) {
        Some(Who::Subject { subject, .. }) => app.register_subject(name, subject.clone()).await,
        // A session by a key that is no longer one is as good as none.
        Some(Who::Key { .. }) | None => app.register_stranger(name, client).await,
    }
}

/// `POST /users`: an account for a program, where the operator lets them.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    client: Client,
    Checked(input): Checked<NewUserInput>,
) -> ApiResult<(StatusCode, Json<FreshKey>)> {
    if app.config.identity.json_registration == Registration::Closed {
        let message = "This horde makes accounts on its page `/register` only";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    app.check_captcha(input.captcha.as_deref()).await?;
    app.check_shut_out(Some(client.ip))?;
    let name = Name::read(&app, &input.username)?;
    let issued = app.register_stranger(name, client).await?;
    Ok((StatusCode::CREATED, Json(fresh(issued))))
}

fn fresh((account, api_key): (Arc<Account>, ApiKey)) -> FreshKey {
    FreshKey {
        id: account.user.id,
        username: account.user.username.clone(),
        alias: account.alias(),
        api_key,
    }
}

/// `POST /users/{id}/key`: a new key for who has the old one, which stops working.
pub(crate) async fn new_key(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<FreshKey>> {
    let account = app.accounts.by_key(&key.require()?).await?;
    if account.user.id == UserId::ANONYMOUS {
        let message = "The key of the anonymous account is everybody's";
        return Err(ApiError::refused(ReturnCode::AnonForbiddenUserMod, message));
    }
    if id.parse() != Ok(account.user.id) {
        let message = format!("Only its owner renews the key of user {id}");
        return Err(ApiError::refused(ReturnCode::NotOwner, message));
    }
    app.renew_key(&account, None)
        .await
        .map(|issued| Json(fresh(issued)))
}
