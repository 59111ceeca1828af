//! Bodies of requests against the tables that check them: those of all operations.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    ordu_server::fuzzing::body(bytes);
});
