//! An AI Horde's database taken over, and served.

use ordu_api::ApiKey;
use ordu_core::Kudos;
use ordu_server::Secret;
use ordu_store::import::{Import, Mode};
use ordu_store::testing::Schema;
use serde_json::json;

use crate::support::{TestHorde, on_each_database};

const OLD_SECRET: &str = "old secret";

const OLD_LAYOUT: &str = include_str!("../../../ordu-store/tests/data/aihorde.sql");
const OLD_ROWS: &str = include_str!("../../../ordu-store/tests/data/aihorde-rows.sql");

#[tokio::test]
async fn keys_aliases_styles_and_balances_are_those_of_the_old_horde() {
    let Ok(address) = std::env::var("ORDU_TEST_POSTGRES") else {
        assert!(
            std::env::var("ORDU_TEST_NO_SKIP").is_err(),
            "ORDU_TEST_POSTGRES is not set"
        );
        eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
        return;
    };
    let old = Schema::create(&address).await.unwrap();
    old.run(&format!("{OLD_LAYOUT} {OLD_ROWS}")).await.unwrap();
    on_each_database(async |url| serve(url, &old.url()).await).await;
    old.drop_schema().await.unwrap();
}

async fn serve(database: &str, old: &str) {
    let horde = TestHorde::start_with(|config| ordu_server::Config {
        database: database.to_owned(),
        secret: Secret::new(OLD_SECRET),
        ..config
    })
    .await;
    let plan = Import {
        source: old.to_owned(),
        anonymous_hash: horde.server.secret().hash(&ApiKey::anonymous()),
        mode: Mode::Write,
        now: horde.clock.now(),
    };
    horde.server.store().import(&plan).await.unwrap();
    horde.server.store().import(&plan).await.unwrap();
    let key = ApiKey::new("key-of-150");
    let me = horde.client(&key).find_user().await.unwrap();
    assert_eq!(me.username, "user 150#150");
    let shown = horde.get("/users/150").await.body;
    assert_eq!(shown["kudos"], 14_746.0);
    assert_eq!(shown["kudos_details"]["gifted"], -150.0);
    assert_eq!(shown["records"]["contribution"]["megapixelsteps"], 150.25);
    assert_eq!(horde.get("/users/0").await.body["username"], "Anonymous#0");

    // An alias counts by its number, whatever stands before it.
    let giver = ApiKey::new("key-of-103");
    let gift = json!({ "username": "anything#150", "amount": 10 });
    let given = horde.post("/kudos/transfer", Some(&giver), &gift).await;
    assert_eq!(given.status, 200, "{}", given.body);

    let styled = json!({
        "prompt": "a horse", "style": "style::user_one#1::style 20", "models": [], "params": {},
    });
    let missing = horde.post("/generate/async", Some(&key), &styled).await;
    assert_eq!(
        missing.rc(),
        "StyleMismatch",
        "that style is for texts: {}",
        missing.body
    );
    let styled = json!({ "prompt": "a horse", "style": "style 3" });
    let accepted = horde.post("/generate/async", Some(&key), &styled).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);

    horde.server.settle_down().await.unwrap();
    assert_eq!(
        horde.server.store().ledger_sum().await.unwrap(),
        Kudos::ZERO
    );
    horde.server.stop().await;
}
