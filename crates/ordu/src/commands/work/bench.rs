//! `ordu work --bench`: how fast pictures are made with each model, and what settings that speaks for.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use ordu_api::image::{ImageParams, ImageRequest};
use ordu_client::Horde;
use ordu_worker::{Case, Cell, Config, Engines, Proposal, measure, propose};
use serde_json::{Value, json};

use super::check::Form;
use super::memory::Memory;
use super::speeds::SpeedFile;
use crate::exit::Exit;

/// Steps that kudos are asked for.
const STEPS: u32 = 20;

/// Measures, tells, and keeps the speeds for the worker.
pub(crate) async fn run(
    config: &Config,
    engines: &Engines,
    speeds: Option<SpeedFile>,
    form: Form,
) -> Result<Exit> {
    let engine = engines
        .image
        .clone()
        .context("this worker makes no pictures")?;
    let settings = config.clone();
    let measuring = tokio::task::spawn_blocking(move || {
        let limits = engine.capabilities().limits;
        let cells = measure(&settings, engine.as_ref(), |cell| {
            if form == Form::Text {
                println!("{}", row(cell));
            }
        });
        (cells, limits.max_pixels)
    });
    let (cells, max_pixels) = measuring.await.context("the engine panicked")?;
    let memory = Memory::peak();
    let rates: BTreeMap<String, f64> = cells
        .iter()
        .filter_map(|cell| Some((cell.model.clone(), cell.rate()?)))
        .collect();
    if let Some(file) = speeds {
        file.keep(rates);
    }
    let proposal = propose(&cells, max_pixels);
    let kudos = kudos_per_hour(config, &cells).await;
    match form {
        Form::Json => {
            let cells: Vec<_> = cells.iter().map(as_json).collect();
            let told = json!({
                "cells": cells, "kudos_per_hour": kudos, "proposal": proposal.map(proposed),
                "peak_memory_bytes": {"worker": memory.worker, "engine": memory.engine},
            });
            println!("{}", serde_json::to_string_pretty(&told)?);
        }
        Form::Text => print!("{}", summary(&kudos, memory, proposal)),
    }
    Ok(if proposal.is_some() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn row(cell: &Cell) -> String {
    let Cell {
        model,
        case,
        size: (width, height),
        batch,
        measured,
    } = cell;
    let what = format!("{model}\t{}\t{width}x{height}\tx{batch}", case.name());
    match measured {
        Ok(measured) => {
            let step = measured
                .per_step
                .map(|step| format!("\t{step:.3} s a step"));
            format!(
                "{what}\t{:.2} s{}",
                measured.seconds,
                step.unwrap_or_default()
            )
        }
        Err(reason) => format!("{what}\tfailed: {reason}"),
    }
}

fn as_json(cell: &Cell) -> Value {
    let measured = cell.measured.as_ref();
    json!({
        "model": cell.model, "case": cell.case.name(), "width": cell.size.0, "height": cell.size.1,
        "batch": cell.batch, "seconds": measured.ok().map(|it| it.seconds),
        "seconds_per_step": measured.ok().and_then(|it| it.per_step),
        "error": measured.err(),
    })
}

fn proposed(proposal: Proposal) -> Value {
    json!({
        "max_power": proposal.max_power, "max_batch": proposal.max_batch,
        "max_threads": 1, "queue_size": proposal.queue_size,
        "allow_controlnet": proposal.allow_controlnet,
        "allow_post_processing": proposal.allow_post_processing,
    })
}

fn summary(kudos: &BTreeMap<String, f64>, memory: Memory, proposal: Option<Proposal>) -> String {
    let mut lines = Vec::new();
    for (model, kudos) in kudos {
        lines.push(format!("{model}: about {kudos:.0} kudos an hour"));
    }
    if let Some(bytes) = memory.engine {
        lines.push(format!(
            "the engine took {} MiB of memory at most",
            bytes >> 20
        ));
    }
    let Some(proposal) = proposal else {
        lines.push("no model draws".to_owned());
        return lines.join("\n") + "\n";
    };
    lines.push("settings that this speaks for:".to_owned());
    for (key, value) in proposed(proposal).as_object().into_iter().flatten() {
        lines.push(format!("  {key}: {value}"));
    }
    lines.join("\n") + "\n"
}

/// What plain pictures earn, by model, if the horde says what they cost.
async fn kudos_per_hour(config: &Config, cells: &[Cell]) -> BTreeMap<String, f64> {
    let mut earned = BTreeMap::new();
    let horde = Horde::new(
        &config.horde_url,
        config.api_key.clone(),
        &config.bridge_agent,
    );
    let Ok(horde) = horde else {
        return earned;
    };
    for cell in cells
        .iter()
        .filter(|cell| cell.case == Case::Plain && cell.batch == 1)
    {
        let Ok(measured) = &cell.measured else {
            continue;
        };
        let request = ImageRequest {
            prompt: "a red circle".to_owned(),
            models: vec![cell.model.clone()],
            params: ImageParams {
                width: Some(cell.size.0),
                height: Some(cell.size.1),
                steps: Some(STEPS),
                ..ImageParams::default()
            },
            ..ImageRequest::default()
        };
        match horde.price_image(&request).await {
            Ok(price) => {
                earned.insert(cell.model.clone(), price.kudos / measured.seconds * 3600.0);
            }
            Err(error) => {
                eprintln!("Note: the horde does not say what pictures cost: {error}");
                return earned;
            }
        }
    }
    earned
}
