//! Signing in and out of the web page: by another site, or by a key.
//!
//! # Source
//! `community.md` § 12.2.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use ordu_api::{ApiKey, UserId};
use serde::Deserialize;

use super::page::render;
use crate::address::Client;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::identity::{Returned, Session, SignInError, Visitor, Who, local_path, stamp};
use crate::web::{Failed, Frame};

/// `GET /google/{return_to}` and its relatives: off to the other site.
async fn begin(app: Arc<App>, provider: &'static str, return_to: String) -> ApiResult<Response> {
    // A page elsewhere is none of ours to lead to.
    let return_to = local_path(&return_to).unwrap_or_else(|| "/".to_owned());
    let sign_in = &app.identity.sign_in;
    let begun = sign_in
        .begin(provider, &app.identity.url, return_to, app.clock.now())
        .await;
    match begun {
        Ok((url, dance)) => {
            let mut response = leave_for(url.as_str());
            Visitor::begin_dance(&app, &mut response, &dance)?;
            Ok(response)
        }
        Err(error) => failed(&app, &error),
    }
}

fn leave_for(url: &str) -> Response {
    let mut response = Redirect::to(url).into_response();
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        axum::http::HeaderValue::from_static("no-store"),
    );
    response
}

/// The callback: back from the other site.
async fn finish(
    app: Arc<App>,
    provider: &'static str,
    visitor: Visitor,
    returned: Result<Query<Returned>, QueryRejection>,
) -> ApiResult<Response> {
    let dance = visitor.dance.filter(|dance| dance.provider == provider);
    let finished = async {
        let dance = dance.as_ref().ok_or(SignInError::Stray)?;
        let Query(returned) = returned.map_err(|_| SignInError::Stray)?;
        let (home, now) = (&app.identity.url, app.clock.now());
        let sign_in = &app.identity.sign_in;
        let subject = sign_in.finish(dance, home, returned, now).await?;
        Ok((subject, dance.return_to.clone()))
    };
    match finished.await {
        Ok((subject, return_to)) => {
            let site = app.identity.sign_in.title(provider).unwrap_or(provider);
            let who = Who::Subject {
                subject,
                site: site.to_owned(),
            };
            let session = Session::new(who, return_to, app.clock.now());
            let mut response = leave_for("/finish_dance");
            Visitor::sign_in(&app, &mut response, &session)?;
            Ok(response)
        }
        Err(error) => {
            let mut response = failed(&app, &error)?;
            Visitor::end_dance(&app, &mut response);
            Ok(response)
        }
    }
}

fn failed(app: &App, error: &SignInError) -> ApiResult<Response> {
    let status = match error {
        SignInError::Unknown => StatusCode::NOT_FOUND,
        SignInError::Stray | SignInError::Refused(_) => StatusCode::BAD_REQUEST,
        SignInError::Away(_) | SignInError::Untrusted(_) => {
            tracing::warn!(%error, "another site did not vouch for somebody");
            StatusCode::BAD_GATEWAY
        }
    };
    let page = Failed {
        frame: Frame::new(&app.config.title),
        complaint: error.to_string(),
    };
    render(status, &page)
}

/// The two paths of a site: axum has no argument that is part of two segments.
macro_rules! sites {
    ($($site:ident),+) => {$(
        pub(crate) mod $site {
            use super::*;

            pub(crate) async fn begin(
                State(app): State<Arc<App>>,
                Path(return_to): Path<String>,
            ) -> ApiResult<Response> {
                super::begin(app, stringify!($site), return_to).await
            }

            pub(crate) async fn front(State(app): State<Arc<App>>) -> ApiResult<Response> {
                super::begin(app, stringify!($site), String::new()).await
            }

            pub(crate) async fn finish(
                State(app): State<Arc<App>>,
                visitor: Visitor,
                returned: Result<Query<Returned>, QueryRejection>,
            ) -> ApiResult<Response> {
                super::finish(app, stringify!($site), visitor, returned).await
            }
        }
    )+};
}

sites!(google, discord, github, openid);

/// `GET /finish_dance`: on to the page that somebody came from.
pub(crate) async fn finish_dance(visitor: Visitor) -> Response {
    let session = visitor.session.as_ref();
    let wanted = session.and_then(|session| local_path(&session.return_to));
    leave_for(wanted.as_deref().unwrap_or("/"))
}

/// The fields of the form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    apikey: String,
    return_to: String,
    form_token: String,
}

/// `POST /sign-in`: by a key.
pub(crate) async fn by_key(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    client: Client,
    Form(fields): Form<Fields>,
) -> ApiResult<Response> {
    let signed_in = async {
        visitor.check_form(&app, &fields.form_token)?;
        let key = ApiKey::new(fields.apikey.trim());
        let account = app.try_key(&key, client).await?;
        if account.user.id == UserId::ANONYMOUS {
            return Err(ApiError::field(
                "apikey",
                "the anonymous key is everybody's",
            ));
        }
        let who = Who::Key {
            user: account.user.id,
            stamp: stamp(&app.secret, &account),
        };
        let wanted = Some(&fields.return_to).filter(|wanted| !wanted.is_empty());
        let return_to = wanted.and_then(|wanted| local_path(wanted));
        let return_to = return_to.unwrap_or_else(|| "/account".to_owned());
        Ok(Session::new(who, return_to, app.clock.now()))
    };
    match signed_in.await {
        Ok(session) => {
            let mut response = leave_for("/finish_dance");
            Visitor::sign_in(&app, &mut response, &session)?;
            Ok(response)
        }
        Err(error) => {
            let (status, complaint) = error.told()?;
            super::account::show_complaint(&app, &visitor, status, complaint).await
        }
    }
}

/// `POST /sign-out`
pub(crate) async fn sign_out(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Form(fields): Form<Fields>,
) -> ApiResult<Response> {
    visitor.check_form(&app, &fields.form_token)?;
    let mut response = leave_for("/");
    Visitor::sign_out(&app, &mut response);
    Ok(response)
}

impl App {
    /// Whose key somebody typed; wrong ones count against the address.
    ///
    /// # Errors
    /// `InvalidAPIKey`; 429 while the address has to wait.
    pub(super) async fn try_key(
        &self,
        key: &ApiKey,
        client: Client,
    ) -> ApiResult<Arc<crate::accounts::Account>> {
        let network = client.network();
        self.admit_key(key, network)?;
        let found = self.accounts.by_key(key).await;
        if matches!(&found, Err(ApiError::Refused(_))) {
            self.guesses.note_wrong(network, self.clock.now());
        }
        found
    }
}
