//! `ordu doctor`: what goes wrong in practice, and how to mend it.
//!
//! Nothing is changed: what is written to try things out is removed.
//!
//! # Source
//! `platform.md` § 2.

mod connections;
mod database;
mod finding;
mod folder;
mod jobs;
mod machine;
mod nodes;
mod pictures;
mod proxy;
mod server;
mod worker;

use anyhow::Result;
use ordu_server::{Clock, Secret};

use self::finding::{Finding, report};
use self::folder::Folder;
use super::serve;
use crate::cli::{Doctor, DoctorCommand, Server};
use crate::exit::Exit;
use crate::logs::Logs;

pub(crate) async fn run(args: Doctor, logs: &Logs) -> Result<Exit> {
    let (findings, json) = match args.what {
        Some(DoctorCommand::Work(work)) => {
            let json = work.client.json;
            (Box::pin(worker::look(*work, logs)).await, json)
        }
        None => (server(&args.server).await, args.json),
    };
    Ok(report(&findings, json))
}

/// Looks at what a server with these options would need, or at the one that runs.
async fn server(options: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = Folder::look(options, &mut findings);
    findings.push(machine::files());
    findings.push(machine::port(options.listen, folder.served_at.is_some()));
    let address = options.database.clone().or_else(|| folder.database());
    match address {
        Some(address) => findings.extend(database::look(&address, &Clock::System).await),
        None => findings.push(Finding::untried("database", "there is none yet")),
    }
    let secret = options.secret_key.as_deref().map(Secret::new);
    let secret = secret.or_else(|| folder.secret());
    let public = options.public_url.as_ref().map(ToString::to_string);
    findings.extend(server::look(&folder, public.as_deref()).await);
    let url = public.clone().or_else(|| folder.served_at.clone());
    let Some(secret) = secret else {
        let why = "there is no secret yet that links could be signed with";
        findings.push(Finding::untried("blobs", why));
        return findings;
    };
    let site = Site {
        secret,
        url,
        is_public: public.is_some(),
    };
    match place(options, &folder) {
        Ok(Some(place)) => findings.extend(pictures::look(&place, &site).await),
        Ok(None) => findings.push(Finding::untried("blobs", "there is no folder for them yet")),
        Err(error) => {
            let mend = "correct `--blobs`";
            findings.push(Finding::wrong("blobs", format!("{error:#}"), mend));
        }
    }
    findings.extend(proxy::look(&site, options).await);
    findings
}

/// Where the pictures lie, if that is there.
fn place(options: &Server, folder: &Folder) -> Result<Option<ordu_server::BlobPlace>> {
    let Some(data) = &folder.data else {
        return Ok(None);
    };
    let place = serve::blobs(options, data)?;
    let is_there = match &place {
        ordu_server::BlobPlace::Folder(folder) => folder.is_dir() || options.blobs.is_some(),
        _ => true,
    };
    Ok(is_there.then_some(place))
}

/// The server as others reach it.
struct Site {
    secret: Secret,
    /// Where it is, if it was said or a server runs.
    url: Option<String>,
    /// Whether that is the address for everybody.
    is_public: bool,
}
