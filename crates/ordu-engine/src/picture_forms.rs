//! Forms of alchemy that an image engine can answer: its post-processors, and the maps that steer.
//!
//! # Source
//! `worker.md` § 2.9, 2.13, 6.

use std::sync::Arc;

use image::DynamicImage;
use serde_json::{Map, Value};

use crate::{
    AlchemyEngine, Answer, Control, ControlType, Engine, EngineError, Feature, ImageTask, Mode,
    PostProcessor, ProgressSink, Source, Workflow,
};

/// The form that makes maps; what of the picture is looked at is one of its options.
const ANNOTATION: &str = "annotation";

/// Answers forms with what an image engine has.
pub struct PictureForms(Arc<dyn Engine>);

impl PictureForms {
    /// Of this engine. What it cannot do at a moment is no form at that moment.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self(engine)
    }
}

impl AlchemyEngine for PictureForms {
    fn forms(&self) -> Vec<String> {
        let can = self.0.capabilities();
        let maps = can.features.contains(&Feature::ControlMap);
        let steps = can.post_processors.iter().map(|step| step.name());
        let forms = steps.chain(maps.then_some(ANNOTATION));
        forms.map(str::to_owned).collect()
    }

    fn shares_device(&self) -> bool {
        true
    }

    fn answer(
        &self,
        form: &str,
        picture: &DynamicImage,
        options: &Map<String, Value>,
        progress: &dyn ProgressSink,
    ) -> Result<Answer, EngineError> {
        let task = if form == ANNOTATION {
            map(picture, options)?
        } else {
            let step = PostProcessor::from_name(form);
            processed(picture, step.ok_or_else(|| unknown(form))?, options)
        };
        let made = self.0.run(task, progress)?.into_iter().next();
        let made = made.ok_or_else(|| EngineError::Failed {
            reason: "the engine made no picture".to_owned(),
        })?;
        Ok(Answer::Picture(made.image))
    }
}

fn unknown(form: &str) -> EngineError {
    EngineError::bad_task(format!("`{form}` is no form that is answered here"))
}

/// The task of a picture as it is.
fn of(picture: &DynamicImage) -> ImageTask {
    ImageTask {
        width: picture.width(),
        height: picture.height(),
        steps: 1,
        mode: Mode::Img2Img(Source::new(picture.clone())),
        ..ImageTask::new("", "")
    }
}

fn processed(
    picture: &DynamicImage,
    step: PostProcessor,
    options: &Map<String, Value>,
) -> ImageTask {
    let strength = options.get("facefixer_strength").and_then(Value::as_f64);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "engines compute in single precision"
    )]
    let strength = strength.map(|strength| strength.clamp(0.0, 1.0) as f32);
    ImageTask {
        workflow: Some(Workflow::PostProcess),
        post: vec![step],
        face_strength: strength,
        ..of(picture)
    }
}

fn map(picture: &DynamicImage, options: &Map<String, Value>) -> Result<ImageTask, EngineError> {
    let named = options.get("control_type").and_then(Value::as_str);
    let kind = named.and_then(ControlType::from_name).ok_or_else(|| {
        EngineError::bad_task(format!("`control_type` is {named:?}, which is no type"))
    })?;
    let control = Control {
        kind,
        image_is_control: false,
        return_map: true,
        strength: 1.0,
    };
    Ok(ImageTask {
        control: Some(control),
        ..of(picture)
    })
}
