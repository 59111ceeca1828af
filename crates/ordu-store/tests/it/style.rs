//! Styles: stored, listed, changed, counted.

use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, SharedKeyId, StyleId, UserId};
use ordu_core::{Millis, Timestamp};
use ordu_store::{Error, NewCollection, NewStyle, StyleChange, StyleFilter, StyleSort};

use crate::database::{Database, NOW};
use crate::world::{id, user};

on_both!(
    a_style_comes_back_as_it_was_made,
    a_name_is_unique_among_its_owners,
    only_what_is_named_is_changed,
    public_styles_are_listed_by_words_and_pages,
    an_account_lists_its_own,
    lists_use_indexes,
    a_style_takes_all_of_it_along,
    uses_are_written_behind,
);

pub(crate) fn style(owner: UserId, name: &str, created: Timestamp) -> NewStyle {
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

pub(crate) fn collection(owner: UserId, name: &str, styles: &[&NewStyle]) -> NewCollection {
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

async fn only_what_is_named_is_changed(database: &Database) {
    let store = database.open().await;
    let new = style(user(7), "oil", NOW);
    store.insert_style(&new).await.unwrap();
    let other = style(user(7), "other", NOW);
    store.insert_style(&other).await.unwrap();
    let before = store.find_style(new.id).await.unwrap().unwrap();
    let nothing = StyleChange::default();
    store.update_style(new.id, &nothing).await.unwrap();
    assert_eq!(store.find_style(new.id).await.unwrap().unwrap(), before);
    let change = StyleChange {
        tags: Some(Vec::new()),
        nsfw: Some(false),
        shared_key: Some(None),
        ..StyleChange::default()
    };
    store.update_style(new.id, &change).await.unwrap();
    let after = store.find_style(new.id).await.unwrap().unwrap();
    assert_eq!(
        (after.tags.len(), after.nsfw, after.shared_key),
        (0, false, None)
    );
    assert_eq!((after.name, after.models), (before.name, before.models));
    let taken = StyleChange {
        name: Some("other".to_owned()),
        tags: Some(vec!["x".to_owned()]),
        ..StyleChange::default()
    };
    let refused = store.update_style(new.id, &taken).await;
    assert!(matches!(refused, Err(Error::Taken)));
    let kept = store.find_style(new.id).await.unwrap().unwrap();
    assert_eq!(kept.tags.len(), 0, "all or nothing");
    let missing = StyleId::from_uuid(id());
    let refused = store.update_style(missing, &nothing).await;
    assert!(matches!(refused, Err(Error::NotFound)));
}

async fn public_styles_are_listed_by_words_and_pages(database: &Database) {
    let store = database.open().await;
    for number in 0..30_i64 {
        let mut new = style(user(7), &format!("s{number:02}"), NOW + Millis(number));
        new.public = number != 3;
        new.tags = vec!["all".to_owned(), format!("t{}", number % 10)];
        new.models = vec!["m".to_owned(), "m".to_owned()];
        store.insert_style(&new).await.unwrap();
        if number == 20 {
            store.style_used_later(new.id, None);
        }
    }
    store.flush().await.unwrap();
    let plain = StyleFilter {
        kind: WorkKind::Text,
        tag: None,
        model: None,
        sort: StyleSort::Age,
        page: 0,
    };
    let names = async |filter: StyleFilter| -> Vec<String> {
        let found = store.list_styles(&filter).await.unwrap();
        found.into_iter().map(|style| style.name).collect()
    };
    let by_age = names(plain.clone()).await;
    assert_eq!(by_age[..4], ["s00", "s01", "s02", "s04"]);
    assert_eq!(by_age.len(), 25);
    let second = StyleFilter {
        page: 1,
        ..plain.clone()
    };
    assert_eq!(names(second).await, ["s26", "s27", "s28", "s29"]);
    let far = StyleFilter {
        page: u32::MAX,
        ..plain.clone()
    };
    assert_eq!(names(far).await, [""; 0]);
    let popular = StyleFilter {
        sort: StyleSort::Popular,
        ..plain.clone()
    };
    assert_eq!(names(popular).await[..2], ["s20", "s00"]);
    let tagged = StyleFilter {
        tag: Some("t3".to_owned()),
        ..plain.clone()
    };
    assert_eq!(names(tagged.clone()).await, ["s13", "s23"]);
    let neither = StyleFilter {
        model: Some("t3".to_owned()),
        ..tagged
    };
    assert_eq!(names(neither).await, [""; 0], "a tag is no model");
    let images = StyleFilter {
        kind: WorkKind::Image,
        ..plain
    };
    assert_eq!(names(images).await, [""; 0]);
}

async fn an_account_lists_its_own(database: &Database) {
    let store = database.open().await;
    let mut newer = style(user(7), "newer", NOW + Millis(1));
    newer.public = true;
    store.insert_style(&newer).await.unwrap();
    let older = style(user(7), "older", NOW);
    store.insert_style(&older).await.unwrap();
    store
        .insert_style(&style(user(8), "other", NOW))
        .await
        .unwrap();
    let own = store.list_styles_of(&[user(7)]).await.unwrap();
    let own: Vec<_> = own
        .into_iter()
        .map(|style| (style.id, style.public))
        .collect();
    assert_eq!(own, [(older.id, false), (newer.id, true)]);
}

async fn a_style_takes_all_of_it_along(database: &Database) {
    let store = database.open().await;
    let new = style(user(7), "a", NOW);
    let other = style(user(8), "b", NOW);
    store.insert_style(&new).await.unwrap();
    store.insert_style(&other).await.unwrap();
    let group = collection(user(8), "all", &[&new, &other]);
    store.insert_collection(&group).await.unwrap();
    let example = crate::example::example("x", true);
    store.insert_example(new.id, &example, 4).await.unwrap();
    store.delete_style(new.id).await.unwrap();
    let left = store.find_collection(group.id).await.unwrap().unwrap();
    assert_eq!(left.styles, [other.id]);
    assert!(store.list_examples(&[new.id]).await.unwrap().is_empty());
    assert!(matches!(
        store.delete_style(new.id).await,
        Err(Error::NotFound)
    ));
    store.insert_style(&new).await.unwrap();
    assert!(store.list_examples(&[new.id]).await.unwrap().is_empty());
}

async fn lists_use_indexes(database: &Database) {
    database.open().await;
    if database.is_postgres() {
        // An empty table is read whole whatever the indexes.
        return;
    }
    for (sql, index) in [
        (
            "EXPLAIN QUERY PLAN SELECT * FROM styles AS s WHERE public AND kind = 'image'
             ORDER BY use_count DESC, created, id LIMIT 25 OFFSET 25",
            "styles_popular",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT * FROM styles AS s WHERE public AND kind = 'image'
             ORDER BY created, id LIMIT 25 OFFSET 25",
            "styles_age",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT * FROM collections WHERE public AND kind = 'image'
             ORDER BY use_count DESC, created, id LIMIT 25 OFFSET 25",
            "collections_popular",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT * FROM styles WHERE owner = 7 ORDER BY created, id",
            "sqlite_autoindex_styles_2",
        ),
    ] {
        let plan = database.plan(sql).await;
        assert!(plan.contains(index), "{sql}\n{plan}");
    }
}
