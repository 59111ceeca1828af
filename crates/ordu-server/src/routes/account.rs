//! The page of one's own account: profile, a new key.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::Response;
use ordu_api::user::UserInput;
use ordu_api::{ApiKey, UserId};
use serde::Deserialize;

use super::page::render;
use super::user_edit;
use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::identity::{Session, Visitor, Who, stamp};
use crate::web::{Frame, Issued, Profile};

/// The fields of the page's forms.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    username: String,
    contact: String,
    public_workers: Option<String>,
    form_token: String,
}

/// What the page shows beside its forms.
#[derive(Default)]
struct Shown {
    complaint: Option<String>,
    done: Option<&'static str>,
    issued: Option<Issued>,
}

/// `GET /account`
pub(crate) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> ApiResult<Response> {
    show(&app, &visitor, StatusCode::OK, Shown::default()).await
}

/// The page with something that went wrong.
pub(super) async fn show_complaint(
    app: &App,
    visitor: &Visitor,
    status: StatusCode,
    complaint: String,
) -> ApiResult<Response> {
    let shown = Shown {
        complaint: Some(complaint),
        ..Shown::default()
    };
    show(app, visitor, status, shown).await
}

async fn show(
    app: &App,
    visitor: &Visitor,
    status: StatusCode,
    shown: Shown,
) -> ApiResult<Response> {
    let account = visitor.account(app).await?;
    let kudos = match &account {
        Some(account) => app.balance_now(account.user.id).await?,
        None => 0.0,
    };
    let page = Profile {
        frame: Frame::new(&app.config.title),
        form_token: visitor.form_token(app),
        complaint: shown.complaint,
        done: shown.done,
        issued: shown.issued,
        kudos,
        is_unregistered: account.is_none() && visitor.session.is_some(),
        account: account.as_deref(),
        sites: app.identity.sign_in.sites().collect(),
    };
    let mut response = render(status, &page)?;
    visitor.greet(app, &mut response);
    Ok(response)
}

/// `POST /account`: the profile.
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Form(fields): Form<Fields>,
) -> ApiResult<Response> {
    let changed = async {
        visitor.check_form(&app, &fields.form_token)?;
        let account = signed_in(&app, &visitor).await?;
        let input = read_profile(&account, &fields)?;
        user_edit::apply(&app, &account, Arc::clone(&account), input).await
    };
    let (status, shown) = match changed.await {
        Ok(_) => (
            StatusCode::OK,
            Shown {
                done: Some("Saved."),
                ..Shown::default()
            },
        ),
        Err(error) => complained(error)?,
    };
    show(&app, &visitor, status, shown).await
}

fn complained(error: ApiError) -> ApiResult<(StatusCode, Shown)> {
    let (status, complaint) = error.told()?;
    let shown = Shown {
        complaint: Some(complaint),
        ..Shown::default()
    };
    Ok((status, shown))
}

async fn signed_in(app: &App, visitor: &Visitor) -> ApiResult<Arc<Account>> {
    visitor.account(app).await?.ok_or_else(|| {
        let message = "You are not signed in, or no longer";
        ApiError::plain(StatusCode::FORBIDDEN, message)
    })
}

/// The same bounds as for a program; what is left as it is changes nothing.
fn read_profile(account: &Account, fields: &Fields) -> ApiResult<UserInput> {
    let user = &account.user;
    let changed = |now: &str, typed: &str| {
        let typed = typed.trim();
        (!typed.is_empty() && typed != now).then(|| typed.to_owned())
    };
    let input = UserInput {
        username: changed(&user.username, &fields.username),
        contact: changed(user.contact.as_deref().unwrap_or_default(), &fields.contact),
        public_workers: Some(fields.public_workers.is_some()),
        ..UserInput::default()
    };
    let value =
        serde_json::to_value(&input).map_err(|error| ApiError::Internal(error.to_string()))?;
    let mut value = crate::audit::said(value);
    ordu_api::user::INPUT_SCHEMA.check(&mut value)?;
    Ok(input)
}

/// `POST /account/key`: a new key; the old one stops working.
pub(crate) async fn new_key(
    State(app): State<Arc<App>>,
    mut visitor: Visitor,
    Form(fields): Form<Fields>,
) -> ApiResult<Response> {
    let renewed = async {
        visitor.check_form(&app, &fields.form_token)?;
        let account = signed_in(&app, &visitor).await?;
        app.renew_key(&account, None).await
    };
    match renewed.await {
        Ok((account, key)) => show_key(&app, &mut visitor, &account, &key).await,
        Err(error) => {
            let (status, shown) = complained(error)?;
            show(&app, &visitor, status, shown).await
        }
    }
}

/// Who signed in by the old key stays signed in, by the new one.
async fn show_key(
    app: &App,
    visitor: &mut Visitor,
    account: &Account,
    key: &ApiKey,
) -> ApiResult<Response> {
    let by_key = matches!(
        visitor.session.as_ref().map(|session| &session.who),
        Some(Who::Key { .. })
    );
    if by_key {
        let who = Who::Key {
            user: account.user.id,
            stamp: stamp(&app.secret, account),
        };
        visitor.session = Some(Session::new(who, "/".to_owned(), app.clock.now()));
    }
    let shown = Shown {
        issued: Some(Issued {
            alias: account.alias(),
            key: key.reveal().to_owned(),
        }),
        ..Shown::default()
    };
    let mut response = show(app, visitor, StatusCode::OK, shown).await?;
    if let Some(session) = visitor.session.as_ref().filter(|_| by_key) {
        Visitor::go_on(app, &mut response, session)?;
    }
    Ok(response)
}

impl App {
    /// What an account can spend, with what is not folded yet.
    pub(super) async fn balance_now(&self, user: UserId) -> ApiResult<f64> {
        let balance = self.store.balance(user).await?;
        let all = balance.spendable + balance.unfolded_credit - balance.unfolded_debit;
        Ok(all.as_f64())
    }
}
