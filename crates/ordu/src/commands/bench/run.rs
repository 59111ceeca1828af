//! One scenario from its preparation to its figures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use ordu_api::ApiKey;
use ordu_core::Timestamp;
use ordu_server::Secret;
use ordu_store::testing::Schema;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::delay::Delay;
use super::drive::{Course, Drivers};
use super::process::{Process, Seat, Usage};
use super::recorder::Recorder;
use super::report::{PhaseReport, Report, Sample, ScenarioReport, ServerReport};
use super::scenario::{Case, Drive, Phase, Place, Scenario};
use super::scrape::Scrape;
use super::stage::{self, People, scaled};
use super::wire::{Wire, authority};
use crate::cli::Load;
use crate::commands::data::DataFolder;

/// How long everybody runs before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// How often is looked what the server holds, in a phase.
const SAMPLES: u32 = 400;

/// What is measured.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The server of a program, started for each case.
    Program(PathBuf),
    /// A server that runs already.
    Running { url: String, key: ApiKey },
}

/// What is measured, and how.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) subject: Subject,
    pub(crate) load: Load,
}

/// A server with everything it needs, until it is dropped.
#[derive(Debug)]
struct Staged {
    data: TempDir,
    database: String,
    schema: Option<Schema>,
    people: People,
    /// The wire to a database that is measured over one.
    delay: Option<Delay>,
}

impl Staged {
    /// Where the database is a file: a folder on its disk.
    fn disk(&self) -> Option<Arc<Path>> {
        let is_file = self.schema.is_none();
        is_file.then(|| Arc::from(self.data.path()))
    }

    /// Starts so many servers.
    async fn start(&self, nodes: u32, binary: &Path) -> Result<Vec<Process>> {
        let home = self.data.path();
        let seat = Seat {
            data: home,
            database: &self.database,
            node: None,
        };
        if nodes == 1 {
            return Ok(vec![Process::start(binary, seat).await?]);
        }
        let pictures = home.join("pictures");
        let mut processes = Vec::new();
        for number in 0..nodes {
            let folder = home.join(format!("node-{number}"));
            std::fs::create_dir_all(&folder).context("cannot make a folder for a node")?;
            let (from, to) = (
                home.join(DataFolder::SECRET),
                folder.join(DataFolder::SECRET),
            );
            std::fs::copy(from, to).context("cannot share the secret")?;
            let node = Seat {
                data: &folder,
                node: Some((number, &pictures)),
                ..seat
            };
            processes.push(Process::start(binary, node).await?);
        }
        Ok(processes)
    }
}

impl Bench {
    /// A report without scenarios yet.
    pub(crate) async fn report(&self) -> Result<Report> {
        let program = match &self.subject {
            Subject::Program(path) => {
                let name = path.file_name().unwrap_or_default();
                format!("{} {}", name.to_string_lossy(), env!("CARGO_PKG_VERSION"))
            }
            Subject::Running { url, key } => {
                let horde = ordu_client::Horde::new(url, key.clone(), "ordu-bench:1:here")?;
                horde
                    .performance()
                    .await
                    .with_context(|| format!("`{url}` does not answer"))?;
                url.clone()
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Report {
            program,
            database: self.database_name().to_owned(),
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            scale: self.load.scale,
            scenarios: Vec::new(),
        })
    }

    fn database_name(&self) -> &'static str {
        match (&self.subject, &self.load.postgres) {
            (Subject::Running { .. }, _) => "its own database",
            (_, Some(_)) => "PostgreSQL",
            (_, None) => "SQLite",
        }
    }

    /// Measures a scenario.
    pub(crate) async fn scenario(&self, scenario: &'static Scenario) -> Result<ScenarioReport> {
        let mut report = ScenarioReport {
            name: scenario.name.to_owned(),
            phases: Vec::new(),
            verdicts: Vec::new(),
        };
        for case in scenario.cases {
            let phases = match &self.subject {
                Subject::Running { url, key } => self.running(case, url, key).await,
                Subject::Program(binary) => self.started(case, binary).await,
            };
            let place = || format!("cannot measure `{}`, {}", scenario.name, case.name);
            report.phases.extend(phases.with_context(place)?);
        }
        report.judge(scenario);
        Ok(report)
    }

