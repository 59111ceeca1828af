//! Accounts: made, found by key, and kept at hand so that a known key costs no round trip.
//!
//! What is kept is a copy: it is read again after ten seconds, so that what another process wrote
//! (the command line, another node) is noticed. Debits count at once, credits once they are folded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordu_api::{ApiKey, RequestId, ReturnCode, UserId};
use ordu_core::holds::Holds;
use ordu_core::ledger::{Account as LedgerAccount, Entry, Event, Reason};
use ordu_core::standing;
use ordu_core::{Kudos, Millis, Role, Roles, Standing, Timestamp};
use ordu_store::{NewUser, Store, User, UserChange};
use quick_cache::sync::Cache;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::{ApiError, ApiResult};
use crate::secret::{KeyHash, NoRandomness, Secret, new_api_key};
use crate::shared_keys::SharedKeys;
use crate::subscriptions::Subscriptions;

/// How long a copy counts as the truth.
const FRESH_FOR: Millis = Millis::from_seconds(10);

/// How many accounts are kept at hand.
const KEPT: usize = 100_000;

/// How many results an account may have waiting, if nobody decided otherwise.
pub(crate) const DEFAULT_CONCURRENCY: i64 = 30;

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// An account and what it can spend.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account as it is stored.
    pub user: User,
    /// What it can spend, debits that are not folded yet taken off.
    pub balance: Kudos,
    /// Whether its owner supports the horde with money.
    pub patron: bool,
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The name before the `#`.
    pub name: String,
    /// The external identity; made up if `None`.
    pub subject: Option<String>,
    /// Whether it is a moderator.
    pub moderator: bool,
    /// Whether it is trusted.
    pub trusted: bool,
    /// What it starts with.
    pub kudos: Kudos,
}

/// Why an account was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The store failed.
    #[error("the database failed")]
    Store(#[from] ordu_store::Error),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] NoRandomness),
    /// The name cannot be used.
    #[error("the name must have 1 to {MAX_NAME_CHARS} characters and no NUL")]
    Name,
}

impl Account {
    /// The public name, `name#id`.
    pub fn alias(&self) -> String {
        alias_of(&self.user)
    }

    /// The account as the rules see it, `held` being promised elsewhere.
    pub(crate) fn standing(&self, held: Kudos) -> Standing {
        Standing {
            user: self.user.id,
            alias: self.alias(),
            roles: self.roles(),
            kudos: self.balance - held,
        }
    }

    /// Takes a debit off. What would fall below the floor is forgiven, as it will be when the ledger
    /// is folded.
    fn debit(&mut self, amount: Kudos) {
        let floor = standing::floor(self.user.id, self.roles());
        self.balance = (self.balance - amount).at_least(floor);
    }

    /// The roles as the rules see them.
    pub(crate) fn roles(&self) -> Roles {
        let roles = roles_of(&self.user);
        if self.patron {
            roles.with(Role::Patron)
        } else {
            roles
        }
    }
}

/// The roles of a user as the rules see them.
pub(crate) fn roles_of(user: &User) -> Roles {
    let roles = &user.roles;
    let granted = [
        (roles.trusted, Role::Trusted),
        (roles.special, Role::Special),
        (roles.education, Role::Education),
        (roles.service, Role::Service),
        (roles.flagged, Role::Flagged),
        (roles.moderator, Role::Moderator),
        (roles.customizer, Role::Customizer),
        (roles.vpn, Role::Vpn),
        (is_pseudonymous(user), Role::Pseudonymous),
    ];
    granted
        .into_iter()
        .filter_map(|(has, role)| has.then_some(role))
        .collect()
}

/// The public name of a user, `name#id`.
pub(crate) fn alias_of(user: &User) -> String {
    format!("{}#{}", user.username, user.id)
}

/// Whether nobody vouches for who a user is.
pub(crate) fn is_pseudonymous(user: &User) -> bool {
    let subject = user.subject.as_ref();
    subject.is_some_and(|subject| Uuid::try_parse(subject).is_ok())
}

/// Finds an account with what it can spend.
pub async fn find(store: &Store, id: UserId) -> Result<Option<Account>, ordu_store::Error> {
    let found = store.find_account(id).await?;
    Ok(found.map(|(user, unfolded)| with_balance(user, unfolded)))
}

fn with_balance(user: User, unfolded_debit: Kudos) -> Account {
    let mut account = Account {
        balance: user.spendable,
        user,
        patron: false,
    };
    if unfolded_debit > Kudos::ZERO {
        account.debit(unfolded_debit);
    }
    account
}

