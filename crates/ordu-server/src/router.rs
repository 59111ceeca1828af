//! Every URL of the product, in reading order.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, get, patch, post, put};
use ordu_api::image::ImageParams;
use ordu_api::text::TextParams;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::checkup::SEEN_PATH;
use crate::routes::{
    account, alchemy, audit, blob, collection, description, document, event, example, filter,
    gateway, health, horde_page, image, kudos, kudos_history, message, model, operation, page,
    pulse, rating, register, seen, service, shared_key, sign_in, stats, status, style, team, text,
    transfer, trust_audit, user, user_edit, user_list, webhook, worker, worker_edit,
};
use crate::transport;

/// The whole server.
pub(crate) fn router(app: &Arc<App>) -> Router {
    pages()
        .router
        .nest(ordu_api::BASE_PATH, api().router)
        .fallback(transport::not_found)
        .method_not_allowed_fallback(transport::method_not_allowed)
        // Bodies are limited where they are read, each by its own measure.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(transport::after_panic))
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            transport::wrap,
        ))
        .with_state(Arc::clone(app))
}

/// Every path there is, as it is routed.
pub(crate) fn paths() -> Vec<String> {
    let of_api = api().paths.into_iter();
    let of_api = of_api.map(|path| format!("{}{path}", ordu_api::BASE_PATH));
    let others = pages().paths.into_iter().map(str::to_owned);
    others.chain(of_api).collect()
}

/// Routes that remember their paths, so that a test can ask whether each is described.
#[derive(Default)]
struct Routes {
    router: Router<Arc<App>>,
    paths: Vec<&'static str>,
}

impl Routes {
    fn new() -> Self {
        Self::default()
    }

    fn route(mut self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(path, methods);
        self.paths.push(path);
        self
    }

    fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.paths.extend(other.paths);
        self
    }
}

/// What is not the protocol.
fn pages() -> Routes {
    Routes::new()
        .route("/", get(page::create).post(page::ask))
        .route("/text", get(page::write))
        .route("/alchemy", get(page::alchemy))
        .route("/moderate", get(page::moderate))
        .route("/requests/{id}", get(page::request))
        .route("/horde", get(horde_page::horde))
        .route("/live", get(horde_page::live))
        .route("/terms", get(document::terms_page))
        .route("/privacy", get(document::privacy_page))
        .route("/sponsors", get(document::sponsors_page))
        .route("/.well-known/serviceinfo", get(service::info))
        .merge(people())
        .route("/api", get(description::front))
        .route("/api/", get(description::page))
        .route("/api/openapi.json", get(description::openapi))
        .route("/api/swagger.json", get(description::swagger))
        .route("/assets/{name}", get(page::asset))
        .route("/blobs/{name}", put(blob::upload).get(blob::download))
        .merge(openai())
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route(SEEN_PATH, get(seen::seen))
}

/// The gateway for OpenAI's clients.
fn openai() -> Routes {
    Routes::new()
        .route("/v1/models", get(gateway::models))
        .route("/v1/models/{*model}", get(gateway::model))
        .route("/v1/chat/completions", post(gateway::chat))
        .route("/v1/completions", post(gateway::complete))
        .route("/v1/images/generations", post(gateway::draw))
        .route("/v1/images/edits", post(gateway::edit))
}

/// The protocol.
fn api() -> Routes {
    work()
        .merge(community())
        .merge(styles())
        .merge(moderation())
}

/// Who somebody is, on the web page.
fn people() -> Routes {
    Routes::new()
        .route("/register", get(register::page).post(register::register))
        .route("/account", get(account::page).post(account::update))
        .route("/account/key", post(account::new_key))
        .route("/transfer", get(transfer::page).post(transfer::give))
        .route("/sign-in", post(sign_in::by_key))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/google/google/authorized", get(sign_in::google::finish))
        .route("/google/{*return_to}", get(sign_in::google::begin))
        .route("/google/", get(sign_in::google::front))
        .route("/discord/discord/authorized", get(sign_in::discord::finish))
        .route("/discord/{*return_to}", get(sign_in::discord::begin))
        .route("/discord/", get(sign_in::discord::front))
        .route("/github/github/authorized", get(sign_in::github::finish))
        .route("/github/{*return_to}", get(sign_in::github::begin))
        .route("/github/", get(sign_in::github::front))
        .route("/openid/openid/authorized", get(sign_in::openid::finish))
        .route("/openid/{*return_to}", get(sign_in::openid::begin))
        .route("/openid/", get(sign_in::openid::front))
        .route("/finish_dance", get(sign_in::finish_dance))
}

