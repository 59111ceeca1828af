//! What moderators do about addresses, and what they are told.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use ipnet::IpNet;
use ordu_api::operation::{
    AddressTimeout, BlockWorkerAddress, Done, FreeAddress, NoticeView, TimeOutAddress,
};
use ordu_api::schema::Schema;
use ordu_api::{ApiKey, ReturnCode};
use ordu_core::address::{Entry, party_of, read_network, show_network};
use ordu_core::{Millis, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::accounts::Account;
use crate::app::App;
use crate::audit::Deed;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, Input, OptionalKey};

/// Notices on one page.
const PAGE: u32 = 50;

impl Input for TimeOutAddress {
    const SCHEMA: Schema = ordu_api::operation::TIME_OUT_SCHEMA;
}

impl Input for FreeAddress {
    const SCHEMA: Schema = ordu_api::operation::FREE_SCHEMA;
}

impl Input for BlockWorkerAddress {
    const SCHEMA: Schema = ordu_api::operation::BLOCK_WORKER_SCHEMA;
}

/// Who presents this key, if it is a moderator.
///
/// # Errors
/// `InvalidAPIKey`, `NotModerator`.
pub(crate) async fn moderator(app: &App, key: &ApiKey) -> ApiResult<Arc<Account>> {
    let account = app.accounts.by_key(key).await?;
    if !app.is_moderator(&account) {
        let message = "Only moderators may do this";
        return Err(ApiError::refused(ReturnCode::NotModerator, message));
    }
    Ok(account)
}

/// `GET /operations/ipaddr`: the blocks that are shut out.
pub(crate) async fn blocks(
    State(app): State<Arc<App>>,
    key: OptionalKey,
) -> ApiResult<Json<Vec<AddressTimeout>>> {
    moderator(&app, &key.require()?).await?;
    let blocks = app.guard.addresses.reputation().blocks(app.clock.now());
    Ok(Json(blocks.into_iter().map(timeout).collect()))
}

fn timeout((network, rest): (IpNet, Millis)) -> AddressTimeout {
    AddressTimeout {
        ipaddr: show_network(network),
        seconds: (rest.0 + 999) / 1000,
    }
}

/// `GET /operations/ipaddr/{ipaddr}`: everything that shuts an address out.
pub(crate) async fn around(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(address): Path<String>,
) -> ApiResult<Json<Vec<AddressTimeout>>> {
    let key = key.require()?;
    let network = read(&address)?;
    moderator(&app, &key).await?;
    let now = app.clock.now();
    let found = app.guard.addresses.reputation().around(network, now);
    Ok(Json(found.into_iter().map(timeout).collect()))
}

fn read(text: &str) -> ApiResult<IpNet> {
    read_network(text).ok_or_else(|| {
        let message = format!("`{text}` is neither an IP address nor a block of them");
        ApiError::refused(ReturnCode::BadRequest, message)
    })
}

/// `POST /operations/ipaddr`
pub(crate) async fn time_out(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(wanted): Checked<TimeOutAddress>,
) -> ApiResult<Json<Done>> {
    let key = key.require()?;
    let network = read(&wanted.ipaddr)?;
    let moderator = moderator(&app, &key).await?;
    let span = Millis::from_minutes(i64::from(wanted.hours) * 60);
    let deed = Deed::new(moderator.user.id, "address.shut_out", "address", network);
    let deed = deed.change(json!({}), json!({ "hours": wanted.hours }));
    app.recorded(deed, app.shut_out(network, span)).await?;
    tracing::info!(user.id = %moderator.user.id, "an address was shut out");
    Ok(Json(Done::default()))
}

/// `DELETE /operations/ipaddr`
pub(crate) async fn free(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(wanted): Checked<FreeAddress>,
) -> ApiResult<Json<Done>> {
    let key = key.require()?;
    let network = read(&wanted.ipaddr)?;
    let moderator = moderator(&app, &key).await?;
    let deed = Deed::new(moderator.user.id, "address.let_in", "address", network);
    app.recorded(deed, app.let_in(&[network])).await?;
    tracing::info!(user.id = %moderator.user.id, "an address was let in");
    Ok(Json(Done::default()))
}

