//! Reading `testdata/`, and the table of errors.

use std::path::PathBuf;
use std::sync::Mutex;

use candle_core::{Device, Tensor};
use ordu_engine::native::weights::{TensorFile, Weights};
use serde::de::DeserializeOwned;

/// A file or folder of `testdata/`.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

/// All tensors of a file.
pub(crate) fn tensors(name: &str) -> TensorFile {
    TensorFile::open(&path(name)).unwrap()
}

pub(crate) fn weights(name: &str) -> Weights {
    Weights::from_file(&tensors(name))
}

pub(crate) fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

pub(crate) fn get(file: &TensorFile, name: &str) -> Tensor {
    file.get(name)
        .unwrap_or_else(|| panic!("no tensor `{name}`"))
        .to_f32(&Device::Cpu)
        .unwrap()
}

pub(crate) fn largest(tensor: &Tensor) -> f32 {
    tensor
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap()
        .to_scalar()
        .unwrap()
}

/// One line of the table: what, largest error, largest value of the reference.
static TABLE: Mutex<Vec<(String, f32, f32)>> = Mutex::new(Vec::new());

/// Compares with a reference; the error may be a ten-thousandth of the reference's largest value.
pub(crate) fn compare(what: &str, ours: &Tensor, reference: &Tensor) {
    compare_within(1e-4, what, ours, reference);
}

/// Compares with a reference; the error may be a share of the reference's largest value.
pub(crate) fn compare_within(share: f32, what: &str, ours: &Tensor, reference: &Tensor) {
    assert_eq!(ours.dims(), reference.dims(), "{what}");
    let error = largest(&(ours - reference).unwrap());
    let scale = largest(reference);
    TABLE.lock().unwrap().push((what.to_owned(), error, scale));
    assert!(
        error <= share * scale,
        "{what}: error {error:e}, reference up to {scale}"
    );
}

/// Prints the table so far.
pub(crate) fn print_table() {
    println!(
        "{:<34} {:>13} {:>18} {:>10}",
        "network or trajectory", "largest error", "largest reference", "relative"
    );
    for (what, error, scale) in TABLE.lock().unwrap().iter() {
        println!(
            "{what:<34} {error:>13.2e} {scale:>18.4} {:>10.1e}",
            error / scale
        );
    }
}
