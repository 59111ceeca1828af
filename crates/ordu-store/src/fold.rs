//! The fold: moves what the ledger and the activities say into balances and sums.
//!
//! One fold is one transaction, and only one runs at a time, whatever the number of nodes. Lines
//! are found by their flag, never by a watermark: one that commits late is not lost.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::UserId;
use ordu_api::worker::WorkKind;
use ordu_core::Kudos;
use ordu_core::Timestamp;
use ordu_core::ledger::{Account, Entry, Event, Reason};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::error::Result;
use crate::pool::{Connection, Dialect, args};
use crate::statistics::Additions;
use crate::stats::{Bucket, Record};
use crate::{Store, json, ledger, shared_key};

/// Names the fold among PostgreSQL's advisory locks.
const LOCK: &str = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(7093116401)) AS held";

/// What the balance of the anonymous account never falls below.
const ANONYMOUS_FLOOR: Kudos = Kudos::new(-50);
/// The same for accounts without an external identity.
const PSEUDONYMOUS_FLOOR: Kudos = Kudos::new(14);
/// The same for everybody else.
const FLOOR: Kudos = Kudos::new(25);

/// What a fold did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Ledger lines.
    pub lines: usize,
    /// Activities.
    pub activities: usize,
    /// Accounts that were raised to their floor.
    pub floors: usize,
    /// Kudos that came from nowhere.
    pub minted: Kudos,
    /// Kudos that were given up for good.
    pub burnt: Kudos,
}

#[derive(Debug, FromRow)]
struct Posting {
    event: Uuid,
    reason: String,
    line: i64,
    source: i64,
    target: i64,
    amount: i64,
}

#[derive(Debug, FromRow)]
struct ActivityLine {
    event: Uuid,
    kind: String,
    requester: Option<i64>,
    usage: i64,
    owner: Option<i64>,
    worker: Option<Uuid>,
    team: Option<Uuid>,
    things: i64,
    worker_kudos: i64,
    style_owner: Option<i64>,
    happened_at: i64,
    model: Option<String>,
}

#[derive(Debug, FromRow)]
struct Holder {
    id: i64,
    subject: Option<String>,
    education: bool,
    spendable: i64,
    usage_multiplier: f64,
}

/// How one user's balances change.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Change {
    id: i64,
    spendable: i64,
    escrow: i64,
    #[serde(skip)]
    spent: bool,
}

/// How the counters of one worker, or one team, change.
#[derive(Debug, Clone, Default, Serialize)]
struct Sums {
    id: String,
    fulfilled: i64,
    things: i64,
    kudos: i64,
}

impl Sums {
    fn of(id: Uuid) -> Self {
        Self {
            id: json::hex(id),
            ..Self::default()
        }
    }

    fn add(&mut self, activity: &ActivityLine) {
        self.fulfilled += 1;
        self.things += activity.things;
        self.kudos += activity.worker_kudos;
    }
}

#[derive(Debug, Serialize)]
struct LineKey<'a> {
    event: String,
    reason: &'a str,
    line: i64,
}

#[derive(Debug, Serialize)]
struct Total {
    owner: i64,
    name: String,
    value: i64,
}

const UNFOLDED_LINES: &str = "
    SELECT event, reason, line, source, target, amount
    FROM ledger
    WHERE NOT folded
    ORDER BY happened_at
    LIMIT $1";

const UNFOLDED_ACTIVITIES: &str = "
    SELECT event, kind, requester, usage, owner, worker, team, things, worker_kudos, style_owner,
        happened_at, model
    FROM activity
    WHERE NOT folded
    ORDER BY happened_at
    LIMIT $1";

/// A statement that takes a JSON array of rows as `$1`, in both spellings.
pub(crate) struct Bulk {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl Bulk {
    const fn sql(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }
}

const HOLDERS: Bulk = Bulk {
    sqlite: "
    SELECT id, subject, education, spendable, usage_multiplier
    FROM users
    WHERE id IN (SELECT value FROM json_each($1))",
    postgres: "
    SELECT id, subject, education, spendable, usage_multiplier
    FROM users
    WHERE id IN (SELECT CAST(id AS BIGINT)
                 FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))",
};

