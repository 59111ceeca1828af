//! Accounts.

use ordu_api::UserId;
use ordu_core::{Kudos, Timestamp};
use sqlx::FromRow;

use crate::error::{Error, Result};
use crate::pool::{Connection, Dialect, Pool, Value, args};
use crate::worker::found;
use crate::{Store, json};

/// What the anonymous account may have waiting at once.
const ANONYMOUS_CONCURRENCY: i64 = 500;

/// The anonymous account's external identity.
const ANONYMOUS_SUBJECT: &str = "anon";

/// A new account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// The name before the `#`.
    pub username: String,
    /// The hash of its key.
    pub key_hash: Option<String>,
    /// The external identity; a UUID for accounts that have none.
    pub subject: String,
    /// How much it may have waiting at once.
    pub concurrency: i64,
    /// When.
    pub created: Timestamp,
}

/// What an account is allowed or denied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
#[expect(
    clippy::struct_excessive_bools,
    missing_docs,
    reason = "the protocol's independent roles, `community.md` § 2.3"
)]
pub struct Roles {
    pub moderator: bool,
    pub trusted: bool,
    pub flagged: bool,
    pub customizer: bool,
    pub vpn: bool,
    pub service: bool,
    pub education: bool,
    pub special: bool,
    pub deleted: bool,
}

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Its number.
    pub id: UserId,
    /// The name before the `#`.
    pub username: String,
    /// The hash of its key.
    pub key_hash: Option<String>,
    /// The external identity.
    pub subject: Option<String>,
    /// Roles.
    pub roles: Roles,
    /// Whether everybody sees its workers.
    pub public_workers: bool,
    /// How to reach it.
    pub contact: Option<String>,
    /// A note among moderators.
    pub admin_comment: Option<String>,
    /// Proof that it may speak for its clients' addresses.
    pub proxy_passkey: Option<String>,
    /// How much it may have waiting at once.
    pub concurrency: i64,
    /// How many workers it may have while only invited ones may join.
    pub worker_invited: i64,
    /// Scales its recorded usage.
    pub usage_multiplier: f64,
    /// Granted each month.
    pub monthly_kudos: Kudos,
    /// When it was last granted.
    pub monthly_received: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When it last did something that counts.
    pub last_active: Timestamp,
    /// What it can spend, as far as folded.
    pub spendable: Kudos,
    /// What it has in escrow, as far as folded.
    pub escrow: Kudos,
}

/// What to change about an account; `None` stays as it is. An empty text removes the text.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the members of `User` and `Roles`")]
pub struct UserChange {
    pub username: Option<String>,
    pub key_hash: Option<String>,
    pub moderator: Option<bool>,
    pub trusted: Option<bool>,
    pub flagged: Option<bool>,
    pub customizer: Option<bool>,
    pub vpn: Option<bool>,
    pub service: Option<bool>,
    pub education: Option<bool>,
    pub special: Option<bool>,
    pub deleted: Option<bool>,
    pub public_workers: Option<bool>,
    pub contact: Option<String>,
    pub admin_comment: Option<String>,
    pub proxy_passkey: Option<String>,
    pub concurrency: Option<i64>,
    pub worker_invited: Option<i64>,
    pub usage_multiplier: Option<f64>,
    pub monthly_kudos: Option<Kudos>,
    pub monthly_received: Option<Timestamp>,
}

/// The order of the list of users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UserSort {
    /// The richest first.
    #[default]
    Kudos,
    /// The oldest first.
    Age,
}

#[derive(Debug, FromRow)]
struct UserRow {
    id: i64,
    username: String,
    key_hash: Option<String>,
    subject: Option<String>,
    #[sqlx(flatten)]
    roles: Roles,
    public_workers: bool,
    contact: Option<String>,
    admin_comment: Option<String>,
    proxy_passkey: Option<String>,
    concurrency: i64,
    worker_invited: i64,
    usage_multiplier: f64,
    monthly_kudos: i64,
    monthly_received: Option<i64>,
    created: i64,
    last_active: i64,
    spendable: i64,
    escrow: i64,
}

