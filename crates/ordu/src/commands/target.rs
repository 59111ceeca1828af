//! Which horde a client command talks to; one is started for the call when there is none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_api::ApiKey;
use ordu_client::Horde;
use ordu_worker::Engines;

use super::data::DataFolder;
use super::up::LocalHorde;
use crate::cli::Client;

/// Where `ordu up` listens if it is not told otherwise.
pub(crate) const DEFAULT_HORDE: &str = "http://127.0.0.1:7001";

/// The data folder if none is named.
const DEFAULT_DATA: &str = "./ordu-data";

/// How long the default address has to answer.
const PROBE: Duration = Duration::from_millis(500);

/// A horde to talk to, and what keeps it alive.
pub(crate) struct Target {
    pub(crate) horde: Horde,
    local: Option<LocalHorde>,
}

impl Target {
    /// The horde that the arguments name, or the one at the default address.
    pub(crate) fn named(client: &Client) -> Result<Self> {
        let folder = client
            .data
            .as_deref()
            .map(DataFolder::existing)
            .transpose()?;
        let address = client
            .horde
            .clone()
            .or_else(|| folder.as_ref().and_then(DataFolder::served_at))
            .unwrap_or_else(|| DEFAULT_HORDE.to_owned());
        let key = given_key(client).or_else(|| folder.as_ref().and_then(DataFolder::admin_key));
        Ok(Self {
            horde: connect(&address, key)?,
            local: None,
        })
    }

    /// The same, but starts a horde for the time of the call if none is named and none answers.
    /// `engines` says what its worker works with.
    pub(crate) async fn named_or_started(
        client: &Client,
        engines: impl FnOnce() -> Result<Engines>,
    ) -> Result<Self> {
        if client.horde.is_some() {
            return Self::named(client);
        }
        let path = client
            .data
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
        if let Some(found) = found(client, &path).await? {
            return Ok(found);
        }
        let engines = engines()?;
        eprintln!(
            "No horde answers at {DEFAULT_HORDE}: starting one for this call, in {}",
            path.display()
        );
        let local = LocalHorde::start(&path, engines).await?;
        let key = given_key(client).or_else(|| Some(local.admin_key()));
        Ok(Self {
            horde: connect(local.url(), key)?,
            local: Some(local),
        })
    }

    /// Whether it was started for the call.
    pub(crate) fn is_started(&self) -> bool {
        self.local.is_some()
    }

    /// Ends what was started for the call.
    pub(crate) async fn finish(self) {
        if let Some(local) = self.local {
            local.stop().await;
        }
    }
}

/// A horde that runs already: the one of the data folder, or the one at the default address.
async fn found(client: &Client, path: &Path) -> Result<Option<Target>> {
    if path.is_dir()
        && let Some(address) = DataFolder::existing(path)?.served_at()
    {
        let key = given_key(client).or_else(|| admin_key_if_named(client, path));
        return Ok(Some(Target {
            horde: connect(&address, key)?,
            local: None,
        }));
    }
    if client.data.is_some() {
        return Ok(None);
    }
    let horde = connect(DEFAULT_HORDE, given_key(client))?;
    let answers = tokio::time::timeout(PROBE, horde.heartbeat()).await;
    Ok(matches!(answers, Ok(Ok(_))).then_some(Target { horde, local: None }))
}

/// Who names a data folder acts as its admin; who merely stands beside one does not.
fn admin_key_if_named(client: &Client, path: &Path) -> Option<ApiKey> {
    client
        .data
        .as_ref()
        .and_then(|_| DataFolder::existing(path).ok()?.admin_key())
}

fn given_key(client: &Client) -> Option<ApiKey> {
    client.api_key.clone().map(ApiKey::new)
}

fn connect(address: &str, key: Option<ApiKey>) -> Result<Horde> {
    let agent = concat!(
        "ordu:",
        env!("CARGO_PKG_VERSION"),
        ":",
        env!("CARGO_PKG_REPOSITORY")
    );
    // An agent has three parts, so the address of the project goes without its scheme's colon.
    let agent = agent.replacen("https://", "", 1);
    let key = key.unwrap_or_else(ApiKey::anonymous);
    Horde::new(address, key, &agent).with_context(|| format!("cannot talk to `{address}`"))
}
