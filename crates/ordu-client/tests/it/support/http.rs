//! A small HTTP/1.1 server that remembers what it was sent, byte for byte.
//!
//! The tests of `ordu-worker` use this file too.
#![allow(dead_code, reason = "each of the two uses a part of it")]

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query, not decoded.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.target.split('?').next() == Some(path)
    }
}

/// What to answer. Status 0 closes the connection instead.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Whether more seems to come after the body, and never does.
    pub hangs: bool,
    /// How many requests must have come to the path before it is given.
    pub after: usize,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, body.to_string().into_bytes())
    }

    pub fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            hangs: false,
            after: 0,
        }
    }

    /// The same, but more seems to come, until the other side has enough: then a `CLOSE` of the same
    /// path is remembered.
    pub fn hanging(mut self) -> Self {
        self.hangs = true;
        self
    }

    /// The same, but not before so many requests of the same kind have come.
    pub fn after(mut self, count: usize) -> Self {
        self.after = count;
        self
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn hang_up() -> Self {
        Self::bytes(0, Vec::new())
    }
}

type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

/// Runs until it is dropped.
pub struct TestServer {
    pub url: String,
    log: Arc<Log>,
    _tasks: JoinSet<()>,
}

struct Log {
    seen: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
}

impl Log {
    fn push(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
        self.count.send_modify(|count| *count += 1);
    }

    /// Waits until so many requests like this one have come.
    async fn wait_for(&self, like: &Seen, count: usize) {
        let is_like = |seen: &&Seen| seen.method == like.method && seen.target == like.target;
        let mut changes = self.count.subscribe();
        while self.seen.lock().unwrap().iter().filter(is_like).count() < count {
            changes.changed().await.unwrap();
        }
    }
}

impl TestServer {
    pub async fn start(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Log {
            seen: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::new(handler), log.clone()));
        Self {
            url,
            log,
            _tasks: tasks,
        }
    }

    /// Everything that was sent until now.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// What was sent to one path.
    pub fn seen_at(&self, method: &str, path: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.is(method, path))
            .collect()
    }

    /// Waits until so many requests came to one path.
    pub async fn wait_for(&self, method: &str, path: &str, count: usize) -> Vec<Seen> {
        let mut changes = self.log.count.subscribe();
        loop {
            let found = self.seen_at(method, path);
            if found.len() >= count {
                return found;
            }
            changes.changed().await.unwrap();
        }
    }
}

async fn accept(listener: TcpListener, handler: Arc<Handler>, log: Arc<Log>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, handler.clone(), log.clone()));
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Log>) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer).await {
        let answer = handler(&seen);
        log.push(seen.clone());
        log.wait_for(&seen, answer.after).await;
        if answer.status == 0 || write_answer(&mut stream, &answer).await.is_err() {
            return;
        }
        if answer.hangs {
            while stream
                .read_buf(&mut buffer)
                .await
                .is_ok_and(|read| read > 0)
            {}
            return log.push(Seen {
                method: "CLOSE".to_owned(),
                ..seen
            });
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < head_end + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[head_end..head_end + length].to_vec();
    buffer.drain(..head_end + length);
    Some(Seen {
        method,
        target,
        headers,
        body,
    })
}

async fn write_answer(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let length = answer.body.len() + usize::from(answer.hangs);
    let mut head = format!(
        "HTTP/1.1 {} -\r\ncontent-length: {length}\r\n",
        answer.status,
    );
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value.as_str(), "\r\n"]);
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&answer.body).await
}
