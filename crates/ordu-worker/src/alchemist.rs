//! The alchemist as a role: forms about pictures, each handed back by itself.
//!
//! # Source
//! `worker.md` § 6.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use image::DynamicImage;
use ordu_api::alchemy::{AlchemyJob, AlchemyPop, AlchemySubmit};
use ordu_api::image::{SubmitState, UPLOADED};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Horde};
use ordu_engine::{AlchemyEngine, Answer as Made, EngineError};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use crate::deliver::{Courier, Delivery, submitted};
use crate::dreamer::larder;
use crate::encode::webp;
use crate::generate::{Meter, on_a_thread};
use crate::inputs::Larder;
use crate::role::{Answer, End, Office, Order, Role, Room, Ticket, Verdict};
use crate::status::Stage;
use crate::{Config, Level};

/// How long the horde waits for one form.
const TIME_PER_FORM: Duration = Duration::from_mins(3);

/// Answers forms.
pub(crate) struct Alchemist {
    config: Config,
    engines: Vec<Arc<dyn AlchemyEngine>>,
    office: Office,
    larder: Larder,
}

/// Why a form is not answered.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("its picture cannot be had")]
    NoPicture,
    #[error("no engine answers it")]
    Unknown,
    #[error("it does not get done in time")]
    Deadline,
    #[error("the worker stops")]
    Stopping,
    #[error("its result cannot be delivered")]
    Undelivered,
    #[error("the engine panicked")]
    Panicked,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The pictures of one pop, each fetched once.
type Pictures = BTreeMap<String, Option<Arc<DynamicImage>>>;

impl Alchemist {
    pub(crate) fn new(
        config: &Config,
        engines: Vec<Arc<dyn AlchemyEngine>>,
        office: &Office,
    ) -> Result<Self, Error> {
        Ok(Self {
            config: config.clone(),
            engines,
            office: office.clone(),
            larder: larder(config, office)?,
        })
    }

    fn engine_for(&self, form: &str) -> Option<Arc<dyn AlchemyEngine>> {
        let knows = |engine: &&Arc<dyn AlchemyEngine>| engine.forms().iter().any(|f| f == form);
        self.engines.iter().find(knows).cloned()
    }
}

impl Role for Alchemist {
    type Ability = Vec<String>;
    type Offer = AlchemyPop;
    type Job = Vec<AlchemyJob>;

    fn kind(&self) -> WorkKind {
        WorkKind::Interrogation
    }

    /// A job is all forms of one pop.
    fn room(&self) -> Room {
        Room {
            threads: self.config.threads(),
            ahead: 0,
        }
    }

    async fn open(&self) {
        let forms = self.ability().await.unwrap_or_default();
        tracing::info!(?forms, "the alchemist starts");
    }

    async fn ability(&self) -> Option<Vec<String>> {
        let engines = self.engines.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut forms: Vec<String> = Vec::new();
            for form in engines.iter().flat_map(|engine| engine.forms()) {
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
            forms
        });
        asked.await.ok()
    }

    fn offer(&self, ability: &Vec<String>, may_offer: &dyn Fn(&str) -> bool) -> Option<AlchemyPop> {
        let forms: Vec<_> = ability
            .iter()
            .filter(|form| may_offer(form))
            .cloned()
            .collect();
        (!forms.is_empty()).then(|| AlchemyPop {
            name: self.config.alchemist_name().to_owned(),
            priority_usernames: self.config.priority_usernames.clone(),
            forms,
            amount: self.config.queue_size.max(1),
            bridge_agent: self.config.bridge_agent.clone(),
            threads: self.config.threads(),
            max_tiles: self.config.max_power.min(256),
        })
    }

    fn models(offer: &AlchemyPop) -> &[String] {
        &offer.forms
    }

    async fn pop(
        &self,
        horde: &Horde,
        offer: &AlchemyPop,
        _: Vec<String>,
    ) -> Result<Answer<Self::Job>, Error> {
        let answer = horde.pop_alchemy(offer).await?;
        let forms = answer.forms.unwrap_or_default();
        let ticket = forms.first().map(|first| Ticket {
            id: first.id,
            model: first.form.clone(),
            parts: forms.len(),
            effort: 1.0,
            ttl: TIME_PER_FORM,
            job: forms.clone(),
        });
        Ok(Answer {
            ticket,
            messages: Vec::new(),
            skipped: answer.skipped,
        })
    }

    async fn work(self: Arc<Self>, order: Order<Self::Job>) -> End {
        let Order {
            ticket,
            popped,
            slot,
        } = order;
        let slot = Arc::new(slot);
        let give_up = popped
            + ticket
                .ttl
                .saturating_sub(self.office.timing.deadline_margin);
        let mut end = End {
            id: ticket.id,
            model: ticket.model,
            verdict: Verdict::Done,
            sampled: None,
            delivered: 0,
            reward: 0.0,
        };
        let mut pictures = Pictures::new();
        for job in &ticket.job {
            let started = Instant::now();
            let board = &self.office.board;
            board.stage(end.id, Stage::Fetching);
            let made = self
                .make(job, end.id, (give_up, slot.clone()), &mut pictures)
                .await;
            if made.is_ok() {
                end.sampled = Some(end.sampled.unwrap_or_default() + started.elapsed());
            }
            board.stage(end.id, Stage::Delivering);
            self.hand_back(job, made, popped + ticket.ttl, &mut end)
                .await;
        }
        end
    }
}

