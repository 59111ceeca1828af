//! The change log, and who of several nodes lives and leads. On SQLite there is only one node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ordu_core::Millis;
use ordu_store::{Changed, Error, Node, Noun, Options, Store, UserChange, Word};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::{Database, NOW};
use crate::world::{assignment, id, new_user, new_worker, request};

on_both!(
    one_database_file_has_one_node,
    a_node_reads_what_others_changed_once,
    what_commits_late_is_read_late_but_read,
    nothing_is_lost_between_many_writers,
    who_writes_is_heard,
    a_node_alone_writes_no_log,
    one_node_leads_until_it_is_gone,
    silent_nodes_are_dead,
    some_requests_are_read_with_their_jobs,
    a_request_that_was_taken_does_not_expire,
);

/// A store as one of several nodes.
async fn node(database: &Database) -> (Uuid, Store) {
    let own = id();
    let mut options = Options::default();
    options.node = Some(own);
    (own, database.open_with(&options).await)
}

fn subjects(changed: &Changed, noun: Noun) -> Vec<String> {
    let found = changed.subjects.get(&noun).into_iter().flatten();
    found.cloned().collect()
}

async fn one_database_file_has_one_node(database: &Database) {
    if database.is_postgres() {
        return;
    }
    let store = database.open().await;
    let refused = store.tell_changes().await.unwrap_err();
    assert!(matches!(refused, Error::Invalid(_)));
    assert!(store.seen_by_now().await.is_err());
    assert!(store.try_lead().await.is_err());
    assert!(store.listen().await.is_err());
    assert!(store.list_nodes().await.unwrap().is_empty());
    store.stop_telling_changes().await.unwrap();
}

async fn a_node_reads_what_others_changed_once(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let (one, here) = node(database).await;
    let (other, there) = node(database).await;
    here.tell_changes().await.unwrap();
    there.tell_changes().await.unwrap();
    let seen = there.seen_by_now().await.unwrap();
    let new = request(2);
    here.insert_request(&new).await.unwrap();
    here.assign(&assignment(new.id, 0..1)).await.unwrap();
    let user = here.insert_user(&new_user("a")).await.unwrap();
    let change = UserChange {
        trusted: Some(true),
        ..UserChange::default()
    };
    here.update_user(user, &change).await.unwrap();
    let worker = new_worker("w", user);
    here.insert_worker(&worker).await.unwrap();
    here.set_setting("modes", "{}").await.unwrap();
    let (changed, then) = there.read_changes(&seen, other).await.unwrap();
    assert_eq!(subjects(&changed, Noun::Request), [new.id.to_string()]);
    assert_eq!(subjects(&changed, Noun::User), [user.to_string()]);
    assert_eq!(subjects(&changed, Noun::Worker), [worker.id.to_string()]);
    assert_eq!(subjects(&changed, Noun::Setting), ["modes"]);
    assert!(changed.oldest.is_some());
    let (again, _) = there.read_changes(&then, other).await.unwrap();
    assert_eq!(again, Changed::default());
    let (own, _) = here.read_changes(&seen, one).await.unwrap();
    assert_eq!(own, Changed::default(), "nobody reads what it did itself");
    // What is no node is heard by all.
    let operator = database.open().await;
    operator.delete_worker(worker.id).await.unwrap();
    for (node, store) in [(one, &here), (other, &there)] {
        let (changed, _) = store.read_changes(&then, node).await.unwrap();
        assert_eq!(subjects(&changed, Noun::Worker), [worker.id.to_string()]);
    }
    // Balances move all the time; nobody keeps a copy that has to know at once.
    let (_, then) = there.read_changes(&then, other).await.unwrap();
    operator.fold(100, NOW).await.unwrap();
    let (nothing, _) = there.read_changes(&then, other).await.unwrap();
    assert_eq!(nothing, Changed::default());
    assert_eq!(there.delete_changes(Millis(-1_000)).await.unwrap(), 6);
}

async fn what_commits_late_is_read_late_but_read(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let (_, here) = node(database).await;
    let (other, there) = node(database).await;
    here.tell_changes().await.unwrap();
    let mut slow = PgConnection::connect(database.address()).await.unwrap();
    let late = "BEGIN; INSERT INTO settings (name, value) VALUES ('late', '')";
    sqlx::raw_sql(late).execute(&mut slow).await.unwrap();
    let seen = there.seen_by_now().await.unwrap();
    // Younger transactions commit before it.
    let new = request(1);
    here.insert_request(&new).await.unwrap();
    let (changed, seen) = there.read_changes(&seen, other).await.unwrap();
    assert_eq!(subjects(&changed, Noun::Request), [new.id.to_string()]);
    assert!(subjects(&changed, Noun::Setting).is_empty());
    let (nothing, seen) = there.read_changes(&seen, other).await.unwrap();
    assert_eq!(nothing, Changed::default());
    sqlx::raw_sql("COMMIT").execute(&mut slow).await.unwrap();
    let (changed, seen) = there.read_changes(&seen, other).await.unwrap();
    assert_eq!(subjects(&changed, Noun::Setting), ["late"]);
    assert!(subjects(&changed, Noun::Request).is_empty(), "read before");
    let (nothing, _) = there.read_changes(&seen, other).await.unwrap();
    assert_eq!(nothing, Changed::default());
}

