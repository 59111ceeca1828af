//! The way to a database, which can become long or break.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes that are on their way in one direction of a connection.
const UNDERWAY: usize = 1024;

/// What the way is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weather {
    /// How long everything is on its way, in each direction.
    pub(crate) delay: Duration,
    /// Nothing arrives, and nobody is told, until it does again.
    pub(crate) silent: bool,
}

pub(crate) const FAIR: Weather = Weather {
    delay: Duration::ZERO,
    silent: false,
};

pub(crate) const SILENT: Weather = Weather {
    delay: Duration::ZERO,
    silent: true,
};

/// A port that leads somewhere else.
pub(crate) struct Link {
    pub(crate) port: u16,
    target: Arc<Mutex<SocketAddr>>,
    weather: watch::Sender<Weather>,
    connections: Arc<Mutex<JoinSet<()>>>,
    _listener: JoinSet<()>,
}

impl Link {
    pub(crate) async fn lead_to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(Mutex::new(target));
        let (weather, seen) = watch::channel(FAIR);
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let mut accepting = JoinSet::new();
        let (to, open) = (Arc::clone(&target), Arc::clone(&connections));
        accepting.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (to, seen) = (*to.lock().unwrap(), seen.clone());
                open.lock().unwrap().spawn(connect(near, to, seen));
            }
        });
        Self {
            port,
            target,
            weather,
            connections,
            _listener: accepting,
        }
    }

    /// Changes the weather for everything that is on its way and will be.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Leads elsewhere from now on, and drops every connection.
    pub(crate) fn redirect(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
        self.cut();
    }

    /// Drops every connection.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().abort_all();
    }
}

async fn connect(near: TcpStream, target: SocketAddr, weather: watch::Receiver<Weather>) {
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&near, &far] {
        stream.set_nodelay(true).ok();
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::select! {
        () = carry(near_in, far_out, weather.clone()) => (),
        () = carry(far_in, near_out, weather) => (),
    }
}

/// Carries bytes in one direction until an end closes.
async fn carry(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) {
    let (sender, mut underway) = mpsc::channel::<(Instant, Vec<u8>)>(UNDERWAY);
    let seen = weather.clone();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let arrives = Instant::now() + seen.borrow().delay;
            let piece = buffer[..count].to_vec();
            if sender.send((arrives, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((arrives, piece)) = underway.recv().await {
            sleep_until(arrives).await;
            if weather.wait_for(|weather| !weather.silent).await.is_err() {
                return;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
