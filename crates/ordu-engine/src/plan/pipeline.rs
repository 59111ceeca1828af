//! Which pipeline a task runs through.
//!
//! # Source
//! `worker.md` § 2.5.

use crate::plan::hires;
use crate::{Baseline, ImageTask, Mode, ModelInfo, Workflow};

/// A way from task to picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pipeline {
    /// The source, post-processed.
    PostProcess,
    /// A picture that scans.
    QrCode,
    /// The source, larger.
    CreativeUpscale,
    /// Stable Cascade from pictures.
    CascadeRemix,
    /// Stable Cascade, refined.
    CascadeTwoPass,
    /// Stable Cascade.
    Cascade,
    /// Flux 1.
    Flux,
    /// Qwen-Image.
    QwenImage,
    /// Z-Image Turbo.
    ZImage,
    /// Only the map that would steer.
    Annotator,
    /// Steered, then refined without steering.
    ControlHires,
    /// Steered.
    Control,
    /// From a picture, where it is masked.
    MaskedImg2Img,
    /// Filling in.
    Paint,
    /// Refined.
    Hires,
    /// From noise, or from a picture.
    Plain,
}

/// The pipeline of a task: the first row that matches.
#[must_use]
pub fn choose(task: &ImageTask, model: &ModelInfo) -> Pipeline {
    by_workflow(task)
        .or_else(|| by_baseline(task, model))
        .or_else(|| by_control(task, model))
        .unwrap_or_else(|| by_mode(task, model))
}

/// Whether a task draws, for which it needs a model. Others only look at their source.
#[must_use]
pub fn draws(task: &ImageTask) -> bool {
    let maps = || task.control.is_some_and(|control| control.return_map);
    task.source().is_none() || !(task.workflow == Some(Workflow::PostProcess) || maps())
}

fn by_workflow(task: &ImageTask) -> Option<Pipeline> {
    match (&task.workflow, task.source()) {
        (Some(Workflow::PostProcess), Some(_)) => Some(Pipeline::PostProcess),
        (Some(Workflow::QrCode(_)), _) => Some(Pipeline::QrCode),
        (Some(Workflow::CreativeUpscale), Some(_)) => Some(Pipeline::CreativeUpscale),
        _ => None,
    }
}

fn by_baseline(task: &ImageTask, model: &ModelInfo) -> Option<Pipeline> {
    match model.baseline {
        Baseline::StableCascade if matches!(&task.mode, Mode::Remix(images) if !images.is_empty()) => {
            Some(Pipeline::CascadeRemix)
        }
        Baseline::StableCascade if hires::applies(task, model) => Some(Pipeline::CascadeTwoPass),
        Baseline::StableCascade => Some(Pipeline::Cascade),
        baseline if baseline.is_flux() => Some(Pipeline::Flux),
        Baseline::QwenImage => Some(Pipeline::QwenImage),
        Baseline::ZImageTurbo => Some(Pipeline::ZImage),
        _ => None,
    }
}

/// Without a source there is nothing to look at.
fn by_control(task: &ImageTask, model: &ModelInfo) -> Option<Pipeline> {
    let control = task.control.filter(|_| task.source().is_some())?;
    Some(if control.return_map {
        Pipeline::Annotator
    } else if hires::applies(task, model) {
        Pipeline::ControlHires
    } else {
        Pipeline::Control
    })
}

