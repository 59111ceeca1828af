//! `ordu admin worker`: workers of every kind.

use anyhow::{Context as _, Result};
use ordu_api::ReturnCode;
use ordu_server::Deed;
use ordu_store::{Worker, WorkerChange};
use serde_json::{Value, json};

use super::Office;
use crate::cli::{WorkerCommand, WorkerList, WorkerMaintenance, WorkerShow, WorkerSwitch};
use crate::exit::Exit;

/// What a list shows to people.
const MEMBERS: &[&str] = &["id", "name", "type", "owner", "paused", "maintenance"];

pub(super) async fn run(what: WorkerCommand) -> Result<Exit> {
    match what {
        WorkerCommand::List(args) => list(args).await,
        WorkerCommand::Show(args) => show(args).await,
        WorkerCommand::Pause(args) => pause(args).await,
        WorkerCommand::Maintenance(args) => maintenance(args).await,
        WorkerCommand::Delete(args) => delete(args).await,
    }
}

impl Office {
    async fn worker(&self, text: &str) -> Result<Worker> {
        let by_id = match text.parse() {
            Ok(id) => self.store.find_worker(id).await?,
            Err(_) => None,
        };
        let found = match by_id {
            Some(worker) => Some(worker),
            None => self.store.find_worker_by_name(text).await?,
        };
        found.with_context(|| format!("there is no worker `{text}`: give its id or its name"))
    }

    /// Changes a worker, has running servers look at it, and shows it.
    async fn change_worker(self, text: &str, change: WorkerChange) -> Result<Exit> {
        let worker = self.worker(text).await?;
        let id = worker.id;
        let work = async {
            self.store.update_worker(id, &change).await?;
            self.store.note_worker_edit(id, self.now).await
        };
        self.recorded(change_deed(&worker, &change), work).await?;
        let changed = self.worker(&id.to_string()).await?;
        self.show(&view(&changed));
        Ok(self.close().await)
    }
}

/// What the audit log says of a change: only what is asked for.
fn change_deed(worker: &Worker, change: &WorkerChange) -> Deed {
    let (mut before, mut after) = (json!({}), json!({}));
    for (name, was, is) in [
        ("paused", worker.paused, change.paused),
        ("maintenance", worker.maintenance, change.maintenance),
    ] {
        if let Some(is) = is {
            before[name] = json!(was);
            after[name] = json!(is);
        }
    }
    Deed::of_operator("worker.update", "worker", worker.id).change(before, after)
}

fn view(worker: &Worker) -> Value {
    json!({
        "id": worker.id, "name": worker.name, "type": worker.kind.name(), "owner": worker.owner,
        "paused": worker.paused, "maintenance": worker.maintenance,
        "maintenance_message": worker.maintenance_message, "info": worker.info,
        "team": worker.team, "ipaddr": worker.ip, "bridge_agent": worker.agent,
        "created": worker.created.seconds(), "last_check_in": worker.last_check_in.seconds(),
        "uptime": worker.uptime, "requests_fulfilled": worker.fulfilled,
        "uncompleted_jobs": worker.uncompleted,
        "kudos_rewards": (worker.kudos_generated + worker.kudos_uptime).as_f64(),
    })
}

async fn list(args: WorkerList) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let workers = match office.named(args.user.as_deref()).await? {
        Some(owner) => office.store.list_workers_of(owner).await?,
        None => office.store.list_workers().await?,
    };
    office.list(MEMBERS, workers.iter().map(view).collect());
    Ok(office.close().await)
}

async fn show(args: WorkerShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let worker = office.worker(&args.worker).await?;
    office.show(&view(&worker));
    Ok(office.close().await)
}

async fn pause(args: WorkerSwitch) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let change = WorkerChange {
        paused: Some(!args.off),
        ..WorkerChange::default()
    };
    office.change_worker(&args.worker, change).await
}

async fn maintenance(args: WorkerMaintenance) -> Result<Exit> {
    let office = Office::open(&args.switch.store).await?;
    let change = WorkerChange {
        maintenance: Some(!args.switch.off),
        // Each switch starts without a reason.
        maintenance_message: Some(args.reason.unwrap_or_default()),
        ..WorkerChange::default()
    };
    office.change_worker(&args.switch.worker, change).await
}

async fn delete(args: WorkerShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let worker = office.worker(&args.worker).await?;
    let deed = Deed::of_operator("worker.delete", "worker", worker.id);
    let deed = deed.change(json!({ "name": worker.name }), json!({}));
    let deleted = office.store.delete_worker(worker.id);
    if !office.recorded(deed, deleted).await? {
        let code = ReturnCode::Locked.name();
        eprintln!("error: {code}: the worker has a job: wait until it is done");
        office.close().await;
        return Ok(Exit::Refused);
    }
    office.store.note_worker_edit(worker.id, office.now).await?;
    office.show(&json!({ "deleted_id": worker.id, "deleted_name": worker.name }));
    Ok(office.close().await)
}