async fn nothing_is_lost_between_many_writers(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let (_, here) = node(database).await;
    let (other, there) = node(database).await;
    here.tell_changes().await.unwrap();
    let here = Arc::new(here);
    let mut seen = there.seen_by_now().await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..400 {
        let store = Arc::clone(&here);
        writers.spawn(async move {
            let new = request(1);
            store.insert_request(&new).await.unwrap();
            new.id.to_string()
        });
    }
    let mut read = Vec::new();
    let mut written = BTreeSet::new();
    loop {
        let ended = tokio::select! {
            ended = writers.join_next() => ended,
            () = tokio::task::yield_now() => Some(Ok(String::new())),
        };
        let (changed, next) = there.read_changes(&seen, other).await.unwrap();
        seen = next;
        read.extend(subjects(&changed, Noun::Request));
        match ended {
            Some(id) => written.insert(id.unwrap()),
            None => break,
        };
    }
    written.remove("");
    assert_eq!(written.len(), 400);
    assert_eq!(read.len(), 400, "each is read once");
    assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), written);
}

async fn who_writes_is_heard(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let (_, here) = node(database).await;
    let (_, there) = node(database).await;
    let mut ear = there.listen().await.unwrap();
    here.insert_request(&request(1)).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), ear.next());
    assert_eq!(heard.await.unwrap().unwrap(), Word::Look);
    here.say("a word").await.unwrap();
    let said = async {
        loop {
            if let Word::Said(word) = ear.next().await.unwrap() {
                return word;
            }
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(10), said).await;
    assert_eq!(said.unwrap(), "a word");
    assert!(here.say(&"x".repeat(8_000)).await.is_err());
}

async fn a_node_alone_writes_no_log(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let (own, store) = node(database).await;
    store.tell_changes().await.unwrap();
    store.stop_telling_changes().await.unwrap();
    let seen = store.seen_by_now().await.unwrap();
    let alone = database.open().await;
    alone.insert_request(&request(1)).await.unwrap();
    let (changed, _) = store.read_changes(&seen, own).await.unwrap();
    assert_eq!(changed, Changed::default());
}

async fn one_node_leads_until_it_is_gone(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let (_, here) = node(database).await;
    let (_, there) = node(database).await;
    let mut lead = here.try_lead().await.unwrap().unwrap();
    assert!(there.try_lead().await.unwrap().is_none());
    assert!(lead.holds().await);
    // Its connection is cut, as when its machine dies.
    database.cut_connections().await;
    while lead.holds().await {}
    let (_, heir) = node(database).await;
    while heir.try_lead().await.unwrap().is_none() {}
    drop(lead);
}

async fn silent_nodes_are_dead(database: &Database) {
    if !database.is_postgres() {
        return;
    }
    let store = database.open().await;
    let named = |name: &str| Node {
        id: id(),
        name: name.to_owned(),
        url: format!("http://{name}"),
    };
    let (one, two) = (named("one"), named("two"));
    assert_eq!(store.beat(&one).await.unwrap(), std::slice::from_ref(&one));
    let mut both = [one.clone(), two.clone()];
    both.sort();
    assert_eq!(store.beat(&two).await.unwrap(), both);
    assert_eq!(store.list_nodes().await.unwrap(), both);
    database
        .execute("UPDATE nodes SET beat = beat - 6000 WHERE name = 'one'")
        .await;
    assert_eq!(store.beat(&two).await.unwrap(), std::slice::from_ref(&two));
    assert_eq!(store.beat(&one).await.unwrap(), both, "it came back");
    store.delete_node(two.id).await.unwrap();
    assert_eq!(store.list_nodes().await.unwrap(), [one]);
    let deleted = store.delete_dead_nodes(Millis(-1_000)).await.unwrap();
    assert_eq!(deleted, 1);
}

async fn some_requests_are_read_with_their_jobs(database: &Database) {
    let store = database.open().await;
    let (one, two) = (request(3), request(1));
    for new in [&one, &two] {
        store.insert_request(new).await.unwrap();
    }
    let jobs = assignment(one.id, 0..2);
    store.assign(&jobs).await.unwrap();
    let unknown = request(1).id;
    let found = store
        .list_requests(&[two.id, unknown, one.id])
        .await
        .unwrap();
    let mut expected = Vec::new();
    for id in [one.id, two.id] {
        expected.push(store.find_request(id).await.unwrap().unwrap());
    }
    expected.sort_by_key(|request| (request.created, request.id));
    assert_eq!(found, expected);
    assert!(store.list_requests(&[]).await.unwrap().is_empty());
}

async fn a_request_that_was_taken_does_not_expire(database: &Database) {
    let store = database.open().await;
    let (taken, left) = (request(1), request(1));
    for new in [&taken, &left] {
        store.insert_request(new).await.unwrap();
    }
    let due = taken.expires;
    // A job given away lets it live a minute longer.
    store.assign(&assignment(taken.id, 0..1)).await.unwrap();
    let ended = store
        .expire_requests(&[taken.id, left.id], due)
        .await
        .unwrap();
    assert_eq!(ended, [left.id]);
    let later = due + Millis::from_minutes(1);
    let ended = store.expire_requests(&[taken.id], later).await.unwrap();
    assert_eq!(ended, [taken.id]);
}
