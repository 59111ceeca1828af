//! Reading from the web: redirects that carry no secret to strangers, limits, errors without addresses.
//!
//! An address may hold a token or a signature, so no error and no log line shows one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};

use super::secret::Secret;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(2);

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// The server said so.
    #[error("status {status}")]
    Status {
        /// The status of the answer.
        status: u16,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The server is not there, or the connection broke.
    #[error("{0}")]
    Broken(String),
    /// Nothing came for too long.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is larger than any honest one.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// What may be read, in bytes.
        limit: usize,
    },
    /// The answer is not what was asked for.
    #[error("{0}")]
    Malformed(String),
}

impl WebError {
    /// Whether it would be the same the next time.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 401 | 403 | 404 | 410),
            Self::TooLarge { .. } => true,
            Self::Broken(_) | Self::TimedOut | Self::Malformed(_) => false,
        }
    }
}

impl From<reqwest::Error> for WebError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self::Broken(reason)
    }
}

/// A token for a host and those below it.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) host: String,
    pub(crate) token: Secret,
}

/// Reads from the web.
#[derive(Debug, Clone)]
pub struct Web {
    client: Client,
    tokens: Vec<Token>,
    agent: HeaderValue,
}

impl Web {
    /// A reader that sends no token to anybody.
    ///
    /// # Errors
    /// If the system does not allow it to be built.
    pub fn new() -> Result<Self, ordu_client::Error> {
        let client = ordu_client::http_client(|builder| builder.tcp_nodelay(true))?;
        let agent = concat!("ordu-worker/", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            client,
            tokens: Vec::new(),
            agent: HeaderValue::from_static(agent),
        })
    }

    /// Sends `token=` in the query of each call to `host` and to the hosts below it.
    #[must_use]
    pub fn with_token(mut self, host: &str, token: &Secret) -> Self {
        self.tokens.push(Token {
            host: host.to_ascii_lowercase(),
            token: token.clone(),
        });
        self
    }

    /// The head of the answer, after redirects. A header named `apikey` goes to the first host only.
    pub(crate) async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, WebError> {
        let mut url = url.clone();
        let mut headers = headers;
        headers.insert(reqwest::header::USER_AGENT, self.agent.clone());
        for _ in 0..=MAX_REDIRECTS {
            let call = self.client.get(self.signed(&url)).headers(headers.clone());
            let response = call.send().await?;
            let Some(next) = redirected(&response, &url)? else {
                return Ok(response);
            };
            if next.origin() != url.origin() {
                headers.remove(HeaderName::from_static("apikey"));
            }
            url = next;
        }
        Err(WebError::Malformed("too many redirects".to_owned()))
    }

    /// A whole answer of at most `limit` bytes within `timeout`, if its status is 2xx or 304.
    pub(crate) async fn read(
        &self,
        url: &Url,
        headers: HeaderMap,
        limit: usize,
        timeout: Duration,
    ) -> Result<(StatusCode, HeaderMap, Bytes), WebError> {
        let whole = async {
            let response = succeeded(self.get(url, headers).await?)?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok((status, headers, body(response, limit).await?))
        };
        let ended = tokio::time::timeout(timeout, whole).await;
        ended.unwrap_or(Err(WebError::TimedOut))
    }

    fn signed(&self, url: &Url) -> Url {
        let mut url = url.clone();
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let known = self.tokens.iter().find(|known| {
            let below = host.strip_suffix(&known.host);
            below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        if let Some(known) = known {
            url.query_pairs_mut()
                .append_pair("token", known.token.reveal());
        }
        url
    }
}

/// The answer if its status is 2xx or 304.
pub(crate) fn succeeded(response: Response) -> Result<Response, WebError> {
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(response);
    }
    let asked = response.headers().get(RETRY_AFTER);
    let seconds = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Err(WebError::Status {
        status: status.as_u16(),
        retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
    })
}

/// A whole answer of at most `limit` bytes.
pub(crate) async fn body(mut response: Response, limit: usize) -> Result<Bytes, WebError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(WebError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn redirected(response: &Response, from: &Url) -> Result<Option<Url>, WebError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION);
    let target = location
        .and_then(|value| value.to_str().ok())
        .and_then(|text| from.join(text).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| WebError::Malformed("a redirect to nowhere".to_owned()))?;
    if from.scheme() == "https" && target.scheme() == "http" {
        let reason = "a redirect from https to http".to_owned();
        return Err(WebError::Malformed(reason));
    }
    Ok(Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_its_hosts_only_and_is_not_shown() {
        let web = Web::new()
            .unwrap()
            .with_token("civitai.com", &Secret::new("s3cret"));
        let signed = |url: &str| web.signed(&Url::parse(url).unwrap()).to_string();
        assert_eq!(
            signed("https://civitai.com/x"),
            "https://civitai.com/x?token=s3cret"
        );
        assert_eq!(
            signed("https://a.civitai.com/?b=1"),
            "https://a.civitai.com/?b=1&token=s3cret"
        );
        for stranger in ["https://evilcivitai.com/", "https://civitai.com.evil.org/"] {
            assert_eq!(signed(stranger), stranger);
        }
        assert!(!format!("{web:?}").contains("s3cret"));
    }
}
