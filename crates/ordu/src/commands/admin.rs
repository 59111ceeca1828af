//! `ordu admin`: accounts of the horde in a data folder, whether its server runs or not.

use anyhow::{Context as _, Result, bail};
use ordu_api::UserId;
use ordu_core::{Kudos, Timestamp};
use ordu_server::accounts::{self, Account, NewAccount};
use ordu_server::{Clock, Deed, Secret};
use ordu_store::{DatabaseUrl, Options, Store, UserChange};
use serde_json::{Value, json};

use super::data::DataFolder;
use crate::cli::{Admin, AdminCommand, AdminStore, UserAdd, UserCommand, UserSet, UserShow};
use crate::exit::Exit;

pub(crate) async fn run(args: Admin) -> Result<Exit> {
    let AdminCommand::User { what } = args.what;
    match what {
        UserCommand::Add(args) => add(args).await,
        UserCommand::Show(args) => show(args).await,
        UserCommand::Set(args) => set(args).await,
        UserCommand::NewKey(args) => new_key(args).await,
    }
}

/// An open store with what is needed to change it.
struct Office {
    store: Store,
    secret: Secret,
    now: Timestamp,
    json: bool,
}

impl Office {
    async fn open(args: &AdminStore) -> Result<Self> {
        let data = DataFolder::open(&args.data)?;
        let secret = match &args.secret_key {
            Some(secret) => Secret::new(secret.as_str()),
            None => data.secret()?,
        };
        let url: DatabaseUrl = args
            .database
            .clone()
            .unwrap_or_else(|| data.database_url())
            .parse()?;
        let now = Clock::System.now();
        let store = Store::open(&url, &Options::default(), now)
            .await
            .context("cannot open the database")?;
        Ok(Self {
            store,
            secret,
            now,
            json: args.json,
        })
    }

    async fn account(&self, user: &str) -> Result<Account> {
        let found = match UserId::from_alias(user) {
            Some(id) => accounts::find(&self.store, id).await?,
            None => None,
        };
        found.with_context(|| {
            format!("there is no account `{user}`: give its number or name#number")
        })
    }

    fn print(&self, account: &Account, extra: &[(&str, Value)]) {
        let user = &account.user;
        let mut shown = json!({
            "id": user.id, "username": user.username, "alias": account.alias(),
            "kudos": account.balance.as_f64(), "moderator": user.roles.moderator,
            "trusted": user.roles.trusted, "flagged": user.roles.flagged,
            "concurrency": user.concurrency,
        });
        for (name, value) in extra {
            shown[*name] = value.clone();
        }
        if self.json {
            println!("{shown}");
            return;
        }
        for (name, value) in shown.as_object().into_iter().flatten() {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            println!("{name:<12} {text}");
        }
    }

    async fn close(self) -> Exit {
        self.store.close().await;
        Exit::Done
    }
}

async fn add(args: UserAdd) -> Result<Exit> {
    if !args.kudos.is_finite() {
        bail!("`--kudos {}` is not an amount", args.kudos);
    }
    let office = Office::open(&args.store).await?;
    let new = NewAccount {
        name: args.name,
        subject: None,
        moderator: args.moderator,
        trusted: args.trusted || args.moderator,
        kudos: Kudos::round(args.kudos),
    };
    let (account, key) = accounts::add(&office.store, &office.secret, new, office.now).await?;
    let after = json!({
        "username": account.user.username, "moderator": account.user.roles.moderator,
        "trusted": account.user.roles.trusted, "kudos": account.balance.as_f64(),
    });
    let deed = Deed::of_operator("user.create", "user", account.user.id);
    let entry = deed.change(json!({}), after).entry(office.now);
    office
        .store
        .recorded(entry, async { anyhow::Ok(()) })
        .await?;
    office.print(&account, &[("api_key", json!(key.reveal()))]);
    Ok(office.close().await)
}

async fn show(args: UserShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let account = office.account(&args.user).await?;
    office.print(&account, &[]);
    Ok(office.close().await)
}

async fn set(args: UserSet) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let account = office.account(&args.user).await?;
    let change = UserChange {
        username: args.name,
        moderator: args.moderator,
        // Moderators are always trusted; taking the first role away keeps the second.
        trusted: args.trusted.or(args.moderator.filter(|granted| *granted)),
        flagged: args.flagged,
        concurrency: args.concurrency.map(i64::from),
        ..UserChange::default()
    };
    let user = account.user.id;
    let entry = change_deed(&account, &change, args.add_kudos).entry(office.now);
    let changed = async {
        office.store.update_user(user, &change).await?;
        if let Some(kudos) = args.add_kudos {
            accounts::grant(&office.store, user, Kudos::round(kudos), office.now).await?;
        }
        anyhow::Ok(())
    };
    office.store.recorded(entry, changed).await?;
    let changed = office.account(&args.user).await?;
    office.print(&changed, &[]);
    Ok(office.close().await)
}

/// What the audit log says of a change: only what is asked for.
fn change_deed(account: &Account, change: &UserChange, add_kudos: Option<f64>) -> Deed {
    let user = &account.user;
    let (mut before, mut after) = (json!({}), json!({}));
    let mut note = |name: &str, was: Value, is: Option<Value>| {
        if let Some(is) = is {
            before[name] = was;
            after[name] = is;
        }
    };
    let name = change.username.as_ref().map(|name| json!(name));
    note("username", json!(user.username), name);
    let roles = &user.roles;
    note(
        "moderator",
        json!(roles.moderator),
        change.moderator.map(Value::from),
    );
    note(
        "trusted",
        json!(roles.trusted),
        change.trusted.map(Value::from),
    );
    note(
        "flagged",
        json!(roles.flagged),
        change.flagged.map(Value::from),
    );
    note(
        "concurrency",
        json!(user.concurrency),
        change.concurrency.map(Value::from),
    );
    let kudos = account.balance.as_f64();
    note(
        "kudos",
        json!(kudos),
        add_kudos.map(|more| json!(kudos + more)),
    );
    Deed::of_operator("user.update", "user", user.id).change(before, after)
}

async fn new_key(args: UserShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let account = office.account(&args.user).await?;
    let deed = Deed::of_operator("user.new_key", "user", account.user.id);
    let renewed = accounts::new_key(&office.store, &office.secret, account.user.id);
    let key = office
        .store
        .recorded(deed.entry(office.now), renewed)
        .await?;
    office.print(&account, &[("api_key", json!(key.reveal()))]);
    Ok(office.close().await)
}