impl UserRow {
    fn into_user(self) -> Result<User> {
        let id = UserId::new(self.id);
        Ok(User {
            id: id.ok_or_else(|| Error::corrupt("users.id", &self.id.to_string()))?,
            username: self.username,
            key_hash: self.key_hash,
            subject: self.subject,
            roles: self.roles,
            public_workers: self.public_workers,
            contact: self.contact,
            admin_comment: self.admin_comment,
            proxy_passkey: self.proxy_passkey,
            concurrency: self.concurrency,
            worker_invited: self.worker_invited,
            usage_multiplier: self.usage_multiplier,
            monthly_kudos: Kudos::from_milli(self.monthly_kudos),
            monthly_received: self.monthly_received.map(Timestamp),
            created: Timestamp(self.created),
            last_active: Timestamp(self.last_active),
            spendable: Kudos::from_milli(self.spendable),
            escrow: Kudos::from_milli(self.escrow),
        })
    }
}

/// A user with what it spent that is not folded yet. Its account that can be spent has twice its
/// number in the ledger.
#[derive(Debug, FromRow)]
struct AccountRow {
    #[sqlx(flatten)]
    user: UserRow,
    unfolded_debit: i64,
}

impl AccountRow {
    fn into_account(self) -> Result<(User, Kudos)> {
        let debit = Kudos::from_milli(self.unfolded_debit);
        Ok((self.user.into_user()?, debit))
    }
}

/// The members of [`UserRow`] and what comes after them, before a condition.
macro_rules! select_users {
    ($condition:literal) => {
        select_users!("", $condition)
    };
    ($more:literal, $condition:literal) => {
        concat!(
            "
    SELECT id, username, key_hash, subject, moderator, trusted, flagged, customizer, vpn,
        service, education, special, deleted, public_workers, contact, admin_comment,
        proxy_passkey, concurrency, worker_invited, usage_multiplier, monthly_kudos,
        monthly_received, created, last_active, spendable, escrow",
            $more,
            "
    FROM users
    WHERE NOT wiped ",
            $condition
        )
    };
}

/// The members of [`AccountRow`]: one statement, so one round trip and one snapshot.
macro_rules! select_accounts {
    ($condition:literal) => {
        select_users!(
            ",
        (SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT)
         FROM ledger
         WHERE NOT folded AND source = 2 * users.id) AS unfolded_debit",
            $condition
        )
    };
}

/// The same of many: what is not folded is looked through once for all of them; PostgreSQL would do that
/// for each if it were not told to keep it. `$wanted` selects their numbers, as `id`.
macro_rules! list_accounts {
    ($wanted:literal) => {
        concat!(
            "
    WITH wanted (id) AS (",
            $wanted,
            "),
        debits AS MATERIALIZED (
            SELECT source, SUM(amount) AS amount
            FROM ledger
            WHERE NOT folded AND source IN (SELECT 2 * id FROM wanted)
            GROUP BY source)",
            select_users!(
                ",
        (SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT)
         FROM debits
         WHERE source = 2 * users.id) AS unfolded_debit",
                "AND id IN (SELECT id FROM wanted)"
            )
        )
    };
}

const LIST_ACCOUNTS_SQLITE: &str = list_accounts!("SELECT value FROM json_each($1)");
const LIST_ACCOUNTS_POSTGRES: &str = list_accounts!(
    "SELECT CAST(id AS BIGINT) FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id)"
);
const FIND_ACCOUNT: &str = select_accounts!("AND id = $1");
const FIND_ACCOUNT_BY_KEY: &str = select_accounts!("AND key_hash = $1");
const FIND: &str = select_users!("AND id = $1");
const FIND_BY_SUBJECT: &str = select_users!("AND subject = $1");
const LIST_SQLITE: &str = select_users!("AND id IN (SELECT value FROM json_each($1))");
const LIST_POSTGRES: &str = select_users!(
    "AND id IN (SELECT CAST(id AS BIGINT)
                FROM json_array_elements_text(CAST($1 AS JSON)) AS list (id))"
);

const RANK_BY_KUDOS: &str = "
    SELECT id
    FROM users
    WHERE NOT wiped
    ORDER BY spendable DESC, id
    LIMIT $1";

const RANK_BY_AGE: &str = "
    SELECT id
    FROM users
    WHERE NOT wiped
    ORDER BY created, id
    LIMIT $1";

