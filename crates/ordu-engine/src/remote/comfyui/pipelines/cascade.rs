//! Stable Cascade: a small model draws, a second one fills in, an autoencoder decodes.

use super::super::graph::{Image, Latent, Link};
use super::super::models::ModelFiles;
use super::super::nodes::{Parts, Prompts, Walk};
use super::{Draft, Drawn, missing};
use crate::plan::{hires, source, steps};
use crate::{EngineError, Mode};

/// How much smaller than the picture the first stage's latents are.
const COMPRESSION: u32 = 42;

/// The same where the picture is refined.
const FINE_COMPRESSION: u32 = 32;

/// Guidance of the second stage where the picture is refined.
const FINE_GUIDANCE: f32 = 1.1;

/// Guidance of the first stage when it refines.
const REFINING_GUIDANCE: f32 = 4.0;

/// Pictures that one mix may have.
const MAX_PICTURES: usize = 6;

/// The latents that both stages start from.
#[derive(Clone, Copy)]
struct Starts {
    c: Link<Latent>,
    b: Link<Latent>,
}

/// Both stages and the prompts of each: the second one's follow the first one's latents.
#[derive(Clone, Copy)]
struct Stages {
    c: Parts,
    b: Parts,
    prompts: Prompts,
    /// What the second stage is told.
    filling: Prompts,
}

impl Draft<'_> {
    pub(super) fn cascade(&mut self) -> Result<Drawn, EngineError> {
        let stages = self.stages()?;
        let (starts, denoise) = self.starts(stages, self.size(), COMPRESSION);
        let walk = self.cascade_walk(self.task.cfg_scale, denoise);
        Ok(self.both_stages(stages, starts, walk, 1.0).into())
    }

    pub(super) fn cascade_two_pass(&mut self) -> Result<Drawn, EngineError> {
        let stages = self.stages()?;
        let (width, height) = self.size();
        let small = hires::first_pass(self.model.baseline, width, height);
        let (starts, denoise) = self.starts(stages, small, FINE_COMPRESSION);
        let walk = self.cascade_walk(self.task.cfg_scale, denoise);
        let first = self.both_stages(stages, starts, walk, FINE_GUIDANCE);
        let larger = self.graph.resize_image(first, (width, height));
        let (c, b) = self
            .graph
            .encode_cascade(larger, stages.c.vae, FINE_COMPRESSION);
        let walk = self.cascade_walk(REFINING_GUIDANCE, hires::denoising_strength(self.task));
        Ok(self
            .both_stages(stages, Starts { c, b }, walk, FINE_GUIDANCE)
            .into())
    }

    pub(super) fn cascade_remix(&mut self) -> Result<Drawn, EngineError> {
        self.demand(&[
            "unCLIPCheckpointLoader",
            "CLIPVisionEncode",
            "unCLIPConditioning",
        ])?;
        let (stage_c, stage_b) = self.stage_files()?;
        let (c, tower) = self.graph.unclip_checkpoint(&stage_c);
        let b = self.graph.checkpoint(&stage_b);
        let plain = self.prompts(c);
        let mut mixed = plain.positive;
        let Mode::Remix(pictures) = &self.task.mode else {
            return Err(missing("pictures to mix"));
        };
        for picture in pictures.iter().take(MAX_PICTURES) {
            let (width, height) = (picture.image.width(), picture.image.height());
            let pixels = source::resized(&picture.image, width, height);
            let upload = self.graph.upload(pixels);
            let image = self.graph.load_image(upload);
            let seen = self.graph.see(tower, image);
            mixed = self
                .graph
                .mix(mixed, seen, picture.strength.clamp(-10.0, 10.0));
        }
        let stages = Stages {
            c,
            b,
            prompts: Prompts {
                positive: mixed,
                negative: plain.negative,
            },
            filling: plain,
        };
        let (c, b) = self
            .graph
            .empty_cascade(self.size(), COMPRESSION, self.task.batch);
        let walk = self.cascade_walk(self.task.cfg_scale, 1.0);
        Ok(self.both_stages(stages, Starts { c, b }, walk, 1.0).into())
    }

    fn stage_files(&self) -> Result<(String, String), EngineError> {
        match self.files.clone() {
            ModelFiles::Cascade { stage_c, stage_b } => Ok((stage_c, stage_b)),
            _ => Err(missing("both checkpoints of this model")),
        }
    }

    fn stages(&mut self) -> Result<Stages, EngineError> {
        let (stage_c, stage_b) = self.stage_files()?;
        let c = self.graph.checkpoint(&stage_c);
        let b = self.graph.checkpoint(&stage_b);
        let prompts = self.prompts(c);
        let nothing = self.graph.zeroed(prompts.positive);
        let filling = Prompts {
            positive: nothing,
            negative: nothing,
        };
        Ok(Stages {
            c,
            b,
            prompts,
            filling,
        })
    }

    fn starts(&mut self, stages: Stages, size: (u32, u32), compression: u32) -> (Starts, f32) {
        let batch = self.task.batch;
        let Some(source) = self.task.source() else {
            let (c, b) = self.graph.empty_cascade(size, compression, batch);
            return (Starts { c, b }, 1.0);
        };
        let (image, _) = self.prepared(source, size);
        let (c, b) = self.graph.encode_cascade(image, stages.c.vae, compression);
        let starts = Starts {
            c: self.graph.repeat(c, batch),
            b: self.graph.repeat(b, batch),
        };
        (starts, source.denoising_strength)
    }

    fn cascade_walk(&self, cfg: f32, denoise: f32) -> Walk {
        Walk {
            steps: steps::cascade(self.task.steps).0,
            cfg,
            scheduler: "simple",
            ..self.walk(denoise)
        }
    }

    fn both_stages(
        &mut self,
        stages: Stages,
        starts: Starts,
        walk: Walk,
        b_cfg: f32,
    ) -> Link<Image> {
        let first = self.sample(walk, stages.c.model, stages.prompts, starts.c);
        let prompts = Prompts {
            positive: self.graph.stage_b_prompt(stages.filling.positive, first),
            negative: stages.filling.negative,
        };
        let filling = Walk {
            steps: steps::cascade(self.task.steps).1,
            cfg: b_cfg,
            denoise: 1.0,
            ..walk
        };
        let second = self.sample(filling, stages.b.model, prompts, starts.b);
        self.graph.decode(second, stages.b.vae)
    }
}
