//! Signing in by another site: one client for all of them. Authorization code with PKCE, state and,
//! with OpenID Connect, nonce.
//!
//! # Source
//! RFC 6749 § 4.1, RFC 7636; OpenID Connect Core § 3.1, Discovery § 4.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenType,
};
use oauth2::{
    AuthUrl, AuthorizationCode, Client, ClientId, CsrfToken, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    Scope, StandardRevocableToken, StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use ordu_core::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use tokio::sync::OnceCell;
use url::Url;

use super::config::{Endpoints, Provider};
use crate::outgoing::{read, take};

/// How long the other site has for each answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer of another site, in bytes.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// How long somebody may take at the other site.
const DANCE_LENGTH: Millis = Millis::from_minutes(10);

/// How far its clock may be from ours.
const LEEWAY: Millis = Millis::from_minutes(2);

/// The longest number by which another site knows somebody, in bytes.
const MAX_SUBJECT_BYTES: usize = 255;

/// The sites, and how to speak to them.
pub(crate) struct SignIn {
    sites: Vec<Site>,
    http: reqwest::Client,
}

struct Site {
    provider: Provider,
    /// Found when it is first needed: a horde starts although another site is away.
    spots: OnceCell<Spots>,
}

/// Where a site is spoken to, as it is now.
#[derive(Clone)]
struct Spots {
    authorize: AuthUrl,
    token: TokenUrl,
    identity: IdentitySource,
}

/// What tells who somebody is.
#[derive(Clone)]
enum IdentitySource {
    /// The token that comes with the code's, from this issuer.
    IdToken(String),
    /// A page that a token opens.
    Page(Url),
}

/// The way to another site and back, kept by the browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dance {
    pub(crate) provider: String,
    pub(crate) return_to: String,
    state: String,
    nonce: String,
    verifier: String,
    /// Until when it may come back, in epoch milliseconds.
    pub(crate) until: i64,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInError {
    #[error("no such site vouches for people here")]
    Unknown,
    #[error("this is not the way back of a sign-in that began here, or it took too long")]
    Stray,
    #[error("the other site refused: {0}")]
    Refused(String),
    #[error("the other site cannot be asked: {0}")]
    Away(String),
    #[error("what the other site says cannot be trusted: {0}")]
    Untrusted(&'static str),
}

/// What the other site sends a browser back with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Returned {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// What comes beside the access token with OpenID Connect.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct IdToken {
    id_token: Option<String>,
}

impl ExtraTokenFields for IdToken {}

type Tokens = StandardTokenResponse<IdToken, BasicTokenType>;

type SiteClient = Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The claims of an identity token that matter.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    exp: f64,
    nonce: Option<String>,
}

/// What a site says about itself.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
}

