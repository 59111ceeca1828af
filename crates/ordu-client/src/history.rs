//! How things went and how they go, where a horde tells. Ours: other hordes do not know.

use ordu_api::history::{History, KudosHistory};
use ordu_api::model::ModelEntry;
use ordu_api::operation::TrustAuditView;
use ordu_api::pulse::Pulse;
use ordu_api::worker::WorkKind;
use ordu_api::{UserId, WorkerId};

use crate::frames::{Frames, broken};
use crate::transport::answer;
use crate::{Error, Horde};

/// The steps of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryStep {
    /// Kept for 14 days.
    Hour,
    /// Of UTC; kept for two years.
    Day,
}

impl HistoryStep {
    /// The name on the wire.
    const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// The horde at work, second by second.
#[derive(Debug)]
pub struct Pulses(Frames);

impl Pulses {
    /// The next pulse; `None` when the stream is over. Events of other kinds are left out.
    ///
    /// # Errors
    /// Transport errors, also when nothing comes for a minute; [`Error::Malformed`].
    pub async fn next(&mut self) -> Result<Option<Pulse>, Error> {
        while let Some(frame) = self.0.next().await? {
            if frame.name == "pulse" {
                return serde_json::from_str(&frame.data)
                    .map(Some)
                    .map_err(Error::malformed);
            }
        }
        Ok(None)
    }
}

impl Horde {
    /// What was made of a kind of work, step by step (`GET /stats/history`); `since` is in Unix
    /// seconds, by default 48 hours or 30 days ago.
    ///
    /// # Errors
    /// [`Error::Refused`] from a horde that does not know it; transport errors.
    pub async fn history(
        &self,
        kind: WorkKind,
        step: HistoryStep,
        since: Option<i64>,
    ) -> Result<History, Error> {
        let parameters = [
            ("kind", Some(kind.plain_name().to_owned())),
            ("step", Some(step.name().to_owned())),
            ("since", since.map(|since| since.to_string())),
        ];
        answer(self.get_where(&["stats", "history"], &parameters)).await
    }

    /// A page of the kudos that came and went (`GET /kudos/history`), of the key's account, or for
    /// moderators of any. `before` is [`KudosHistory::before`] of the page before.
    ///
    /// # Errors
    /// [`Error::Refused`] with `InvalidAPIKey`, `AnonForbidden`, `NotModerator`, `UserNotFound`.
    pub async fn kudos_history(
        &self,
        user: Option<UserId>,
        before: Option<&str>,
    ) -> Result<KudosHistory, Error> {
        let parameters = [
            ("user", user.map(|user| user.to_string())),
            ("before", before.map(str::to_owned)),
        ];
        answer(self.get_where(&["kudos", "history"], &parameters)).await
    }

    /// The horde at work (`GET /status/pulse`): a pulse at once, then one each second in which
    /// something happened.
    ///
    /// # Errors
    /// [`Error::Refused`] from a horde that does not know it; [`Error::RateLimited`] and
    /// [`Error::Unavailable`] if too many look on.
    pub async fn pulses(&self) -> Result<Pulses, Error> {
        let opened = Frames::open(self.get(&["status", "pulse"])).await?;
        opened
            .map(Pulses)
            .ok_or_else(|| broken("the horde tells nothing"))
    }

    /// What is known about a model, such as what it wants from a request
    /// (`GET /reference/models/{name}`).
    ///
    /// # Errors
    /// [`Error::Refused`] with 404 for a model that nobody described.
    pub async fn known_model(&self, kind: WorkKind, name: &str) -> Result<ModelEntry, Error> {
        answer(self.get_of_kind(&["reference", "models", name], kind)).await
    }

    /// Pictures that were made once more to check their workers (`GET /operations/trust-audits`),
    /// newest first, 50 a page, the first page being 1. For moderators.
    ///
    /// # Errors
    /// [`Error::Refused`] with `InvalidAPIKey`, `NotModerator`.
    pub async fn trust_audits(
        &self,
        worker: Option<WorkerId>,
        page: u32,
    ) -> Result<Vec<TrustAuditView>, Error> {
        let parameters = [
            ("page", Some(page.to_string())),
            ("worker", worker.map(|worker| worker.to_string())),
        ];
        answer(self.get_where(&["operations", "trust-audits"], &parameters)).await
    }
}