/// Makes an account; its key is returned this once.
pub async fn add(
    store: &Store,
    secret: &Secret,
    new: NewAccount,
    now: Timestamp,
) -> Result<(Account, ApiKey), AccountError> {
    let length = new.name.chars().count();
    if length == 0 || length > MAX_NAME_CHARS || new.name.contains('\0') {
        return Err(AccountError::Name);
    }
    let key = new_api_key()?;
    let id = store
        .insert_user(&NewUser {
            username: new.name,
            key_hash: Some(secret.hash(&key)),
            subject: new
                .subject
                .unwrap_or_else(|| format!("local_{}", Uuid::new_v4())),
            concurrency: DEFAULT_CONCURRENCY,
            created: now,
        })
        .await?;
    let change = UserChange {
        moderator: Some(new.moderator),
        trusted: Some(new.trusted),
        ..UserChange::default()
    };
    store.update_user(id, &change).await?;
    grant(store, id, new.kudos, now).await?;
    let account = find(store, id).await?.ok_or(ordu_store::Error::NotFound)?;
    Ok((account, key))
}

/// Gives an account kudos, or takes them if `amount` is negative, and folds them at once.
pub async fn grant(
    store: &Store,
    user: UserId,
    amount: Kudos,
    now: Timestamp,
) -> Result<(), ordu_store::Error> {
    move_balance(store, user, amount, Reason::Admin, now).await
}

/// The same for another reason than a correction.
pub(crate) async fn move_balance(
    store: &Store,
    user: UserId,
    amount: Kudos,
    reason: Reason,
    now: Timestamp,
) -> Result<(), ordu_store::Error> {
    if amount == Kudos::ZERO {
        return Ok(());
    }
    let entry = if amount > Kudos::ZERO {
        Entry::reward(user, amount, reason)
    } else {
        Entry::burn(user, -amount, reason)
    };
    let event = Event {
        id: Uuid::new_v4(),
        at: now,
        kind: None,
        entries: vec![entry],
    };
    store.record(&event).await?;
    store.fold(FOLD_LINES, now).await?;
    Ok(())
}

/// How many ledger lines one fold takes.
pub(crate) const FOLD_LINES: u32 = 5_000;

/// Gives an account a new key; the old one stops working.
pub async fn new_key(store: &Store, secret: &Secret, user: UserId) -> Result<ApiKey, AccountError> {
    let key = new_api_key()?;
    let change = UserChange {
        key_hash: Some(secret.hash(&key)),
        ..UserChange::default()
    };
    store.update_user(user, &change).await?;
    Ok(key)
}

/// Whose activity a movement shows: who pays for work, and whose worker is paid for work or for
/// being there. What the anonymous account does is nobody's activity.
///
/// # Source
/// `community.md` § 2.7.
fn active_by(entry: &Entry) -> Option<UserId> {
    let paid_for = matches!(
        entry.reason,
        Reason::Activation | Reason::Generation | Reason::Uptime
    );
    let account = if entry.from == LedgerAccount::Mint {
        entry.to
    } else {
        entry.from
    };
    let (LedgerAccount::Spendable(user) | LedgerAccount::Escrow(user)) = account else {
        return None;
    };
    (paid_for && user != UserId::ANONYMOUS).then_some(user)
}

/// Whether two hashes of keys are the same, in constant time.
fn is_same(stored: Option<&str>, presented: &str) -> bool {
    stored.is_some_and(|stored| stored.as_bytes().ct_eq(presented.as_bytes()).into())
}

/// The accounts at hand, and what is promised of their kudos.
pub(crate) struct Accounts {
    store: Arc<Store>,
    secret: Secret,
    clock: Clock,
    by_key: Cache<KeyHash, UserId>,
    by_id: Cache<UserId, Copy>,
    holds: Mutex<Holds>,
    shared_keys: SharedKeys,
    subscriptions: Arc<Subscriptions>,
}

/// A copy of an account and when it was read.
#[derive(Clone)]
struct Copy {
    account: Arc<Account>,
    read: Timestamp,
}

impl Accounts {
    pub(crate) fn new(
        store: Arc<Store>,
        secret: Secret,
        clock: Clock,
        subscriptions: Arc<Subscriptions>,
    ) -> Self {
        Self {
            shared_keys: SharedKeys::new(Arc::clone(&store), clock.clone()),
            store,
            secret,
            clock,
            by_key: Cache::new(KEPT),
            by_id: Cache::new(KEPT),
            holds: Mutex::default(),
            subscriptions,
        }
    }

    /// The keys by which others spend the kudos of an account.
    pub(crate) const fn shared_keys(&self) -> &SharedKeys {
        &self.shared_keys
    }