const FIND_BY_CONTACT_SQLITE: &str = "
    SELECT id, contact
    FROM users
    WHERE NOT wiped AND contact IN (SELECT value FROM json_each($1))
    ORDER BY id";

const FIND_BY_CONTACT_POSTGRES: &str = "
    SELECT id, contact
    FROM users
    WHERE NOT wiped AND contact IN (SELECT contact
                                    FROM json_array_elements_text(CAST($1 AS JSON))
                                        AS list (contact))
    ORDER BY id";

const LIST_GRANTS: &str = select_users!(
    "AND (monthly_kudos > 0 OR moderator)
        AND (monthly_received IS NULL OR monthly_received <= $1)
    ORDER BY id
    LIMIT $2"
);

// Whatever conflicts: of two nodes that start at once, one may meet the other in either index.
const ENSURE_ANONYMOUS: &str = "
    INSERT INTO users
        (id, username, subject, concurrency, public_workers, created, last_active)
    VALUES (0, 'Anonymous', $1, $2, TRUE, $3, $3)
    ON CONFLICT DO NOTHING";

const NEXT_ID: &str = "
    UPDATE sequences
    SET next = next + 1
    WHERE name = 'user'
    RETURNING next - 1";

/// In the transaction that took it, so that nobody else was given one meanwhile.
pub(crate) const GIVE_ID_BACK: &str = "
    UPDATE sequences
    SET next = next - 1
    WHERE name = 'user'";

const INSERT: &str = "
    INSERT INTO users (id, username, key_hash, subject, concurrency, created, last_active)
    VALUES ($1, $2, $3, $4, $5, $6, $6)";

const UPDATE: &str = "
    UPDATE users
    SET username = COALESCE($2, username),
        key_hash = COALESCE($3, key_hash),
        moderator = COALESCE($4, moderator),
        trusted = COALESCE($5, trusted),
        flagged = COALESCE($6, flagged),
        customizer = COALESCE($7, customizer),
        vpn = COALESCE($8, vpn),
        service = COALESCE($9, service),
        education = COALESCE($10, education),
        special = COALESCE($11, special),
        deleted = COALESCE($12, deleted),
        public_workers = COALESCE($13, public_workers),
        contact = NULLIF(COALESCE($14, contact), ''),
        admin_comment = NULLIF(COALESCE($15, admin_comment), ''),
        proxy_passkey = NULLIF(COALESCE($16, proxy_passkey), ''),
        concurrency = COALESCE($17, concurrency),
        worker_invited = COALESCE($18, worker_invited),
        usage_multiplier = COALESCE($19, usage_multiplier),
        monthly_kudos = COALESCE($20, monthly_kudos),
        monthly_received = COALESCE($21, monthly_received)
    WHERE id = $1 AND NOT wiped";

const WIPE: &str = "
    UPDATE users
    SET username = '', key_hash = NULL, subject = NULL, contact = NULL, admin_comment = NULL,
        proxy_passkey = NULL, deleted = TRUE, wiped = TRUE
    WHERE id = $1 AND id > 0 AND NOT wiped";

const WIPE_WORKERS: &str = "
    DELETE FROM workers
    WHERE owner = $1";

const WIPE_SUSPICIONS: &str = "
    DELETE FROM suspicions
    WHERE owner = $1";

const WIPE_PROBLEM_JOBS: &str = "
    DELETE FROM problem_jobs
    WHERE owner = $1";

const WIPE_SHARED_KEYS: &str = "
    DELETE FROM shared_keys
    WHERE owner = $1";

const WIPE_COLLECTIONS: &str = "
    DELETE FROM collections
    WHERE owner = $1";

const WIPE_STYLES: &str = "
    DELETE FROM styles
    WHERE owner = $1";

const WIPE_REGISTRATION: &str = "
    DELETE FROM registrations
    WHERE account = $1";

/// That somebody did something stays, what the account was like goes.
const WIPE_AUDIT: &str = "
    UPDATE audit
    SET before = '{}', after = '{}'
    WHERE target_kind = 'user' AND target = CAST($1 AS TEXT)";

const DETACH_SHARED_KEYS: &str = "
    UPDATE styles
    SET shared_key = NULL
    WHERE shared_key IN (SELECT id FROM shared_keys WHERE owner = $1)";

