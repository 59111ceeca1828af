//! Clients that are slow, or lie.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many of them.
const CROWD: usize = 200;

/// What is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Connected, and never says a word.
    Silent,
    /// Says its headers a letter at a time.
    Slow,
    /// Says headers without end.
    Giant,
    /// Promises a body that does not come.
    Promising,
    /// Says what is no HTTP at all.
    Garbled,
    /// Hangs up as soon as it has asked.
    Fickle,
}

/// All of them.
pub(crate) const MANNERS: [Manner; 6] = [
    Manner::Silent,
    Manner::Slow,
    Manner::Giant,
    Manner::Promising,
    Manner::Garbled,
    Manner::Fickle,
];

/// A crowd of them, until it is dropped.
pub(crate) fn crowd(manner: Manner, address: SocketAddr) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        crowd.spawn(async move {
            loop {
                // Whoever is shown the door comes again.
                behave(manner, address).await.ok();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    crowd
}

async fn behave(manner: Manner, address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    match manner {
        Manner::Silent => std::future::pending().await,
        Manner::Slow => {
            let said = b"GET /api/v2/status/heartbeat HTTP/1.1\r\nHost: here\r\nX-Slow: ";
            for letter in said.iter().chain(std::iter::repeat(&b'a')) {
                stream.write_all(&[*letter]).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        }
        Manner::Giant => {
            stream.write_all(b"GET / HTTP/1.1\r\nX-Giant: ").await?;
            loop {
                stream.write_all(&[b'a'; 4096]).await?;
            }
        }
        Manner::Promising => {
            let head =
                b"POST /api/v2/generate/async HTTP/1.1\r\nHost: here\r\napikey: 0000000000\r\n\
                Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{\"prompt\": \"";
            stream.write_all(head).await?;
            std::future::pending().await
        }
        Manner::Garbled => {
            stream
                .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0xff, 0x00])
                .await?;
            stream.write_all(&[0xff; 512]).await
        }
        Manner::Fickle => {
            stream
                .write_all(b"GET /api/v2/workers HTTP/1.1\r\nHost: here\r\n\r\n")
                .await
        }
    }
}
