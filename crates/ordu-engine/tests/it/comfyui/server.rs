//! A server with ComfyUI's routes and messages. It draws grey, but refuses what ComfyUI would refuse.

use std::collections::BTreeMap;

use std::sync::{Arc, Mutex, MutexGuard};

use futures::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use image::{DynamicImage, ImageFormat};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::validate::{Checker, Shape};

/// What to do with the next graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Draw.
    #[default]
    Draw,
    /// Draw, but open no WebSocket.
    NoSocket,
    /// Close the WebSocket after the first step, then draw.
    DropSocket,
    /// Take one step and then nothing, until interrupted.
    Hang,
    /// Take one step and die.
    Die,
    /// Fail in the middle.
    Fail,
    /// Fail for want of memory.
    OutOfMemory,
    /// Draw what was uploaded last.
    Copy,
    /// Draw half as wide.
    WrongSize,
    /// Say that it is done without a picture.
    NoPicture,
    /// Hand out bytes that are no picture.
    JunkPicture,
    /// Answer the history with something else.
    JunkHistory,
    /// Answer a graph with something else.
    JunkPrompt,
}

#[derive(Default)]
pub(crate) struct State {
    plan: Plan,
    info: Value,
    /// Learned words; without it, it does not know the question.
    pub(crate) embeddings: Option<Vec<String>>,
    uploads: BTreeMap<String, (u32, u32)>,
    uploaded_last: Vec<u8>,
    pictures: BTreeMap<String, Vec<u8>>,
    sockets: BTreeMap<String, mpsc::UnboundedSender<Message>>,
    pub(crate) history: BTreeMap<String, Value>,
    pub(crate) running: Option<String>,
    pub(crate) graphs: Vec<Value>,
    /// What was posted, in its order: path and body.
    pub(crate) posted: Vec<(String, Value)>,
    is_dead: bool,
}

/// A running server. Dropped with its runtime.
#[derive(Clone)]
pub(crate) struct Comfy {
    port: u16,
    state: Arc<Mutex<State>>,
    interrupted: watch::Sender<u32>,
    handle: Handle,
}

type Answer = Response<Full<Bytes>>;

