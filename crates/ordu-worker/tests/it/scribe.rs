//! Texts: what programs that write are told, and what hordes hear of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ordu_engine::remote::openai::OpenAiMode;
use ordu_worker::{Engines, Level, Phase, Shutdown, Status};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::engine::Scripted;
use crate::support::horde::{
    FIND_USER, FakeHorde, SUBMIT, Script, TEXT_POP, TEXT_SUBMIT, faulted, job, ok, outcomes, text,
};
use crate::support::http::Answer;
use crate::support::writer::{
    ABORT, CHAT, COMPLETIONS, Program, SOFT_PROMPT, STREAM, TextRig, openai, serve, stream,
};
use crate::support::{config, within};

async fn one(payload: &Value) -> FakeHorde {
    FakeHorde::with_texts([text(1, payload)]).await
}

#[tokio::test]
async fn a_text_comes_back_as_it_was_written() {
    let horde = one(&json!({"temperature": 0.5, "top_k": 3})).await;
    let mut rig = TextRig::openai(horde, Program::openai([])).await;
    let status = rig.ended(1).await;
    assert_eq!((status.done, status.texts), (1, 1));
    let submit = &rig.horde.text_submits()[0];
    assert_eq!(submit["generation"], "Hello world.");
    assert_eq!(
        (&submit["state"], &submit["seed"]),
        (&json!("ok"), &json!(0))
    );
    let task = &rig.tasks(COMPLETIONS)[0];
    let expected = json!({
        "model": "tiny", "prompt": "Once upon", "max_tokens": 20, "temperature": 0.5, "stream": true,
    });
    assert_eq!(
        task, &expected,
        "a program that is not known gets what all know"
    );
    let seen = &rig.program.seen_at("POST", COMPLETIONS)[0];
    assert_eq!(seen.header("authorization"), Some("Bearer ENGINEKEY"));
    rig.stop().await;
}

#[tokio::test]
async fn a_pop_promises_what_the_program_can_do() {
    let script = Script {
        files: vec![(
            FIND_USER,
            Answer::json(200, &json!({"username": "me#1", "id": 1, "kudos": 0})),
        )],
        ..Script::default()
    };
    let horde = FakeHorde::scripted(script).await;
    let rig = TextRig::kobold(horde, Program::koboldcpp([])).await;
    within(rig.horde.wait_for(TEXT_POP, 1)).await;
    let pop = &rig.horde.text_pops()[0];
    assert_eq!(pop["name"], "tester");
    assert_eq!(pop["models"], json!(["koboldcpp/tiny::me#1"]));
    assert_eq!(pop["max_length"], 40);
    assert_eq!(pop["max_context_length"], 90);
    assert_eq!(pop["softprompts"], json!(["old", "new"]));
    rig.stop().await;
}

#[tokio::test]
async fn programs_are_recognised_by_what_they_answer() {
    let models = |extra: Value| {
        let mut model = json!({"id": "m"});
        let members = model.as_object_mut().unwrap();
        members.extend(extra.as_object().unwrap().clone());
        ("/v1/models", json!({"data": [model]}))
    };
    let plain = || models(json!({}));
    let settings = json!({"default_generation_settings": {"n_ctx": 300}});
    let vllm = models(json!({"owned_by": "vllm", "max_model_len": 200}));
    let loaded = json!({"id": "m", "parameters": {"max_seq_len": 400}});
    let kobold = json!({"result": "KoboldCpp"});
    for (facts, engine, context) in [
        (vec![plain()], "unknown", None),
        (vec![plain(), ("/props", settings)], "llamacpp", Some(300)),
        (vec![plain(), ("/v1/model", loaded)], "tabbyapi", Some(400)),
        (
            vec![
                plain(),
                ("/v1/internal/model/info", json!({"model_name": "m"})),
            ],
            "textgenwebui",
            None,
        ),
        (
            vec![plain(), ("/api/tags", json!({"models": []}))],
            "ollama",
            None,
        ),
        (
            vec![vllm, ("/version", json!({"version": "1"}))],
            "vllm",
            Some(200),
        ),
        (
            vec![plain(), ("/version", json!({"version": "1"}))],
            "aphrodite",
            None,
        ),
        (
            vec![
                plain(),
                ("/api/extra/version", kobold),
                ("/api/tags", json!({"models": []})),
                ("/api/extra/true_max_context_length", json!({"value": 500})),
            ],
            "koboldcpp",
            Some(500),
        ),
    ] {
        let program = serve(Program {
            facts,
            ..Program::default()
        })
        .await;
        let writer = openai(&program, OpenAiMode::Completions);
        let asked = tokio::task::spawn_blocking(move || writer.capabilities());
        let found = within(asked).await.unwrap().unwrap();
        assert_eq!((found.engine, found.max_context_length), (engine, context));
    }
}

