//! Accounts: keys, roles, kudos with their details, records, suspicions.
//!
//! # Source
//! `community.md` § 2.

use std::collections::{BTreeMap, HashMap, HashSet};

use ordu_api::UserId;
use ordu_api::worker::WorkKind;
use ordu_core::suspicion::Reason;
use sqlx::FromRow;
use uuid::Uuid;

use super::opening::{self, INTO_LEDGER};
use super::{Desk, Mode, Result, Rows, Tally, milli};
use crate::pool::{InsertInto, Value, args, places};
use crate::stats::Record;

const PAGE: &str = "
    SELECT id, username, oauth_id, api_key, contact, admin_comment, proxy_passkey, kudos,
        monthly_kudos, evaluating_kudos, usage_multiplier, worker_invited, public_workers,
        concurrency,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created,
        CAST(EXTRACT(EPOCH FROM last_active) * 1000 AS BIGINT) AS last_active,
        CAST(EXTRACT(EPOCH FROM monthly_kudos_last_received) * 1000 AS BIGINT) AS monthly_received
    FROM users
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const ROLES: &str = "
    SELECT user_id, CAST(user_role AS TEXT)
    FROM user_roles
    WHERE value AND user_id BETWEEN $1 AND $2";

const RECORDS: &str = "
    SELECT user_id, CAST(record_type AS TEXT), record, value
    FROM user_records
    WHERE user_id BETWEEN $1 AND $2";

const STATS: &str = "
    SELECT user_id, action, value
    FROM user_stats
    WHERE user_id BETWEEN $1 AND $2";

const SUSPICIONS: &str = "
    SELECT user_id, suspicion_id, COUNT(*)
    FROM user_suspicions
    WHERE suspicion_id IS NOT NULL AND user_id BETWEEN $1 AND $2
    GROUP BY user_id, suspicion_id";

/// Movements that the old horde has recorded and not yet added to the balances.
const UNAPPLIED: &str = "
    SELECT user_id, escrow, CAST(ROUND(SUM(amount) * 1000) AS BIGINT)
    FROM kudos_ledger
    WHERE NOT applied
    GROUP BY user_id, escrow";

const INTO_USERS: InsertInto<'static> = InsertInto {
    table: "users",
    columns: &[
        "id",
        "username",
        "key_hash",
        "subject",
        "moderator",
        "trusted",
        "flagged",
        "customizer",
        "vpn",
        "service",
        "education",
        "special",
        "deleted",
        "public_workers",
        "contact",
        "admin_comment",
        "proxy_passkey",
        "concurrency",
        "worker_invited",
        "usage_multiplier",
        "monthly_kudos",
        "monthly_received",
        "created",
        "last_active",
        "spendable",
        "escrow",
    ],
    suffix: "",
};

const INTO_TOTALS: InsertInto<'static> = InsertInto {
    table: "totals",
    columns: &["owner", "name", "value"],
    suffix: "ON CONFLICT (owner, name) DO UPDATE SET value = totals.value + excluded.value",
};

pub(super) const INTO_SUSPICIONS: InsertInto<'static> = InsertInto {
    table: "suspicions",
    columns: &["owner", "worker", "reason", "count", "changed"],
    suffix: "ON CONFLICT DO NOTHING",
};

const ANONYMOUS: &str = "
    UPDATE users
    SET spendable = spendable + $2,
        escrow = escrow + $3,
        created = $4,
        concurrency = $5
    WHERE id = $1";

#[derive(Debug, FromRow)]
struct Old {
    id: i32,
    username: String,
    oauth_id: String,
    api_key: String,
    contact: Option<String>,
    admin_comment: Option<String>,
    proxy_passkey: Option<String>,
    kudos: i64,
    monthly_kudos: i32,
    evaluating_kudos: i32,
    usage_multiplier: f64,
    worker_invited: i32,
    public_workers: bool,
    concurrency: i32,
    created: i64,
    last_active: i64,
    monthly_received: Option<i64>,
}

impl Old {
    fn name(&self) -> String {
        format!("{}#{}", self.username, self.id)
    }

