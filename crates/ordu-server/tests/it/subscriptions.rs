//! Those who support the horde with money: what they get, and how they are thanked.

use std::path::Path;

use ordu_api::user::TestUser;
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestHorde, on_each_database};

async fn start(database: &str, file: &Path) -> TestHorde {
    TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        subscriptions: Some(file.to_owned()),
        ..config
    })
    .await
}

async fn view(horde: &TestHorde, moderator: &TestUser, user: &TestUser) -> Value {
    let path = format!("/users/{}", user.user_id);
    let key = Some(moderator.api_key.reveal());
    horde.call(Method::GET, &path, key, None).await.body
}

#[tokio::test]
async fn subscribers_are_given_their_month() {
    on_each_database(async |database| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("subscriptions.json");
        std::fs::write(&file, "{}").unwrap();
        let horde = start(database, &file).await;
        let moderator = horde.mint("mod", json!({ "moderator": true })).await;
        let (patron, customer) = (
            horde.user("patron", 0.0).await,
            horde.user("cust", 0.0).await,
        );
        let contact = json!({ "contact": "cust@example.org" });
        let path = format!("/users/{}", customer.user_id);
        let key = Some(customer.api_key.reveal());
        horde.call(Method::PUT, &path, key, Some(&contact)).await;
        assert_eq!(
            view(&horde, &moderator, &patron).await["monthly_kudos"]["amount"],
            0.0
        );
        let document = json!({
            "patreon": [{ "stable_id": patron.alias, "pledge": 25, "name": "Pat" }],
            "stripe": [{ "email": "cust@example.org", "product": "Recognised" }],
        });
        std::fs::write(&file, document.to_string()).unwrap();
        for (month, times) in [(0, 1.0), (27, 1.0), (4, 2.0)] {
            horde.later(month * 24 * 3600);
            horde.server.settle_down().await.unwrap();
            horde.server.settle_down().await.unwrap();
            for (user, amount) in [(&patron, 900_000.0), (&customer, 75_000.0)] {
                let shown = view(&horde, &moderator, user).await;
                assert_eq!(shown["monthly_kudos"]["amount"], amount);
                assert_eq!(shown["kudos_details"]["recurring"], amount * times);
            }
        }
        // A file that cannot be read changes nothing; one without them ends it.
        std::fs::write(&file, "[").unwrap();
        horde.server.settle_down().await.unwrap();
        let amount = async || view(&horde, &moderator, &patron).await["monthly_kudos"].clone();
        assert_eq!(amount().await["amount"], 900_000.0);
        std::fs::write(&file, "{\"patreon\": []}").unwrap();
        horde.server.settle_down().await.unwrap();
        assert_eq!(amount().await["amount"], 0.0);
    })
    .await;
}

#[tokio::test]
async fn those_who_give_most_are_thanked_with_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("subscriptions.json");
    let document = json!({ "patreon": [
        { "name": "<i>Small</i>", "pledge": 3 },
        { "name": "Too small", "pledge": 2 },
        { "name": "Real name", "alias": "Big", "pledge": 99 },
        { "name": "Sponsor", "pledge": 100, "sponsor_link": "https://example.org/s" },
        { "name": "Gone", "pledge": 50, "active": false },
    ] });
    std::fs::write(&file, document.to_string()).unwrap();
    let horde = start("sqlite::memory:", &file).await;
    let html = horde.get("/documents/sponsors").await.body;
    let html = html["html"].as_str().unwrap();
    assert!(
        html.contains("<a href=\"https://example.org/s\">Sponsor</a>"),
        "{html}"
    );
    let place = |text: &str| {
        html.find(text)
            .unwrap_or_else(|| panic!("{text} in {html}"))
    };
    assert!(place("Big") < place("&lt;i&gt;Small&lt;/i&gt;"));
    for hidden in ["Too small", "Real name", "Gone"] {
        assert!(!html.contains(hidden), "{hidden}");
    }
    let markdown = horde.get("/documents/sponsors?format=markdown").await.body;
    let markdown = markdown["markdown"].as_str().unwrap();
    assert!(
        markdown.contains("- [Sponsor](<https://example.org/s>)"),
        "{markdown}"
    );
    let page = horde.http.get(format!("{}/sponsors", horde.url)).send();
    let page = page.await.unwrap().text().await.unwrap();
    assert!(page.contains(html));
}

#[tokio::test]
async fn members_of_patreon_may_do_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("subscriptions.json");
    std::fs::write(&file, "{}").unwrap();
    let horde = start("sqlite::memory:", &file).await;
    let member = horde.mint("member", json!({ "kudos": 1000 })).await;
    let mut body = serde_json::to_value(crate::support::request()).unwrap();
    body["disable_batching"] = json!(true);
    body["params"]["n"] = json!(2);
    let ask = async || {
        let key = Some(&member.api_key);
        horde.post("/generate/async", key, &body).await
    };
    let refused = ask().await;
    assert_eq!((refused.status, refused.rc()), (400, "RequiresTrust"));
    // A pledge that is worth nothing makes a member all the same.
    let document = json!({ "patreon": [{ "stable_id": member.user_id, "pledge": 11 }] });
    std::fs::write(&file, document.to_string()).unwrap();
    horde.server.settle_down().await.unwrap();
    // The copy of the account is ten seconds old at most.
    horde.later(10);
    assert_eq!(ask().await.status, 202);
}
