//! `ordu admin import`: an existing horde taken over.

use anyhow::{Result, bail};
use ordu_api::ApiKey;
use ordu_store::import::{Import as Plan, Mode, Tally};
use serde_json::json;

use super::Office;
use super::output::table;
use crate::cli::{Import, ImportCommand};
use crate::exit::Exit;

/// What a table shows to people.
const MEMBERS: &[&str] = &["table", "found", "imported", "already", "skipped"];

pub(super) async fn run(what: ImportCommand) -> Result<Exit> {
    match what {
        ImportCommand::Aihorde(args) => aihorde(args).await,
    }
}

async fn aihorde(args: Import) -> Result<Exit> {
    let Some(given) = args.store.secret_key.clone() else {
        bail!("give the old horde's `secret_key` as `--secret-key`: its keys are salted with it");
    };
    let office = Office::open(&args.store).await?;
    // A running server has read its workers already, and would not see the new ones.
    let Some(_serving) = office.data.claim()? else {
        bail!(
            "a server serves `{}`: stop it first",
            args.store.data.display()
        );
    };
    let plan = Plan {
        source: args.source,
        anonymous_hash: office.secret.hash(&ApiKey::anonymous()),
        mode: if args.dry_run {
            Mode::DryRun
        } else {
            Mode::Write
        },
        now: office.now,
    };
    let tallies = office.store.import(&plan).await?;
    if !args.dry_run {
        office.data.keep_first_secret(&given)?;
    }
    print(&office, &tallies, plan.mode)?;
    Ok(office.close().await)
}

fn print(office: &Office, tallies: &[Tally], mode: Mode) -> Result<()> {
    if office.json {
        let dry_run = mode == Mode::DryRun;
        println!(
            "{}",
            json!({ "dry_run": dry_run, "tables": serde_json::to_value(tallies)? })
        );
        return Ok(());
    }
    let row = |tally: &Tally| {
        json!({
            "table": tally.table, "found": tally.found, "imported": tally.imported,
            "already": tally.already, "skipped": tally.skipped.len(),
        })
    };
    let rows: Vec<_> = tallies.iter().map(row).collect();
    print!("{}", table(MEMBERS, &rows));
    for tally in tallies {
        for remark in &tally.skipped {
            println!("{}: {} skipped: {}", tally.table, remark.row, remark.reason);
        }
        for remark in &tally.changed {
            println!("{}: {} taken {}", tally.table, remark.row, remark.reason);
        }
    }
    if mode == Mode::DryRun {
        println!("Nothing was written.");
    }
    Ok(())
}