    /// Who presents this key.
    ///
    /// # Errors
    /// `InvalidAPIKey` if nobody does.
    pub(crate) async fn by_key(&self, key: &ApiKey) -> ApiResult<Arc<Account>> {
        match self.find_by_key(key).await? {
            Some(account) => Ok(account),
            None => Err(ApiError::refused(
                ReturnCode::InvalidAPIKey,
                "No user matches this API key; use 0000000000 to stay anonymous",
            )),
        }
    }

    /// Who presents this key, if anybody does.
    pub(crate) async fn find_by_key(&self, key: &ApiKey) -> ApiResult<Option<Arc<Account>>> {
        if key.reveal() == ordu_api::ANONYMOUS_KEY {
            return self.by_id(UserId::ANONYMOUS).await;
        }
        let hash = self.secret.hash(key);
        if let Some(id) = self.by_key.get(&hash)
            && let Some(account) = self.by_id(id).await?
            && is_same(account.user.key_hash.as_deref(), &hash)
        {
            return Ok(Some(account));
        }
        let Some((user, unfolded)) = self.store.find_account_by_key(&hash).await? else {
            return Ok(None);
        };
        self.by_key.insert(hash, user.id);
        Ok(Some(self.keep(with_balance(user, unfolded))))
    }

    /// Whether this key was used or made here before, as far as is remembered: then it is no guess.
    pub(crate) fn knows(&self, key: &ApiKey) -> bool {
        let shared = key.reveal().parse();
        key.reveal() == ordu_api::ANONYMOUS_KEY
            || self.by_key.get(&self.secret.hash(key)).is_some()
            || shared.is_ok_and(|id| self.shared_keys.knows(id))
    }

    /// Remembers whose a fresh key is.
    pub(crate) fn learn(&self, key: &ApiKey, user: UserId) {
        self.by_key.insert(self.secret.hash(key), user);
    }

    /// The account of this number, if there is one.
    pub(crate) async fn by_id(&self, id: UserId) -> ApiResult<Option<Arc<Account>>> {
        let now = self.clock.now();
        if let Some(copy) = self
            .by_id
            .get(&id)
            .filter(|copy| now.since(copy.read) < FRESH_FOR)
        {
            return Ok(Some(copy.account));
        }
        Ok(find(&self.store, id)
            .await?
            .map(|account| self.keep(account)))
    }

    fn keep(&self, account: Account) -> Arc<Account> {
        let patron = self.subscriptions.all().is_patron(account.user.id);
        let account = Arc::new(Account { patron, ..account });
        let copy = Copy {
            account: Arc::clone(&account),
            read: self.clock.now(),
        };
        self.by_id.insert(account.user.id, copy);
        account
    }

    /// Forgets the copy of an account that was changed.
    pub(crate) fn forget(&self, id: UserId) {
        self.by_id.remove(&id);
    }

    /// Takes committed debits off the copies, and notes who was active.
    pub(crate) fn apply(&self, event: &Event) {
        for entry in &event.entries {
            if let Some(user) = active_by(entry) {
                self.store.active_later(user, event.at);
            }
            let LedgerAccount::Spendable(user) = entry.from else {
                continue;
            };
            let Some(copy) = self.by_id.get(&user) else {
                continue;
            };
            self.take_off(user, &copy, entry.amount);
        }
    }

    /// Takes off the copy of an account what another node charged it.
    pub(crate) fn debit(&self, user: UserId, amount: Kudos) {
        if let Some(copy) = self.by_id.get(&user) {
            self.take_off(user, &copy, amount);
        }
    }

    fn take_off(&self, user: UserId, copy: &Copy, amount: Kudos) {
        let mut account = Account::clone(&copy.account);
        account.debit(amount);
        self.by_id.insert(
            user,
            Copy {
                account: Arc::new(account),
                read: copy.read,
            },
        );
    }

    /// Promises kudos of a user to a request.
    pub(crate) fn hold(&self, request: RequestId, user: UserId, amount: Kudos) {
        self.holds().hold(request, user, amount);
    }

    /// What was promised and is paid now, or `None` for all that is left, is no longer promised,
    /// neither by the account nor by a shared key.
    pub(crate) fn release(&self, request: RequestId, paid: Option<Kudos>) {
        match paid {
            Some(amount) => self.shared_keys.charge(request, amount),
            None => self.shared_keys.release(request),
        }
        self.holds().release(request, paid);
    }

    /// What is promised of a user's kudos.
    pub(crate) fn held(&self, user: UserId) -> Kudos {
        self.holds().held(user)
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
