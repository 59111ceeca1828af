//! The alchemist as a role: forms about pictures, each handed back by itself.
//!
//! # Source
//! `worker.md` § 6.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use image::DynamicImage;
use ordu_api::JobId;
use ordu_api::alchemy::{AlchemyJob, AlchemyPop, AlchemySubmit, makes_picture};
use ordu_api::image::{SubmitState, UPLOADED};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Horde};
use ordu_engine::plan::post::PostKind;
use ordu_engine::{AlchemyEngine, Answer as Made, EngineError, PostProcessor};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};

use crate::deliver::{Courier, Delivery, submitted};
use crate::dreamer::larder;
use crate::effort::Pending;
use crate::encode::webp;
use crate::generate::{Meter, on_a_thread};
use crate::inputs::Larder;
use crate::line::{Entry, Rules, Turn};
use crate::role::{
    Answer, Cause, End, Fit, Office, Order, Role, Room, Ticket, Verdict, verdict_on,
};
use crate::safety::{Classifier, ClassifierError, View};
use crate::status::Stage;
use crate::{Config, Level};

/// How long the horde waits for one form.
const TIME_PER_FORM: Duration = Duration::from_mins(3);

/// The side of a tile, in pixels.
const TILE_SIDE: u32 = 512;

/// The most tiles that the protocol lets a worker offer.
const MAX_TILES: u32 = 256;

/// How many times longer than the last one an answer may take, where that is more than usual: networks
/// on a slow processor are not hung.
const PATIENCE: u32 = 4;

/// The form that a classifier answers.
pub(crate) const NSFW: &str = "nsfw";

/// A form that not all hordes know; those would refuse the whole pop.
const ANNOTATION: &str = "annotation";

/// What stands for all post-processors in the owner's list of forms.
const POST_PROCESS: &str = "post_process";

/// Answers forms.
pub(crate) struct Alchemist {
    engines: Vec<Arc<dyn AlchemyEngine>>,
    classifier: Option<Arc<dyn Classifier>>,
    office: Office,
    larder: Larder,
    /// Forms that were answered before, and how long the last one took: what they need lies in memory.
    warm: Mutex<BTreeMap<String, Duration>>,
}

/// A form that can be answered at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    form: String,
    by: By,
}

/// Who answers a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The engine at this place.
    Engine {
        place: usize,
        /// Whether it takes the device that pictures are drawn on.
        shares_device: bool,
    },
    Classifier,
}

