//! Collections of styles.

use ordu_api::worker::WorkKind;
use ordu_core::Millis;
use ordu_store::{CollectionChange, Error, StyleSort};

use crate::database::{Database, NOW};
use crate::style::{collection, style};
use crate::world::{new_user, user};

on_both!(
    a_collection_keeps_the_order_of_its_styles,
    a_new_list_of_styles_replaces_the_old_one,
    public_collections_are_listed_with_what_is_in_them,
    who_is_wiped_leaves_no_styles,
);

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

async fn a_new_list_of_styles_replaces_the_old_one(database: &Database) {
    let store = database.open().await;
    let styles: Vec<_> = ["a", "b", "c"].map(|name| style(user(7), name, NOW)).into();
    for style in &styles {
        store.insert_style(style).await.unwrap();
    }
    let new = collection(user(7), "all", &[&styles[0], &styles[1]]);
    store.insert_collection(&new).await.unwrap();
    let find = async || store.find_collection(new.id).await.unwrap().unwrap();
    let before = find().await;
    let nothing = CollectionChange::default();
    store.update_collection(new.id, &nothing).await.unwrap();
    assert_eq!(find().await, before);
    let change = CollectionChange {
        info: Some("more".to_owned()),
        styles: Some(vec![styles[2].id, styles[0].id]),
        ..CollectionChange::default()
    };
    store.update_collection(new.id, &change).await.unwrap();
    let after = find().await;
    assert_eq!((after.name.as_str(), after.info.as_str()), ("all", "more"));
    assert_eq!(after.styles, [styles[2].id, styles[0].id]);
    // What is gone meanwhile is left out.
    store.delete_style(styles[1].id).await.unwrap();
    let change = CollectionChange {
        styles: Some(styles.iter().map(|style| style.id).collect()),
        ..CollectionChange::default()
    };
    store.update_collection(new.id, &change).await.unwrap();
    assert_eq!(find().await.styles, [styles[0].id, styles[2].id]);
    store.delete_collection(new.id).await.unwrap();
    let refused = store.update_collection(new.id, &nothing).await;
    assert!(matches!(refused, Err(Error::NotFound)));
    let refused = store.delete_collection(new.id).await;
    assert!(matches!(refused, Err(Error::NotFound)));
    assert!(store.find_style(styles[0].id).await.unwrap().is_some());
}

async fn public_collections_are_listed_with_what_is_in_them(database: &Database) {
    let store = database.open().await;
    let owner = store.insert_user(&new_user("maker")).await.unwrap();
    let style = style(owner, "oil", NOW);
    store.insert_style(&style).await.unwrap();
    let mut first = collection(owner, "first", &[&style]);
    let mut second = collection(owner, "second", &[]);
    let mut hidden = collection(owner, "hidden", &[&style]);
    second.created = NOW + Millis(1);
    second.kind = WorkKind::Image;
    hidden.public = false;
    first.created = NOW;
    for new in [&first, &second, &hidden] {
        store.insert_collection(new).await.unwrap();
    }
    store.style_used_later(style.id, Some(second.id));
    store.flush().await.unwrap();
    let list = async |kind, sort, page| -> Vec<String> {
        let found = store.list_collections(kind, sort, page).await.unwrap();
        found
            .into_iter()
            .map(|collection| collection.name)
            .collect()
    };
    assert_eq!(list(None, StyleSort::Age, 0).await, ["first", "second"]);
    assert_eq!(list(None, StyleSort::Popular, 0).await, ["second", "first"]);
    let texts = Some(WorkKind::Text);
    assert_eq!(list(texts, StyleSort::Popular, 0).await, ["first"]);
    assert_eq!(list(None, StyleSort::Age, 1).await, [""; 0]);
    let ids = [first.id, second.id];
    let members = store.list_members(&ids).await.unwrap();
    assert_eq!(members.len(), 1);
    let member = &members[0];
    assert_eq!((member.collection, member.style), (first.id, style.id));
    assert_eq!(
        (member.name.as_str(), member.username.as_str()),
        ("oil", "maker")
    );
    assert_eq!(member.owner, owner);
}

async fn who_is_wiped_leaves_no_styles(database: &Database) {
    let store = database.open().await;
    let owner = store.insert_user(&new_user("maker")).await.unwrap();
    let (own, foreign) = (style(owner, "own", NOW), style(user(7000), "foreign", NOW));
    store.insert_style(&own).await.unwrap();
    store.insert_style(&foreign).await.unwrap();
    let group = collection(owner, "own", &[&foreign]);
    let other = collection(user(7000), "other", &[&own, &foreign]);
    store.insert_collection(&group).await.unwrap();
    store.insert_collection(&other).await.unwrap();
    store.wipe_user(owner).await.unwrap();
    assert_eq!(store.find_style(own.id).await.unwrap(), None);
    assert_eq!(store.find_collection(group.id).await.unwrap(), None);
    let left = store.find_collection(other.id).await.unwrap().unwrap();
    assert_eq!(left.styles, [foreign.id]);
}
