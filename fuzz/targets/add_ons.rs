//! LoRAs and learned words with any names and shapes, for the bundled model.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ordu_engine::Compute;
use ordu_engine::native::sd::StableDiffusion;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::lora::{Changes, Strengths};
use ordu_engine::native::sd::words::Words;
use ordu_engine::native::weights::TensorFile;

static MODEL: LazyLock<ModelFiles> = LazyLock::new(|| ModelFiles::bundled().unwrap());

fuzz_target!(|lines: &str| {
    let Some(bytes) = ordu_fuzz::tensor_file(lines) else {
        return;
    };
    let Ok(file) = TensorFile::from_bytes("fuzzed", bytes) else {
        return;
    };
    for widths in [&[48][..], &[768, 1280]] {
        Words::default().add("fuzzed", &file, widths).ok();
    }
    let mut changes = Changes::default();
    let strengths = Strengths { unet: 1.0, text: 0.5 };
    if changes.add(("fuzzed", &file), &MODEL, strengths).is_ok() {
        StableDiffusion::load_changed(&MODEL, &Compute::cpu(), &changes).ok();
    }
});
