//! The price of a drawing by the fitted model: a small network of rectified linear units whose
//! weights `training/price/` found from observed prices.
//!
//! Only additions, multiplications and comparisons of `f32` in a fixed order, so that every
//! machine gets the same price. The encoding below and `data.py` there must agree; the prices in
//! `testdata/` hold them together.
//!
//! # Source
//! The table of inputs in `generation.md` § 7.1.

#[rustfmt::skip]
mod weights;

use ordu_api::image::SourceProcessing;

use self::weights::INPUTS;
use crate::image::ImageSpec;

/// Places of the numbers among the inputs; switches follow.
const WIDTH: usize = 0;
const HEIGHT: usize = 1;
const STEPS: usize = 2;
const CFG_SCALE: usize = 3;
const DENOISING: usize = 4;
const CONTROL_STRENGTH: usize = 5;
const KARRAS: usize = 6;
const HIRES_FIX: usize = 7;
const SOURCE_IMAGE: usize = 8;
const SOURCE_MASK: usize = 9;
const FIRST_SAMPLER: usize = 10;
const NO_CONTROL: usize = FIRST_SAMPLER + SAMPLERS.len();
const FIRST_PROCESSING: usize = NO_CONTROL + 1 + CONTROL_TYPES.len();
const FIRST_POST_PROCESSOR: usize = FIRST_PROCESSING + 4;

/// The samplers that were observed; the first stands for all others.
const SAMPLERS: [&str; 15] = [
    "k_euler",
    "k_euler_a",
    "k_heun",
    "k_lms",
    "k_dpm_2",
    "k_dpm_2_a",
    "k_dpm_fast",
    "k_dpm_adaptive",
    "k_dpmpp_2m",
    "k_dpmpp_2s_a",
    "k_dpmpp_sde",
    "ddim",
    "plms",
    "uni_pc",
    "uni_pc_bh2",
];

const CONTROL_TYPES: [&str; 9] = [
    "canny",
    "hed",
    "depth",
    "normal",
    "openpose",
    "seg",
    "scribble",
    "fakescribbles",
    "hough",
];

/// The post-processors that were observed.
const POST_PROCESSORS: [&str; 8] = [
    "GFPGAN",
    "CodeFormers",
    "RealESRGAN_x2plus",
    "RealESRGAN_x4plus",
    "RealESRGAN_x4plus_anime_6B",
    "NMKD_Siax",
    "4x_AnimeSharp",
    "strip_background",
];

/// What post-processors that were never observed cost as much as. Not `CodeFormers`: where that was
/// observed, it often makes a picture cheaper.
const LIKE: [(&str, &str); 8] = [
    ("GFPGANv1.3", "GFPGAN"),
    ("RestoreFormer", "GFPGAN"),
    ("2xModernSpanimationV1", "RealESRGAN_x2plus"),
    ("4xNomos8kSC", "RealESRGAN_x4plus"),
    ("4xLSDIRplus", "RealESRGAN_x4plus"),
    ("4xNomosWebPhoto_RealPLKSR", "NMKD_Siax"),
    ("4xNomos2_realplksr_dysample", "NMKD_Siax"),
    ("4xNomos2_hq_dat2", "RealESRGAN_x4plus"),
];

/// What the network multiplies its answer with, so that its weights are all of a size.
const SCALE: f32 = 10.0;
/// No observed price is lower than 2.70; below, the network knows nothing.
const LEAST: f32 = 2.5;

/// The price in kudos, without LoRAs and textual inversions; not rounded.
pub(super) fn price(spec: &ImageSpec) -> f64 {
    let inputs = encode(spec);
    let first = layer(&inputs, &weights::WEIGHTS_1, &weights::BIASES_1);
    let second = layer(&first, &weights::WEIGHTS_2, &weights::BIASES_2);
    let third = layer(&second, &weights::WEIGHTS_3, &weights::BIASES_3);
    let [price] = sums(&third, &weights::WEIGHTS_4, &weights::BIASES_4);
    f64::from((price * SCALE).max(LEAST))
}

/// One layer of rectified linear units.
fn layer<const IN: usize, const OUT: usize>(
    inputs: &[f32; IN],
    weights: &[[f32; OUT]; IN],
    biases: &[[f32; OUT]; 1],
) -> [f32; OUT] {
    sums(inputs, weights, biases).map(|sum| sum.max(0.0))
}

