//! What hooks are told, and what comes of what they say.

use bytes::Bytes;
use futures::future::join_all;
use ordu_api::image::Metadata;
use ordu_api::worker::WorkKind;
use ordu_api::{JobId, ReturnCode, WorkerId};
use ordu_core::Standing;
use ordu_core::horde::{Assignment, Blame, Content, JobState, Outcome, Owner, Requester, Work};
use serde_json::{Map, Value, json};

use super::{Ruling, Stage};
use crate::address::Client;
use crate::app::App;
use crate::blobs;
use crate::error::{ApiError, ApiResult};
use crate::{pictures, sources};

/// When to ask again after a hook gave no verdict, in seconds.
const RETRY_AFTER: u64 = 5;

/// Members of a request that are no business of rules, or too large to be sent around.
const LEFT_OUT: &[&str] = &[
    "source_image",
    "source_mask",
    "extra_source_images",
    "webhook",
];

/// Who asks, before there is a request.
pub(crate) struct Applicant<'a> {
    standing: &'a Standing,
    client: Client,
    agent: &'a str,
}

impl<'a> Applicant<'a> {
    pub(crate) const fn new(standing: &'a Standing, client: Client, agent: &'a str) -> Self {
        Self {
            standing,
            client,
            agent,
        }
    }
}

/// What is asked for, without the pictures that it brings; the names of those that are there.
fn request(work: &Work) -> Value {
    let written = match work {
        Work::Image(spec) => serde_json::to_value(&**spec),
        Work::Text(spec) => serde_json::to_value(&**spec),
        Work::Alchemy(spec) => serde_json::to_value(&**spec),
    };
    let Ok(Value::Object(mut members)) = written else {
        return Value::Null;
    };
    let mut brings = Vec::new();
    for name in LEFT_OUT {
        let is_there = |value: &Value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        if members.remove(*name).is_some_and(|value| is_there(&value)) {
            brings.push(json!(name));
        }
    }
    members.insert("brings".to_owned(), Value::Array(brings));
    Value::Object(members)
}

/// Who asked.
fn user(requester: &Requester) -> Value {
    json!({ "id": requester.user.get(), "trusted": requester.roles.has(ordu_core::Role::Trusted) })
}

/// The part of a question that all stages have.
fn question(stage: Stage, kind: WorkKind, more: Value) -> Value {
    let mut members = Map::new();
    members.insert("stage".to_owned(), json!(stage.name()));
    members.insert("kind".to_owned(), json!(kind.plain_name()));
    if let Value::Object(more) = more {
        members.extend(more);
    }
    Value::Object(members)
}

impl App {
    /// Whether the operator's rules let a request in.
    ///
    /// # Errors
    /// `Forbidden` with what the hook says; unavailable if one that must answer does not.
    pub(crate) async fn ask_admission(&self, work: &Work, by: Applicant<'_>) -> ApiResult<()> {
        let (stage, kind) = (Stage::Admission, work.kind());
        if !self.hooks.are_asked(stage, kind) {
            return Ok(());
        }
        let subject = question(
            stage,
            kind,
            json!({
                "request": request(work),
                "user": {
                    "id": by.standing.user.get(),
                    "trusted": by.standing.roles.has(ordu_core::Role::Trusted),
                    "alias": by.standing.alias,
                },
                "address": by.client.ip.to_string(),
                "client_agent": by.agent,
            }),
        );
        match self
            .hooks
            .ask((stage, kind), &subject, self.clock.now())
            .await
        {
            Ruling::Allowed => Ok(()),
            Ruling::Refused(message) => Err(ApiError::refused(ReturnCode::Forbidden, message)),
            Ruling::Censored | Ruling::Unanswered => Err(ApiError::Unavailable(RETRY_AFTER)),
        }
    }

    /// Of what was found for a worker, what the operator's rules let it have. What they do not goes
    /// back, and is not found again for this worker; without a verdict it only goes back.
    pub(crate) async fn ask_assignments(&self, worker: WorkerId, found: Vec<Assignment>) -> Asked {
        let kind = found.first().map(|first| first.work.kind());
        let is_asked = kind.is_some_and(|kind| self.hooks.are_asked(Stage::Assignment, kind));
        if !is_asked {
            return Asked {
                allowed: found,
                is_unanswered: false,
            };
        }
        let rulings = found
            .iter()
            .map(|assignment| self.ask_assignment(worker, assignment));
        let rulings = join_all(rulings).await;
        let mut asked = Asked {
            allowed: Vec::new(),
            is_unanswered: false,
        };
        let live = &mut *self.live();
        for (assignment, ruling) in found.into_iter().zip(rulings) {
            match ruling {
                Ruling::Allowed => asked.allowed.push(assignment),
                Ruling::Refused(_) | Ruling::Censored => {
                    live.horde.release(&assignment.ids());
                    live.horde.withhold(worker, assignment.request);
                }
                Ruling::Unanswered => {
                    live.horde.release(&assignment.ids());
                    asked.is_unanswered = true;
                }
            }
        }
        asked
    }

