//! What does the work of a worker.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ordu_engine::remote::RemoteOptions;
use ordu_engine::remote::kobold::KoboldEngine;
use ordu_engine::remote::openai::{OpenAiEngine, OpenAiMode};
use ordu_engine::{ComfyEngine, ComfyOptions, NativeAlchemy, TextEngine};
use ordu_worker::{Engines, RemoteClassifier};
use tokio::runtime::Handle;

use super::host;
use crate::cli::{EngineChoice, Work};

/// The engines for the roles that were asked for.
pub(crate) fn for_work(args: &Work) -> Result<Engines> {
    let chosen = |writes: bool| -> Result<Option<&EngineChoice>> {
        let mut found = args
            .engine
            .iter()
            .filter(|choice| choice.writes() == writes);
        let first = found.next();
        if let Some(second) = found.next() {
            bail!("one engine of a kind is enough: leave out {second:?}");
        }
        Ok(first)
    };
    let (painter, writer) = (chosen(false)?, chosen(true)?);
    let unspecified = !args.dreamer && !args.scribe && !args.alchemist;
    let mut engines = Engines::default();
    if args.dreamer || unspecified {
        engines.image = Some(match painter {
            Some(EngineChoice::ComfyUi(url)) => {
                let engine = ComfyEngine::open(url, Handle::current(), ComfyOptions::default());
                Arc::new(engine.context("`--engine` is unusable")?)
            }
            _ => host::start(args.models_dir.as_deref(), args.computing)?,
        });
    }
    if args.scribe && writer.is_none() {
        bail!("`--scribe` needs an engine: give `--engine openai=URL` or `--engine kobold=URL`");
    }
    if let Some(writer) = writer
        && (args.scribe || unspecified)
    {
        engines.text = Some(text(writer, args.engine_key.as_deref())?);
    }
    if args.alchemist {
        engines.alchemy.push(Arc::new(NativeAlchemy));
    }
    if let Some(url) = &args.safety {
        let classifier = RemoteClassifier::new(url).context("`--safety` is unusable")?;
        engines.safety = Some(Arc::new(classifier));
    } else if engines.image.is_some() && !args.sfw {
        eprintln!(
            "Note: no classifier looks at the pictures (`--safety URL`): with models beside the \
             bundled one, only requests without adult content are taken"
        );
    }
    Ok(engines)
}

/// An engine that writes.
pub(crate) fn text(choice: &EngineChoice, key: Option<&str>) -> Result<Arc<dyn TextEngine>> {
    let options = |url: &String| RemoteOptions {
        key: key.map(str::to_owned),
        ..RemoteOptions::new(url)
    };
    let runtime = Handle::current();
    let openai = |url, mode| OpenAiEngine::new(&options(url), mode, runtime.clone());
    let engine: Arc<dyn TextEngine> = match choice {
        EngineChoice::Native | EngineChoice::ComfyUi(_) => {
            bail!("this engine writes no texts: give `openai=URL` or `kobold=URL`")
        }
        EngineChoice::OpenAi(url) => {
            Arc::new(openai(url, OpenAiMode::Completions).context("`--engine` is unusable")?)
        }
        EngineChoice::OpenAiChat(url) => {
            Arc::new(openai(url, OpenAiMode::Chat).context("`--engine` is unusable")?)
        }
        EngineChoice::Kobold(url) => {
            let engine = KoboldEngine::new(&options(url), runtime.clone());
            Arc::new(engine.context("`--engine` is unusable")?)
        }
    };
    Ok(engine)
}
