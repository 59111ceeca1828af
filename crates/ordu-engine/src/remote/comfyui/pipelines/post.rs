//! What is done with the picture of any pipeline.

use super::{Draft, Drawn, missing};
use crate::EngineError;
use crate::plan::post::{self, PostKind, PostProcessor};
use crate::plan::source;

/// How true face fixers stay to the picture, where nothing says otherwise.
const FIDELITY: f32 = 0.5;

/// The node that makes backgrounds transparent.
const STRIP: &str = "Image Remove Background (rembg)";

/// The file of a post-processor, as its node lists it. Background removal has none of its own.
fn file(shelf: &super::Shelf, step: PostProcessor) -> Option<&str> {
    let class = match step.kind() {
        PostKind::Upscaler(_) => "UpscaleModelLoader",
        PostKind::FaceFixer => "FaceRestoreModelLoader",
        PostKind::Background => return None,
    };
    // Some publish their files under the public name, or with a sign of their version.
    let version = format!("{}-v0.1.0", step.file_stem());
    shelf.file_of_stem(
        class,
        "model_name",
        &[step.file_stem(), step.name(), &version],
    )
}

/// Whether a post-processor can be run.
pub(in super::super) fn is_possible(shelf: &super::Shelf, step: PostProcessor) -> bool {
    match step.kind() {
        PostKind::Upscaler(_) => shelf.has("ImageUpscaleWithModel") && file(shelf, step).is_some(),
        PostKind::FaceFixer => shelf.has("FaceRestoreCFWithModel") && file(shelf, step).is_some(),
        PostKind::Background => shelf.has(STRIP),
    }
}

/// The classes that keep transparency apart while the colours are worked on.
const ALPHA: [&str; 4] = [
    "SplitImageWithAlpha",
    "JoinImageWithAlpha",
    "MaskToImage",
    "ImageToMask",
];

/// Whether pictures with transparency can be post-processed.
pub(in super::super) fn knows_alpha(shelf: &super::Shelf) -> bool {
    shelf.has_all(&ALPHA)
}

impl Draft<'_> {
    /// The source, for the steps that follow.
    pub(super) fn untouched(&mut self) -> Result<Drawn, EngineError> {
        let source = self.task.source();
        let source = source.ok_or_else(|| missing("a source to work on"))?;
        let (width, height) = self.size();
        let upload = self
            .graph
            .upload(source::resized(&source.image, width, height));
        Ok(self.graph.load_image(upload).into())
    }

    /// Does all steps, and marks what comes out as the result.
    pub(super) fn post_process(&mut self, mut drawn: Drawn) -> Result<(), EngineError> {
        for step in post::ordered(&self.task.post) {
            if !is_possible(self.shelf, step) {
                return Err(missing(&format!("the post-processor {}", step.name())));
            }
            drawn = match step.kind() {
                PostKind::Upscaler(_) => self.upscaled(drawn, step)?,
                PostKind::FaceFixer => self.mended(drawn, step)?,
                PostKind::Background => Drawn {
                    image: self.graph.strip_background(drawn.image),
                    has_alpha: true,
                },
            };
        }
        self.graph.finish(drawn.image);
        Ok(())
    }

    /// Colours and transparency are enlarged apart.
    fn upscaled(&mut self, drawn: Drawn, step: PostProcessor) -> Result<Drawn, EngineError> {
        let file = file(self.shelf, step).ok_or_else(|| missing(step.name()))?;
        if !drawn.has_alpha {
            return Ok(self.graph.upscale(drawn.image, file).into());
        }
        let (colours, mask) = self.graph.split_alpha(drawn.image);
        let colours = self.graph.upscale(colours, file);
        let mask = self.graph.mask_to_image(mask);
        let mask = self.graph.upscale(mask, file);
        let mask = self.graph.image_to_mask(mask);
        Ok(Drawn {
            image: self.graph.join_alpha(colours, mask),
            has_alpha: true,
        })
    }

    fn mended(&mut self, drawn: Drawn, step: PostProcessor) -> Result<Drawn, EngineError> {
        let file = file(self.shelf, step).ok_or_else(|| missing(step.name()))?;
        let fidelity = self.task.face_strength.unwrap_or(FIDELITY);
        if !drawn.has_alpha {
            return Ok(self.graph.fix_faces(drawn.image, file, fidelity).into());
        }
        let (colours, mask) = self.graph.split_alpha(drawn.image);
        let colours = self.graph.fix_faces(colours, file, fidelity);
        Ok(Drawn {
            image: self.graph.join_alpha(colours, mask),
            has_alpha: true,
        })
    }
}