impl Alchemist {
    async fn make(
        &self,
        job: &AlchemyJob,
        shown: ordu_api::JobId,
        (give_up, slot): (Instant, Arc<OwnedSemaphorePermit>),
        pictures: &mut Pictures,
    ) -> Result<Made, Fault> {
        let engine = self.engine_for(&job.form).ok_or(Fault::Unknown)?;
        if give_up <= Instant::now() {
            return Err(Fault::Deadline);
        }
        if self.office.shutdown.level() >= Level::Hurry {
            return Err(Fault::Stopping);
        }
        let making = async {
            let picture = self.picture(job, pictures).await.ok_or(Fault::NoPicture)?;
            let board = self.office.board.clone();
            board.stage(shown, Stage::Sampling { step: 0, of: 0 });
            let (form, options) = (job.form.clone(), job.payload.clone().unwrap_or_default());
            on_a_thread(Meter::new(board, shown), slot, move |meter| {
                engine.answer(&form, &picture, &options, meter)
            })
            .await
            .ok_or(Fault::Panicked)?
            .map_err(Fault::from)
        };
        tokio::select! {
            biased;
            () = self.office.shutdown.reached(Level::Abort) => Err(Fault::Stopping),
            () = sleep_until(give_up) => Err(Fault::Deadline),
            made = making => made,
        }
    }

    /// The picture of a form. Several forms may share one.
    async fn picture(
        &self,
        job: &AlchemyJob,
        pictures: &mut Pictures,
    ) -> Option<Arc<DynamicImage>> {
        if let Some(known) = pictures.get(&job.source_image) {
            return known.clone();
        }
        let uploads = job.r2_upload.iter();
        let trust = uploads.fold(self.larder.trust.clone(), |trust, url| trust.and(url));
        let fetched = self.larder.picture(&job.source_image, &trust).await;
        let picture = fetched.ok().map(Arc::new);
        pictures.insert(job.source_image.clone(), picture.clone());
        picture
    }

    async fn hand_back(
        &self,
        job: &AlchemyJob,
        made: Result<Made, Fault>,
        end_of_time: Instant,
        end: &mut End,
    ) {
        let timing = &self.office.timing;
        let telling = async {
            let answered = match made {
                Ok(made) => self.answered(job, made).await,
                Err(fault) => Err(fault),
            };
            let (result, verdict) = result(job, answered);
            let delivery = submitted(timing, job.id, || self.office.horde.submit_alchemy(&result));
            (verdict, delivery.await)
        };
        // A fault is told even if the time is up already.
        let last = end_of_time.max(Instant::now() + timing.abort);
        let untold = || Delivery::Untold("no time is left to submit".to_owned());
        let (verdict, delivery) = tokio::select! {
            biased;
            told = telling => told,
            () = sleep_until(last) => (Verdict::Done, untold()),
            () = async {
                self.office.shutdown.reached(Level::Abort).await;
                tokio::time::sleep(timing.abort).await;
            } => (Verdict::Done, untold()),
        };
        if matches!(verdict, Verdict::ModelFailed(_)) {
            end.model.clone_from(&job.form);
        }
        end.count(verdict, &delivery);
    }

    /// What is said about a form; a picture is brought to where it belongs first.
    async fn answered(&self, job: &AlchemyJob, made: Made) -> Result<Value, Fault> {
        let picture = match made {
            Made::Words(value) => return Ok(value),
            Made::Picture(picture) => picture,
        };
        let upload = job.r2_upload.as_ref().filter(|url| !url.is_empty());
        let url = upload.ok_or(Fault::Undelivered)?;
        let encoded = tokio::task::spawn_blocking(move || webp(picture)).await;
        let Ok(Ok(bytes)) = encoded else {
            return Err(Fault::Undelivered);
        };
        let courier = Courier {
            horde: &self.office.horde,
            timing: &self.office.timing,
        };
        match courier.upload(url, bytes).await {
            Ok(()) => Ok(UPLOADED.into()),
            Err(_) => Err(Fault::Undelivered),
        }
    }
}

/// What the horde is told, and who is to blame.
fn result(job: &AlchemyJob, answered: Result<Value, Fault>) -> (AlchemySubmit, Verdict) {
    let (members, state, verdict) = match answered {
        Ok(value) => {
            let members = Map::from_iter([(job.form.clone(), value)]);
            (members, SubmitState::Ok, Verdict::Done)
        }
        Err(fault) => {
            tracing::warn!(job.id = %job.id, form = job.form, error = %fault, "a form is given up");
            (Map::new(), SubmitState::Faulted, verdict(&fault))
        }
    };
    let submit = AlchemySubmit {
        id: job.id.to_string(),
        result: members,
        state,
    };
    (submit, verdict)
}

fn verdict(fault: &Fault) -> Verdict {
    match fault {
        Fault::Stopping | Fault::Engine(EngineError::Cancelled) => {
            Verdict::HandedBack("the worker stops")
        }
        Fault::NoPicture => Verdict::HandedBack("its picture cannot be had"),
        Fault::Unknown => Verdict::HandedBack("no engine answers it"),
        Fault::Deadline | Fault::Undelivered => Verdict::Failed(fault.to_string()),
        Fault::Panicked | Fault::Engine(_) => Verdict::ModelFailed(fault.to_string()),
    }
}
