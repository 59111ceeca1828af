//! What ComfyUI tells over its WebSocket while it works.
//!
//! # Source
//! ComfyUI, "Messages" (docs.comfy.org).

use futures::StreamExt as _;
use image::RgbImage;
use reqwest::Url;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::client;

/// Kinds of binary messages: a picture, and a picture behind a text that tells about it.
const PREVIEW: u32 = 1;
const PREVIEW_WITH_METADATA: u32 = 4;

/// The most memory that decoding a rough picture may take, in bytes.
const MAX_PREVIEW: u64 = 64 << 20;

/// Something that was told.
#[derive(Debug)]
pub(super) enum Told {
    /// A node of this graph has started.
    Executing { graph: String },
    /// A node is so far.
    Progress {
        graph: String,
        node: String,
        value: u32,
    },
    /// A rough picture of what is being drawn.
    Preview(RgbImage),
    /// The graph is done.
    Done { graph: String },
    /// The graph failed, for this reason.
    Failed { graph: String, reason: String },
    /// Nothing of interest.
    Other,
}

/// An open WebSocket.
pub(super) struct Watch(WebSocketStream<TcpStream>);

impl Watch {
    /// Opens it. `None` if that does not work: then the history has to be asked.
    pub(super) async fn open(base: &Url, client: &str) -> Option<Self> {
        if base.scheme() != "http" {
            return None;
        }
        let (host, port) = (base.host_str()?, base.port_or_known_default()?);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await.ok()?;
        let url = format!("ws://{host}:{port}{}ws?clientId={client}", base.path());
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
        Some(Self(socket))
    }

    /// The next message; `None` when the socket is closed. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Told> {
        match self.0.next().await?.ok()? {
            Message::Text(text) => Some(read_text(&text)),
            Message::Binary(bytes) => Some(read_binary(&bytes)),
            Message::Close(_) => None,
            _ => Some(Told::Other),
        }
    }
}

fn read_text(text: &str) -> Told {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    let Some((kind, data)) = message.get("type").zip(message.get("data")) else {
        return Told::Other;
    };
    let word = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
    let graph = word("prompt_id").unwrap_or_default();
    match kind.as_str().unwrap_or_default() {
        "executing" if data.get("node").is_some_and(Value::is_null) => Told::Done { graph },
        "execution_success" => Told::Done { graph },
        "executing" | "execution_start" | "execution_cached" | "executed" => {
            Told::Executing { graph }
        }
        "progress" => match data.get("value").and_then(Value::as_u64) {
            Some(value) => Told::Progress {
                graph,
                node: word("node").unwrap_or_default(),
                value: u32::try_from(value).unwrap_or(u32::MAX),
            },
            None => Told::Other,
        },
        "execution_error" => Told::Failed {
            graph,
            reason: failure(data),
        },
        "execution_interrupted" => Told::Failed {
            graph,
            reason: "somebody interrupted it".to_owned(),
        },
        _ => Told::Other,
    }
}

/// What an error message says.
pub(super) fn failure(data: &Value) -> String {
    let word = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or("?").trim();
    let (node, kind, what) = (
        word("node_type"),
        word("exception_type"),
        word("exception_message"),
    );
    client::quote(format!("node `{node}`: {kind}: {what}").as_bytes())
}

fn read_binary(bytes: &[u8]) -> Told {
    let preview = || {
        let (kind, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let picture = match u32::from_be_bytes(*kind) {
            PREVIEW => rest,
            PREVIEW_WITH_METADATA => {
                rest.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)?
            }
            _ => return None,
        };
        client::decode(picture, MAX_PREVIEW)
    };
    preview().map_or(Told::Other, |picture| Told::Preview(picture.to_rgb8()))
}

/// Whether bytes are a message that means something.
#[cfg(any(test, fuzzing))]
pub(super) fn is_read(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).map_or(Told::Other, read_text);
    let is_other = |told: &Told| matches!(told, Told::Other);
    !is_other(&text) || !is_other(&read_binary(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_of_no_interest() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"type":"progress","data":{}}"#,
            r#"{"type":1,"data":2}"#,
        ] {
            assert!(matches!(read_text(text), Told::Other), "{text}");
        }
        for bytes in [
            &[][..],
            &[0, 0, 0, 1],
            &[0, 0, 0, 1, 0, 0, 0, 1, 9],
            &[0, 0, 0, 4, 255, 255, 255, 255],
        ] {
            assert!(matches!(read_binary(bytes), Told::Other));
        }
    }
}
