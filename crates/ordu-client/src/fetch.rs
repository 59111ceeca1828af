//! Reading pictures from addresses that strangers chose, without becoming their eyes in our network.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};

use crate::files::{address, redirect};
use crate::horde::http_client;
use crate::transport::{read, succeeded};
use crate::{Error, Horde, is_public};

/// How long a picture may take to come.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How many redirects are followed, each checked like the first address.
const MAX_REDIRECTS: usize = 3;

/// Reads what strangers point at.
///
/// Hosts of a [`Trust`] are read from as they are. Any other address must be `https` on port 443, and
/// its host must resolve to public addresses; the connection is made to the address that was checked.
/// No proxy is used, since a proxy would resolve names where nobody checks.
#[derive(Clone, Debug)]
pub struct Fetcher {
    own: Client,
    public: Client,
}

/// Hosts and ports that may be read from whatever they are: the horde's own.
#[derive(Clone, Debug, Default)]
pub struct Trust(Vec<(String, u16)>);

impl Trust {
    /// Nobody.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// The horde itself.
    pub fn horde(horde: &Horde) -> Self {
        Self(authority(horde.base_url()).into_iter().collect())
    }

    /// These hosts too, and the host of this address, if it is one.
    #[must_use]
    pub fn and(mut self, url: &str) -> Self {
        self.0
            .extend(address(url).ok().as_ref().and_then(authority));
        self
    }

    fn includes(&self, url: &Url) -> bool {
        authority(url).is_some_and(|authority| self.0.contains(&authority))
    }
}

fn authority(url: &Url) -> Option<(String, u16)> {
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

impl Fetcher {
    /// A fetcher that shares the connections of `horde` to hosts that are trusted.
    ///
    /// # Errors
    /// [`Error::Setting`] if the system does not allow it to be built.
    pub fn new(horde: &Horde) -> Result<Self, Error> {
        Ok(Self {
            own: horde.http.clone(),
            public: http_client(|builder| builder.no_proxy().dns_resolver(PublicOnly))?,
        })
    }

    /// Reads at most `limit` bytes from `url`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the address, or one that it redirects to, must not be read from;
    /// [`Error::TooLarge`]; [`Error::Refused`] and [`Error::Unavailable`] by the status of the answer;
    /// [`Error::Malformed`] if it is no address at all.
    pub async fn fetch(&self, url: &str, trust: &Trust, limit: usize) -> Result<Bytes, Error> {
        tokio::time::timeout(FETCH_TIMEOUT, self.follow(address(url)?, trust, limit))
            .await
            .unwrap_or_else(|_| {
                Err(Error::Unavailable {
                    reason: "no answer in time".to_owned(),
                    retry_after: None,
                    source: None,
                })
            })
    }

    async fn follow(&self, mut url: Url, trust: &Trust, limit: usize) -> Result<Bytes, Error> {
        for _ in 0..=MAX_REDIRECTS {
            let client = if trust.includes(&url) {
                &self.own
            } else {
                check(&url)?;
                &self.public
            };
            let response = match client.get(url).send().await {
                Err(error) if is_private(&error) => return Err(PRIVATE),
                sent => sent.map_err(Error::transport)?,
            };
            match redirect(&response) {
                Some(next) => url = next,
                None => return read(succeeded(response).await?, limit).await,
            }
        }
        Err(Error::malformed("too many redirects"))
    }
}

const PRIVATE: Error = Error::Forbidden {
    reason: "it belongs to a private network",
};

/// Whether a stranger's address may be asked at all. Names are judged when they are resolved.
fn check(url: &Url) -> Result<(), Error> {
    if url.scheme() != "https" {
        return Err(Error::Forbidden {
            reason: "only https is allowed",
        });
    }
    if url.port_or_known_default() != Some(443) {
        return Err(Error::Forbidden {
            reason: "only port 443 is allowed",
        });
    }
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse::<IpAddr>() {
        Ok(ip) if !is_public(ip) => Err(PRIVATE),
        _ => Ok(()),
    }
}

/// Resolves names to their public addresses only.
struct PublicOnly;

/// The name exists, but only inside.
#[derive(Debug, thiserror::Error)]
#[error("the name leads into a private network")]
struct PrivateName;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<_> = found.filter(|found| is_public(found.ip())).collect();
            if public.is_empty() {
                return Err(PrivateName.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether [`PublicOnly`] is the cause of a failure.
fn is_private(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<PrivateName>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(url: &str) -> Result<(), Error> {
        check(&Url::parse(url).unwrap())
    }

    #[test]
    fn strangers_may_name_public_https_only() {
        assert!(verdict("https://example.org/a.webp?b=c").is_ok());
        assert!(verdict("https://1.1.1.1/a").is_ok());
        for forbidden in [
            "http://example.org/a",
            "https://example.org:8443/a",
            "https://127.0.0.1/a",
            "https://[::1]/a",
            "https://[::ffff:10.0.0.1]/a",
            "https://0x7f000001/a",
            "https://2130706433/a",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(
                matches!(verdict(forbidden), Err(Error::Forbidden { .. })),
                "{forbidden}"
            );
        }
    }

    #[test]
    fn trust_is_by_host_and_port() {
        let trust = Trust::nobody()
            .and("http://10.0.0.5:7001/x")
            .and("nonsense");
        let includes = |url| trust.includes(&Url::parse(url).unwrap());
        assert!(includes("http://10.0.0.5:7001/other?q"));
        assert!(!includes("http://10.0.0.5:7002/x"));
        assert!(!includes("http://10.0.0.6:7001/x"));
    }
}