fn by_mode(task: &ImageTask, model: &ModelInfo) -> Pipeline {
    match &task.mode {
        Mode::Inpaint(_) | Mode::Outpaint(_) => Pipeline::Paint,
        _ if model.inpainting => Pipeline::Paint,
        Mode::Img2Img(source) if source.mask.is_some() || source.image.color().has_alpha() => {
            Pipeline::MaskedImg2Img
        }
        _ if hires::applies(task, model) => Pipeline::Hires,
        _ => Pipeline::Plain,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use image::{DynamicImage, GrayImage};

    use super::*;
    use crate::{Control, ControlType, Fit, Hires, Origin, Prediction, QrSpec, RemixImage, Source};

    pub(crate) fn model(baseline: Baseline, native: u32) -> ModelInfo {
        ModelInfo {
            name: "m".to_owned(),
            baseline,
            native,
            fit: Fit::Exact,
            prediction: Prediction::Epsilon,
            inpainting: false,
            bytes: 0,
            origin: Origin::Bundled,
        }
    }

    fn chosen(baseline: Baseline, change: impl FnOnce(&mut ImageTask)) -> Pipeline {
        let mut task = ImageTask {
            width: 1536,
            height: 1536,
            ..ImageTask::new("m", "x")
        };
        change(&mut task);
        choose(&task, &model(baseline, 1024))
    }

    fn source() -> Source {
        Source::new(DynamicImage::new_rgb8(8, 8))
    }

    fn control(task: &mut ImageTask, return_map: bool) {
        task.mode = Mode::Img2Img(source());
        task.control = Some(Control {
            kind: ControlType::Canny,
            image_is_control: false,
            return_map,
            strength: 1.0,
        });
    }

    fn hires(task: &mut ImageTask) {
        task.hires = Some(Hires::default());
    }

    #[test]
    fn special_families_come_before_everything_but_workflows() {
        use Baseline::{FluxSchnell, QwenImage, StableCascade, StableDiffusion1, ZImageTurbo};
        let qr = |task: &mut ImageTask| task.workflow = Some(Workflow::QrCode(QrSpec::new("x")));
        assert_eq!(chosen(StableCascade, qr), Pipeline::QrCode);
        let upscale = |task: &mut ImageTask| {
            task.workflow = Some(Workflow::CreativeUpscale);
            task.mode = Mode::Img2Img(source());
        };
        assert_eq!(chosen(StableDiffusion1, upscale), Pipeline::CreativeUpscale);
        let remix = |task: &mut ImageTask| {
            let image = DynamicImage::new_rgb8(8, 8);
            task.mode = Mode::Remix(vec![RemixImage {
                image,
                strength: 1.0,
            }]);
        };
        assert_eq!(chosen(StableCascade, remix), Pipeline::CascadeRemix);
        assert_eq!(chosen(StableDiffusion1, remix), Pipeline::Plain);
        let no_picture = |task: &mut ImageTask| task.mode = Mode::Remix(Vec::new());
        assert_eq!(chosen(StableCascade, no_picture), Pipeline::Cascade);
        assert_eq!(chosen(StableCascade, hires), Pipeline::CascadeTwoPass);
        assert_eq!(chosen(StableCascade, |_| {}), Pipeline::Cascade);
        assert_eq!(chosen(FluxSchnell, hires), Pipeline::Flux);
        assert_eq!(
            chosen(FluxSchnell, |task| control(task, false)),
            Pipeline::Flux
        );
        assert_eq!(chosen(QwenImage, |_| {}), Pipeline::QwenImage);
        assert_eq!(chosen(ZImageTurbo, |_| {}), Pipeline::ZImage);
    }

    #[test]
    fn others_are_steered_masked_painted_refined_or_plain() {
        use Baseline::{Custom, StableDiffusion1, StableDiffusionXl};
        let map = |task: &mut ImageTask| control(task, true);
        assert_eq!(chosen(StableDiffusion1, map), Pipeline::Annotator);
        let both = |task: &mut ImageTask| {
            control(task, false);
            hires(task);
        };
        assert_eq!(chosen(StableDiffusion1, both), Pipeline::ControlHires);
        assert_eq!(
            chosen(StableDiffusion1, |task| control(task, false)),
            Pipeline::Control
        );
        let blind = |task: &mut ImageTask| {
            control(task, false);
            task.mode = Mode::Txt2Img;
        };
        assert_eq!(chosen(StableDiffusion1, blind), Pipeline::Plain);
        let masked = |task: &mut ImageTask| {
            let mask = Some(GrayImage::new(8, 8));
            task.mode = Mode::Img2Img(Source { mask, ..source() });
        };
        assert_eq!(chosen(StableDiffusionXl, masked), Pipeline::MaskedImg2Img);
        let alpha = |task: &mut ImageTask| {
            task.mode = Mode::Img2Img(Source::new(DynamicImage::new_rgba8(8, 8)));
        };
        assert_eq!(chosen(StableDiffusionXl, alpha), Pipeline::MaskedImg2Img);
        let paint = |task: &mut ImageTask| {
            task.mode = Mode::Inpaint(source());
            hires(task);
        };
        assert_eq!(chosen(StableDiffusionXl, paint), Pipeline::Paint);
        assert_eq!(chosen(StableDiffusionXl, hires), Pipeline::Hires);
        assert_eq!(chosen(Custom, hires), Pipeline::Hires);
        let img2img = |task: &mut ImageTask| task.mode = Mode::Img2Img(source());
        assert_eq!(chosen(Custom, img2img), Pipeline::Plain);
    }

    #[test]
    fn an_inpainting_model_always_paints() {
        let model = ModelInfo {
            inpainting: true,
            ..model(Baseline::StableDiffusion1, 512)
        };
        assert_eq!(choose(&ImageTask::new("m", "x"), &model), Pipeline::Paint);
    }
}