pub(crate) const WRITE_ACTIVE_SQLITE: &str = "
    UPDATE users
    SET last_active = MAX(last_active, i.value ->> 'at')
    FROM json_each($1) AS i
    WHERE users.id = i.value ->> 'id'";

pub(crate) const WRITE_ACTIVE_POSTGRES: &str = "
    UPDATE users AS u
    SET last_active = GREATEST(u.last_active, i.at)
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (id BIGINT, at BIGINT)
    WHERE u.id = i.id";

/// Makes the account that everybody shares, if it is missing.
pub(crate) async fn ensure_anonymous(pool: &Pool, now: Timestamp) -> Result<()> {
    let values = args![ANONYMOUS_SUBJECT, ANONYMOUS_CONCURRENCY, now.0];
    pool.execute(ENSURE_ANONYMOUS, values).await?;
    Ok(())
}

/// Takes the next number as part of a transaction.
pub(crate) async fn next_id(connection: &mut Connection) -> Result<UserId> {
    let next: Option<(i64,)> = connection.one(NEXT_ID, args![]).await?;
    let id = next.and_then(|(id,)| UserId::new(id));
    id.ok_or_else(|| Error::Invalid("no user number is left".to_owned()))
}

/// Makes an account as part of a transaction.
pub(crate) async fn insert(connection: &mut Connection, id: UserId, user: &NewUser) -> Result<()> {
    let values = args![
        id.get(),
        user.username.clone(),
        user.key_hash.clone(),
        user.subject.clone(),
        user.concurrency,
        user.created.0,
    ];
    connection.execute(INSERT, values).await?;
    Ok(())
}

/// Changes an account as part of a transaction.
pub(crate) async fn update(
    connection: &mut Connection,
    id: UserId,
    change: &UserChange,
) -> Result<()> {
    let values = update_values(id, change);
    found(connection.execute(UPDATE, values).await?)
}

fn update_values(id: UserId, change: &UserChange) -> Vec<Value> {
    args![
        id.get(),
        change.username.clone(),
        change.key_hash.clone(),
        change.moderator,
        change.trusted,
        change.flagged,
        change.customizer,
        change.vpn,
        change.service,
        change.education,
        change.special,
        change.deleted,
        change.public_workers,
        change.contact.clone(),
        change.admin_comment.clone(),
        change.proxy_passkey.clone(),
        change.concurrency,
        change.worker_invited,
        change.usage_multiplier,
        change.monthly_kudos.map(Kudos::milli),
        change.monthly_received.map(|at| at.0),
    ]
}

impl Store {
    /// Makes an account with the next number.
    ///
    /// # Errors
    /// [`Error::Taken`] when the key or the subject has an account.
    pub async fn insert_user(&self, user: &NewUser) -> Result<UserId> {
        let mut connection = self.pool.begin().await?;
        let inserted = async {
            let id = next_id(&mut connection).await?;
            insert(&mut connection, id, user).await?;
            Ok(id)
        }
        .await;
        connection.end(inserted).await
    }

    /// One account. Wiped ones are never found.
    pub async fn find_user(&self, id: UserId) -> Result<Option<User>> {
        let row: Option<UserRow> = self.pool.one(FIND, args![id.get()]).await?;
        row.map(UserRow::into_user).transpose()
    }

    /// An account by its number, with what it spent that is not folded yet.
    pub async fn find_account(&self, id: UserId) -> Result<Option<(User, Kudos)>> {
        let row: Option<AccountRow> = self.pool.one(FIND_ACCOUNT, args![id.get()]).await?;
        row.map(AccountRow::into_account).transpose()
    }

    /// The same of the account with the key that has this hash.
    pub async fn find_account_by_key(&self, key_hash: &str) -> Result<Option<(User, Kudos)>> {
        let row: Option<AccountRow> = self.pool.one(FIND_ACCOUNT_BY_KEY, args![key_hash]).await?;
        row.map(AccountRow::into_account).transpose()
    }

