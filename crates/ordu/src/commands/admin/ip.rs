//! `ordu admin ip`: addresses and blocks that are shut out.

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use ordu_core::address::{Entry, Reputation, Scope, read_network, show_network};
use ordu_core::{Millis, Timestamp};
use ordu_server::Deed;
use serde_json::{Value, json};

use super::Office;
use crate::cli::{IpBlock, IpCommand, IpFree, IpList};
use crate::exit::Exit;

/// What a list shows to people.
const MEMBERS: &[&str] = &["ipaddr", "kind", "seconds", "reports"];

pub(super) async fn run(what: IpCommand) -> Result<Exit> {
    match what {
        IpCommand::List(args) => list(args).await,
        IpCommand::Block(args) => block(args).await,
        IpCommand::Free(args) => free(args).await,
    }
}

fn view(entry: &Entry, now: Timestamp) -> Value {
    let rest = entry.shut_until.since(now).0.max(0);
    json!({
        "ipaddr": show_network(entry.network),
        "kind": match entry.scope { Scope::Single => "single", Scope::Block => "block" },
        "seconds": (rest + 999) / 1000,
        "reports": if entry.suspicion_until > now { entry.suspicion } else { 0 },
    })
}

fn read(text: &str) -> Result<IpNet> {
    read_network(text)
        .with_context(|| format!("`{text}` is neither an IP address nor a block of them"))
}

async fn entries(office: &Office) -> Result<Vec<Entry>> {
    Ok(office.store.list_addresses(Timestamp(0)).await?)
}

async fn list(args: IpList) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let entries = entries(&office).await?;
    let shut = entries.iter().filter(|entry| entry.shut_until > office.now);
    office.list(MEMBERS, shut.map(|entry| view(entry, office.now)).collect());
    Ok(office.close().await)
}

async fn reputation(office: &Office) -> Result<Reputation> {
    let mut reputation = Reputation::default();
    for entry in entries(office).await? {
        reputation.merge(&entry);
    }
    Ok(reputation)
}

async fn block(args: IpBlock) -> Result<Exit> {
    let network = read(&args.network)?;
    let office = Office::open(&args.store).await?;
    let until = office.now + Millis::from_minutes(i64::from(args.hours) * 60);
    let mut reputation = reputation(&office).await?;
    let entry = reputation.shut_out(network, until, office.now);
    let deed = Deed::of_operator("address.shut_out", "address", show_network(network));
    let deed = deed.change(json!({}), json!({ "hours": args.hours }));
    office
        .recorded(deed, office.store.put_address(&entry))
        .await?;
    office.show(&view(&entry, office.now));
    Ok(office.close().await)
}

async fn free(args: IpFree) -> Result<Exit> {
    let network = read(&args.network)?;
    let office = Office::open(&args.store).await?;
    let freed = reputation(&office).await?.let_in(network, office.now);
    if freed.is_empty() {
        bail!("`{}` is not shut out", args.network);
    }
    let deed = Deed::of_operator("address.let_in", "address", show_network(network));
    let work = async {
        for entry in &freed {
            office.store.put_address(entry).await?;
        }
        anyhow::Ok(())
    };
    office.recorded(deed, work).await?;
    let freed = freed.iter().map(|entry| show_network(entry.network));
    office.show(&json!({ "freed": freed.collect::<Vec<_>>() }));
    Ok(office.close().await)
}
