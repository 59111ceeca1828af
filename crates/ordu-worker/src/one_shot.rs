//! A picture job without a horde: what a horde would hand out is read from a file, and nothing is handed
//! back. The same ways are walked as with a horde: inputs, add-ons, task, engine.
//!
//! # Source
//! `worker.md` § 1.23.

use std::time::{Duration, Instant};

use ordu_api::image::{ImageJob, Metadata};
use ordu_client::{Horde, image_job};
use ordu_engine::{Capabilities, EngineError, ImageTask, Picture, ProgressSink};
use serde_json::{Map, Value};

use crate::bridge;
use crate::dreamer::larder;
use crate::generate::unusable;
use crate::manager::{AddOns, Family};
use crate::offer::allowed_models;
use crate::{Config, Engines};

/// How long add-ons may take to come.
const FETCH_WITHIN: Duration = Duration::from_mins(10);

/// What became of it.
#[derive(Debug)]
pub struct OneShot {
    /// The model that drew.
    pub model: String,
    /// One for each picture that the job asks for.
    pub pictures: Vec<Picture>,
    /// What a horde would have been told with the pictures.
    pub remarks: Vec<Metadata>,
    /// How long the engine took.
    pub took: Duration,
}

/// Why there are no pictures.
#[derive(Debug, thiserror::Error)]
pub enum OneShotError {
    /// Give another file.
    #[error("it is no job: {0}")]
    NoJob(String),
    /// Make pictures with this worker.
    #[error("this worker makes no pictures: give it an engine for them")]
    NoEngine,
    /// Name a model.
    #[error("there is no model to draw with")]
    NoModel,
    /// Change the address or the agent of the horde.
    #[error(transparent)]
    Client(#[from] ordu_client::Error),
    /// What the engine says.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A mistake of ours.
    #[error("the engine panicked")]
    Panicked,
}

/// Does a job: the answer to a pop, or its payload alone, which may name its `model`. Without a model the
/// first that would be offered draws.
///
/// # Errors
/// If it is no job, or what the engine says.
pub async fn one_shot(
    config: &Config,
    engines: &Engines,
    job: Value,
    progress: impl ProgressSink + Send + 'static,
) -> Result<OneShot, OneShotError> {
    let mut job = read(job)?;
    let engine = engines.image.clone().ok_or(OneShotError::NoEngine)?;
    let asked = engine.clone();
    let ability = tokio::task::spawn_blocking(move || asked.capabilities()).await;
    let ability = ability.map_err(|_| OneShotError::Panicked)?;
    if job.model.as_ref().is_none_or(String::is_empty) {
        job.model = allowed_models(config, &ability).into_iter().next();
    }
    let model = job.model.clone().ok_or(OneShotError::NoModel)?;
    let (mut task, mut remarks, add_ons) = prepared(config, engines, &job, &ability).await?;
    let drawing = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        loop {
            match engine.run(task.clone(), &progress) {
                Err(error)
                    if let Some(add_on) = unusable(&error)
                        && task.leave_out(&add_on.name) =>
                {
                    remarks.extend(add_ons.missed(&add_on));
                }
                made => return made.map(|pictures| (pictures, remarks, started.elapsed())),
            }
        }
    });
    let (pictures, remarks, took) = drawing.await.map_err(|_| OneShotError::Panicked)??;
    Ok(OneShot {
        model,
        pictures,
        remarks,
        took,
    })
}

/// A job as a horde would hand it out.
fn read(value: Value) -> Result<ImageJob, OneShotError> {
    let Value::Object(members) = value else {
        return Err(OneShotError::NoJob("it is no object".to_owned()));
    };
    let body = if members.contains_key("payload") {
        members
    } else {
        let model = members.get("model").cloned().unwrap_or_default();
        let mut body = Map::new();
        body.insert("model".to_owned(), model);
        body.insert("payload".to_owned(), Value::Object(members));
        body
    };
    image_job(Value::Object(body)).map_err(|error| OneShotError::NoJob(error.to_string()))
}

async fn prepared(
    config: &Config,
    engines: &Engines,
    job: &ImageJob,
    ability: &Capabilities,
) -> Result<(ImageTask, Vec<Metadata>, AddOns), OneShotError> {
    let horde = Horde::new(
        &config.horde_url,
        config.api_key.clone(),
        &config.bridge_agent,
    )?;
    let inputs = larder(config, &horde)?.gather(job).await;
    let asked = bridge::image::seed(job.payload.seed.as_deref());
    let seed = asked.unwrap_or_else(|| getrandom::u32().unwrap_or_default().into());
    let info = ability.model(job.model.as_deref().unwrap_or_default());
    let add_ons = match &engines.pantry {
        Some(pantry) => {
            let family = Family::parse(info.map_or("", |info| info.baseline.as_str()));
            let latest = tokio::time::Instant::now() + FETCH_WITHIN;
            pantry.prefetch(&job.payload, &family, seed, latest).await
        }
        None => AddOns::refused(&job.payload),
    };
    let mut task = bridge::image::task(job, inputs.sources, &add_ons, seed, ability.limits);
    task.batch = job.payload.n_iter.clamp(1, ability.limits.max_batch.max(1));
    let mut remarks = inputs.remarks;
    if info.is_some_and(|info| info.inpainting) {
        remarks.append(&mut bridge::image::fill_in(&mut task));
    }
    remarks.extend(add_ons.remarks.iter().cloned());
    Ok((task, remarks, add_ons))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ordu_engine::Quiet;
    use ordu_engine::testing::TestEngine;
    use serde_json::json;

    use super::*;

    async fn done(job: Value) -> Result<OneShot, OneShotError> {
        let engines = Engines::from(Arc::new(TestEngine::new(["first", "second"])));
        one_shot(&Config::default(), &engines, job, Quiet).await
    }

    #[tokio::test]
    async fn a_payload_or_a_whole_job_is_drawn() {
        let payload =
            json!({"prompt": "x", "seed": "hello", "width": 64, "height": "128", "n_iter": 2});
        let made = done(payload.clone()).await.unwrap();
        assert_eq!((made.model.as_str(), made.pictures.len()), ("first", 2));
        let picture = &made.pictures[0];
        assert_eq!((picture.image.width(), picture.image.height()), (64, 128));
        assert_eq!(picture.seed, 111, "as a horde reads it");
        let job = json!({
            "id": "00000000-0000-4000-8000-000000000001", "model": "second", "payload": payload,
            "source_image": "no picture", "source_processing": "img2img",
        });
        let made = done(job).await.unwrap();
        assert_eq!(made.model, "second");
        assert_eq!(made.remarks[0].value, "parse_failed");
    }

    #[tokio::test]
    async fn what_is_no_job_is_told() {
        assert!(matches!(done(json!([])).await, Err(OneShotError::NoJob(_))));
        let unknown = done(json!({"payload": {}, "model": "absent"})).await;
        assert!(
            matches!(unknown, Err(OneShotError::Engine(_))),
            "{unknown:?}"
        );
        let nobody = one_shot(&Config::default(), &Engines::default(), json!({}), Quiet).await;
        assert!(matches!(nobody, Err(OneShotError::NoEngine)));
    }
}
