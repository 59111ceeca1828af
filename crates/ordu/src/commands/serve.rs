//! `ordu serve`: the server alone.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ordu_api::UserId;
use ordu_core::text::Vision;
use ordu_core::{Kudos, Millis};
use ordu_server::{
    BlobPlace, Clock, Config, KEEP_ALIVE, LONGEST_WAIT, ModelSources, MostLoad, Registration,
    S3Defaults, Server, Site,
};

use super::data::DataFolder;
use super::files;
use super::signals::Signals;
use crate::cli::{Serve, Server as Options};
use crate::exit::Exit;

pub(crate) async fn run(args: Serve) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let data = DataFolder::open(&args.server.data)?;
    let Some(serving) = data.claim()? else {
        bail!(
            "another server already serves `{}`",
            args.server.data.display()
        );
    };
    files::raise();
    let server = Server::start(config(&args.server, &data, Registration::Closed)?).await?;
    serving.announce(&server.url())?;
    println!("listening on {}", server.url());
    signals.next().await;
    Ok(drain(server, &mut signals).await)
}

/// Lets what is under way end; a second signal ends at once.
pub(crate) async fn drain(server: Server, signals: &mut Signals) -> Exit {
    tokio::select! {
        () = server.stop() => Exit::Done,
        () = signals.next() => Exit::Failed,
    }
}

/// The settings of a server from its options and its data folder; whether programs may make
/// accounts is `registration` unless the options say.
pub(crate) fn config(
    options: &Options,
    data: &DataFolder,
    registration: Registration,
) -> Result<Config> {
    let secret = match &options.secret_key {
        Some(secret) => ordu_server::Secret::new(secret.as_str()),
        None => data.secret()?,
    };
    Ok(Config {
        listen: options.listen,
        database: options
            .database
            .clone()
            .unwrap_or_else(|| data.database_url()),
        blobs: blobs(options, data)?,
        public_url: options.public_url.clone(),
        trusted_proxies: options.trusted_proxy.clone(),
        patience: Duration::from_secs(options.client_timeout),
        longest_wait: LONGEST_WAIT,
        keep_alive: KEEP_ALIVE,
        most_load: MostLoad {
            calls: options.max_calls,
            body_bytes: options.max_body_memory << 20,
            connections: options.max_connections,
            requests: options.max_requests,
        },
        rate_limits: !options.no_rate_limits,
        private_addresses: options.private_address.clone(),
        ratings_url: options.ratings_url.clone(),
        share_results: options.share_results,
        secret,
        node: options.node.config(),
        admins: accounts("--admins", &options.admins)?,
        awarders: accounts("--awarders", &options.awarders)?,
        test_users: options.test_apikeys,
        models: ModelSources {
            image: options.model_reference.clone().unwrap_or_default(),
            extra: options.extra_model_reference.clone().unwrap_or_default(),
            text: options.text_model_reference.clone().unwrap_or_default(),
            cache: Some(data.models()),
        },
        text_vision: if options.text_vision {
            Vision::On
        } else {
            Vision::Off
        },
        news: options.news.clone(),
        subscriptions: options.subscriptions.clone(),
        title: options.site.title.clone(),
        site: Site {
            contact: options.site.contact.clone(),
            logo: options.site.logo.clone(),
            repository: options.site.repository.clone(),
            terms: options.site.terms_page.clone(),
            privacy: options.site.privacy_page.clone(),
        },
        trust_threshold: options
            .trust_threshold
            .map(|kudos| Kudos::new(i64::from(kudos))),
        guard: crate::guard::config(&options.guard)?,
        trust_audits: crate::guard::trust_audits(&options.guard),
        hooks: crate::guard::hooks(&options.guard)?,
        identity: crate::identity::config(&options.identity, registration)?,
        // Who lifts all limits for a load test means this one, too.
        wrong_keys: Some(options.identity.wrong_keys)
            .filter(|wrong| *wrong > 0 && !options.no_rate_limits),
        audit_kept_for: Some(options.identity.audit_days)
            .filter(|days| *days > 0)
            .map(|days| Millis::from_minutes(i64::from(days) * 24 * 60)),
        clock: Clock::System,
    })
}

/// Where the pictures lie.
pub(crate) fn blobs(options: &Options, data: &DataFolder) -> Result<BlobPlace> {
    let Some(url) = &options.blobs else {
        return Ok(BlobPlace::Folder(data.blobs()));
    };
    let defaults = S3Defaults {
        access_key_id: options.bucket_key.s3_access_key_id.clone(),
        secret_access_key: options.bucket_key.s3_secret_access_key.clone(),
        session_token: options.bucket_key.s3_session_token.clone(),
        region: options.bucket_key.s3_region.clone(),
    };
    BlobPlace::from_url(url, &defaults).context("`--blobs` cannot be used")
}

fn accounts(option: &str, aliases: &[String]) -> Result<Vec<UserId>> {
    let read = |alias: &String| {
        UserId::from_alias(alias)
            .with_context(|| format!("`{option} {alias}` names no account: write it as `name#id`"))
    };
    aliases.iter().map(read).collect()
}
