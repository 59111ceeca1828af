//! Signing in by other sites: a real OpenID provider, and one that only speaks OAuth 2.

use axum::extract::{Form, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use ordu_server::{Clock, Config, Endpoints, IdentityConfig, Provider};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::browser::{Browser, Page};
use crate::provider::OpenIdProvider;
use crate::support::{TestHorde, on_each_database};

/// A horde that knows a provider, at the present time: the provider lives in it.
async fn start(database: &str, provider: Provider) -> TestHorde {
    let clock = Clock::manual(Clock::System.now());
    let mut horde = TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        clock: clock.clone(),
        identity: IdentityConfig {
            providers: vec![provider],
            ..IdentityConfig::default()
        },
        ..config
    })
    .await;
    horde.clock = clock;
    horde
}

/// Walks through the pages of the provider as `name`, up to the address that leads back to us.
async fn dance(browser: &mut Browser, horde: &TestHorde, from: &str, name: &str) -> Url {
    let begun = browser.get(&format!("{}{from}", horde.url)).await;
    assert_eq!(begun.status, 303, "{begun:?}");
    let home: Url = horde.url.parse().unwrap();
    let ours = home.authority().to_owned();
    let away = |url: &Url| url.authority() != ours;
    let mut page = browser.follow(begun, &away).await;
    for _ in 0..5 {
        if let Some(back) = page.location().filter(|url| !away(url)) {
            return back;
        }
        let action = page.between("action=\"", "\"").unwrap();
        let prompt = page.between("name=\"prompt\" value=\"", "\"").unwrap();
        let fields = [
            ("prompt", prompt.as_str()),
            ("login", name),
            ("password", "x"),
        ];
        let next = browser.post(&action, &fields).await;
        page = browser.follow(next, &away).await;
    }
    panic!("the provider leads nowhere: {page:?}");
}

async fn sign_in(browser: &mut Browser, horde: &TestHorde, from: &str, name: &str) -> Page {
    let back = dance(browser, horde, from, name).await;
    let page = browser.get(back.as_str()).await;
    browser.follow(page, |_| true).await
}

async fn who(horde: &TestHorde, key: &str) -> Value {
    horde
        .call(Method::GET, "/find_user", Some(key), None)
        .await
        .body
}

#[tokio::test]
async fn an_openid_provider_vouches_for_people() {
    let Some(mut provider) = OpenIdProvider::start() else {
        return;
    };
    let mut hordes = Vec::new();
    // The provider leads back to one horde only: each database gets a provider of its own.
    on_each_database(async |database| {
        let mut own = OpenIdProvider::start().unwrap();
        let horde = start(database, own.configured()).await;
        own.lead_back_to(&horde.url);
        people_come_and_come_back(&horde).await;
        horde.server.stop().await;
    })
    .await;
    let horde = start("sqlite::memory:", provider.configured()).await;
    provider.lead_back_to(&horde.url);
    hordes.push(horde);
    strays_are_sent_away(&hordes[0]).await;
}

async fn people_come_and_come_back(horde: &TestHorde) {
    let mut browser = Browser::new();
    let front = browser.get(&format!("{}/register", horde.url)).await;
    assert!(
        front.text.contains("href=\"/openid/register\""),
        "{front:?}"
    );
    let page = sign_in(&mut browser, horde, "/openid/register", "alice").await;
    assert_eq!(page.url.path(), "/register");
    assert!(page.text.contains("signed in by The Tests"), "{page:?}");
    let form = ("/register", "/register");
    let issued = browser.submit(horde, form, &[("username", "Alice")]).await;
    let first = issued.key().unwrap();
    let seen = who(horde, &first).await;
    assert_eq!(
        (&seen["username"], &seen["pseudonymous"]),
        (&json!("Alice#1"), &json!(false))
    );

    // Months later, in another browser, without the key.
    let mut other = Browser::new();
    let page = sign_in(&mut other, horde, "/openid/account", "alice").await;
    assert_eq!(page.url.path(), "/account");
    assert!(page.text.contains("Alice#1"));
    let issued = other.submit(horde, form, &[("username", "Alicia")]).await;
    let second = issued.key().unwrap();
    assert_eq!(who(horde, &first).await["rc"], "UserNotFound");
    assert_eq!(who(horde, &second).await["username"], "Alicia#1");

    let mut bob = Browser::new();
    sign_in(&mut bob, horde, "/openid/", "bob").await;
    let issued = bob.submit(horde, form, &[("username", "Bob")]).await;
    assert_eq!(who(horde, &issued.key().unwrap()).await["id"], 2);

    // Who is vouched for registers during a raid too.
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let key = Some(moderator.api_key.reveal());
    let raid = json!({ "raid_mode": true });
    horde
        .call(Method::PUT, "/status/modes", key, Some(&raid))
        .await;
    let mut carol = Browser::new();
    sign_in(&mut carol, horde, "/openid/register", "carol").await;
    let issued = carol.submit(horde, form, &[("username", "Carol")]).await;
    assert!(issued.key().is_some(), "{issued:?}");
}

