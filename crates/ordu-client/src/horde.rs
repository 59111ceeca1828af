//! The handle on a horde: where it is, who calls, and with which program.

use std::time::Duration;

use ordu_api::ApiKey;
use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};

use crate::Error;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A horde as one key holder sees it. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Horde {
    pub(crate) http: Client,
    /// Ends in `/api/v2`.
    pub(crate) base: Url,
    /// Marked sensitive: it prints nowhere.
    pub(crate) key: HeaderValue,
    pub(crate) agent: HeaderValue,
    pub(crate) mask: Option<HeaderValue>,
    pub(crate) wait: Option<Duration>,
}

impl Horde {
    /// A horde by its address, with or without `/api` or `/api/v2` behind it. Calls carry `key`, and
    /// `client_agent`, which is `name:version:contact`.
    ///
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Setting`] if the address is not `http` or `https`, or if the key or the agent cannot
    /// be sent in a header.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the handle becomes the key's owner"
    )]
    pub fn new(base_url: &str, key: ApiKey, client_agent: &str) -> Result<Self, Error> {
        let mut key_header = header("api_key", key.reveal())?;
        key_header.set_sensitive(true);
        Ok(Self {
            http: http_client(|builder| builder)?,
            base: base(base_url)?,
            key: key_header,
            agent: header("client_agent", client_agent)?,
            mask: None,
            wait: None,
        })
    }

    /// The address of the API, ending in `/api/v2`.
    pub fn base_url(&self) -> &Url {
        &self.base
    }

    /// The same horde, asked to answer pops, checks and statuses only when there is something to say
    /// (`Prefer: wait=N`), or after so many seconds, 60 at most. Hordes that do not know it answer at
    /// once.
    #[must_use]
    pub fn patient(&self, wait: Duration) -> Self {
        Self {
            wait: Some(wait),
            ..self.clone()
        }
    }

    /// The same horde, asked for these members only (`X-Fields`, such as `done,finished`).
    ///
    /// What is left out of an answer reads as its default; an answer whose necessary members are left
    /// out is [`Error::Malformed`].
    ///
    /// # Errors
    /// [`Error::Setting`] if the mask cannot be sent in a header.
    pub fn with_fields(&self, mask: &str) -> Result<Self, Error> {
        let mask = Some(header("fields", mask)?);
        Ok(Self {
            mask,
            ..self.clone()
        })
    }
}

fn header(name: &'static str, value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value).map_err(|_| Error::Setting {
        name,
        reason: "it holds characters that no header may hold".to_owned(),
    })
}

/// The address of the API from whatever people write.
fn base(text: &str) -> Result<Url, Error> {
    let wrong = |reason: String| Error::Setting {
        name: "horde_url",
        reason,
    };
    let trimmed = text.trim().trim_end_matches('/');
    let bare = trimmed
        .strip_suffix("/api/v2")
        .or_else(|| trimmed.strip_suffix("/api"))
        .unwrap_or(trimmed);
    let mut url = Url::parse(bare).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it must start with `http://` or `https://`".into()));
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = format!(
        "{}{}",
        url.path().trim_end_matches('/'),
        ordu_api::BASE_PATH
    );
    url.set_path(&path);
    Ok(url)
}

/// A connection pool that follows no redirect, so that no key and no body goes where it was not sent.
///
/// A system without root certificates (a bare container) must still reach a horde by plain HTTP: there
/// the pool trusts nobody, and only HTTPS fails.
///
/// # Errors
/// [`Error::Setting`] if the system does not allow it to be built.
pub fn http_client(
    adapt: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<Client, Error> {
    // An error means that a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT);
        adapt(builder.redirect(redirect::Policy::none()))
    };
    builder()
        .build()
        .or_else(|_| builder().tls_certs_only([]).build())
        .map_err(|error| Error::Setting {
            name: "tls",
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_api() {
        for (written, read) in [
            ("https://aihorde.net/api/", "https://aihorde.net/api/v2"),
            ("https://aihorde.net", "https://aihorde.net/api/v2"),
            ("http://[::1]:7001/api/v2/", "http://[::1]:7001/api/v2"),
            ("http://x/horde/?a#b", "http://x/horde/api/v2"),
        ] {
            assert_eq!(base(written).unwrap().as_str(), read, "{written}");
        }
        for wrong in ["", "aihorde.net", "ftp://x", "http://", "/api"] {
            assert!(matches!(base(wrong), Err(Error::Setting { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_horde_does_not_print_its_key() {
        let horde = Horde::new("https://x", ApiKey::new("s3cret"), "a:1:b").unwrap();
        assert!(!format!("{horde:?}").contains("s3cret"));
        assert!(Horde::new("https://x", ApiKey::new("a\nb"), "a:1:b").is_err());
    }
}
