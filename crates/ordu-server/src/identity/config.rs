//! What an operator decides about accounts and how people sign in.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use url::Url;

/// How accounts are made and who vouches for them.
#[derive(Debug, Clone)]
pub struct IdentityConfig {
    /// Whether `POST /api/v2/users` makes accounts.
    pub json_registration: Registration,
    /// Accounts that one address may make in a day without anybody vouching for them; any number
    /// if 0.
    pub accounts_per_address: u32,
    /// The captcha before registration, if there is one.
    pub captcha: Option<CaptchaConfig>,
    /// By which sites people sign in.
    pub providers: Vec<Provider>,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            json_registration: Registration::Closed,
            accounts_per_address: 5,
            captcha: None,
            providers: Vec::new(),
        }
    }
}

/// Whether programs may make accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// They may.
    Open,
    /// People only, on the web page.
    Closed,
}

/// A secret that another site gave us. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(String);

impl ClientSecret {
    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for ClientSecret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl FromStr for ClientSecret {
    type Err = std::convert::Infallible;

    fn from_str(secret: &str) -> Result<Self, Self::Err> {
        Ok(Self(secret.to_owned()))
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// A captcha that answers as reCAPTCHA does.
#[derive(Debug, Clone)]
pub struct CaptchaConfig {
    /// What the widget on the page is given.
    pub site_key: String,
    /// What its answers are checked with.
    pub secret_key: ClientSecret,
    /// Where they are checked.
    pub verify_url: Url,
}

/// A site that vouches for people.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its part of our paths: `/NAME/{return_to}`, `/NAME/NAME/authorized`.
    pub name: &'static str,
    /// What people call it.
    pub title: String,
    /// Who we are there.
    pub client_id: String,
    /// How we prove it.
    pub client_secret: ClientSecret,
    /// What we ask for.
    pub scopes: &'static [&'static str],
    /// What its numbers are prefixed with to become the external identity of an account.
    pub prefix: String,
    /// Where it is spoken to.
    pub endpoints: Endpoints,
}

/// Where a site is spoken to.
#[derive(Debug, Clone)]
pub enum Endpoints {
    /// It says so itself, as OpenID Connect describes it.
    Issuer(Url),
    /// Here.
    Fixed {
        /// Where people go.
        authorize: Url,
        /// Where codes become tokens.
        token: Url,
        /// Where a token becomes a person, as JSON with `id`.
        user: Url,
    },
}

impl Provider {
    /// Google.
    ///
    /// # Errors
    /// None in practice: the addresses are constant.
    pub fn google(id: String, secret: ClientSecret) -> Result<Self, url::ParseError> {
        let issuer = "https://accounts.google.com".parse()?;
        Ok(Self {
            name: "google",
            title: "Google".to_owned(),
            client_id: id,
            client_secret: secret,
            scopes: &["openid", "email"],
            prefix: "g_".to_owned(),
            endpoints: Endpoints::Issuer(issuer),
        })
    }

    /// Discord.
    ///
    /// # Errors
    /// None in practice: the addresses are constant.
    pub fn discord(id: String, secret: ClientSecret) -> Result<Self, url::ParseError> {
        Ok(Self {
            name: "discord",
            title: "Discord".to_owned(),
            client_id: id,
            client_secret: secret,
            scopes: &["identify"],
            prefix: "d_".to_owned(),
            endpoints: Endpoints::Fixed {
                authorize: "https://discord.com/oauth2/authorize".parse()?,
                token: "https://discord.com/api/oauth2/token".parse()?,
                user: "https://discord.com/api/users/@me".parse()?,
            },
        })
    }

    /// GitHub. Who somebody is needs no scope there.
    ///
    /// # Errors
    /// None in practice: the addresses are constant.
    pub fn github(id: String, secret: ClientSecret) -> Result<Self, url::ParseError> {
        Ok(Self {
            name: "github",
            title: "GitHub".to_owned(),
            client_id: id,
            client_secret: secret,
            scopes: &[],
            prefix: "gh_".to_owned(),
            endpoints: Endpoints::Fixed {
                authorize: "https://github.com/login/oauth/authorize".parse()?,
                token: "https://github.com/login/oauth/access_token".parse()?,
                user: "https://api.github.com/user".parse()?,
            },
        })
    }

    /// Any site that speaks OpenID Connect. The issuer is part of the identities: another issuer
    /// vouches for other people, whatever numbers it gives them.
    pub fn openid(issuer: Url, title: String, id: String, secret: ClientSecret) -> Self {
        let digest = Sha256::digest(issuer.as_str().trim_end_matches('/').as_bytes());
        let tag = digest
            .iter()
            .take(4)
            .fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
        Self {
            name: "openid",
            title,
            client_id: id,
            client_secret: secret,
            scopes: &["openid"],
            prefix: format!("o_{tag}_"),
            endpoints: Endpoints::Issuer(issuer),
        }
    }
}
