//! Asking for work and doing it.

use ordu_api::alchemy::{
    AcceptedAlchemy, AlchemyJobs, AlchemyPop, AlchemyRequest, AlchemyStatus, AlchemySubmit,
};
use ordu_api::event::{Heard, JobProgress};
use ordu_api::image::{
    AcceptedRequest, DryRun, ImageDryRun, ImageJob, ImagePop, ImageRequest, ImageSubmit, Progress,
    RequestStatus, Reward,
};
use ordu_api::rating::RatingForm;
use ordu_api::schema::Kind;
use ordu_api::text::{AcceptedText, TextJob, TextPop, TextRequest, TextStatus, TextSubmit};

use crate::openapi::operation::{Group, Operation, delete, get, post};

const ANYBODY: &str = "anybody, the anonymous and shared ones included";
const WORKER_OWNER: &str = "the worker's owner, who is not anonymous";
const ASKED_FOR: &str = "The request's id, from the answer that accepted it.";

/// What a client calls an attempt, so that a repetition is recognised.
fn with_attempt(operation: Operation) -> Operation {
    operation.header(
        "Idempotency-Key",
        Kind::text(1, 255),
        "Names the attempt: the same name and key get the first answer again.",
    )
}

/// How long to wait for an answer that is worth it.
fn with_wait(operation: Operation) -> Operation {
    operation.header(
        "Prefer",
        Kind::TEXT,
        "`wait=N`: wait up to N seconds, 60 at most, for something to happen. An answer that heeded it \
         says `Preference-Applied`.",
    )
}

/// Whether to say why nobody takes it.
fn with_explanation(operation: Operation) -> Operation {
    operation.query(
        "explain",
        Kind::Bool,
        "Not part of the deployed protocol. `true` adds `explanation`: what keeps workers from the \
         request, and the smallest change that would help.",
    )
}

pub(super) fn images() -> Group {
    let mut operations = asking_for_images();
    operations.extend(making_images());
    Group {
        name: "Images",
        doc: "Asking for pictures, and painting them.",
        operations,
    }
}

