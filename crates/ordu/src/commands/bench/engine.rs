//! `ordu bench engine`: how long the networks of the built-in engine take, and how much memory.
//!
//! # Source
//! `engine.md` § 7.

use anyhow::{Context as _, Result, bail};
use ordu_engine::Compute;
use ordu_engine::native::measure::{Family, Part, Subject};
use serde_json::{Value, json};

use super::super::work::memory::Memory;
use super::opponent::Opponent;
use crate::cli::BenchEngine;
use crate::exit::Exit;

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    part: Part,
    side: usize,
    pictures: usize,
    on: String,
    ours: Measured,
    theirs: Option<Measured>,
}

/// What passes took.
#[derive(Debug, Clone, Default, PartialEq)]
struct Measured {
    /// In seconds.
    passes: Vec<f64>,
    /// Seconds of all cores together, in the order of the passes; nothing where nobody counts.
    cores: Vec<f64>,
    /// What the first one took beyond what was there before, at most, in bytes.
    peak: Option<u64>,
}

impl Measured {
    fn took(&mut self, seconds: f64, cores: Option<f64>) {
        self.passes.push(seconds);
        self.cores.extend(cores);
    }

    fn median(&self) -> f64 {
        median(&self.passes)
    }

    /// What other programs on the machine take away does not count.
    fn of_cores(&self) -> Option<f64> {
        Some(median(&self.cores)).filter(|seconds| seconds.is_finite())
    }

    fn best(&self) -> f64 {
        let passes = self.passes.iter().skip(1);
        passes.copied().fold(f64::INFINITY, f64::min)
    }
}

