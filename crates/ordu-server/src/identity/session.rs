//! Sessions of the web page: who a browser is, in cookies that we signed. Nothing is kept here.
//!
//! A visit is a random number by which a browser proves that a form is ours. A session says who
//! somebody is for a while. Both are `HttpOnly` and `SameSite=Lax`, and `Secure` with a name that
//! no other host can set where browsers come encrypted.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ordu_api::UserId;
use ordu_core::{Millis, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Dance;
use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::secret::{Secret, random_bytes};

/// How long somebody stays signed in.
const SESSION_LENGTH: Millis = Millis::from_minutes(12 * 60);

/// The longest cookies that are looked at, in bytes.
const MAX_COOKIE_BYTES: usize = 8 << 10;

const VISIT: &str = "ordu-visit";
const SESSION: &str = "ordu-session";
const DANCE: &str = "ordu-dance";

/// Somebody who signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) who: Who,
    /// Where to go after signing in.
    pub(crate) return_to: String,
    /// Until when it holds, in epoch milliseconds.
    until: i64,
}

/// How we know who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Who {
    /// Another site vouches for it.
    Subject {
        /// The external identity.
        subject: String,
        /// What people call the site.
        site: String,
    },
    /// It has the key of an account; another key ends the session.
    Key {
        /// The account.
        user: UserId,
        /// What the key was told by.
        stamp: String,
    },
}

impl Session {
    pub(crate) fn new(who: Who, return_to: String, now: Timestamp) -> Self {
        Self {
            who,
            return_to,
            until: (now + SESSION_LENGTH).0,
        }
    }
}

/// What tells one key of an account from the next, without being a key.
pub(crate) fn stamp(secret: &Secret, account: &Account) -> String {
    let hash = account.user.key_hash.as_deref().unwrap_or_default();
    secret.sign(&format!("stamp {hash}"))
}

/// A browser in front of a page.
pub(crate) struct Visitor {
    visit: String,
    is_new: bool,
    is_foreign: bool,
    pub(crate) session: Option<Session>,
    pub(crate) dance: Option<Dance>,
}

impl Visitor {
    /// What proves that a form is ours and was made for this browser.
    pub(crate) fn form_token(&self, app: &App) -> String {
        app.secret.sign(&format!("form {}", self.visit))
    }

    /// Refuses a form that another site sent, or that lost its cookie.
    ///
    /// # Errors
    /// 403 without a return code.
    pub(crate) fn check_form(&self, app: &App, token: &str) -> ApiResult<()> {
        let is_ours = !self.is_new && app.secret.verify(&format!("form {}", self.visit), token);
        if self.is_foreign || !is_ours {
            let message = "This form is too old or was not ours: load the page again, with \
                           cookies allowed, and send it once more";
            return Err(ApiError::plain(StatusCode::FORBIDDEN, message));
        }
        Ok(())
    }

    /// Refuses a form that a browser says another site sent. For forms that act in nobody's name.
    ///
    /// # Errors
    /// 403 without a return code.
    pub(crate) fn check_origin(&self) -> ApiResult<()> {
        if self.is_foreign {
            let message = "Another site sent this form: send it from our own page";
            return Err(ApiError::plain(StatusCode::FORBIDDEN, message));
        }
        Ok(())
    }

    /// Gives a browser that has none a number for its visit.
    pub(crate) fn greet(&self, app: &App, response: &mut Response) {
        if self.is_new {
            set(app, response, VISIT, &self.visit);
        }
    }

    /// Signs somebody in. Forms of before are void.
    pub(crate) fn sign_in(app: &App, response: &mut Response, session: &Session) -> ApiResult<()> {
        set(app, response, SESSION, &seal(app, SESSION, session)?);
        set(app, response, VISIT, &new_visit()?);
        clear(app, response, DANCE);
        Ok(())
    }

    /// Goes on under another session, in the same visit.
    pub(crate) fn go_on(app: &App, response: &mut Response, session: &Session) -> ApiResult<()> {
        set(app, response, SESSION, &seal(app, SESSION, session)?);
        Ok(())
    }