#[tokio::test]
async fn koboldcpp_gets_the_payload_as_it_is() {
    let payload = json!({
        "rep_pen": 1.1, "sampler_order": [6, 0, 1], "stop_sequence": ["\n"], "frmttriminc": true,
        "min_p": 0.0, "smoothing_factor": 0.0, "dynatemp_range": 0.0, "dynatemp_exponent": 1.0,
    });
    let mut job = text(1, &payload);
    job["softprompt"] = json!("new");
    let horde = FakeHorde::with_texts([job.clone()]).await;
    let mut rig = TextRig::kobold(horde, Program::koboldcpp([])).await;
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.horde.text_submits()[0]["generation"], " a time.");
    let mut task = rig.tasks(STREAM)[0].clone();
    let told = task.as_object_mut().unwrap();
    assert_eq!(told.remove("quiet"), Some(json!(true)));
    assert_eq!(told.remove("trim_stop"), Some(json!(false)));
    assert!(told.remove("genkey").is_some());
    assert_eq!(task, job["payload"]);
    let put = &rig.program.seen_at("PUT", SOFT_PROMPT)[0];
    assert_eq!(put.json(), json!({"value": "new"}));
    rig.stop().await;
}

#[tokio::test]
async fn a_chat_is_asked_as_a_user_would() {
    let event = json!({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]});
    let body = format!("data: {event}\n\ndata: [DONE]\n\n");
    let answer = Answer::bytes(200, body.into_bytes()).with("content-type", "text/event-stream");
    let program = serve(Program::openai([answer])).await;
    let engine = openai(&program, OpenAiMode::Chat);
    let horde = one(&json!({})).await;
    let config = config(&horde);
    let mut rig = TextRig::start(horde, program, engine, config);
    rig.ended(1).await;
    assert_eq!(rig.horde.text_submits()[0]["generation"], "Hi");
    let messages = json!([{"role": "user", "content": "Once upon"}]);
    assert_eq!(rig.tasks(CHAT)[0]["messages"], messages);
    rig.stop().await;
}

#[tokio::test]
async fn a_stop_sequence_stays_and_ends_the_stream() {
    let endless = stream(&["a\nUs", "er: b", " c"], "length").hanging();
    let horde = one(&json!({"stop_sequence": ["\nUser:"]})).await;
    let mut rig = TextRig::openai(horde, Program::openai([endless])).await;
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.horde.text_submits()[0]["generation"], "a\nUser:");
    within(rig.program.wait_for("CLOSE", COMPLETIONS, 1)).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_busy_program_is_asked_again() {
    let answers = [
        Answer::json(503, &json!({"error": "loading"})),
        Answer::hang_up(),
        Answer::bytes(200, b"<html>".to_vec()),
        Answer::json(200, &json!({"unexpected": true})),
    ];
    let mut rig = TextRig::openai(one(&json!({})).await, Program::openai(answers)).await;
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.tasks(COMPLETIONS).len(), 5);
    rig.stop().await;
}

