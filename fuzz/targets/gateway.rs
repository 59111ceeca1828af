//! Calls of OpenAI's clients, as JSON and as forms with files.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ordu_server::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::gateway(bytes);
    fuzzing::form(bytes);
});
