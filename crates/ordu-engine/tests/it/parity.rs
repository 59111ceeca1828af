//! Every network and sampler against the numbers of PyTorch, diffusers, transformers and
//! k-diffusion.
//!
//! `cargo nextest run -p ordu-engine parity_table --success-output immediate` prints all errors.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use ordu_engine::native::noise::NoiseStream;
use ordu_engine::native::ops::Edges;
use ordu_engine::native::sampling::{Denoiser, Guided, Level, NoiseSchedule, sample};
use ordu_engine::native::sd::config::{ClipConfig, SchedulerConfig, UNetConfig, VaeConfig};
use ordu_engine::native::sd::files::ModelFiles;
use ordu_engine::native::sd::words::Words;
use ordu_engine::native::sd::{
    Condition, StableDiffusion, clip::Clip, prompt, unet::UNet, vae::Vae,
};
use ordu_engine::{Compute, NoiseSource, Sampler, Schedule};

use crate::data::{compare, compare_within, get, json, path, print_table, tensors, weights};

/// All in one test, so that there is one table.
#[test]
fn parity_table() {
    text_encoders();
    unets();
    autoencoders();
    schedules();
    trajectories();
    more_samplers();
    zero_terminal();
    whole_model();
    crate::upscale::parity();
    crate::control::parity();
    crate::vision::parity();
    crate::cutout::parity();
    crate::faces::parity();
    crate::transparent::parity();
    crate::cascade::parity();
    print_table();
}

fn text_encoders() {
    for kind in ["quick-gelu", "gelu"] {
        let config: ClipConfig = json(&format!("clip-{kind}/config.json"));
        let clip = Clip::new(
            &weights(&format!("clip-{kind}/model.safetensors")),
            &config,
            &Compute::cpu(),
        )
        .unwrap();
        let io = tensors(&format!("clip-{kind}/io.safetensors"));
        let ids = get(&io, "ids").to_dtype(DType::U32).unwrap();
        compare(
            &format!("CLIP {kind}"),
            &clip.forward(&ids, 1).unwrap(),
            &get(&io, "last"),
        );
        compare(
            &format!("CLIP {kind}, clip skip 2"),
            &clip.forward(&ids, 2).unwrap(),
            &get(&io, "skip2"),
        );
    }
}

fn unets() {
    for kind in ["sd1", "sd2", "inpaint"] {
        let folder = format!("unet-{kind}");
        let config: UNetConfig = json(&format!("{folder}/config.json"));
        let weights = weights(&format!("{folder}/diffusion_pytorch_model.safetensors"));
        let unet = UNet::new(&weights, &config, &Compute::cpu()).unwrap();
        let io = tensors(&format!("{folder}/io.safetensors"));
        for size in ["even", "odd"] {
            let input = |name: &str| get(&io, &format!("{size}.{name}"));
            let time = f64::from(input("time").to_vec1::<f32>().unwrap()[0]);
            let y = unet
                .forward(
                    &input("x"),
                    time,
                    &Condition::of_text(input("text")),
                    Edges::Zero,
                )
                .unwrap();
            compare(&format!("UNet {kind}, {size} size"), &y, &input("y"));
        }
    }
}

fn autoencoders() {
    for kind in ["plain", "deep"] {
        let folder = format!("vae-{kind}");
        let config: VaeConfig = json(&format!("{folder}/config.json"));
        let weights = weights(&format!("{folder}/diffusion_pytorch_model.safetensors"));
        let vae = Vae::new(&weights, &config, &Compute::cpu()).unwrap();
        let io = tensors(&format!("{folder}/io.safetensors"));
        let latents = vae.encode(&get(&io, "pictures"), Edges::Zero).unwrap();
        compare(
            &format!("autoencoder {kind}, encode"),
            &latents,
            &get(&io, "latents"),
        );
        let decoded = vae.decode(&get(&io, "latents"), Edges::Zero).unwrap();
        compare(
            &format!("autoencoder {kind}, decode"),
            &decoded,
            &get(&io, "decoded"),
        );
    }
}

