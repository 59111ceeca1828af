//! Where a request comes from: the one answer that limits, IP rules and records share.
//!
//! The socket's peer; behind a proxy that the operator trusts, the hop that this proxy added; behind
//! a service account that proves itself by its passkey, the end user that it names.
//!
//! # Source
//! `generation.md` § 1.2, `community.md` § 1.2.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use ordu_api::UserId;

use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// The client of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// The effective address.
    pub(crate) ip: IpAddr,
    /// The service account that speaks for the address, if one does.
    pub(crate) proxy: Option<Proxy>,
}

/// A service account between us and the end user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Whose passkey it is.
    pub(crate) account: UserId,
    /// Where the account itself comes from.
    pub(crate) ip: IpAddr,
}

impl Client {
    /// Who is behind a request.
    pub(crate) fn of(app: &App, extensions: &Extensions, headers: &HeaderMap) -> ApiResult<Self> {
        let direct = forwarded(app, socket_peer(extensions)?, headers);
        let proxied = passkey(headers).zip(header(headers, "proxied-for").and_then(read_ip));
        let Some((passkey, ip)) = proxied else {
            return Ok(Self::direct(direct));
        };
        let Some(account) = app.passkeys.owner(passkey) else {
            tracing::debug!("an unknown passkey was ignored");
            return Ok(Self::direct(direct));
        };
        Ok(Self {
            ip,
            proxy: Some(Proxy {
                account,
                ip: direct,
            }),
        })
    }

    const fn direct(ip: IpAddr) -> Self {
        Self { ip, proxy: None }
    }

    /// What counts as one client: an IPv4 address, or the IPv6 network that one household gets.
    pub(crate) fn network(self) -> IpAddr {
        network(self.ip)
    }
}

/// The IPv4 address itself, or the /64 of an IPv6 address, of which everybody has 2^64.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let prefix = u128::from(ip) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

/// The other end of the socket, whatever any header says.
pub(crate) fn socket_peer(extensions: &Extensions) -> ApiResult<IpAddr> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map(|peer| peer.0.ip().to_canonical())
        .ok_or_else(|| ApiError::Internal("a connection without a peer".to_owned()))
}

/// What a trusted proxy says about its peer: the hop that it added is the right-most one.
fn forwarded(app: &App, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !app.config.trusted_proxies.contains(&peer) {
        return peer;
    }
    // A header may come in several lines; the last one was added last.
    let last = headers.get_all("x-forwarded-for").iter().next_back();
    let hops = last.and_then(|hops| hops.to_str().ok());
    hops.and_then(|hops| hops.rsplit(',').next())
        .and_then(read_ip)
        .unwrap_or(peer)
}

/// The credential of `Proxy-Authorization`, bare or as a bearer token.
fn passkey(headers: &HeaderMap) -> Option<&str> {
    let value = header(headers, "proxy-authorization")?.trim();
    Some(value.strip_prefix("Bearer ").unwrap_or(value))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An address, with or without a port.
pub(crate) fn read_ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare().or_else(with_port).map(|ip| ip.to_canonical())
}

impl FromRequestParts<Arc<App>> for Client {
    type Rejection = ApiError;

    /// Reads what [`crate::transport`] found out before; it asks only once.
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        match parts.extensions.get::<Self>() {
            Some(client) => Ok(*client),
            None => Self::of(app, &parts.extensions, &parts.headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{network, read_ip};

    #[test]
    fn addresses_are_read_with_and_without_port() {
        let ip = |text: &str| read_ip(text).map(|ip| ip.to_string());
        assert_eq!(ip(" 192.0.2.1 ").as_deref(), Some("192.0.2.1"));
        assert_eq!(ip("192.0.2.1:80").as_deref(), Some("192.0.2.1"));
        assert_eq!(ip("[2001:db8::1]:80").as_deref(), Some("2001:db8::1"));
        assert_eq!(ip("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(ip("unknown"), None);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }
}
