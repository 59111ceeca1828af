//! Opening: migrations, newer schemas, start-up.

use ordu_api::UserId;
use ordu_store::{DatabaseUrl, Error, Options, Store};

use crate::database::{Database, NOW};
use crate::world::{request, running};

on_both!(
    a_newer_schema_is_refused,
    opening_twice_at_once_is_fine,
    what_starts_a_node_uses_indexes,
);

async fn a_newer_schema_is_refused(database: &Database) {
    database.open().await.close().await;
    database
        .execute(
            "INSERT INTO _sqlx_migrations
                 (version, description, success, checksum, execution_time)
             VALUES (9000, 'from the future', TRUE, 'x', 0)",
        )
        .await;
    let refused = Store::open(&database.url(), &Options::default(), NOW).await;
    let Err(Error::NewerSchema { found: 9000, known }) = refused else {
        panic!("{refused:?}");
    };
    assert!(known < 9000);
}

async fn opening_twice_at_once_is_fine(database: &Database) {
    let stores = tokio::join!(
        database.open(),
        database.open(),
        database.open(),
        database.open(),
        database.open(),
        database.open(),
    );
    for store in <[Store; 6]>::from(stores) {
        assert!(store.find_user(UserId::ANONYMOUS).await.unwrap().is_some());
        store.ping().await.unwrap();
    }
}

async fn what_starts_a_node_uses_indexes(database: &Database) {
    let store = database.open().await;
    running(&store, 1).await;
    if database.is_postgres() {
        // An empty table is read whole whatever the indexes.
        return;
    }
    for (sql, index) in [
        (
            "EXPLAIN QUERY PLAN SELECT * FROM requests WHERE state = 'live'",
            "requests_live",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT id FROM requests WHERE state <> 'live' AND expires < 5
             ORDER BY expires LIMIT 3",
            "requests_ended",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT event FROM ledger WHERE NOT folded ORDER BY happened_at",
            "ledger_unfolded",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT event FROM activity WHERE NOT folded ORDER BY happened_at",
            "activity_unfolded",
        ),
        (
            "EXPLAIN QUERY PLAN
             UPDATE requests SET done = done + 1
             FROM json_each('[]') AS i
             WHERE requests.id = unhex(i.value ->> 'request')",
            "sqlite_autoindex_requests_1",
        ),
        (
            "EXPLAIN QUERY PLAN
             UPDATE ledger SET folded = TRUE
             FROM json_each('[]') AS i
             WHERE ledger.event = unhex(i.value ->> 'event')
                 AND ledger.reason = i.value ->> 'reason' AND ledger.line = i.value ->> 'line'",
            "sqlite_autoindex_ledger_1",
        ),
    ] {
        let plan = database.plan(sql).await;
        assert!(plan.contains(index), "{sql}\n{plan}");
    }
}

#[test]
fn only_known_databases_have_addresses() {
    assert!("sqlite::memory:".parse::<DatabaseUrl>().is_ok());
    assert!(
        "postgresql://localhost/x"
            .parse::<DatabaseUrl>()
            .unwrap()
            .is_shared()
    );
    let refused = "mysql://u:secret@localhost"
        .parse::<DatabaseUrl>()
        .unwrap_err();
    assert!(!refused.to_string().contains("secret"));
}

#[tokio::test]
async fn a_database_in_memory_lives_with_its_store() {
    let url: DatabaseUrl = "sqlite::memory:".parse().unwrap();
    let store = Store::open(&url, &Options::default(), NOW).await.unwrap();
    let other = Store::open(&url, &Options::default(), NOW).await.unwrap();
    let new = request(1);
    store.insert_request(&new).await.unwrap();
    // A refused write in a transaction, too, leaves the database alive.
    assert!(store.wipe_user(UserId::ANONYMOUS).await.is_err());
    assert!(store.find_request(new.id).await.unwrap().is_some());
    assert!(other.find_request(new.id).await.unwrap().is_none());
}
