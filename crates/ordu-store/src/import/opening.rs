//! The balance that an account brings along: entered into the ledger once, by the account's number.

use ordu_api::UserId;
use ordu_core::Timestamp;
use ordu_core::ledger::{Account, Reason};
use uuid::Uuid;

use crate::ledger::account_number;
use crate::pool::{InsertInto, Value};

/// The first half of the ids of opening entries; the second is the account's number.
const NAMESPACE: u64 = 0x6f72_6475_6f70_656e;

/// Balances carry the lines already, so the lines count as folded.
pub(super) const INTO_LEDGER: InsertInto<'static> = InsertInto {
    table: "ledger",
    columns: &[
        "event",
        "reason",
        "line",
        "source",
        "target",
        "amount",
        "happened_at",
        "folded",
    ],
    suffix: "",
};

/// The id of an account's opening entry.
pub(super) fn event(user: UserId) -> Uuid {
    Uuid::from_u64_pair(NAMESPACE, user.get().unsigned_abs())
}

/// The lines that give an account these balances, in millikudos, out of the mint. An account that
/// has nothing gets a line of nothing: it says that the account was taken over.
pub(super) fn lines(user: UserId, spendable: i64, escrow: i64, now: Timestamp) -> Vec<Vec<Value>> {
    let mut lines = vec![line(0, user, Account::Spendable(user), spendable, now)];
    if escrow != 0 {
        lines.push(line(1, user, Account::Escrow(user), escrow, now));
    }
    lines
}

fn line(number: i64, user: UserId, account: Account, amount: i64, now: Timestamp) -> Vec<Value> {
    let (mint, account) = (account_number(Account::Mint), account_number(account));
    let (source, target) = if amount < 0 {
        (account, mint)
    } else {
        (mint, account)
    };
    crate::pool::args![
        event(user),
        Reason::Reconciliation.name(),
        number,
        source,
        target,
        amount.saturating_abs(),
        now.0,
        true,
    ]
}
