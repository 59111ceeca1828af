//! What users and workers did, counted: sums that the fold moves.

use std::collections::BTreeMap;

use ordu_api::worker::WorkKind;
use ordu_api::{TeamId, UserId, WorkerId};
use ordu_core::{Kudos, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::Store;
use crate::error::Result;
use crate::pool::{Dialect, args};

/// What one event adds to the statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// The event: the job's id for a settlement, the request's for an activation. Counts once.
    pub event: Uuid,
    /// When.
    pub at: Timestamp,
    /// The kind of work.
    pub kind: WorkKind,
    /// Whose `request` record grows by one and whose `usage` by `usage`.
    pub requester: Option<UserId>,
    /// Things requested (pixelsteps, tokens); the fold scales them by the requester's multiplier.
    pub usage: i64,
    /// Whose `fulfillment` record grows by one and whose `contribution` by `things`.
    pub owner: Option<UserId>,
    /// Whose counters grow like its owner's.
    pub worker: Option<WorkerId>,
    /// The team whose counters grow like the worker's.
    pub team: Option<TeamId>,
    /// Things made (pixelsteps, tokens).
    pub things: i64,
    /// What is shown as earned by the worker.
    pub worker_kudos: Kudos,
    /// Whose `style` record grows by one.
    pub style_owner: Option<UserId>,
    /// The model whose statistics grow; `None` if the event is not counted by model.
    pub model: Option<String>,
}

/// Why a balance moved, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// Earned and spent by generating.
    Accumulated,
    /// Given to users; negative.
    Gifted,
    /// Given to accounts of education; negative.
    Donated,
    /// Corrections by operators.
    Admin,
    /// Got from users.
    Received,
    /// Monthly grants.
    Recurring,
    /// Thanks for something outside the horde.
    Awarded,
    /// By the use of styles.
    Styled,
}

impl Bucket {
    /// The name in storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accumulated => "kudos.accumulated",
            Self::Gifted => "kudos.gifted",
            Self::Donated => "kudos.donated",
            Self::Admin => "kudos.admin",
            Self::Received => "kudos.received",
            Self::Recurring => "kudos.recurring",
            Self::Awarded => "kudos.awarded",
            Self::Styled => "kudos.styled",
        }
    }
}

/// What is counted per user and kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// Things requested.
    Usage,
    /// Things made by the user's workers.
    Contribution,
    /// Jobs done by the user's workers.
    Fulfillment,
    /// Jobs charged.
    Request,
    /// Uses of the user's styles.
    Style,
}

impl Record {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Contribution => "contribution",
            Self::Fulfillment => "fulfillment",
            Self::Request => "request",
            Self::Style => "style",
        }
    }

    /// The name in storage.
    pub fn name(self, kind: WorkKind) -> String {
        format!("{}.{}", self.prefix(), kind.name())
    }
}

/// The sums of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals(BTreeMap<String, i64>);

impl Totals {
    /// The sum of one bucket.
    pub fn kudos(&self, bucket: Bucket) -> Kudos {
        Kudos::from_milli(self.0.get(bucket.name()).copied().unwrap_or_default())
    }

    /// The sum of one record.
    pub fn record(&self, record: Record, kind: WorkKind) -> i64 {
        self.0.get(&record.name(kind)).copied().unwrap_or_default()
    }
}

/// An activity as the statements take it.
#[derive(Debug, Serialize)]
pub(crate) struct ActivityRow<'a> {
    token: String,
    event: String,
    at: i64,
    kind: &'a str,
    requester: Option<i64>,
    usage: i64,
    owner: Option<i64>,
    worker: Option<String>,
    team: Option<String>,
    things: i64,
    worker_kudos: i64,
    style_owner: Option<i64>,
    model: Option<&'a str>,
}

/// The JSON of an activity that belongs to a write.
pub(crate) fn row(token: Uuid, activity: Option<&Activity>) -> Result<String> {
    let Some(activity) = activity else {
        return Ok(String::new());
    };
    crate::json::object(&ActivityRow {
        token: crate::json::hex(token),
        event: crate::json::hex(activity.event),
        at: activity.at.0,
        kind: activity.kind.name(),
        requester: activity.requester.map(UserId::get),
        usage: activity.usage,
        owner: activity.owner.map(UserId::get),
        worker: activity
            .worker
            .map(|worker| crate::json::hex(worker.uuid())),
        team: activity.team.map(|team| crate::json::hex(team.uuid())),
        things: activity.things,
        worker_kudos: activity.worker_kudos.milli(),
        style_owner: activity.style_owner.map(UserId::get),
        model: activity.model.as_deref(),
    })
}

/// The last step of writes that carry activities, on SQLite.
pub(crate) const INSERT_ACTIVITY_SQLITE: &str = "
    INSERT INTO activity
        (event, happened_at, kind, requester, usage, owner, worker, things, worker_kudos,
         style_owner, model, team)
    SELECT unhex(value ->> 'event'), value ->> 'at', value ->> 'kind', value ->> 'requester',
        value ->> 'usage', value ->> 'owner', unhex(value ->> 'worker'), value ->> 'things',
        value ->> 'worker_kudos', value ->> 'style_owner', value ->> 'model',
        unhex(value ->> 'team')
    FROM jsonb_each($1)
    WHERE TRUE
    ON CONFLICT (event) DO NOTHING";

const TOTALS_SQLITE: &str = "
    SELECT owner, name, value
    FROM totals
    WHERE owner IN (SELECT value FROM json_each($1))";

const TOTALS_POSTGRES: &str = "
    SELECT owner, name, value
    FROM totals
    WHERE owner IN (SELECT CAST(id AS BIGINT)
                    FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))";

impl Store {
    /// The sums of some users; who has none is left out.
    pub async fn totals(&self, users: &[UserId]) -> Result<BTreeMap<UserId, Totals>> {
        let sql = match self.pool.dialect() {
            Dialect::Sqlite => TOTALS_SQLITE,
            Dialect::Postgres => TOTALS_POSTGRES,
        };
        let ids: Vec<i64> = users.iter().copied().map(UserId::get).collect();
        let list = crate::json::object(&ids)?;
        let rows: Vec<(i64, String, i64)> = self.pool.all(sql, args![list]).await?;
        let mut totals: BTreeMap<UserId, Totals> = BTreeMap::new();
        for (owner, name, value) in rows {
            if let Some(owner) = UserId::new(owner) {
                totals.entry(owner).or_default().0.insert(name, value);
            }
        }
        Ok(totals)
    }
}
