//! `ordu engine-host`: the built-in engine in a process of its own, and the way to start one.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use ordu_engine::{
    Budget, Budgets, DeviceChoice, HostTiming, HostedEngine, NativeEngine, NativeOptions,
    NativeText, NativeTextOptions,
};

use crate::cli::{Computing, EngineHost};
use crate::exit::Exit;
use crate::logs::Logs;
use crate::settings;

/// How to start it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosting {
    /// The folder of its image models.
    pub(crate) models: Option<PathBuf>,
    /// Whether the bundled Stable Cascade is one of them.
    pub(crate) cascade: bool,
    /// The folders of LoRAs and of textual inversions.
    pub(crate) add_ons: AddOnFolders,
    /// Its text model, if that is not the bundled one.
    pub(crate) text_model: Option<PathBuf>,
    pub(crate) computing: Computing,
    pub(crate) timing: HostTiming,
    /// Where its complaints go, if not to standard error.
    pub(crate) errors: Option<Logs>,
}

/// Where add-ons of image models lie.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddOnFolders {
    pub(crate) loras: Vec<PathBuf>,
    pub(crate) embeddings: Vec<PathBuf>,
}

/// Serves whoever started this process, until they are gone.
pub(crate) fn run(args: EngineHost) -> Result<Exit> {
    let engine = NativeEngine::open(&NativeOptions {
        models: args.models_dir,
        cascade: args.cascade,
        loras: args.loras_dir,
        embeddings: args.embeddings_dir,
        device: args.computing.device,
        precision: args.computing.precision,
        memory: Budgets {
            ram: args.computing.ram_budget,
            vram: args.computing.vram_budget,
        },
    })
    .context("the engine cannot start")?;
    for problem in engine.problems() {
        eprintln!("Note: {problem}");
    }
    let writer = text_model(args.text_model.as_deref())?;
    let (input, output) = (io::stdin().lock(), io::stdout());
    ordu_engine::serve(&engine, Some(&writer), Some(&engine), input, output)
        .context("the engine lost whoever started it")?;
    Ok(Exit::Done)
}

/// A text model in a file, or the one that is part of this program.
fn text_model(file: Option<&Path>) -> Result<NativeText> {
    let options = NativeTextOptions {
        model: file.map(Path::to_owned),
        ..NativeTextOptions::default()
    };
    NativeText::open(&options).context("`--text-model` is unusable")
}

impl Hosting {
    /// The same on each of these devices, for pictures alone but on the first. Several processes on one
    /// processor share its memory.
    pub(crate) fn on(&self, devices: &[DeviceChoice]) -> Vec<Self> {
        let mut computing = self.computing;
        let beside = devices.iter().filter(|device| !is_card(**device)).count();
        if beside > 1 && computing.ram_budget == Budget::Auto {
            let share = SHARE_OF_ALL / u8::try_from(beside).unwrap_or(SHARE_OF_ALL);
            computing.ram_budget = Budget::Share(share.max(1));
        }
        let hosting = |(place, device): (usize, &DeviceChoice)| Self {
            computing: Computing {
                device: *device,
                ..computing
            },
            text_model: self.text_model.clone().filter(|_| place == 0),
            ..self.clone()
        };
        devices.iter().enumerate().map(hosting).collect()
    }
}

/// What several processes on one processor may take of its memory together, in percent.
const SHARE_OF_ALL: u8 = 60;

fn is_card(device: DeviceChoice) -> bool {
    match device {
        DeviceChoice::Cpu => false,
        DeviceChoice::Auto => cfg!(any(feature = "cuda", feature = "metal")),
        DeviceChoice::Cuda(_) | DeviceChoice::Metal => true,
    }
}

