//! One job from pop to submit. Whatever happens on the way, the horde hears of every id.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{join, join_all};
use ordu_api::JobId;
use ordu_api::image::{DRAIN, ImageJob, ImagePayload, Metadata};
use ordu_engine::{Capabilities, Engine, EngineError, Feature, Limits, Picture};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use crate::bridge;
use crate::controls::Current;
use crate::deliver::{Courier, Delivery, Parcel};
use crate::dreamer::words;
use crate::effort::{Extra, Pending, is_heavy};
use crate::generate::{GenerateError, Meter, generate};
use crate::inputs::{Inputs, Larder};
use crate::line::{Entry, Rules, Turn, Turns};
use crate::manager::{AddOns, Family, Pantry};
use crate::pace::Pace;
use crate::report::{Extras, Reporter, Shown};
use crate::role::{Cause, End, Order, Verdict, verdict_on};
use crate::safety::{self, Safety};
use crate::status::{Board, Stage};
use crate::{Level, Shutdown, Timing};

/// Remarks that one submit may carry, besides the place in its batch and whether it scans.
const MAX_REMARKS: usize = 48;

/// How often a job's pace is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The size from which a picture is a large model's, as a power of two, in pixels.
const LARGE: u32 = 20;

/// What all jobs of a worker share.
pub(crate) struct Workshop {
    pub(crate) horde: ordu_client::Horde,
    pub(crate) engine: Arc<dyn Engine>,
    /// Whose turn it is to be sampled.
    pub(crate) turns: Turns,
    pub(crate) larder: Larder,
    /// Brings add-ons.
    pub(crate) pantry: Option<Arc<Pantry>>,
    pub(crate) safety: Safety,
    pub(crate) extras: Arc<Extras>,
    pub(crate) board: Arc<Board>,
    pub(crate) shutdown: Shutdown,
    pub(crate) timing: Timing,
    pub(crate) current: Current,
}

/// What the engine said of itself and of the model when a job was popped.
#[derive(Debug)]
pub(crate) struct Terms {
    limits: Limits,
    family: Family,
    /// Whether the model can only fill in.
    fills_in: bool,
    loras: bool,
    embeddings: bool,
}

impl Terms {
    /// As far as a job for this model needs it.
    pub(crate) fn of(engine: &Capabilities, model: &str) -> Self {
        let has = |feature| engine.features.contains(&feature);
        let info = engine.model(model);
        Self {
            limits: engine.limits,
            family: Family::parse(info.map_or("", |info| info.baseline.as_str())),
            fills_in: info.is_some_and(|info| info.inpainting),
            loras: has(Feature::Lora),
            embeddings: has(Feature::TextualInversion),
        }
    }

    /// The add-ons of a payload that are served here, and those that are not.
    fn split(&self, payload: &ImagePayload) -> (ImagePayload, ImagePayload) {
        let only = |loras, tis| ImagePayload {
            loras: if loras {
                payload.loras.clone()
            } else {
                Vec::new()
            },
            tis: if tis { payload.tis.clone() } else { Vec::new() },
            ..ImagePayload::default()
        };
        let served = only(self.loras, self.embeddings);
        (served, only(!self.loras, !self.embeddings))
    }
}

/// Why a job is given up before there are pictures.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it does not get done in time")]
    Deadline,
    #[error("the worker stops")]
    Stopping,
    #[error("its prompt is on the blacklist")]
    Blacklisted,
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

/// What the engine made of a job.
struct Made {
    pictures: Vec<Picture>,
    remarks: Vec<Metadata>,
    sampled: Duration,
}

