//! What the network of a single file predicts: such files do not say.
//!
//! In this order: what the header notes (`modelspec.prediction_type`), a configuration of the original
//! program beside the file (`NAME.yaml`), a tensor that is there for this purpose alone (`v_pred`,
//! `ztsnr`), and for Stable Diffusion 2 how far the biases of one layer have moved: the models of 768
//! pixels, which predict velocities, were trained for longer.

use std::path::Path;

use candle_core::Device;

use super::config::{SchedulerConfig, UNetConfig};
use crate::native::weights::{TensorFile, Weights, read_small};

/// Configurations are some kilobytes long.
const MAX_CONFIGURATION_BYTES: u64 = 256 * 1024;
/// A layer whose biases are spread this far belongs to a model that predicts velocities. Of the published
/// ones those of 512 pixels stay well below it, those of 768 above.
const SPREAD_OF_VELOCITY: f32 = 0.09;
/// The layer.
const LAYER: &str = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias";
/// Width of the text of Stable Diffusion 2.
const SECOND_WIDTH: usize = 1024;

const EPSILON: &str = "epsilon";
const VELOCITY: &str = "v_prediction";

/// The noise that a single file was trained with.
pub(super) fn of_file(
    path: &Path,
    file: &TensorFile,
    unet: (&Weights, &UNetConfig),
) -> SchedulerConfig {
    let found = noted(file)
        .or_else(|| configured(path))
        .or_else(|| file.get("v_pred").map(|_| VELOCITY))
        .or_else(|| second(unet))
        .unwrap_or(EPSILON);
    SchedulerConfig {
        prediction_type: found.to_owned(),
        rescale_betas_zero_snr: file.get("ztsnr").is_some(),
        ..SchedulerConfig::default()
    }
}

/// Side in latent pixels of what a network was trained on.
pub(super) fn side(unet: &UNetConfig, scheduler: &SchedulerConfig) -> Option<usize> {
    if unet.cross_attention_dim == SECOND_WIDTH && scheduler.prediction_type == VELOCITY {
        Some(96)
    } else {
        unet.sample_size
    }
}

fn noted(file: &TensorFile) -> Option<&'static str> {
    named(file.note("modelspec.prediction_type")?)
}

fn named(kind: &str) -> Option<&'static str> {
    match kind.trim().trim_matches(['"', '\'']) {
        "v" | "v_prediction" | "v-prediction" => Some(VELOCITY),
        "eps" | "epsilon" => Some(EPSILON),
        _ => None,
    }
}

/// The line `parameterization: "v"` of a configuration beside the file.
fn configured(path: &Path) -> Option<&'static str> {
    let beside = path.with_extension("yaml");
    let text = read_small(&beside, MAX_CONFIGURATION_BYTES).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim);
    named(lines.find_map(|line| line.strip_prefix("parameterization:"))?)
}

fn second((weights, unet): (&Weights, &UNetConfig)) -> Option<&'static str> {
    // Models that fill in predict noise.
    let is_plain = unet.in_channels == unet.out_channels;
    if unet.cross_attention_dim != SECOND_WIDTH || !is_plain {
        return None;
    }
    let biases: Vec<f32> = weights
        .get(LAYER)?
        .to_f32(&Device::Cpu)
        .ok()?
        .flatten_all()
        .ok()?
        .to_vec1()
        .ok()?;
    let count = biases.len() as f32;
    let mean = biases.iter().sum::<f32>() / count;
    let variance = biases.iter().map(|bias| (bias - mean).powi(2)).sum::<f32>() / count;
    Some(if variance.sqrt() > SPREAD_OF_VELOCITY {
        VELOCITY
    } else {
        EPSILON
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(inputs: usize, width: usize) -> UNetConfig {
        let config = serde_json::json!({"in_channels": inputs, "out_channels": 4,
            "cross_attention_dim": width, "down_block_types": [], "up_block_types": [],
            "block_out_channels": [], "sample_size": 64});
        serde_json::from_value(config).unwrap()
    }

    /// Biases that alternate around zero.
    fn weights(spread: f32) -> Weights {
        let biases = (0..320).map(|place| if place % 2 == 0 { spread } else { -spread });
        let bytes: Vec<u8> = biases.flat_map(f32::to_le_bytes).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![320], &bytes);
        let file = safetensors::serialize([(LAYER, view.unwrap())], None).unwrap();
        Weights::from_file(&TensorFile::from_bytes("x", file).unwrap())
    }

    #[test]
    fn biases_that_moved_far_tell_of_velocities() {
        let found = |spread, network| second((&weights(spread), &network));
        assert_eq!(found(0.2, network(4, 1024)), Some(VELOCITY));
        assert_eq!(found(0.05, network(4, 1024)), Some(EPSILON));
        for other in [network(9, 1024), network(4, 768)] {
            assert_eq!(found(0.2, other), None);
        }
    }

    #[test]
    fn models_of_velocities_draw_larger() {
        let predicts = |kind: &str| SchedulerConfig {
            prediction_type: kind.to_owned(),
            ..SchedulerConfig::default()
        };
        assert_eq!(side(&network(4, 1024), &predicts(VELOCITY)), Some(96));
        assert_eq!(side(&network(4, 1024), &predicts(EPSILON)), Some(64));
        assert_eq!(side(&network(4, 2048), &predicts(VELOCITY)), Some(64));
    }

    #[test]
    fn words_for_predictions() {
        for (word, kind) in [
            ("\"v\"", Some(VELOCITY)),
            ("v_prediction", Some(VELOCITY)),
            ("'eps'", Some(EPSILON)),
            ("epsilon", Some(EPSILON)),
            ("x0", None),
        ] {
            assert_eq!(named(word), kind, "{word}");
        }
    }
}
