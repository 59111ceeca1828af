//! `ordu status`: the load of a horde, its models and its workers.

mod board;
mod watch;

use anyhow::{Context as _, Result};
use ordu_api::RequestId;
use ordu_api::status::{ModelStatus, Performance};
use ordu_api::worker::{WorkKind, WorkerView};
use ordu_client::Horde;
use serde_json::json;

use super::explanation;
use super::target::Target;
use crate::cli::Status;
use crate::exit::Exit;

pub(crate) async fn run(args: Status) -> Result<Exit> {
    let horde = Target::named(&args.client)?.horde;
    if args.watch {
        return watch::run(&horde, args.client.json).await;
    }
    if let Some(id) = args.request {
        return explain(&horde, id, &args).await;
    }
    let unreachable = || format!("the horde at {} does not answer", horde.base_url());
    let performance = horde.performance().await.with_context(unreachable)?;
    let models = horde
        .models(WorkKind::Image)
        .await
        .with_context(unreachable)?;
    let workers = horde.workers(None).await.with_context(unreachable)?;
    if args.client.json {
        println!(
            "{}",
            json!({ "performance": performance, "models": models, "workers": workers })
        );
    } else {
        print_load(&performance);
        print_models(&models);
        print_workers(&workers);
    }
    Ok(Exit::Done)
}

/// What keeps workers from one request.
async fn explain(horde: &Horde, id: RequestId, args: &Status) -> Result<Exit> {
    let found = explanation::find(horde, id).await;
    let found = found.with_context(|| format!("the horde does not tell of the request {id}"))?;
    match found {
        Some(explanation) if args.client.json => println!("{}", json!(explanation)),
        Some(explanation) => print!("{}", explanation::describe(&explanation)),
        None => {
            eprintln!("This horde does not say what keeps workers from a request");
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Done)
}

fn print_load(load: &Performance) {
    println!("Pictures waiting   {}", load.queued_requests);
    println!(
        "Megapixelsteps     {} waiting, {} in the last minute",
        load.queued_megapixelsteps, load.past_minute_megapixelsteps
    );
    println!(
        "Workers            {} with {} threads",
        load.worker_count, load.thread_count
    );
}

fn print_models(models: &[ModelStatus]) {
    if models.is_empty() {
        return;
    }
    println!(
        "\n{:<40} {:>7} {:>6} {:>8}",
        "Model", "Workers", "Jobs", "Wait"
    );
    for model in models {
        println!(
            "{:<40} {:>7} {:>6} {:>6} s",
            model.name, model.count, model.jobs, model.eta
        );
    }
}

fn print_workers(workers: &[WorkerView]) {
    if workers.is_empty() {
        println!("\nNo worker is online");
        return;
    }
    println!("\n{:<40} {:>6} {:>10}  Speed", "Worker", "Done", "Kudos");
    for worker in workers {
        println!(
            "{:<40} {:>6} {:>10.0}  {}",
            worker.name, worker.requests_fulfilled, worker.kudos_rewards, worker.performance
        );
    }
}
