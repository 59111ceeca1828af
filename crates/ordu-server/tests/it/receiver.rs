//! A stranger's server: takes what is posted to it, and answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::mpsc;

/// How long a message may take, far longer than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a loopback port.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    posted: mpsc::UnboundedReceiver<Posted>,
    answers: Arc<Mutex<VecDeque<Planned>>>,
}

/// What was posted.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

/// How to answer a post.
#[derive(Debug, Clone)]
pub(crate) enum Planned {
    Answer(u16, &'static str),
    Redirect(u16, String),
    Silence,
}

#[derive(Clone)]
struct Desk {
    posted: mpsc::UnboundedSender<Posted>,
    answers: Arc<Mutex<VecDeque<Planned>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(listen: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, posted) = mpsc::unbounded_channel();
        let answers = Arc::default();
        let desk = Desk {
            posted: sender,
            answers: Arc::clone(&answers),
        };
        let router = Router::new().fallback(take).with_state(desk);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            posted,
            answers,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the next posts are answered, in this order; then everything is fine again.
    pub(crate) fn plan(&self, answers: impl IntoIterator<Item = Planned>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// The next post.
    pub(crate) async fn next(&mut self) -> Posted {
        let next = tokio::time::timeout(PATIENCE, self.posted.recv()).await;
        next.unwrap().unwrap()
    }

    /// Whether nothing was posted that was not taken yet.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.posted.try_recv().is_err()
    }
}

async fn take(State(desk): State<Desk>, uri: Uri, headers: HeaderMap, text: String) -> Response {
    let answer = desk.answers.lock().unwrap().pop_front();
    let posted = Posted {
        path: uri.path().to_owned(),
        headers,
        body: serde_json::from_str(&text).unwrap_or_default(),
        text,
    };
    desk.posted.send(posted).ok();
    match answer.unwrap_or(Planned::Answer(200, "")) {
        Planned::Answer(status, body) => (status_code(status), body).into_response(),
        Planned::Silence => std::future::pending().await,
        Planned::Redirect(status, to) => (status_code(status), [("location", to)]).into_response(),
    }
}

fn status_code(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap()
}
