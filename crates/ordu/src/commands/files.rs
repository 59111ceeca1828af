//! How many files and connections this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Asks for as many as whoever set the machine up grants: what a shell hands on is often far less.
/// Answers how many there may be, `None` for any number.
pub(super) fn raise() -> Option<u64> {
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current == limits.maximum {
        return limits.current;
    }
    let handed_on = limits.current;
    limits.current = limits.maximum;
    match setrlimit(Resource::Nofile, limits) {
        Ok(()) => limits.maximum,
        // Some systems grant less than they say. What was there before is there still.
        Err(_) => handed_on,
    }
}
