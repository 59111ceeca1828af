//! Sound files of tensors with any names and shapes: each loader of networks knows them, or says why not.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use ordu_engine::Compute;
use ordu_engine::native::control::Controls;
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::{StableDiffusion, describe};
use ordu_engine::native::upscale::Upscalers;
use ordu_engine::Readers;

fuzz_target!(|lines: &str| {
    let Some(bytes) = ordu_fuzz::tensor_file(lines) else {
        return;
    };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, &bytes).unwrap();
    let compute = Compute::cpu();
    if let Ok(Some(files)) = ModelFiles::file(&path) {
        describe(&files).ok();
        StableDiffusion::load(&files, &compute).ok();
    }
    for kind in ["controlnet", "esrgan"] {
        let place = folder.path().join(kind);
        fs::create_dir(&place).unwrap();
        fs::hard_link(&path, place.join("RealESRGAN_x4plus.safetensors")).unwrap();
    }
    Controls::open(Some(folder.path()));
    Upscalers::open(folder.path());
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    Readers::open(folder.path());
});
