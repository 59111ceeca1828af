//! What does the work of a worker.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ordu_engine::remote::RemoteOptions;
use ordu_engine::remote::kobold::KoboldEngine;
use ordu_engine::remote::openai::{OpenAiEngine, OpenAiMode};
use ordu_engine::{
    AlchemyEngine, ComfyEngine, ComfyOptions, Engine, NamedEngine, NativeAlchemy, PictureForms,
    Spread, TextEngine,
};
use ordu_worker::manager::PROOF;
use ordu_worker::{Engines, RemoteClassifier};
use tokio::runtime::Handle;

use super::host::{self, Hosting};
use crate::cli::{EngineChoice, Makes, Work};

/// What does the work, and whom to tell how models are called.
#[derive(Default)]
pub(crate) struct Staff {
    pub(crate) engines: Engines,
    /// The ComfyUI that draws.
    pub(crate) comfy: Option<Arc<ComfyEngine>>,
    /// The built-in engine.
    pub(crate) native: Option<Arc<NamedEngine>>,
    /// Devices that it draws on.
    pub(crate) devices: u32,
}

impl Staff {
    /// Starts the built-in engine, a process for each device. The first one writes, too.
    fn start(
        &mut self,
        args: &Work,
        hosting: &Hosting,
        (paints, writes): (bool, bool),
    ) -> Result<()> {
        let mut devices = host::devices(&args.devices, args.computing.device);
        if !paints {
            devices.truncate(1);
        }
        let started = hosting.on(&devices);
        let started: Result<Vec<_>> = started.iter().map(host::start).collect();
        let engines = started?;
        self.devices = u32::try_from(engines.len()).unwrap_or(u32::MAX);
        if writes && let Some(first) = engines.first() {
            self.engines.text = Some(first.clone());
        }
        if paints {
            let mut engines: Vec<_> = engines
                .into_iter()
                .map(|it| it as Arc<dyn Engine>)
                .collect();
            let engine = match (engines.pop(), engines.is_empty()) {
                (Some(only), true) => only,
                (last, _) => {
                    engines.extend(last);
                    Arc::new(Spread::new(engines))
                }
            };
            self.native = Some(Arc::new(NamedEngine::new(engine)));
        }
        Ok(())
    }
}

/// The engines for the roles that were asked for. The built-in one is started if one of them needs it.
pub(crate) fn for_work(args: &Work, hosting: &Hosting) -> Result<Staff> {
    let unspecified = !args.dreamer && !args.scribe && !args.alchemist;
    let (painter, writer) = (named(args, Makes::Pictures)?, named(args, Makes::Texts)?);
    // Who names no engine means ours.
    let is_native = args.engine.is_empty() || args.engine.contains(&EngineChoice::Native);
    let paints = args.dreamer || unspecified;
    // Nobody becomes a scribe by chance, with a model that is for trying things out.
    let has_texts = writer.is_some() || args.text_model.is_some();
    let writes = args.scribe || (unspecified && has_texts);
    let (paints_natively, writes_natively) =
        (paints && painter.is_none(), writes && writer.is_none());
    if writes_natively && !is_native {
        bail!(
            "`--scribe` needs an engine that writes: add `--engine native` or `--engine openai=URL`"
        );
    }
    if args.text_model.is_some() && !writes_natively {
        bail!("`--text-model` is for `--scribe` with the engine `native`");
    }
    if is_native && painter.is_some() && !writes_natively {
        bail!("one engine of a kind is enough: leave out `native`");
    }
    let mut staff = Staff::default();
    if paints_natively || writes_natively {
        staff.start(args, hosting, (paints_natively, writes_natively))?;
    }
    if let Some(EngineChoice::ComfyUi(url)) = painter {
        let options = ComfyOptions {
            proof: Some(PROOF.to_owned()),
            ..ComfyOptions::default()
        };
        let engine = ComfyEngine::open(url, Handle::current(), options);
        staff.comfy = Some(Arc::new(engine.context("`--engine` is unusable")?));
    }
    let drawing = staff.comfy.clone().map(|comfy| comfy as Arc<dyn Engine>);
    let drawing = drawing.or_else(|| Some(staff.native.clone()? as Arc<dyn Engine>));
    let engines = &mut staff.engines;
    if paints {
        engines.image.clone_from(&drawing);
    }
    if let Some(writer) = writer
        && writes
    {
        engines.text = Some(text(writer, args.engine_key.as_deref())?);
    }
    if args.alchemist {
        engines.alchemy.push(Arc::new(NativeAlchemy));
        let tools = drawing.map(|engine| Arc::new(PictureForms::new(engine)));
        engines
            .alchemy
            .extend(tools.map(|tools| tools as Arc<dyn AlchemyEngine>));
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
    Ok(staff)
}

/// The engine that is another program and makes texts, or the one that makes pictures.
fn named(args: &Work, kind: Makes) -> Result<Option<&EngineChoice>> {
    let mut found = args
        .engine
        .iter()
        .filter(|choice| **choice != EngineChoice::Native && choice.makes() == kind);
    let first = found.next();
    if let Some(second) = found.next() {
        bail!("one engine of a kind is enough: leave out {second:?}");
    }
    Ok(first)
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
        EngineChoice::Native => host::start(&Hosting::default())?,
        EngineChoice::ComfyUi(_) => {
            bail!("this engine writes no texts: give `native`, `openai=URL` or `kobold=URL`")
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
