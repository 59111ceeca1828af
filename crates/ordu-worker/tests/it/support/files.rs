//! A file server that can be told to misbehave.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What to do with one request instead of answering it well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Answer well.
    None,
    /// Answer with this status and nothing else.
    Status(u16),
    /// Close the connection after so many bytes of the body.
    Cut(usize),
    /// Say nothing more after so many bytes of the body.
    Stall(usize),
    /// Claim so many bytes more than come, then close.
    Claim(usize),
    /// Ignore that a part was asked for.
    IgnoreRange,
    /// Send a part that starts elsewhere.
    WrongRange,
    /// Do not say how long the body is.
    NoLength,
}

/// One file.
#[derive(Clone, Default)]
pub struct Served {
    pub body: Vec<u8>,
    pub etag: Option<String>,
    /// Whether parts can be had.
    pub ranges: bool,
    /// For the first requests, in turn; then the last one stays if `always`.
    pub tricks: VecDeque<Trick>,
    /// What to do when the tricks are used up.
    pub always: Option<Trick>,
    /// Where to go instead.
    pub redirect: Option<String>,
}

impl Served {
    /// A file of which parts can be had.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            etag: Some("\"one\"".to_owned()),
            ranges: true,
            ..Self::default()
        }
    }

    pub fn tricks(mut self, tricks: impl IntoIterator<Item = Trick>) -> Self {
        self.tricks = tricks.into_iter().collect();
        self
    }

    pub fn always(mut self, trick: Trick) -> Self {
        self.always = Some(trick);
        self
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub range: Option<String>,
    pub headers: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Served>,
    asked: Vec<Asked>,
}

/// Runs until it is dropped.
pub struct FileServer {
    pub url: String,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl FileServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, shared.clone()));
            }
        });
        Self {
            url,
            state,
            _tasks: tasks,
        }
    }

    /// Serves a file, or another one at the same path.
    pub fn put(&self, path: &str, file: Served) {
        let mut state = self.state.lock().unwrap();
        state.files.insert(path.to_owned(), file);
    }

    pub fn put_json(&self, path: &str, body: &serde_json::Value) {
        self.put(path, Served::new(body.to_string()));
    }

    pub fn at(&self, path: &str) -> url::Url {
        url::Url::parse(&format!("{}{path}", self.url)).unwrap()
    }

    /// What was asked at a path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.state.lock().unwrap();
        let found = state.asked.iter().filter(|asked| asked.path == path);
        found.cloned().collect()
    }

    /// The ranges that were asked for at a path.
    pub fn ranges(&self, path: &str) -> Vec<String> {
        let asked = self.asked(path).into_iter();
        asked.map(|asked| asked.range.unwrap_or_default()).collect()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut stream, &mut buffer).await {
        let (file, trick) = {
            let mut state = state.lock().unwrap();
            state.asked.push(asked.clone());
            let file = state.files.get_mut(&asked.path);
            match file {
                None => (Served::default(), Trick::Status(404)),
                Some(file) => {
                    let trick = file.tricks.pop_front().or(file.always);
                    (file.clone(), trick.unwrap_or(Trick::None))
                }
            }
        };
        let goes_on = answer(&mut stream, &asked, &file, trick).await;
        if !goes_on {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut lines = head.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Asked {
        path: path.to_owned(),
        query: query.to_owned(),
        range: headers.get("range").cloned(),
        headers,
    })
}

/// First byte and end of the part that was asked for, if parts can be had.
fn part(asked: &Asked, file: &Served, trick: Trick) -> Option<(usize, usize)> {
    let whole = file.body.len();
    let etag = file.etag.clone().unwrap_or_default();
    let known = asked.headers.get("if-range");
    let is_same = known.is_none_or(|known| *known == etag);
    if !file.ranges || !is_same || trick == Trick::IgnoreRange {
        return None;
    }
    let range = asked.range.as_deref()?.strip_prefix("bytes=").unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let to = to
        .parse()
        .map_or(whole, |last: usize| (last + 1).min(whole));
    Some((from.parse().unwrap(), to))
}

/// Answers one request; whether the connection goes on.
async fn answer(stream: &mut TcpStream, asked: &Asked, file: &Served, trick: Trick) -> bool {
    let whole = file.body.len();
    let etag = file.etag.clone().unwrap_or_default();
    let part = part(asked, file, trick);
    let (status, from, to) = match part {
        _ if file.redirect.is_some() => (302, 0, 0),
        Some((from, _)) if from >= whole => (416, 0, 0),
        Some((from, to)) => (206, from, to),
        None => (200, 0, whole),
    };
    let status = match trick {
        Trick::Status(status) => status,
        _ => status,
    };
    let mut body = &file.body[from..to];
    if !matches!(status, 200 | 206) {
        body = &[];
    }
    let claimed = match trick {
        Trick::Claim(more) => body.len() + more,
        _ => body.len(),
    };
    let mut head = format!("HTTP/1.1 {status} -\r\n");
    if trick == Trick::NoLength {
        head += "connection: close\r\n";
    } else {
        write!(head, "content-length: {claimed}\r\n").unwrap();
    }
    if let Some(to) = &file.redirect {
        write!(head, "location: {to}\r\n").unwrap();
    }
    if !etag.is_empty() {
        write!(head, "etag: {etag}\r\n").unwrap();
    }
    if status == 206 {
        let from = from + usize::from(trick == Trick::WrongRange);
        write!(
            head,
            "content-range: bytes {from}-{}/{whole}\r\n",
            to.max(1) - 1
        )
        .unwrap();
    }
    head += "\r\n";
    let sent = match trick {
        Trick::Cut(most) | Trick::Stall(most) => &body[..most.min(body.len())],
        _ => body,
    };
    let written =
        stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(sent).await.is_ok();
    match trick {
        Trick::Stall(_) => std::future::pending().await,
        Trick::Cut(_) | Trick::Claim(_) | Trick::NoLength => false,
        _ => written,
    }
}
