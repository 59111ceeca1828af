//! A program that is spoken to over HTTP: one address, one key, cancellable calls, retries.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::{ProgressSink, TextError};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks whether anybody still wants the result.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// The longest word of a refusal that is passed on.
const MAX_WORD_BYTES: usize = 60;

/// Where the program is, and what it wants to know.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Its address, with or without the API's path behind it.
    pub url: String,
    /// The key it wants, if it wants one.
    pub key: Option<String>,
    /// Waits and limits.
    pub timing: RemoteTiming,
}

impl RemoteOptions {
    /// An address that wants no key.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            key: None,
            timing: RemoteTiming::default(),
        }
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteTiming {
    /// Until a program that is there is asked again what it can do.
    pub probe_up: Duration,
    /// Until a program that is not there is looked for again.
    pub probe_down: Duration,
    /// For one answer to such a question.
    pub probe: Duration,
    /// For the first token, behind a long prompt.
    pub first_token: Duration,
    /// For each further token.
    pub stall: Duration,
    /// Before the next try.
    pub retry: Duration,
    /// How often a task is tried.
    pub tries: u32,
    /// After a soft prompt was changed.
    pub soft_prompt: Duration,
    /// Between two looks at a text, where a program does not stream.
    pub poll: Duration,
}

impl Default for RemoteTiming {
    fn default() -> Self {
        Self {
            probe_up: Duration::from_mins(1),
            probe_down: Duration::from_secs(5),
            probe: Duration::from_secs(5),
            first_token: Duration::from_mins(1),
            stall: Duration::from_secs(20),
            retry: Duration::from_secs(3),
            tries: 5,
            soft_prompt: Duration::from_secs(1),
            poll: Duration::from_millis(300),
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may be better in a moment.
    Passing(String),
    /// It will not.
    Final(TextError),
    /// The program has no such door.
    NoDoor(String),
}

impl From<Failure> for TextError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing(reason) => Self::unavailable(reason),
            Failure::Final(error) => error,
            Failure::NoDoor(reason) => Self::Refused { reason },
        }
    }
}

/// The program.
#[derive(Debug)]
pub(super) struct Backend {
    http: Client,
    base: Url,
    key: Option<HeaderValue>,
    runtime: Handle,
    pub(super) timing: RemoteTiming,
}

impl Backend {
    pub(super) fn new(options: &RemoteOptions, runtime: Handle) -> Result<Self, TextError> {
        Ok(Self {
            http: client()?,
            base: base(&options.url)?,
            key: options.key.as_deref().map(bearer).transpose()?,
            runtime,
            timing: options.timing,
        })
    }

    /// Blocks this thread for a short call.
    pub(super) fn block<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Blocks this thread until the work is done, or nobody wants it any more: then the work is dropped,
    /// and with it its connection is closed.
    pub(super) fn run<T>(
        &self,
        progress: &dyn ProgressSink,
        work: impl Future<Output = Result<T, TextError>>,
    ) -> Result<T, TextError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancelled(progress) => Err(TextError::Cancelled),
                done = work => done,
            }
        })
    }

    /// Tries again what may be better in a moment.
    pub(super) async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, TextError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Failure::Passing(_)) if tries < self.timing.tries => {
                    sleep(self.timing.retry).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// A small JSON document, for probing.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let call = async {
            let response = self.send(self.http.get(self.address(path))).await?;
            read_json(response).await
        };
        timeout(self.timing.probe, call)
            .await
            .unwrap_or_else(|_| Err(Failure::Passing("no answer in time".to_owned())))
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Response, Failure> {
        self.send(with_body(self.http.post(self.address(path)), body))
            .await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Response, Failure> {
        self.send(with_body(self.http.put(self.address(path)), body))
            .await
    }

    async fn send(&self, call: RequestBuilder) -> Result<Response, Failure> {
        let call = match &self.key {
            Some(key) => call.header(AUTHORIZATION, key),
            None => call,
        };
        let response = call.send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let reason = format!("status {}{}", status.as_u16(), explanation(response).await);
        let doors = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        Err(if passing {
            Failure::Passing(reason)
        } else if doors.contains(&status) {
            Failure::NoDoor(reason)
        } else {
            Failure::Final(TextError::Refused { reason })
        })
    }

    fn address(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        url
    }
}