/// The weighted sums of the inputs, each added up in the order of the inputs.
fn sums<const IN: usize, const OUT: usize>(
    inputs: &[f32; IN],
    weights: &[[f32; OUT]; IN],
    [biases]: &[[f32; OUT]; 1],
) -> [f32; OUT] {
    let mut sums = *biases;
    for (input, weights) in inputs.iter().zip(weights) {
        // About half of the units and most switches are off.
        if *input == 0.0 {
            continue;
        }
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += input * weight;
        }
    }
    sums
}

/// What the network is told about a request.
fn encode(spec: &ImageSpec) -> [f32; INPUTS] {
    let mut inputs = [0.0; INPUTS];
    let post_processors = spec.post_processing.iter();
    let post_processors = post_processors.filter_map(|name| Some((post_processor(name)?, 1.0)));
    let values = numbers(spec).into_iter().chain(switches(spec));
    for (place, value) in values.chain(post_processors) {
        if let Some(input) = inputs.get_mut(place) {
            *input = value;
        }
    }
    inputs
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "sizes and steps are small whole numbers, strengths have two decimals"
)]
fn numbers(spec: &ImageSpec) -> [(usize, f32); 6] {
    let strength = spec.denoising_strength.unwrap_or(1.0) as f32;
    let (denoising, control) = match (&*spec.source_image, &*spec.control_type) {
        (Some(_), None) => (strength, 1.0),
        // There is no strength of the control alone on the wire.
        (Some(_), Some(_)) => (1.0, strength),
        (None, _) => (1.0, 1.0),
    };
    [
        (WIDTH, spec.width as f32 / 1024.0),
        (HEIGHT, spec.height as f32 / 1024.0),
        (STEPS, spec.steps as f32 / 100.0),
        (CFG_SCALE, spec.cfg_scale as f32 / 30.0),
        (DENOISING, denoising),
        (CONTROL_STRENGTH, control),
    ]
}

fn switches(spec: &ImageSpec) -> [(usize, f32); 7] {
    let switch = |on: bool| if on { 1.0 } else { 0.0 };
    let has_source = spec.source_image.is_some();
    let sampler = place(&SAMPLERS, &spec.sampler_name).unwrap_or(0);
    let control = spec.control_type.as_ref();
    let control = control.and_then(|name| place(&CONTROL_TYPES, name));
    let processing = match spec.source_processing {
        _ if !has_source => 0,
        SourceProcessing::Img2Img | SourceProcessing::Remix => 1,
        SourceProcessing::Inpainting => 2,
        SourceProcessing::Outpainting => 3,
    };
    [
        (KARRAS, switch(spec.karras)),
        (HIRES_FIX, switch(spec.hires_fix)),
        (SOURCE_IMAGE, switch(has_source)),
        (SOURCE_MASK, switch(spec.source_mask.is_some())),
        (FIRST_SAMPLER + sampler, 1.0),
        (
            control.map_or(NO_CONTROL, |place| NO_CONTROL + 1 + place),
            1.0,
        ),
        (FIRST_PROCESSING + processing, 1.0),
    ]
}

/// The place of a post-processor, or of the one that it costs as much as.
fn post_processor(name: &str) -> Option<usize> {
    let like = LIKE.iter().find(|(new, _)| *new == name);
    let known = like.map_or(name, |(_, known)| known);
    place(&POST_PROCESSORS, known).map(|place| FIRST_POST_PROCESSOR + place)
}

fn place(names: &[&str], name: &str) -> Option<usize> {
    names.iter().position(|known| *known == name)
}

/// Weights as they are used, from multiples of 1/`unit`.
#[expect(
    clippy::indexing_slicing,
    reason = "constants cannot use iterators; the compiler evaluates this and checks the bounds"
)]
const fn scaled<const IN: usize, const OUT: usize>(
    multiples: &[[i16; OUT]; IN],
    unit: f32,
) -> [[f32; OUT]; IN] {
    let mut weights = [[0.0; OUT]; IN];
    let mut row = 0;
    while row < IN {
        let mut column = 0;
        while column < OUT {
            weights[row][column] = multiples[row][column] as f32 / unit;
            column += 1;
        }
        row += 1;
    }
    weights
}

#[cfg(test)]
mod tests;
