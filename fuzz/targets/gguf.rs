//! Bytes as a GGUF model: refused, or it writes a few tokens.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ordu_engine::{NativeText, NativeTextOptions, Quiet, TextEngine as _, TextTask};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let options = NativeTextOptions {
        model: Some(path),
        memory_per_text: 16 << 20,
        memory_kept: 1 << 20,
    };
    let Ok(engine) = NativeText::open(&options) else {
        return;
    };
    let task = TextTask {
        prompt: "Once upon a time".to_owned(),
        max_length: 3,
        ..TextTask::default()
    };
    engine.write(&task, &Quiet).ok();
});
