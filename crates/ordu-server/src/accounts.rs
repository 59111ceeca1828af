//! Accounts: made, found by key, and kept at hand so that a known key costs no round trip.
//!
//! What is kept is a copy, ten seconds old at most, so that what another process wrote (the command
//! line, another node) is noticed. Of accounts in use it is read again before that, behind their calls,
//! many at once. Calls that have to wait for one wait for the same read. Debits count at once, credits once
//! they are folded.

mod reads;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordu_api::{ApiKey, RequestId, ReturnCode, UserId};
use ordu_core::holds::Holds;
use ordu_core::ledger::{Account as LedgerAccount, Entry, Event, Reason};
use ordu_core::standing;
use ordu_core::{Kudos, Millis, Role, Roles, Standing, Timestamp};
use ordu_store::{NewUser, Store, User, UserChange};
use quick_cache::sync::{Cache, EntryAction};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use self::reads::Reads;
use crate::clock::Clock;
use crate::error::{ApiError, ApiResult};
use crate::secret::{KeyHash, NoRandomness, Secret, new_api_key};
use crate::shared_keys::SharedKeys;
use crate::subscriptions::Subscriptions;

/// How long a copy counts as the truth.
const FRESH_FOR: Millis = Millis::from_seconds(10);

/// From which age on a copy that is used is read again. The time until it no longer counts is for the
/// task that does it.
const RENEWED_AFTER: Millis = Millis::from_seconds(5);

/// Copies that are read again by one statement.
const RENEWED_AT_ONCE: usize = 250;

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
    reads_by_key: Reads<KeyHash>,
    reads_by_id: Reads<UserId>,
    /// Copies that were used and are to be read again, and when they were read.
    due: Mutex<HashMap<UserId, Timestamp>>,
    holds: Mutex<Holds>,
    shared_keys: SharedKeys,
    subscriptions: Arc<Subscriptions>,
}

/// A copy of an account and when it was read.
#[derive(Clone)]
struct Copy {
    account: Arc<Account>,
    read: Timestamp,
    /// What was taken off it since.
    debited: Kudos,
}