/// The devices to draw on: those that were named, or, if the choice is left to this program, all cards
/// that it was built for.
pub(crate) fn devices(named: &[DeviceChoice], one: DeviceChoice) -> Vec<DeviceChoice> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let count = if one == DeviceChoice::Auto && cfg!(feature = "cuda") {
        cards(
            settings::visible_cards().as_deref(),
            std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count),
        )
    } else {
        0
    };
    match count {
        0 | 1 => vec![one],
        count => (0..count).map(DeviceChoice::Cuda).collect(),
    }
}

/// How many cards this program sees, of so many.
fn cards(visible: Option<&str>, there: usize) -> usize {
    match visible {
        None => there,
        Some(list) => {
            let named = list.split(',').map(str::trim);
            // As the driver reads it: what follows something that is no card is not seen.
            named
                .take_while(|card| !card.is_empty() && *card != "-1")
                .count()
                .min(there)
        }
    }
}

/// The built-in engine in a process of its own, so that no driver, no weights and no shortage of
/// memory takes the worker or the server down.
pub(crate) fn start(hosting: &Hosting) -> Result<Arc<HostedEngine>> {
    let computing = hosting.computing;
    computing.device.check()?;
    // What is wrong with a file is best told before anything else runs.
    text_model(hosting.text_model.as_deref())?;
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = Command::new(program);
    command
        .arg("engine-host")
        .args(["--device", &computing.device.to_string()])
        .args(["--precision", &computing.precision.to_string()])
        .args(["--ram-budget", &computing.ram_budget.to_string()])
        .args(["--vram-budget", &computing.vram_budget.to_string()]);
    if let Some(folder) = &hosting.models {
        command.arg("--models-dir").arg(folder);
    }
    if hosting.cascade {
        command.arg("--cascade");
    }
    for folder in &hosting.add_ons.loras {
        command.arg("--loras-dir").arg(folder);
    }
    for folder in &hosting.add_ons.embeddings {
        command.arg("--embeddings-dir").arg(folder);
    }
    if let Some(file) = &hosting.text_model {
        command.arg("--text-model").arg(file);
    }
    // A key press that asks the worker to finish must not reach the process that it finishes with.
    command.process_group(0);
    if let Some(logs) = &hosting.errors {
        let (reader, writer) = io::pipe().context("cannot hear the engine")?;
        command.stderr(writer);
        let mut logs = logs.clone();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                // There is no better place to tell that it cannot be told.
                let _ = writeln!(logs, "engine: {line}");
            }
        });
    }
    let engine = HostedEngine::start(command, hosting.timing).context("the engine cannot start")?;
    Ok(Arc::new(engine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_counted_as_far_as_they_are_seen() {
        assert_eq!(cards(None, 3), 3);
        assert_eq!(cards(Some("0,2"), 3), 2);
        assert_eq!(cards(Some("GPU-8f,1"), 3), 2);
        assert_eq!(cards(Some("1,-1,2"), 3), 1);
        assert_eq!(cards(Some(""), 3), 0);
        assert_eq!(cards(Some("0,1,2,3"), 3), 3);
    }

    #[test]
    fn devices_that_are_named_are_taken() {
        let two = [DeviceChoice::Cuda(1), DeviceChoice::Cpu];
        assert_eq!(devices(&two, DeviceChoice::Auto), two);
        assert_eq!(devices(&[], DeviceChoice::Cpu), [DeviceChoice::Cpu]);
    }

    #[test]
    fn each_device_has_a_process_and_the_first_writes() {
        let hosting = Hosting {
            text_model: Some(PathBuf::from("a.gguf")),
            ..Hosting::default()
        };
        let both = hosting.on(&[DeviceChoice::Cpu, DeviceChoice::Cpu]);
        let budget = Budget::Share(30);
        assert!(both.iter().all(|one| one.computing.ram_budget == budget));
        assert_eq!(both[0].text_model, hosting.text_model);
        assert_eq!(both[1].text_model, None);
        let one = hosting.on(&[DeviceChoice::Cuda(1)]);
        assert_eq!(one[0].computing.device, DeviceChoice::Cuda(1));
        assert_eq!(one[0].computing.ram_budget, Budget::Auto);
    }
}