    /// What the account has, `moved` being on its way into its balances.
    fn balances(&self, moved: Balances) -> Option<Balances> {
        let escrow = milli(i64::from(self.evaluating_kudos))?;
        Some(Balances {
            spendable: milli(self.kudos)?.checked_add(moved.spendable)?,
            escrow: escrow.checked_add(moved.escrow)?,
        })
    }
}

/// Balances in millikudos.
#[derive(Debug, Clone, Copy, Default)]
struct Balances {
    spendable: i64,
    escrow: i64,
}

/// What of our accounts a batch could collide with.
#[derive(Debug, Default)]
struct Ours {
    ids: HashSet<i64>,
    subjects: HashMap<String, i64>,
    keys: HashMap<String, i64>,
    /// Those that were taken over before.
    opened: HashSet<Uuid>,
}

/// What becomes of an account.
enum Verdict {
    Take(UserId),
    Already,
    Skip(&'static str),
}

impl Ours {
    fn judge(&self, old: &Old) -> Verdict {
        let Some(user) = UserId::new(i64::from(old.id)) else {
            return Verdict::Skip("its number is below 0");
        };
        if self.opened.contains(&opening::event(user)) {
            return Verdict::Already;
        }
        if user != UserId::ANONYMOUS && self.ids.contains(&user.get()) {
            return Verdict::Skip("its number belongs to another account of this horde");
        }
        Verdict::Take(user)
    }

