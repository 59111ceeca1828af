//! Texts, of conversations or not.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::future::select_all;
use futures::stream;
use ordu_api::openai::{
    ChatChoice, ChatMessage, ChatPiece, Delta, FinishReason, Problem, Refused, TextChoice, Texts,
    Usage,
};
use ordu_core::text::Vision;
use serde::Serialize;

use super::{OF_STREAMS, keep_alive};
use crate::app::App;
use crate::gateway::Caller;
use crate::gateway::choice;
use crate::gateway::members::Members;
use crate::gateway::refusal::{GatewayError, GatewayResult};
use crate::gateway::writing::{Conversation, Delivery, Manner, Prompt, Told, Writing};

/// The most prompts of one call.
const MOST_PROMPTS: usize = 20;

/// What ends a stream.
const DONE: &str = "[DONE]";

/// `POST /v1/chat/completions`
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    caller: Caller,
    mut members: Members,
) -> GatewayResult<Response> {
    let conversation = Conversation::read(&mut members)?;
    let manner = Manner::read(&mut members)?;
    let choice = app.choose_text(manner.wanted.as_deref(), conversation.vision())?;
    let prompts = vec![conversation.prompt(&choice)];
    let batch = Batch::begin(&app, &caller, (&manner, &choice), prompts).await?;
    match manner.delivery {
        Delivery::Whole => batch.whole(Kind::Chat, "chat.completion").await,
        delivery => Ok(batch.stream(Kind::Chat, "chat.completion.chunk", delivery)),
    }
}

/// `POST /v1/completions`
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    caller: Caller,
    mut members: Members,
) -> GatewayResult<Response> {
    let prompts = members.texts("prompt")?;
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
        let complaint = format!("{} prompts: 1 to {MOST_PROMPTS} are taken", prompts.len());
        return Err(GatewayError::member("prompt", complaint));
    }
    let echo = members.switch("echo")?;
    let manner = Manner::read(&mut members)?;
    let choice = app.choose_text(manner.wanted.as_deref(), Vision::Off)?;
    let kind = Kind::Text {
        echoes: if echo { prompts.clone() } else { Vec::new() },
    };
    let prompts = prompts.into_iter().map(Prompt::plain).collect();
    let batch = Batch::begin(&app, &caller, (&manner, &choice), prompts).await?;
    match manner.delivery {
        Delivery::Whole => batch.whole(kind, "text_completion").await,
        delivery => Ok(batch.stream(kind, "text_completion", delivery)),
    }
}

/// In which words texts are told.
enum Kind {
    /// As answers in a conversation.
    Chat,
    /// As texts, each behind its prompt if there are `echoes`.
    Text { echoes: Vec<String> },
}

impl Kind {
    const fn prefix(&self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl",
            Self::Text { .. } => "cmpl",
        }
    }
}

/// The requests of a call: one for each prompt.
struct Batch {
    app: Arc<App>,
    writings: Vec<Writing>,
    /// Those that have more to tell.
    open: Vec<usize>,
    /// Texts of each.
    n: usize,
    created: i64,
}

impl Batch {
    async fn begin(
        app: &Arc<App>,
        caller: &Caller,
        how: (&Manner, &choice::TextChoice),
        prompts: Vec<Prompt>,
    ) -> GatewayResult<Self> {
        let mut writings = Vec::new();
        for prompt in &prompts {
            // One after the other: who may not ask for the second gives back the first.
            writings.push(Writing::begin(app, caller, how, prompt).await?);
        }
        Ok(Self {
            app: Arc::clone(app),
            open: (0..writings.len()).collect(),
            writings,
            n: usize::try_from(how.0.n).unwrap_or(1),
            created: app.clock.now().seconds(),
        })
    }

    /// What is told next, by the number of its text; `None` when all is told.
    async fn next(&mut self) -> Option<Result<Vec<Told>, Problem>> {
        loop {
            let writings = self.writings.iter_mut().enumerate();
            let open = writings.filter(|(number, _)| self.open.contains(number));
            let news: Vec<_> = open
                .map(|(number, writing)| Box::pin(async move { (number, writing.next().await) }))
                .collect();
            if news.is_empty() {
                return None;
            }
            let ((number, told), ..) = select_all(news).await;
            let told = match told {
                Ok(told) => told,
                Err(problem) => return Some(Err(problem)),
            };
            if told.is_empty() {
                self.open.retain(|open| *open != number);
                continue;
            }
            let first = number * self.n;
            let told = told.into_iter().map(|told| match told {
                Told::Piece { index, text } => Told::Piece {
                    index: first + index,
                    text,
                },
                Told::End { index, reason } => Told::End {
                    index: first + index,
                    reason,
                },
            });
            return Some(Ok(told.collect()));
        }
    }