    async fn running(&self, case: &Case, url: &str, key: &ApiKey) -> Result<Vec<PhaseReport>> {
        if case.stage.waiting + case.stage.finished > 0 || case.place != Place::Usual {
            bail!(
                "what it prepares can only be prepared for a server of its own: leave `--horde` out"
            );
        }
        let people = People::one(key);
        let authorities = vec![authority(url)?];
        let mut reports = Vec::new();
        for phase in case.phases {
            let meter = Meter {
                authorities: &authorities,
                processes: &[],
                wire: None,
                disk: None,
            };
            reports.push(self.phase((case, phase), &people, &meter).await?);
        }
        Ok(reports)
    }

    async fn started(&self, case: &Case, binary: &Path) -> Result<Vec<PhaseReport>> {
        let staged = self.stage(case).await?;
        let measured = self.measure(case, binary, &staged).await;
        if let Some(schema) = staged.schema {
            schema.drop_schema().await?;
        }
        measured
    }

    async fn measure(
        &self,
        case: &Case,
        binary: &Path,
        staged: &Staged,
    ) -> Result<Vec<PhaseReport>> {
        let mut processes = staged.start(case.nodes, binary).await?;
        let mut reports: Vec<PhaseReport> = Vec::new();
        for (number, phase) in case.phases.iter().enumerate() {
            if number > 0 && matches!(phase.drive, Drive::Rest) {
                drop(processes);
                processes = staged.start(case.nodes, binary).await?;
            }
            let authorities = processes.iter().map(|process| authority(&process.url));
            let meter = Meter {
                authorities: &authorities.collect::<Result<Vec<_>>>()?,
                processes: &processes,
                wire: staged.delay.as_ref(),
                disk: staged.disk(),
            };
            let mut report = self.phase((case, phase), &staged.people, &meter).await?;
            if let Some(pause) = reports.last().and_then(|last| report.pause_after(last)) {
                report.figures.insert("pause_seconds".to_owned(), pause);
            }
            reports.push(report);
        }
        Ok(reports)
    }

    async fn stage(&self, case: &Case) -> Result<Staged> {
        let data = match &self.load.folder {
            Some(folder) => TempDir::with_prefix_in("ordu-bench-", folder),
            None => TempDir::with_prefix("ordu-bench-"),
        };
        let data = data.context("cannot make a folder for the data")?;
        let folder = DataFolder::open(data.path())?;
        let secret: Secret = folder.secret()?;
        let (near, schema) = match (case.place, &self.load.postgres) {
            (Place::Usual, None) => (folder.database_url(), None),
            (_, Some(url)) => {
                let schema = Schema::create(url).await?;
                (schema.url(), Some(schema))
            }
            (_, None) => bail!("it needs a PostgreSQL database: give one with `--postgres URL`"),
        };
        let scale = self.load.scale;
        let people = stage::prepare(&near, &secret, case.stage, scale, now()).await?;
        let delay = match case.place {
            Place::Wire(away) => Some(Delay::begin(&near, away).await?),
            Place::Usual | Place::Direct => None,
        };
        Ok(Staged {
            data,
            database: delay.as_ref().map_or(near, |delay| delay.url.clone()),
            schema,
            people,
            delay,
        })
    }

    async fn phase(
        &self,
        (case, phase): (&Case, &Phase),
        people: &People,
        meter: &Meter<'_>,
    ) -> Result<PhaseReport> {
        let course = Arc::new(Course {
            authorities: meter.authorities.to_vec(),
            turn: AtomicUsize::new(0),
            people: people.clone(),
            recorder: Recorder::default(),
            over: CancellationToken::new(),
            scale: self.load.scale,
            disk: meter.disk.clone(),
        });
        let mut report = PhaseReport {
            case: case.name.to_owned(),
            name: phase.name.to_owned(),
            ..PhaseReport::default()
        };
        if let Some(process) = meter.processes.first() {
            let waiting = scaled(case.stage.waiting, self.load.scale);
            let mut note = |name: &str, value: f64| report.figures.insert(name.to_owned(), value);
            note("waiting", f64::from(waiting));
            note("ready_seconds", process.ready_seconds);
            let usage = meter.usage().unwrap_or_default();
            note("start_mib", usage.resident_mib);
        }
        course.introduce(phase.drive).await;
        let drivers = Drivers::start(&course, phase.drive);
        sleep(WARM_UP).await;
        let before = meter.read().await;
        course.recorder.begin();
        let begun = Instant::now();
        let ends = begun + Duration::from_secs(self.seconds(phase));
        report.samples = meter.watch(begun, ends).await;
        let ended = Instant::now();
        // Who came in time is waited for: a server that stalls at the end is charged with that, too.
        let early = (!phase.drive.comes_in_time()).then(|| course.recorder.end());
        let after = meter.read().await;
        drivers.stop(&course).await;
        let record = early.unwrap_or_else(|| course.recorder.end());
        report.take(&record, (ended - begun).as_secs_f64());
        report.measured = Some(begun..ended);
        Meter::compare(&before, &after, &mut report);
        if let Some(round_trip) = meter.wire.and_then(Delay::round_trip) {
            let ms = round_trip.as_secs_f64() * 1_000.0;
            report.figures.insert("wire_ms".to_owned(), ms);
        }
        Ok(report)
    }

