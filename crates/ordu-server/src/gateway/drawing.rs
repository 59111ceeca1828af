//! Pictures: what a call asks for, and how it comes to be.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ordu_api::event::{Event, Generated};
use ordu_api::image::{Generation, ImageParams, ImageRequest, SourceProcessing};
use ordu_api::openai::{Image, Problem};
use ordu_core::Refusal;
use ordu_core::model_reference::Baseline;

use super::Caller;
use super::choice::Brush;
use super::follow::{Follower, lost};
use super::members::Members;
use super::refusal::{GatewayError, GatewayResult, failure};
use crate::app::App;
use crate::blobs::{self, BlobError};
use crate::pictures::Format;

/// The most pictures of one call.
const MOST_PICTURES: u64 = 20;

/// The sides that the horde knows, in pixels; each is a multiple of the first.
const STEP: u32 = 64;
const MOST_PIXELS: u32 = 3072;

/// How much a picture that is drawn anew from another one may differ from it.
const LIKENESS: f64 = 0.75;

/// Steps by the words for quality.
const QUALITIES: &[(&str, u32)] = &[
    ("low", 15),
    ("medium", 25),
    ("standard", 30),
    ("auto", 30),
    ("hd", 50),
    ("high", 50),
    ("xhigh", 50),
    ("max", 50),
];

/// How a call wants its pictures to be drawn.
#[derive(Debug)]
pub(crate) struct Manner {
    wanted: Option<String>,
    prompt: String,
    negative: Option<String>,
    n: u64,
    size: Option<(u32, u32)>,
    steps: Option<u32>,
    seed: Option<String>,
    transparent: bool,
    nsfw: bool,
    pub(crate) delivery: Delivery,
    pub(crate) format: Format,
    /// How many unfinished pictures are to be shown; `None` for a call that waits for the finished
    /// ones.
    pub(crate) partial: Option<u64>,
}

/// How a call wants to get its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Link,
    Inline,
}

/// A picture that a call brings.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// As base64 or a link.
    pub(crate) image: String,
    /// White is drawn anew.
    pub(crate) mask: Option<String>,
    /// Whether the picture itself says by its alpha what is drawn anew.
    pub(crate) has_holes: bool,
}

impl Source {
    fn brush(&self) -> Brush {
        if self.mask.is_some() || self.has_holes {
            Brush::Repaint
        } else {
            Brush::Paint
        }
    }
}

impl Manner {
    pub(crate) fn read(members: &mut Members) -> GatewayResult<Self> {
        let prompt = members.text("prompt")?;
        let prompt = prompt.ok_or_else(|| GatewayError::member("prompt", "is missing or empty"))?;
        let format = members.text("output_format")?;
        // What chooses a format came with pictures in the answer.
        let usual = if format.is_some() { "b64_json" } else { "url" };
        let is_stream = members.switch("stream")?;
        let delivery = match members.text("response_format")?.as_deref().unwrap_or(usual) {
            _ if is_stream => Delivery::Inline,
            "url" => Delivery::Link,
            "b64_json" => Delivery::Inline,
            other => return Err(none_of("response_format", other, "url, b64_json")),
        };
        let partial = members.whole("partial_images", 0..=3)?.unwrap_or(0);
        Ok(Self {
            wanted: members.text("model")?,
            prompt,
            negative: members.text("negative_prompt")?,
            n: members.whole("n", 1..=MOST_PICTURES)?.unwrap_or(1),
            size: read_size(members)?,
            steps: read_steps(members)?,
            seed: members
                .whole("seed", 0..=u64::MAX)?
                .map(|seed| seed.to_string()),
            transparent: members.text("background")?.as_deref() == Some("transparent"),
            nsfw: members.text("moderation")?.as_deref() == Some("low"),
            delivery,
            format: match format.as_deref() {
                None | Some("png") => Format::Png,
                Some("jpeg") => Format::Jpeg,
                Some("webp") => Format::WebP,
                Some(other) => return Err(none_of("output_format", other, "png, jpeg, webp")),
            },
            partial: is_stream.then_some(partial),
        })
    }

    fn request(&self, models: Vec<String>, (width, height): (u32, u32)) -> ImageRequest {
        let negative = self.negative.as_deref();
        let negative = negative.map(|negative| format!("###{negative}"));
        ImageRequest {
            prompt: format!("{}{}", self.prompt, negative.unwrap_or_default()),
            params: ImageParams {
                n: u32::try_from(self.n).ok(),
                width: Some(width),
                height: Some(height),
                steps: self.steps,
                seed: self.seed.clone(),
                transparent: self.transparent.then_some(true),
                ..ImageParams::default()
            },
            nsfw: self.nsfw,
            censor_nsfw: !self.nsfw,
            models,
            ..ImageRequest::default()
        }
    }
}

fn none_of(name: &str, value: &str, words: &str) -> GatewayError {
    GatewayError::member(name, format!("{value:?} is none of {words}"))
}

fn read_steps(members: &mut Members) -> GatewayResult<Option<u32>> {
    if let Some(steps) = members.whole("steps", 1..=500)? {
        return Ok(u32::try_from(steps).ok());
    }
    let Some(quality) = members.text("quality")? else {
        return Ok(None);
    };
    let known = QUALITIES.iter().find(|(word, _)| *word == quality);
    match known {
        Some((_, steps)) => Ok(Some(*steps)),
        None => Err(none_of(
            "quality",
            &quality,
            "low, medium, standard, auto, hd, high, xhigh, max",
        )),
    }
}