    async fn ask_assignment(&self, worker: WorkerId, assignment: &Assignment) -> Ruling {
        if assignment.decoy {
            return Ruling::Allowed;
        }
        let (stage, kind) = (Stage::Assignment, assignment.work.kind());
        let requester = {
            let live = self.live();
            let asked = live.horde.request(assignment.request);
            asked.map(|asked| user(&asked.requester))
        };
        let subject = question(
            stage,
            kind,
            json!({
                "id": assignment.request,
                "request": request(&assignment.work),
                "user": requester,
                "worker": self.worker_for_hooks(worker),
                "model": assignment.model,
                "jobs": assignment.ids(),
            }),
        );
        self.hooks
            .ask((stage, kind), &subject, self.clock.now())
            .await
    }

    fn worker_for_hooks(&self, worker: WorkerId) -> Value {
        let known = self.registry.by_id(worker);
        json!({
            "id": worker,
            "name": known.as_ref().map(|known| &known.name),
            "owner": known.as_ref().map(|known| known.owner.get()),
        })
    }

    /// What becomes of a result by the operator's rules, before it is settled.
    ///
    /// # Errors
    /// Unavailable if a hook that must answer does not, or a picture cannot be replaced.
    pub(crate) async fn ask_result(
        &self,
        id: JobId,
        by: Owner,
        outcome: Outcome,
    ) -> ApiResult<Outcome> {
        let Some((kind, subject)) = self.result_for_hooks(id, by, &outcome) else {
            return Ok(outcome);
        };
        let stage = (Stage::Result, kind);
        match self.hooks.ask(stage, &subject, self.clock.now()).await {
            Ruling::Allowed => Ok(outcome),
            // The worker did what it was asked for.
            Ruling::Refused(_) => Ok(Outcome::Faulted(Blame::Request)),
            Ruling::Censored => self.censored(id, outcome).await,
            Ruling::Unanswered => Err(ApiError::Unavailable(RETRY_AFTER)),
        }
    }

    /// What to ask about a result; nothing about what will not be settled as a result.
    fn result_for_hooks(
        &self,
        id: JobId,
        by: Owner,
        outcome: &Outcome,
    ) -> Option<(WorkKind, Value)> {
        let Outcome::Delivered {
            content,
            seed,
            censored,
            metadata,
        } = outcome
        else {
            return None;
        };
        let (job, of_request) = {
            let live = self.live();
            let job = live.horde.job(id)?.clone();
            let asked = live.horde.request(job.request)?;
            let facts = json!({
                "id": job.request,
                "request": request(&asked.work),
                "user": user(&asked.requester),
            });
            (job, (asked.work.kind(), facts))
        };
        let (kind, mut facts) = of_request;
        let counts = job.state == JobState::Running && !job.decoy && job.owner == by.user;
        let is_withdrawn = *content == Content::Withdrawn;
        if !counts || is_withdrawn || !self.hooks.are_asked(Stage::Result, kind) {
            return None;
        }
        let members = facts.as_object_mut()?;
        let (name, result) = match content {
            Content::Text(text) => ("text", json!(text)),
            Content::Form(result) => ("result", json!(result)),
            Content::Uploaded | Content::Withdrawn => {
                ("picture", json!(sources::result_link(self, id)))
            }
        };
        members.insert(name.to_owned(), result);
        members.insert("job".to_owned(), json!(id));
        members.insert("worker".to_owned(), self.worker_for_hooks(job.worker));
        members.insert("model".to_owned(), json!(job.model));
        members.insert("seed".to_owned(), json!(seed));
        members.insert("censored".to_owned(), json!(censored));
        members.insert("gen_metadata".to_owned(), json!(metadata));
        Some((kind, question(Stage::Result, kind, facts)))
    }

    /// A result that nobody sees: its picture is replaced, its text is gone.
    async fn censored(&self, id: JobId, outcome: Outcome) -> ApiResult<Outcome> {
        let Outcome::Delivered {
            content,
            seed,
            mut metadata,
            ..
        } = outcome
        else {
            return Ok(outcome);
        };
        let content = match content {
            Content::Text(_) => Content::Text(String::new()),
            Content::Form(_) => Content::Form(Map::new()),
            other @ (Content::Uploaded | Content::Withdrawn) => other,
        };
        // A form may have made a picture, too.
        if !matches!(content, Content::Text(_)) {
            let blank: Bytes = pictures::blank()?;
            self.blobs.put(&blobs::result_name(id), blank).await?;
        }
        metadata.push(Metadata {
            kind: "censorship".to_owned(),
            value: "see_ref".to_owned(),
            reference: Some("policy".to_owned()),
        });
        Ok(Outcome::Delivered {
            content,
            seed,
            censored: true,
            metadata,
        })
    }
}

/// What a worker may have.
pub(crate) struct Asked {
    pub(crate) allowed: Vec<Assignment>,
    /// Whether a hook that must answer did not.
    pub(crate) is_unanswered: bool,
}
