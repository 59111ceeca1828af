//! What others answer: hordes, sites that people sign in with, hooks, CivitAI, programs that write and
//! draw.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for read in [
        ordu_client::fuzzing::answer,
        ordu_engine::fuzzing::picture,
        ordu_engine::fuzzing::text,
        ordu_server::fuzzing::answer,
        ordu_worker::fuzzing::answer,
    ] {
        read(bytes);
    }
});
