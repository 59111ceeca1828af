//! Teams: made, changed, deleted, and what their workers did.

use ordu_api::worker::WorkKind;
use ordu_api::{TeamId, UserId};
use ordu_core::{Kudos, Timestamp};
use ordu_store::{Activity, Error, NewTeam, Settled, Store, TeamChange, WorkerChange};

use crate::database::{Database, NOW};
use crate::world::{id, new_worker, running, settlement, user};

on_both!(
    a_name_is_unique_whatever_the_capitals,
    a_change_touches_only_what_it_names,
    who_was_in_a_deleted_team_is_in_none,
    jobs_count_for_the_team_they_were_settled_for,
    uptime_adds_up,
);

async fn team(store: &Store, name: &str) -> TeamId {
    let team = new_team(name);
    store.insert_team(&team).await.unwrap();
    team.id
}

fn new_team(name: &str) -> NewTeam {
    NewTeam {
        id: TeamId::from_uuid(id()),
        name: name.to_owned(),
        info: Some("about".to_owned()),
        creator: user(1),
        created: NOW,
    }
}

async fn a_name_is_unique_whatever_the_capitals(database: &Database) {
    let store = database.open().await;
    team(&store, "Äpfel").await;
    let taken = store.insert_team(&new_team("äPFEL")).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?}");
    let other = NewTeam {
        created: Timestamp(NOW.0 + 1),
        ..new_team("pears")
    };
    store.insert_team(&other).await.unwrap();
    let other = other.id;
    let rename = TeamChange {
        name: Some("ÄPFEL".to_owned()),
        info: Some("changed".to_owned()),
    };
    let taken = store.update_team(other, &rename).await;
    assert!(matches!(taken, Err(Error::Taken)), "{taken:?}");
    let teams = store.list_teams().await.unwrap();
    let names: Vec<&str> = teams.iter().map(|team| team.name.as_str()).collect();
    assert_eq!(names, ["Äpfel", "pears"]);
    assert_eq!(teams[1].info.as_deref(), Some("about"));
}

async fn a_change_touches_only_what_it_names(database: &Database) {
    let store = database.open().await;
    let id = team(&store, "apples").await;
    let change = TeamChange {
        name: Some("Apples".to_owned()),
        info: None,
    };
    store.update_team(id, &change).await.unwrap();
    let found = store.find_team(id).await.unwrap().unwrap();
    assert_eq!(found.name, "Apples");
    assert_eq!(found.info.as_deref(), Some("about"));
    assert_eq!((found.creator, found.created), (user(1), NOW));
    let nobody = TeamId::from_uuid(self::id());
    let missing = store.update_team(nobody, &change).await;
    assert!(matches!(missing, Err(Error::NotFound)), "{missing:?}");
}

async fn who_was_in_a_deleted_team_is_in_none(database: &Database) {
    let store = database.open().await;
    let team = team(&store, "apples").await;
    let worker = new_worker("w", user(1));
    store.insert_worker(&worker).await.unwrap();
    let joins = WorkerChange {
        team: Some(Some(team)),
        ..WorkerChange::default()
    };
    store.update_worker(worker.id, &joins).await.unwrap();
    let found = store.find_worker(worker.id).await.unwrap().unwrap();
    assert_eq!(found.team, Some(team));
    store.delete_team(team).await.unwrap();
    let found = store.find_worker(worker.id).await.unwrap().unwrap();
    assert_eq!(found.team, None);
    assert!(store.find_team(team).await.unwrap().is_none());
    let missing = store.delete_team(team).await;
    assert!(matches!(missing, Err(Error::NotFound)), "{missing:?}");
}

async fn jobs_count_for_the_team_they_were_settled_for(database: &Database) {
    let store = database.open().await;
    let (apples, pears) = (team(&store, "apples").await, team(&store, "pears").await);
    let gone = TeamId::from_uuid(id());
    for team in [Some(apples), Some(apples), Some(pears), Some(gone), None] {
        let (request, jobs) = running(&store, 1).await;
        let mut settlement = settlement(request, jobs[0], UserId::ANONYMOUS);
        let activity = settlement.activity.take().unwrap();
        settlement.activity = Some(Activity {
            team,
            kind: WorkKind::Image,
            ..activity
        });
        assert_eq!(store.settle(&settlement).await.unwrap(), Settled::Now);
        // A settlement that comes again counts no second time.
        store.settle(&settlement).await.unwrap();
    }
    store.fold(3, NOW).await.unwrap();
    store.fold(100, NOW).await.unwrap();
    let sums = async |id| {
        let team = store.find_team(id).await.unwrap().unwrap();
        (team.fulfilled, team.things, team.kudos)
    };
    assert_eq!(sums(apples).await, (2, 2000, Kudos::new(24)));
    assert_eq!(sums(pears).await, (1, 1000, Kudos::new(12)));
}

async fn uptime_adds_up(database: &Database) {
    let store = database.open().await;
    let (apples, pears) = (team(&store, "apples").await, team(&store, "pears").await);
    for (team, seconds) in [(apples, 600), (apples, 600), (pears, 600)] {
        store.team_online_later(team, seconds);
    }
    store.flush().await.unwrap();
    store.flush().await.unwrap();
    store.team_online_later(apples, 600);
    store.flush().await.unwrap();
    let uptimes = store.list_teams().await.unwrap();
    let uptimes: Vec<i64> = uptimes.iter().map(|team| team.uptime).collect();
    assert_eq!(uptimes.iter().sum::<i64>(), 2400);
    assert!(uptimes.contains(&1800), "{uptimes:?}");
}
