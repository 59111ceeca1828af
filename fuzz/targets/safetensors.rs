//! Bytes as a file of tensors: refused, or every tensor of it can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ordu_engine::Compute;
use ordu_engine::native::weights::TensorFile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = TensorFile::from_bytes("fuzzed", bytes.to_vec()) else {
        return;
    };
    let compute = Compute::cpu();
    for (name, entry) in file.entries() {
        assert!(file.get(name).is_some());
        if entry.bytes().len() < 1 << 20 {
            entry.to_f32(compute.device()).ok();
        }
    }
});
