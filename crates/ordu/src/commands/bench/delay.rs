//! A way to a database that takes time in both directions, and lets as much through as the direct one.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Pieces that are under way in one direction at most.
const UNDER_WAY: usize = 10_000;

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Delay {
    /// Where the far database is reached.
    pub(crate) url: String,
    _ways: JoinSet<()>,
}

impl Delay {
    /// Makes the database at `url` as far away as there and back takes `round_trip`.
    pub(crate) async fn begin(url: &str, round_trip: Duration) -> Result<Self> {
        let mut far = url::Url::parse(url).context("the database has no address")?;
        let host = far.host_str().context("the database has no host")?;
        let target = format!("{host}:{}", far.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let here = listener.local_addr()?;
        let moved =
            far.set_host(Some("127.0.0.1")).is_ok() && far.set_port(Some(here.port())).is_ok();
        anyhow::ensure!(moved, "the address of the database cannot be changed");
        let mut ways = JoinSet::new();
        ways.spawn(listen(listener, target, round_trip / 2));
        Ok(Self {
            url: far.into(),
            _ways: ways,
        })
    }
}

async fn listen(listener: TcpListener, target: String, delay: Duration) {
    let mut ways = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while ways.try_join_next().is_some() {}
        let target = target.clone();
        ways.spawn(async move {
            if let Ok(far) = TcpStream::connect(target).await {
                join(near, far, delay).await;
            }
        });
    }
}

async fn join(near: TcpStream, far: TcpStream, delay: Duration) {
    // Small pieces must not wait for each other on top of it.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(
        carry(near_read, far_write, delay),
        carry(far_read, near_write, delay)
    );
}

/// Carries bytes, each so much later than it came.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let take = async move {
        let mut piece = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let bytes = piece.get(..length).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, bytes)).await.is_err() {
                break;
            }
        }
    };
    let give = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(take, give);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_take_their_time_and_arrive_as_they_were() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://me@{}/db?x=y", echo.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (stream, _) = echo.accept().await.unwrap();
            let (mut read, mut write) = stream.into_split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let delay = Delay::begin(&url, Duration::from_millis(20)).await.unwrap();
        let far = url::Url::parse(&delay.url).unwrap();
        assert_eq!(
            (far.path(), far.query(), far.username()),
            ("/db", Some("x=y"), "me")
        );
        let address = ("127.0.0.1", far.port().unwrap());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let begun = Instant::now();
        stream.write_all(b"there and back").await.unwrap();
        let mut heard = [0; 14];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"there and back");
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