/// Does a job and hands it back. It has at least one id.
pub(crate) async fn work(shop: Arc<Workshop>, order: Order<(ImageJob, Terms)>) -> End {
    let Order {
        ticket,
        popped,
        slot,
    } = order;
    let (id, ttl) = (ticket.id, ticket.ttl);
    let (job, terms) = ticket.job;
    let give_up = popped + ttl.saturating_sub(shop.timing.deadline_margin);
    let turn = shop.turns.join(entry(&job, &ticket.work, popped));
    let asked = bridge::image::seed(job.payload.seed.as_deref());
    let attempt = Attempt {
        terms,
        turn,
        seed: asked.unwrap_or_else(|| getrandom::u32().unwrap_or_default().into()),
        again_until: popped + ttl / 2,
        give_up,
        slot,
    };
    let made = shop.make(&job, id, attempt).await;
    if let Err(fault) = &made {
        shop.board.stage(id, Stage::Faulting);
        tracing::warn!(error = %fault, "a job is given up");
    } else {
        shop.board.stage(id, Stage::Delivering);
    }
    let sampled = made.as_ref().ok().map(|made| made.sampled);
    let (pictures, remarks, fault) = match made {
        Ok(made) => (made.pictures, made.remarks, None),
        Err(fault) => (Vec::new(), fault.remarks(), Some(fault)),
    };
    let missing = job.ids.len().saturating_sub(pictures.len());
    let deliveries = shop.hand_back(&job, pictures, remarks, popped + ttl).await;
    End {
        id,
        model: job.model.unwrap_or_default(),
        verdict: match &fault {
            Some(fault) => fault.verdict(),
            None => judge(&deliveries, missing),
        },
        cause: match fault {
            Some(fault) => Some(fault.cause()),
            None => (missing > 0).then_some(Cause::TooFew),
        },
        sampled,
        delivered: deliveries.iter().filter(|end| is_accepted(end)).count() as u64,
        reward: deliveries.iter().map(reward).sum(),
    }
}

/// The job's place in the line.
fn entry(job: &ImageJob, work: &Pending, popped: Instant) -> Entry {
    let extras = &work.shape.extras;
    // Control networks lie in memory beside the model, and those of large models are large.
    let is_large = work.shape.magnitude >= LARGE && extras.contains(&Extra::ControlNet);
    Entry {
        popped,
        model: Some(work.model.clone()),
        effort: work.effort,
        has_addons: extras.contains(&Extra::Lora) || !job.payload.tis.is_empty(),
        exclusive: job.ids.len() > 1 || is_heavy(&work.model) || is_large,
    }
}

/// Ends when the steps cannot all come in time: told at once, somebody else can do the job.
async fn is_hopeless(pace: &Mutex<Pace>, give_up: Instant) {
    loop {
        tokio::time::sleep(LOOK).await;
        // What is known stays true if somebody panicked.
        let pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.is_hopeless(give_up) {
            return;
        }
    }
}

/// What one attempt at a job may use.
struct Attempt {
    terms: Terms,
    turn: Turn,
    seed: u64,
    /// A crash of the engine before costs nothing but time.
    again_until: Instant,
    give_up: Instant,
    slot: Option<OwnedSemaphorePermit>,
}

/// Everything that a job waits for.
struct Ready {
    inputs: Inputs,
    /// Their files stay as long as this lives.
    add_ons: AddOns,
}

