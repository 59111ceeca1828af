//! A server that answers nobody before so many have asked at the same time.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs until it is dropped.
pub struct Gate {
    pub url: String,
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Gate {
    /// Answers this to all, once `count` requests are open.
    pub async fn start(count: usize, body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, open) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (sender, body) = (sender.clone(), body.clone());
                connections.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await.unwrap_or_default() == 0 {
                            return;
                        }
                    }
                    sender.send_modify(|open| *open += 1);
                    let mut open = sender.subscribe();
                    open.wait_for(|open| *open >= count).await.unwrap();
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 200 -\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
                    );
                    stream.write_all(head.as_bytes()).await.ok();
                    stream.write_all(&body).await.ok();
                });
            }
        });
        Self {
            url,
            open,
            _tasks: tasks,
        }
    }

    /// How many have asked.
    pub fn asked(&self) -> usize {
        *self.open.borrow()
    }
}
