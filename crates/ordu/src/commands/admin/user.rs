//! `ordu admin user`: accounts.

use anyhow::{Result, bail};
use ordu_api::UserId;
use ordu_core::Kudos;
use ordu_server::Deed;
use ordu_server::accounts::{self, Account, NewAccount};
use ordu_store::{User, UserChange, UserEdit, UserSort, WorkerChange};
use serde_json::{Value, json};

use super::Office;
use crate::cli::{UserAdd, UserCommand, UserList, UserOrder, UserSet, UserShow};
use crate::exit::Exit;

/// What a list shows to people.
const MEMBERS: &[&str] = &["id", "alias", "kudos", "moderator", "trusted", "flagged"];

/// Accounts on a page of the list.
const PAGE: u32 = 25;

pub(super) async fn run(what: UserCommand) -> Result<Exit> {
    match what {
        UserCommand::Add(args) => add(args).await,
        UserCommand::Show(args) => show(args).await,
        UserCommand::Set(args) => Box::pin(set(args)).await,
        UserCommand::NewKey(args) => new_key(args).await,
        UserCommand::List(args) => list(args).await,
    }
}

fn view(user: &User, kudos: Kudos) -> Value {
    json!({
        "id": user.id, "username": user.username,
        "alias": format!("{}#{}", user.username, user.id),
        "kudos": kudos.as_f64(), "moderator": user.roles.moderator,
        "trusted": user.roles.trusted, "flagged": user.roles.flagged,
        "concurrency": user.concurrency,
    })
}

fn print(office: &Office, account: &Account, key: Option<&str>) {
    let mut shown = view(&account.user, account.balance);
    if let Some(key) = key {
        shown["api_key"] = json!(key);
    }
    office.show(&shown);
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
    let nothing = async { anyhow::Ok(()) };
    office
        .recorded(deed.change(json!({}), after), nothing)
        .await?;
    print(&office, &account, Some(key.reveal()));
    Ok(office.close().await)
}

async fn show(args: UserShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let account = office.account(&args.user).await?;
    print(&office, &account, None);
    Ok(office.close().await)
}

async fn list(args: UserList) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let sort = match args.sort {
        UserOrder::Kudos => UserSort::Kudos,
        UserOrder::Age => UserSort::Age,
    };
    let before = (args.page - 1).saturating_mul(PAGE);
    let ranked = office
        .store
        .rank_users(sort, before.saturating_add(PAGE))
        .await?;
    let shown = ranked.get(before as usize..).unwrap_or_default();
    let mut users = office.store.list_users(shown).await?;
    users.sort_by_key(|user| shown.iter().position(|id| *id == user.id));
    let views = users.iter().map(|user| view(user, user.spendable));
    office.list(MEMBERS, views.collect());
    Ok(office.close().await)
}

async fn set(args: UserSet) -> Result<Exit> {
    if let Some(kudos) = args.add_kudos.filter(|kudos| !kudos.is_finite()) {
        bail!("`--add-kudos {kudos}` is not an amount");
    }
    let office = Office::open(&args.store).await?;
    let account = office.account(&args.user).await?;
    let id = account.user.id;
    if id == UserId::ANONYMOUS && [args.moderator, args.trusted, args.flagged].contains(&Some(true))
    {
        bail!("the anonymous account can have no role");
    }
    // Moderators are always trusted; taking the first role away keeps the second.
    let trusted = args.trusted.or(args.moderator.filter(|granted| *granted));
    let becomes_trusted = trusted == Some(true) && !account.user.roles.trusted;
    let edit = UserEdit {
        change: UserChange {
            username: args.name.clone(),
            moderator: args.moderator,
            trusted,
            flagged: args.flagged,
            concurrency: args.concurrency.map(i64::from),
            ..UserChange::default()
        },
        movements: Vec::new(),
        frees: becomes_trusted,
    };
    let deed = change_deed(&account, &edit.change, args.add_kudos);
    let changed = async {
        office.store.edit_user(id, &edit, office.now).await?;
        if becomes_trusted {
            unpause_workers(&office, id).await?;
        }
        if let Some(kudos) = args.add_kudos {
            let amount = Kudos::round(kudos);
            accounts::grant(&office.store, id, amount, office.now).await?;
        }
        anyhow::Ok(())
    };
    office.recorded(deed, changed).await?;
    let changed = office.account(&args.user).await?;
    print(&office, &changed, None);
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

/// Trust lets the workers work that suspicion had paused.
async fn unpause_workers(office: &Office, owner: UserId) -> Result<()> {
    let change = WorkerChange {
        paused: Some(false),
        ..WorkerChange::default()
    };
    for worker in office.store.list_workers_of(owner).await? {
        office.store.update_worker(worker.id, &change).await?;
        office.store.note_worker_edit(worker.id, office.now).await?;
    }
    Ok(())
}

async fn new_key(args: UserShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let account = office.account(&args.user).await?;
    if account.user.id == UserId::ANONYMOUS {
        bail!("the anonymous account keeps the key 0000000000");
    }
    let deed = Deed::of_operator("user.new_key", "user", account.user.id);
    let renewed = accounts::new_key(&office.store, &office.secret, account.user.id);
    let key = office.recorded(deed, renewed).await?;
    print(&office, &account, Some(key.reveal()));
    Ok(office.close().await)
}