impl Workshop {
    /// Fetches, waits for the engine and lets it work, as long as there is time and nobody says stop.
    async fn make(&self, job: &ImageJob, id: JobId, attempt: Attempt) -> Result<Made, Fault> {
        if self.is_blacklisted(job) {
            return Err(Fault::Blacklisted);
        }
        // A timer that is due already may still fire late.
        if attempt.give_up <= Instant::now() {
            return Err(Fault::Deadline);
        }
        let ready = tokio::select! {
            biased;
            fault = self.halted(attempt.give_up, Level::Hurry) => return Err(fault),
            ready = self.prepare(job, id, &attempt) => ready,
        };
        let (sources, mut remarks) = (ready.inputs.sources, ready.inputs.remarks);
        let (extras, seed, terms) = (sources.extras.len(), attempt.seed, &attempt.terms);
        let mut task = bridge::image::task(job, sources, &ready.add_ons, seed, terms.limits);
        if terms.fills_in {
            let is_told = remarks.clone();
            let mut news = bridge::image::fill_in(&mut task);
            news.retain(|news| is_told.iter().all(|told| told.kind != news.kind));
            remarks.append(&mut news);
        }
        remarks.extend(ready.add_ons.remarks.iter().cloned());
        tracing::debug!(
            width = task.width, height = task.height, steps = task.steps, batch = task.batch,
            sampler = %task.sampler, extras, loras = task.loras.len(),
            embeddings = task.embeddings.len(), "sampling starts"
        );
        self.board.stage(id, Stage::Sampling { step: 0, of: 0 });
        let started = Instant::now();
        let meter = Meter::new(self.board.clone(), id);
        let pace = meter.pace();
        let reporter = Reporter {
            horde: &self.horde,
            extras: &self.extras,
            timing: &self.timing,
            job: id,
            showing: meter.showing(),
            shown: self.shown(job),
        };
        let held = (attempt.turn, attempt.slot);
        let made = tokio::select! {
            biased;
            fault = self.halted(attempt.give_up, Level::Abort) => return Err(fault),
            () = is_hopeless(&pace, attempt.give_up) => return Err(Fault::Deadline),
            made = generate(self.engine.clone(), task, meter, attempt.again_until, held) => made?,
            never = reporter.keep_telling() => match never {},
        };
        let missed = made.left_out.iter();
        remarks.extend(missed.filter_map(|add_on| ready.add_ons.missed(add_on)));
        Ok(Made {
            pictures: made.pictures,
            remarks,
            sampled: started.elapsed(),
        })
    }

    /// Fetches while others are being sampled, then waits for its turn.
    async fn prepare(&self, job: &ImageJob, id: JobId, attempt: &Attempt) -> Ready {
        let add_ons = self.add_ons(&job.payload, attempt);
        let (inputs, add_ons) = join(self.larder.gather(job), add_ons).await;
        self.board.stage(id, Stage::Ready);
        attempt.turn.comes(|| self.current.read(Rules::of)).await;
        Ready { inputs, add_ons }
    }

    /// The add-ons of a job, fetched in half of its time at most: without them it is still worth doing.
    async fn add_ons(&self, payload: &ImagePayload, attempt: &Attempt) -> AddOns {
        let Some(pantry) = &self.pantry else {
            return AddOns::refused(payload);
        };
        let now = Instant::now();
        let latest = now + attempt.give_up.saturating_duration_since(now) / 2;
        let (served, refused) = attempt.terms.split(payload);
        let (family, seed) = (&attempt.terms.family, attempt.seed);
        let mut add_ons = pantry.prefetch(&served, family, seed, latest).await;
        add_ons.remarks.extend(AddOns::refused(&refused).remarks);
        add_ons
    }

    /// Ends when the job must be given up.
    async fn halted(&self, give_up: Instant, level: Level) -> Fault {
        tokio::select! {
            () = self.shutdown.reached(level) => Fault::Stopping,
            () = sleep_until(give_up) => Fault::Deadline,
        }
    }

    /// What a finished picture may be withheld for is not shown before.
    fn shown(&self, job: &ImageJob) -> Shown {
        if self.safety.looks() || job.payload.use_nsfw_censor == Some(true) {
            Shown::Steps
        } else {
            Shown::Previews
        }
    }

    fn is_blacklisted(&self, job: &ImageJob) -> bool {
        let blacklist = self.current.read(|config| words(&config.blacklist));
        if blacklist.is_empty() {
            return false;
        }
        let prompt = job
            .payload
            .prompt
            .as_deref()
            .unwrap_or_default()
            .to_lowercase();
        blacklist.iter().any(|word| prompt.contains(word))
    }

