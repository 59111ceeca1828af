//! A backup, and what an import finds in an old database.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    ordu_server::fuzzing::backup(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        ordu_store::fuzzing::import(text);
    }
});
