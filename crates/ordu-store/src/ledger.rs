//! Movements of kudos: recorded once, never changed, folded into balances behind.

use ordu_api::UserId;
use ordu_core::Kudos;
use ordu_core::ledger::{Account, Event};
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::pool::{Connection, args};
use crate::writer::{Kind, Part, Statements, Write};
use crate::{Store, json};

/// The stored number of the mint.
const MINT: i64 = -1;

/// How the record of an event went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Now, by this call.
    Now,
    /// The same event was recorded before; nothing moved.
    Already,
    /// Another event has this id and reason; nothing moved.
    Conflict,
}

/// What an account has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Folded: what can be spent.
    pub spendable: Kudos,
    /// Folded: what is in escrow.
    pub escrow: Kudos,
    /// Not yet folded: what came in to spend.
    pub unfolded_credit: Kudos,
    /// Not yet folded: what was spent. Never negative.
    pub unfolded_debit: Kudos,
    /// Not yet folded: how the escrow changed.
    pub unfolded_escrow: Kudos,
}

/// A balance that is not what its postings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discrepancy {
    /// Whose.
    pub user: UserId,
    /// What the user can spend, as stored.
    pub spendable: Kudos,
    /// What it should be.
    pub spendable_posted: Kudos,
    /// What is in escrow, as stored.
    pub escrow: Kudos,
    /// What it should be.
    pub escrow_posted: Kudos,
}

/// An account's stored number: the mint is -1, users have two each.
pub(crate) const fn account_number(account: Account) -> i64 {
    match account {
        Account::Mint => MINT,
        Account::Spendable(user) => user.get() * 2,
        Account::Escrow(user) => user.get() * 2 + 1,
    }
}

/// The account with a stored number.
pub(crate) fn account(number: i64) -> Result<Account> {
    if number == MINT {
        return Ok(Account::Mint);
    }
    let user = UserId::new(number.div_euclid(2));
    let user = user.ok_or_else(|| Error::corrupt("ledger account", &number.to_string()))?;
    Ok(if number % 2 == 0 {
        Account::Spendable(user)
    } else {
        Account::Escrow(user)
    })
}

/// A ledger entry as the statements take it.
#[derive(Debug, Serialize)]
pub(crate) struct EntryRow<'a> {
    pub(crate) token: String,
    pub(crate) event: String,
    pub(crate) reason: &'a str,
    pub(crate) line: usize,
    pub(crate) source: i64,
    pub(crate) target: i64,
    pub(crate) amount: i64,
    pub(crate) kind: Option<&'a str>,
    pub(crate) at: i64,
}

/// The JSON of events that belong to a write.
pub(crate) fn entry_rows(token: Uuid, events: &[Event]) -> Result<String> {
    let entries = events.iter().flat_map(|event| {
        let lines = event.entries.iter().enumerate();
        lines.map(move |(line, entry)| (event, line, entry))
    });
    let mut rows = Vec::new();
    for (event, line, entry) in entries {
        if entry.amount < Kudos::ZERO {
            let message = format!("an entry of the ledger moves {} kudos", entry.amount);
            return Err(Error::Invalid(message));
        }
        rows.push(EntryRow {
            token: json::hex(token),
            event: json::hex(event.id),
            reason: entry.reason.name(),
            line,
            source: account_number(entry.from),
            target: account_number(entry.to),
            amount: entry.amount.milli(),
            kind: event.kind.map(ordu_api::worker::WorkKind::name),
            at: event.at.0,
        });
    }
    json::rows(rows)
}

/// The step of writes that carry ledger entries, on SQLite.
pub(crate) const INSERT_ENTRIES_SQLITE: &str = "
    INSERT INTO ledger (event, reason, line, source, target, amount, kind, happened_at)
    SELECT unhex(value ->> 'event'), value ->> 'reason', value ->> 'line', value ->> 'source',
        value ->> 'target', value ->> 'amount', value ->> 'kind', value ->> 'at'
    FROM jsonb_each($1)";

#[derive(Debug, Serialize)]
struct ReasonRow<'a> {
    event: String,
    reason: &'a str,
}

