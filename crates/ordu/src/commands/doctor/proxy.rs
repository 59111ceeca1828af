//! The way from everybody's address to the server: whether it is there, and what it does to requests.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ordu_api::ApiKey;
use ordu_client::{Horde, http_client};
use ordu_server::{Clock, Seen, seen_link};

use super::Site;
use super::finding::Finding;
use crate::cli::Server;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long the first event of a stream may take: it is sent at once.
const FIRST_EVENT: Duration = Duration::from_secs(5);

/// An address for documentation, which nobody has: we claim to come from there.
const STRANGER: &str = "203.0.113.77";

/// How we call ourselves.
const AGENT: &str = concat!("ordu:", env!("CARGO_PKG_VERSION"), ":doctor");

/// Looks at the way to the server, if one runs.
pub(super) async fn look(site: &Site, options: &Server) -> Vec<Finding> {
    let Some(url) = &site.url else {
        let found = "no server runs, and `--public-url` does not say where it would be";
        return vec![Finding::untried("proxy", found)];
    };
    let mut findings = Vec::new();
    match ask(site, url).await {
        Ok(seen) => findings.push(judge(&seen, url, site.is_public)),
        Err(error) => {
            let mend = if site.is_public {
                "start the server, or correct `--public-url`, its name in the DNS, its certificate and \
                 where the proxy there leads"
            } else {
                "the data folder says that a server runs there: look at its log"
            };
            findings.push(Finding::wrong("proxy", format!("{error:#}"), mend));
            return findings;
        }
    }
    findings.push(stream(url).await);
    if options.public_url.is_none() && !options.listen.ip().is_loopback() {
        let found = "it listens for others, and `--public-url` does not say where they reach it";
        let mend = "give `--public-url`: links to pictures are made of it";
        findings.push(Finding::warning("public-url", found, mend));
    }
    findings
}

async fn ask(site: &Site, url: &str) -> Result<Seen> {
    let client = http_client(|builder| builder.timeout(WITHIN))?;
    let link = seen_link(&site.secret, url, Clock::System.now());
    let asked = client.get(link).header("X-Forwarded-For", STRANGER);
    // The link is a permission: it is nobody's to read.
    let answer = asked.send().await.map_err(reqwest::Error::without_url);
    let answer = answer.with_context(|| format!("`{url}` does not answer"))?;
    let status = answer.status();
    match status.as_u16() {
        200 => {}
        300..400 => {
            let to = answer.headers().get("location");
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            let to = to.split('?').next().unwrap_or_default();
            bail!("`{url}` leads on to `{to}`: clients and workers do not follow");
        }
        403 => {
            bail!("`{url}` is a server with another secret, or its clock is minutes away from ours")
        }
        _ => bail!("`{url}` answers {status}: no server of this version is there"),
    }
    let body = answer.bytes().await.map_err(reqwest::Error::without_url);
    let body = body.context("the answer broke off")?;
    serde_json::from_slice(&body).with_context(|| format!("`{url}` answers nonsense"))
}

