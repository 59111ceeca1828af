//! A wire to a database that takes time in both directions, and lets as much through as the direct one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

/// How much of the lateness of a piece the next ones are sent earlier.
const CORRECTED: i64 = 64;

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Delay {
    /// Where the far database is reached.
    pub(crate) url: String,
    wire: Arc<Wire>,
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
        let wire = Arc::new(Wire {
            there: Direction::new(round_trip / 2),
            back: Direction::new(round_trip / 2),
        });
        let mut ways = JoinSet::new();
        ways.spawn(listen(listener, target, Arc::clone(&wire)));
        Ok(Self {
            url: far.into(),
            wire,
            _ways: ways,
        })
    }

    /// What there and back took so far, in the mean; `None` if nothing came through.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        Some(self.wire.there.mean()? + self.wire.back.mean()?)
    }
}

/// Both directions.
#[derive(Debug)]
struct Wire {
    there: Direction,
    back: Direction,
}

/// One direction, of all connections. Timers fire late, and on busy processors later: what comes next is
/// sent earlier by that, so that it is right in the mean.
#[derive(Debug)]
struct Direction {
    delay: Duration,
    /// Nanoseconds.
    earlier: AtomicI64,
    pieces: AtomicI64,
    /// Nanoseconds that all of them took.
    taken: AtomicI64,
}

impl Direction {
    const fn new(delay: Duration) -> Self {
        Self {
            delay,
            earlier: AtomicI64::new(0),
            pieces: AtomicI64::new(0),
            taken: AtomicI64::new(0),
        }
    }

    fn due(&self, came: Instant) -> Instant {
        let earlier = u64::try_from(self.earlier.load(Ordering::Relaxed)).unwrap_or_default();
        came + self.delay.saturating_sub(Duration::from_nanos(earlier))
    }

    fn note(&self, taken: Duration) {
        let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let late = nanoseconds(taken) - nanoseconds(self.delay);
        // What came after a standstill would cross in no time otherwise.
        let most = nanoseconds(self.delay / 2);
        let correct = |earlier: i64| Some((earlier + late / CORRECTED).clamp(0, most));
        let relaxed = Ordering::Relaxed;
        let _ = self.earlier.fetch_update(relaxed, relaxed, correct);
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(nanoseconds(taken), Ordering::Relaxed);
    }

    fn mean(&self) -> Option<Duration> {
        let [taken, pieces] = [&self.taken, &self.pieces].map(|sum| sum.load(Ordering::Relaxed));
        let mean = taken.checked_div(pieces)?;
        Some(Duration::from_nanos(
            u64::try_from(mean).unwrap_or_default(),
        ))
    }
}

async fn listen(listener: TcpListener, target: String, wire: Arc<Wire>) {
    let mut ways = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while ways.try_join_next().is_some() {}
        let (target, wire) = (target.clone(), Arc::clone(&wire));
        ways.spawn(async move {
            if let Ok(far) = TcpStream::connect(target).await {
                join(near, far, &wire).await;
            }
        });
    }
}

async fn join(near: TcpStream, far: TcpStream, wire: &Wire) {
    // Small pieces must not wait for each other on top of it.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(
        carry(near_read, far_write, &wire.there),
        carry(far_read, near_write, &wire.back)
    );
}

/// Carries bytes, each so much later than it came.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: &Direction) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let take = async move {
        let mut piece = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let bytes = piece.get(..length).unwrap_or_default().to_vec();
            if sender.send((Instant::now(), bytes)).await.is_err() {
                break;
            }
        }
    };
    let give = async move {
        while let Some((came, bytes)) = under_way.recv().await {
            if !direction.delay.is_zero() {
                sleep_until(direction.due(came)).await;
            }
            direction.note(came.elapsed());
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

    #[test]
    fn who_is_late_is_sent_earlier() {
        let ms = Duration::from_millis;
        let direction = Direction::new(ms(10));
        assert_eq!(direction.mean(), None);
        let came = Instant::now();
        assert_eq!(direction.due(came), came + ms(10));
        // A machine on which everything takes 2 ms more than it was told.
        for _ in 0..1_000 {
            let told = direction.due(came) - came;
            direction.note(told + ms(2));
        }
        let told = direction.due(came) - came;
        assert!(told.abs_diff(ms(8)) < Duration::from_micros(1), "{told:?}");
        let mean = direction.mean().unwrap();
        assert!(
            mean.abs_diff(ms(10)) < Duration::from_micros(200),
            "{mean:?}"
        );
    }

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
        assert!(delay.round_trip().unwrap() >= Duration::from_millis(20));
    }
}