/// `PUT /operations/block_worker_ipaddr/{worker_id}`
pub(crate) async fn block_worker(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(worker): Path<String>,
    Checked(wanted): Checked<BlockWorkerAddress>,
) -> ApiResult<Json<Done>> {
    let moderator = moderator(&app, &key.require()?).await?;
    let address = worker_address(&app, &worker)?;
    let span = Millis::from_minutes(i64::from(wanted.days) * 24 * 60);
    let deed = Deed::new(moderator.user.id, "address.shut_out", "worker", &worker);
    let deed = deed.change(json!({}), json!({ "days": wanted.days }));
    app.recorded(deed, app.shut_out(party_of(address), span))
        .await?;
    tracing::info!(user.id = %moderator.user.id, worker.id = worker, "its address was shut out");
    Ok(Json(Done::default()))
}

/// `DELETE /operations/block_worker_ipaddr/{worker_id}`
pub(crate) async fn free_worker(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(worker): Path<String>,
) -> ApiResult<Json<Done>> {
    let moderator = moderator(&app, &key.require()?).await?;
    let address = worker_address(&app, &worker)?;
    let deed = Deed::new(moderator.user.id, "address.let_in", "worker", &worker);
    let networks = [party_of(address), IpNet::from(address)];
    app.recorded(deed, app.let_in(&networks)).await?;
    tracing::info!(user.id = %moderator.user.id, worker.id = worker, "its address was let in");
    Ok(Json(Done::default()))
}

/// Where a worker came from last.
fn worker_address(app: &App, worker: &str) -> ApiResult<IpAddr> {
    let known = worker.parse().ok().and_then(|id| app.registry.by_id(id));
    let known = known.ok_or_else(|| {
        let message = format!("Worker '{worker}' not found");
        ApiError::refused(ReturnCode::WorkerNotFound, message)
    })?;
    known.address.ok_or_else(|| {
        let message = "Nobody knows where this worker came from";
        ApiError::refused(ReturnCode::BadRequest, message)
    })
}

impl App {
    /// Shuts an address or block out, on every node once this returns and they have looked.
    async fn shut_out(&self, network: IpNet, span: Millis) -> ApiResult<()> {
        let now = self.clock.now();
        let addresses = &self.guard.addresses;
        let entry = addresses.reputation().shut_out(network, now + span, now);
        self.store_entry(&entry).await
    }

    async fn let_in(&self, networks: &[IpNet]) -> ApiResult<()> {
        let now = self.clock.now();
        for network in networks {
            let changed = self.guard.addresses.reputation().let_in(*network, now);
            for entry in &changed {
                self.store_entry(entry).await?;
            }
        }
        Ok(())
    }

    async fn store_entry(&self, entry: &Entry) -> ApiResult<()> {
        Ok(self.store.put_address(entry).await?)
    }
}

/// Which notices to list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct WantedNotices {
    #[serde(default)]
    kind: String,
    page: Option<String>,
}

/// `GET /operations/notices`: what moderators were told, newest first.
pub(crate) async fn notices(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Query(wanted): Query<WantedNotices>,
) -> ApiResult<Json<Vec<NoticeView>>> {
    let key = key.require()?;
    let wrong = || ApiError::field("page", "not a whole number");
    let read = |text: &String| text.parse::<u32>().map_err(|_| wrong());
    let page = wanted.page.as_ref().map(read).transpose()?.unwrap_or(1);
    moderator(&app, &key).await?;
    let page = page.saturating_sub(1);
    let notices = app.store.list_notices(&wanted.kind, page, PAGE).await?;
    let views = notices.into_iter().map(|notice| NoticeView {
        id: notice.id.to_string(),
        kind: notice.kind,
        message: notice.message,
        prompt: notice.prompt,
        created: Timestamp(notice.happened_at).seconds(),
    });
    Ok(Json(views.collect()))
}