impl SignIn {
    pub(crate) fn new(providers: Vec<Provider>) -> Result<Self, reqwest::Error> {
        let http = crate::outgoing::client()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .user_agent(concat!("ordu/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let site = |provider| Site {
            provider,
            spots: OnceCell::new(),
        };
        Ok(Self {
            sites: providers.into_iter().map(site).collect(),
            http,
        })
    }

    /// The sites: their part of our paths, and what people call them.
    pub(crate) fn sites(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let providers = self.sites.iter().map(|site| &site.provider);
        providers.map(|provider| (provider.name, provider.title.as_str()))
    }

    /// What people call a site.
    pub(crate) fn title(&self, name: &str) -> Option<&str> {
        let found = self.sites.iter().find(|site| site.provider.name == name);
        found.map(|site| site.provider.title.as_str())
    }

    fn site(&self, name: &str) -> Result<&Site, SignInError> {
        let found = self.sites.iter().find(|site| site.provider.name == name);
        found.ok_or(SignInError::Unknown)
    }

    /// Sends somebody to a site: to which address, and what must be remembered.
    pub(crate) async fn begin(
        &self,
        provider: &str,
        home: &str,
        return_to: String,
        now: Timestamp,
    ) -> Result<(Url, Dance), SignInError> {
        let site = self.site(provider)?;
        let spots = self.spots(site).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = CsrfToken::new_random();
        let client = client(site, spots, home)?;
        let scopes = site.provider.scopes.iter();
        let mut asked = client
            .authorize_url(CsrfToken::new_random)
            .add_scopes(scopes.map(|scope| Scope::new((*scope).to_owned())))
            .set_pkce_challenge(challenge);
        if matches!(spots.identity, IdentitySource::IdToken(_)) {
            asked = asked.add_extra_param("nonce", nonce.secret().clone());
        }
        let (url, state) = asked.url();
        let dance = Dance {
            provider: provider.to_owned(),
            return_to,
            state: state.into_secret(),
            nonce: nonce.into_secret(),
            verifier: verifier.into_secret(),
            until: (now + DANCE_LENGTH).0,
        };
        Ok((url, dance))
    }

    /// Takes somebody back: the external identity that the site vouches for.
    pub(crate) async fn finish(
        &self,
        dance: &Dance,
        home: &str,
        returned: Returned,
        now: Timestamp,
    ) -> Result<String, SignInError> {
        let site = self.site(&dance.provider)?;
        let state = returned.state.unwrap_or_default();
        if !same(&state, &dance.state) {
            return Err(SignInError::Stray);
        }
        if let Some(error) = returned.error {
            let known: String = error.chars().take(100).collect();
            return Err(SignInError::Refused(known));
        }
        let code = returned.code.ok_or(SignInError::Stray)?;
        let spots = self.spots(site).await?;
        if let (IdentitySource::IdToken(issuer), Some(iss)) = (&spots.identity, &returned.iss)
            && issuer != iss
        {
            return Err(SignInError::Untrusted("it comes from another issuer"));
        }
        let client = client(site, spots, home)?;
        let exchanged = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(dance.verifier.clone()))
            .request_async(&|request| send(self.http.clone(), request))
            .await;
        let tokens = exchanged.map_err(|error| match error {
            oauth2::RequestTokenError::ServerResponse(said) => {
                SignInError::Refused(said.error().to_string())
            }
            other => SignInError::Away(other.to_string()),
        })?;
        let subject = match &spots.identity {
            IdentitySource::IdToken(issuer) => {
                let token = tokens.extra_fields().id_token.as_deref();
                let token = token.ok_or(SignInError::Untrusted("it names nobody"))?;
                let expected = Expected {
                    issuer,
                    client: &site.provider.client_id,
                    nonce: &dance.nonce,
                    now,
                };
                expected.subject(token)?
            }
            IdentitySource::Page(url) => self.ask_who(url, tokens.access_token().secret()).await?,
        };
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES || !subject.is_ascii() {
            return Err(SignInError::Untrusted("it names nobody"));
        }
        Ok(format!("{}{subject}", site.provider.prefix))
    }

    async fn spots<'a>(&self, site: &'a Site) -> Result<&'a Spots, SignInError> {
        site.spots
            .get_or_try_init(|| self.find_spots(&site.provider.endpoints))
            .await
    }

    async fn find_spots(&self, endpoints: &Endpoints) -> Result<Spots, SignInError> {
        let issuer = match endpoints {
            Endpoints::Fixed {
                authorize,
                token,
                user,
            } => {
                return Ok(Spots {
                    authorize: AuthUrl::from_url(authorize.clone()),
                    token: TokenUrl::from_url(token.clone()),
                    identity: IdentitySource::Page(user.clone()),
                });
            }
            Endpoints::Issuer(issuer) => issuer.as_str().trim_end_matches('/'),
        };
        let url = format!("{issuer}/.well-known/openid-configuration");
        let request = self.http.get(url);
        let bytes = take(request, MAX_ANSWER_BYTES)
            .await
            .map_err(SignInError::Away)?;
        discovered(issuer, &bytes)
    }

    /// The `id` of whom a token belongs to, a number or a text.
    async fn ask_who(&self, url: &Url, token: &str) -> Result<String, SignInError> {
        let request = self
            .http
            .get(url.clone())
            .bearer_auth(token)
            .header("accept", "application/json");
        let bytes = take(request, MAX_ANSWER_BYTES)
            .await
            .map_err(SignInError::Away)?;
        named(&bytes)
    }
}

/// Where an issuer says that it is spoken to.
fn discovered(issuer: &str, answer: &[u8]) -> Result<Spots, SignInError> {
    let found: Discovery = serde_json::from_slice(answer)
        .map_err(|_| SignInError::Untrusted("it does not say where it is"))?;
    if found.issuer.trim_end_matches('/') != issuer {
        return Err(SignInError::Untrusted("it calls itself another"));
    }
    let wrong = |_| SignInError::Untrusted("it does not say where it is");
    Ok(Spots {
        authorize: AuthUrl::new(found.authorization_endpoint).map_err(wrong)?,
        token: TokenUrl::new(found.token_endpoint).map_err(wrong)?,
        identity: IdentitySource::IdToken(found.issuer),
    })
}

/// Whom a page names.
fn named(answer: &[u8]) -> Result<String, SignInError> {
    let person: Value =
        serde_json::from_slice(answer).map_err(|_| SignInError::Untrusted("it names nobody"))?;
    match person.get("id") {
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        _ => Err(SignInError::Untrusted("it names nobody")),
    }
}

