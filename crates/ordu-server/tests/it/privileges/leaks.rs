//! What is private stays so: each private member, in each view, for each kind of caller.
//!
//! # Source
//! `community.md` § 2.4, § 2.6, § 4 and § 5.3; `platform.md` § 4 of the audit log.

use std::collections::BTreeSet;

use ordu_api::user::TestUser;
use reqwest::Method;
use serde_json::{Value, json};

use super::world::{ROLES, World};
use crate::support::request;

const CONTACT: &str = "only-for-moderators@example.org";
const REMARK: &str = "a remark among moderators";

/// Who may see a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    /// Everybody, if the account says that its workers are public.
    IfPublic,
    /// The account itself and moderators.
    Own,
    /// Moderators.
    Moderator,
    /// Admins.
    Admin,
    /// Nobody: it is told once, when it is made.
    Nobody,
}

const OF_ACCOUNTS: &[(&str, Tier)] = &[
    ("worker_ids", Tier::IfPublic),
    ("sharedkey_ids", Tier::Own),
    ("contact", Tier::Own),
    ("vpn", Tier::Own),
    ("special", Tier::Own),
    ("active_generations", Tier::Own),
    ("evaluating_kudos", Tier::Moderator),
    ("monthly_kudos", Tier::Moderator),
    ("suspicious", Tier::Moderator),
    ("admin_comment", Tier::Moderator),
    ("proxy_passkey", Tier::Admin),
    ("public_workers", Tier::Nobody),
    ("api_key", Tier::Nobody),
];

const OF_WORKERS: &[(&str, Tier)] = &[
    ("owner", Tier::IfPublic),
    ("messages", Tier::IfPublic),
    ("contact", Tier::Own),
    ("ipaddr", Tier::Own),
    ("paused", Tier::Moderator),
    ("suspicious", Tier::Moderator),
];

/// What a role is to the owner of things.
fn may_see(role: &str, tier: Tier, public: bool) -> bool {
    let is_moderator = matches!(role, "mod" | "admin");
    match tier {
        Tier::IfPublic => public || is_moderator || role == "owner",
        Tier::Own => is_moderator || role == "owner",
        Tier::Moderator => is_moderator,
        Tier::Admin => role == "admin",
        Tier::Nobody => false,
    }
}

/// The private members that a view has; the list of accounts has them all, and says nothing there.
fn shown<'a>(view: &Value, private: &[(&'a str, Tier)]) -> BTreeSet<&'a str> {
    let names = private.iter().map(|(name, _)| *name);
    let is_told = |value: &Value| !value.is_null() && *value != json!({});
    names
        .filter(|name| view.get(name).is_some_and(is_told))
        .collect()
}

fn expected<'a>(role: &str, private: &[(&'a str, Tier)], public: bool) -> BTreeSet<&'a str> {
    let seen = private
        .iter()
        .filter(|(_, tier)| may_see(role, *tier, public));
    seen.map(|(name, _)| *name).collect()
}

/// Somebody with everything that can be private.
struct Secretive {
    owner: TestUser,
    worker: String,
    name: String,
    team: String,
    passkey: String,
}

impl Secretive {
    async fn new(world: &World, public: bool) -> Self {
        // For some seconds the list of accounts does not know of new ones.
        world.horde.later(11);
        let owner = world.owner().await;
        let (worker, name) = world.worker_of(&owner).await;
        let account = format!("/users/{}", owner.user_id);
        let contact = json!({ "contact": CONTACT, "public_workers": public });
        world.make(&owner, Method::PUT, &account, contact).await;
        let remark = json!({ "admin_comment": REMARK, "service": true });
        world
            .make(&world.moderator, Method::PUT, &account, remark)
            .await;
        let passkey = json!({ "generate_proxy_passkey": true });
        let passkey = world.make(&owner, Method::PUT, &account, passkey).await;
        let team = world.team_of(&owner).await;
        let in_team = json!({ "team": team });
        let path = format!("/workers/{worker}");
        world.make(&owner, Method::PUT, &path, in_team).await;
        world
            .make(&owner, Method::PUT, "/sharedkeys", json!({}))
            .await;
        let message = json!({ "message": "hello", "worker_id": worker });
        world
            .make(&owner, Method::POST, "/workers/messages", message)
            .await;
        let client = world.horde.client(&owner.api_key);
        client.async_image(&request()).await.unwrap();
        Self {
            owner,
            worker,
            name,
            team,
            passkey: passkey["proxy_passkey"].as_str().unwrap().to_owned(),
        }
    }