    /// Some accounts with what of their debits is not folded yet, in no order; those that are not there
    /// are left out.
    pub async fn list_accounts(&self, ids: &[UserId]) -> Result<Vec<(User, Kudos)>> {
        let sql = match self.pool.dialect() {
            Dialect::Sqlite => LIST_ACCOUNTS_SQLITE,
            Dialect::Postgres => LIST_ACCOUNTS_POSTGRES,
        };
        let ids: Vec<i64> = ids.iter().copied().map(UserId::get).collect();
        let rows: Vec<AccountRow> = self.pool.all(sql, args![json::object(&ids)?]).await?;
        rows.into_iter().map(AccountRow::into_account).collect()
    }

    /// The account of an external identity.
    pub async fn find_user_by_subject(&self, subject: &str) -> Result<Option<User>> {
        let row: Option<UserRow> = self.pool.one(FIND_BY_SUBJECT, args![subject]).await?;
        row.map(UserRow::into_user).transpose()
    }

    /// The numbers of the first `limit` accounts in an order. It looks at all accounts: keep what
    /// it answers.
    pub async fn rank_users(&self, sort: UserSort, limit: u32) -> Result<Vec<UserId>> {
        let sql = match sort {
            UserSort::Kudos => RANK_BY_KUDOS,
            UserSort::Age => RANK_BY_AGE,
        };
        let rows: Vec<(i64,)> = self.pool.all(sql, args![i64::from(limit)]).await?;
        Ok(rows
            .into_iter()
            .filter_map(|(id,)| UserId::new(id))
            .collect())
    }

    /// Some accounts, in no order; those that are not there are left out.
    pub async fn list_users(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let sql = match self.pool.dialect() {
            Dialect::Sqlite => LIST_SQLITE,
            Dialect::Postgres => LIST_POSTGRES,
        };
        let ids: Vec<i64> = ids.iter().copied().map(UserId::get).collect();
        let rows = self.pool.all(sql, args![json::object(&ids)?]).await?;
        rows.into_iter().map(UserRow::into_user).collect()
    }

    /// The accounts that can be reached at one of these addresses, oldest first. It looks at all
    /// accounts.
    pub async fn find_users_by_contact(
        &self,
        contacts: &[String],
    ) -> Result<Vec<(UserId, String)>> {
        let sql = match self.pool.dialect() {
            Dialect::Sqlite => FIND_BY_CONTACT_SQLITE,
            Dialect::Postgres => FIND_BY_CONTACT_POSTGRES,
        };
        let rows: Vec<(i64, String)> = self.pool.all(sql, args![json::object(&contacts)?]).await?;
        let user = |(id, contact)| UserId::new(id).map(|id| (id, contact));
        Ok(rows.into_iter().filter_map(user).collect())
    }

    /// Some of those who are given something each month and got the last of it by `before`, or
    /// never.
    pub async fn list_grants(&self, before: Timestamp, limit: u32) -> Result<Vec<User>> {
        let values = args![before.0, i64::from(limit)];
        let rows = self.pool.all(LIST_GRANTS, values).await?;
        rows.into_iter().map(UserRow::into_user).collect()
    }

    /// Changes an account, all of it at once.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Taken`] when another account has the key.
    pub async fn update_user(&self, id: UserId, change: &UserChange) -> Result<()> {
        found(self.pool.execute(UPDATE, update_values(id, change)).await?)
    }

    /// Removes everything personal from an account and deletes its workers, shared keys, styles and
    /// collections, for good. The history of its kudos stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; the anonymous account counts as not found.
    pub async fn wipe_user(&self, id: UserId) -> Result<()> {
        let mut connection = self.pool.begin().await?;
        let wiped = async {
            found(connection.execute(WIPE, args![id.get()]).await?)?;
            let all = [
                WIPE_WORKERS,
                WIPE_SUSPICIONS,
                WIPE_PROBLEM_JOBS,
                WIPE_COLLECTIONS,
                WIPE_STYLES,
                DETACH_SHARED_KEYS,
                WIPE_SHARED_KEYS,
                WIPE_REGISTRATION,
                WIPE_AUDIT,
            ];
            for sql in all {
                connection.execute(sql, args![id.get()]).await?;
            }
            Ok(())
        }
        .await;
        connection.end(wiped).await
    }

    /// Notes that an account did something; written within a second or so, lost in a crash.
    pub fn active_later(&self, user: UserId, at: Timestamp) {
        self.behind.active(user, at);
    }
}
