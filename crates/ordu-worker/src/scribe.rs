//! The text worker as a role, and the way of a text.
//!
//! # Source
//! `worker.md` § 5.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ordu_api::JobId;
use ordu_api::image::SubmitState;
use ordu_api::text::{TextJob, TextPop, TextSubmit};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Horde};
use ordu_engine::{TextCapabilities, TextEngine, TextError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bridge;
use crate::deliver::{Delivery, FAULTED, NO_SEED, submitted};
use crate::dreamer::{larder, words};
use crate::effort::Pending;
use crate::generate::{Meter, on_a_thread};
use crate::inputs::Larder;
use crate::job::drain_remark;
use crate::offer::text_offer;
use crate::report::{Reporter, Shown};
use crate::role::{Answer, Cause, End, Fit, Office, Order, Role, Room, Ticket, Verdict};
use crate::status::{Phase, Stage};
use crate::{Config, Level};

/// What every text gets on top of the time for its tokens.
const BASE_TIME: Duration = Duration::from_secs(10);

/// The time for looking at each picture.
const TIME_PER_PICTURE: Duration = Duration::from_secs(10);

/// The time for each token.
const TIME_PER_TOKEN: Duration = Duration::from_millis(500);

/// Writes texts.
pub(crate) struct Scribe {
    engine: Arc<dyn TextEngine>,
    larder: Larder,
    office: Office,
    /// The owner's alias, behind the model's name.
    brand: OnceLock<String>,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it does not get done in time")]
    Deadline,
    #[error("the worker stops")]
    Stopping,
    #[error("its prompt is on the blacklist")]
    Blacklisted,
    #[error("it is no job that can be done here: {0}")]
    Foreign(&'static str),
    #[error("a picture of it cannot be had")]
    NoPicture,
    #[error("the engine panicked")]
    Panicked,
    #[error(transparent)]
    Engine(#[from] TextError),
}

impl Scribe {
    pub(crate) fn new(engine: Arc<dyn TextEngine>, office: &Office) -> Result<Self, Error> {
        Ok(Self {
            engine,
            larder: larder(&office.current.now(), &office.horde)?,
            office: office.clone(),
            brand: OnceLock::new(),
        })
    }
}

impl Role for Scribe {
    type Ability = TextCapabilities;
    type Offer = TextPop;
    type Job = TextJob;

    fn kind(&self) -> WorkKind {
        WorkKind::Text
    }

    /// Nothing has to be fetched before a text, so a job that waits here would only be kept from others.
    fn room(&self) -> Room {
        Room {
            threads: self.office.current.read(Config::threads),
            ahead: 0,
        }
    }

    async fn open(&self) {
        tracing::info!("the text worker starts");
        if !self.office.current.read(|config| config.branded_model) {
            return;
        }
        match self.office.horde.find_user().await {
            Ok(user) => {
                // Nobody else sets it.
                self.brand.set(user.username).ok();
            }
            Err(error) => {
                tracing::warn!(%error, "the owner's name is not known: models carry no brand");
            }
        }
    }

    async fn ability(&self) -> Option<TextCapabilities> {
        let engine = self.engine.clone();
        let asked = tokio::task::spawn_blocking(move || engine.capabilities()).await;
        let board = &self.office.board;
        let was_away = matches!(board.phase_now(), Phase::NoEngine(_));
        match asked.ok()? {
            Ok(ability) => {
                if was_away || board.phase_now() == Phase::Starting {
                    let TextCapabilities { model, engine, .. } = &ability;
                    tracing::info!(model, engine, "the text engine is there");
                    board.phase(Phase::Starting);
                }
                Some(ability)
            }
            Err(error) => {
                let reason = error.to_string();
                if !was_away {
                    tracing::warn!(reason, "the text engine is away: nothing is popped");
                }
                board.phase(Phase::NoEngine(reason));
                None
            }
        }
    }

    fn offer(&self, ability: &TextCapabilities, fit: &Fit<'_>) -> Option<TextPop> {
        let brand = self.brand.get().map(String::as_str);
        let config = self.office.current.now();
        text_offer(&config, ability, brand, |model| fit.model(model))
    }

    fn models(offer: &TextPop) -> &[String] {
        &offer.models
    }

    async fn pop(
        &self,
        horde: &Horde,
        offer: &TextPop,
        _ability: TextCapabilities,
    ) -> Result<Answer<TextJob>, Error> {
        let mut job = horde.pop_text(offer).await?;
        if job.ids.is_empty() {
            job.ids.extend(job.id);
        }
        let messages = std::mem::take(&mut job.messages);
        let skipped = std::mem::take(&mut job.skipped);
        let ticket = job.ids.first().copied().map(|id| Ticket {
            id,
            work: Pending {
                model: job.model.clone().unwrap_or_default(),
                effort: f64::from(job.payload.params.max_length.unwrap_or_default()),
                ..Pending::default()
            },
            parts: job.ids.len(),
            ttl: job.ttl.map_or(self.office.timing.ttl, Duration::from_secs),
            job,
        });
        Ok(Answer {
            ticket,
            messages,
            skipped,
        })
    }

    async fn work(self: Arc<Self>, order: Order<TextJob>) -> End {
        let Order {
            ticket,
            popped,
            slot,
        } = order;
        let Ticket { job, id, ttl, .. } = ticket;
        let give_up = popped + time_for(&job, ttl.saturating_sub(self.office.timing.text_margin));
        let slot = Arc::new(slot);
        let mut end = End::new(id, ticket.work.model);
        for part in job.ids.iter().copied() {
            let started = Instant::now();
            let written = self.write(&job, (id, part), give_up, slot.clone()).await;
            if written.is_ok() {
                let sampled = end.sampled.unwrap_or_default() + started.elapsed();
                end.sampled = Some(sampled);
            }
            self.hand_back(part, written, popped + ttl, &mut end).await;
        }
        end
    }
}

/// How long the text may take: what its length and its pictures allow, but never longer than the horde waits.
fn time_for(job: &TextJob, most: Duration) -> Duration {
    let tokens = job.payload.params.max_length.unwrap_or_default();
    let pictures = job.extra_source_images.iter().flatten().count();
    let pictures = u32::try_from(pictures).unwrap_or(u32::MAX);
    let looking = TIME_PER_PICTURE.saturating_mul(pictures);
    let writing = TIME_PER_TOKEN.saturating_mul(tokens);
    BASE_TIME
        .saturating_add(looking)
        .saturating_add(writing)
        .min(most)
}

impl Scribe {
    async fn write(
        &self,
        job: &TextJob,
        (id, part): (JobId, JobId),
        give_up: Instant,
        slot: Arc<Option<OwnedSemaphorePermit>>,
    ) -> Result<String, Fault> {
        let Some(prompt) = &job.payload.prompt else {
            return Err(Fault::Foreign("it has no prompt"));
        };
        let lower = prompt.to_lowercase();
        let blacklist = self.office.current.read(|config| words(&config.blacklist));
        if blacklist.iter().any(|word| lower.contains(word)) {
            return Err(Fault::Blacklisted);
        }
        // A timer that is due already may still fire late.
        if give_up <= Instant::now() {
            return Err(Fault::Deadline);
        }
        if self.office.shutdown.level() >= Level::Hurry {
            return Err(Fault::Stopping);
        }
        let pictures = self.in_time(give_up, self.pictures(job)).await?;
        let task = bridge::text::task(job, prompt, pictures);
        let board = &self.office.board;
        board.stage(id, Stage::Sampling { step: 0, of: 0 });
        let meter = Meter::new(board.clone(), id);
        let reporter = Reporter {
            horde: &self.office.horde,
            extras: &self.office.extras,
            timing: &self.office.timing,
            job: part,
            showing: meter.showing(),
            shown: Shown::Text,
        };
        let engine = self.engine.clone();
        let writing = on_a_thread(meter, slot, move |meter| engine.write(&task, meter));
        let writing = async {
            tokio::select! {
                biased;
                written = writing => match written {
                    Some(written) => written.map(|text| text.text).map_err(Fault::from),
                    None => Err(Fault::Panicked),
                },
                never = reporter.keep_telling() => match never {},
            }
        };
        self.in_time(give_up, writing).await
    }

    /// What there is to look at for a job.
    async fn pictures(&self, job: &TextJob) -> Result<Vec<Vec<u8>>, Fault> {
        if job.extra_source_images.iter().flatten().next().is_none() {
            return Ok(Vec::new());
        }
        let engine = self.engine.clone();
        let asked = tokio::task::spawn_blocking(move || engine.capabilities()).await;
        if !asked.map_err(|_| Fault::Panicked)??.vision {
            return Err(Fault::Foreign("it brings pictures"));
        }
        let pictures = self.larder.seen(job).await;
        pictures.map_err(|_| Fault::NoPicture)
    }

    /// Something that must be done before the time is up and the worker gone.
    async fn in_time<T>(
        &self,
        give_up: Instant,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        tokio::select! {
            biased;
            () = self.office.shutdown.reached(Level::Abort) => Err(Fault::Stopping),
            () = sleep_until(give_up) => Err(Fault::Deadline),
            done = work => done,
        }
    }

    async fn hand_back(
        &self,
        part: JobId,
        written: Result<String, Fault>,
        end_of_time: Instant,
        end: &mut End,
    ) {
        let stage = match &written {
            Ok(_) => Stage::Delivering,
            Err(fault) => {
                tracing::warn!(error = %fault, "a text is given up");
                Stage::Faulting
            }
        };
        self.office.board.stage(end.id, stage);
        let cause = written.as_ref().err().map(Fault::cause);
        let (result, verdict) = result(part, written);
        let sending = submitted(&self.office.timing, part, || {
            self.office.horde.submit_text(&result)
        });
        let delivery = tokio::select! {
            biased;
            delivery = sending => delivery,
            () = self.closing(end_of_time) => {
                Delivery::Untold("no time is left to submit".to_owned())
            }
        };
        end.count(verdict, cause, &delivery);
    }

    /// Ends when nothing more can be told the horde. A fault is told even if the time is up already.
    async fn closing(&self, end_of_time: Instant) {
        let timing = &self.office.timing;
        let end = end_of_time.max(Instant::now() + timing.abort);
        tokio::select! {
            () = sleep_until(end) => {}
            () = async {
                self.office.shutdown.reached(Level::Abort).await;
                sleep(timing.abort).await;
            } => {}
        }
    }
}

impl Fault {
    /// As it is counted.
    fn cause(&self) -> Cause {
        match self {
            Self::Deadline => Cause::Deadline,
            Self::Stopping | Self::Engine(TextError::Cancelled) => Cause::Stopping,
            Self::Blacklisted => Cause::Blacklisted,
            Self::Foreign(_) => Cause::Foreign,
            Self::NoPicture => Cause::NoPicture,
            Self::Panicked => Cause::Panicked,
            Self::Engine(TextError::Unavailable { .. }) => Cause::Away,
            Self::Engine(TextError::Stalled { .. } | TextError::Empty) => Cause::Program,
            Self::Engine(_) => Cause::Refused,
        }
    }
}

/// What the horde is told, and who is to blame.
fn result(part: JobId, written: Result<String, Fault>) -> (TextSubmit, Verdict) {
    let fault = match written {
        Ok(text) => {
            let submit = TextSubmit {
                id: part.to_string(),
                generation: text,
                state: SubmitState::Ok,
                seed: 0,
                gen_metadata: Vec::new(),
            };
            return (submit, Verdict::Done);
        }
        Err(fault) => fault,
    };
    let stops = matches!(fault, Fault::Stopping | Fault::Engine(TextError::Cancelled));
    let submit = TextSubmit {
        id: part.to_string(),
        generation: FAULTED.to_owned(),
        state: SubmitState::Faulted,
        seed: NO_SEED,
        gen_metadata: stops.then(drain_remark).into_iter().collect(),
    };
    let reason = fault.to_string();
    let verdict = match fault {
        _ if stops => Verdict::HandedBack("the worker stops"),
        Fault::Blacklisted => Verdict::HandedBack("its prompt is on the blacklist"),
        Fault::Foreign(_) => Verdict::HandedBack("it is no job that can be done here"),
        Fault::NoPicture => Verdict::HandedBack("a picture of it cannot be had"),
        Fault::Engine(TextError::Unavailable { .. }) => Verdict::EngineAway(reason),
        Fault::Deadline => Verdict::Failed(reason),
        _ => Verdict::ModelFailed(reason),
    };
    (submit, verdict)
}
