//! The web page: templates and assets, built into the binary.

pub(crate) mod charts;
pub(crate) mod horde;

use askama::Template;
use ordu_api::RequestId;
use ordu_api::image::RequestStatus;
use ordu_api::status::{ModelStatus, Performance};

use crate::accounts::Account;
use crate::openapi::Page;

/// A file that pages refer to.
pub(crate) struct Asset {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: &'static [u8],
}

/// The assets of these names, each with its kind.
macro_rules! assets {
    ($($name:literal: $media_type:literal,)*) => {
        /// The asset of this name.
        pub(crate) fn asset(name: &str) -> Option<Asset> {
            let (media_type, bytes): (_, &[u8]) = match name {
                $($name => ($media_type, include_bytes!(concat!("../../../web/assets/", $name))),)*
                _ => return None,
            };
            Some(Asset { media_type, bytes })
        }
    };
}

assets! {
    "account.js": "text/javascript",
    "alchemy.js": "text/javascript",
    "api.js": "text/javascript",
    "create.js": "text/javascript",
    "form.js": "text/javascript",
    "horde.css": "text/css",
    "horde.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "key.js": "text/javascript",
    "live.js": "text/javascript",
    "moderate.js": "text/javascript",
    "parts.js": "text/javascript",
    "price.js": "text/javascript",
    "reason.js": "text/javascript",
    "request.js": "text/javascript",
    "style.css": "text/css",
    "text.js": "text/javascript",
}

/// What every page shows around its content.
pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    pub(crate) version: &'static str,
    pub(crate) repository: &'static str,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(title: &'a str) -> Self {
        Self {
            title,
            version: env!("CARGO_PKG_VERSION"),
            repository: env!("CARGO_PKG_REPOSITORY"),
        }
    }
}

/// The front page: ask for a picture, with the horde's load beside it.
#[derive(Template)]
#[template(path = "create.html")]
pub(crate) struct Create<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) form: &'a Form,
    /// What was wrong with the last try.
    pub(crate) complaint: Option<String>,
    pub(crate) performance: Performance,
    pub(crate) models: Vec<ModelStatus>,
    pub(crate) samplers: &'static [&'static str],
    pub(crate) controls: &'static [&'static str],
    pub(crate) post_processors: &'static [&'static str],
}

/// Asking for texts.
#[derive(Template)]
#[template(path = "text.html")]
pub(crate) struct Write<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) models: Vec<ModelStatus>,
}

/// Asking for work on pictures.
#[derive(Template)]
#[template(path = "alchemy.html")]
pub(crate) struct Alchemy<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) forms: &'static [&'static str],
}

/// Keeping order.
#[derive(Template)]
#[template(path = "moderate.html")]
pub(crate) struct Moderate<'a> {
    pub(crate) frame: Frame<'a>,
}

/// A document of the operator's.
#[derive(Template)]
#[template(path = "document.html")]
pub(crate) struct DocumentPage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) name: &'static str,
    pub(crate) html: String,
}

/// The fields of the front page, as they were typed.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Form {
    pub(crate) prompt: String,
    pub(crate) negative: String,
    pub(crate) model: String,
    pub(crate) width: String,
    pub(crate) height: String,
    pub(crate) steps: String,
    pub(crate) n: String,
    pub(crate) seed: String,
    pub(crate) apikey: String,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative: String::new(),
            model: String::new(),
            width: "512".to_owned(),
            height: "512".to_owned(),
            steps: "25".to_owned(),
            n: "1".to_owned(),
            seed: String::new(),
            apikey: String::new(),
        }
    }
}

/// A key that is shown this once.
pub(crate) struct Issued {
    pub(crate) alias: String,
    pub(crate) key: String,
}

/// Making an account, or renewing it.
#[derive(Template)]
#[template(path = "register.html")]
pub(crate) struct Register<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) form_token: String,
    pub(crate) complaint: Option<String>,
    pub(crate) username: String,
    /// What the captcha's widget is given, if there is a captcha.
    pub(crate) captcha: Option<&'a str>,
    /// The sites that vouch for people: their part of the path, their title.
    pub(crate) sites: Vec<(&'static str, &'a str)>,
    /// The site that vouches for the visitor.
    pub(crate) site: Option<String>,
    /// The account of who is signed in.
    pub(crate) alias: Option<String>,
    pub(crate) issued: Option<Issued>,
}

/// One's own account.
#[derive(Template)]
#[template(path = "account.html")]
pub(crate) struct Profile<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) form_token: String,
    pub(crate) complaint: Option<String>,
    pub(crate) done: Option<&'static str>,
    pub(crate) issued: Option<Issued>,
    pub(crate) kudos: f64,
    /// Somebody that another site vouches for, without an account yet.
    pub(crate) is_unregistered: bool,
    pub(crate) account: Option<&'a Account>,
    pub(crate) sites: Vec<(&'static str, &'a str)>,
}

/// Giving kudos away.
#[derive(Template)]
#[template(path = "transfer.html")]
pub(crate) struct Transfer<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) form_token: String,
    /// Names the attempt, so that it gives once.
    pub(crate) attempt: String,
    pub(crate) complaint: Option<String>,
    pub(crate) done: Option<String>,
    /// Who gives, and what it can spend.
    pub(crate) giver: Option<String>,
    pub(crate) kudos: Option<f64>,
    pub(crate) is_signed_in: bool,
    pub(crate) username: String,
    pub(crate) amount: String,
}

/// A sign-in that did not work.
#[derive(Template)]
#[template(path = "failed.html")]
pub(crate) struct Failed<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) complaint: String,
}

/// The API, for people.
#[derive(Template)]
#[template(path = "api.html")]
pub(crate) struct Description<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) page: Page,
}

/// One request: how far it is, and what is there already.
#[derive(Template)]
#[template(path = "request.html")]
pub(crate) struct Request<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) id: RequestId,
    pub(crate) state: String,
    pub(crate) total: u32,
    pub(crate) status: RequestStatus,
}
