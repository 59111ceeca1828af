//! Examples of styles.

use std::collections::BTreeSet;
use std::sync::Arc;

use ordu_api::{StyleExampleId, StyleId};
use ordu_store::{Error, Example, ExampleAdded, Precedence, Store};

use crate::database::{Database, NOW};
use crate::style::style;
use crate::world::{id, user};

on_both!(
    one_example_is_always_the_primary_one,
    examples_have_a_number_and_a_link_of_their_own,
    adding_at_once_never_adds_too_many,
    whatever_is_done_leaves_one_primary_example,
);

pub(crate) fn example(name: &str, primary: bool) -> Example {
    Example {
        id: StyleExampleId::from_uuid(id()),
        url: format!("https://{name}"),
        primary,
    }
}

async fn new_style(store: &Store) -> StyleId {
    let new = style(user(7), "oil", NOW);
    store.insert_style(&new).await.unwrap();
    new.id
}

/// The examples as `name` or `name!`.
async fn shown(store: &Store, style: StyleId) -> Vec<String> {
    let mut examples = store.list_examples(&[style]).await.unwrap();
    let examples = examples.remove(&style).unwrap_or_default();
    let name = |example: Example| {
        let mark = if example.primary { "!" } else { "" };
        format!("{}{mark}", example.url.replace("https://", ""))
    };
    examples.into_iter().map(name).collect()
}

async fn one_example_is_always_the_primary_one(database: &Database) {
    let store = database.open().await;
    let style = new_style(&store).await;
    let (a, b, c) = (example("a", false), example("b", false), example("c", true));
    for new in [&a, &b, &c] {
        let added = store.insert_example(style, new, 4).await.unwrap();
        assert_eq!(added, ExampleAdded::Done);
    }
    assert_eq!(shown(&store, style).await, ["a", "b", "c!"]);
    let change = async |of: &Example, url, precedence| {
        store
            .update_example(style, of.id, url, precedence)
            .await
            .unwrap();
        shown(&store, style).await
    };
    let (primary, unchanged) = (Precedence::Primary, Precedence::Unchanged);
    assert_eq!(change(&b, None, primary).await, ["a", "b!", "c"]);
    assert_eq!(
        change(&b, Some("https://B"), unchanged).await,
        ["a", "B!", "c"]
    );
    assert_eq!(
        change(&b, Some("https://B"), primary).await,
        ["a", "B!", "c"]
    );
    store.delete_example(style, c.id).await.unwrap();
    assert_eq!(shown(&store, style).await, ["a", "B!"]);
    store.delete_example(style, b.id).await.unwrap();
    assert_eq!(shown(&store, style).await, ["a!"]);
    store.delete_example(style, a.id).await.unwrap();
    assert_eq!(shown(&store, style).await, [""; 0]);
    let gone = store.delete_example(style, a.id).await;
    assert!(matches!(gone, Err(Error::NotFound)));
}

async fn examples_have_a_number_and_a_link_of_their_own(database: &Database) {
    let store = database.open().await;
    let style = new_style(&store).await;
    let (a, b) = (example("a", false), example("b", true));
    store.insert_example(style, &a, 2).await.unwrap();
    let same = store.insert_example(style, &example("a", true), 2).await;
    assert_eq!(same.unwrap(), ExampleAdded::Known);
    assert_eq!(shown(&store, style).await, ["a!"], "all or nothing");
    store.insert_example(style, &b, 2).await.unwrap();
    let third = store.insert_example(style, &example("c", true), 2).await;
    assert_eq!(third.unwrap(), ExampleAdded::Full);
    let taken = store
        .update_example(style, a.id, Some("https://b"), Precedence::Primary)
        .await;
    assert!(matches!(taken, Err(Error::Taken)));
    assert_eq!(shown(&store, style).await, ["a", "b!"]);
    let nothing = StyleId::from_uuid(id());
    let missing = store.insert_example(nothing, &a, 2).await;
    assert!(matches!(missing, Err(Error::NotFound)));
    let foreign = StyleExampleId::from_uuid(id());
    let missing = store
        .update_example(style, foreign, None, Precedence::Primary)
        .await;
    assert!(matches!(missing, Err(Error::NotFound)));
    assert_eq!(
        shown(&store, style).await,
        ["a", "b!"],
        "nothing was demoted"
    );
}

async fn adding_at_once_never_adds_too_many(database: &Database) {
    let store = Arc::new(database.open().await);
    let style = new_style(&store).await;
    let examples = ["a", "b", "c", "d", "e", "f"].map(|name| example(name, true));
    let mut adding = tokio::task::JoinSet::new();
    for new in examples {
        let store = Arc::clone(&store);
        adding.spawn(async move { store.insert_example(style, &new, 4).await.unwrap() });
    }
    let added = adding.join_all().await;
    let done = added.iter().filter(|added| **added == ExampleAdded::Done);
    assert_eq!(done.count(), 4, "{added:?}");
    let left = shown(&store, style).await;
    let primary = left.iter().filter(|name| name.ends_with('!'));
    assert_eq!((left.len(), primary.count()), (4, 1), "{left:?}");
}

/// A few hundred steps, the same in each run.
async fn whatever_is_done_leaves_one_primary_example(database: &Database) {
    let store = database.open().await;
    let style = new_style(&store).await;
    let mut dice = 7_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) % sides
    };
    let mut known: Vec<StyleExampleId> = Vec::new();
    for step in 0..200 {
        let precedence = if roll(2) == 0 {
            Precedence::Primary
        } else {
            Precedence::Unchanged
        };
        let some = known.get(usize::try_from(roll(5)).unwrap()).copied();
        match (roll(4), some) {
            (0 | 1, _) => {
                let new = example(&roll(9).to_string(), precedence == Precedence::Primary);
                store.insert_example(style, &new, 4).await.unwrap();
            }
            (2, Some(id)) => {
                let url = format!("https://{}", roll(9));
                let updated = store
                    .update_example(style, id, Some(&url), precedence)
                    .await;
                assert!(matches!(updated, Ok(()) | Err(Error::Taken)), "{updated:?}");
            }
            (_, Some(id)) => store.delete_example(style, id).await.unwrap(),
            (_, None) => {}
        }
        let mut listed = store.list_examples(&[style]).await.unwrap();
        let listed = listed.remove(&style).unwrap_or_default();
        let urls: BTreeSet<&String> = listed.iter().map(|example| &example.url).collect();
        let primary = listed.iter().filter(|example| example.primary).count();
        assert!(listed.len() <= 4, "step {step}");
        assert_eq!(urls.len(), listed.len(), "step {step}");
        assert_eq!(primary, listed.len().min(1), "step {step}: {listed:?}");
        known = listed.into_iter().map(|example| example.id).collect();
    }
}
