//! Every row out, and every row back in.

use ordu_core::Kudos;
use ordu_store::backup::{Dumped, Restoration, schema_version};
use ordu_store::{Error, Options, Store};
use serde_json::Value;

use crate::database::{Database, NOW};
use crate::world::{new_user, new_worker, running, settlement, user};

on_both!(
    what_was_dumped_comes_back,
    only_an_empty_database_is_filled,
    what_does_not_fit_leaves_the_database_empty,
);

/// Tables with their columns and rows.
type Dump = Vec<(String, Vec<String>, Vec<Vec<Value>>)>;

async fn dump(store: &Store) -> Dump {
    let mut dumped: Dump = Vec::new();
    let mut sink = |one: Dumped<'_>| {
        match one {
            Dumped::Table { name, columns } => {
                dumped.push((name.to_owned(), columns.to_vec(), Vec::new()));
            }
            Dumped::Row(cells) => dumped.last_mut().unwrap().2.push(cells.to_vec()),
        }
        Ok(())
    };
    store.dump(&mut sink).await.unwrap();
    for (_, _, rows) in &mut dumped {
        rows.sort_by_key(|row| format!("{row:?}"));
    }
    dumped
}

async fn fill(database: &ordu_store::DatabaseUrl, dump: &Dump) -> ordu_store::Result<u64> {
    let mut restoration = Restoration::begin(database, schema_version()).await?;
    for (table, columns, rows) in dump {
        restoration.table(table, columns).await?;
        for row in rows {
            restoration.row(row).await?;
        }
    }
    restoration.commit().await
}

async fn filled(store: &Store) -> Dump {
    let owner = store
        .insert_user(&new_user("Ä \"quoted\" one"))
        .await
        .unwrap();
    store.insert_worker(&new_worker("w", owner)).await.unwrap();
    let (request, jobs) = running(store, 2).await;
    store
        .settle(&settlement(request, jobs[0], owner))
        .await
        .unwrap();
    store.fold(1000, NOW).await.unwrap();
    let (request, jobs) = running(store, 1).await;
    store
        .settle(&settlement(request, jobs[0], owner))
        .await
        .unwrap();
    dump(store).await
}

async fn what_was_dumped_comes_back(database: &Database) {
    let store = database.open().await;
    let before = filled(&store).await;
    assert!(
        before
            .iter()
            .any(|(table, _, rows)| table == "ledger" && rows.len() == 4)
    );
    // From either database into a file of SQLite; the other way is tried with whole backups.
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("copy.db").display());
    let url = url.parse().unwrap();
    let rows: usize = before.iter().map(|(_, _, rows)| rows.len()).sum();
    assert_eq!(fill(&url, &before).await.unwrap(), rows as u64);
    let copy = Store::open(&url, &Options::default(), NOW).await.unwrap();
    assert_eq!(dump(&copy).await, before);
    assert_eq!(copy.ledger_sum().await.unwrap(), Kudos::ZERO);
    copy.fold(1000, NOW).await.unwrap();
    assert_eq!(copy.audit().await.unwrap(), []);
    let next = copy.insert_user(&new_user("next")).await.unwrap();
    assert_eq!(next, user(2), "numbers go on where they were");
}

async fn only_an_empty_database_is_filled(database: &Database) {
    let store = database.open().await;
    let before = dump(&store).await;
    store.insert_user(&new_user("somebody")).await.unwrap();
    store.close().await;
    let refused = fill(&database.url(), &before).await;
    let Err(Error::Invalid(message)) = refused else {
        panic!("{refused:?}");
    };
    assert!(message.contains("`users` has 1 rows"), "{message}");
    let newer = Restoration::begin(&database.url(), schema_version() + 1).await;
    assert!(matches!(newer, Err(Error::NewerSchema { .. })), "{newer:?}");
    let store = database.open().await;
    assert!(store.find_user(user(1)).await.unwrap().is_some());
}

async fn what_does_not_fit_leaves_the_database_empty(database: &Database) {
    let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let totals: Vec<String> = columns(&["owner", "name", "value"]);
    let good: Vec<Value> = vec![1.into(), "kudos.admin".into(), 5.into()];
    let wrong = [
        vec![("nonsense".to_owned(), totals.clone(), vec![good.clone()])],
        vec![("totals".to_owned(), columns(&["owner"]), vec![good.clone()])],
        vec![(
            "totals".to_owned(),
            totals.clone(),
            vec![good.clone(), vec![1.into()]],
        )],
        vec![(
            "totals".to_owned(),
            totals.clone(),
            vec![good.clone(), vec!["one".into(), "a".into(), 5.into()]],
        )],
        vec![(
            "totals".to_owned(),
            totals.clone(),
            vec![good.clone(), good.clone()],
        )],
    ];
    for dump in wrong {
        assert!(fill(&database.url(), &dump).await.is_err(), "{dump:?}");
    }
    let store = database.open().await;
    assert_eq!(store.totals(&[user(1)]).await.unwrap().len(), 0);
}
