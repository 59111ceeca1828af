//! Headers and queries of requests, addresses and blocks of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ordu_api::mask::Mask;
use ordu_core::address::{read_network, show_network};
use ordu_server::fuzzing;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::headers(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    fuzzing::query(text);
    if let Ok(mask) = text.parse::<Mask>() {
        let answer = json!({"a": [{"b": 1, "c": [[2]]}, null], "d": {"e": {}}});
        let masked = mask.apply(answer);
        assert_eq!(mask.apply(masked.clone()), masked);
    }
    if let Some(network) = read_network(text) {
        assert_eq!(read_network(&show_network(network)), Some(network));
    }
});
