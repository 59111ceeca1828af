//! Pictures: whether they can be kept, and reached by workers and clients.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ordu_client::http_client;
use ordu_server::{BlobPlace, BlobProbe, Clock};

use super::Site;
use super::finding::{Finding, words};

/// How long each step may take.
const WITHIN: Duration = Duration::from_secs(30);

/// As much as a large picture: more than some proxies let through by themselves.
const BYTES: usize = 4 << 20;

/// Looks at the place of all pictures.
pub(super) async fn look(place: &BlobPlace, site: &Site) -> Vec<Finding> {
    let ours = matches!(place, BlobPlace::Folder(_));
    let url = site.url.as_deref().unwrap_or("http://127.0.0.1");
    let begun = tokio::time::timeout(WITHIN, BlobProbe::begin(place, &site.secret, url)).await;
    let probe = match begun {
        Ok(Ok(probe)) => probe,
        Ok(Err(error)) => return vec![Finding::wrong("blobs", words(&error), mend(ours))],
        Err(_) => {
            let found = format!(
                "the store of pictures does not answer within {} s",
                WITHIN.as_secs()
            );
            return vec![Finding::wrong("blobs", found, mend(ours))];
        }
    };
    let mut findings = vec![kept(&probe, ours).await];
    findings.push(if ours && site.url.is_none() {
        let found = "no server runs, and `--public-url` does not say where it would be";
        Finding::untried("links", found)
    } else {
        links(&probe, site, ours).await
    });
    if let Err(error) = probe.end().await {
        let found = format!("pictures cannot be removed: {}", words(&error));
        let mend = "allow the key to delete: otherwise nothing is ever swept";
        findings.push(Finding::wrong("blobs", found, mend));
    }
    findings
}

const fn mend(ours: bool) -> &'static str {
    if ours {
        "make room on the disk, and let the server's user own the folder of pictures"
    } else {
        "start the store, or correct `--blobs`: endpoint, bucket (which must exist), region, key"
    }
}

fn picture() -> Vec<u8> {
    // It must not be a picture that compresses to nothing on the way.
    let mut state: u32 = 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..BYTES).map(|_| next()).collect()
}

async fn kept(probe: &BlobProbe, ours: bool) -> Finding {
    let bytes = picture();
    let written = async {
        probe.write(bytes.clone().into()).await?;
        probe.read().await
    };
    match tokio::time::timeout(WITHIN, written).await {
        Ok(Ok(read)) if read == bytes => Finding::fine("blobs", "kept and read back"),
        Ok(Ok(_)) => Finding::wrong("blobs", "what was kept reads differently", mend(ours)),
        Ok(Err(error)) => Finding::wrong("blobs", words(&error), mend(ours)),
        Err(_) => {
            let found = format!("{BYTES} bytes were not kept within {} s", WITHIN.as_secs());
            Finding::wrong("blobs", found, mend(ours))
        }
    }
}

/// Uploads as a worker does, and downloads as a client does.
async fn links(probe: &BlobProbe, site: &Site, ours: bool) -> Finding {
    match round(probe).await {
        Ok(()) => Finding::fine("links", format!("{BYTES} bytes went up and down again")),
        Err(error) => {
            let mend = match (ours, site.is_public) {
                (true, true) => {
                    "the links lead to `--public-url`: look at the proxy there; it must let `PUT` and \
                     bodies of 64 MiB through (nginx: `client_max_body_size 64m`) and take the whole path"
                }
                (true, false) => "the server that runs does not take them: look at its log",
                (false, _) => {
                    "workers and clients go to the store itself: give `public_endpoint=` in `--blobs` \
                     if they reach it elsewhere than the server does"
                }
            };
            Finding::wrong("links", format!("{error:#}"), mend)
        }
    }
}

async fn round(probe: &BlobProbe) -> Result<()> {
    let client = http_client(|builder| builder.timeout(WITHIN))?;
    let (bytes, now) = (picture(), Clock::System.now());
    // Links are permissions: they are nobody's to read.
    let answer = client
        .put(probe.upload(now))
        .body(bytes.clone())
        .send()
        .await;
    let answer = answer.map_err(reqwest::Error::without_url);
    let status = answer.context("the upload did not arrive")?.status();
    ensure!(status.is_success(), "the upload was answered {status}");
    let answer = client.get(probe.download(now)).send().await;
    let answer = answer.map_err(reqwest::Error::without_url);
    let answer = answer.context("the download was not answered")?;
    let status = answer.status();
    ensure!(status.is_success(), "the download was answered {status}");
    let read = answer.bytes().await.map_err(reqwest::Error::without_url);
    let read = read.context("the download broke off")?;
    ensure!(read == bytes, "what came down is not what went up");
    Ok(())
}
