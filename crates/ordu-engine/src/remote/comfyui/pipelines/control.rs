//! Pictures that are steered by a source, and the maps that steer.

use super::super::graph::{Image, Link};
use super::super::nodes::{Parts, Prompts};
use super::plain::EMPTY;
use super::{Draft, Drawn, missing};
use crate::plan::source;
use crate::{Baseline, Control, ControlType, EngineError};

/// The smallest resolution that nodes look at, in pixels.
const LEAST_RESOLUTION: u32 = 64;

/// The core node that finds edges, for those who have no other.
const CORE_CANNY: &str = "Canny";

/// The class that makes the map of a type, if it is there.
pub(in super::super) fn annotator(shelf: &super::Shelf, kind: ControlType) -> Option<&'static str> {
    let class = kind.preprocessor();
    if shelf.has(class) {
        return Some(class);
    }
    (kind == ControlType::Canny && shelf.has(CORE_CANNY)).then_some(CORE_CANNY)
}

/// The weights that steer by a type, if they are there.
pub(in super::super) fn weights(shelf: &super::Shelf, kind: ControlType) -> Option<&str> {
    let found = |class| shelf.file_of_stem(class, "control_net_name", kind.weights());
    let plain = found("ControlNetLoader")?;
    if crate::plan::control::is_difference(plain) {
        return found("DiffControlNetLoader");
    }
    Some(plain)
}

impl Draft<'_> {
    pub(super) fn annotator(&mut self) -> Result<Drawn, EngineError> {
        let control = self.asked_control()?;
        Ok(self.hint(control, self.size())?.into())
    }

    /// The source is only looked at; drawing starts from noise.
    pub(super) fn control(&mut self) -> Result<Drawn, EngineError> {
        let (parts, prompts) = self.open()?;
        let steered = self.steered(parts, prompts)?;
        let latent = self.graph.empty(EMPTY, self.size(), self.task.batch);
        let latent = self.sample(self.walk(1.0), parts.model, steered, latent);
        Ok(self.decoded(parts, latent))
    }

    /// The second pass is not steered.
    pub(super) fn control_hires(&mut self) -> Result<Drawn, EngineError> {
        let (parts, prompts) = self.open()?;
        let steered = self.steered(parts, prompts)?;
        let latent = self.graph.empty(EMPTY, self.first_size(), self.task.batch);
        let first = self.sample(self.walk(1.0), parts.model, steered, latent);
        let larger = self
            .graph
            .resize_latent(first, self.size(), "nearest-exact");
        let second = self.sample(self.second_walk(), parts.model, prompts, larger);
        Ok(self.decoded(parts, second))
    }

    fn steered(&mut self, parts: Parts, prompts: Prompts) -> Result<Prompts, EngineError> {
        let control = self.asked_control()?;
        // A model of which nobody knows the family may be of this one.
        let fits = matches!(
            self.model.baseline,
            Baseline::StableDiffusion1 | Baseline::Custom
        );
        let file = weights(self.shelf, control.kind).filter(|_| fits);
        let wanted = || {
            missing(&format!(
                "weights to control this model by {}",
                control.kind.name()
            ))
        };
        let file = file.ok_or_else(wanted)?;
        let hint = self.hint(control, self.first_size())?;
        let net = self.graph.control_file(file, parts.model);
        let steered = self
            .graph
            .steer(prompts, net, hint, control.strength.clamp(0.01, 3.0));
        // Only what to draw is steered.
        Ok(Prompts {
            positive: steered.positive,
            negative: prompts.negative,
        })
    }

    fn asked_control(&self) -> Result<Control, EngineError> {
        self.task
            .control
            .ok_or_else(|| missing("anything to control by"))
    }

    /// The map of the source, at a size.
    fn hint(&mut self, control: Control, size: (u32, u32)) -> Result<Link<Image>, EngineError> {
        let source = self
            .task
            .source()
            .ok_or_else(|| missing("a source to look at"))?;
        let upload = self
            .graph
            .upload(source::resized(&source.image, size.0, size.1));
        let image = self.graph.load_image(upload);
        if control.image_is_control {
            return Ok(image);
        }
        let class = annotator(self.shelf, control.kind);
        let wanted = || missing(&format!("the node `{}`", control.kind.preprocessor()));
        let class = class.ok_or_else(wanted)?;
        let resolution = size.0.min(size.1).max(LEAST_RESOLUTION);
        Ok(self.graph.annotate(class, image, resolution))
    }
}