/// An account that was read again, and what its copy was before that.
struct Renewed {
    account: Account,
    before: Copy,
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
            reads_by_key: Reads::default(),
            reads_by_id: Reads::default(),
            due: Mutex::default(),
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
        let read = || {
            let (store, hash) = (Arc::clone(&self.store), hash.clone());
            async move { store.find_account_by_key(&hash).await }
        };
        let answer = self.reads_by_key.share(&hash, read, self.keeper()).await?;
        let Some((user, unfolded)) = answer else {
            return Ok(None);
        };
        self.by_key.insert(hash, user.id);
        Ok(Some(self.at_hand(user, unfolded)))
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
        if let Some(copy) = self.by_id.get(&id) {
            let age = now.since(copy.read);
            if age < FRESH_FOR {
                if age >= RENEWED_AFTER {
                    self.due().insert(id, copy.read);
                }
                return Ok(Some(copy.account));
            }
        }
        let read = || {
            let store = Arc::clone(&self.store);
            async move { store.find_account(id).await }
        };
        let answer = self.reads_by_id.share(&id, read, self.keeper()).await?;
        Ok(answer.map(|(user, unfolded)| self.at_hand(user, unfolded)))
    }

    /// Reads again what is due.
    pub(crate) async fn renew(&self) -> Result<(), ordu_store::Error> {
        let due = self.take_due();
        for some in due.chunks(RENEWED_AT_ONCE) {
            for renewed in self.read_again(some).await? {
                self.replace(renewed);
            }
        }
        Ok(())
    }

    /// Copies that were used when they were old, as far as they are still there.
    fn take_due(&self) -> Vec<Copy> {
        let due = std::mem::take(&mut *self.due());
        let copies = due.into_iter().filter_map(|(id, read)| {
            let copy = self.by_id.peek(&id)?;
            (copy.read == read).then_some(copy)
        });
        copies.collect()
    }

    async fn read_again(&self, copies: &[Copy]) -> Result<Vec<Renewed>, ordu_store::Error> {
        let read = self.clock.now();
        let by_id: HashMap<UserId, &Copy> = copies
            .iter()
            .map(|copy| (copy.account.user.id, copy))
            .collect();
        let ids: Vec<UserId> = by_id.keys().copied().collect();
        let found = self.store.list_accounts(&ids).await?.into_iter();
        let renewed = found.filter_map(|(user, unfolded)| {
            let before = Copy::clone(by_id.get(&user.id)?);
            Some(Renewed {
                account: with_balance(user, unfolded),
                before,
                read,
            })
        });
        Ok(renewed.collect())
    }

    fn due(&self) -> MutexGuard<'_, HashMap<UserId, Timestamp>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an account that was read, with what was taken off it meanwhile: that may be so twice until the
    /// next time, but is never missed.
    fn keeper(&self) -> impl FnOnce(&User, Kudos, Kudos) {
        |user, unfolded, debited| {
            let mut account = with_balance(user.clone(), unfolded);
            if debited > Kudos::ZERO {
                account.debit(debited);
            }
            let copy = self.copy(account, self.clock.now());
            self.by_id.insert(user.id, copy);
        }
    }

    /// What is kept of an account that was just read, or else what was read.
    fn at_hand(&self, user: User, unfolded: Kudos) -> Arc<Account> {
        let now = self.clock.now();
        let kept = self.by_id.get(&user.id).filter(|copy| {
            let is_fresh = now.since(copy.read) < FRESH_FOR;
            is_fresh && copy.account.user.key_hash == user.key_hash
        });
        let copy = kept.unwrap_or_else(|| self.copy(with_balance(user, unfolded), now));
        copy.account
    }

    fn copy(&self, account: Account, read: Timestamp) -> Copy {
        let patron = self.subscriptions.all().is_patron(account.user.id);
        Copy {
            account: Arc::new(Account { patron, ..account }),
            read,
            debited: Kudos::ZERO,
        }
    }

    /// Puts an account in the place of its copy. If that is not there any more, somebody changed it
    /// meanwhile. What was taken off meanwhile may be so twice until the next time, but is never missed.
    fn replace(&self, renewed: Renewed) {
        let Renewed {
            mut account,
            before,
            read,
        } = renewed;
        self.change(account.user.id, |copy| {
            if copy.read == before.read {
                account.debit(copy.debited - before.debited);
                *copy = self.copy(account, read);
            }
        });
    }

    /// Changes a copy, if there is one.
    fn change(&self, id: UserId, change: impl FnOnce(&mut Copy)) {
        // Who finds nothing might insert something, and does not.
        let _ = self.by_id.entry(&id, None, |_, copy| {
            change(copy);
            EntryAction::Retain(())
        });
    }

    /// Forgets the copy of an account that was changed.
    pub(crate) fn forget(&self, id: UserId) {
        self.reads_by_id.forget(&id);
        self.reads_by_key.forget_all();
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
            self.debit(user, entry.amount);
        }
    }

    /// Takes off the copy of an account what it was charged, here or by another node.
    pub(crate) fn debit(&self, user: UserId, amount: Kudos) {
        self.reads_by_id.debit(&user, amount);
        self.reads_by_key.doubt_all();
        self.change(user, |copy| {
            Arc::make_mut(&mut copy.account).debit(amount);
            copy.debited += amount;
        });
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::future::join_all;
    use futures::poll;
    use ordu_store::Options;
    use tempfile::TempDir;

    use super::*;

    /// An account with 100 kudos.
    struct Somebody {
        accounts: Accounts,
        clock: Clock,
        id: UserId,
        key: ApiKey,
        /// In memory there would be one connection only.
        _folder: TempDir,
    }

    async fn somebody() -> Somebody {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ordu.db");
        let url = format!("sqlite://{}", file.display()).parse().unwrap();
        let clock = Clock::manual(Timestamp(0));
        let options = Options::default();
        let store = Store::open(&url, &options, clock.now()).await.unwrap();
        let secret = Secret::new("pepper");
        let new = NewAccount {
            name: "somebody".to_owned(),
            subject: None,
            moderator: false,
            trusted: false,
            kudos: Kudos::new(100),
        };
        let (account, key) = add(&store, &secret, new, clock.now()).await.unwrap();
        let subscriptions = Arc::new(Subscriptions::new(None));
        let accounts = Accounts::new(Arc::new(store), secret, clock.clone(), subscriptions);
        Somebody {
            accounts,
            clock,
            id: account.user.id,
            key,
            _folder: folder,
        }
    }

    /// Writes that an account paid.
    async fn record(accounts: &Accounts, payer: UserId, amount: Kudos) {
        let event = Event {
            id: Uuid::new_v4(),
            at: accounts.clock.now(),
            kind: None,
            entries: vec![Entry::burn(payer, amount, Reason::Activation)],
        };
        accounts.store.record(&event).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_forgotten_meanwhile_stays_forgotten() {
        let them = somebody().await;
        let (accounts, clock, id) = (&them.accounts, &them.clock, them.id);
        let store = &accounts.store;
        let concurrency = async || accounts.by_id(id).await.unwrap().unwrap().user.concurrency;
        let change = |concurrency| UserChange {
            concurrency: Some(concurrency),
            ..UserChange::default()
        };
        concurrency().await;
        clock.advance(RENEWED_AFTER);
        concurrency().await;
        store.update_user(id, &change(40)).await.unwrap();
        accounts.renew().await.unwrap();
        assert_eq!(concurrency().await, 40);

        // Changed after it was read, and not used since.
        let late = async |concurrency| {
            clock.advance(RENEWED_AFTER);
            accounts.by_id(id).await.unwrap();
            let read = accounts.read_again(&accounts.take_due()).await.unwrap();
            assert_eq!(read.len(), 1);
            store.update_user(id, &change(concurrency)).await.unwrap();
            accounts.forget(id);
            read
        };
        for renewed in late(50).await {
            accounts.replace(renewed);
        }
        assert_eq!(concurrency().await, 50);
        // Used since.
        let read = late(60).await;
        assert_eq!(concurrency().await, 60);
        for renewed in read {
            accounts.replace(renewed);
        }
        assert_eq!(concurrency().await, 60);
    }

    #[tokio::test]
    async fn what_is_charged_while_an_account_is_read_counts() {
        let them = somebody().await;
        let (accounts, clock, id) = (&them.accounts, &them.clock, them.id);
        let balance = async || accounts.by_id(id).await.unwrap().unwrap().balance;
        assert_eq!(balance().await, Kudos::new(100));
        accounts.debit(id, Kudos::new(1));
        clock.advance(RENEWED_AFTER);
        balance().await;
        let read = accounts.read_again(&accounts.take_due()).await.unwrap();
        accounts.debit(id, Kudos::new(30));
        for renewed in read {
            accounts.replace(renewed);
        }
        // What was charged before was never written, and is not there any more.
        assert_eq!(balance().await, Kudos::new(70));

        clock.advance(FRESH_FOR);
        let mut call = pin!(balance());
        let is_read = poll!(&mut call).is_ready();
        accounts.debit(id, Kudos::new(20));
        if !is_read {
            assert_eq!(call.await, Kudos::new(80));
        }
        assert_eq!(balance().await, Kudos::new(80));
    }

    #[tokio::test]
    async fn what_is_charged_while_a_key_is_looked_up_counts() {
        let them = somebody().await;
        let (accounts, id, key) = (&them.accounts, them.id, &them.key);
        let mut call = pin!(accounts.find_by_key(key));
        let is_read = poll!(&mut call).is_ready();
        record(accounts, id, Kudos::new(20)).await;
        accounts.debit(id, Kudos::new(20));
        if !is_read {
            call.await.unwrap();
            // Nobody knows whether what was read was before that.
            assert!(accounts.by_id.peek(&id).is_none());
        }
        let found = accounts.find_by_key(key).await.unwrap().unwrap();
        assert_eq!(found.balance, Kudos::new(80));
    }

    #[tokio::test]
    async fn calls_after_a_change_do_not_wait_for_one_before() {
        let them = somebody().await;
        let (accounts, clock, id, key) = (&them.accounts, &them.clock, them.id, &them.key);
        let concurrency = async || {
            let found = accounts.by_id(id).await.unwrap().unwrap();
            found.user.concurrency
        };
        let by_key = async || {
            let found = accounts.find_by_key(key).await.unwrap().unwrap();
            found.user.concurrency
        };
        for round in 1..=3 {
            clock.advance(FRESH_FOR);
            accounts.by_key.clear();
            let (mut first, mut first_by_key) = (pin!(concurrency()), pin!(by_key()));
            let is_read = poll!(&mut first).is_ready();
            let is_read_by_key = poll!(&mut first_by_key).is_ready();
            let change = UserChange {
                concurrency: Some(round),
                ..UserChange::default()
            };
            accounts.store.update_user(id, &change).await.unwrap();
            accounts.forget(id);
            let (second, second_by_key) = (concurrency().await, by_key().await);
            assert_eq!((second, second_by_key), (round, round));
            // What those before were told is nobody else's.
            if !is_read {
                first.await;
            }
            if !is_read_by_key {
                first_by_key.await;
            }
            assert_eq!((concurrency().await, by_key().await), (round, round));
        }
    }

    #[tokio::test]
    async fn calls_at_once_read_an_account_once() {
        let them = somebody().await;
        let (accounts, clock, id, key) = (&them.accounts, &them.clock, them.id, &them.key);
        let trips = || accounts.store.counters().round_trips;
        let before = trips();
        let calls = (0..50).map(|_| accounts.find_by_key(key));
        for found in join_all(calls).await {
            assert_eq!(found.unwrap().unwrap().balance, Kudos::new(100));
        }
        assert_eq!(trips() - before, 1);
        clock.advance(FRESH_FOR);
        let calls = (0..50).map(|_| accounts.by_id(id));
        for found in join_all(calls).await {
            assert_eq!(found.unwrap().unwrap().balance, Kudos::new(100));
        }
        assert_eq!(trips() - before, 2);
    }
}
