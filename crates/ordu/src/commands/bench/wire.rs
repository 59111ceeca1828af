//! One connection to a server, held open: as thin as HTTP can be, because whatever the load generator
//! costs is taken from the server beside it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use ordu_api::ApiKey;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program that asks.
const AGENT: &str = concat!(
    "ordu-bench:",
    env!("CARGO_PKG_VERSION"),
    ":https://ordu.example"
);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// With everything below the host.
    pub(crate) path: String,
    pub(crate) key: &'a ApiKey,
    pub(crate) body: Bytes,
    /// How many seconds the answer may take its time.
    pub(crate) wait_seconds: Option<u32>,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: impl Into<String>, key: &'a ApiKey) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            key,
            body: Bytes::new(),
            wait_seconds: None,
        }
    }

    pub(crate) fn post(
        path: impl Into<String>,
        key: &'a ApiKey,
        body: &impl serde::Serialize,
    ) -> Self {
        Self {
            method: Method::POST,
            // What cannot be written is answered with a no, which is counted.
            body: serde_json::to_vec(body).unwrap_or_default().into(),
            ..Self::get(path, key)
        }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    /// Why it is not what was asked for: a return code, a status, or what the connection said.
    pub(crate) error: Option<String>,
}

impl Answer {
    /// What was answered, if it is that.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        if self.error.is_some() {
            return None;
        }
        serde_json::from_slice(&self.body).ok()
    }
}

/// The `rc` of a refusal.
#[derive(serde::Deserialize)]
struct Refusal {
    rc: Option<String>,
}

/// A connection, made when it is needed.
#[derive(Debug)]
pub(crate) struct Wire {
    authority: String,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// What drives the connection.
    driving: JoinSet<()>,
}

impl Wire {
    pub(crate) fn new(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            sender: None,
            driving: JoinSet::new(),
        }
    }

    /// Asks and reads the whole answer.
    pub(crate) async fn call(&mut self, call: &Call<'_>) -> Answer {
        let asked = timeout(PATIENCE, self.exchange(call)).await;
        match asked {
            Ok(Ok((status, body))) => Answer {
                error: (!(200..300).contains(&status)).then(|| complaint(status, &body)),
                body,
            },
            Ok(Err(error)) => self.broken(&error.root_cause().to_string()),
            Err(_) => self.broken("no answer in time"),
        }
    }

    /// Asks and leaves the answer to whoever reads it bit by bit.
    pub(crate) async fn open(&mut self, call: &Call<'_>) -> Result<Response<Incoming>> {
        let response = self.send(call).await?;
        if !response.status().is_success() {
            bail!("{}", response.status());
        }
        Ok(response)
    }

    fn broken(&mut self, error: &str) -> Answer {
        self.sender = None;
        self.driving.abort_all();
        Answer {
            body: Bytes::new(),
            error: Some(error.to_owned()),
        }
    }

    async fn exchange(&mut self, call: &Call<'_>) -> Result<(u16, Bytes)> {
        let response = self.send(call).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body))
    }

    async fn send(&mut self, call: &Call<'_>) -> Result<Response<Incoming>> {
        let request = self.request(call)?;
        let sender = self.connected().await?;
        Ok(sender.send_request(request).await?)
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.path.as_str())
            .header(header::HOST, self.authority.as_str())
            .header("apikey", call.key.reveal())
            .header("client-agent", AGENT);
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(seconds) = call.wait_seconds {
            request = request.header("prefer", format!("wait={seconds}"));
        }
        Ok(request.body(Full::new(call.body.clone()))?)
    }

    /// The sender of a connection that can take a request.
    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let ready = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            while self.driving.try_join_next().is_some() {}
            let stream = TcpStream::connect(self.authority.as_str()).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            self.driving.spawn(async move {
                // Whoever asked is told of it by its request.
                let _ = connection.await;
            });
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("there is a connection now")
    }
}

/// The machine's word for a no.
fn complaint(status: u16, body: &[u8]) -> String {
    let refusal = serde_json::from_slice::<Refusal>(body).ok();
    match refusal.and_then(|refusal| refusal.rc) {
        Some(rc) => rc,
        None => status.to_string(),
    }
}

/// Where a plain HTTP address leads.
pub(crate) fn authority(url: &str) -> Result<String> {
    let read = url::Url::parse(url).with_context(|| format!("`{url}` is no address"))?;
    if read.scheme() != "http" || read.path() != "/" {
        bail!("`{url}` cannot be measured: write the address of a server as http://HOST:PORT");
    }
    let host = read
        .host_str()
        .with_context(|| format!("`{url}` has no host"))?;
    Ok(format!(
        "{host}:{}",
        read.port_or_known_default().unwrap_or(80)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_of_servers_are_taken() {
        assert_eq!(
            authority("http://127.0.0.1:7001").unwrap(),
            "127.0.0.1:7001"
        );
        assert_eq!(
            authority("http://horde.example/").unwrap(),
            "horde.example:80"
        );
        for wrong in ["https://horde.example", "horde.example", "http://a/b"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_no_is_called_by_its_code() {
        assert_eq!(
            complaint(400, br#"{"message":"m","rc":"KudosUpfront"}"#),
            "KudosUpfront"
        );
        assert_eq!(complaint(503, b"away"), "503");
        assert_eq!(complaint(404, br#"{"message":"m"}"#), "404");
    }
}