#[tokio::test]
async fn what_the_program_refuses_is_faulted_at_once() {
    let refusal = Answer::json(
        422,
        &json!({"error": {"message": "Once upon", "type": "bad"}}),
    );
    let program = Program::openai([refusal]);
    let mut rig = TextRig::openai(one(&json!({})).await, program).await;
    let status = rig.ended(1).await;
    assert_eq!(status.faulted, 1);
    let reason = status.last_error.unwrap();
    assert!(reason.contains("status 422 (bad)"), "{reason}");
    assert!(!reason.contains("Once upon"), "a prompt is not logged");
    let submit = &rig.horde.text_submits()[0];
    assert_eq!(
        (&submit["state"], &submit["generation"], &submit["seed"]),
        (&json!("faulted"), &json!("faulted"), &json!(-1))
    );
    assert_eq!(rig.tasks(COMPLETIONS).len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_program_that_stops_in_the_middle_is_left() {
    let event = json!({"choices": [{"text": "Once", "finish_reason": null}]});
    let stuck = Answer::bytes(200, format!("data: {event}\n\n").into_bytes())
        .with("content-type", "text/event-stream")
        .hanging();
    let mut rig = TextRig::openai(one(&json!({})).await, Program::openai([stuck])).await;
    assert_eq!(rig.ended(1).await.faulted, 1);
    assert_eq!(outcomes(&rig.horde.text_submits()), [faulted(1)]);
    within(rig.program.wait_for("CLOSE", COMPLETIONS, 1)).await;
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_no_text_unless_the_program_means_it() {
    let horde = FakeHorde::with_texts([text(1, &json!({})), text(2, &json!({}))]).await;
    let answers = [stream(&[""], "length"), stream(&[""], "stop")];
    let mut rig = TextRig::openai(horde, Program::openai(answers)).await;
    rig.ended(2).await;
    assert_eq!(outcomes(&rig.horde.text_submits()), [faulted(1), ok(2)]);
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_popped_while_the_program_is_away() {
    let down = Arc::new(AtomicBool::new(true));
    let program = Program {
        down: down.clone(),
        ..Program::openai([])
    };
    let mut rig = TextRig::openai(one(&json!({})).await, program).await;
    let away = |status: &Status| matches!(status.phase, Phase::NoEngine(_));
    rig.until(away).await;
    assert!(rig.horde.text_pops().is_empty());
    down.store(false, Ordering::Relaxed);
    assert_eq!(rig.ended(1).await.done, 1);
    rig.stop().await;
}

#[tokio::test]
async fn who_must_stop_at_once_tells_the_program_too() {
    let stuck = Answer::json(200, &json!({})).hanging();
    let program = Program::koboldcpp([stuck]);
    let mut rig = TextRig::kobold(one(&json!({})).await, program).await;
    within(rig.program.wait_for("POST", STREAM, 1)).await;
    rig.shutdown.raise(Level::Abort);
    assert_eq!(rig.end().await.unwrap().faulted, 1);
    let submit = &rig.horde.text_submits()[0];
    assert_eq!(submit["state"], "faulted");
    assert_eq!(submit["gen_metadata"][0]["ref"], "drain");
    let aborted = within(rig.program.wait_for("POST", ABORT, 1)).await;
    let key = &rig.tasks(STREAM)[0]["genkey"];
    assert_eq!(&aborted[0].json()["genkey"], key);
}

#[tokio::test]
async fn a_text_that_takes_too_long_is_cancelled_and_faulted() {
    let stuck = Answer::json(200, &json!({})).hanging();
    let mut job = text(1, &json!({}));
    job["ttl"] = json!(1);
    let horde = FakeHorde::with_texts([job]).await;
    let program = serve(Program::openai([stuck])).await;
    let engine = openai(&program, OpenAiMode::Completions);
    let config = config(&horde);
    let mut rig = TextRig::start(horde, program, engine, config);
    assert_eq!(rig.ended(1).await.faulted, 1);
    within(rig.program.wait_for("CLOSE", COMPLETIONS, 1)).await;
    rig.stop().await;
}

#[tokio::test]
async fn jobs_that_cannot_be_done_here_are_handed_back() {
    let blacklisted = text(1, &json!({"prompt": "a CAT"}));
    let mut seeing = text(2, &json!({}));
    seeing["extra_source_images"] = json!([{"image": "aGk="}]);
    let missing = text(3, &json!({"prompt": null}));
    let horde = FakeHorde::with_texts([blacklisted, seeing, missing, text(4, &json!({}))]).await;
    let program = serve(Program::openai([])).await;
    let engine = openai(&program, OpenAiMode::Completions);
    let mut config = config(&horde);
    config.blacklist = vec!["cat".to_owned()];
    let mut rig = TextRig::start(horde, program, engine, config);
    rig.ended(4).await;
    let expected = [faulted(1), faulted(2), faulted(3), ok(4)];
    assert_eq!(outcomes(&rig.horde.text_submits()), expected);
    rig.stop().await;
}

#[tokio::test]
async fn pictures_and_texts_are_made_at_the_same_time() {
    let script = Script {
        pops: [Answer::json(200, &job(&[1]))].into(),
        text_pops: [Answer::json(200, &text(2, &json!({})))].into(),
        ..Script::default()
    };
    let horde = FakeHorde::scripted(script).await;
    let program = serve(Program::openai([])).await;
    let engines = Engines {
        image: Some(Arc::new(Scripted::new([]))),
        text: Some(openai(&program, OpenAiMode::Completions)),
        ..Engines::default()
    };
    let (sender, mut status) = watch::channel(Status::default());
    let shutdown = Shutdown::new();
    let work = ordu_worker::run(config(&horde), engines, shutdown.clone(), sender);
    let watch = async {
        let both = |status: &Status| status.pictures == 1 && status.texts == 1;
        within(status.wait_for(both)).await.unwrap();
        shutdown.escalate();
    };
    let (ended, ()) = tokio::join!(work, watch);
    let last = ended.unwrap();
    assert_eq!((last.done, last.phase), (2, Phase::Stopped));
    within(horde.wait_for(SUBMIT, 1)).await;
    within(horde.wait_for(TEXT_SUBMIT, 1)).await;
    assert_eq!(horde.pops()[0]["name"], "tester");
    assert_eq!(horde.text_pops()[0]["name"], "tester scribe");
}
