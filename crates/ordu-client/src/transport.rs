//! Sending a call and reading its answer: the only place that looks at statuses and headers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ordu_api::worker::WorkKind;
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Horde, Refusal};

/// How long a call may take, from the first byte sent to the last byte read.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read: 20 pictures as base64, generously.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// The largest body of a refusal that is read.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// The longest wait that a horde may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

impl Horde {
    pub(crate) fn get(&self, path: &[&str]) -> RequestBuilder {
        self.call(Method::GET, path)
    }

    /// The same, of one kind of work.
    pub(crate) fn get_of_kind(&self, path: &[&str], kind: WorkKind) -> RequestBuilder {
        self.get_with(path, "type", kind.name())
    }

    /// The same, with one parameter in the query.
    pub(crate) fn get_with(&self, path: &[&str], key: &str, value: &str) -> RequestBuilder {
        self.get_where(path, &[(key, Some(value.to_owned()))])
    }

    /// The same, with those parameters in the query that have a value.
    pub(crate) fn get_where(
        &self,
        path: &[&str],
        parameters: &[(&str, Option<String>)],
    ) -> RequestBuilder {
        let mut url = self.endpoint(path);
        for (key, value) in parameters {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        self.call_at(Method::GET, url)
    }

    pub(crate) fn post(&self, path: &[&str], body: &impl Serialize) -> RequestBuilder {
        self.call(Method::POST, path).json(body)
    }

    pub(crate) fn call(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.call_at(method, self.endpoint(path))
    }

    fn call_at(&self, method: Method, url: Url) -> RequestBuilder {
        let call = self
            .http
            .request(method, url)
            .timeout(CALL_TIMEOUT + self.wait.unwrap_or_default())
            .header("apikey", self.key.clone())
            .header("Client-Agent", self.agent.clone());
        let call = match self.wait {
            Some(wait) => call.header("Prefer", format!("wait={}", wait.as_secs())),
            None => call,
        };
        match &self.mask {
            Some(mask) => call.header("X-Fields", mask.clone()),
            None => call,
        }
    }

    /// A call to what is not part of the API: it gets no key.
    pub(crate) fn get_of_site(&self, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        let site = url.path().strip_suffix(ordu_api::BASE_PATH);
        let path = format!("{}{path}", site.unwrap_or_default());
        url.set_path(&path);
        let call = self.http.get(url).timeout(CALL_TIMEOUT);
        call.header("Client-Agent", self.agent.clone())
    }

    fn endpoint(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only an address that cannot be a base has no segments; `base` refuses those.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        url
    }
}

/// Sends a call and reads its answer.
pub(crate) async fn answer<T: DeserializeOwned>(call: RequestBuilder) -> Result<T, Error> {
    let response = succeeded(send(call).await?).await?;
    let body = read(response, MAX_ANSWER_BYTES).await?;
    serde_json::from_slice(&body).map_err(Error::malformed)
}

pub(crate) async fn send(call: RequestBuilder) -> Result<Response, Error> {
    call.send().await.map_err(Error::transport)
}

/// The response if its status is 2xx, otherwise what its status and body mean.
pub(crate) async fn succeeded(response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = retry_after(&response);
    let body = read(response, MAX_REFUSAL_BYTES).await.unwrap_or_default();
    let refusal = Refusal::read(status.as_u16(), &body);
    if status.is_server_error() {
        return Err(Error::Unavailable {
            reason: format!("status {}: {}", refusal.status, refusal.message),
            retry_after,
            source: None,
        });
    }
    // With a return code, 429 is a rule about running requests, not about the rate of calls.
    if refusal.status == 429 && refusal.rc.is_none() {
        return Err(Error::RateLimited {
            retry_after,
            message: refusal.message,
        });
    }
    Err(Error::Refused(refusal))
}

/// The body, unless it is larger than `limit` bytes.
pub(crate) async fn read(mut response: Response, limit: usize) -> Result<Bytes, Error> {
    let declared = response.content_length().unwrap_or_default();
    if declared > limit as u64 {
        return Err(Error::TooLarge { limit });
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Error::transport)? {
        if body.len() + chunk.len() > limit {
            return Err(Error::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// `Retry-After` in seconds. Its other form, a date, is used by no horde.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = text.trim().parse().ok().map(Duration::from_secs)?;
    Some(seconds.min(MAX_RETRY_AFTER))
}
