//! Answers `GET /metrics` and `GET /status` at an address of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ordu_worker::Status;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::memory::Memory;
use super::metrics;

/// Connections at the same time; more wait.
const MAX_CONNECTIONS: usize = 16;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where questions are answered.
pub(crate) struct Listener(TcpListener);

impl Listener {
    /// Takes the address.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen on `{address}`"))?;
        eprintln!("metrics at http://{}/metrics", listener.local_addr()?);
        Ok(Self(listener))
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, status: watch::Receiver<Status>) -> Infallible {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.0.accept(), if connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(talk(stream, status.clone()));
                        }
                        // Such as too many open files: better soon.
                        Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                    }
                }
            }
        }
    }
}

async fn talk(stream: TcpStream, status: watch::Receiver<Status>) {
    let answering = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &status);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answering)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "somebody who asked for metrics went away");
    }
}

fn answer(method: &Method, path: &str, status: &watch::Receiver<Status>) -> Response<Full<Bytes>> {
    if method != Method::GET {
        return told(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".to_owned(),
        );
    }
    let (memory, now) = (Memory::now(), Instant::now());
    let status = status.borrow();
    match path {
        "/metrics" => {
            let text = metrics::prometheus(&status, memory, now);
            told(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                text,
            )
        }
        "/status" => {
            let text = metrics::json(&status, memory, now).to_string();
            told(StatusCode::OK, "application/json", text)
        }
        _ => {
            let text = "there is `/metrics` and `/status`\n".to_owned();
            told(StatusCode::NOT_FOUND, "text/plain", text)
        }
    }
}

fn told(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
