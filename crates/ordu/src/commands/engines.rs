//! What does the work of a worker.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ordu_engine::remote::RemoteOptions;
use ordu_engine::remote::kobold::KoboldEngine;
use ordu_engine::remote::openai::{OpenAiEngine, OpenAiMode};
use ordu_engine::{
    AlchemyEngine, ComfyEngine, ComfyOptions, Engine, HostedEngine, NamedEngine, NativeAlchemy,
    PictureForms, Spread, TextEngine,
};
use ordu_worker::manager::PROOF;
use ordu_worker::{Classifier, EngineClassifier, Engines, RemoteClassifier};
use tokio::runtime::Handle;

use super::host::{self, Hosting};
use crate::cli::{EngineChoice, Makes, Work};

/// The form that a safety checker answers.
const NSFW: &str = "nsfw";

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
    /// Whether it reads pictures, once there is something to read them with.
    pub(crate) reads: bool,
}

impl Staff {
    /// Starts the built-in engine, a process for each device. The first one, which is returned, writes
    /// and reads pictures, too.
    fn start(
        &mut self,
        args: &Work,
        hosting: &Hosting,
        (paints, writes): (bool, bool),
    ) -> Result<Option<Arc<HostedEngine>>> {
        let mut devices = host::devices(&args.devices, args.computing.device);
        if !paints {
            devices.truncate(1);
        }
        let started = hosting.on(&devices);
        let started: Result<Vec<_>> = started.iter().map(host::start).collect();
        let engines = started?;
        self.devices = u32::try_from(engines.len()).unwrap_or(u32::MAX);
        let first = engines.first().cloned();
        if writes && let Some(first) = &first {
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
        Ok(first)
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
    // What reads pictures lies among the models.
    let reads_natively = args.alchemist && is_native && hosting.models.is_some();
    if is_native && painter.is_some() && !writes_natively && !reads_natively {
        bail!("one engine of a kind is enough: leave out `native`");
    }
    let mut staff = Staff::default();
    let mut reader: Option<Arc<dyn AlchemyEngine>> = None;
    if paints_natively || writes_natively || reads_natively {
        let first = staff.start(args, hosting, (paints_natively, writes_natively))?;
        reader = first.map(|first| first as Arc<dyn AlchemyEngine>);
    }
    if let Some(EngineChoice::ComfyUi(url)) = painter {
        staff.comfy = Some(comfy(url)?);
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
        engines
            .alchemy
            .extend(reader.clone().filter(|_| reads_natively));
        let tools = drawing.map(|engine| Arc::new(PictureForms::new(engine)));
        engines
            .alchemy
            .extend(tools.map(|tools| tools as Arc<dyn AlchemyEngine>));
    }
    staff.reads = reader.is_some();
    staff.engines.safety = classifier(args, reader)?;
    let engines = &staff.engines;
    if engines.safety.is_none() && engines.image.is_some() && !args.sfw {
        eprintln!(
            "Note: no classifier looks at the pictures (`--safety URL`, or a safety checker among the \
             models): with models beside the bundled one, only requests without adult content are taken"
        );
    }
    Ok(staff)
}

/// The ComfyUI at an address.
fn comfy(url: &str) -> Result<Arc<ComfyEngine>> {
    let options = ComfyOptions {
        proof: Some(PROOF.to_owned()),
        ..ComfyOptions::default()
    };
    let engine = ComfyEngine::open(url, Handle::current(), options);
    Ok(Arc::new(engine.context("`--engine` is unusable")?))
}

/// What looks at pictures before they leave: what was asked for, or what lies among the models.
fn classifier(
    args: &Work,
    reader: Option<Arc<dyn AlchemyEngine>>,
) -> Result<Option<Arc<dyn Classifier>>> {
    if let Some(url) = &args.safety {
        let classifier = RemoteClassifier::new(url).context("`--safety` is unusable")?;
        return Ok(Some(Arc::new(classifier)));
    }
    let Some(reader) = reader.filter(|reader| reader.forms().iter().any(|form| form == NSFW))
    else {
        return Ok(None);
    };
    eprintln!("Note: the safety checker among the models looks at the pictures");
    Ok(Some(Arc::new(EngineClassifier::new(reader))))
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