/// Rows: [`ReasonRow`], ledger entries.
pub(crate) const RECORD: Statements = Statements {
    postgres: "
    WITH won AS (
        SELECT i.event AS id
        FROM json_to_recordset(CAST($1 AS JSON)) AS i (event UUID, reason TEXT)
        WHERE NOT EXISTS (SELECT 1
                          FROM ledger AS l
                          WHERE l.event = i.event AND l.reason = i.reason)
    ), entries AS (
        INSERT INTO ledger
            (event, reason, line, source, target, amount, kind, happened_at)
        SELECT e.event, e.reason, e.line, e.source, e.target, e.amount, e.kind, e.at
        FROM json_to_recordset(CAST($2 AS JSON)) AS e (
            token UUID, event UUID, reason TEXT, line BIGINT, source BIGINT, target BIGINT,
            amount BIGINT, kind TEXT, at BIGINT)
        JOIN won ON won.id = e.token
    )
    SELECT id FROM won",
    sqlite: "
    SELECT unhex(i.value ->> 'event')
    FROM jsonb_each($1) AS i
    WHERE NOT EXISTS (SELECT 1
                      FROM ledger AS l
                      WHERE l.event = unhex(i.value ->> 'event')
                          AND l.reason = i.value ->> 'reason')",
    sqlite_returning: None,
    sqlite_then: &[(Part::First, INSERT_ENTRIES_SQLITE)],
    parts: 2,
};

const FIND_LINES: &str = "
    SELECT reason, line, source, target, amount
    FROM ledger
    WHERE event = $1";

/// One statement, so one snapshot: a fold in between would count a line twice or not at all.
const BALANCE: &str = "
    SELECT u.spendable, u.escrow, moved.credit, moved.debit, moved.escrow_change
    FROM users AS u
        CROSS JOIN (
            SELECT
                CAST(COALESCE(SUM(CASE WHEN target = $2 THEN amount ELSE 0 END), 0) AS BIGINT)
                    AS credit,
                CAST(COALESCE(SUM(CASE WHEN source = $2 THEN amount ELSE 0 END), 0) AS BIGINT)
                    AS debit,
                CAST(COALESCE(SUM(CASE WHEN target = $3 THEN amount ELSE 0 END
                                  - CASE WHEN source = $3 THEN amount ELSE 0 END), 0) AS BIGINT)
                    AS escrow_change
            FROM ledger
            WHERE NOT folded AND (source IN ($2, $3) OR target IN ($2, $3))
        ) AS moved
    WHERE u.id = $1";

/// Balances beyond their opening, plus what is unfolded, plus what the mint gave: always zero.
const SUM: &str = "
    SELECT CAST(
        (SELECT COALESCE(SUM(spendable + escrow - opening_spendable - opening_escrow), 0)
         FROM users)
        + (SELECT COALESCE(SUM(CASE WHEN target >= 0 THEN amount ELSE 0 END
                              - CASE WHEN source >= 0 THEN amount ELSE 0 END), 0)
           FROM ledger
           WHERE NOT folded)
        + (SELECT COALESCE(SUM(CASE WHEN target = -1 THEN amount ELSE 0 END
                              - CASE WHEN source = -1 THEN amount ELSE 0 END), 0)
           FROM ledger)
        AS BIGINT)";

const AUDIT: &str = "
    WITH postings AS (
        SELECT target AS account, amount
        FROM ledger
        WHERE folded
        UNION ALL
        SELECT source, -amount
        FROM ledger
        WHERE folded
    ), sums AS (
        SELECT account, CAST(SUM(amount) AS BIGINT) AS amount
        FROM postings
        GROUP BY account
    )
    SELECT u.id, u.spendable, u.opening_spendable + COALESCE(s.amount, 0),
        u.escrow, u.opening_escrow + COALESCE(e.amount, 0)
    FROM users AS u
        LEFT JOIN sums AS s ON s.account = u.id * 2
        LEFT JOIN sums AS e ON e.account = u.id * 2 + 1
    WHERE u.spendable <> u.opening_spendable + COALESCE(s.amount, 0)
        OR u.escrow <> u.opening_escrow + COALESCE(e.amount, 0)
    ORDER BY u.id";

