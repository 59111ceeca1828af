//! Styles and collections.

use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, SharedKeyId, StyleId, UserId};
use ordu_core::{Millis, Timestamp};
use ordu_store::{Error, NewCollection, NewStyle};

use crate::database::{Database, NOW};
use crate::world::{id, user};

on_both!(
    a_style_comes_back_as_it_was_made,
    a_name_is_unique_among_its_owners,
    a_collection_keeps_the_order_of_its_styles,
    uses_are_written_behind,
);

fn style(owner: UserId, name: &str, created: Timestamp) -> NewStyle {
    NewStyle {
        id: StyleId::from_uuid(id()),
        owner,
        kind: WorkKind::Text,
        name: name.to_owned(),
        info: "about it".to_owned(),
        prompt: "{p}".to_owned(),
        params: r#"{"steps":1}"#.to_owned(),
        models: vec!["a \"b\"".to_owned()],
        tags: vec!["c".to_owned()],
        public: false,
        nsfw: true,
        shared_key: Some(SharedKeyId::from_uuid(id())),
        created,
    }
}

fn collection(owner: UserId, name: &str, styles: &[&NewStyle]) -> NewCollection {
    NewCollection {
        id: CollectionId::from_uuid(id()),
        owner,
        kind: WorkKind::Text,
        name: name.to_owned(),
        info: String::new(),
        public: true,
        styles: styles.iter().map(|style| style.id).collect(),
        created: NOW,
    }
}

async fn a_style_comes_back_as_it_was_made(database: &Database) {
    let store = database.open().await;
    let new = style(user(7), "oil", NOW);
    store.insert_style(&new).await.unwrap();
    let found = store.find_style(new.id).await.unwrap().unwrap();
    assert_eq!(
        (found.name, found.prompt, found.params),
        (new.name, new.prompt, new.params)
    );
    assert_eq!((found.models, found.tags), (new.models, new.tags));
    assert_eq!(
        (found.public, found.nsfw, found.kind),
        (false, true, WorkKind::Text)
    );
    assert_eq!((found.shared_key, found.use_count), (new.shared_key, 0));
    let unknown = StyleId::from_uuid(id());
    assert_eq!(store.find_style(unknown).await.unwrap(), None);
}

async fn a_name_is_unique_among_its_owners(database: &Database) {
    let store = database.open().await;
    let newer = style(user(7), "oil", NOW + Millis(1));
    let older = style(user(8), "oil", NOW);
    store.insert_style(&newer).await.unwrap();
    store.insert_style(&older).await.unwrap();
    let again = store.insert_style(&style(user(7), "oil", NOW)).await;
    assert!(matches!(again, Err(Error::Taken)));
    let found = async |name: &str, owner| {
        let found = store.find_style_named(name, owner).await.unwrap();
        found.map(|style| style.id)
    };
    assert_eq!(found("oil", None).await, Some(older.id), "the oldest");
    assert_eq!(found("oil", Some(user(7))).await, Some(newer.id));
    assert_eq!(found("oil", Some(user(9))).await, None);
    assert_eq!(found("Oil", None).await, None);
}

async fn a_collection_keeps_the_order_of_its_styles(database: &Database) {
    let store = database.open().await;
    let styles: Vec<_> = ["a", "b", "c"].map(|name| style(user(7), name, NOW)).into();
    for style in &styles {
        store.insert_style(style).await.unwrap();
    }
    let new = collection(user(7), "all", &[&styles[2], &styles[0], &styles[1]]);
    store.insert_collection(&new).await.unwrap();
    let found = store.find_collection(new.id).await.unwrap().unwrap();
    assert_eq!(found.styles, new.styles);
    let named = store
        .find_collection_named("all", Some(user(7)))
        .await
        .unwrap();
    assert_eq!(named, Some(found));
    assert_eq!(
        store
            .find_collection_named("all", Some(user(8)))
            .await
            .unwrap(),
        None
    );
    let twice = collection(user(7), "twice", &[&styles[0], &styles[0]]);
    assert!(matches!(
        store.insert_collection(&twice).await,
        Err(Error::Taken)
    ));
    assert_eq!(
        store.find_collection(twice.id).await.unwrap(),
        None,
        "all or nothing"
    );
}

async fn uses_are_written_behind(database: &Database) {
    let store = database.open().await;
    let new = style(user(7), "a", NOW);
    store.insert_style(&new).await.unwrap();
    let group = collection(user(7), "all", &[&new]);
    store.insert_collection(&group).await.unwrap();
    store.style_used_later(new.id, None);
    store.style_used_later(new.id, Some(group.id));
    store.flush().await.unwrap();
    store.style_used_later(new.id, Some(group.id));
    store.flush().await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(
        store.find_style(new.id).await.unwrap().unwrap().use_count,
        3
    );
    assert_eq!(
        store
            .find_collection(group.id)
            .await
            .unwrap()
            .unwrap()
            .use_count,
        2
    );
}
