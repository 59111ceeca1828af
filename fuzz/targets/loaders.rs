//! Sound files of tensors with any names and shapes, for the networks around those that draw: Stable
//! Cascade, faces, backgrounds, transparency. What needs two files gets the parts around `---`.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ordu_engine::native::cascade::StableCascade;
use ordu_engine::native::cascade::files::CascadeFiles;
use ordu_engine::native::cutout::U2Net;
use ordu_engine::native::faces::{ParseNet, Restorer, RetinaFace};
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::weights::{TensorFile, Weights};
use ordu_engine::{Compute, fuzzing};

static MODEL: LazyLock<ModelFiles> = LazyLock::new(|| ModelFiles::bundled().unwrap());

fuzz_target!(|lines: &str| {
    let (one, two) = lines.split_once("---\n").unwrap_or((lines, lines));
    let (Some(one), Some(two)) = (ordu_fuzz::tensor_file(one), ordu_fuzz::tensor_file(two)) else {
        return;
    };
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let paths = ["c.safetensors", "b.safetensors"].map(|name| folder.path().join(name));
    fs::write(&paths[0], &one).unwrap();
    fs::write(&paths[1], &two).unwrap();
    let compute = Compute::cpu();
    if let Ok(files) = CascadeFiles::files(&paths[0], &paths[1]) {
        StableCascade::load(&files, &compute).ok();
    }
    let open = |bytes| TensorFile::from_bytes("fuzzed", bytes);
    let (Ok(one), Ok(two)) = (open(one), open(two)) else {
        return;
    };
    fuzzing::kit(&one, &two, &MODEL);
    let weights = Weights::from_file(&one);
    Restorer::new("fuzzed", &weights, &compute).ok();
    RetinaFace::new("fuzzed", &weights, &compute).ok();
    ParseNet::new("fuzzed", &weights, &compute).ok();
    U2Net::new("fuzzed", &weights, &compute).ok();
});