    /// Delivers what is there and faults what is not, every id at the same time.
    async fn hand_back(
        &self,
        job: &ImageJob,
        pictures: Vec<Picture>,
        mut remarks: Vec<Metadata>,
        end: Instant,
    ) -> Vec<Delivery> {
        remarks.truncate(MAX_REMARKS);
        let mut pictures = pictures.into_iter();
        let parts = job.ids.iter().enumerate().map(|(place, id)| {
            let picture = pictures.next();
            let remarks = remarks_at(&remarks, place, job.ids.len());
            self.hand_back_one(Part {
                id: *id,
                job,
                picture,
                upload: upload_address(job, place),
                remarks,
            })
        });
        // A fault is told even if the time is up already.
        let end = end.max(Instant::now() + self.timing.abort);
        let closing = || async {
            tokio::select! {
                () = sleep_until(end) => {}
                () = self.aborted() => {}
            }
        };
        join_all(parts.map(|part| async {
            tokio::select! {
                biased;
                delivery = part => delivery,
                () = closing() => Delivery::Untold("no time is left to submit".to_owned()),
            }
        }))
        .await
    }

    async fn aborted(&self) {
        self.shutdown.reached(Level::Abort).await;
        tokio::time::sleep(self.timing.abort).await;
    }

    async fn hand_back_one(&self, part: Part<'_>) -> Delivery {
        let courier = Courier {
            horde: &self.horde,
            timing: &self.timing,
        };
        let Part { id, remarks, .. } = part;
        let Some(Picture { image, seed, scans }) = part.picture else {
            return courier.fault(id, remarks).await;
        };
        let about = safety::Job {
            prompt: part.job.payload.prompt.as_deref().unwrap_or_default(),
            model: part.job.model.as_deref().unwrap_or_default(),
            censors: part.job.payload.use_nsfw_censor == Some(true),
        };
        let passed = match self.safety.pass(image, about).await {
            Ok(passed) => passed,
            Err(kept) => {
                tracing::error!(job.id = %id, error = %kept, "a picture is kept back");
                return courier.fault(id, remarks).await;
            }
        };
        let more = scans.map(scan_remark).into_iter().chain(passed.remark);
        let seed = i64::try_from(seed).unwrap_or(i64::MAX);
        courier
            .deliver(Parcel {
                id,
                upload: part.upload,
                picture: passed.picture,
                state: passed.state,
                seed,
                remarks: remarks.into_iter().chain(more).collect(),
            })
            .await
    }
}

/// One picture of a job, or its absence, on its way back.
struct Part<'a> {
    id: JobId,
    job: &'a ImageJob,
    picture: Option<Picture>,
    upload: Option<String>,
    remarks: Vec<Metadata>,
}

/// Whether a scanner could read what the picture was to say.
fn scan_remark(scans: bool) -> Metadata {
    let found = if scans {
        "qr_code_scans"
    } else {
        "qr_code_unreadable"
    };
    Metadata {
        kind: "information".to_owned(),
        value: "see_ref".to_owned(),
        reference: Some(found.to_owned()),
    }
}

/// Where the picture at one place goes.
fn upload_address(job: &ImageJob, place: usize) -> Option<String> {
    let listed = job.r2_uploads.as_ref().and_then(|urls| urls.get(place));
    let alone = (place == 0).then_some(job.r2_upload.as_ref()).flatten();
    let found = listed.filter(|url| !url.is_empty()).or(alone)?;
    Some(found.clone())
}

/// What is said about every picture, and about this one if it is one of several: it can only be made
/// again as part of its batch.
fn remarks_at(remarks: &[Metadata], place: usize, pictures: usize) -> Vec<Metadata> {
    let in_batch = (pictures > 1).then(|| Metadata {
        kind: "batch_index".to_owned(),
        value: "see_ref".to_owned(),
        reference: Some(place.to_string()),
    });
    remarks.iter().cloned().chain(in_batch).collect()
}

/// Who hands a job back because the worker stops says so.
pub(crate) fn drain_remark() -> Metadata {
    Metadata {
        kind: "information".to_owned(),
        value: "see_ref".to_owned(),
        reference: Some(DRAIN.to_owned()),
    }
}

fn is_accepted(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Accepted(_))
}

fn reward(delivery: &Delivery) -> f64 {
    match delivery {
        Delivery::Accepted(reward) => reward.unwrap_or_default(),
        _ => 0.0,
    }
}

