//! The ledger as one account sees it: its movements, newest first.

use ordu_api::UserId;
use ordu_api::worker::WorkKind;
use ordu_core::ledger::Account;
use ordu_core::{Kudos, Timestamp};
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::ledger::{account, account_number};
use crate::pool::args;

/// One movement from or to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Which one.
    pub mark: PostingMark,
    /// Who lost.
    pub from: Account,
    /// Who gained.
    pub to: Account,
    /// How much; never negative.
    pub amount: Kudos,
    /// The kind of work behind it, if any.
    pub kind: Option<WorkKind>,
}

/// Names a movement, and its place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingMark {
    /// When it happened.
    pub at: Timestamp,
    /// The event that it is part of.
    pub event: Uuid,
    /// Why, by the name of [`ordu_core::ledger::Reason`].
    pub reason: String,
    /// Which of the event's movements it is.
    pub line: i64,
}

#[derive(Debug, FromRow)]
struct PostingRow {
    happened_at: i64,
    event: Uuid,
    reason: String,
    line: i64,
    source: i64,
    target: i64,
    amount: i64,
    kind: Option<String>,
}

impl PostingRow {
    fn into_posting(self) -> Result<Posting> {
        let read = |name: &str| {
            let kind = name.parse();
            kind.map_err(|_| Error::corrupt("ledger.kind", "unknown"))
        };
        Ok(Posting {
            from: account(self.source)?,
            to: account(self.target)?,
            amount: Kudos::from_milli(self.amount),
            kind: self.kind.as_deref().map(read).transpose()?,
            mark: PostingMark {
                at: Timestamp(self.happened_at),
                event: self.event,
                reason: self.reason,
                line: self.line,
            },
        })
    }
}

/// The newest movements that `$condition` holds for: `$1` is what the account can spend, `$2` its
/// escrow, `$3` to `$6` the mark before which they lie, `$7` how many.
macro_rules! newest {
    ($condition:literal) => {
        concat!(
            "
        SELECT * FROM (
            SELECT happened_at, event, reason, line, source, target, amount, kind
            FROM ledger
            WHERE ",
            $condition,
            " AND happened_at <= $3
                AND (happened_at < $3 OR (event, reason, line) < ($4, $5, $6))
            ORDER BY happened_at DESC, event DESC, reason DESC, line DESC
            LIMIT $7) AS side"
        )
    };
}

/// What is not folded yet is little; the rest is found by index, of each account for itself.
/// `UNION` drops what is there twice: a movement from an account's escrow to what it can spend.
const LIST: &str = concat!(
    "
    SELECT happened_at, event, reason, line, source, target, amount, kind
    FROM (",
    newest!("NOT folded AND $1 > 1 AND (source IN ($1, $2) OR target IN ($1, $2))"),
    "
        UNION",
    newest!("folded AND source > 1 AND source = $1"),
    "
        UNION",
    newest!("folded AND source > 1 AND source = $2"),
    "
        UNION",
    newest!("folded AND target > 1 AND target = $1"),
    "
        UNION",
    newest!("folded AND target > 1 AND target = $2"),
    ") AS sides
    ORDER BY happened_at DESC, event DESC, reason DESC, line DESC
    LIMIT $7"
);

impl Store {
    /// The movements of an account before a mark, or the newest of all. The account that everybody
    /// shares has none.
    pub async fn list_postings(
        &self,
        user: UserId,
        before: Option<&PostingMark>,
        limit: u32,
    ) -> Result<Vec<Posting>> {
        let end = PostingMark {
            at: Timestamp(i64::MAX),
            event: Uuid::nil(),
            reason: String::new(),
            line: 0,
        };
        let before = before.unwrap_or(&end);
        let values = args![
            account_number(Account::Spendable(user)),
            account_number(Account::Escrow(user)),
            before.at.0,
            before.event,
            before.reason.clone(),
            before.line,
            i64::from(limit),
        ];
        let rows: Vec<PostingRow> = self.pool.all(LIST, values).await?;
        rows.into_iter().map(PostingRow::into_posting).collect()
    }
}