/// What a user has, as this connection sees it.
pub(crate) async fn read_balance(connection: &mut Connection, user: UserId) -> Result<Balance> {
    let spendable = account_number(Account::Spendable(user));
    let escrow = account_number(Account::Escrow(user));
    let values = args![user.get(), spendable, escrow];
    let row: Option<(i64, i64, i64, i64, i64)> = connection.one(BALANCE, values).await?;
    let (spendable, escrow, credit, debit, escrow_change) = row.ok_or(Error::NotFound)?;
    Ok(Balance {
        spendable: Kudos::from_milli(spendable),
        escrow: Kudos::from_milli(escrow),
        unfolded_credit: Kudos::from_milli(credit),
        unfolded_debit: Kudos::from_milli(debit),
        unfolded_escrow: Kudos::from_milli(escrow_change),
    })
}

impl Store {
    /// Writes the movements of an event, once for its id and reason.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it moves nothing, or a negative amount.
    pub async fn record(&self, event: &Event) -> Result<Recorded> {
        let Some(first) = event.entries.first() else {
            return Err(Error::Invalid("an event that moves nothing".to_owned()));
        };
        let row = ReasonRow {
            event: json::hex(event.id),
            reason: first.reason.name(),
        };
        let write = Write {
            kind: Kind::Record,
            key: event.id,
            token: event.id,
            row: json::object(&row)?,
            first: entry_rows(event.id, std::slice::from_ref(event))?,
            second: String::new(),
        };
        if self.writer.write(write).await? {
            return Ok(Recorded::Now);
        }
        Ok(if self.has_lines(event).await? {
            Recorded::Already
        } else {
            Recorded::Conflict
        })
    }

    /// Whether the ledger has exactly the event's lines for each of its reasons.
    async fn has_lines(&self, event: &Event) -> Result<bool> {
        let rows: Vec<(String, i64, i64, i64, i64)> =
            self.pool.all(FIND_LINES, args![event.id]).await?;
        let mut stored: Vec<(&str, i64, i64, i64, i64)> = rows
            .iter()
            .map(|(reason, line, source, target, amount)| {
                (reason.as_str(), *line, *source, *target, *amount)
            })
            .filter(|(reason, ..)| event.entries.iter().any(|e| e.reason.name() == *reason))
            .collect();
        stored.sort_unstable();
        let mut wanted: Vec<(&str, i64, i64, i64, i64)> = (0_i64..)
            .zip(&event.entries)
            .map(|(line, entry)| {
                let (source, target) = (account_number(entry.from), account_number(entry.to));
                (
                    entry.reason.name(),
                    line,
                    source,
                    target,
                    entry.amount.milli(),
                )
            })
            .collect();
        wanted.sort_unstable();
        Ok(stored == wanted)
    }

    /// What a user has, folded and not.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such user.
    pub async fn balance(&self, user: UserId) -> Result<Balance> {
        read_balance(&mut self.pool.reader().await?, user).await
    }

    /// The sum over all accounts, the mint included, beyond their opening balances: zero, or the
    /// books are wrong.
    pub async fn ledger_sum(&self) -> Result<Kudos> {
        let sum: Option<(i64,)> = self.pool.one(SUM, args![]).await?;
        Ok(Kudos::from_milli(sum.unwrap_or_default().0))
    }

    /// Accounts whose balance is not their opening plus their folded postings: none, or the books
    /// are wrong.
    pub async fn audit(&self) -> Result<Vec<Discrepancy>> {
        let rows: Vec<(i64, i64, i64, i64, i64)> = self.pool.all(AUDIT, args![]).await?;
        let discrepancy = |(user, spendable, spendable_posted, escrow, escrow_posted)| {
            Some(Discrepancy {
                user: UserId::new(user)?,
                spendable: Kudos::from_milli(spendable),
                spendable_posted: Kudos::from_milli(spendable_posted),
                escrow: Kudos::from_milli(escrow),
                escrow_posted: Kudos::from_milli(escrow_posted),
            })
        };
        Ok(rows.into_iter().filter_map(discrepancy).collect())
    }
}