fn stable_diffusion_schedule() -> NoiseSchedule {
    NoiseSchedule::new(&SchedulerConfig::default()).unwrap()
}

fn schedules() {
    let io = tensors("samplers.safetensors");
    for (name, schedule) in [("normal", Schedule::Normal), ("karras", Schedule::Karras)] {
        let levels = stable_diffusion_schedule().levels(schedule, 8, 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "the reference is f32")]
        let sigmas: Vec<f32> = levels.iter().map(|level| level.sigma as f32).collect();
        let sigmas = Tensor::from_vec(sigmas, 9, &Device::Cpu).unwrap();
        compare(
            &format!("sigmas {name}"),
            &sigmas,
            &get(&io, &format!("{name}.sigmas")),
        );
    }
}

/// The denoiser of `make.py`: the clean picture is 0.8 tanh(z).
struct Toy;

impl Denoiser for Toy {
    fn denoise(&self, z: &Tensor, _level: Level) -> candle_core::Result<Tensor> {
        z.tanh()? * 0.8
    }

    fn level(&self, sigma: f64) -> Level {
        stable_diffusion_schedule().level(sigma)
    }
}

/// `z` after each step. The sampler shows its guesses, not its state: the walk is taken again for
/// each prefix.
fn walk(sampler: Sampler, levels: &[Level], start: &Tensor, noise: &Tensor) -> Tensor {
    let prefix = |length: usize| {
        let mut draws = 0..;
        let mut fresh = || Ok(noise.get(draws.next().unwrap())?);
        sample(
            (sampler, &levels[..=length]),
            start.clone(),
            &Toy,
            &mut fresh,
            &mut |_, _| Ok(()),
        )
        .unwrap()
    };
    let states: Vec<Tensor> = (1..levels.len()).map(prefix).collect();
    Tensor::stack(&states, 0).unwrap()
}

fn trajectories() {
    let io = tensors("samplers.safetensors");
    let (start, noise) = (get(&io, "start"), get(&io, "noise"));
    let samplers = [
        ("euler", Sampler::Euler),
        ("euler", Sampler::Ddim),
        ("euler_ancestral", Sampler::EulerA),
        ("dpmpp_2m", Sampler::Dpmpp2m),
    ];
    for (name, schedule) in [("normal", Schedule::Normal), ("karras", Schedule::Karras)] {
        let levels = stable_diffusion_schedule().levels(schedule, 8, 1.0);
        for (reference, sampler) in samplers {
            let states = walk(sampler, &levels, &start, &noise);
            compare(
                &format!("{sampler} {name}"),
                &states,
                &get(&io, &format!("{name}.{reference}")),
            );
        }
    }
}

/// Guesses after each step and the end of the walk.
fn followed(sampler: Sampler, levels: &[Level], start: &Tensor, noise: &Tensor) -> [Tensor; 2] {
    let mut draws = 0..;
    let mut fresh = || Ok(noise.get(draws.next().unwrap())?);
    let mut guesses = Vec::new();
    let mut watch = |_: usize, guess: &Tensor| {
        guesses.push(guess.clone());
        Ok(())
    };
    let run = (sampler, levels);
    let end = sample(run, start.clone(), &Toy, &mut fresh, &mut watch).unwrap();
    [Tensor::stack(&guesses, 0).unwrap(), end]
}

