//! Settings.

use crate::database::Database;

on_both!(settings_are_kept_and_replaced);

async fn settings_are_kept_and_replaced(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.find_setting("raid").await.unwrap(), None);
    store.set_setting("raid", "false").await.unwrap();
    store.set_setting("raid", "true").await.unwrap();
    store.set_setting("maintenance", "false").await.unwrap();
    assert_eq!(
        store.find_setting("raid").await.unwrap().as_deref(),
        Some("true")
    );
    let all = store.settings().await.unwrap();
    assert_eq!(all.into_keys().collect::<Vec<_>>(), ["maintenance", "raid"]);
}
