//! Texts: what a call asks for, and how it comes to be.

use std::sync::Arc;

use ordu_api::JobId;
use ordu_api::event::{Event, Generated, WrittenText};
use ordu_api::image::ExtraSourceImage;
use ordu_api::openai::{FinishReason, Problem, Usage};
use ordu_api::text::{TextParams, TextRequest, picture_mark};
use ordu_core::chat::{Role, Turn};
use ordu_core::text::Vision;
use serde_json::Value;

use super::Caller;
use super::choice::TextChoice;
use super::draft::{Broken, Cut, Draft, Edges, Stage};
use super::follow::{Follower, lost};
use super::members::Members;
use super::refusal::{GatewayError, GatewayResult, failure};
use super::tokens;
use crate::app::App;
use crate::routes::text::SeeingText;

/// How long a text may be if the call does not say, in tokens.
const DEFAULT_TOKENS: u64 = 512;

/// The lengths that the horde can be asked for, in tokens. Of a shorter text more is asked for, and
/// the rest is cut off.
const LEAST_TOKENS: u64 = 16;
const MOST_TOKENS: u64 = 4096;

/// The contexts that it can be asked for, in tokens.
const LEAST_CONTEXT: u64 = 2048;
const MOST_CONTEXT: u64 = 1_048_576;

/// The most texts of one call.
const MOST_TEXTS: u64 = 20;

/// How closely a picture can be asked to be looked at. How closely a model looks is its own affair.
const DETAILS: &[&str] = &["auto", "low", "high"];

/// How much the strongest penalty adds to the factor that the horde knows. OpenAI's penalties are
/// taken off scores, the horde's is a factor: the two cannot be the same.
const PENALTY: f64 = 0.15;

/// How a call wants its texts to be written.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    pub(crate) wanted: Option<String>,
    pub(crate) n: u64,
    max_tokens: Option<u64>,
    stops: Vec<String>,
    params: TextParams,
    pub(crate) delivery: Delivery,
}

/// How a call wants to get its texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// When they are done.
    #[default]
    Whole,
    /// As they come.
    Stream,
    /// As they come, and at the end how many tokens they had.
    StreamAndCount,
}

/// What no text of the horde can be asked for.
const REFUSED: &[(&str, &str)] = &[
    ("tools", "workers of the horde write texts only"),
    ("functions", "workers of the horde write texts only"),
    ("logprobs", "the horde does not know them"),
    ("top_logprobs", "the horde does not know them"),
    ("audio", "the horde makes no sound"),
    ("suffix", "the horde goes on from the end only"),
];

impl Manner {
    pub(crate) fn read(members: &mut Members) -> GatewayResult<Self> {
        for (name, why) in REFUSED {
            members.refuse(name, why)?;
        }
        if let Some(format) = members.value("response_format")
            && format.get("type").and_then(Value::as_str) != Some("text")
        {
            let why = "models of the horde cannot be held to a form";
            return Err(GatewayError::unsupported("response_format", why));
        }
        let n = members.whole("n", 1..=MOST_TEXTS)?.unwrap_or(1);
        if members
            .whole("best_of", 1..=MOST_TEXTS)?
            .is_some_and(|best| best != n)
        {
            let why = "the horde cannot tell which is the best";
            return Err(GatewayError::unsupported("best_of", why));
        }
        let newer = members.whole("max_completion_tokens", 1..=u64::MAX)?;
        let older = members.whole("max_tokens", 1..=u64::MAX)?;
        let mut stops = members.texts("stop")?;
        stops.retain(|stop| !stop.is_empty());
        let is_stream = members.switch("stream")?;
        let options = members.value("stream_options").unwrap_or_default();
        let counts = options.get("include_usage").and_then(Value::as_bool);
        Ok(Self {
            wanted: members.text("model")?,
            n,
            max_tokens: newer.or(older),
            stops,
            params: params(members)?,
            delivery: match (is_stream, counts) {
                (false, _) => Delivery::Whole,
                (true, Some(true)) => Delivery::StreamAndCount,
                (true, _) => Delivery::Stream,
            },
        })
    }

