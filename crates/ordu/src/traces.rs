//! Traces: where the time of a request goes, told to a collector by OTLP over HTTP.
//!
//! Spans are made for this alone, under one target, so that logs stay what they are and nothing is made
//! where nobody collects. They hold methods, routes and statuses; no prompt, key or address.
//!
//! # Source
//! OTLP 1.x, `http/protobuf`; OpenTelemetry's semantic conventions for HTTP servers.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, Registry};
use url::Url;

/// The target of spans that are for traces.
pub(crate) const TARGET: &str = "ordu_traces";

/// Where the protocol has collectors listen for traces, below the address that is given for all of it.
const PATH: &str = "/v1/traces";

/// How long a collector may take for one parcel.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells a collector until it is dropped; what is not told yet is told then.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Tells the collector at `url` of this share of all requests, 0 to 1.
    ///
    /// Call it outside of any runtime: who tells has one of its own.
    pub(crate) fn open(url: &Url, share: f64) -> Result<Self> {
        if !matches!(url.scheme(), "http" | "https") {
            bail!("`--otlp {url}` cannot be used: collectors are told over http or https");
        }
        let client = reqwest::blocking::Client::builder()
            .timeout(PATIENCE)
            .build()
            .context("no client for traces can be made")?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint(url))
            .with_timeout(PATIENCE)
            .build()
            .with_context(|| format!("`--otlp {url}` cannot be used"))?;
        let resource = Resource::builder()
            .with_service_name("ordu")
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::TraceIdRatioBased(share))
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What takes spans out of everything that is noted.
    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let tracer = self.0.tracer("ordu");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false);
        let ours = Targets::new().with_target(TARGET, LevelFilter::INFO);
        Box::new(layer.with_filter(ours))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last traces were not told");
        }
    }
}

/// An address without a path is the collector's; with one it is that of traces already.
fn endpoint(url: &Url) -> String {
    let base = url.as_str().trim_end_matches('/');
    match url.path() {
        "" | "/" => format!("{base}{PATH}"),
        _ => base.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_where_collectors_listen() {
        for (given, used) in [
            ("http://a:4318", "http://a:4318/v1/traces"),
            ("http://a:4318/", "http://a:4318/v1/traces"),
            ("https://a/otlp/v1/traces", "https://a/otlp/v1/traces"),
            ("https://a/in/", "https://a/in"),
        ] {
            assert_eq!(endpoint(&given.parse().unwrap()), used);
        }
    }
}