const MARK_LINES: Bulk = Bulk {
    sqlite: "
    UPDATE ledger
    SET folded = TRUE
    FROM json_each($1) AS i
    WHERE ledger.event = unhex(i.value ->> 'event') AND ledger.reason = i.value ->> 'reason'
        AND ledger.line = i.value ->> 'line'",
    postgres: "
    UPDATE ledger AS l
    SET folded = TRUE
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (event UUID, reason TEXT, line BIGINT)
    WHERE l.event = i.event AND l.reason = i.reason AND l.line = i.line",
};

const DELETE_ACTIVITIES: Bulk = Bulk {
    sqlite: "
    DELETE FROM activity
    WHERE event IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "
    DELETE FROM activity
    WHERE event IN (SELECT CAST(id AS UUID)
                    FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))",
};

const MOVE_BALANCES: Bulk = Bulk {
    sqlite: "
    UPDATE users
    SET spendable = spendable + (i.value ->> 'spendable'),
        escrow = escrow + (i.value ->> 'escrow')
    FROM json_each($1) AS i
    WHERE users.id = i.value ->> 'id'",
    postgres: "
    UPDATE users AS u
    SET spendable = u.spendable + i.spendable, escrow = u.escrow + i.escrow
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (id BIGINT, spendable BIGINT, escrow BIGINT)
    WHERE u.id = i.id",
};

const ADD_TOTALS: Bulk = Bulk {
    sqlite: "
    INSERT INTO totals (owner, name, value)
    SELECT value ->> 'owner', value ->> 'name', value ->> 'value'
    FROM json_each($1)
    WHERE TRUE
    ON CONFLICT (owner, name) DO UPDATE
    SET value = totals.value + excluded.value",
    postgres: "
    INSERT INTO totals (owner, name, value)
    SELECT owner, name, value
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (owner BIGINT, name TEXT, value BIGINT)
    ON CONFLICT (owner, name) DO UPDATE
    SET value = totals.value + excluded.value",
};

const ADD_TO_WORKERS: Bulk = Bulk {
    sqlite: "
    UPDATE workers
    SET fulfilled = fulfilled + (i.value ->> 'fulfilled'),
        things = things + (i.value ->> 'things'),
        kudos_generated = kudos_generated + (i.value ->> 'kudos')
    FROM json_each($1) AS i
    WHERE workers.id = unhex(i.value ->> 'id')",
    postgres: "
    UPDATE workers AS w
    SET fulfilled = w.fulfilled + i.fulfilled,
        things = w.things + i.things,
        kudos_generated = w.kudos_generated + i.kudos
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (
        id UUID, fulfilled BIGINT, things BIGINT, kudos BIGINT)
    WHERE w.id = i.id",
};

const ADD_TO_TEAMS: Bulk = Bulk {
    sqlite: "
    UPDATE teams
    SET fulfilled = fulfilled + (i.value ->> 'fulfilled'),
        things = things + (i.value ->> 'things'),
        kudos = kudos + (i.value ->> 'kudos')
    FROM json_each($1) AS i
    WHERE teams.id = unhex(i.value ->> 'id')",
    postgres: "
    UPDATE teams AS t
    SET fulfilled = t.fulfilled + i.fulfilled,
        things = t.things + i.things,
        kudos = t.kudos + i.kudos
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (
        id UUID, fulfilled BIGINT, things BIGINT, kudos BIGINT)
    WHERE t.id = i.id",
};

const INSERT_ENTRIES: Bulk = Bulk {
    sqlite: ledger::INSERT_ENTRIES_SQLITE,
    postgres: "
    INSERT INTO ledger (event, reason, line, source, target, amount, kind, happened_at)
    SELECT event, reason, line, source, target, amount, kind, at
    FROM json_to_recordset(CAST($1 AS JSON)) AS e (
        event UUID, reason TEXT, line BIGINT, source BIGINT, target BIGINT, amount BIGINT,
        kind TEXT, at BIGINT)",
};

/// Everything one fold moves.
#[derive(Debug, Default)]
struct Movement {
    changes: BTreeMap<i64, Change>,
    totals: BTreeMap<(i64, String), i64>,
    workers: BTreeMap<Uuid, Sums>,
    teams: BTreeMap<Uuid, Sums>,
    statistics: Additions,
}

