//! Pictures of strangers, as server and worker decode them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    ordu_server::fuzzing::picture(bytes);
    ordu_worker::fuzzing::picture(bytes);
});
