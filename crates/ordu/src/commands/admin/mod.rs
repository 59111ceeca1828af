//! `ordu admin`: the horde of a data folder, whether its server runs or not.
//!
//! The commands work on the database; a running server looks again every few seconds.

mod backup;
mod filter;
mod import;
mod ip;
mod output;
mod style;
mod user;
mod worker;

use std::future::Future;

use anyhow::{Context as _, Result};
use ordu_api::UserId;
use ordu_core::Timestamp;
use ordu_server::accounts::{self, Account};
use ordu_server::{Clock, Deed, Secret};
use ordu_store::{DatabaseUrl, Options, Store};

use super::data::DataFolder;
use crate::cli::{Admin, AdminCommand, AdminStore};
use crate::exit::Exit;

pub(crate) async fn run(args: Admin) -> Result<Exit> {
    match args.what {
        AdminCommand::User { what } => Box::pin(user::run(what)).await,
        AdminCommand::Worker { what } => worker::run(what).await,
        AdminCommand::Filter { what } => filter::run(what).await,
        AdminCommand::Ip { what } => ip::run(what).await,
        AdminCommand::Style { what } => style::run(what).await,
        AdminCommand::Backup(args) => backup::backup(args).await,
        AdminCommand::Restore(args) => backup::restore(args).await,
        AdminCommand::Import { what } => import::run(what).await,
    }
}

/// An open store with what is needed to change it.
struct Office {
    data: DataFolder,
    store: Store,
    secret: Secret,
    now: Timestamp,
    json: bool,
}

impl Office {
    async fn open(args: &AdminStore) -> Result<Self> {
        let data = DataFolder::open(&args.data)?;
        let secret = match &args.secret_key {
            Some(secret) => Secret::new(secret.as_str()),
            None => data.secret()?,
        };
        let now = Clock::System.now();
        let store = Store::open(&database(args, &data)?, &Options::default(), now)
            .await
            .context("cannot open the database")?;
        Ok(Self {
            data,
            store,
            secret,
            now,
            json: args.json,
        })
    }

    async fn account(&self, user: &str) -> Result<Account> {
        let found = match UserId::from_alias(user) {
            Some(id) => accounts::find(&self.store, id).await?,
            None => None,
        };
        found.with_context(|| {
            format!("there is no account `{user}`: give its number or name#number")
        })
    }

    /// The number of an account that may be named.
    async fn named(&self, user: Option<&str>) -> Result<Option<UserId>> {
        match user {
            Some(user) => Ok(Some(self.account(user).await?.user.id)),
            None => Ok(None),
        }
    }

    /// Does something and writes it into the audit log, in one transaction.
    async fn recorded<T, E>(
        &self,
        deed: Deed,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E>
    where
        E: From<ordu_store::Error>,
    {
        self.store.recorded(deed.entry(self.now), work).await
    }

    async fn close(self) -> Exit {
        self.store.close().await;
        Exit::Done
    }
}

fn database(args: &AdminStore, data: &DataFolder) -> Result<DatabaseUrl> {
    let url = args.database.clone();
    let url = url.unwrap_or_else(|| data.database_url());
    Ok(url.parse::<DatabaseUrl>()?)
}