/// The verdict on a job that the engine did, of whose pictures so many are missing.
fn judge(deliveries: &[Delivery], missing: usize) -> Verdict {
    if missing > 0 {
        return Verdict::ModelFailed(format!("the engine made {missing} pictures too few"));
    }
    let mut verdict = Verdict::Done;
    for delivery in deliveries {
        match delivery {
            Delivery::Accepted(_) => {}
            Delivery::Lost => verdict = Verdict::Lost,
            Delivery::Faulted => return Verdict::Failed("a picture could not be delivered".into()),
            Delivery::Untold(reason) => return Verdict::Failed(reason.clone()),
        }
    }
    verdict
}

impl Fault {
    /// What the horde should know of it: who stops is not to blame.
    fn remarks(&self) -> Vec<Metadata> {
        let stops = matches!(
            self,
            Self::Stopping | Self::Generate(GenerateError::Engine(EngineError::Cancelled))
        );
        stops.then(drain_remark).into_iter().collect()
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Stopping | Self::Generate(GenerateError::Engine(EngineError::Cancelled)) => {
                Verdict::HandedBack("the worker stops")
            }
            Self::Blacklisted => Verdict::HandedBack("its prompt is on the blacklist"),
            Self::Deadline => Verdict::Failed(self.to_string()),
            Self::Generate(GenerateError::Engine(error)) => verdict_on(error),
            Self::Generate(GenerateError::Panicked) => Verdict::ModelFailed(self.to_string()),
        }
    }

    /// As it is counted.
    fn cause(&self) -> Cause {
        match self {
            Self::Stopping => Cause::Stopping,
            Self::Blacklisted => Cause::Blacklisted,
            Self::Deadline => Cause::Deadline,
            Self::Generate(GenerateError::Engine(error)) => Cause::of(error),
            Self::Generate(GenerateError::Panicked) => Cause::Panicked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(uploads: &serde_json::Value) -> ImageJob {
        let mut body = serde_json::json!({"payload": ordu_api::image::ImagePayload::default()});
        body.as_object_mut()
            .unwrap()
            .extend(uploads.as_object().unwrap().clone());
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn each_place_has_its_address() {
        let both = job(&serde_json::json!({"r2_upload": "a", "r2_uploads": ["a", "b", ""]}));
        assert_eq!(upload_address(&both, 1).as_deref(), Some("b"));
        assert_eq!(upload_address(&both, 2), None);
        let old = job(&serde_json::json!({"r2_upload": "a"}));
        assert_eq!(upload_address(&old, 0).as_deref(), Some("a"));
        assert_eq!(upload_address(&old, 1), None);
    }

    /// Checklist: `batch_index` only when more than one id; `ref` is a string.
    #[test]
    fn a_batch_index_is_a_text_and_for_batches_only() {
        assert!(remarks_at(&[], 0, 1).is_empty());
        let wire = serde_json::to_value(remarks_at(&[], 1, 2)).unwrap();
        let expected = serde_json::json!([{"type": "batch_index", "value": "see_ref", "ref": "1"}]);
        assert_eq!(wire, expected);
    }

    #[test]
    fn the_worst_delivery_decides() {
        let accepted = Delivery::Accepted(Some(1.0));
        let verdict = |deliveries: &[&Delivery], missing| {
            let deliveries: Vec<_> = deliveries.iter().map(|end| (*end).clone()).collect();
            judge(&deliveries, missing)
        };
        assert_eq!(verdict(&[&accepted, &accepted], 0), Verdict::Done);
        assert_eq!(verdict(&[&accepted, &Delivery::Lost], 0), Verdict::Lost);
        assert!(matches!(
            verdict(&[&accepted, &Delivery::Faulted], 1),
            Verdict::ModelFailed(_)
        ));
        assert!(matches!(
            verdict(&[&Delivery::Lost, &Delivery::Faulted], 0),
            Verdict::Failed(_)
        ));
    }
}