fn more_samplers() {
    let io = tensors("samplers-more.safetensors");
    let (start, noise) = (get(&io, "start"), get(&io, "noise"));
    let schedules = [
        ("normal", Schedule::Normal, 8),
        ("karras", Schedule::Karras, 8),
        ("short", Schedule::Normal, 3),
    ];
    for (name, schedule, steps) in schedules {
        let levels = stable_diffusion_schedule().levels(schedule, steps, 1.0);
        for sampler in [
            Sampler::Heun,
            Sampler::Dpm2,
            Sampler::Dpm2A,
            Sampler::Lms,
            Sampler::Dpmpp2sA,
            Sampler::DpmppSde,
            Sampler::DpmFast,
            Sampler::DpmAdaptive,
            Sampler::UniPc,
            Sampler::UniPcBh2,
            Sampler::Lcm,
        ] {
            let [guesses, end] = followed(sampler, &levels, &start, &noise);
            let reference = |what: &str| io.get(&format!("{name}.{sampler}.{what}"));
            // The adaptive one tries steps that are not taken.
            if let Some(entry) = reference("guesses") {
                let reference = entry.to_f32(&Device::Cpu).unwrap();
                compare(&format!("{sampler} {name}, guesses"), &guesses, &reference);
            }
            let reference = get(&io, &format!("{name}.{sampler}.end"));
            // It chooses its steps by differences that are near the rounding of f32; the reference is
            // computed in f64. Other steps, within its tolerance the same end.
            let share = if sampler == Sampler::DpmAdaptive {
                2e-3
            } else {
                1e-4
            };
            compare_within(share, &format!("{sampler} {name}, end"), &end, &reference);
        }
    }
}

fn zero_terminal() {
    let io = tensors("samplers.safetensors");
    let config = SchedulerConfig {
        rescale_betas_zero_snr: true,
        prediction_type: "v_prediction".to_owned(),
        ..SchedulerConfig::default()
    };
    let levels = NoiseSchedule::new(&config)
        .unwrap()
        .levels(Schedule::Normal, 8, 1.0);
    #[expect(clippy::cast_possible_truncation, reason = "the reference is f32")]
    let times: Vec<f32> = levels[..8].iter().map(|level| level.time as f32).collect();
    compare(
        "time steps, zero terminal",
        &Tensor::from_vec(times, 8, &Device::Cpu).unwrap(),
        &get(&io, "zero_terminal.times"),
    );
    let states = walk(
        Sampler::Ddim,
        &levels,
        &get(&io, "start"),
        &get(&io, "noise"),
    );
    compare(
        "DDIM, zero terminal (diffusers)",
        &states,
        &get(&io, "zero_terminal.ddim"),
    );
}

/// Same seed, same latents at each step, same picture.
fn whole_model() {
    #[derive(serde::Deserialize)]
    struct Prompts {
        prompts: [String; 2],
        ids: [Vec<u32>; 2],
    }
    let files = ModelFiles::folder(&path("tiny-sd")).unwrap().unwrap();
    let model = StableDiffusion::load(&files, &Compute::cpu()).unwrap();
    let io = tensors("tiny-sd.io.safetensors");
    let known: Prompts = json("tiny-sd.prompts.json");
    for (text, ids) in known.prompts.iter().zip(&known.ids) {
        // Escaped, since parentheses are emphasis to us and letters to the reference.
        let text = text.replace('(', r"\(").replace(')', r"\)");
        let tower = &model.text.towers[0];
        let chunks = prompt::chunks(&tower.tokenizer, &text, 16, &BTreeMap::new());
        // The reference cuts where a chunk is full, which may be within a word.
        let words = |ids: &[u32]| {
            ids.iter()
                .copied()
                .filter(|id| *id < 523)
                .collect::<Vec<_>>()
        };
        let all: Vec<u32> = chunks.iter().flat_map(|chunk| words(&chunk.ids)).collect();
        assert!(all.starts_with(&words(ids)), "{all:?} {ids:?}");
    }
    let ids =
        |index: usize| Tensor::from_vec(known.ids[index].clone(), (1, 16), &Device::Cpu).unwrap();
    let encode = |index: usize| model.text.towers[0].clip.forward(&ids(index), 1).unwrap();
    let (positive, negative) = (encode(0), encode(1));
    compare(
        "whole model, prompt",
        &positive.squeeze(0).unwrap(),
        &get(&io, "positive"),
    );
    let noise = NoiseStream::new(NoiseSource::TorchCpu, 1234, [1, 4, 8, 8])
        .draw(&Device::Cpu)
        .unwrap();
    compare("whole model, noise of the seed", &noise, &get(&io, "noise"));
    let guided = Guided {
        unet: &model.unet,
        schedule: &model.schedule,
        positive: Condition::of_text(positive),
        negative: Some((Condition::of_text(negative), 5.0)),
        beside: None,
        steered: None,
        edges: Edges::Zero,
    };
    let levels = model.schedule.levels(Schedule::Normal, 6, 1.0);
    let reference = get(&io, "latents");
    let mut no_noise = || unreachable!("Euler draws no noise");
    for steps in 1..=6 {
        let ours = sample(
            (Sampler::Euler, &levels[..=steps]),
            noise.clone(),
            &guided,
            &mut no_noise,
            &mut |_, _| Ok(()),
        );
        compare(
            &format!("whole model, latents, step {steps}"),
            &ours.unwrap(),
            &reference.get(steps - 1).unwrap(),
        );
    }
    let picture = model
        .vae
        .decode(&reference.get(5).unwrap(), Edges::Zero)
        .unwrap();
    compare("whole model, picture", &picture, &get(&io, "picture"));
}