async fn strays_are_sent_away(horde: &TestHorde) {
    let mut browser = Browser::new();
    // Another state than ours; then the right one, too late: the way back holds once.
    let back = dance(&mut browser, horde, "/openid/register", "alice").await;
    let mut forged = back.clone();
    forged.set_query(Some(&back.query().unwrap().replace("state=", "state=x")));
    for stray in [&forged, &back] {
        let page = browser.get(stray.as_str()).await;
        assert_eq!(page.status, 400, "{page:?}");
        assert!(browser.cookie(horde, "ordu-session").is_none());
    }
    // A code that was used already, with everything else as it was.
    let back = dance(&mut browser, horde, "/openid/register", "alice").await;
    let way = browser.cookie(horde, "ordu-dance").unwrap().clone();
    assert_eq!(browser.get(back.as_str()).await.status, 303);
    let mut thief = Browser::new();
    thief.set_cookie(horde, "ordu-dance", &way);
    let replayed = thief.get(back.as_str()).await;
    assert_eq!(replayed.status, 400, "{replayed:?}");
    assert!(replayed.text.contains("invalid_grant"));
    // In a browser that did not begin it.
    let back = dance(&mut browser, horde, "/openid/register", "alice").await;
    let mut thief = Browser::new();
    assert_eq!(thief.get(back.as_str()).await.status, 400);
    assert!(thief.cookie(horde, "ordu-session").is_none());
    // Too late.
    horde.later(600);
    assert_eq!(browser.get(back.as_str()).await.status, 400);
    // Refused by the person, and nonsense.
    let refused = Browser::new();
    let mut refused = { refused };
    let begun = refused.get(&format!("{}/openid/", horde.url)).await;
    let state = begun.location().unwrap();
    let state = state
        .query_pairs()
        .find(|(name, _)| name == "state")
        .unwrap()
        .1
        .into_owned();
    let home = format!("{}/openid/openid/authorized", horde.url);
    let page = refused
        .get(&format!("{home}?state={state}&error=access_denied"))
        .await;
    assert!(page.status == 400 && page.text.contains("access_denied"));
    for nonsense in [
        "",
        "?code=",
        "?state=&code=%00",
        "?code=a&code=b",
        "?state=%ff",
    ] {
        let page = refused.get(&format!("{home}{nonsense}")).await;
        assert_eq!(page.status, 400, "{nonsense}");
    }
}

#[tokio::test]
async fn nobody_is_led_to_another_site_after_signing_in() {
    let Some(mut provider) = OpenIdProvider::start() else {
        return;
    };
    let horde = start("sqlite::memory:", provider.configured()).await;
    provider.lead_back_to(&horde.url);
    for (wanted, path) in [
        ("/openid/transfer", "/transfer"),
        ("/openid/%2Ftransfer", "/transfer"),
        ("/openid/%2F%2Fevil.example", "/"),
        ("/openid/https:%2F%2Fevil.example%2F", "/"),
        ("/openid/%5C%5Cevil.example", "/"),
        ("/openid/%2F%09%2Fevil.example", "/"),
        ("/openid/", "/"),
    ] {
        let mut browser = Browser::new();
        let page = sign_in(&mut browser, &horde, wanted, "alice").await;
        let home: Url = horde.url.parse().unwrap();
        assert_eq!(page.url, home.join(path).unwrap(), "{wanted}");
    }
    // Where to go back to belongs to a session, not to the process.
    let (mut one, mut other) = (Browser::new(), Browser::new());
    let back = dance(&mut one, &horde, "/openid/transfer", "alice").await;
    sign_in(&mut other, &horde, "/openid/account", "bob").await;
    let page = one.get(back.as_str()).await;
    assert_eq!(one.follow(page, |_| true).await.url.path(), "/transfer");
    // An old session leads nowhere special.
    horde.later(12 * 3600);
    let page = one.get(&format!("{}/finish_dance", horde.url)).await;
    assert_eq!(page.location().unwrap().path(), "/");
    let account = one.get(&format!("{}/account", horde.url)).await;
    assert!(!account.text.contains("You are signed in"));
}