    fn seconds(&self, phase: &Phase) -> u64 {
        u64::from(self.load.seconds.unwrap_or(phase.seconds))
    }
}

/// Reads what a server took and did.
struct Meter<'a> {
    authorities: &'a [String],
    /// None of a server that is another's.
    processes: &'a [Process],
    /// Between them and their database, if there is one.
    wire: Option<&'a Delay>,
    /// Where their database is a file: a folder on its disk.
    disk: Option<Arc<Path>>,
}

struct Reading {
    scrape: Option<Scrape>,
    server: Option<Usage>,
    generator: Option<Usage>,
    at: Instant,
}

impl Meter<'_> {
    /// Of all together.
    fn usage(&self) -> Option<Usage> {
        let usages = self.processes.iter().filter_map(Process::usage);
        usages.reduce(|all, one| Usage {
            cpu_seconds: all.cpu_seconds + one.cpu_seconds,
            resident_mib: all.resident_mib + one.resident_mib,
            peak_mib: all.peak_mib + one.peak_mib,
            open_files: all.open_files + one.open_files,
        })
    }

    /// Looks what the servers hold until some time.
    async fn watch(&self, begun: Instant, ends: Instant) -> Vec<Sample> {
        let mut samples = Vec::new();
        let pause = (ends - begun) / SAMPLES;
        let mut next = begun + pause;
        while next < ends {
            sleep_until(next).await;
            if let Some(usage) = self.usage() {
                samples.push(Sample {
                    seconds: (next - begun).as_secs_f64(),
                    resident_mib: usage.resident_mib,
                    open_files: usage.open_files,
                });
            }
            next += pause;
        }
        sleep_until(ends).await;
        samples
    }

    async fn scrape(&self) -> Option<Scrape> {
        let mut all = Scrape::default();
        for authority in self.authorities {
            all = all.and(Scrape::ask(&mut Wire::new(authority)).await?);
        }
        Some(all)
    }

    async fn read(&self) -> Reading {
        Reading {
            scrape: self.scrape().await,
            server: self.usage(),
            generator: Usage::of("self"),
            at: Instant::now(),
        }
    }

    fn compare(before: &Reading, after: &Reading, report: &mut PhaseReport) {
        let seconds = (after.at - before.at).as_secs_f64();
        let between = |a: Option<Usage>, b: Option<Usage>| {
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            b.cpu_seconds - a.cpu_seconds
        };
        report.generator_percent = between(before.generator, after.generator) / seconds * 100.0;
        let scrapes = before.scrape.as_ref().zip(after.scrape.as_ref());
        let scrape = scrapes.map(|(before, after)| after.since(before));
        let scrape = scrape.unwrap_or_default();
        report.inside = scrape.inside();
        if let Some(rate) = report.lifecycles_per_second {
            let trips = scrape.plain("ordu_store_round_trips_total");
            let each = trips / (rate * seconds);
            let figures = &mut report.figures;
            figures.insert("round_trips_a_lifecycle".to_owned(), each);
        }
        for name in ["claims_won", "claims_lost"] {
            if let Some(count) = scrape.find(&format!("ordu_{name}_total")) {
                report.figures.insert(name.to_owned(), count);
            }
        }
        if let Some(usage) = after.server {
            let cpu_seconds = between(before.server, after.server);
            report.server = Some(ServerReport {
                cpu_seconds,
                cpu_percent: cpu_seconds / seconds * 100.0,
                resident_mib: usage.resident_mib,
                peak_mib: usage.peak_mib,
                commits: scrape.plain("ordu_store_commits_total"),
                writes: scrape.plain("ordu_store_writes_total"),
                round_trips: scrape.plain("ordu_store_round_trips_total"),
            });
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of the load generator")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}