/// Why a form is not answered.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("its picture cannot be had")]
    NoPicture,
    #[error("its picture has {0} tiles, more than were offered")]
    TooLarge(u32),
    #[error("no engine answers it")]
    Unknown,
    #[error("it does not get done in time")]
    Deadline,
    #[error("it took longer than {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("the worker stops")]
    Stopping,
    #[error("its result cannot be delivered")]
    Undelivered,
    #[error("the engine panicked")]
    Panicked,
    #[error(transparent)]
    Unclassified(#[from] ClassifierError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The pictures of one pop, each fetched once.
type Pictures = BTreeMap<String, Option<Arc<DynamicImage>>>;

impl Alchemist {
    pub(crate) fn new(
        engines: Vec<Arc<dyn AlchemyEngine>>,
        classifier: Option<Arc<dyn Classifier>>,
        office: &Office,
    ) -> Result<Self, Error> {
        Ok(Self {
            engines,
            classifier,
            office: office.clone(),
            larder: larder(&office.current.now(), &office.horde)?,
            warm: Mutex::default(),
        })
    }

    /// How long the engine may take for a form. What it needs may have to be loaded first.
    fn limit(&self, form: &str, picture: &DynamicImage) -> Duration {
        let timing = &self.office.timing;
        let usual = if is_upscaler(form) {
            timing.tile_limit.saturating_mul(tiles(picture))
        } else {
            timing.form_limit
        };
        let warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        match warm.get(form) {
            // Upscalers take as long as their pictures are large.
            Some(_) if is_upscaler(form) => usual,
            Some(last) => usual.max(last.saturating_mul(PATIENCE)),
            None => usual.max(timing.cold_limit),
        }
    }
}

/// The largest picture to enlarge, in tiles.
fn max_tiles(config: &Config) -> u32 {
    config.max_power.min(MAX_TILES)
}

fn is_upscaler(form: &str) -> bool {
    let step = PostProcessor::from_name(form);
    step.is_some_and(|step| matches!(step.kind(), PostKind::Upscaler(_)))
}

fn tiles(picture: &DynamicImage) -> u32 {
    let along = |side: u32| side.div_ceil(TILE_SIDE);
    along(picture.width()).saturating_mul(along(picture.height()))
}

/// A form as owners write it, in one way of many.
fn plain(form: &str) -> String {
    form.trim().to_lowercase().replace('-', "_")
}

impl Role for Alchemist {
    type Ability = Vec<Known>;
    type Offer = AlchemyPop;
    type Job = (Vec<AlchemyJob>, Vec<Known>);

    fn kind(&self) -> WorkKind {
        WorkKind::Interrogation
    }

    /// A job is all forms of one pop.
    fn room(&self) -> Room {
        Room {
            threads: self.office.current.read(Config::threads),
            ahead: 0,
        }
    }

    fn engines(&self) -> usize {
        self.engines.len()
    }

    async fn open(&self) {
        let known = self.ability().await.unwrap_or_default();
        let forms: Vec<_> = known.iter().map(|known| &known.form).collect();
        tracing::info!(?forms, "the alchemist starts");
    }

    async fn ability(&self) -> Option<Vec<Known>> {
        let engines = self.engines.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let engines = engines.iter().enumerate();
            let forms = engines.flat_map(|(place, engine)| {
                let shares_device = engine.shares_device();
                let by = By::Engine {
                    place,
                    shares_device,
                };
                engine
                    .forms()
                    .into_iter()
                    .map(move |form| Known { form, by })
            });
            forms.collect::<Vec<_>>()
        });
        let classifier = self.classifier.iter().map(|_| Known {
            form: NSFW.to_owned(),
            by: By::Classifier,
        });
        let wishes = self.office.current.read(|config| config.forms.clone());
        let mut known: Vec<Known> = Vec::new();
        for one in asked.await.ok()?.into_iter().chain(classifier) {
            let is_new = known.iter().all(|other| other.form != one.form);
            if is_new && is_wanted(&one.form, &wishes) {
                known.push(one);
            }
        }
        Some(known)
    }

    /// While pictures are to be drawn, the device is theirs.
    fn offer(&self, ability: &Vec<Known>, fit: &Fit<'_>) -> Option<AlchemyPop> {
        let config = self.office.current.now();
        let draws = self.office.board.works_at(WorkKind::Image);
        let is_free = |known: &&Known| match known.by {
            By::Engine { shares_device, .. } => !(shares_device && draws),
            By::Classifier => true,
        };
        let free = ability.iter().filter(is_free).map(|known| &known.form);
        let forms: Vec<_> = free.filter(|form| fit.model(form)).cloned().collect();
        (!forms.is_empty()).then(|| AlchemyPop {
            name: config.alchemist_name().to_owned(),
            priority_usernames: config.priority_usernames.clone(),
            forms,
            amount: config.queue_size.max(1),
            bridge_agent: config.bridge_agent.clone(),
            threads: config.threads(),
            max_tiles: max_tiles(&config),
        })
    }

    fn models(offer: &AlchemyPop) -> &[String] {
        &offer.forms
    }

    async fn pop(
        &self,
        horde: &Horde,
        offer: &AlchemyPop,
        ability: Vec<Known>,
    ) -> Result<Answer<Self::Job>, Error> {
        let answer = horde.pop_alchemy(offer).await?;
        let forms = answer.forms.unwrap_or_default();
        let ticket = forms.first().map(|first| Ticket {
            id: first.id,
            work: Pending {
                model: first.form.clone(),
                effort: 1.0,
                ..Pending::default()
            },
            parts: forms.len(),
            ttl: TIME_PER_FORM,
            job: (forms.clone(), ability),
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
        let mut end = End::new(ticket.id, ticket.work.model);
        let mut pictures = Pictures::new();
        let (jobs, known) = &ticket.job;
        for job in jobs {
            let started = Instant::now();
            let board = &self.office.board;
            board.stage(end.id, Stage::Fetching);
            let by = known.iter().find(|known| known.form == job.form);
            let attempt = Attempt {
                job,
                by: by.map(|known| known.by),
                shown: end.id,
                popped,
                give_up,
                slot: slot.clone(),
            };
            let made = self.make(attempt, &mut pictures).await;
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

/// One form to answer.
struct Attempt<'a> {
    job: &'a AlchemyJob,
    /// Nobody, if it was not offered.
    by: Option<By>,
    /// The job that the board shows.
    shown: JobId,
    popped: Instant,
    give_up: Instant,
    slot: Arc<Option<OwnedSemaphorePermit>>,
}

impl Alchemist {
    async fn make(&self, attempt: Attempt<'_>, pictures: &mut Pictures) -> Result<Made, Fault> {
        let give_up = attempt.give_up;
        let by = attempt.by.ok_or(Fault::Unknown)?;
        if give_up <= Instant::now() {
            return Err(Fault::Deadline);
        }
        if self.office.shutdown.level() >= Level::Hurry {
            return Err(Fault::Stopping);
        }
        let making = async {
            let form = &attempt.job.form;
            let picture = self.picture(attempt.job, pictures).await;
            let picture = picture.ok_or(Fault::NoPicture)?;
            let tiles = tiles(&picture);
            if is_upscaler(form) && tiles > self.office.current.read(max_tiles) {
                return Err(Fault::TooLarge(tiles));
            }
            let made = match by {
                By::Classifier => self.judged(&picture).await,
                By::Engine {
                    place,
                    shares_device,
                } => {
                    let engine = self.engines.get(place).ok_or(Fault::Unknown)?;
                    let turn = if shares_device {
                        Some(self.turn(&attempt).await)
                    } else {
                        None
                    };
                    self.answer(engine.clone(), attempt, picture, turn).await
                }
            }?;
            Ok(made)
        };
        tokio::select! {
            biased;
            () = self.office.shutdown.reached(Level::Abort) => Err(Fault::Stopping),
            () = sleep_until(give_up) => Err(Fault::Deadline),
            made = making => made,
        }
    }

    /// Waits until the device is free.
    async fn turn(&self, attempt: &Attempt<'_>) -> Turn {
        let Office { turns, current, .. } = &self.office;
        let turn = turns.join(Entry {
            popped: attempt.popped,
            model: None,
            effort: 0.0,
            has_addons: false,
            exclusive: false,
        });
        turn.comes(|| current.read(Rules::of)).await;
        turn
    }

    async fn answer(
        &self,
        engine: Arc<dyn AlchemyEngine>,
        attempt: Attempt<'_>,
        picture: Arc<DynamicImage>,
        turn: Option<Turn>,
    ) -> Result<Made, Fault> {
        let Attempt {
            job, shown, slot, ..
        } = attempt;
        let board = self.office.board.clone();
        board.stage(shown, Stage::Sampling { step: 0, of: 0 });
        let limit = self.limit(&job.form, &picture);
        let started = Instant::now();
        let (form, options) = (job.form.clone(), job.payload.clone().unwrap_or_default());
        let meter = Meter::new(board, shown);
        let answering = on_a_thread(meter, (slot, turn), move |meter| {
            engine.answer(&form, &picture, &options, meter)
        });
        let answered = timeout(limit, answering).await;
        let answered = answered.map_err(|_| Fault::TooSlow(limit))?;
        let made = answered.ok_or(Fault::Panicked)??;
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        warm.insert(job.form.clone(), started.elapsed());
        Ok(made)
    }

    /// What the classifier says of a picture.
    async fn judged(&self, picture: &Arc<DynamicImage>) -> Result<Made, Fault> {
        let classifier = self.classifier.as_ref().ok_or(Fault::Unknown)?;
        let picture = picture.clone();
        let encoded = tokio::task::spawn_blocking(move || webp((*picture).clone())).await;
        let Ok(Ok(bytes)) = encoded else {
            return Err(Fault::NoPicture);
        };
        let view = View {
            picture: &bytes,
            prompt: "",
            model: "",
        };
        let shows = classifier.judge(view).await?;
        Ok(Made::Words(json!(shows.nsfw || shows.csam)))
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
            let cause = answered.as_ref().err().map(Fault::cause);
            let (result, verdict) = result(job, answered);
            let delivery = submitted(timing, job.id, || self.office.horde.submit_alchemy(&result));
            (verdict, cause, delivery.await)
        };
        // A fault is told even if the time is up already.
        let last = end_of_time.max(Instant::now() + timing.abort);
        let untold = || Delivery::Untold("no time is left to submit".to_owned());
        let (verdict, cause, delivery) = tokio::select! {
            biased;
            told = telling => told,
            () = sleep_until(last) => (Verdict::Done, None, untold()),
            () = async {
                self.office.shutdown.reached(Level::Abort).await;
                tokio::time::sleep(timing.abort).await;
            } => (Verdict::Done, None, untold()),
        };
        if matches!(
            verdict,
            Verdict::ModelFailed(_) | Verdict::ProgramFailed(_) | Verdict::EngineAway(_)
        ) {
            end.model.clone_from(&job.form);
        }
        end.count(verdict, cause, &delivery);
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
        Fault::Stopping => Verdict::HandedBack("the worker stops"),
        Fault::NoPicture => Verdict::HandedBack("its picture cannot be had"),
        Fault::TooLarge(_) => Verdict::HandedBack("its picture is too large"),
        Fault::Unknown => Verdict::HandedBack("no engine answers it"),
        Fault::Deadline | Fault::Undelivered | Fault::Unclassified(_) => {
            Verdict::Failed(fault.to_string())
        }
        Fault::Panicked | Fault::TooSlow(_) => Verdict::ModelFailed(fault.to_string()),
        Fault::Engine(error) => verdict_on(error),
    }
}

impl Fault {
    /// As it is counted.
    fn cause(&self) -> Cause {
        match self {
            Self::NoPicture => Cause::NoPicture,
            Self::TooLarge(_) => Cause::TooLarge,
            Self::Unknown => Cause::Foreign,
            Self::Deadline => Cause::Deadline,
            Self::TooSlow(_) => Cause::TooSlow,
            Self::Stopping => Cause::Stopping,
            Self::Undelivered => Cause::Delivery,
            Self::Panicked => Cause::Panicked,
            Self::Unclassified(_) => Cause::Unclassified,
            Self::Engine(error) => Cause::of(error),
        }
    }
}

/// Whether the owner wants a form to be answered. Nothing wished for is everything, but for what not all
/// hordes know.
pub(crate) fn is_wanted(form: &str, wishes: &[String]) -> bool {
    let listed = |word: &str| wishes.iter().any(|wish| plain(wish) == word);
    if form == ANNOTATION || !wishes.is_empty() {
        return listed(&plain(form)) || (makes_picture(form) && listed(POST_PROCESS));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_those_that_the_owner_wishes() {
        let wishes = ["palette", "post-process"].map(str::to_owned);
        assert!(is_wanted("palette", &wishes) && is_wanted("palette", &[]));
        assert!(is_wanted("RealESRGAN_x4plus", &wishes));
        assert!(!is_wanted("describe", &wishes));
        assert!(!is_wanted("RealESRGAN_x4plus", &wishes[..1]));
        assert!(!is_wanted(ANNOTATION, &wishes) && !is_wanted(ANNOTATION, &[]));
        assert!(is_wanted(ANNOTATION, &[ANNOTATION.to_owned()]));
    }
}
