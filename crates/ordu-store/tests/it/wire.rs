//! A wire to PostgreSQL that can be cut without either end noticing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens until it is dropped.
pub(crate) struct Wire {
    /// The address of the database at the other end.
    pub(crate) url: String,
    is_up: Arc<AtomicBool>,
    _listening: JoinSet<()>,
}

impl Wire {
    pub(crate) async fn begin(url: &str) -> Self {
        let (_, target) = url.split_once('@').unwrap();
        let (target, _) = target.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let is_up = Arc::new(AtomicBool::new(true));
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, target.to_owned(), Arc::clone(&is_up)));
        Self {
            url: url.replace(target, &here),
            is_up,
            _listening: listening,
        }
    }

    /// From now on nothing comes through.
    pub(crate) fn cut(&self) {
        self.is_up.store(false, Ordering::SeqCst);
    }

    /// New connections come through again; those from before hang for ever.
    pub(crate) fn mend(&self) {
        self.is_up.store(true, Ordering::SeqCst);
    }
}

async fn listen(listener: TcpListener, target: String, is_up: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (target, is_up) = (target.clone(), Arc::clone(&is_up));
        connections.spawn(async move {
            let far = TcpStream::connect(target).await.unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::join!(
                carry(near_read, far_write, &is_up),
                carry(far_read, near_write, &is_up)
            );
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_up: &AtomicBool) {
    let mut piece = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if !is_up.load(Ordering::SeqCst) {
            // Whatever was sent into it never arrives.
            std::future::pending::<()>().await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            break;
        }
    }
}