    /// The request that makes the horde write.
    fn request(&self, choice: &TextChoice, prompt: &Prompt) -> TextRequest {
        let reach = u64::try_from(choice.reach.max_length).unwrap_or(LEAST_TOKENS);
        let context = u64::try_from(choice.reach.max_context_length).unwrap_or(LEAST_CONTEXT);
        let wanted = self.max_tokens.unwrap_or(DEFAULT_TOKENS);
        let length = wanted.min(reach).clamp(LEAST_TOKENS, MOST_TOKENS);
        let needed = prompt.tokens().saturating_add(length);
        let context = needed.max(LEAST_CONTEXT).min(context).min(MOST_CONTEXT);
        let small = |number: u64| u32::try_from(number).ok();
        let stops = self.stops(choice, prompt);
        TextRequest {
            prompt: prompt.text.clone(),
            params: TextParams {
                n: small(self.n),
                max_length: small(length),
                max_context_length: small(context),
                stop_sequence: (!stops.is_empty()).then_some(stops),
                ..self.params.clone()
            },
            models: choice.models.clone(),
            extra_source_images: prompt.pictures.clone(),
            // Who did not say how long gets what can be had.
            allow_downgrade: self.max_tokens.is_none(),
            ..TextRequest::default()
        }
    }

    fn stops(&self, choice: &TextChoice, prompt: &Prompt) -> Vec<String> {
        let of_format = match prompt.edges {
            Edges::Trimmed => choice.format.stops(),
            Edges::Kept => &[],
        };
        let of_format = of_format.iter().map(|stop| (*stop).to_owned());
        self.stops.iter().cloned().chain(of_format).collect()
    }

    fn cut(&self, choice: &TextChoice, prompt: &Prompt) -> Cut {
        Cut {
            stops: self.stops(choice, prompt),
            max_tokens: self.max_tokens.unwrap_or(u64::MAX),
            edges: prompt.edges,
        }
    }
}

/// OpenAI's parameters, and those of the horde that its clients can send besides, in the horde's
/// words.
fn params(members: &mut Members) -> GatewayResult<TextParams> {
    let presence = members.number("presence_penalty", -2.0..=2.0)?;
    let frequency = members.number("frequency_penalty", -2.0..=2.0)?;
    let strongest = presence.unwrap_or(0.0).max(frequency.unwrap_or(0.0));
    let factor = members.number("repetition_penalty", 1.0..=3.0)?;
    let penalty = (strongest > 0.0).then_some(1.0 + strongest / 2.0 * PENALTY);
    let top_k = members.whole("top_k", 0..=200)?;
    // The horde's least; OpenAI's 0 means the likeliest only as well.
    let top_p = members.number("top_p", 0.0..=1.0)?;
    Ok(TextParams {
        temperature: members.number("temperature", 0.0..=2.0)?,
        top_p: top_p.map(|top_p| top_p.max(0.001)),
        top_k: top_k.and_then(|top_k| u32::try_from(top_k).ok()),
        min_p: members.number("min_p", 0.0..=1.0)?,
        rep_pen: factor.or(penalty),
        use_default_badwordsids: members.switch("ignore_eos")?.then_some(true),
        ..TextParams::default()
    })
}

/// What a text goes on from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Prompt {
    pub(crate) text: String,
    pub(crate) pictures: Vec<ExtraSourceImage>,
    pub(crate) edges: Edges,
}

impl Prompt {
    /// A text as it is.
    pub(crate) fn plain(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }

    /// About how many tokens it is for the model.
    fn tokens(&self) -> u64 {
        let pictures = u64::try_from(self.pictures.len()).unwrap_or(u64::MAX);
        tokens::count(&self.text).saturating_add(pictures.saturating_mul(tokens::OF_A_PICTURE))
    }
}

/// A conversation as it comes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Conversation {
    turns: Vec<Turn>,
    pictures: Vec<ExtraSourceImage>,
}

impl Conversation {
    pub(crate) fn read(members: &mut Members) -> GatewayResult<Self> {
        let messages: Option<Vec<Value>> = members.read("messages")?;
        let messages = messages.filter(|messages| !messages.is_empty());
        let messages =
            messages.ok_or_else(|| GatewayError::member("messages", "is missing or empty"))?;
        let mut conversation = Self::default();
        for (index, message) in messages.iter().enumerate() {
            let at = format!("messages[{index}]");
            conversation.add(&at, message)?;
        }
        Ok(conversation)
    }