/// What the server saw of a request that claimed to come from [`STRANGER`].
fn judge(seen: &Seen, url: &str, is_public: bool) -> Finding {
    let peer = seen.peer;
    let hops = seen.forwarded_for.as_deref();
    let is_https = url.starts_with("https:");
    let was_fooled = seen.client.to_string() == STRANGER;
    if was_fooled && is_public {
        let found = format!("who comes through `{url}` can claim any address: {peer} passes it on");
        let mend = "let the proxy append the client to `X-Forwarded-For`, or replace it \
                    (nginx: `$proxy_add_x_forwarded_for`)";
        return Finding::wrong("proxy", found, mend);
    }
    if was_fooled {
        // Nobody said where the proxy is that would add its own word.
        let found = format!("{peer} is trusted; give `--public-url` to see what it does");
        return Finding::untried("proxy", found);
    }
    match hops {
        Some(STRANGER) if !is_https => Finding::fine(
            "proxy",
            format!("no proxy in between: clients are seen as they are ({peer})"),
        ),
        None | Some(STRANGER) => {
            let found =
                format!("the proxy at {peer} does not say who its clients are: all count as one");
            let mend = format!(
                "let it append them to `X-Forwarded-For`{}",
                if seen.trusted {
                    String::new()
                } else {
                    format!(", and give `--trusted-proxy {peer}`")
                }
            );
            Finding::wrong("proxy", found, mend)
        }
        Some(_) if seen.trusted && seen.client == peer => {
            let found = format!("what the proxy at {peer} says about its clients is no address");
            Finding::wrong(
                "proxy",
                found,
                "let it append their IP to `X-Forwarded-For`, nothing else",
            )
        }
        Some(_) if seen.trusted => trusted(seen.client, peer),
        Some(_) => {
            let found = format!("the proxy at {peer} is not trusted: all its clients count as one");
            Finding::wrong("proxy", found, format!("give `--trusted-proxy {peer}`"))
        }
    }
}

fn trusted(client: IpAddr, peer: IpAddr) -> Finding {
    Finding::fine(
        "proxy",
        format!("the proxy at {peer} is trusted, and names us as {client}"),
    )
}

/// Whether events come when they happen.
async fn stream(url: &str) -> Finding {
    let first = async {
        let horde = Horde::new(url, ApiKey::anonymous(), AGENT)?;
        horde.pulses().await?.next().await
    };
    let mend = "streams must not be buffered (nginx: `proxy_buffering off`; compression of \
                `text/event-stream` off)";
    match tokio::time::timeout(FIRST_EVENT, first).await {
        Ok(Ok(Some(_))) => Finding::fine("streams", "events come at once"),
        Ok(Ok(None)) => Finding::wrong("streams", "the stream of events ends at once", mend),
        Ok(Err(error)) => Finding::wrong("streams", super::finding::words(&error), mend),
        Err(_) => {
            let found = format!("no event came within {} s", FIRST_EVENT.as_secs());
            Finding::wrong("streams", found, mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Level;

    /// How a request with our claim was seen: by whom it was believed, and as what.
    fn seen(trusted: bool, client: &str, forwarded_for: Option<&str>) -> Seen {
        Seen {
            peer: "10.0.0.2".parse().unwrap(),
            client: client.parse().unwrap(),
            trusted,
            forwarded_for: forwarded_for.map(str::to_owned),
            forwarded_proto: None,
            host: None,
        }
    }

    #[test]
    fn proxies_are_judged_by_what_they_add() {
        let added = Some("203.0.113.77, 192.0.2.1");
        for (seen, url, level, word) in [
            (
                seen(true, "192.0.2.1", added),
                "https://x",
                Level::Fine,
                "names us as",
            ),
            (
                seen(true, "192.0.2.1", Some("192.0.2.1")),
                "https://x",
                Level::Fine,
                "names us as",
            ),
            (
                seen(false, "10.0.0.2", Some(STRANGER)),
                "http://x",
                Level::Fine,
                "no proxy",
            ),
            (
                seen(false, "10.0.0.2", added),
                "https://x",
                Level::Wrong,
                "not trusted",
            ),
            (
                seen(false, "10.0.0.2", Some(STRANGER)),
                "https://x",
                Level::Wrong,
                "all count as one",
            ),
            (
                seen(true, "10.0.0.2", None),
                "https://x",
                Level::Wrong,
                "all count as one",
            ),
            (
                seen(true, STRANGER, Some(STRANGER)),
                "https://x",
                Level::Wrong,
                "can claim any",
            ),
            (
                seen(true, "10.0.0.2", Some("unknown")),
                "https://x",
                Level::Wrong,
                "no address",
            ),
        ] {
            let finding = judge(&seen, url, true);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(word), "{finding:?}");
        }
    }
}
