//! Bytes from servers into an unfinished file, however often the connection breaks.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::plan::{Plan, Segment};
use super::{DownloadError, Downloads, Named, Start, TransferProgress, Wanted};
use crate::manager::web::{WebError, succeeded};

/// What a try must bring to count as getting somewhere, in bytes.
const SOMEWHERE: u64 = 64 << 10;

/// One file on its way.
pub(super) struct Transfer<'a> {
    downloads: &'a Downloads,
    wanted: &'a Wanted,
    part: &'a Path,
    file: Named,
    progress: &'a watch::Sender<TransferProgress>,
    plan: Mutex<Plan>,
    /// When it started, and what was there.
    started: (Instant, u64),
}

/// How a try ended badly.
enum Broken {
    /// The server has another file now, or cannot be believed: start anew, over one connection.
    Changed,
    Failed(DownloadError),
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        downloads: &'a Downloads,
        wanted: &'a Wanted,
        part: &'a Path,
        progress: &'a watch::Sender<TransferProgress>,
    ) -> Self {
        let will_be_checked = wanted.sha256.is_some() || wanted.md5.is_some();
        let plan = Plan::of(part, will_be_checked).unwrap_or_else(fresh);
        Self {
            file: Named::of(&wanted.target),
            started: (Instant::now(), arrived(&plan)),
            downloads,
            wanted,
            part,
            progress,
            plan: Mutex::new(plan),
        }
    }

    /// Fetches what is missing.
    pub(super) async fn run(mut self, start: Start) -> Result<(), DownloadError> {
        if start == Start::Mirror && self.try_gateway().await {
            return Ok(());
        }
        let options = self.downloads.options();
        let (mut tries, mut connections) = (0, options.connections);
        loop {
            let before = self.arrived();
            let error = match self
                .attempt(&self.wanted.url, HeaderMap::new(), connections)
                .await
            {
                Ok(()) => return Ok(()),
                Err(Broken::Failed(error)) => error,
                Err(Broken::Changed) => {
                    self.start_anew();
                    connections = 1;
                    self.file
                        .web(WebError::Malformed("the file changed under way".to_owned()))
                }
            };
            if self.arrived() >= before + SOMEWHERE {
                tries = 0;
            }
            tries += 1;
            let asked = match &error {
                DownloadError::Web { source, .. } if !source.is_final() => match source {
                    WebError::Status { retry_after, .. } => *retry_after,
                    _ => None,
                },
                _ => {
                    if matches!(error, DownloadError::TooLarge { .. }) {
                        Plan::discard(self.part);
                    }
                    return Err(error);
                }
            };
            if tries > options.retries {
                return Err(error);
            }
            tracing::debug!(%error, tries, "a transfer is tried again");
            sleep(asked.unwrap_or(options.pause)).await;
        }
    }

    /// One try at the mirror, whose key goes over https only. A part of another origin is kept from it.
    async fn try_gateway(&mut self) -> bool {
        let (Some((base, key)), Some(sum)) =
            (&self.downloads.options().gateway, &self.wanted.sha256)
        else {
            return false;
        };
        let is_private = base.scheme() == "https" || is_loopback(base);
        let address = format!("{}/by-hash/{sum}", base.as_str().trim_end_matches('/'));
        let (Ok(url), Ok(mut key)) = (Url::parse(&address), HeaderValue::from_str(key.reveal()))
        else {
            return false;
        };
        if !is_private || self.arrived() > 0 {
            return false;
        }
        key.set_sensitive(true);
        let headers =
            HeaderMap::from_iter([(reqwest::header::HeaderName::from_static("apikey"), key)]);
        let came = self.attempt(&url, headers, 1).await.is_ok();
        if !came {
            self.start_anew();
        }
        came
    }

    fn start_anew(&mut self) {
        Plan::discard(self.part);
        *self.plan.get_mut().unwrap_or_else(PoisonError::into_inner) = fresh();
    }

    /// One try: asks for what is missing until all has come or something breaks.
    async fn attempt(&self, url: &Url, headers: HeaderMap, connections: u64) -> Result<(), Broken> {
        let mut first = None;
        if self.with_plan(|plan| *plan == fresh()) {
            let response = self
                .ask(url, &headers, fresh().segments.first().copied())
                .await?;
            let plan = self.plan_by(&response, connections)?;
            self.with_plan(|known| *known = plan);
            first = Some(response);
        }
        self.check_space()?;
        if self.with_plan(|plan| plan.is_done()) {
            return self.create().await;
        }
        self.create().await?;
        let count = self.with_plan(|plan| plan.segments.len());
        let parts = (0..count).map(|place| {
            let response = if place == 0 { first.take() } else { None };
            self.segment(url, &headers, place, response)
        });
        // All go on although one broke: what comes need not come again.
        let ended: Vec<_> = join_all(parts.collect::<Vec<_>>()).await;
        self.save()?;
        let mut failed = None;
        for end in ended {
            match end {
                Ok(()) => {}
                Err(Broken::Changed) => return Err(Broken::Changed),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// How to fetch a file whose first answer looks like this.
    fn plan_by(&self, response: &Response, connections: u64) -> Result<Plan, Broken> {
        let etag = strong_etag(response);
        let ranged = response.status() == StatusCode::PARTIAL_CONTENT;
        let total = if ranged {
            let (start, total) = content_range(response).ok_or_else(|| self.odd("no range"))?;
            if start != 0 {
                return Err(self.odd("it starts in the middle"));
            }
            total
        } else {
            response.content_length()
        };
        if let (Some(total), Some(limit)) = (total, self.wanted.limit) {
            self.check_limit(total, limit)?;
        }
        let options = self.downloads.options();
        Ok(match total {
            Some(total) if ranged && connections > 1 && total >= options.parallel_from => {
                Plan::split(etag, total, connections, options.segment)
            }
            // Without ranges nothing can be resumed, but a later run may meet a better server.
            total => Plan::whole(etag, total, 0),
        })
    }

    /// Fetches one stretch.
    async fn segment(
        &self,
        url: &Url,
        headers: &HeaderMap,
        place: usize,
        response: Option<Response>,
    ) -> Result<(), Broken> {
        let Some(segment) = self.segment_at(place).filter(|segment| !segment.done) else {
            return Ok(());
        };
        let response = match response {
            Some(response) => response,
            None => self.resume(url, headers, segment).await?,
        };
        self.stream(response, place, segment).await
    }

    /// The answer that goes on where a stretch stopped.
    async fn resume(
        &self,
        url: &Url,
        headers: &HeaderMap,
        segment: Segment,
    ) -> Result<Response, Broken> {
        let mut headers = headers.clone();
        let etag = self.with_plan(|plan| plan.etag.clone());
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            headers.insert(IF_RANGE, etag);
        }
        let response = self.ask(url, &headers, Some(segment)).await?;
        let known = self.with_plan(|plan| plan.total);
        let fits = content_range(&response).is_some_and(|(start, total)| {
            start == segment.at && (known.is_none() || total.is_none() || known == total)
        });
        if response.status() == StatusCode::PARTIAL_CONTENT && fits {
            return Ok(response);
        }
        Err(Broken::Changed)
    }

    async fn ask(
        &self,
        url: &Url,
        headers: &HeaderMap,
        segment: Option<Segment>,
    ) -> Result<Response, Broken> {
        let mut headers = headers.clone();
        if let Some(Segment { at, end, .. }) = segment {
            let last = end.map_or_else(String::new, |end| end.saturating_sub(1).to_string());
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={at}-{last}")) {
                headers.insert(RANGE, range);
            }
        }
        let web = &self.downloads.web;
        let asked = timeout(self.downloads.options().silence, web.get(url, headers)).await;
        let response = asked
            .unwrap_or(Err(WebError::TimedOut))
            .map_err(|error| self.failed(error))?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(Broken::Changed);
        }
        succeeded(response).map_err(|error| self.failed(error))
    }

    /// Writes what comes, at most to the end of the stretch.
    async fn stream(
        &self,
        mut response: Response,
        place: usize,
        segment: Segment,
    ) -> Result<(), Broken> {
        let options = self.downloads.options();
        let mut sink = Sink::open(self.part, segment.at)
            .await
            .map_err(|error| self.io(error))?;
        let mut left = segment.end.map(|end| end.saturating_sub(segment.at));
        let ended = loop {
            if left == Some(0) {
                break Ok(());
            }
            let chunk = match timeout(options.silence, response.chunk()).await {
                Err(_) => break Err(self.failed(WebError::TimedOut)),
                Ok(Err(error)) => break Err(self.failed(error.into())),
                Ok(Ok(None)) if left.is_none() => break Ok(()),
                Ok(Ok(None)) => {
                    let early = WebError::Broken("the connection ended early".to_owned());
                    break Err(self.failed(early));
                }
                Ok(Ok(Some(chunk))) => chunk,
            };
            let most = left.unwrap_or(u64::MAX).min(chunk.len() as u64);
            let useful = chunk.get(..usize::try_from(most).unwrap_or(chunk.len()));
            self.downloads.throttle.pass(most).await;
            sink.buffer.extend_from_slice(useful.unwrap_or(&chunk));
            left = left.map(|left| left - most);
            if let (None, Some(limit)) = (segment.end, self.wanted.limit)
                && let Err(error) = self.check_limit(sink.end(), limit)
            {
                break Err(error);
            }
            if sink.buffer.len() >= options.buffer {
                self.flush(&mut sink, place).await?;
                if segment.end.is_none() {
                    self.check_space()?;
                }
            }
        };
        self.flush(&mut sink, place).await?;
        ended?;
        self.finish(place, sink.at);
        Ok(())
    }

    async fn flush(&self, sink: &mut Sink, place: usize) -> Result<(), Broken> {
        sink.flush().await.map_err(|error| self.io(error))?;
        self.with_plan(|plan| {
            if let Some(segment) = plan.segments.get_mut(place) {
                segment.at = sink.at;
            }
        });
        self.save()?;
        self.report();
        Ok(())
    }

    /// A stretch has come; if nobody knew where it ends, it ends here.
    fn finish(&self, place: usize, at: u64) {
        self.with_plan(|plan| {
            if let Some(segment) = plan.segments.get_mut(place) {
                segment.done = true;
                segment.end = Some(at);
            }
            plan.total = plan.total.or(Some(at));
        });
        self.report();
    }

    /// Creates the unfinished file, cut to what the plan knows to be there if it comes in one go.
    async fn create(&self) -> Result<(), Broken> {
        let mut options = tokio::fs::File::options();
        let opened = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.part);
        let file = opened.await.map_err(|error| self.io(error))?;
        if let Some(at) = self.with_plan(|plan| match plan.segments.as_slice() {
            [only] => Some(only.at),
            _ => None,
        }) {
            file.set_len(at).await.map_err(|error| self.io(error))?;
        }
        self.save()
    }

    fn check_limit(&self, bytes: u64, limit: u64) -> Result<(), Broken> {
        if bytes <= limit {
            return Ok(());
        }
        Err(Broken::Failed(DownloadError::TooLarge {
            file: self.file.0.clone(),
            limit,
        }))
    }

    /// Whether what is missing fits on the disk.
    fn check_space(&self) -> Result<(), Broken> {
        let needed = self.with_plan(|plan| plan.missing()).unwrap_or_default();
        let keep_free = self.downloads.options().keep_free;
        let folder = self.part.parent().unwrap_or(self.part);
        let free = fs4::available_space(folder).map_err(|error| self.io(error))?;
        if needed.saturating_add(keep_free) <= free {
            return Ok(());
        }
        Err(Broken::Failed(DownloadError::NoSpace {
            file: self.file.0.clone(),
            needed,
            free,
            keep_free,
        }))
    }

    fn report(&self) {
        let (bytes, total) = self.with_plan(|plan| (arrived(plan), plan.total));
        let (since, before) = self.started;
        let seconds = since.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let speed = if seconds > 0.0 {
            bytes.saturating_sub(before) as f64 / seconds
        } else {
            0.0
        };
        let missing = total.map(|total| total.saturating_sub(bytes));
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let eta = missing
            .filter(|_| speed > 0.0)
            .and_then(|missing| Duration::try_from_secs_f64(missing as f64 / speed).ok());
        self.progress.send_replace(TransferProgress {
            bytes,
            total,
            speed,
            eta,
        });
    }

    fn segment_at(&self, place: usize) -> Option<Segment> {
        self.with_plan(|plan| plan.segments.get(place).copied())
    }

    fn arrived(&self) -> u64 {
        self.with_plan(|plan| arrived(plan))
    }

    fn save(&self) -> Result<(), Broken> {
        self.with_plan(|plan| plan.save(self.part))
            .map_err(|error| self.io(error))
    }

    fn with_plan<T>(&self, act: impl FnOnce(&mut Plan) -> T) -> T {
        act(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn failed(&self, error: WebError) -> Broken {
        Broken::Failed(self.file.web(error))
    }

    fn odd(&self, what: &str) -> Broken {
        self.failed(WebError::Malformed(format!("an odd answer: {what}")))
    }

    fn io(&self, error: std::io::Error) -> Broken {
        Broken::Failed(self.file.io(error))
    }
}

/// A place in the unfinished file, and what was not written yet.
struct Sink {
    file: tokio::fs::File,
    buffer: Vec<u8>,
    at: u64,
}

impl Sink {
    async fn open(part: &Path, at: u64) -> std::io::Result<Self> {
        let mut file = tokio::fs::File::options().write(true).open(part).await?;
        file.seek(std::io::SeekFrom::Start(at)).await?;
        Ok(Self {
            file,
            buffer: Vec::new(),
            at,
        })
    }

    fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.buffer).await?;
        self.file.flush().await?;
        self.at = self.end();
        self.buffer.clear();
        Ok(())
    }
}

fn fresh() -> Plan {
    Plan::whole(None, None, 0)
}

/// Bytes that are there.
fn arrived(plan: &Plan) -> u64 {
    let mut start = 0;
    let mut sum = 0;
    for segment in &plan.segments {
        sum += segment.at.saturating_sub(start);
        start = segment.end.unwrap_or(segment.at);
    }
    sum
}

/// What a server calls this state of a file, if equal bytes are meant.
fn strong_etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(ETAG)?.to_str().ok()?;
    (!etag.starts_with("W/")).then(|| etag.to_owned())
}

/// First byte and size of the file, from `Content-Range: bytes 0-9/10`.
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split('-').next()?.trim().parse().ok()?;
    Some((start, total.trim().parse().ok()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    }
}
