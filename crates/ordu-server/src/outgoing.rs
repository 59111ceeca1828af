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
