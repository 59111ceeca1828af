//! What nodes tell each other without storing it: who looks on where, how far jobs are, what was used
//! of limits, who presented wrong keys.
//!
//! Words get lost while a connection is away, and are a few kilobytes long at most. Previews are too
//! long for them: who looks on at another node than the worker's sees steps and text.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ordu_api::event::JobProgress;
use ordu_api::{JobId, RequestId};
use ordu_store::MAX_WORD;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::locked;
use crate::app::App;
use crate::limits::Use;

/// How long it holds that somebody looks on; it is said every second.
const LOOKED_AT_FOR: Duration = Duration::from_secs(5);

/// Requests, limits or addresses that one word names at most.
const MAX_NAMED: usize = 150;

/// What a node says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// Somebody looks at these requests here.
    Watched(Vec<RequestId>),
    /// A worker reported here how far a job is.
    Report(Box<Report>),
    /// So much was used of limits here.
    Used(Vec<Use>),
    /// From these addresses came wrong keys, once for each.
    Wrong(Vec<IpAddr>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    request: RequestId,
    job: JobId,
    progress: JobProgress,
}

/// Requests that somebody looks at elsewhere, and when that was said.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(Mutex<BTreeMap<RequestId, Instant>>);

/// Takes what another node said.
pub(super) fn note(app: &App, said: &str) {
    match serde_json::from_str(said) {
        Ok(Word::Watched(requests)) => app.nodes.elsewhere.note(requests),
        Ok(Word::Used(uses)) => app.limits.add_uses(&uses, app.clock.now()),
        Ok(Word::Wrong(networks)) => {
            for network in networks {
                app.guesses.note_wrong_elsewhere(network, app.clock.now());
            }
        }
        Ok(Word::Report(report)) => {
            let Report {
                request,
                job,
                progress,
            } = *report;
            if app.live().horde.request(request).is_some() {
                app.watch.report(request, job, progress.steps);
                let now = app.clock.now();
                app.push.watching.report(request, job, progress, now);
            }
        }
        Err(error) => tracing::debug!(%error, "another node said something unknown"),
    }
}

impl Elsewhere {
    fn note(&self, requests: Vec<RequestId>) {
        let now = Instant::now();
        let mut elsewhere = locked(&self.0);
        elsewhere.retain(|_, said| now.duration_since(*said) < LOOKED_AT_FOR);
        elsewhere.extend(requests.into_iter().map(|request| (request, now)));
    }

    fn has(&self, request: RequestId) -> bool {
        let elsewhere = locked(&self.0);
        let said = elsewhere.get(&request);
        said.is_some_and(|said| said.elapsed() < LOOKED_AT_FOR)
    }
}

impl App {
    /// Tells the other nodes what they must know every second.
    pub(super) async fn tell_others(&self) {
        for some in self.limits.take_uses().chunks(MAX_NAMED) {
            self.say(&Word::Used(some.to_vec())).await;
        }
        for some in self.guesses.take_wrong().chunks(MAX_NAMED) {
            self.say(&Word::Wrong(some.to_vec())).await;
        }
        let watched = self.push.watching.streamed();
        for some in watched.chunks(MAX_NAMED) {
            self.say(&Word::Watched(some.to_vec())).await;
        }
    }

    /// Passes a report on to those who look on at other nodes; says whether somebody does. Nobody
    /// waits for it to arrive.
    pub(crate) fn pass_on(
        self: &Arc<Self>,
        request: RequestId,
        job: JobId,
        progress: &JobProgress,
    ) -> bool {
        if !self.nodes.are_several() || !self.nodes.elsewhere.has(request) {
            return false;
        }
        let report = Report {
            request,
            job,
            progress: JobProgress {
                preview: None,
                ..progress.clone()
            },
        };
        let app = Arc::clone(self);
        self.tracker
            .spawn(async move { app.say(&Word::Report(Box::new(report))).await });
        true
    }

    async fn say(&self, word: &Word) {
        let word = serde_json::to_string(word).unwrap_or_default();
        // A text may have become too long: its end is seen when it is finished.
        if word.is_empty() || word.len() > MAX_WORD {
            return;
        }
        if let Err(error) = self.store.say(&word).await {
            tracing::debug!(%error, "a word to other nodes is lost");
        }
    }
}
