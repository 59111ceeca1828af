//! Fetching what a stranger's URL points to, without becoming the stranger's tool.
//!
//! Addresses are resolved first and refused when they lead into a private, loopback, link-local or
//! otherwise special range; the connection goes to the address that was checked. Redirects are not
//! followed. Only the ports 80 and 443 are spoken to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// How long a fetch may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// The most bytes that are taken.
const MAX_BYTES: usize = 5 << 20;

/// Fetches from public addresses only.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: reqwest::Client,
    allowed: Arc<[IpAddr]>,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Forbidden(String),
    #[error("The URL holds more than {0} bytes")]
    TooLarge(usize),
    #[error("The URL cannot be fetched: {0}")]
    Failed(String),
}

impl Fetcher {
    /// A fetcher; `allowed` addresses may be reached although they are private.
    pub(crate) fn new(allowed: Vec<IpAddr>) -> Result<Self, reqwest::Error> {
        let allowed: Arc<[IpAddr]> = allowed.into();
        let client = crate::outgoing::client()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .no_proxy()
            .dns_resolver(Arc::new(PublicResolver {
                allowed: Arc::clone(&allowed),
            }))
            .build()?;
        Ok(Self { client, allowed })
    }

    /// Takes what `url` points to, at most [`MAX_BYTES`].
    pub(crate) async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        let url = Url::parse(url).map_err(|error| FetchError::Failed(error.to_string()))?;
        check_url(&url, &self.allowed)?;
        let mut response = self
            .client
            .get(url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| FetchError::Failed(error.without_url().to_string()))?;
        if response.status().is_redirection() {
            return Err(FetchError::Failed(
                "it redirects: give the final address".to_owned(),
            ));
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| FetchError::Failed(error.without_url().to_string()))?
        {
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge(MAX_BYTES));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }
}

impl Fetcher {
    /// A request that posts to a stranger's URL. Redirects are answers like others.
    pub(crate) fn post(&self, url: &Url) -> Result<reqwest::RequestBuilder, FetchError> {
        self.check_secure(url)?;
        Ok(self.client.post(url.clone()))
    }

    /// Whether a stranger's URL may be posted to: as for fetching, and encrypted.
    pub(crate) fn check_secure(&self, url: &Url) -> Result<(), FetchError> {
        check_url(url, &self.allowed)?;
        if url.scheme() == "https" || self.is_exempt(url) {
            return Ok(());
        }
        let message = "The URL must start with https://";
        Err(FetchError::Forbidden(message.into()))
    }

    fn is_exempt(&self, url: &Url) -> bool {
        literal_address(url).is_some_and(|address| self.allowed.contains(&address))
    }
}

/// The address that a URL names instead of a host.
fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) | None => None,
    }
}

fn check_url(url: &Url, allowed: &[IpAddr]) -> Result<(), FetchError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::Forbidden(
            "The URL must start with http:// or https://".into(),
        ));
    }
    if url.host().is_none() {
        return Err(FetchError::Forbidden("The URL names no host".into()));
    }
    let address = literal_address(url);
    let exempt = address.is_some_and(|address| allowed.contains(&address));
    if exempt {
        return Ok(());
    }
    if address.is_some_and(|address| !is_public(address)) {
        return Err(FetchError::Forbidden(
            "The URL leads to a private address".into(),
        ));
    }
    if !matches!(url.port_or_known_default(), Some(80 | 443)) {
        return Err(FetchError::Forbidden(
            "Only the ports 80 and 443 are fetched from".into(),
        ));
    }
    Ok(())
}

/// Resolves names to public addresses only.
struct PublicResolver {
    allowed: Arc<[IpAddr]>,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found
                .filter(|address| is_public(address.ip()) || allowed.contains(&address.ip()))
                .collect();
            if public.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet.
///
/// # Source
/// The IANA registries of special-purpose IPv4 and IPv6 addresses.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    if let Some(embedded) = embedded_v4(address) {
        return is_public_v4(embedded);
    }
    // Global unicast is 2000::/3; what is carved out of it is not public either.
    (first & 0xE000) == 0x2000
        && !(first == 0x2001 && second < 0x0200)
        && !(first == 0x2001 && second == 0x0DB8)
        && !(first == 0x3FFF && second < 0x1000)
}

/// The IPv4 address that an IPv6 address stands for: mapped, 6to4 or NAT64.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, third, ..] = address.segments();
    let octets = address.octets();
    let from = |at: usize| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = octets.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    match (first, second, third) {
        (0x2002, ..) => from(2),
        (0x0064, 0xFF9B, 0) => from(12),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "64:ff9b::7f00:1",
            "2001::1",
        ];
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "2002:101:101::",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn urls_that_lead_inside_are_refused() {
        let refused = |url: &str| check_url(&Url::parse(url).unwrap(), &[]).is_err();
        for url in [
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://0x7f000001/",
            "http://2130706433/",
            "ftp://example.org/",
            "http://example.org:22/",
            "http://169.254.169.254/latest",
        ] {
            assert!(refused(url), "{url}");
        }
        assert!(!refused("https://example.org/a.png"));
    }
}
