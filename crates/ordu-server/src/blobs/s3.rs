//! Opens a bucket of an S3-compatible store.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

use super::place::S3Place;

/// How long one call to the store may take, the transfer of a picture included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection to the store may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a failed call is repeated: somebody waits for its answer.
const MAX_RETRIES: usize = 2;

/// No repetition begins later than this after the first try.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);

/// The store as we reach it.
pub(super) fn open(place: &S3Place) -> Result<AmazonS3, object_store::Error> {
    open_at(place, place.endpoint.as_ref())
}

/// The store as clients and workers reach it: signatures hold the host's name.
pub(super) fn signer(place: &S3Place) -> Result<AmazonS3, object_store::Error> {
    let public = place.public_endpoint.as_ref();
    open_at(place, public.or(place.endpoint.as_ref()))
}

fn open_at(place: &S3Place, endpoint: Option<&Url>) -> Result<AmazonS3, object_store::Error> {
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.scheme() == "http");
    let options = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout(CALL_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_default_content_type("image/webp");
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    };
    let credentials = &place.credentials;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(&place.region)
        .with_access_key_id(&credentials.access_key_id)
        .with_secret_access_key(&credentials.secret_access_key)
        .with_client_options(options)
        .with_retry(retry);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
    }
    if let Some(token) = &credentials.session_token {
        builder = builder.with_token(token);
    }
    builder.build()
}