    fn add(&mut self, at: &str, message: &Value) -> GatewayResult<()> {
        let role = match message["role"].as_str() {
            Some("system" | "developer") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("tool" | "function") => {
                let why = "workers of the horde use no tools";
                return Err(GatewayError::unsupported(&format!("{at}.role"), why));
            }
            _ => {
                let complaint = format!(
                    "{} is none of system, developer, user, assistant",
                    message["role"]
                );
                return Err(GatewayError::member(&format!("{at}.role"), complaint));
            }
        };
        let at = format!("{at}.content");
        let text = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Null if role == Role::Assistant => String::new(),
            Value::Array(parts) => self.parts(&at, parts)?,
            _ => {
                return Err(GatewayError::member(
                    &at,
                    "is neither a text nor a list of parts",
                ));
            }
        };
        self.turns.push(Turn { role, text });
        Ok(())
    }

    fn parts(&mut self, at: &str, parts: &[Value]) -> GatewayResult<String> {
        let mut text = String::new();
        for (index, part) in parts.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let wrong = |what: &str| GatewayError::member(&at, what);
            let mark;
            let said = match part["type"].as_str() {
                Some("text") => part["text"].as_str().ok_or_else(|| wrong("has no text"))?,
                Some("image_url") => {
                    self.pictures.push(picture(&at, &part["image_url"])?);
                    mark = picture_mark(self.pictures.len());
                    mark.as_str()
                }
                Some(kind @ ("file" | "input_audio")) => {
                    let why =
                        format!("workers of the horde take no `{kind}`, texts and pictures only");
                    return Err(GatewayError::unsupported(&at, &why));
                }
                _ => return Err(wrong("is neither a text nor an image_url")),
            };
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(said);
        }
        Ok(text)
    }

    /// What a model is to go on from.
    pub(crate) fn prompt(&self, choice: &TextChoice) -> Prompt {
        Prompt {
            text: choice.format.prompt(&self.turns),
            pictures: self.pictures.clone(),
            edges: Edges::Trimmed,
        }
    }

    /// Whether somebody must look at pictures to answer.
    pub(crate) const fn vision(&self) -> Vision {
        if self.pictures.is_empty() {
            Vision::Off
        } else {
            Vision::On
        }
    }
}

/// A picture of a message.
fn picture(at: &str, place: &Value) -> GatewayResult<ExtraSourceImage> {
    let url = place["url"].as_str().or(place.as_str());
    let url = url.filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| GatewayError::member(at, "has no url"))?;
    match &place["detail"] {
        Value::Null => {}
        Value::String(detail) if DETAILS.contains(&detail.as_str()) => {}
        other => {
            let complaint = format!("{other} is none of {}", DETAILS.join(", "));
            let at = format!("{at}.image_url.detail");
            return Err(GatewayError::member(&at, complaint));
        }
    }
    Ok(ExtraSourceImage {
        image: url.to_owned(),
        strength: 1.0,
    })
}

/// A request of a call, and the texts that come of it.
pub(crate) struct Writing {
    follower: Follower,
    cut: Cut,
    /// In the order of their choices.
    texts: Vec<Text>,
    model: String,
    prompt_tokens: u64,
}

/// One text.
#[derive(Debug, Default)]
struct Text {
    draft: Draft,
    job: Option<JobId>,
    /// What its worker said of it: tokens written, and at most.
    steps: Option<(u64, u64)>,
}

/// What a call can be told.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    /// More of a text.
    Piece { index: usize, text: String },
    /// A text is done.
    End { index: usize, reason: FinishReason },
}

impl Writing {
    /// Has the horde write.
    pub(crate) async fn begin(
        app: &Arc<App>,
        caller: &Caller,
        (manner, choice): (&Manner, &TextChoice),
        prompt: &Prompt,
    ) -> GatewayResult<Self> {
        let request = manner.request(choice, prompt);
        let count = usize::try_from(manner.n).unwrap_or(1);
        Ok(Self {
            follower: Follower::ask(app, caller, SeeingText(request)).await?,
            cut: manner.cut(choice, prompt),
            texts: (0..count).map(|_| Text::default()).collect(),
            model: choice.models.first().cloned().unwrap_or_default(),
            prompt_tokens: prompt.tokens(),
        })
    }

    /// How the request is called.
    pub(crate) fn id(&self) -> String {
        self.follower.request().to_string()
    }

