//! `ordu write`: ask for a text, wait, print.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ordu_api::RequestId;
use ordu_api::text::{TextParams, TextRequest, TextStatus};
use ordu_client::{Error, Horde};
use ordu_worker::Engines;
use serde_json::json;

use super::engines;
use super::target::{DEFAULT_HORDE, Target};
use crate::cli::Write;
use crate::exit::Exit;

/// Between two looks. A horde allows sixty in a minute.
const INTERVAL: Duration = Duration::from_millis(1100);

/// How many looks in a row may fail.
const PATIENCE: u32 = 8;

pub(crate) async fn run(args: Write) -> Result<Exit> {
    let writer = || match &args.engine {
        Some(choice) => Ok(Engines {
            text: Some(engines::text(choice, args.engine_key.as_deref())?),
            ..Engines::default()
        }),
        None => bail!(
            "no horde answers at {DEFAULT_HORDE}, and one of your own needs an engine that writes: \
             give `--horde URL`, or `--engine openai=URL`"
        ),
    };
    let target = Target::named_or_started(&args.client, writer).await?;
    let exit = write(&target.horde, &args).await;
    target.finish().await;
    exit
}

async fn write(horde: &Horde, args: &Write) -> Result<Exit> {
    let accepted = match horde.async_text(&request(args)).await {
        Ok(accepted) => accepted,
        Err(Error::Refused(refusal)) => {
            eprintln!("The horde refused: {refusal}");
            return Ok(Exit::Refused);
        }
        Err(error) => return Err(error).context("the request could not be sent"),
    };
    if let Some(message) = &accepted.message {
        eprintln!("Note: {message}");
    }
    let limit = Duration::from_secs(args.timeout);
    let Ok(status) = tokio::time::timeout(limit, ended(horde, accepted.id)).await else {
        // What nobody waits for should not be written.
        horde.cancel_text(accepted.id).await.ok();
        eprintln!(
            "Nothing came within {} s; the request was cancelled",
            args.timeout
        );
        return Ok(Exit::TimedOut);
    };
    let status = status?;
    if status.progress.faulted {
        eprintln!("The horde gave up on this request: workers failed three times");
        return Ok(Exit::Failed);
    }
    Ok(print(accepted.id, &status, args))
}

/// Waits until nothing more will come.
async fn ended(horde: &Horde, id: RequestId) -> Result<TextStatus> {
    let mut failures = 0;
    loop {
        match horde.text_status(id).await {
            Ok(status) if status.progress.done || status.progress.faulted => return Ok(status),
            Ok(_) => failures = 0,
            Err(error) if error.is_passing() && failures < PATIENCE => failures += 1,
            Err(error) => return Err(error).context("the request was lost from sight"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn print(id: RequestId, status: &TextStatus, args: &Write) -> Exit {
    if args.client.json {
        let texts: Vec<_> = status
            .generations
            .iter()
            .map(|text| {
                json!({
                    "text": text.text, "seed": text.seed, "model": text.model,
                    "worker": text.worker_name, "state": text.state,
                })
            })
            .collect();
        let kudos = status.progress.kudos;
        println!("{}", json!({ "id": id, "kudos": kudos, "texts": texts }));
    } else {
        for text in &status.generations {
            println!("{}", text.text);
        }
    }
    if status.generations.is_empty() {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn request(args: &Write) -> TextRequest {
    TextRequest {
        prompt: args.prompt.clone(),
        params: params(args),
        models: args.model.clone(),
        style: args.style.clone(),
        ..TextRequest::default()
    }
}

fn params(args: &Write) -> TextParams {
    TextParams {
        n: Some(args.n),
        max_length: args.max_length,
        max_context_length: args.max_context_length,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        typical: args.typical,
        rep_pen: args.rep_pen,
        rep_pen_range: args.rep_pen_range,
        stop_sequence: (!args.stop.is_empty()).then(|| args.stop.clone()),
        frmttriminc: args.trim.then_some(true),
        singleline: args.single_line.then_some(true),
        ..TextParams::default()
    }
}
