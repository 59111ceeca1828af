//! A way between two programs that does something to what passes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// What it does.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Each piece takes so long, in both directions.
    Slow(Duration),
    /// Requests get this done to their heads. Each connection carries one.
    Edits(fn(&str) -> String),
    /// Bodies that are said to be larger than this are refused, as proxies do.
    Refuses(usize),
}

/// Passes on what comes to the address that is returned, until the test's process ends.
pub(crate) fn start(target: SocketAddr, manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // One side may be gone: then so is the other.
            thread::spawn(move || drop(pass(client, target, manner)));
        }
    });
    address
}

fn pass(mut client: TcpStream, target: SocketAddr, manner: Manner) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target)?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let pause = match manner {
        Manner::Slow(pause) => pause,
        Manner::Edits(edit) => {
            let (head, rest) = head(&mut client)?;
            let line = head.find("\r\n").map_or(head.len(), |end| end + 2);
            let (first, fields) = head.split_at(line);
            let edited = edit(fields);
            server.write_all(format!("{first}connection: close\r\n{edited}").as_bytes())?;
            server.write_all(&rest)?;
            Duration::ZERO
        }
        Manner::Refuses(most) => {
            let (head, rest) = head(&mut client)?;
            let lower = head.to_lowercase();
            let length = lower.split("content-length: ").nth(1);
            let length = length.and_then(|text| text.split("\r\n").next()?.parse().ok());
            if length.is_some_and(|length: usize| length > most) {
                let refusal =
                    b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                client.write_all(refusal)?;
                // Who is told off goes on talking for a while.
                std::io::copy(&mut client, &mut std::io::sink())?;
                return Ok(());
            }
            server.write_all(
                head.replacen("\r\n", "\r\nconnection: close\r\n", 1)
                    .as_bytes(),
            )?;
            server.write_all(&rest)?;
            Duration::ZERO
        }
    };
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    let upwards = thread::spawn(move || carry(&mut up, &mut server, pause));
    let carried = carry(&mut down, &mut client, pause);
    drop(upwards.join());
    carried
}

/// The head of a request with its empty line, and what came behind it.
pub(crate) fn head(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match client.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

fn carry(from: &mut TcpStream, to: &mut TcpStream, pause: Duration) -> std::io::Result<()> {
    let mut piece = [0; 16 << 10];
    loop {
        match from.read(&mut piece)? {
            0 => return to.shutdown(Shutdown::Write),
            count => {
                thread::sleep(pause);
                to.write_all(&piece[..count])?;
            }
        }
    }
}
