//! How the server calls others: one set of trusted roots for all its HTTP clients.

use std::sync::OnceLock;

use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt as _;

/// A client to be, that trusts whom the system trusts.
///
/// Reading the roots of a system takes a few milliseconds, and the server has half a dozen clients,
/// so that is done once. A system without roots (a bare container) must still start: there nobody
/// is trusted, and only HTTPS fails.
pub(crate) fn client() -> reqwest::ClientBuilder {
    static TRUST: OnceLock<ClientConfig> = OnceLock::new();
    let trust = TRUST.get_or_init(|| {
        let mut trust = ClientConfig::with_platform_verifier().unwrap_or_else(|error| {
            tracing::warn!(%error, "no root certificates; HTTPS to others will fail");
            ClientConfig::builder()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        });
        trust.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        trust
    });
    reqwest::Client::builder().tls_backend_preconfigured(trust.clone())
}

/// The body of an answer that says yes, if it has at most so many bytes.
pub(crate) async fn take(request: reqwest::RequestBuilder, most: usize) -> Result<Vec<u8>, String> {
    let answered = request
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    match answered {
        Ok(response) => read(response, most).await,
        Err(error) => Err(error.without_url().to_string()),
    }
}

/// The body of an answer, if it has at most so many bytes.
pub(crate) async fn read(mut response: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await;
        match chunk.map_err(|error| error.without_url().to_string())? {
            Some(chunk) if bytes.len() + chunk.len() > most => {
                return Err(format!("it says more than {most} bytes"));
            }
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => return Ok(bytes),
        }
    }
}