/// Asking for work and doing it.
fn work() -> Routes {
    Routes::new()
        .route("/generate/async", post(image::async_generate))
        .route("/generate/check/{id}", get(image::check))
        .route(
            "/generate/status/{id}",
            get(image::status).delete(image::cancel),
        )
        .route("/generate/pop", post(image::pop))
        .route("/generate/rate/{id}", post(rating::rate))
        .route("/generate/progress", post(event::progress))
        .route("/generate/events/{id}", get(event::events))
        .route("/generate/submit", post(image::submit))
        .route("/generate/text/async", post(text::async_generate))
        .route(
            "/generate/text/status/{id}",
            get(text::status).delete(text::cancel),
        )
        .route("/generate/text/pop", post(text::pop))
        .route("/generate/text/submit", post(text::submit))
        .route("/interrogate/async", post(alchemy::async_interrogate))
        .route(
            "/interrogate/status/{id}",
            get(alchemy::status).delete(alchemy::cancel),
        )
        .route("/interrogate/pop", post(alchemy::pop))
        .route("/interrogate/submit", post(alchemy::submit))
        .route("/stats/img/totals", get(stats::image_totals))
        .route("/stats/img/models", get(stats::image_models))
        .route("/stats/text/totals", get(stats::text_totals))
        .route("/stats/text/models", get(stats::text_models))
        .route("/stats/history", get(stats::history))
        .route("/documents/terms", get(document::terms))
        .route("/documents/privacy", get(document::privacy))
        .route("/documents/sponsors", get(document::sponsors))
        .route("/status/news", get(status::news))
        .route("/status/heartbeat", get(health::heartbeat))
        .route("/status/models", get(status::models))
        .route("/status/models/{name}", get(status::model))
        .route("/reference/models/{name}", get(model::known))
        .route("/status/performance", get(status::performance))
        .route("/status/pulse", get(pulse::pulse))
        .route("/status/modes", get(status::modes).put(status::set_modes))
}

/// Who asks and who works, and what they have.
fn community() -> Routes {
    Routes::new()
        .route("/workers", get(worker::list))
        .route(
            "/workers/{id}",
            get(worker::by_id)
                .put(worker_edit::update)
                .delete(worker_edit::delete),
        )
        .route(
            "/workers/messages",
            get(message::list)
                .post(message::send)
                .put(message::unknown_worker),
        )
        .route(
            "/workers/messages/{id}",
            get(message::by_id).delete(message::delete),
        )
        .route("/workers/name/{name}", get(worker::by_name))
        .route("/webhooks/secret", get(webhook::secret))
        .route("/find_user", get(user::find))
        .route("/users", get(user_list::list).post(register::create))
        .route("/users/{id}/key", post(register::new_key))
        .route(
            "/users/{id}",
            get(user::by_id)
                .put(user_edit::update)
                .delete(user_edit::delete),
        )
        .route("/teams", get(team::list).post(team::create))
        .route(
            "/teams/{id}",
            get(team::by_id).patch(team::update).delete(team::delete),
        )
        .route("/kudos/transfer", post(kudos::transfer))
        .route("/kudos/award", post(kudos::award))
        .route("/kudos/history", get(kudos_history::list))
        .route("/sharedkeys", put(shared_key::create))
        .route(
            "/sharedkeys/{id}",
            get(shared_key::by_id)
                .patch(shared_key::update)
                .delete(shared_key::delete),
        )
        .route("/dev/test-user", post(user::test_user))
}

/// Ways to ask, made by some for all.
fn styles() -> Routes {
    Routes::new()
        .route(
            "/styles/image",
            get(style::list::<ImageParams>).post(style::create::<ImageParams>),
        )
        .route(
            "/styles/image/{id}",
            get(style::by_id::<ImageParams>)
                .patch(style::update::<ImageParams>)
                .delete(style::delete::<ImageParams>),
        )
        .route(
            "/styles/image_by_name/{name}",
            get(style::by_name::<ImageParams>),
        )
        .route("/styles/image/{id}/example", post(example::add))
        .route(
            "/styles/image/{id}/example/{example}",
            patch(example::update).delete(example::delete),
        )
        .route(
            "/styles/text",
            get(style::list::<TextParams>).post(style::create::<TextParams>),
        )
        .route(
            "/styles/text/{id}",
            get(style::by_id::<TextParams>)
                .patch(style::update::<TextParams>)
                .delete(style::delete::<TextParams>),
        )
        .route(
            "/styles/text_by_name/{name}",
            get(style::by_name::<TextParams>),
        )
        .route(
            "/collections",
            get(collection::list).post(collection::create),
        )
        .route(
            "/collections/{id}",
            get(collection::by_id)
                .patch(collection::update)
                .delete(collection::delete),
        )
        .route("/collection_by_name/{name}", get(collection::by_name))
}

/// Keeping order.
fn moderation() -> Routes {
    Routes::new()
        .route(
            "/filters",
            get(filter::list).put(filter::add).post(filter::try_prompt),
        )
        .route("/filters/regex", get(filter::regexes))
        .route(
            "/filters/{id}",
            get(filter::by_id)
                .patch(filter::change)
                .delete(filter::delete),
        )
        .route(
            "/operations/ipaddr",
            get(operation::blocks)
                .post(operation::time_out)
                .delete(operation::free),
        )
        .route("/operations/ipaddr/{ipaddr}", get(operation::around))
        .route(
            "/operations/block_worker_ipaddr/{worker}",
            put(operation::block_worker).delete(operation::free_worker),
        )
        .route("/operations/models", get(model::list))
        .route(
            "/operations/models/{name}",
            put(model::put).delete(model::delete),
        )
        .route("/operations/audit", get(audit::list))
        .route("/operations/trust-audits", get(trust_audit::list))
        .route("/operations/notices", get(operation::notices))
}