fn asking_for_images() -> Vec<Operation> {
    vec![
        with_attempt(post("/generate/async", "Asks for pictures"))
            .key(ANYBODY)
            .body::<ImageRequest>(
                r#"{"prompt": "a red fox###blur", "params": {"width": 512, "height": 512, "steps": 20}, "models": ["ordu-tiny"]}"#,
            )
            .answers::<ImageDryRun>(200, "The price, if `dry_run` asked for it")
            .answers::<AcceptedRequest>(202, "The request is queued")
            .refuses(&[403, 404]),
        with_explanation(with_wait(get("/generate/check/{id}", "Says how far a request is")))
            .note("Cheap: ask this until `done`, then the status once.")
            .path("id", ASKED_FOR)
            .answers::<Progress>(200, "How far it is")
            .refuses(&[403]),
        with_explanation(with_wait(get("/generate/status/{id}", "Shows a request with its pictures")))
            .path("id", ASKED_FOR)
            .answers::<RequestStatus>(200, "How far it is, and what is there already"),
        get("/generate/events/{id}", "Tells what happens to a request for pictures or texts")
            .note(
                "Not part of the deployed protocol. Server-sent events: `queued`, `assigned`, \
                 `progress`, `token`, `generation`, and at last `done` or `faulted`.",
            )
            .path("id", ASKED_FOR)
            .header(
                "Last-Event-ID",
                Kind::TEXT,
                "The id of the last event that came, to go on after it.",
            )
            .answers_stream(200, "Events, as they happen")
            .answers_nothing(204, "Everything was told: do not come back")
            .refuses(&[403]),
        delete("/generate/status/{id}", "Cancels a request")
            .path("id", ASKED_FOR)
            .answers::<RequestStatus>(200, "How far it came"),
        post("/generate/rate/{id}", "Rates the pictures of a request")
            .note("For requests with `shared`; pays a little.")
            .path("id", ASKED_FOR)
            .body::<RatingForm>(r#"{"ratings": [{"id": "00000000-0000-4000-8000-000000000000", "rating": 7}]}"#)
            .answers::<Reward>(200, "What it earned"),
    ]
}

fn making_images() -> Vec<Operation> {
    vec![
        with_wait(post("/generate/pop", "Takes jobs for an image worker"))
            .key(WORKER_OWNER)
            .body::<ImagePop>(
                r#"{"name": "My Worker", "models": ["ordu-tiny"], "bridge_agent": "AI Horde Worker reGen:14:https://example.org", "max_pixels": 262144}"#,
            )
            .answers::<ImageJob>(200, "Jobs of one request, or the reasons why there are none")
            .refuses(&[403]),
        post("/generate/submit", "Hands a picture back")
            .key(WORKER_OWNER)
            .body::<ImageSubmit>(
                r#"{"id": "00000000-0000-4000-8000-000000000000", "generation": "R2", "state": "ok", "seed": 7}"#,
            )
            .answers::<Reward>(200, "What it earned")
            .refuses(&[403, 404]),
        post("/generate/progress", "Tells how far a job is")
            .note(
                "Not part of the deployed protocol. Of any kind of job; passed on, never stored. \
                 Reports that come too fast are dropped.",
            )
            .key(WORKER_OWNER)
            .body::<JobProgress>(
                r#"{"id": "00000000-0000-4000-8000-000000000000", "step": 3, "of": 20}"#,
            )
            .answers::<Heard>(200, "It was passed on, or dropped")
            .refuses(&[403, 404]),
    ]
}

pub(super) fn texts() -> Group {
    Group {
        name: "Texts",
        doc: "Asking for texts, and writing them.",
        operations: vec![
            with_attempt(post("/generate/text/async", "Asks for texts"))
                .key(ANYBODY)
                .body::<TextRequest>(
                    r#"{"prompt": "Once upon a time", "params": {"max_length": 80}, "models": ["koboldcpp/LLaMA2-13B-Tiefighter"]}"#,
                )
                .answers::<DryRun>(200, "The price, if `dry_run` asked for it")
                .answers::<AcceptedText>(202, "The request is queued")
                .refuses(&[403, 404]),
            with_explanation(with_wait(get("/generate/text/status/{id}", "Shows a request with its texts")))
                .path("id", ASKED_FOR)
                .answers::<TextStatus>(200, "How far it is, and what is there already"),
            delete("/generate/text/status/{id}", "Cancels a request")
                .path("id", ASKED_FOR)
                .answers::<TextStatus>(200, "How far it came"),
            with_wait(post("/generate/text/pop", "Takes jobs for a text worker"))
                .key(WORKER_OWNER)
                .body::<TextPop>(
                    r#"{"name": "My Scribe", "models": ["koboldcpp/LLaMA2-13B-Tiefighter"], "bridge_agent": "KoboldCppEmbedWorker:2:https://example.org", "max_context_length": 4096}"#,
                )
                .answers::<TextJob>(200, "Jobs of one request, or the reasons why there are none")
                .refuses(&[403]),
            post("/generate/text/submit", "Hands a text back")
                .key(WORKER_OWNER)
                .body::<TextSubmit>(
                    r#"{"id": "00000000-0000-4000-8000-000000000000", "generation": "there was a horde", "state": "ok"}"#,
                )
                .answers::<Reward>(200, "What it earned")
                .refuses(&[403, 404]),
        ],
    }
}

pub(super) fn alchemy() -> Group {
    Group {
        name: "Alchemy",
        doc: "Asking about a picture, form by form, and answering.",
        operations: vec![
            with_attempt(post("/interrogate/async", "Asks about a picture"))
                .key("anybody, the anonymous one included")
                .body::<AlchemyRequest>(
                    r#"{"forms": [{"name": "caption"}], "source_image": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="}"#,
                )
                .answers::<DryRun>(200, "The price, if `dry_run` asked for it")
                .answers::<AcceptedAlchemy>(202, "The request is queued")
                .refuses(&[403]),
            with_explanation(with_wait(get("/interrogate/status/{id}", "Shows a request with its answers")))
                .path("id", ASKED_FOR)
                .answers::<AlchemyStatus>(200, "How far each form is"),
            delete("/interrogate/status/{id}", "Cancels a request")
                .path("id", ASKED_FOR)
                .answers::<AlchemyStatus>(200, "How far each form came"),
            with_wait(post("/interrogate/pop", "Takes forms for an alchemist"))
                .key(WORKER_OWNER)
                .body::<AlchemyPop>(r#"{"name": "My Alchemist", "forms": ["caption"], "amount": 5}"#)
                .answers::<AlchemyJobs>(200, "Forms, or the reasons why there are none")
                .refuses(&[403]),
            post("/interrogate/submit", "Hands an answer back")
                .key(WORKER_OWNER)
                .body::<AlchemySubmit>(
                    r#"{"id": "00000000-0000-4000-8000-000000000000", "result": {"caption": "a red fox"}, "state": "ok"}"#,
                )
                .answers::<Reward>(200, "What it earned")
                .refuses(&[403, 404]),
        ],
    }
}