/// A size is as near as the horde can come to what is asked for.
fn read_size(members: &mut Members) -> GatewayResult<Option<(u32, u32)>> {
    let size = members.text("size")?.filter(|size| size != "auto");
    let Some(size) = size else {
        return Ok(None);
    };
    let sides = size.split_once('x');
    let sides = sides.and_then(|(w, h)| Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?)));
    let fits = |side: u32| (STEP..=MOST_PIXELS).contains(&side);
    match sides {
        Some((width, height)) if fits(width) && fits(height) => {
            let near = |side: u32| (side + STEP / 2) / STEP * STEP;
            Ok(Some((near(width), near(height))))
        }
        _ => {
            let complaint = format!(
                "{size:?} is no size: WIDTHxHEIGHT in pixels, {STEP} to {MOST_PIXELS} each, or auto"
            );
            Err(GatewayError::member("size", complaint))
        }
    }
}

/// A request of a call, and the pictures that come of it.
pub(crate) struct Drawing {
    app: Arc<App>,
    follower: Follower,
    delivery: Delivery,
    format: Format,
    pub(crate) size: String,
    done: u64,
    n: u64,
}

/// What a call can be told.
pub(crate) enum Shown {
    /// A picture that is not finished, as base64.
    Partial(String),
    /// A picture.
    Done(Image),
}

impl Drawing {
    /// Has the horde draw.
    pub(crate) async fn begin(
        app: &Arc<App>,
        caller: &Caller,
        manner: &Manner,
        source: Option<Source>,
    ) -> GatewayResult<Self> {
        let brush = source.as_ref().map_or(Brush::Paint, Source::brush);
        let models = app.choose_image(manner.wanted.as_deref(), brush)?;
        let size = manner.size.unwrap_or_else(|| app.usual_size(&models));
        let mut request = manner.request(models, size);
        if let Some(source) = source {
            request.source_image = Some(source.image);
            request.source_mask = source.mask;
            match brush {
                Brush::Paint => request.params.denoising_strength = Some(LIKENESS),
                Brush::Repaint => request.source_processing = SourceProcessing::Inpainting,
            }
        }
        Ok(Self {
            follower: Follower::ask(app, caller, request).await?,
            app: Arc::clone(app),
            delivery: manner.delivery,
            format: manner.format,
            size: format!("{}x{}", size.0, size.1),
            done: 0,
            n: manner.n,
        })
    }

    /// What there is to show next; nothing when all is shown.
    pub(crate) async fn next(&mut self) -> Result<Option<Shown>, Problem> {
        while self.done < self.n {
            match self.follower.next().await {
                Some(Event::Progress(steps)) => {
                    if let Some(preview) = steps.preview {
                        return Ok(Some(Shown::Partial(preview)));
                    }
                }
                Some(Event::Generation(generated)) => {
                    if let Generated::Image(generation) = *generated {
                        self.done += 1;
                        return Ok(Some(Shown::Done(self.show(generation).await?)));
                    }
                }
                Some(Event::Done(_) | Event::Faulted(_)) => return Err(lost()),
                None => return Err(failure("closing", "This server is about to end: ask again")),
                Some(_) => {}
            }
        }
        self.follower.leave();
        Ok(None)
    }

    async fn show(&self, generation: Generation) -> Result<Image, Problem> {
        let (url, b64_json) = match self.delivery {
            Delivery::Link => (Some(generation.img.clone()), None),
            Delivery::Inline => (None, Some(self.inline(&generation).await?)),
        };
        Ok(Image {
            url,
            b64_json,
            model: generation.model,
            seed: generation.seed,
            censored: generation.censored,
        })
    }

    async fn inline(&self, generation: &Generation) -> Result<String, Problem> {
        let gone = || {
            failure(
                "gone",
                "The picture was made, but it is not there: ask again",
            )
        };
        let name = blobs::result_name(generation.id);
        let file: Bytes = self.app.blobs.get(&name).await.map_err(|error| {
            if !matches!(error, BlobError::Missing) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a result was lost"
                );
            }
            gone()
        })?;
        let file = self.app.pictures.convert(file, self.format).await;
        let file = file.map_err(|_| gone())?;
        Ok(STANDARD.encode(file))
    }
}

impl App {
    /// The size that pictures of these models are best at, in pixels.
    fn usual_size(&self, models: &[String]) -> (u32, u32) {
        let reference = self.reference();
        let baseline = models.first().and_then(|name| reference.get(name));
        match baseline.map_or(Baseline::StableDiffusion1, |model| model.baseline) {
            Baseline::StableDiffusion1 | Baseline::Other => (512, 512),
            Baseline::StableDiffusion2 => (768, 768),
            Baseline::StableDiffusionXl
            | Baseline::StableCascade
            | Baseline::Flux1
            | Baseline::QwenImage
            | Baseline::ZImageTurbo => (1024, 1024),
        }
    }
}

/// What a form brings: a picture, and which of it is drawn anew.
pub(crate) async fn read_source(
    app: &App,
    image: Bytes,
    mask: Option<Bytes>,
) -> GatewayResult<Source> {
    let complain =
        |name: &'static str| move |refusal: Refusal| GatewayError::member(name, refusal.message);
    let has_holes = app
        .pictures
        .has_holes(image.clone())
        .await
        .map_err(complain("image"))?;
    let mask = match mask {
        None => None,
        Some(mask) => {
            // Where OpenAI's mask is transparent, the horde's is white.
            let mask = app.pictures.holes(mask).await.map_err(complain("mask"))?;
            Some(STANDARD.encode(mask))
        }
    };
    Ok(Source {
        image: STANDARD.encode(image),
        mask,
        has_holes,
    })
}

impl From<Problem> for GatewayError {
    fn from(problem: Problem) -> Self {
        Self::failed(problem)
    }
}
