//! What the system grants: open files, and the port to listen on.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::finding::{Finding, Level};
use crate::commands::files;

/// So many connections a server takes, and files beside them.
const WANTED_FILES: u64 = 10_000 + 200;

/// With fewer a horde of a few dozen clients already runs into the limit.
const LEAST_FILES: u64 = 1024;

/// How many files this process may open; a server that is started alike asks for as many.
pub(super) fn files() -> Finding {
    match files::raise() {
        None => Finding::fine("files", "any number may be open"),
        Some(limit) => judge_files(limit),
    }
}

fn judge_files(limit: u64) -> Finding {
    let found = format!("{limit} may be open, and so many connections and files together");
    if limit >= WANTED_FILES {
        return Finding::fine("files", found);
    }
    let mend = format!(
        "a full server takes 10,000 connections: `LimitNOFILE=65536` for systemd, `ulimit -n {WANTED_FILES}` \
         in a shell, `--ulimit nofile=65536` for containers"
    );
    let level = if limit < LEAST_FILES {
        Level::Wrong
    } else {
        Level::Warning
    };
    Finding::wrong("files", found, mend).at(level)
}

/// Whether the server could listen, or does.
pub(super) fn port(listen: SocketAddr, is_served: bool) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) if is_served => Finding::fine(
            "port",
            format!("{listen} is free: the server listens elsewhere"),
        ),
        Ok(_) => Finding::fine("port", format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_served => Finding::fine(
            "port",
            format!("{listen} is taken, and the folder's server runs"),
        ),
        Err(error) => {
            let mend = match error.kind() {
                ErrorKind::AddrInUse => {
                    "another program listens there (`ss -ltnp` tells which): end it, or give `--listen`"
                }
                ErrorKind::AddrNotAvailable => "this machine has no such address: give `--listen`",
                ErrorKind::PermissionDenied => {
                    "ports below 1024 need the right to: let a proxy listen there, or give \
                     `AmbientCapabilities=CAP_NET_BIND_SERVICE`"
                }
                _ => "give another address with `--listen`",
            };
            let found = format!("cannot listen on {listen}: {error}");
            Finding::wrong("port", found, mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_judged_by_what_a_server_takes() {
        for (limit, level) in [
            (256, Level::Wrong),
            (1023, Level::Wrong),
            (1024, Level::Warning),
            (10_199, Level::Warning),
            (10_200, Level::Fine),
        ] {
            assert_eq!(judge_files(limit).level, level, "{limit}");
        }
    }

    #[test]
    fn a_taken_port_is_wrong_unless_the_server_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(port(address, false).level, Level::Wrong);
        assert_eq!(port(address, true).level, Level::Fine);
        drop(taken);
        assert_eq!(port(address, false).level, Level::Fine);
    }
}
