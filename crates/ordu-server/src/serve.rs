//! Taking connections: how many, how long their headers may be, and how long they may take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer as _;

use crate::app::MAX_CONNECTIONS;
use crate::unread::Unread;

/// The most headers of one request.
const MAX_HEADERS: usize = 100;

/// The most bytes that are read ahead, and with that the longest head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// How long to rest when the machine gives no more connections.
const BREATH: Duration = Duration::from_secs(1);

/// Serves connections until the shutdown begins, then until the last one ended.
///
/// A client has `patience` to send the head of a request, and to read some of an answer. When there are too many connections,
/// new ones wait in the machine's queue.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (ending, connections) = (GracefulShutdown::new(), TaskTracker::new());
    while let Some(next) = shutdown
        .run_until_cancelled(accept(&listener, &places))
        .await
    {
        let Some((stream, peer, place)) = next else {
            continue;
        };
        let service = Extension(ConnectInfo(peer)).layer(router.clone());
        let connection = builder
            .serve_connection(
                TokioIo::new(Unread::new(stream, patience)),
                TowerToHyperService::new(service),
            )
            .into_owned();
        let connection = ending.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
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