#[tokio::test]
async fn a_site_that_is_away_or_unknown_is_told() {
    let gone = Provider::openid(
        "http://127.0.0.1:9/".parse().unwrap(),
        "Gone".to_owned(),
        "ordu".to_owned(),
        "x".to_owned().into(),
    );
    let horde = start("sqlite::memory:", gone).await;
    let mut browser = Browser::new();
    let page = browser.get(&format!("{}/openid/register", horde.url)).await;
    assert_eq!(page.status, 502);
    for unknown in ["google", "discord", "github"] {
        let url = format!("{}/{unknown}/register", horde.url);
        assert_eq!(browser.get(&url).await.status, 404, "{unknown}");
    }
    let page = browser.get(&format!("{}/finish_dance", horde.url)).await;
    assert_eq!(page.location().unwrap().path(), "/");
}

/// A site that speaks OAuth 2 and no OpenID, as GitHub and Discord do: it hands out one code, for
/// whoever asks, and checks the verifier that comes with it.
#[derive(Clone, Default)]
struct Hub {
    challenge: Arc<Mutex<String>>,
    answer: Arc<Mutex<Value>>,
}

impl Hub {
    async fn start(&self) -> String {
        let token = async |State(hub): State<Self>, Form(form): Form<BTreeMap<String, String>>| {
            use base64_of::verifier_fits;
            let fits = verifier_fits(&form["code_verifier"], &hub.challenge.lock().unwrap());
            let is_ours = form["client_secret"] == "ours" && form["client_id"] == "us";
            if fits && is_ours && form["code"] == "the code" {
                Json(json!({ "access_token": "the token", "token_type": "bearer" }))
            } else {
                // GitHub says so with 200.
                Json(json!({ "error": "bad_verification_code" }))
            }
        };
        let user = async |State(hub): State<Self>, headers: HeaderMap| {
            assert_eq!(headers["authorization"], "Bearer the token");
            assert!(headers["user-agent"].to_str().unwrap().starts_with("ordu/"));
            Json(hub.answer.lock().unwrap().clone())
        };
        let router = Router::new()
            .route("/token", post(token))
            .route("/user", get(user))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }
}

mod base64_of {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use sha2::{Digest as _, Sha256};

    pub(super) fn verifier_fits(verifier: &str, challenge: &str) -> bool {
        URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge
    }
}

#[tokio::test]
async fn a_site_without_openid_vouches_by_its_own_page() {
    let hub = Hub::default();
    let url = hub.start().await;
    let secret = || "ours".to_owned().into();
    let mut provider = Provider::github("us".to_owned(), secret()).unwrap();
    provider.endpoints = Endpoints::Fixed {
        authorize: format!("{url}/authorize").parse().unwrap(),
        token: format!("{url}/token").parse().unwrap(),
        user: format!("{url}/user").parse().unwrap(),
    };
    let horde = start("sqlite::memory:", provider).await;
    for (answer, code, status) in [
        (json!({ "id": 583_231, "login": "x" }), "the code", 303),
        (json!({ "id": "583231" }), "the code", 303),
        (json!({ "login": "x" }), "the code", 502),
        (json!({ "id": "" }), "the code", 502),
        (json!([1]), "the code", 502),
        (json!({ "id": 583_231 }), "another code", 502),
    ] {
        *hub.answer.lock().unwrap() = answer.clone();
        let mut browser = Browser::new();
        let begun = browser.get(&format!("{}/github/register", horde.url)).await;
        let away = begun.location().unwrap();
        let asked: BTreeMap<String, String> = away.query_pairs().into_owned().collect();
        assert_eq!(
            asked["redirect_uri"],
            format!("{}/github/github/authorized", horde.url)
        );
        assert_eq!(
            (
                asked["code_challenge_method"].as_str(),
                asked["client_id"].as_str()
            ),
            ("S256", "us")
        );
        hub.challenge
            .lock()
            .unwrap()
            .clone_from(&asked["code_challenge"]);
        let back = format!("{}/github/github/authorized", horde.url);
        let query = [("state", asked["state"].as_str()), ("code", code)];
        let back = Url::parse_with_params(&back, query).unwrap();
        let page = browser.get(back.as_str()).await;
        assert_eq!(page.status, status, "{answer}: {page:?}");
        if status == 303 {
            let form = ("/register", "/register");
            let issued = browser.submit(&horde, form, &[("username", "x")]).await;
            assert_eq!(who(&horde, &issued.key().unwrap()).await["id"], 1);
        }
    }
    let stored = horde.server.store().find_user_by_subject("gh_583231").await;
    assert!(stored.unwrap().is_some());
}