impl Store {
    /// Folds at most `limit` ledger lines and as many activities; all of it or nothing. What falls
    /// below a floor is raised to it by an entry of its own, dated `now`. Call again until it
    /// reports less than the limit.
    pub async fn fold(&self, limit: u32, now: Timestamp) -> Result<Folded> {
        let mut connection = self.pool.begin().await?;
        let folded = fold(&mut connection, i64::from(limit), now).await;
        let folded = connection.end(folded).await?;
        self.tally.folded(folded.minted, folded.burnt);
        Ok(folded)
    }
}

/// Waits until nobody else folds, or changes what a fold changes.
pub(crate) async fn lock(connection: &mut Connection) -> Result<()> {
    // On SQLite only one transaction writes at a time anyway.
    if connection.dialect() == Dialect::Postgres {
        connection.execute(LOCK, args![]).await?;
    }
    Ok(())
}

async fn fold(connection: &mut Connection, limit: i64, now: Timestamp) -> Result<Folded> {
    lock(connection).await?;
    let mut lines: Vec<Posting> = connection.all(UNFOLDED_LINES, args![limit]).await?;
    let activities: Vec<ActivityLine> = connection.all(UNFOLDED_ACTIVITIES, args![limit]).await?;
    let holders = holders(connection, &lines, &activities).await?;
    let mut movement = Movement::default();
    for line in &lines {
        movement.add_line(line, &holders)?;
    }
    for activity in &activities {
        movement.add_activity(activity, &holders);
    }
    let folded_lines = lines.len();
    let floors = movement.floors(&holders);
    if !floors.is_empty() {
        lines.extend(insert_floors(connection, &floors, now).await?);
    }
    mark(connection, &lines, &activities).await?;
    movement.write(connection).await?;
    shared_key::fold_charges(connection, limit).await?;
    let mint = ledger::account_number(Account::Mint);
    Ok(Folded {
        lines: folded_lines,
        activities: activities.len(),
        floors: floors.len(),
        minted: sum(&lines, |line| line.source == mint && line.target != mint),
        burnt: sum(&lines, |line| line.target == mint && line.source != mint),
    })
}

/// What those lines move that are `counted`.
fn sum(lines: &[Posting], counted: impl Fn(&Posting) -> bool) -> Kudos {
    let counted = lines.iter().filter(|line| counted(line));
    Kudos::from_milli(counted.map(|line| line.amount).sum())
}

/// The users whose accounts the lines name, and those who asked for something.
async fn holders(
    connection: &mut Connection,
    lines: &[Posting],
    activities: &[ActivityLine],
) -> Result<BTreeMap<i64, Holder>> {
    let accounts = lines.iter().flat_map(|line| [line.source, line.target]);
    let requesters = activities.iter().filter_map(|activity| activity.requester);
    let users: BTreeSet<i64> = accounts
        .filter(|number| *number >= 0)
        .map(|number| number / 2)
        .chain(requesters)
        .collect();
    let rows: Vec<Holder> = bulk(connection, &HOLDERS, &users).await?;
    Ok(rows.into_iter().map(|holder| (holder.id, holder)).collect())
}

pub(crate) async fn bulk<T: crate::pool::AnyRow>(
    connection: &mut Connection,
    statement: &Bulk,
    rows: &impl Serialize,
) -> Result<Vec<T>> {
    let sql = statement.sql(connection.dialect());
    connection.all(sql, args![json::object(rows)?]).await
}

pub(crate) async fn write_bulk(
    connection: &mut Connection,
    statement: &Bulk,
    rows: &[impl Serialize],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = statement.sql(connection.dialect());
    connection.execute(sql, args![json::object(&rows)?]).await?;
    Ok(())
}

/// Adds the entries of an event to the ledger, inside a transaction that decided on them.
pub(crate) async fn insert_entries(connection: &mut Connection, event: &Event) -> Result<()> {
    let rows = ledger::entry_rows(event.id, std::slice::from_ref(event))?;
    let sql = INSERT_ENTRIES.sql(connection.dialect());
    connection.execute(sql, args![format!("[{rows}]")]).await?;
    Ok(())
}

