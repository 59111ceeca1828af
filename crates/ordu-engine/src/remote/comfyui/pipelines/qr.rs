//! Pictures that scan: background and finders drawn apart, merged, and finished together.

use image::DynamicImage;

use super::super::graph::{ControlNet, Image, Latent, Link};
use super::super::nodes::{Parts, Prompts, Stretch, Walk};
use super::{Draft, Drawn, missing};
use crate::plan::qr::{BACKGROUND_STRENGTH, FINDER_STRENGTH};
use crate::plan::{qr, steps};
use crate::{Baseline, EngineError, QrSpec, Workflow};

/// The weights that steer a family by a symbol, if they are there.
pub(in super::super) fn weights(shelf: &super::Shelf, baseline: Baseline) -> Option<&str> {
    shelf.file_of_stem(
        "ControlNetLoader",
        "control_net_name",
        &[qr::weights(baseline)],
    )
}

/// What is drawn the same way three times.
#[derive(Clone, Copy)]
struct Setting {
    parts: Parts,
    net: Link<ControlNet>,
    walk: Walk,
    hand_over: u32,
}

impl Draft<'_> {
    pub(super) fn qr_code(&mut self) -> Result<Drawn, EngineError> {
        let Some(Workflow::QrCode(spec)) = &self.task.workflow else {
            return Err(missing("a text to draw"));
        };
        let file = weights(self.shelf, self.model.baseline)
            .ok_or_else(|| missing("weights to control this model by a QR code"))?;
        let (parts, prompts) = self.open()?;
        let setting = Setting {
            parts,
            net: self.graph.control_file(file, parts.model),
            walk: Walk {
                scheduler: "normal",
                ..self.walk(1.0)
            },
            hand_over: steps::qr_hand_over(self.task.steps),
        };
        let (width, height) = self.size();
        let symbol = qr::place(spec, width, height);
        let symbol = symbol.ok_or_else(|| {
            EngineError::bad_task(format!("no QR code fits into {width}x{height} pixels"))
        })?;
        let rasters = qr::rasters(&symbol, width, height);
        let background = self.background(setting, prompts, rasters.modules.into());
        let finders = self.finders(setting, prompts, spec, rasters.finders.into());
        let mask = self.graph.upload(rasters.mask);
        let mask = self.graph.load_mask(mask);
        let merged = self.graph.composite_latents(background, finders, mask);
        let full = self.graph.upload(rasters.full);
        let full = self.graph.load_image(full);
        let steered = self
            .graph
            .steer(prompts, setting.net, full, self.finish.strength());
        let walk = self.walk(1.0);
        let rest = Stretch {
            start: setting.hand_over,
            end: walk.steps,
            add_noise: false,
            keep_noise: false,
        };
        let done = self
            .graph
            .sample_stretch((walk, rest), parts.model, steered, merged);
        Ok(self.decoded(parts, done))
    }

    fn background(
        &mut self,
        setting: Setting,
        prompts: Prompts,
        raster: DynamicImage,
    ) -> Link<Latent> {
        self.layer(setting, (prompts, BACKGROUND_STRENGTH), raster, 0)
    }

    fn finders(
        &mut self,
        setting: Setting,
        prompts: Prompts,
        spec: &QrSpec,
        raster: DynamicImage,
    ) -> Link<Latent> {
        let positive = match &spec.finder_prompt {
            Some(text) => self.graph.encode_text(setting.parts.clip, text),
            None => prompts.positive,
        };
        let prompts = Prompts {
            positive,
            ..prompts
        };
        let start = steps::qr_finder_start(self.task.steps);
        self.layer(setting, (prompts, FINDER_STRENGTH), raster, start)
    }

    /// One of the two pictures that are merged, with the noise that is left in it.
    fn layer(
        &mut self,
        setting: Setting,
        (prompts, strength): (Prompts, f32),
        raster: DynamicImage,
        start: u32,
    ) -> Link<Latent> {
        let upload = self.graph.upload(raster);
        let hint: Link<Image> = self.graph.load_image(upload);
        let latent = self.graph.encode(hint, setting.parts.vae);
        let latent = self.graph.repeat(latent, self.task.batch);
        let steered = self.graph.steer(prompts, setting.net, hint, strength);
        let stretch = Stretch {
            start,
            end: setting.hand_over,
            add_noise: true,
            keep_noise: true,
        };
        let model = setting.parts.model;
        self.graph
            .sample_stretch((setting.walk, stretch), model, steered, latent)
    }
}
