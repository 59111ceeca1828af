//! What is found out about a database without changing it.

use ordu_api::worker::WorkKind;
use ordu_core::{Millis, Timestamp};
use ordu_store::{DatabaseUrl, Error, Load, probe};

use crate::database::{Database, NOW};

on_both!(
    what_is_there_is_measured,
    a_newer_schema_is_told,
    a_database_that_cannot_be_written_is_told,
);

async fn what_is_there_is_measured(database: &Database) {
    let store = database.open().await;
    let load = Load {
        kind: WorkKind::Image,
        queued: 1,
        workers: 1,
    };
    store.sample_load(&[load], NOW).await.unwrap();
    let found = probe(&database.url(), || NOW).await.unwrap();
    assert_eq!(found.schema, found.known_schema);
    assert!(found.schema > 0 && !found.round_trip.is_zero());
    assert!(!found.write.unwrap().unwrap().is_zero());
    assert_eq!(found.newest, Some(Timestamp(NOW.0 - NOW.0 % 60_000)));
    // The tests' clock stands still, the database's does not.
    assert_eq!(
        found
            .ahead
            .is_some_and(|ahead| ahead > Millis::from_minutes(1)),
        database.is_postgres()
    );
    store.close().await;
}

async fn a_newer_schema_is_told(database: &Database) {
    database.open().await.close().await;
    database
        .execute(
            "INSERT INTO _sqlx_migrations
                 (version, description, success, checksum, execution_time)
             VALUES (9000, 'from the future', TRUE, 'x', 0)",
        )
        .await;
    let found = probe(&database.url(), || NOW).await.unwrap();
    assert_eq!(found.schema, 9000);
    assert!(found.known_schema < 9000);
}

async fn a_database_that_cannot_be_written_is_told(database: &Database) {
    database.open().await.close().await;
    let address = database.address();
    let separator = if address.contains('?') { '&' } else { '?' };
    let read_only = if database.is_postgres() {
        "options[default_transaction_read_only]=on"
    } else {
        "mode=ro"
    };
    let url: DatabaseUrl = format!("{address}{separator}{read_only}").parse().unwrap();
    let found = probe(&url, || NOW).await.unwrap();
    assert!(found.schema > 0);
    assert!(matches!(found.write, Some(Err(_))), "{found:?}");
}

#[test]
fn a_file_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.db");
    let url: DatabaseUrl = format!("sqlite://{}", file.display()).parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(probe(&url, || NOW));
    assert!(matches!(found, Err(Error::NotFound)), "{found:?}");
    assert!(!file.exists());
}