impl Comfy {
    pub(crate) fn start(runtime: &Runtime, info: Value) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let comfy = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(State {
                info,
                ..State::default()
            })),
            interrupted: watch::Sender::new(0),
            handle: runtime.handle().clone(),
        };
        let serving = comfy.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let comfy = serving.clone();
                let handle = comfy.handle.clone();
                if comfy.state().is_dead {
                    continue;
                }
                handle.spawn(async move {
                    let service = service_fn(|request| comfy.answer(request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    drop(connection.await);
                });
            }
        });
        comfy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn plan(&self, plan: Plan) {
        self.state().plan = plan;
    }

    pub(crate) fn set_info(&self, info: Value) {
        self.state().info = info;
    }

    /// From now on nobody answers, or somebody does again.
    pub(crate) fn set_dead(&self, is_dead: bool) {
        let mut state = self.state();
        state.is_dead = is_dead;
        state.sockets.clear();
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Result<Answer, std::io::Error> {
        if self.state().is_dead {
            return Err(std::io::Error::other("dead"));
        }
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        if path == "/ws" {
            return Ok(self.open_socket(&mut request, &query));
        }
        let method = request.method().clone();
        let kind = request.headers().get("content-type").cloned();
        let body = request
            .into_body()
            .collect()
            .await
            .map_err(std::io::Error::other)?
            .to_bytes();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        Ok(match (method, parts.as_slice()) {
            (Method::GET, ["system_stats"]) => json_answer(&json!({
                "system": {"comfyui_version": "0.3.60"},
                "devices": [{"name": "cuda:0 Test", "vram_total": 1 << 30}],
            })),
            (Method::GET, ["object_info"]) => json_answer(&self.state().info.clone()),
            (Method::GET, ["embeddings"]) => match &self.state().embeddings {
                Some(words) => json_answer(&json!(words)),
                None => status(StatusCode::NOT_FOUND),
            },
            (Method::GET, ["view_metadata", _]) if query.contains("somebody") => {
                json_answer(&json!({"modelspec.architecture": "stable-diffusion-xl-v1-base"}))
            }
            (Method::POST, ["upload", "image"]) => {
                self.upload(kind.unwrap().to_str().unwrap(), &body)
            }
            (Method::GET, ["history", id]) => self.show_history(id),
            (Method::GET, ["queue"]) => {
                let running: Vec<Value> = self
                    .state()
                    .running
                    .iter()
                    .map(|id| json!([0, id]))
                    .collect();
                json_answer(&json!({"queue_running": running, "queue_pending": []}))
            }
            (Method::GET, ["view"]) => self.view(&query),
            (Method::POST, ["prompt"]) => self.queue(&serde_json::from_slice(&body).unwrap()),
            (Method::POST, [route @ ("history" | "queue" | "interrupt" | "free")]) => {
                self.note(route, serde_json::from_slice(&body).unwrap());
                json_answer(&json!({}))
            }
            _ => status(StatusCode::NOT_FOUND),
        })
    }

    fn open_socket(&self, request: &mut Request<Incoming>, query: &str) -> Answer {
        if self.state().plan == Plan::NoSocket {
            return status(StatusCode::NOT_FOUND);
        }
        let key = request.headers().get("sec-websocket-key").unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let client = query.strip_prefix("clientId=").unwrap().to_owned();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        self.state().sockets.insert(client.clone(), sender.clone());
        sender
            .send(text(&json!({"type": "status", "data": {"sid": client}})))
            .unwrap();
        let upgrade = hyper::upgrade::on(request);
        self.handle.spawn(async move {
            let io = TokioIo::new(upgrade.await.unwrap());
            let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            loop {
                tokio::select! {
                    message = receiver.recv() => match message {
                        Some(message) => if socket.send(message).await.is_err() { break },
                        None => break,
                    },
                    heard = socket.next() => if !matches!(heard, Some(Ok(_))) { break },
                }
            }
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", accept)
            .body(Full::default())
            .unwrap()
    }

    /// Reads the form that a browser would send.
    fn upload(&self, kind: &str, body: &[u8]) -> Answer {
        let boundary = kind.split_once("boundary=").unwrap().1;
        let mut fields = BTreeMap::new();
        let mut filename = String::new();
        let marker = format!("--{boundary}");
        for part in split(body, marker.as_bytes()) {
            let Some(end) = part.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&part[..end]).into_owned();
            let value = part[end + 4..].strip_suffix(b"\r\n").unwrap().to_vec();
            let quoted = |key: &str| {
                head.split_once(key)
                    .map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
            };
            fields.insert(quoted("; name=\"").unwrap(), value);
            filename = quoted("filename=\"").unwrap_or(filename);
        }
        let picture = image::load_from_memory(&fields["image"]).unwrap();
        assert_eq!(fields["overwrite"], b"true");
        let mut state = self.state();
        state.uploaded_last.clone_from(&fields["image"]);
        drop(state);
        let field = |key: &str| String::from_utf8(fields[key].clone()).unwrap();
        let (kind, folder) = (field("type"), field("subfolder"));
        let name = format!("{folder}/{filename} [{kind}]");
        self.state()
            .uploads
            .insert(name, (picture.width(), picture.height()));
        json_answer(&json!({"name": filename, "subfolder": folder, "type": kind}))
    }

    fn queue(&self, body: &Value) -> Answer {
        let graph = body["prompt"].as_object().unwrap().clone();
        let client = body["client_id"].as_str().unwrap().to_owned();
        let mut state = self.state();
        state.graphs.push(body["prompt"].clone());
        if state.plan == Plan::JunkPrompt {
            return json_answer(&json!({"number": 1}));
        }
        let (errors, result) = {
            let checker = Checker {
                info: &state.info,
                uploads: &state.uploads,
                graph: &graph,
            };
            let errors = checker.errors();
            let result = if errors.is_empty() {
                checker.result()
            } else {
                None
            };
            (errors, result.map(|(id, shape)| (id.clone(), shape)))
        };
        let Some((result, shape)) = result else {
            let error = json!({"type": "prompt_outputs_failed_validation",
                "message": "Prompt outputs failed validation", "details": ""});
            let mut answer = json_answer(&json!({"error": error, "node_errors": errors}));
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        };
        let id = format!("graph-{}", state.graphs.len());
        state.running = Some(id.clone());
        drop(state);
        let comfy = self.clone();
        let work = Work {
            id: id.clone(),
            client,
            result,
            shape,
            graph,
        };
        self.handle.spawn(async move { comfy.execute(work).await });
        json_answer(&json!({"prompt_id": id, "number": 1, "node_errors": {}}))
    }

    fn tell(&self, client: &str, message: Message) {
        if let Some(socket) = self.state().sockets.get(client) {
            drop(socket.send(message));
        }
    }

    async fn execute(&self, work: Work) {
        let plan = self.state().plan;
        let Work { id, client, .. } = &work;
        let tell = |kind: &str, data: Value| {
            let mut data = data;
            data["prompt_id"] = json!(id);
            self.tell(client, text(&json!({"type": kind, "data": data})));
        };
        tell("execution_start", json!({}));
        let mut interrupted = self.interrupted.subscribe();
        for (node, steps) in work.samplers() {
            tell("executing", json!({"node": node}));
            for step in 1..=steps {
                self.tell(client, preview());
                tell(
                    "progress",
                    json!({"node": node, "value": step, "max": steps}),
                );
                match plan {
                    Plan::DropSocket => drop(self.state().sockets.remove(client)),
                    Plan::Die => return self.set_dead(true),
                    Plan::Hang => {
                        interrupted.changed().await.unwrap();
                        self.state().running = None;
                        return tell("execution_interrupted", json!({"node_id": node}));
                    }
                    Plan::Fail | Plan::OutOfMemory => return self.fail(&work, &node, plan),
                    _ => {}
                }
            }
        }
        let images = self.draw(&work, plan);
        let entry = match plan {
            Plan::JunkHistory => json!({"outputs": [1, 2], "status": "?"}),
            _ => json!({
                "outputs": {&work.result: {"images": images}},
                "status": {"status_str": "success", "completed": true, "messages": []},
            }),
        };
        let mut state = self.state();
        state.history.insert(id.clone(), entry);
        state.running = None;
        drop(state);
        tell(
            "executed",
            json!({"node": work.result, "output": {"images": images}}),
        );
        tell("execution_success", json!({}));
        tell("executing", json!({"node": null}));
    }

    fn fail(&self, work: &Work, node: &str, plan: Plan) {
        let what = match plan {
            Plan::OutOfMemory => ("torch.OutOfMemoryError", "CUDA out of memory"),
            _ => ("ValueError", "the cat sat on the card"),
        };
        let mut data = json!({"node_id": node, "node_type": "KSampler", "exception_type": what.0,
            "exception_message": what.1, "prompt_id": work.id});
        let status = json!({"status_str": "error", "completed": false, "messages": [["execution_error", data]]});
        let mut state = self.state();
        state
            .history
            .insert(work.id.clone(), json!({"outputs": {}, "status": status}));
        state.running = None;
        drop(state);
        data["traceback"] = json!([]);
        self.tell(
            &work.client,
            text(&json!({"type": "execution_error", "data": data})),
        );
    }

    /// Draws what the graph comes to, and lists it as the history does.
    fn draw(&self, work: &Work, plan: Plan) -> Vec<Value> {
        let Shape {
            width,
            height,
            batch,
            has_alpha,
        } = work.shape;
        let count = if plan == Plan::NoPicture { 0 } else { batch };
        let width = if plan == Plan::WrongSize {
            width / 2
        } else {
            width
        };
        let image = if has_alpha {
            DynamicImage::new_rgba8(width, height)
        } else {
            DynamicImage::new_rgb8(width, height)
        };
        let bytes = match plan {
            Plan::JunkPicture => b"junk".to_vec(),
            Plan::Copy => self.state().uploaded_last.clone(),
            _ => png(&image),
        };
        let mut listed = Vec::new();
        for place in 0..count {
            let name = format!("{}_{place}.png", work.id);
            self.state().pictures.insert(name.clone(), bytes.clone());
            listed.push(json!({"filename": name, "subfolder": "", "type": "temp"}));
        }
        listed
    }

    fn show_history(&self, id: &str) -> Answer {
        match self.state().history.get(id) {
            Some(entry) => json_answer(&json!({id: entry})),
            None => json_answer(&json!({})),
        }
    }

    fn view(&self, query: &str) -> Answer {
        assert!(query.ends_with("subfolder=&type=temp"), "{query}");
        let name = query
            .strip_prefix("filename=")
            .unwrap()
            .split('&')
            .next()
            .unwrap();
        match self.state().pictures.get(name) {
            Some(bytes) => Response::new(Full::from(bytes.clone())),
            None => status(StatusCode::NOT_FOUND),
        }
    }

    fn note(&self, route: &str, body: Value) {
        if route == "interrupt" {
            self.interrupted.send_modify(|count| *count += 1);
        }
        let mut state = self.state();
        if route == "history" {
            for id in body["delete"].as_array().into_iter().flatten() {
                state.history.remove(id.as_str().unwrap());
            }
        }
        state.posted.push((route.to_owned(), body));
    }
}

/// A graph that is being drawn.
struct Work {
    id: String,
    client: String,
    result: String,
    shape: Shape,
    graph: serde_json::Map<String, Value>,
}

impl Work {
    /// The nodes that sample, in their order, and how many steps they take.
    fn samplers(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for (id, node) in &self.graph {
            let inputs = &node["inputs"];
            let steps = match node["class_type"].as_str().unwrap() {
                "KSampler" => inputs["steps"].as_u64().unwrap(),
                "KSamplerAdvanced" => {
                    let number = |name: &str| inputs[name].as_u64().unwrap();
                    number("end_at_step").min(number("steps")) - number("start_at_step")
                }
                "SamplerCustomAdvanced" => {
                    let sigmas = inputs["sigmas"][0].as_str().unwrap();
                    self.graph[sigmas]["inputs"]["steps"].as_u64().unwrap()
                }
                _ => continue,
            };
            found.push((id.clone(), steps));
        }
        found.sort_by_key(|(id, _)| id.parse::<u32>().unwrap());
        found
    }
}

fn split<'a>(body: &'a [u8], marker: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in 0..body.len().saturating_sub(marker.len() - 1) {
        if body[at..].starts_with(marker) {
            parts.push(&body[start..at]);
            start = at + marker.len();
        }
    }
    parts
}

pub(crate) fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A picture of 8 by 8 pixels behind the head of a preview.
fn preview() -> Message {
    let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 2];
    bytes.extend(png(&DynamicImage::new_rgb8(8, 8)));
    Message::binary(bytes)
}

fn text(message: &Value) -> Message {
    Message::text(message.to_string())
}

fn json_answer(body: &Value) -> Answer {
    Response::new(Full::from(body.to_string()))
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}