/// What is known about a program, and since when.
#[derive(Debug)]
pub(super) struct Memory<T>(Mutex<Option<(Instant, Result<T, String>)>>);

impl<T: Clone> Memory<T> {
    pub(super) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    /// What is known if it is fresh, else what looking yields. Others wait for whoever looks.
    pub(super) fn recall(
        &self,
        timing: &RemoteTiming,
        look: impl FnOnce() -> Result<T, TextError>,
    ) -> Result<T, TextError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.as_ref().filter(|(at, found)| {
            let keeps = match found {
                Ok(_) => timing.probe_up,
                Err(_) => timing.probe_down,
            };
            at.elapsed() < keeps
        });
        let found = if let Some((_, found)) = fresh {
            found.clone()
        } else {
            let found = look().map_err(|error| match error {
                TextError::Unavailable { reason } => reason,
                other => other.to_string(),
            });
            *known = Some((Instant::now(), found.clone()));
            found
        };
        found.map_err(TextError::unavailable)
    }

    /// Looks again next time.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn with_body(call: RequestBuilder, body: &Value) -> RequestBuilder {
    call.header(CONTENT_TYPE, "application/json")
        .body(body.to_string())
}

/// Ends when nobody wants the result any more.
async fn cancelled(progress: &dyn ProgressSink) {
    while !progress.cancelled() {
        sleep(CANCEL_POLL).await;
    }
}

/// A whole answer as JSON. An answer that is something else may come from a proxy, while the program
/// behind it starts.
pub(super) async fn read_json(mut response: Response) -> Result<Value, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Passing("the answer is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|_| Failure::Passing("the answer is no JSON".to_owned()))
}

/// What a refusal says of itself, in one word: its sentences may repeat the prompt.
async fn explanation(response: Response) -> String {
    let body = read_json(response).await.unwrap_or_default();
    let places = ["/error/type", "/error/code", "/type"];
    let found = places
        .iter()
        .find_map(|place| body.pointer(place)?.as_str());
    match found.filter(|word| is_word(word)) {
        Some(word) => format!(" ({word})"),
        None => String::new(),
    }
}

fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    text.len() <= MAX_WORD_BYTES && text.bytes().all(plain)
}

/// A failure below HTTP, without the address.
pub(super) fn broken(error: &reqwest::Error) -> Failure {
    let reason = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the connection broke"
    };
    Failure::Passing(reason.to_owned())
}

fn bearer(key: &str) -> Result<HeaderValue, TextError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| TextError::Setting {
            name: "key",
            reason: "it holds characters that no header may hold".to_owned(),
        })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The address without the path of an API.
fn base(text: &str) -> Result<Url, TextError> {
    let wrong = |reason: String| TextError::Setting {
        name: "url",
        reason,
    };
    let mut bare = text.trim().trim_end_matches('/');
    for path in ["/v1", "/api/v1", "/api/latest", "/api"] {
        bare = bare.strip_suffix(path).unwrap_or(bare);
    }
    let mut url = Url::parse(bare).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong(
            "it must start with `http://` or `https://`".to_owned(),
        ));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// A connection pool that follows no redirect. Where there are no root certificates, plain HTTP still
/// works.
fn client() -> Result<Client, TextError> {
    // An error means that a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
    };
    builder()
        .build()
        .or_else(|_| builder().tls_certs_only([]).build())
        .map_err(|error| TextError::Setting {
            name: "tls",
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_its_path() {
        for (written, read) in [
            ("http://x:5001", "http://x:5001/"),
            ("http://x:5001/v1/", "http://x:5001/"),
            ("http://x/llm/api/v1", "http://x/llm"),
        ] {
            assert_eq!(base(written).unwrap().as_str(), read);
        }
        for wrong in ["", "x:1", "ftp://x"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }
}