/// Of all but the first, which warms up.
fn median(passes: &[f64]) -> f64 {
    let mut passes = passes.get(1..).unwrap_or_default().to_vec();
    passes.sort_by(f64::total_cmp);
    passes.get(passes.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Row {
    /// How many times theirs ours is.
    fn ratio(&self) -> Option<f64> {
        Some(self.ours.median() / self.theirs.as_ref()?.median())
    }

    /// The same of the seconds of all cores.
    fn ratio_of_cores(&self) -> Option<f64> {
        Some(self.ours.of_cores()? / self.theirs.as_ref()?.of_cores()?)
    }

    fn as_json(&self) -> Value {
        let measured = |of: &Measured| {
            json!({
                "seconds": of.median(), "best_seconds": of.best(), "core_seconds": of.of_cores(),
                "peak_bytes": of.peak,
            })
        };
        json!({
            "model": self.name, "part": self.part.name(), "size": self.side,
            "pictures": self.pictures, "on": self.on, "ordu": measured(&self.ours),
            "against": self.theirs.as_ref().map(measured), "ratio": self.ratio(),
            "ratio_of_cores": self.ratio_of_cores(),
        })
    }

    fn as_text(&self) -> String {
        let share = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |it| format!("{it:.2}"));
        format!(
            "{:<12} {:<7} {:>5} {:>4} {:>12} {:>12} {:>6} {:>6} {:>10}",
            self.name,
            self.part.name(),
            self.side,
            self.pictures,
            seconds(self.ours.median()),
            self.theirs
                .as_ref()
                .map_or("-".to_owned(), |it| seconds(it.median())),
            share(self.ratio()),
            share(self.ratio_of_cores()),
            self.ours
                .peak
                .map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
        )
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.4} s")
}

const HEAD: &str = "\
Model        Part     Size  Pic.         ordu        other  Ratio  Cores     Memory";

pub(crate) fn run(args: &BenchEngine) -> Result<Exit> {
    let compute = Compute::open(args.device, args.precision)?;
    let mut opponent = match &args.against {
        Some(command) => Some(Opponent::start(command)?),
        None => None,
    };
    if !args.json {
        println!("{HEAD}");
    }
    let families: Vec<Option<Family>> = match args.model {
        Some(_) => vec![None],
        None => args.family.iter().copied().map(Some).collect(),
    };
    for family in families {
        for part in args.part.iter().copied() {
            let subject = open(args, (family, part), &compute)?;
            for side in sides(args, family, part) {
                let row = measure(args, (family, part, side), &subject, opponent.as_mut())?;
                if args.json {
                    println!("{}", row.as_json());
                } else {
                    println!("{}", row.as_text());
                }
            }
        }
    }
    Ok(Exit::Done)
}

fn open(
    args: &BenchEngine,
    (family, part): (Option<Family>, Part),
    compute: &Compute,
) -> Result<Subject> {
    match (family, &args.model) {
        (Some(family), _) => Ok(Subject::made_up(family, part, compute)?),
        (None, Some(path)) => Subject::open(path, part, compute)
            .with_context(|| format!("cannot measure `{}`", path.display())),
        (None, None) => bail!("nothing to measure: give `--family` or `--model`"),
    }
}

/// Texts have no side: one row is enough.
fn sides(args: &BenchEngine, family: Option<Family>, part: Part) -> Vec<usize> {
    let own = family.map_or(Family::Sd15.side(), Family::side);
    match (part, args.size.as_slice()) {
        (Part::Text, _) | (_, []) => vec![own],
        (_, sizes) => sizes.to_vec(),
    }
}

/// Passes in turns, so that whatever else the machine does disturbs both alike.
fn measure(
    args: &BenchEngine,
    (family, part, side): (Option<Family>, Part, usize),
    subject: &Subject,
    mut opponent: Option<&mut Opponent>,
) -> Result<Row> {
    let pictures = usize::from(args.pictures);
    let name = match (&args.model, family) {
        (Some(path), _) => path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        (None, family) => family.map_or("-", Family::name).to_owned(),
    };
    let asked = json!({
        "family": family.map(Family::name), "model": args.model, "part": part.name(),
        "size": side, "pictures": pictures,
    });
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    for pass in 0..=args.passes {
        let before = Memory::now().worker;
        Memory::forget_peak();
        let used = core_seconds();
        let took = subject.pass(side, pictures)?.as_secs_f64();
        let used = core_seconds().zip(used).map(|(now, before)| now - before);
        ours.took(took, used);
        if pass == 0 {
            let own = before.zip(Memory::peak().worker);
            let counted = subject.compute().peak_bytes();
            ours.peak = counted.or(own.map(|(before, peak)| peak.saturating_sub(before)));
        }
        if let Some(opponent) = opponent.as_deref_mut() {
            let answer = opponent.pass(&asked)?;
            theirs.took(answer.seconds, answer.core_seconds);
            theirs.peak = theirs.peak.or(answer.peak_bytes);
        }
    }
    Ok(Row {
        name,
        part,
        side,
        pictures,
        on: subject.compute().to_string(),
        ours,
        theirs: opponent.map(|_| theirs),
    })
}

/// Seconds that the cores have worked for the threads of this program.
///
/// # Source
/// proc(5): `schedstat`; its first number is in nanoseconds.
fn core_seconds() -> Option<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let worked = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += worked.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(passes: &[f64]) -> Measured {
        Measured {
            passes: passes.to_vec(),
            cores: passes.to_vec(),
            peak: Some(3 << 20),
        }
    }

    #[test]
    fn the_first_pass_counts_for_memory_alone() {
        let measured = measured(&[100.0, 3.0, 1.0, 2.0]);
        assert!((measured.median() - 2.0).abs() < 1e-9);
        assert!((measured.best() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn rows_tell_how_many_times_theirs_ours_is() {
        let row = Row {
            name: "sd15".to_owned(),
            part: Part::Unet,
            side: 512,
            pictures: 1,
            on: "cpu in f32".to_owned(),
            ours: measured(&[9.0, 3.0, 3.0, 3.0]),
            theirs: Some(measured(&[9.0, 2.0, 2.0, 2.0])),
        };
        let text = row.as_text();
        assert!(
            text.contains("3.0000 s") && text.contains("2.0000 s"),
            "{text}"
        );
        assert!(text.contains("1.50") && text.contains("3 MiB"), "{text}");
        assert_eq!(row.as_json()["ratio"], json!(1.5));
        assert_eq!(row.as_json()["ratio_of_cores"], json!(1.5));
        assert_eq!(row.as_json()["ordu"]["peak_bytes"], json!(3 << 20));
        let alone = Row {
            theirs: None,
            ..row
        };
        assert_eq!(alone.as_json()["ratio"], Value::Null);
        assert_eq!(alone.as_text().len(), text.len());
    }
}
