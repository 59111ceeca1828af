//! An engine without a model, for tests: draws a pattern from the seed in no time.

use std::collections::BTreeSet;

use image::{DynamicImage, Rgb, RgbImage};

use crate::{
    Baseline, Capabilities, Engine, EngineError, Feature, Fit, Holdings, ImageTask, Limits,
    ModelInfo, Origin, Picture, Prediction, ProgressSink, Sampler, Step,
};

/// Draws a deterministic pattern: same task, same pixels; another seed, prompt or place in the
/// batch, another pattern.
#[derive(Clone, Debug)]
pub struct TestEngine {
    models: Vec<String>,
}

impl TestEngine {
    /// An engine that offers models of these names.
    pub fn new<S: Into<String>>(models: impl IntoIterator<Item = S>) -> Self {
        Self {
            models: models.into_iter().map(Into::into).collect(),
        }
    }
}

impl Default for TestEngine {
    fn default() -> Self {
        Self::new(["test"])
    }
}

impl Engine for TestEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            models: self.models.iter().map(|name| info(name)).collect(),
            samplers: Sampler::all().collect(),
            limits: Limits {
                max_pixels: 4096 * 4096,
                max_batch: 20,
                max_steps: 500,
            },
            features: [
                Feature::Img2Img,
                Feature::Inpainting,
                Feature::Tiling,
                Feature::ClipSkip,
            ]
            .into(),
            controls: BTreeSet::new(),
            post_processors: BTreeSet::new(),
        }
    }

    fn run(
        &self,
        task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        if !self.models.contains(&task.model) {
            return Err(EngineError::UnknownModel {
                name: task.model,
                known: self.models.clone(),
            });
        }
        if task.width == 0 || task.height == 0 {
            return Err(EngineError::bad_task("a side of the picture is 0 pixels"));
        }
        for step in 1..=task.steps {
            if progress.cancelled() {
                return Err(EngineError::Cancelled);
            }
            progress.step(Step {
                step,
                of: task.steps,
                preview: None,
            });
        }
        Ok((0..task.batch).map(|index| draw(&task, index)).collect())
    }

    fn holdings(&self) -> Holdings {
        Holdings::default()
    }
}

fn info(name: &str) -> ModelInfo {
    ModelInfo {
        name: name.to_owned(),
        baseline: Baseline::Custom,
        native: 64,
        fit: Fit::Exact,
        prediction: Prediction::Epsilon,
        inpainting: false,
        bytes: 0,
        origin: Origin::Bundled,
    }
}

/// A gradient between two colours that come from a hash (FNV-1a) of seed, prompt and place in the
/// batch.
fn draw(task: &ImageTask, index: u32) -> Picture {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in task
        .seed
        .to_le_bytes()
        .iter()
        .chain(&index.to_le_bytes())
        .chain(task.prompt.as_bytes())
    {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let [a, b, c, d, e, f, ..] = hash.to_le_bytes();
    let span = u64::from(task.width + task.height);
    let mix = |from: u8, to: u8, at: u64| {
        let mixed = (u64::from(from) * (span - at) + u64::from(to) * at) / span;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    };
    let image = RgbImage::from_fn(task.width, task.height, |x, y| {
        let at = u64::from(x + y);
        Rgb([mix(a, d, at), mix(b, e, at), mix(c, f, at)])
    });
    Picture {
        image: DynamicImage::ImageRgb8(image),
        seed: task.seed,
        scans: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quiet;

    fn pixels(seed: u64) -> Vec<u8> {
        let task = ImageTask {
            seed,
            width: 8,
            height: 8,
            ..ImageTask::new("test", "x")
        };
        TestEngine::default().run(task, &Quiet).unwrap()[0]
            .image
            .as_bytes()
            .to_vec()
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(pixels(1), pixels(1));
        assert_ne!(pixels(1), pixels(2));
    }
}
