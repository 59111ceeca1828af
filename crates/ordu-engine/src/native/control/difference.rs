//! Control networks that are kept as the difference to the model that they were made from: added to
//! another model of the family, they become one for that model.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::EngineError;
use crate::native::weights::{TensorFile, Weights};

/// The control network of a model: where the model has a tensor of the same name and shape, the
/// difference is added to it.
///
/// # Errors
///
/// [`EngineError::BadModel`] for numbers that are not supported.
pub(super) fn whole(difference: &Weights, model: &Weights) -> Result<Weights, EngineError> {
    let base: BTreeMap<&str, _> = model.iter().collect();
    let mut sums: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut as_they_are = BTreeMap::new();
    for (name, entry) in difference.iter() {
        // A mark that says what the file is.
        if name == "difference" {
            continue;
        }
        match base.get(name) {
            Some(own) if own.shape() == entry.shape() => {
                let sum = (own.to_f32(&Device::Cpu)? + entry.to_f32(&Device::Cpu)?)?;
                sums.insert(name.to_owned(), sum);
            }
            _ => {
                as_they_are.insert(name.to_owned(), entry.clone());
            }
        }
    }
    let bytes = safetensors::serialize(&sums, None).map_err(|error| {
        EngineError::bad_model("controlnet", format!("its sum cannot be kept: {error}"))
    })?;
    let sums = TensorFile::from_bytes("controlnet", bytes)?;
    let sums = sums
        .entries()
        .map(|(name, entry)| (name.to_owned(), entry.clone()));
    Ok(Weights::from_entries(sums.chain(as_they_are)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(tensors: &[(&str, &[f32])]) -> Weights {
        let tensors: BTreeMap<String, Tensor> = tensors
            .iter()
            .map(|(name, numbers)| {
                let tensor = Tensor::new(*numbers, &Device::Cpu).unwrap();
                ((*name).to_owned(), tensor)
            })
            .collect();
        let bytes = safetensors::serialize(&tensors, None).unwrap();
        Weights::from_file(&TensorFile::from_bytes("test", bytes).unwrap())
    }

    #[test]
    fn a_difference_is_added_where_the_model_has_the_same_tensor() {
        let model = weights(&[("same", &[1.0, 2.0]), ("other", &[9.0]), ("long", &[1.0])]);
        let difference = weights(&[
            ("difference", &[]),
            ("same", &[0.5, -2.0]),
            ("own", &[7.0]),
            ("long", &[3.0, 4.0]),
        ]);
        let whole = whole(&difference, &model).unwrap();
        let found: Vec<(&str, Vec<f32>)> = whole
            .iter()
            .map(|(name, entry)| {
                let tensor = entry.to_f32(&Device::Cpu).unwrap();
                (name, tensor.to_vec1().unwrap())
            })
            .collect();
        let expected = [
            ("long", vec![3.0, 4.0]),
            ("own", vec![7.0]),
            ("same", vec![1.5, 0.0]),
        ];
        assert_eq!(found, expected);
    }
}