/// Whether any answer that another site gives while somebody signs in could be read from these bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_read(bytes: &[u8]) -> bool {
    let expected = Expected {
        issuer: "https://id.example",
        client: "us",
        nonce: "n",
        now: Timestamp(1_000_000),
    };
    let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(bytes));
    let raw = std::str::from_utf8(bytes).is_ok_and(|raw| expected.subject(raw).is_ok());
    raw | expected.subject(&token).is_ok()
        | discovered(expected.issuer, bytes).is_ok()
        | named(bytes).is_ok()
        | serde_json::from_slice::<Tokens>(bytes).is_ok()
}

fn client(site: &Site, spots: &Spots, home: &str) -> Result<SiteClient, SignInError> {
    let provider = &site.provider;
    let name = provider.name;
    let back = RedirectUrl::new(format!("{home}/{name}/{name}/authorized"))
        .map_err(|_| SignInError::Untrusted("our own address cannot be used"))?;
    let secret = oauth2::ClientSecret::new(provider.client_secret.reveal().to_owned());
    Ok(Client::new(ClientId::new(provider.client_id.clone()))
        .set_client_secret(secret)
        // GitHub and Discord know this form; the others know both.
        .set_auth_type(oauth2::AuthType::RequestBody)
        .set_auth_uri(spots.authorize.clone())
        .set_token_uri(spots.token.clone())
        .set_redirect_uri(back))
}

/// Whether two texts are the same, in constant time.
fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// What an identity token must say. It came straight from the issuer over a connection of ours, so
/// its signature proves nothing more (OpenID Connect Core § 3.1.3.7, 6).
struct Expected<'a> {
    issuer: &'a str,
    client: &'a str,
    nonce: &'a str,
    now: Timestamp,
}

impl Expected<'_> {
    fn subject(&self, token: &str) -> Result<String, SignInError> {
        let unreadable = SignInError::Untrusted("its token cannot be read");
        let claims = token
            .split('.')
            .nth(1)
            .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
            .and_then(|json| serde_json::from_slice::<Claims>(&json).ok())
            .ok_or(unreadable)?;
        let is_for_us = match &claims.aud {
            Value::String(client) => client == self.client,
            Value::Array(clients) => clients.iter().any(|client| client == self.client),
            _ => false,
        };
        if claims.iss != self.issuer || !is_for_us {
            return Err(SignInError::Untrusted("its token is for somebody else"));
        }
        if !same(claims.nonce.as_deref().unwrap_or_default(), self.nonce) {
            return Err(SignInError::Untrusted("its token was used before"));
        }
        if claims.exp * 1000.0 < self.now_ms() {
            return Err(SignInError::Untrusted("its token is too old"));
        }
        Ok(claims.sub)
    }

    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
    fn now_ms(&self) -> f64 {
        (self.now - LEEWAY).0 as f64
    }
}

/// Why another site could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(String);

/// Sends what the protocol's crate made with the client that we have anyway.
async fn send(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, NoAnswer> {
    let (parts, body) = request.into_parts();
    let sent = http
        .request(parts.method, parts.uri.to_string())
        .headers(parts.headers)
        .body(body)
        .send()
        .await
        .map_err(|error| NoAnswer(error.without_url().to_string()))?;
    let status = sent.status();
    let headers = sent.headers().clone();
    let bytes = read(sent, MAX_ANSWER_BYTES).await.map_err(NoAnswer)?;
    let mut response = HttpResponse::new(bytes);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn a_token_must_be_fresh_ours_and_asked_for() {
        let expected = Expected {
            issuer: "https://id.example",
            client: "us",
            nonce: "n",
            now: Timestamp(1_000_000),
        };
        let good = json!({
            "iss": "https://id.example", "sub": "7", "aud": "us", "exp": 1000, "nonce": "n",
        });
        assert_eq!(expected.subject(&token(&good)).unwrap(), "7");
        for (member, value) in [("aud", json!(["them", "us"])), ("exp", json!(900.5))] {
            let mut claims = good.clone();
            claims[member] = value;
            assert!(expected.subject(&token(&claims)).is_ok(), "{claims}");
        }
        for (member, value) in [
            ("iss", json!("https://other.example")),
            ("aud", json!("them")),
            ("aud", json!(["them"])),
            ("aud", json!(7)),
            ("exp", json!(800)),
            ("nonce", json!("m")),
            ("nonce", json!(null)),
            ("sub", json!(7)),
        ] {
            let mut claims = good.clone();
            claims[member] = value;
            assert!(expected.subject(&token(&claims)).is_err(), "{claims}");
        }
        for garbage in ["", ".", "a.b.c", "e30.e30.e30"] {
            assert!(expected.subject(garbage).is_err(), "{garbage}");
        }
    }
}