async fn insert_floors(
    connection: &mut Connection,
    floors: &[Entry],
    now: Timestamp,
) -> Result<Vec<Posting>> {
    let event = Event {
        id: Uuid::new_v4(),
        at: now,
        kind: None,
        entries: floors.to_vec(),
    };
    insert_entries(connection, &event).await?;
    let line = |(number, entry): (i64, &Entry)| Posting {
        event: event.id,
        reason: entry.reason.name().to_owned(),
        line: number,
        source: ledger::account_number(entry.from),
        target: ledger::account_number(entry.to),
        amount: entry.amount.milli(),
    };
    Ok((0..).zip(floors).map(line).collect())
}

async fn mark(
    connection: &mut Connection,
    lines: &[Posting],
    activities: &[ActivityLine],
) -> Result<()> {
    let keys: Vec<LineKey<'_>> = lines
        .iter()
        .map(|line| LineKey {
            event: json::hex(line.event),
            reason: &line.reason,
            line: line.line,
        })
        .collect();
    write_bulk(connection, &MARK_LINES, &keys).await?;
    let events: Vec<String> = activities
        .iter()
        .map(|activity| json::hex(activity.event))
        .collect();
    write_bulk(connection, &DELETE_ACTIVITIES, &events).await
}

impl Movement {
    fn add_line(&mut self, line: &Posting, holders: &BTreeMap<i64, Holder>) -> Result<()> {
        let source = ledger::account(line.source)?;
        let target = ledger::account(line.target)?;
        for account in [source, target] {
            if let Account::Spendable(user) | Account::Escrow(user) = account
                && !holders.contains_key(&user.get())
            {
                tracing::error!(user.id = user.get(), "the ledger names an unknown user");
            }
        }
        self.move_balance(source, -line.amount);
        self.move_balance(target, line.amount);
        // A balance that is set from outside may lie anywhere.
        if let Account::Spendable(user) = source
            && line.reason != Reason::Reconciliation.name()
        {
            self.change(user).spent |= line.amount > 0;
        }
        self.count_kudos(line, source, target, holders);
        Ok(())
    }

    fn move_balance(&mut self, account: Account, amount: i64) {
        match account {
            Account::Mint => {}
            Account::Spendable(user) => self.change(user).spendable += amount,
            Account::Escrow(user) => self.change(user).escrow += amount,
        }
    }

    fn change(&mut self, user: UserId) -> &mut Change {
        let id = user.get();
        self.changes.entry(id).or_insert_with(|| Change {
            id,
            ..Change::default()
        })
    }

    /// Sorts a movement into the buckets of giver and receiver. What is earned counts when it can
    /// be spent: escrow is nobody's yet.
    fn count_kudos(
        &mut self,
        line: &Posting,
        source: Account,
        target: Account,
        holders: &BTreeMap<i64, Holder>,
    ) {
        let (from, to) = (spender(source), spender(target));
        if from == to {
            return;
        }
        let education = to
            .and_then(|user| holders.get(&user.get()))
            .is_some_and(|holder| holder.education);
        if let (Some(user), Some(bucket)) = (from, spent_as(&line.reason, education)) {
            self.add_total(user.get(), bucket.name().to_owned(), -line.amount);
        }
        if let (Some(user), Some(bucket)) = (to, earned_as(&line.reason)) {
            self.add_total(user.get(), bucket.name().to_owned(), line.amount);
        }
    }

    fn add_total(&mut self, owner: i64, name: String, value: i64) {
        if value != 0 {
            *self.totals.entry((owner, name)).or_default() += value;
        }
    }

