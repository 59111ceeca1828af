//! The server's secret and what is made with it: key hashes, fresh keys, signatures of links.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use ordu_api::ApiKey;
use sha2::{Digest, Sha256};

/// The salt of all key hashes and the key of all signatures. Never stored in the database.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// How a stored key looks: hexadecimal SHA-256 of secret and key.
pub(crate) type KeyHash = String;

impl Secret {
    /// Wraps a configured secret.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(secret.into())
    }

    /// The stored form of a presented key.
    ///
    /// # Source
    /// `community.md` § 2.1: the scheme of existing databases, so that they can migrate.
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        let mut hasher = Sha256::new();
        hasher.update(&self.0);
        hasher.update(key.reveal().as_bytes());
        hex(&hasher.finalize())
    }

    /// A keyed digest of `text`, for what is compared and never shown.
    pub(crate) fn digest(&self, text: &str) -> [u8; 32] {
        self.mac(text).finalize().into_bytes().into()
    }

    /// Signs `text`; the signature is safe in a URL.
    pub(crate) fn sign(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(text).finalize().into_bytes())
    }

    /// Whether `signature` was made by [`Self::sign`], in constant time.
    pub(crate) fn verify(&self, text: &str, signature: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(signature)
            .is_ok_and(|bytes| self.mac(text).verify_slice(&bytes).is_ok())
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("invariant: any key length is fine");
        mac.update(text.as_bytes());
        mac
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The machine's source of randomness failed; nothing secret can be made.
#[derive(Debug, thiserror::Error)]
#[error("no randomness from the system: {0}")]
pub struct NoRandomness(#[source] getrandom::Error);

/// A fresh key: 16 random bytes, URL-safe base64 without padding, 22 characters. It never begins with a
/// dash, which many a command line takes for an option.
pub fn new_api_key() -> Result<ApiKey, NoRandomness> {
    loop {
        let key = URL_SAFE_NO_PAD.encode(random_bytes::<16>()?);
        if !key.starts_with('-') {
            return Ok(ApiKey::new(key));
        }
    }
}

/// Bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hashed_as_existing_databases_do() {
        // SHA-256 of "salt" followed by ten zeros.
        let hash = Secret::new("salt").hash(&ApiKey::anonymous());
        assert_eq!(hash.len(), 64);
        assert_ne!(hash, Secret::new("other").hash(&ApiKey::anonymous()));
    }

    #[test]
    fn keys_can_be_given_on_a_command_line() {
        for _ in 0..2_000 {
            let key = new_api_key().unwrap();
            assert!(key.reveal().len() == 22 && !key.reveal().starts_with('-'));
        }
    }

    #[test]
    fn signatures_hold_for_one_text_only() {
        let secret = Secret::new("s");
        let signature = secret.sign("GET a 1");
        assert!(secret.verify("GET a 1", &signature));
        assert!(!secret.verify("GET a 2", &signature));
        assert!(!secret.verify("GET a 1", "garbage"));
        assert!(!Secret::new("t").verify("GET a 1", &signature));
    }
}
