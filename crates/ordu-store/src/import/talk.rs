//! Messages to workers, and the jobs that workers reported as illegal.
//!
//! # Source
//! `community.md` § 5.6, § 5.7.

use sqlx::FromRow;
use uuid::Uuid;

use super::{Desk, Known, Result, Rows, Tally};
use crate::pool::{InsertInto, Value, args, places};

const MESSAGES: &str = "
    SELECT id, worker_id, user_id, message, origin,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created,
        CAST(EXTRACT(EPOCH FROM expiry) * 1000 AS BIGINT) AS expires
    FROM worker_messages
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const PROBLEMS: &str = "
    SELECT id, user_id, worker_id, ipaddr, proxied_account, job_id,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created
    FROM user_problem_jobs
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const INTO_MESSAGES: InsertInto<'static> = InsertInto {
    table: "worker_messages",
    columns: &[
        "id", "author", "worker", "message", "origin", "created", "expires",
    ],
    suffix: "",
};

const INTO_PROBLEMS: InsertInto<'static> = InsertInto {
    table: "problem_jobs",
    columns: &[
        "job",
        "owner",
        "proxied_account",
        "address",
        "worker",
        "happened_at",
    ],
    suffix: "ON CONFLICT DO NOTHING",
};

#[derive(Debug, FromRow)]
struct OldMessage {
    id: Uuid,
    worker_id: Option<Uuid>,
    user_id: Option<i32>,
    message: Option<String>,
    origin: Option<String>,
    created: Option<i64>,
    expires: Option<i64>,
}

#[derive(Debug, FromRow)]
struct OldProblem {
    id: i32,
    user_id: i32,
    worker_id: Uuid,
    ipaddr: String,
    proxied_account: Option<String>,
    job_id: Uuid,
    created: i64,
}

pub(super) async fn import(desk: &mut Desk<'_>) -> Result<Vec<Tally>> {
    Ok(vec![messages(desk).await?, problems(desk).await?])
}

async fn messages(desk: &mut Desk<'_>) -> Result<Tally> {
    let mut tally = Tally::new("worker_messages");
    let mut after = None;
    loop {
        let page: Vec<OldMessage> = desk.source.identified(MESSAGES, after).await?;
        let ids: Vec<Uuid> = page.iter().map(|old| old.id).collect();
        let Some(last) = ids.last() else {
            return Ok(tally);
        };
        after = Some(*last);
        let known = desk.known(Known::Messages, &ids).await?;
        let mut rows = Rows::new(INTO_MESSAGES);
        for old in page {
            tally.found += 1;
            if known.contains(&old.id) {
                tally.already += 1;
                continue;
            }
            match message(&old, desk) {
                Ok(row) => {
                    tally.imported += 1;
                    rows.rows.push(row);
                }
                Err(reason) => tally.skip(old.id, reason),
            }
        }
        desk.write(vec![rows]).await?;
    }
}

fn message(old: &OldMessage, desk: &Desk<'_>) -> std::result::Result<Vec<Value>, String> {
    let author = old.user_id.map(i64::from);
    let Some(author) = author.filter(|author| desk.users.contains(author)) else {
        return Err("its author was not taken over".to_owned());
    };
    if let Some(worker) = old
        .worker_id
        .filter(|worker| !desk.workers.contains(worker))
    {
        return Err(format!("worker {worker} was not taken over"));
    }
    let (Some(text), Some(expires)) = (&old.message, old.expires) else {
        return Err("it has no text, or no end".to_owned());
    };
    if expires <= desk.now.0 {
        return Err("it has expired".to_owned());
    }
    let origin = old.origin.clone().unwrap_or_default();
    let created = old.created.unwrap_or(desk.now.0);
    let text = text.clone();
    Ok(args![
        old.id,
        author,
        old.worker_id,
        text,
        origin,
        created,
        expires
    ])
}

async fn problems(desk: &mut Desk<'_>) -> Result<Tally> {
    let mut tally = Tally::new("user_problem_jobs");
    let mut after = None;
    loop {
        let page: Vec<OldProblem> = desk.source.numbered(PROBLEMS, after).await?;
        let Some(last) = page.last() else {
            return Ok(tally);
        };
        after = Some(last.id);
        let sql = format!(
            "SELECT job FROM problem_jobs WHERE job IN ({})",
            places(1, page.len())
        );
        let jobs = page.iter().map(|old| Value::from(old.job_id)).collect();
        let known: Vec<(Uuid,)> = desk.reader().await?.all_made(sql, jobs).await?;
        let mut known: std::collections::HashSet<Uuid> =
            known.into_iter().map(|(job,)| job).collect();
        let mut rows = Rows::new(INTO_PROBLEMS);
        for old in page {
            tally.found += 1;
            if !desk.users.contains(&i64::from(old.user_id)) {
                tally.skip(
                    old.id,
                    format!("account {} was not taken over", old.user_id),
                );
                continue;
            }
            if !known.insert(old.job_id) {
                tally.already += 1;
                continue;
            }
            tally.imported += 1;
            rows.rows.push(args![
                old.job_id,
                i64::from(old.user_id),
                old.proxied_account,
                old.ipaddr,
                old.worker_id,
                old.created,
            ]);
        }
        desk.write(vec![rows]).await?;
    }
}