/// The bundled model against PyTorch and diffusers, from words to pixels. The reference is made
/// with the weights, by `training/reference.py`, and replaced with them.
#[test]
fn the_bundled_model_draws_what_pytorch_draws() {
    let io = tensors("ordu-tiny-reference.safetensors");
    let model = StableDiffusion::load(&ModelFiles::bundled().unwrap(), &Compute::cpu()).unwrap();
    let prompts = [
        "a large red circle at the center on a blue background",
        "a small yellow triangle at the top left on a black background",
    ];
    let encode = |text: &str| {
        let words = Words::default();
        model.text.encode(text, &words, 1).unwrap().text
    };
    let positive = Tensor::cat(&prompts.map(encode), 0).unwrap();
    compare("ordu-tiny, text", &positive, &get(&io, "text_embeddings"));
    compare(
        "ordu-tiny, no text",
        &encode(""),
        &get(&io, "empty_embeddings"),
    );
    let input = get(&io, "unet_input");
    let output = model
        .unet
        .forward(
            &input,
            479.0,
            &Condition::of_text(positive.clone()),
            Edges::Zero,
        )
        .unwrap();
    compare("ordu-tiny, UNet", &output, &get(&io, "unet_output"));
    let scale = f64::from(weights_scale());
    let latents = (get(&io, "vae_mean") * scale).unwrap();
    compare(
        "ordu-tiny, encode",
        &model
            .vae
            .encode(&get(&io, "vae_input"), Edges::Zero)
            .unwrap(),
        &latents,
    );
    compare(
        "ordu-tiny, decode",
        &model.vae.decode(&latents, Edges::Zero).unwrap(),
        &get(&io, "vae_output"),
    );
    let negative = Tensor::cat(&[encode(""), encode("")], 0).unwrap();
    let guided = Guided {
        unet: &model.unet,
        schedule: &model.schedule,
        positive: Condition::of_text(positive),
        negative: Some((Condition::of_text(negative), 5.0)),
        beside: None,
        steered: None,
        edges: Edges::Zero,
    };
    let levels = model.schedule.levels(Schedule::Normal, 25, 1.0);
    let mut no_noise = || unreachable!("DDIM draws no noise");
    let latents = sample(
        (Sampler::Ddim, &levels),
        get(&io, "initial_latents"),
        &guided,
        &mut no_noise,
        &mut |_, _| Ok(()),
    );
    // 25 guided steps multiply the rounding of each.
    compare_within(
        1e-3,
        "ordu-tiny, 25 steps of DDIM",
        &latents.unwrap(),
        &get(&io, "ddim_latents"),
    );
    print_table();
}

/// The scaling factor in the configuration of the bundled autoencoder.
fn weights_scale() -> f32 {
    #[derive(serde::Deserialize)]
    struct Config {
        scaling_factor: f32,
    }
    let config: Config = json("../models/ordu-tiny/vae/config.json");
    config.scaling_factor
}
