//! Taking connections: how many, how long their headers may be, and how long they may take.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer as _;
use tower::util::MapRequest;

use crate::load::Load;
use crate::unread::Unread;

/// The most headers of one request.
const MAX_HEADERS: usize = 100;

/// The most bytes that are read ahead, and with that the longest head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Connections that wait to be taken, as far as the machine lets so many (`net.core.somaxconn`). It drops
/// what comes on top, and its client tries again after a second: where hundreds come at once, as after a
/// start, the 128 of the standard library are too few.
const BACKLOG: u32 = 4096;

/// How long to rest when the machine gives no more connections.
const BREATH: Duration = Duration::from_secs(1);

/// Takes an address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Elsewhere it would let two programs share an address.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections until the shutdown begins, then until the last one ended.
///
/// A client has `patience` to send the head of a request, and to read some of an answer. When there are as
/// many connections as `load` allows, new ones wait in the machine's queue.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    load: Arc<Load>,
    patience: Duration,
    shutdown: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    let places = Arc::new(Semaphore::new(load.most().connections as usize));
    let (ending, connections) = (GracefulShutdown::new(), TaskTracker::new());
    while let Some(next) = shutdown
        .run_until_cancelled(accept(&listener, &places))
        .await
    {
        let Some((stream, peer, place)) = next else {
            continue;
        };
        let guest = load.doors.enter();
        let asking = Arc::clone(&guest);
        let service = Extension(ConnectInfo(peer)).layer(router.clone());
        let service = MapRequest::new(service, move |request| {
            asking.ask();
            request
        });
        let connection = builder
            .serve_connection(
                TokioIo::new(Unread::new(stream, patience)),
                TowerToHyperService::new(service),
            )
            .into_owned();
        let connection = ending.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                guest.note_failure(patience);
                tracing::debug!(error, "a connection ended badly");
            }
            drop(place);
        });
    }
    drop(listener);
    ending.shutdown().await;
    connections.close();
    connections.wait().await;
}

/// The next connection with its place; `None` when there was none after all.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are short; waiting for more of them only costs time.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended before it began");
            }
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "no connection can be taken at the moment");
            tokio::time::sleep(BREATH).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[tokio::test]
    async fn hundreds_may_come_at_once() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let allowed = allowed.ok().and_then(|text| text.trim().parse().ok());
        let many = allowed.unwrap_or(128).min(512);
        // Nobody takes them; one that is dropped takes a second at least.
        let soon = Duration::from_millis(900);
        let came: Result<Vec<_>, _> = (0..many)
            .map(|_| TcpStream::connect_timeout(&address, soon))
            .collect();
        assert_eq!(came.unwrap().len(), many);
    }
}