    /// Every place that shows the account or the worker, with what is private there.
    fn places(&self) -> [(String, &'static [(&'static str, Tier)]); 5] {
        [
            (format!("/users/{}", self.owner.user_id), OF_ACCOUNTS),
            (LIST.to_owned(), OF_ACCOUNTS),
            (format!("/workers/{}", self.worker), OF_WORKERS),
            (format!("/workers/name/{}", self.name), OF_WORKERS),
            ("/workers".to_owned(), OF_WORKERS),
        ]
    }

    /// The one that this is about, of a list.
    fn pick<'a>(&self, body: &'a Value) -> &'a Value {
        let Some(list) = body.as_array() else {
            return body;
        };
        let is_it = |view: &&Value| {
            let id = &view["id"];
            *id == self.worker.as_str() || id.as_i64() == self.owner.user_id.parse().ok()
        };
        list.iter().find(is_it).unwrap()
    }

    /// Wherever it may stand: what is private is nowhere in what others get, and keys in nothing.
    fn check_words(&self, role: &str, path: &str, body: &Value) {
        let text = body.to_string();
        let secrets = [
            (REMARK, Tier::Moderator),
            (CONTACT, Tier::Own),
            ("127.0.0.1", Tier::Own),
            (self.passkey.as_str(), Tier::Admin),
            (self.owner.api_key.reveal(), Tier::Nobody),
        ];
        for (secret, tier) in secrets {
            assert!(
                may_see(role, tier, false) || !text.contains(secret),
                "{role} at {path}: {text}"
            );
        }
    }
}

/// All accounts; moderators see no more there than anybody.
const LIST: &str = "/users?sort=age";

#[tokio::test]
async fn private_members_are_shown_to_whom_they_belong_only() {
    let world = World::start().await;
    let mut views = 0;
    for public in [false, true] {
        let secretive = Secretive::new(&world, public).await;
        for role in ROLES {
            let key = world.key(role, &secretive.owner).await;
            for (path, private) in secretive.places() {
                let answer = world.call(Method::GET, &path, key.as_deref(), None).await;
                if answer.status != 200 {
                    continue;
                }
                let view = secretive.pick(&answer.body);
                let seen_as = if path == LIST { "none" } else { role };
                assert_eq!(
                    shown(view, private),
                    expected(seen_as, private, public),
                    "{role} at {path}, public {public}: {view}"
                );
                views += 1;
                secretive.check_words(seen_as, &path, &answer.body);
            }
        }
        world.horde.server.settle_down().await.unwrap();
    }
    println!("{views} views");
    // `bad` and `shared` cannot ask for the account.
    assert_eq!(views, 2 * (ROLES.len() * 5 - 2));
}

#[tokio::test]
async fn a_team_shows_of_its_workers_what_they_are_called() {
    let world = World::start().await;
    let secretive = Secretive::new(&world, false).await;
    let mut views = 0;
    for role in ROLES {
        let key = world.key(role, &secretive.owner).await;
        for path in ["/teams".to_owned(), format!("/teams/{}", secretive.team)] {
            let answer = world.call(Method::GET, &path, key.as_deref(), None).await;
            if answer.status != 200 {
                continue;
            }
            // It is the only one.
            let team = answer.body.get(0).unwrap_or(&answer.body);
            let worker = json!({
                "type": "image", "name": secretive.name, "id": secretive.worker, "online": true,
            });
            assert_eq!(team["workers"], json!([worker]), "{role} at {path}");
            assert_eq!(team["creator"], secretive.owner.alias.as_str());
            // Moderators see no more than anybody.
            secretive.check_words("none", &path, &answer.body);
            views += 1;
        }
    }
    // `bad` and `shared` cannot ask for the team.
    assert_eq!(views, ROLES.len() * 2 - 2);
}

#[tokio::test]
async fn what_moderators_did_is_told_to_moderators_and_without_keys() {
    let world = World::start().await;
    let secretive = Secretive::new(&world, false).await;
    let account = format!("/users/{}", secretive.owner.user_id);
    let passkey = json!({ "generate_proxy_passkey": true, "contact": CONTACT });
    let by = &world.moderator;
    // Who makes a passkey must be a service itself.
    let own = format!("/users/{}", by.user_id);
    let service = json!({ "service": true });
    world.make(by, Method::PUT, &own, service).await;
    let made = world.make(by, Method::PUT, &account, passkey).await;
    let renewed = made["proxy_passkey"].as_str().unwrap();
    for role in ROLES {
        let key = world.key(role, &secretive.owner).await;
        let path = "/operations/audit";
        let answer = world.call(Method::GET, path, key.as_deref(), None).await;
        let may = may_see(role, Tier::Moderator, false);
        assert_eq!(answer.status == 200, may, "{role}: {}", answer.body);
        let text = answer.body.to_string();
        assert_eq!(text.contains(REMARK), may, "{role}: {text}");
        assert_eq!(text.contains(CONTACT), may, "{role}: {text}");
        for secret in [
            secretive.passkey.as_str(),
            renewed,
            secretive.owner.api_key.reveal(),
            by.api_key.reveal(),
        ] {
            assert!(!text.contains(secret), "{role}: {text}");
        }
    }
}

#[tokio::test]
async fn a_key_shows_the_account_that_it_is_of() {
    let world = World::start().await;
    let secretive = Secretive::new(&world, false).await;
    let own = expected("owner", OF_ACCOUNTS, false);
    for (role, wanted) in [
        ("owner", own.clone()),
        // Moderators are somebody, too.
        ("mod", own),
        ("shared", BTreeSet::new()),
    ] {
        let key = world.key(role, &secretive.owner).await;
        let answer = world
            .call(Method::GET, "/find_user", key.as_deref(), None)
            .await;
        let mut shown = shown(&answer.body, OF_ACCOUNTS);
        if role == "mod" {
            // It has neither said how to reach it nor asked for anything.
            shown.extend(["contact", "active_generations"]);
        }
        assert_eq!(shown, wanted, "{role}: {}", answer.body);
    }
}
