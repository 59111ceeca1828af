//! A server that speaks Mastodon's API as far as bots need it, from its public documentation.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::relay::head;

/// The bot's token.
pub(crate) const TOKEN: &str = "s3cret-t0ken";

/// How long an answer may take, far longer than it does.
const PATIENCE: Duration = Duration::from_mins(2);

/// What was said, with the pictures that belong to it.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) body: Value,
    pub(crate) media: Vec<Media>,
}

/// What was uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Media {
    pub(crate) alt: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether somebody was told that it is not ready yet.
    looked: bool,
}

/// How the server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    Offered,
    Unknown,
}

#[derive(Default)]
struct State {
    notifications: Vec<Value>,
    media: BTreeMap<String, Media>,
    /// By idempotency key.
    said: BTreeMap<String, Said>,
    listening: Vec<Sender<()>>,
    /// So many posts of statuses fail from now on.
    failing: u32,
}

/// The server, until the test's process ends.
pub(crate) struct Fediverse {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    told: Receiver<Said>,
}

impl Fediverse {
    pub(crate) fn start(streams: Streams) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let (tell, told) = channel();
        let shared = Arc::clone(&state);
        let streaming = url.replacen("http", "ws", 1);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let desk = Desk {
                    state: Arc::clone(&shared),
                    tell: tell.clone(),
                    streams,
                    streaming: streaming.clone(),
                };
                // Who hangs up is answered no more.
                thread::spawn(move || drop(desk.serve(client)));
            }
        });
        Self { url, state, told }
    }

    /// Somebody mentions the bot; `change` is what is special about it.
    pub(crate) fn mention(&self, acct: &str, text: &str, change: &Value) {
        let mut state = lock(&self.state);
        let number = state.notifications.len() + 1;
        let mut notification = json!({
            "id": format!("{number:06}"),
            "type": "mention",
            "account": { "id": acct, "acct": acct, "bot": false },
            "status": {
                "id": format!("9{number:06}"),
                "content": format!("<p><span class=\"h-card\"><a href=\"x\">@<span>bot</span></a></span> {text}</p>"),
                "visibility": "public",
                "sensitive": false,
                "spoiler_text": "",
                "language": "en",
            },
        });
        for (path, value) in change.as_object().into_iter().flatten() {
            *notification.pointer_mut(path).unwrap() = value.clone();
        }
        state.notifications.push(notification);
        for listening in &state.listening {
            // It may have hung up.
            let _ = listening.send(());
        }
    }

    /// So many posts of statuses fail from now on.
    pub(crate) fn fail(&self, times: u32) {
        lock(&self.state).failing = times;
    }

    /// The next thing that is said.
    pub(crate) fn next(&self) -> Said {
        self.told
            .recv_timeout(PATIENCE)
            .expect("the bot says something")
    }

    /// How much was said so far.
    pub(crate) fn said(&self) -> usize {
        lock(&self.state).said.len()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

/// Who serves one connection.
struct Desk {
    state: Arc<Mutex<State>>,
    tell: Sender<Said>,
    streams: Streams,
    streaming: String,
}

impl Desk {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let (head, mut body) = head(&mut client)?;
        let field = |name: &str| {
            let lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
            let mut found = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_owned())
        };
        let length: usize = field("content-length").map_or(0, |it| it.parse().unwrap());
        let mut rest = vec![0; length - body.len().min(length)];
        client.read_exact(&mut rest)?;
        body.append(&mut rest);
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_known = field("authorization").as_deref() == Some(&format!("Bearer {TOKEN}"));
        if !is_known && path != "/api/v2/instance" {
            let error = json!({ "error": "The access token is invalid" });
            return answer(&mut client, 401, &error);
        }
        match (method, path) {
            ("GET", "/api/v1/streaming/user/notification") if self.streams == Streams::Offered => {
                self.stream(client)
            }
            ("POST", "/api/v1/statuses") => {
                let key = field("idempotency-key").expect("each reply has a key");
                let (status, told) = self.say(&key, &body);
                answer(&mut client, status, &told)
            }
            _ => {
                let (status, told) = self.answer((method, path, query), &body);
                answer(&mut client, status, &told)
            }
        }
    }

    fn answer(&self, (method, path, query): (&str, &str, &str), body: &[u8]) -> (u16, Value) {
        let mut state = lock(&self.state);
        match (method, path) {
            ("GET", "/api/v1/accounts/verify_credentials") => {
                (200, json!({ "id": "1", "acct": "bot", "bot": true }))
            }
            ("GET", "/api/v2/instance") => (
                200,
                json!({ "configuration": { "urls": { "streaming": self.streaming } } }),
            ),
            ("GET", "/api/v1/notifications") => {
                assert!(query.contains("types%5B%5D=mention"), "{query}");
                let of = |name: &str| {
                    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                    let mut found = pairs.filter(|(key, _)| *key == name);
                    found.next().map(|(_, value)| value.to_owned())
                };
                let limit: usize = of("limit").unwrap().parse().unwrap();
                let all = state.notifications.iter();
                // The newest first; with `min_id` those that follow it at once.
                let page: Vec<_> = match of("min_id") {
                    Some(since) => {
                        let newer = all.filter(|it| it["id"].as_str() > Some(since.as_str()));
                        let mut page: Vec<_> = newer.take(limit).cloned().collect();
                        page.reverse();
                        page
                    }
                    None => all.rev().take(limit).cloned().collect(),
                };
                (200, Value::Array(page))
            }
            ("POST", "/api/v2/media") => {
                let id = format!("{}", state.media.len() + 1);
                state.media.insert(id.clone(), media(body));
                (202, json!({ "id": id, "url": null }))
            }
            ("GET", path) if path.starts_with("/api/v1/media/") => {
                let id = path.rsplit('/').next().unwrap();
                let media = state.media.get_mut(id).unwrap();
                let status = if std::mem::replace(&mut media.looked, true) {
                    200
                } else {
                    206
                };
                (status, json!({ "id": id }))
            }
            _ => (404, json!({ "error": "Record not found" })),
        }
    }

    fn say(&self, key: &str, body: &[u8]) -> (u16, Value) {
        let mut state = lock(&self.state);
        if state.failing > 0 {
            state.failing -= 1;
            return (503, json!({ "error": "Remote data could not be fetched" }));
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        let ids = body["media_ids"].as_array().into_iter().flatten();
        let media = ids.map(|id| state.media[id.as_str().unwrap()].clone());
        let said = Said {
            media: media.collect(),
            body,
        };
        if !state.said.contains_key(key) {
            state.said.insert(key.to_owned(), said.clone());
            self.tell.send(said).unwrap();
        }
        (200, json!({ "id": key }))
    }

    fn stream(&self, mut client: TcpStream) -> std::io::Result<()> {
        let (sender, happens) = channel();
        lock(&self.state).listening.push(sender);
        client.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n:)\n\n")?;
        while happens.recv().is_ok() {
            client.write_all(b"event: notification\ndata: {}\n\n")?;
        }
        Ok(())
    }
}

fn answer(client: &mut TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The parts of a form.
fn media(body: &[u8]) -> Media {
    let text = String::from_utf8_lossy(body);
    let boundary = text.split("\r\n").next().unwrap().to_owned();
    let after = |mark: &str| {
        let mark = mark.as_bytes();
        let found = body.windows(mark.len()).position(|it| it == mark);
        &body[found.unwrap() + mark.len()..]
    };
    let until = |part: &[u8]| {
        let end = format!("\r\n{boundary}");
        let found = part.windows(end.len()).position(|it| it == end.as_bytes());
        part[..found.unwrap()].to_vec()
    };
    let alt = until(after("name=\"description\"\r\n\r\n"));
    Media {
        alt: String::from_utf8(alt).unwrap(),
        bytes: until(after("Content-Type: image/webp\r\n\r\n")),
        looked: false,
    }
}
