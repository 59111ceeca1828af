//! What comes in pieces: events of hordes and of programs that write, frames of an engine's process.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for read in [
        ordu_client::fuzzing::events,
        ordu_engine::fuzzing::frame,
        ordu_engine::fuzzing::text,
    ] {
        read(bytes);
    }
});
