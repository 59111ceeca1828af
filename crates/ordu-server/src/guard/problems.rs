//! Jobs that workers report as illegal: recorded, counted, told to moderators once per window.
//!
//! # Source
//! `generation.md` § 8.6.

use std::net::IpAddr;

use ordu_api::{JobId, RequestId, UserId, WorkerId};
use ordu_core::address::party_of;
use ordu_core::horde::{Delivered, Work};
use ordu_core::{Millis, Timestamp};
use ordu_store::ProblemJob;

use crate::app::App;
use crate::guard::notices::{News, NoticeKind};

/// More reports than this in an hour are told.
const MAX_AN_HOUR: i64 = 50;

/// More reports than this in a day are told.
const MAX_A_DAY: i64 = 200;

/// How long the windows are, and how many reports they may hold.
const WINDOWS: [(Millis, i64); 2] = [
    (Millis::from_minutes(60), MAX_AN_HOUR),
    (Millis::from_minutes(24 * 60), MAX_A_DAY),
];

/// What a worker handed back.
#[derive(Clone, Copy)]
pub(crate) struct Reported {
    pub(crate) job: JobId,
    pub(crate) request: RequestId,
    pub(crate) requester: UserId,
    pub(crate) worker: WorkerId,
}

/// Whom reports are counted for.
enum Counted<'a> {
    Account(UserId, Option<&'a str>),
    Address(&'a str),
}

/// Whether a worker says that what it was asked for is illegal.
pub(crate) fn is_problem(delivered: &Delivered) -> bool {
    let mut remarks = delivered.metadata.iter();
    remarks.any(|remark| remark.kind == "censorship" && remark.value == "csam")
}

impl App {
    /// Records a report. Failures are logged: the worker did its part.
    pub(crate) async fn note_problem(&self, reported: Reported) {
        if let Err(error) = self.count_problem(reported).await {
            tracing::warn!(%error, job.id = %reported.job, "a problem job is not recorded");
        }
    }

    async fn count_problem(&self, reported: Reported) -> Result<(), ordu_store::Error> {
        let now = self.clock.now();
        let row = self.store.find_request(reported.request).await?;
        let address = row
            .and_then(|row| row.ip)
            .and_then(|ip| ip.parse::<IpAddr>().ok())
            .map(|ip| ordu_core::address::show_network(party_of(ip)));
        let (prompt, proxied_account) = self.asked(reported.request);
        let problem = ProblemJob {
            job: reported.job,
            owner: reported.requester,
            proxied_account,
            address,
            worker: reported.worker,
            at: now,
        };
        self.store.insert_problem_job(&problem).await?;
        tracing::info!(job.id = %reported.job, worker.id = %reported.worker, "a problem job");
        let exempt = problem.owner == UserId::ANONYMOUS || self.is_admin(problem.owner);
        let account = Counted::Account(problem.owner, problem.proxied_account.as_deref());
        let by_account = (!exempt).then_some(account);
        let by_address = problem.address.as_deref().map(Counted::Address);
        for counted in by_account.into_iter().chain(by_address) {
            if self.is_too_much(&counted, now).await? {
                self.tell_of_problems(&problem, counted.subject(), prompt)
                    .await;
                return Ok(());
            }
        }
        Ok(())
    }

    fn asked(&self, request: RequestId) -> (Option<String>, Option<String>) {
        let live = self.live();
        match live.horde.request(request).map(|request| &request.work) {
            Some(Work::Image(spec)) => (Some(spec.prompt.clone()), spec.proxied_account.value()),
            Some(Work::Text(spec)) => (Some(spec.prompt.clone()), spec.proxied_account.value()),
            Some(Work::Alchemy(_)) | None => (None, None),
        }
    }

    /// Whether a window holds too much, and nobody was told of it in that window.
    async fn is_too_much(
        &self,
        counted: &Counted<'_>,
        now: Timestamp,
    ) -> Result<bool, ordu_store::Error> {
        let kind = NoticeKind::ProblemJobs.name();
        for (window, most) in WINDOWS {
            let since = now - window;
            let count = match counted {
                Counted::Account(user, proxied) => {
                    self.store.count_problems_of(*user, *proxied, since).await?
                }
                Counted::Address(address) => self.store.count_problems_from(address, since).await?,
            };
            if count <= most {
                continue;
            }
            let told = self
                .store
                .count_notices(&counted.subject(), kind, since)
                .await?;
            if told == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn tell_of_problems(
        &self,
        problem: &ProblemJob,
        subject: String,
        prompt: Option<String>,
    ) {
        let name = self.registry.by_id(problem.worker).map(|known| known.name);
        let message = format!(
            "Many jobs of {subject} are reported as illegal: the last is job {} by worker `{}` ({}), \
             asked for by user {} from {}",
            problem.job,
            name.unwrap_or_default(),
            problem.worker,
            problem.owner,
            problem.address.as_deref().unwrap_or("an unknown address"),
        );
        let news = News {
            kind: NoticeKind::ProblemJobs,
            subject,
            message,
            prompt,
        };
        self.tell_moderators(news).await;
    }
}

impl Counted<'_> {
    fn subject(&self) -> String {
        match self {
            Self::Account(user, None) => format!("user {user}"),
            Self::Account(user, Some(proxied)) => format!("user {user} for `{proxied}`"),
            Self::Address(address) => format!("address {address}"),
        }
    }
}