    fn add_activity(&mut self, activity: &ActivityLine, holders: &BTreeMap<i64, Holder>) {
        let Ok(kind) = activity.kind.parse() else {
            tracing::error!(kind = activity.kind, "an activity of an unknown kind");
            return;
        };
        if let Some(user) = activity.requester {
            self.add_total(user, Record::Request.name(kind), 1);
            let multiplier = holders.get(&user).map_or(1.0, |user| user.usage_multiplier);
            let usage = scaled(activity.usage, multiplier);
            self.add_total(user, Record::Usage.name(kind), usage);
        }
        if let Some(user) = activity.owner {
            self.add_total(user, Record::Fulfillment.name(kind), 1);
            self.add_total(user, Record::Contribution.name(kind), activity.things);
        }
        if let Some(user) = activity.style_owner {
            self.add_total(user, Record::Style.name(kind), 1);
        }
        // Forms are of no model.
        let is_form = kind == WorkKind::Interrogation && activity.owner.is_some();
        if activity.model.is_some() || is_form {
            let (at, things) = (activity.happened_at, activity.things);
            let model = activity.model.as_deref();
            self.statistics.add(kind, model, at, things);
        }
        if let Some(worker) = activity.worker {
            let sums = self.workers.entry(worker);
            sums.or_insert_with(|| Sums::of(worker)).add(activity);
        }
        if let Some(team) = activity.team {
            let sums = self.teams.entry(team);
            sums.or_insert_with(|| Sums::of(team)).add(activity);
        }
    }

    /// The entries that raise to their floor whoever spent and fell below it; already moved.
    fn floors(&mut self, holders: &BTreeMap<i64, Holder>) -> Vec<Entry> {
        let mut floors = Vec::new();
        for holder in holders.values() {
            let Some(change) = self
                .changes
                .get_mut(&holder.id)
                .filter(|change| change.spent)
            else {
                continue;
            };
            let missing = floor_of(holder).milli() - holder.spendable - change.spendable;
            if let Some(user) = UserId::new(holder.id).filter(|_| missing > 0) {
                change.spendable += missing;
                let forgiven = Kudos::from_milli(missing);
                floors.push(Entry::reward(user, forgiven, Reason::Floor));
            }
        }
        floors
    }

    async fn write(self, connection: &mut Connection) -> Result<()> {
        let changes: Vec<Change> = self.changes.into_values().collect();
        write_bulk(connection, &MOVE_BALANCES, &changes).await?;
        let total = |((owner, name), value)| Total { owner, name, value };
        let totals: Vec<Total> = self.totals.into_iter().map(total).collect();
        write_bulk(connection, &ADD_TOTALS, &totals).await?;
        let workers: Vec<Sums> = self.workers.into_values().collect();
        write_bulk(connection, &ADD_TO_WORKERS, &workers).await?;
        let teams: Vec<Sums> = self.teams.into_values().collect();
        write_bulk(connection, &ADD_TO_TEAMS, &teams).await?;
        self.statistics.write(connection).await
    }
}

/// Usage as it counts; scales the statistic only, never a price.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "work is far below 2^53 units, and `as` saturates"
)]
fn scaled(usage: i64, multiplier: f64) -> i64 {
    (usage as f64 * multiplier).round() as i64
}

/// Who can spend what lies here.
const fn spender(account: Account) -> Option<UserId> {
    match account {
        Account::Mint | Account::Escrow(_) => None,
        Account::Spendable(user) => Some(user),
    }
}

/// Whose balance may fall how far. A subject that is a UUID is an account without an identity.
fn floor_of(holder: &Holder) -> Kudos {
    let subject = holder.subject.as_deref().unwrap_or_default();
    if holder.id == UserId::ANONYMOUS.get() {
        ANONYMOUS_FLOOR
    } else if Uuid::try_parse(subject).is_ok() {
        PSEUDONYMOUS_FLOOR
    } else {
        FLOOR
    }
}

fn spent_as(reason: &str, to_education: bool) -> Option<Bucket> {
    match reason {
        "transfer" if to_education => Some(Bucket::Donated),
        "transfer" => Some(Bucket::Gifted),
        other => earned_as(other),
    }
}

fn earned_as(reason: &str) -> Option<Bucket> {
    match reason {
        "generation" | "activation" | "uptime" | "rating" | "promotion" => {
            Some(Bucket::Accumulated)
        }
        "transfer" => Some(Bucket::Received),
        "admin" => Some(Bucket::Admin),
        "recurring" => Some(Bucket::Recurring),
        "award" => Some(Bucket::Awarded),
        "style" => Some(Bucket::Styled),
        // Floors are forgiven and balances that are set from outside are there: neither is earned.
        _ => None,
    }
}