    /// The model that writes.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// The texts as they are.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, FinishReason)> {
        let end = |text: &Text| text.draft.reason().unwrap_or(FinishReason::Stop);
        self.texts
            .iter()
            .map(move |text| (text.draft.shown(), end(text)))
    }

    /// How many tokens went in and came out.
    pub(crate) fn usage(&self) -> Usage {
        let written = self.texts.iter().map(|text| match text.steps {
            Some((step, _)) => step,
            None => tokens::count(text.draft.known()),
        });
        Usage::new(self.prompt_tokens, written.sum())
    }

    /// What there is to tell next; nothing when all is told.
    pub(crate) async fn next(&mut self) -> Result<Vec<Told>, Problem> {
        loop {
            if self.texts.iter().all(|text| text.draft.reason().is_some()) {
                self.follower.leave();
                return Ok(Vec::new());
            }
            let told = match self.follower.next().await {
                Some(Event::Assigned(assigned)) => {
                    self.place(assigned.id);
                    if !assigned.model.is_empty() {
                        self.model = assigned.model;
                    }
                    Vec::new()
                }
                Some(Event::Token(piece)) => {
                    let index = self.place(piece.id);
                    self.texts.get_mut(index).map_or_else(Vec::new, |text| {
                        text.steps = Some((piece.steps.step.into(), piece.steps.of.into()));
                        if let Some(known) = piece.put(text.draft.known()) {
                            text.draft.set(known);
                        }
                        text.tell(index, &self.cut)
                    })
                }
                Some(Event::Generation(generated)) => match *generated {
                    Generated::Text(written) => self.finish(written)?,
                    Generated::Image(_) => Vec::new(),
                },
                Some(Event::Queued(_) | Event::Progress(_)) => Vec::new(),
                Some(Event::Done(_) | Event::Faulted(_)) => return Err(lost()),
                None => return Err(failure("closing", "This server is about to end: ask again")),
            };
            if !told.is_empty() {
                return Ok(told);
            }
        }
    }

    /// Which text a job writes. A job that nobody knows takes the place of one that was lost.
    fn place(&mut self, job: JobId) -> usize {
        let known = self.texts.iter().position(|text| text.job == Some(job));
        let free = || self.texts.iter().position(|text| text.job.is_none());
        let lost = || {
            self.texts.iter().position(|text| {
                let is_open = text.draft.reason().is_none();
                is_open && text.job.is_some_and(|job| !self.follower.is_running(job))
            })
        };
        let index = known.or_else(free).or_else(lost).unwrap_or(0);
        if let Some(text) = self.texts.get_mut(index) {
            text.job = Some(job);
        }
        index
    }

    /// Takes a text that is done.
    fn finish(&mut self, written: WrittenText) -> Result<Vec<Told>, Problem> {
        let index = self.place(written.id);
        if !written.generation.model.is_empty() {
            self.model.clone_from(&written.generation.model);
        }
        let Some(text) = self.texts.get_mut(index) else {
            return Ok(Vec::new());
        };
        let was_open = text.draft.reason().is_none();
        text.draft.set(written.generation.text);
        let more = text.draft.advance(&self.cut, Stage::Done).map_err(|Broken| {
            let message = "The worker was lost in the middle of this text, and another one wrote \
                           another text: ask again";
            failure("restarted", message)
        })?;
        let is_full = text.steps.is_some_and(|(step, of)| step >= of);
        text.draft.end(match written.generation.state.as_str() {
            "ok" if is_full => FinishReason::Length,
            "ok" => FinishReason::Stop,
            _ => FinishReason::ContentFilter,
        });
        Ok(if was_open {
            text.told(index, more)
        } else {
            Vec::new()
        })
    }
}

impl Text {
    /// What more can be told of a text that grows.
    fn tell(&mut self, index: usize, cut: &Cut) -> Vec<Told> {
        let was_open = self.draft.reason().is_none();
        let more = self.draft.advance(cut, Stage::Growing);
        match more {
            Ok(more) if was_open => self.told(index, more),
            _ => Vec::new(),
        }
    }

    fn told(&self, index: usize, text: String) -> Vec<Told> {
        let piece = (!text.is_empty()).then_some(Told::Piece { index, text });
        let end = self
            .draft
            .reason()
            .map(|reason| Told::End { index, reason });
        piece.into_iter().chain(end).collect()
    }
}