    /// The name, unless somebody has it; then who.
    fn claim(
        names: &mut HashMap<String, i64>,
        name: &str,
        id: i64,
    ) -> std::result::Result<String, i64> {
        match names.get(name) {
            Some(other) if *other != id => Err(*other),
            _ => {
                names.insert(name.to_owned(), id);
                Ok(name.to_owned())
            }
        }
    }
}

/// What of a batch is written, in one commit.
struct Batch {
    users: Rows,
    ledger: Rows,
    totals: Rows,
    suspicions: Rows,
    anonymous: Option<Vec<Value>>,
    taken: HashSet<i64>,
}

impl Batch {
    fn new() -> Self {
        Self {
            users: Rows::new(INTO_USERS),
            ledger: Rows::new(INTO_LEDGER),
            totals: Rows::new(INTO_TOTALS),
            suspicions: Rows::new(INTO_SUSPICIONS),
            anonymous: None,
            taken: HashSet::new(),
        }
    }
}

pub(super) async fn import(desk: &mut Desk<'_>) -> Result<Tally> {
    let mut tally = Tally::new("users");
    let unapplied = unapplied(desk).await?;
    let mut after = None;
    while let Some(last) = import_page(desk, after, &unapplied, &mut tally).await? {
        after = Some(last);
    }
    desk.count_from("user", after.map_or(0, i64::from)).await?;
    Ok(tally)
}

/// Takes over a batch; answers its last number, or `None` after the end.
async fn import_page(
    desk: &mut Desk<'_>,
    after: Option<i32>,
    unapplied: &BTreeMap<i32, Balances>,
    tally: &mut Tally,
) -> Result<Option<i32>> {
    let page: Vec<Old> = desk.source.numbered(PAGE, after).await?;
    let (Some(first), Some(last)) = (page.first(), page.last()) else {
        return Ok(None);
    };
    let span = (first.id, last.id);
    let roles = roles(desk, span).await?;
    let mut ours = ours(desk, &page).await?;
    let mut batch = Batch::new();
    for old in &page {
        tally.found += 1;
        let user = match ours.judge(old) {
            Verdict::Take(user) => user,
            Verdict::Already => {
                tally.already += 1;
                desk.users.insert(i64::from(old.id));
                continue;
            }
            Verdict::Skip(reason) => {
                tally.skip(old.name(), reason);
                continue;
            }
        };
        let moved = unapplied.get(&old.id).copied().unwrap_or_default();
        let Some(balances) = old.balances(moved) else {
            tally.skip(old.name(), format!("{} kudos are too many", old.kudos));
            continue;
        };
        let lines = opening::lines(user, balances.spendable, balances.escrow, desk.now);
        batch.ledger.rows.extend(lines);
        batch.taken.insert(user.get());
        if user == UserId::ANONYMOUS {
            batch.anonymous = Some(args![
                user.get(),
                balances.spendable,
                balances.escrow,
                old.created,
                i64::from(old.concurrency),
            ]);
            continue;
        }
        let has = roles.get(&old.id).map(Vec::as_slice).unwrap_or_default();
        let row = row(old, balances, has, &mut ours, tally);
        batch.users.rows.push(row);
    }
    add_details(desk, span, &mut batch, tally).await?;
    tally.imported += batch.taken.len() as u64;
    desk.users.extend(&batch.taken);
    write(desk, batch).await?;
    Ok(Some(span.1))
}

fn row(
    old: &Old,
    balances: Balances,
    roles: &[String],
    ours: &mut Ours,
    tally: &mut Tally,
) -> Vec<Value> {
    let id = i64::from(old.id);
    let has = |role: &str| roles.iter().any(|held| held == role);
    let key = Ours::claim(&mut ours.keys, &old.api_key, id);
    if let Err(other) = &key {
        tally.note(
            old.name(),
            format!("without its key, which account {other} has"),
        );
    }
    let subject = Ours::claim(&mut ours.subjects, &old.oauth_id, id);
    if let Err(other) = &subject {
        let reason = format!("without its external identity, which account {other} has");
        tally.note(old.name(), reason);
    }
    args![
        id,
        old.username.clone(),
        key.ok(),
        subject.ok(),
        has("MODERATOR"),
        has("TRUSTED"),
        has("FLAGGED"),
        has("CUSTOMIZER"),
        has("VPN"),
        has("SERVICE"),
        has("EDUCATION"),
        has("SPECIAL"),
        has("DELETED"),
        old.public_workers,
        old.contact.clone(),
        old.admin_comment.clone(),
        old.proxy_passkey.clone(),
        i64::from(old.concurrency),
        i64::from(old.worker_invited),
        old.usage_multiplier,
        i64::from(old.monthly_kudos).saturating_mul(1000),
        old.monthly_received,
        old.created,
        old.last_active,
        balances.spendable,
        balances.escrow,
    ]
}

async fn write(desk: &Desk<'_>, batch: Batch) -> Result<()> {
    if desk.mode == Mode::DryRun || batch.taken.is_empty() {
        return Ok(());
    }
    let mut connection = desk.store.pool.begin().await?;
    let written = async {
        if let Some(values) = batch.anonymous {
            connection.execute(ANONYMOUS, values).await?;
        }
        let tables = vec![batch.users, batch.ledger, batch.totals, batch.suspicions];
        super::insert(&mut connection, tables).await
    }
    .await;
    Ok(connection.end(written).await?)
}

async fn unapplied(desk: &mut Desk<'_>) -> Result<BTreeMap<i32, Balances>> {
    let mut moved: BTreeMap<i32, Balances> = BTreeMap::new();
    if !desk.source.has("kudos_ledger") {
        return Ok(moved);
    }
    let rows: Vec<(i32, bool, i64)> = desk.source.all(UNAPPLIED).await?;
    for (user, escrow, amount) in rows {
        let balances = moved.entry(user).or_default();
        if escrow {
            balances.escrow = amount;
        } else {
            balances.spendable = amount;
        }
    }
    Ok(moved)
}

async fn roles(desk: &mut Desk<'_>, span: (i32, i32)) -> Result<HashMap<i32, Vec<String>>> {
    let rows: Vec<(i32, String)> = desk.source.of_numbers(ROLES, span).await?;
    let mut roles: HashMap<i32, Vec<String>> = HashMap::new();
    for (user, role) in rows {
        roles.entry(user).or_default().push(role);
    }
    Ok(roles)
}

/// What the accounts of this batch could collide with.
async fn ours(desk: &Desk<'_>, page: &[Old]) -> Result<Ours> {
    let mut connection = desk.reader().await?;
    let count = page.len();
    let sql = format!(
        "SELECT id, subject, key_hash FROM users
        WHERE id IN ({}) OR subject IN ({}) OR key_hash IN ({})",
        places(1, count),
        places(count + 1, count),
        places(2 * count + 1, count)
    );
    let ids = page.iter().map(|old| Value::from(i64::from(old.id)));
    let subjects = page.iter().map(|old| Value::from(old.oauth_id.as_str()));
    let keys = page.iter().map(|old| Value::from(old.api_key.as_str()));
    let values = ids.chain(subjects).chain(keys).collect();
    let mut ours = Ours::default();
    let rows: Vec<(i64, Option<String>, Option<String>)> = connection.all_made(sql, values).await?;
    for (id, subject, key) in rows {
        ours.ids.insert(id);
        ours.subjects.extend(subject.map(|subject| (subject, id)));
        ours.keys.extend(key.map(|key| (key, id)));
    }
    let users = page.iter().filter_map(|old| UserId::new(i64::from(old.id)));
    let events: Vec<Value> = users
        .map(|user| Value::from(opening::event(user)))
        .collect();
    let sql = format!(
        "SELECT DISTINCT event FROM ledger WHERE event IN ({})",
        places(1, events.len())
    );
    if !events.is_empty() {
        let rows: Vec<(Uuid,)> = connection.all_made(sql, events).await?;
        ours.opened.extend(rows.into_iter().map(|(event,)| event));
    }
    Ok(ours)
}

/// Kudos by reason, records and suspicions of the accounts that are taken.
async fn add_details(
    desk: &mut Desk<'_>,
    span: (i32, i32),
    batch: &mut Batch,
    tally: &mut Tally,
) -> Result<()> {
    let mut totals: BTreeMap<(i64, String), i64> = BTreeMap::new();
    let stats: Vec<(i32, String, i64)> = desk.source.of_numbers(STATS, span).await?;
    for (user, action, value) in stats {
        if let Some(user) = batch.taken.get(&i64::from(user)) {
            let total = totals
                .entry((*user, format!("kudos.{action}")))
                .or_default();
            *total = value.saturating_mul(1000);
        }
    }
    let records: Vec<(i32, String, String, f64)> = desk.source.of_numbers(RECORDS, span).await?;
    for (user, kind, record, value) in records {
        let Some(user) = batch.taken.get(&i64::from(user)) else {
            continue;
        };
        match record_name(&kind, &record) {
            Some((name, scale)) => {
                totals.insert((*user, name), whole(value * scale));
            }
            None => tally.note(user, format!("without its record {kind} of `{record}`")),
        }
    }
    let rows = totals.into_iter().filter(|(_, value)| *value != 0);
    let rows = rows.map(|((owner, name), value)| args![owner, name, value]);
    batch.totals.rows.extend(rows);
    let suspicions: Vec<(i32, i32, i64)> = desk.source.of_numbers(SUSPICIONS, span).await?;
    for (user, number, count) in suspicions {
        let Some(user) = batch.taken.get(&i64::from(user)) else {
            continue;
        };
        match Reason::from_number(i64::from(number)) {
            Some(_) => {
                let row = args![*user, "", i64::from(number), count, desk.now.0];
                batch.suspicions.rows.push(row);
            }
            None => tally.note(
                user,
                format!("without its suspicion of unknown kind {number}"),
            ),
        }
    }
    Ok(())
}

/// How a record is called here, and how many of our units one of its is.
pub(crate) fn record_name(kind: &str, record: &str) -> Option<(String, f64)> {
    let work: WorkKind = record.parse().ok()?;
    let (record, is_things) = match kind {
        "USAGE" => (Record::Usage, true),
        "CONTRIBUTION" => (Record::Contribution, true),
        "FULFILLMENT" => (Record::Fulfillment, false),
        "REQUEST" => (Record::Request, false),
        "STYLE" => (Record::Style, false),
        _ => return None,
    };
    // There things are shown units, here raw ones.
    let scale = if is_things && work == WorkKind::Image {
        1_000_000.0
    } else {
        1.0
    };
    Some((record.name(work), scale))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, which is what is wanted"
)]
const fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn megapixelsteps_become_pixelsteps_and_jobs_stay_jobs() {
        let named = |kind, record| record_name(kind, record);
        let usage = ("usage.image".to_owned(), 1_000_000.0);
        assert_eq!(named("USAGE", "image"), Some(usage));
        let fulfilled = ("fulfillment.interrogation".to_owned(), 1.0);
        assert_eq!(named("FULFILLMENT", "interrogation"), Some(fulfilled));
        assert_eq!(named("FULFILLMENT", "dance"), None);
        assert_eq!(named("NAPS", "text"), None);
    }
}