    fn texts<C>(&self, (kind, object): (&Kind, &'static str), choices: Vec<C>) -> Texts<C> {
        let first = self.writings.first();
        let id = first.map(Writing::id).unwrap_or_default();
        Texts {
            id: format!("{}-{id}", kind.prefix()),
            object,
            created: self.created,
            model: first
                .map(|first| first.model().to_owned())
                .unwrap_or_default(),
            choices,
            usage: None,
        }
    }

    fn usage(&self) -> Usage {
        let usages = self.writings.iter().map(Writing::usage);
        usages.fold(Usage::default(), |sum, usage| {
            Usage::new(
                sum.prompt_tokens + usage.prompt_tokens,
                sum.completion_tokens + usage.completion_tokens,
            )
        })
    }

    /// The answer to a call that waits for all of it.
    async fn whole(mut self, kind: Kind, object: &'static str) -> GatewayResult<Response> {
        while let Some(told) = self.next().await {
            told?;
        }
        let usage = Some(self.usage());
        let texts = self.writings.iter().flat_map(Writing::texts).enumerate();
        Ok(match &kind {
            Kind::Chat => {
                let choices = texts.map(|(index, (text, finish_reason))| ChatChoice {
                    index,
                    message: ChatMessage {
                        role: "assistant",
                        content: text.to_owned(),
                        refusal: (),
                    },
                    logprobs: (),
                    finish_reason,
                });
                let texts = self.texts((&kind, object), choices.collect());
                Json(Texts { usage, ..texts }).into_response()
            }
            Kind::Text { echoes } => {
                let choices = texts.map(|(index, (text, reason))| TextChoice {
                    text: format!("{}{text}", echo(echoes, index / self.n)),
                    index,
                    logprobs: (),
                    finish_reason: Some(reason),
                });
                let texts = self.texts((&kind, object), choices.collect());
                Json(Texts { usage, ..texts }).into_response()
            }
        })
    }

    /// The answer to a call that wants to see it come.
    fn stream(self, kind: Kind, object: &'static str, delivery: Delivery) -> Response {
        let app = Arc::clone(&self.app);
        let telling = Telling {
            batch: self,
            kind,
            object,
            delivery,
            ready: VecDeque::new(),
            ended: false,
        };
        let events = stream::unfold(telling.begun(), async |mut telling| {
            let data = telling.next().await?;
            Some((Ok::<_, Infallible>(Event::default().data(data)), telling))
        });
        let sse = Sse::new(events.boxed()).keep_alive(keep_alive(&app));
        (OF_STREAMS, sse).into_response()
    }
}

fn echo(echoes: &[String], number: usize) -> &str {
    echoes.get(number).map_or("", String::as_str)
}

/// A stream of texts.
struct Telling {
    batch: Batch,
    kind: Kind,
    object: &'static str,
    delivery: Delivery,
    /// What is to be sent next.
    ready: VecDeque<String>,
    ended: bool,
}

impl Telling {
    /// With what each text begins with.
    fn begun(mut self) -> Self {
        for index in 0..self.batch.writings.len() * self.batch.n {
            let first = match &self.kind {
                Kind::Chat => Some(String::new()),
                Kind::Text { echoes } => echoes.get(index / self.batch.n).cloned(),
            };
            if let Some(first) = first {
                let role = Some("assistant");
                self.say(index, Some(first), (role, None));
            }
        }
        self
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(data);
            }
            if self.ended {
                return None;
            }
            match self.batch.next().await {
                Some(Ok(told)) => {
                    for told in told {
                        match told {
                            Told::Piece { index, text } => {
                                self.say(index, Some(text), (None, None));
                            }
                            Told::End { index, reason } => {
                                self.say(index, None, (None, Some(reason)));
                            }
                        }
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    self.send(&Refused { error });
                }
                None => {
                    self.ended = true;
                    if self.delivery == Delivery::StreamAndCount {
                        let usage = Some(self.batch.usage());
                        let texts = self.texts(Vec::<ChatPiece>::new());
                        self.send(&Texts { usage, ..texts });
                    }
                    self.ready.push_back(DONE.to_owned());
                }
            }
        }
    }

    fn texts<C>(&self, choices: Vec<C>) -> Texts<C> {
        self.batch.texts((&self.kind, self.object), choices)
    }

    fn say(
        &mut self,
        index: usize,
        text: Option<String>,
        (role, finish_reason): (Option<&'static str>, Option<FinishReason>),
    ) {
        match &self.kind {
            Kind::Chat => {
                let piece = ChatPiece {
                    index,
                    delta: Delta {
                        role,
                        content: text,
                    },
                    logprobs: (),
                    finish_reason,
                };
                let texts = self.texts(vec![piece]);
                self.send(&texts);
            }
            Kind::Text { .. } => {
                let piece = TextChoice {
                    text: text.unwrap_or_default(),
                    index,
                    logprobs: (),
                    finish_reason,
                };
                let texts = self.texts(vec![piece]);
                self.send(&texts);
            }
        }
    }

    fn send(&mut self, data: &impl Serialize) {
        let data = serde_json::to_string(data).unwrap_or_default();
        self.ready.push_back(data);
    }
}
