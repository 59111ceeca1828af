//! Who somebody is: signing in by another site, sessions of the web page, captchas, and the rules
//! by which accounts are made.
//!
//! # Source
//! `community.md` § 2.1, § 2.2, § 12.2.

pub(crate) mod captcha;
mod config;
pub(crate) mod oauth;
mod places;
mod registration;
mod session;

use crate::config::Config;

pub(crate) use captcha::Captcha;
pub use config::{CaptchaConfig, ClientSecret, Endpoints, IdentityConfig, Provider, Registration};
pub(crate) use oauth::{Dance, Returned, SignIn, SignInError};
pub(crate) use places::local_path;
pub(crate) use registration::Name;
pub(crate) use session::{Session, Visitor, Who, stamp};

/// What the web page and registration need to tell who somebody is.
pub(crate) struct Identity {
    pub(crate) sign_in: SignIn,
    pub(crate) captcha: Option<Captcha>,
    /// Where the horde is reached, without a slash at the end.
    pub(crate) url: String,
}

impl Identity {
    pub(crate) fn new(config: &Config, url: &str) -> Result<Self, reqwest::Error> {
        let identity = &config.identity;
        Ok(Self {
            sign_in: SignIn::new(identity.providers.clone())?,
            captcha: identity.captcha.clone().map(Captcha::new).transpose()?,
            url: url.to_owned(),
        })
    }

    /// Whether browsers come encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        self.url.starts_with("https://")
    }
}