    /// Signs somebody out.
    pub(crate) fn sign_out(app: &App, response: &mut Response) {
        clear(app, response, SESSION);
        clear(app, response, VISIT);
    }

    /// Remembers the way to another site and back.
    pub(crate) fn begin_dance(app: &App, response: &mut Response, dance: &Dance) -> ApiResult<()> {
        set(app, response, DANCE, &seal(app, DANCE, dance)?);
        Ok(())
    }

    /// Forgets it: it leads back once.
    pub(crate) fn end_dance(app: &App, response: &mut Response) {
        clear(app, response, DANCE);
    }

    /// The account of who is signed in, if it has one.
    pub(crate) async fn account(&self, app: &App) -> ApiResult<Option<Arc<Account>>> {
        match self.session.as_ref().map(|session| &session.who) {
            None => Ok(None),
            Some(Who::Subject { subject, .. }) => {
                match app.store.find_user_by_subject(subject).await? {
                    Some(user) => app.accounts.by_id(user.id).await,
                    None => Ok(None),
                }
            }
            Some(Who::Key { user, stamp: known }) => {
                let account = app.accounts.by_id(*user).await?;
                Ok(account.filter(|account| stamp(&app.secret, account) == *known))
            }
        }
    }
}

fn new_visit() -> ApiResult<String> {
    let bytes = random_bytes::<16>().map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Signed text that browsers may keep; `purpose` keeps one kind from passing for another.
fn seal<T: Serialize>(app: &App, purpose: &str, value: &T) -> ApiResult<String> {
    let json = serde_json::to_vec(value).map_err(|error| ApiError::Internal(error.to_string()))?;
    let text = URL_SAFE_NO_PAD.encode(json);
    let signature = app.secret.sign(&format!("{purpose} {text}"));
    Ok(format!("{text}.{signature}"))
}

fn unseal<T: DeserializeOwned>(app: &App, purpose: &str, sealed: &str) -> Option<T> {
    let (text, signature) = sealed.split_once('.')?;
    if !app.secret.verify(&format!("{purpose} {text}"), signature) {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// The name of a cookie. Browsers take `__Host-` from the host itself only, and encrypted.
fn cookie_name(app: &App, name: &str) -> String {
    if app.identity.is_secure() {
        format!("__Host-{name}")
    } else {
        name.to_owned()
    }
}

fn set(app: &App, response: &mut Response, name: &str, value: &str) {
    put(app, response, name, value, "");
}

fn clear(app: &App, response: &mut Response, name: &str) {
    put(app, response, name, "", "; Max-Age=0");
}

fn put(app: &App, response: &mut Response, name: &str, value: &str, more: &str) {
    let name = cookie_name(app, name);
    let secure = if app.identity.is_secure() {
        "; Secure"
    } else {
        ""
    };
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{more}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn cookie(app: &App, headers: &HeaderMap, name: &str) -> Option<String> {
    let name = cookie_name(app, name);
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines
        .filter(|line| line.len() <= MAX_COOKIE_BYTES)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut named = pairs.filter_map(|pair| pair.trim().split_once('='));
    let found = named.find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned())
}

/// Whether a browser says that another site sent this.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        let now = app.clock.now().0;
        let headers = &parts.headers;
        let known = cookie(app, headers, VISIT).filter(|visit| visit.len() == 22);
        let session = cookie(app, headers, SESSION)
            .and_then(|sealed| unseal::<Session>(app, SESSION, &sealed))
            .filter(|session| session.until > now);
        let dance = cookie(app, headers, DANCE)
            .and_then(|sealed| unseal::<Dance>(app, DANCE, &sealed))
            .filter(|dance| dance.until > now);
        Ok(Self {
            is_new: known.is_none(),
            visit: match known {
                Some(visit) => visit,
                None => new_visit()?,
            },
            is_foreign: is_foreign(headers),
            session,
            dance,
        })
    }
}
