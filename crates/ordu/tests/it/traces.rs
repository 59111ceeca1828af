//! Traces reach a collector, hold what they should, and nothing that they should not.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::program::{Running, ordu, run, text};
use crate::relay::head;

/// How long a parcel may take, far longer than it does.
const PATIENCE: Duration = Duration::from_mins(1);

/// A collector that takes everything; until the test's process ends.
struct Collector {
    url: String,
    parcels: Receiver<(String, Vec<u8>)>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, parcels) = channel();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                thread::spawn(move || {
                    if let Ok(parcel) = take(client) {
                        // The test may have seen enough.
                        let _ = tell.send(parcel);
                    }
                });
            }
        });
        Self { url, parcels }
    }

    /// All that came until the sender ended.
    fn parcels(&self) -> Vec<(String, Vec<u8>)> {
        let mut parcels = vec![self.parcels.recv_timeout(PATIENCE).expect("a parcel")];
        parcels.extend(self.parcels.try_iter());
        parcels
    }
}

/// One parcel: the head and the body of a request.
fn take(mut client: TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let (head, mut body) = head(&mut client)?;
    let lower = head.to_ascii_lowercase();
    let length = lower
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    let mut rest = vec![0; length.saturating_sub(body.len())];
    client.read_exact(&mut rest)?;
    body.append(&mut rest);
    client.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
    Ok((head, body))
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn a_collector_is_told_where_time_goes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let server = Running::start(folder.path(), &["serve", "--otlp", &collector.url]);
    let arguments = ["write", "a secret wish", "--horde", &server.url];
    let refused = run(
        folder.path(),
        &[&arguments[..], &["--timeout", "1"]].concat(),
    );
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    assert_eq!(server.terminate(), Some(0));
    let parcels = collector.parcels();
    for (head, _) in &parcels {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
        assert!(head.contains("application/x-protobuf"), "{head}");
    }
    let told = parcels.iter().flat_map(|(_, body)| body.clone());
    let told: Vec<u8> = told.collect();
    for expected in [
        "service.name",
        "POST /api/v2/generate/text/async",
        "http.response.status_code",
        "commit",
        "statement",
        "request.id",
    ] {
        assert!(holds(&told, expected), "{expected}");
    }
    for secret in ["a secret wish", "0000000000", "127.0.0.1"] {
        assert!(!holds(&told, secret), "{secret}");
    }
}

#[test]
fn a_horde_does_without_its_collector_and_tells_no_share_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let server = Running::start(folder.path(), &["serve", "--otlp", &nobody]);
    let status = run(folder.path(), &["status", "--horde", &server.url]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    assert_eq!(server.terminate(), Some(0));

    let collector = Collector::start();
    let share = ["serve", "--otlp", &collector.url, "--otlp-share", "0"];
    let server = Running::start(folder.path(), &share);
    let status = run(folder.path(), &["status", "--horde", &server.url]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    assert_eq!(server.terminate(), Some(0));
    assert!(collector.parcels.try_recv().is_err());
}

#[test]
fn what_cannot_be_a_collector_or_a_share_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, complaint) in [
        (["--otlp", "nonsense"], "--otlp"),
        (["--otlp", "ftp://127.0.0.1"], "ftp"),
        (["--otlp-share", "1.5"], "no number from 0 to 1"),
        (["--otlp-share", "NaN"], "no number from 0 to 1"),
    ] {
        let output = ordu(folder.path())
            .arg("serve")
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
}
