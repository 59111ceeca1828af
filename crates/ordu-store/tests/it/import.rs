//! An existing AI Horde taken over: all of it, once, exactly.

use std::sync::atomic::{AtomicU32, Ordering};

use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, SharedKeyId, StyleId, UserId, WorkerId};
use ordu_core::Kudos;
use ordu_store::import::{Import, ImportError, Mode, Tally};
use ordu_store::{Bucket, Record, Store};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::database::{Database, NOW, variable};
use crate::world::{new_user, user};

on_both!(
    everything_is_taken_over_once_and_exactly,
    another_salt_is_refused,
    a_database_of_something_else_is_refused,
    what_belongs_to_another_account_is_named_and_left,
);

/// SHA-256 of `old secret` and ten zeros.
const ANONYMOUS_HASH: &str = "0eb8ab20b6db0e4d7f5ad57dbf2bfa0b4bd60ab8f7e9ae3fb6dbcd6ea7a4b1d8";

/// An old database in a schema of its own, until it is dropped by [`OldHorde::end`].
struct OldHorde {
    address: String,
    schema: String,
    anonymous_hash: String,
}

impl OldHorde {
    /// `None` where there is no PostgreSQL: the databases of old hordes are all there.
    async fn make() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let address = variable("ORDU_TEST_POSTGRES");
        let Some(address) = address else {
            assert!(
                variable("ORDU_TEST_NO_SKIP").is_none_or(|value| value != "1"),
                "ORDU_TEST_POSTGRES is not set and skipping is forbidden"
            );
            eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let schema = format!("old_{}_{number}", std::process::id());
        let mut connection = PgConnection::connect(&address).await.unwrap();
        let sql = format!(
            "CREATE SCHEMA {schema}; SET search_path = {schema}; {} {}",
            include_str!("../data/aihorde.sql"),
            include_str!("../data/aihorde-rows.sql")
        );
        run(&mut connection, sql).await;
        let hash: (String,) = sqlx::query_as("SELECT api_key FROM users WHERE id = 0")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        Some(Self {
            address,
            schema,
            anonymous_hash: hash.0,
        })
    }

    fn url(&self) -> String {
        let separator = if self.address.contains('?') { '&' } else { '?' };
        format!(
            "{}{separator}options[search_path]={}",
            self.address, self.schema
        )
    }

    async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        run(&mut connection, sql.to_owned()).await;
    }

    fn plan(&self, mode: Mode) -> Import {
        Import {
            source: self.url(),
            anonymous_hash: self.anonymous_hash.clone(),
            mode,
            now: NOW,
        }
    }

    async fn end(self) {
        self.execute(&format!("DROP SCHEMA {} CASCADE", self.schema))
            .await;
    }
}

async fn run(connection: &mut PgConnection, sql: String) {
    let sql = sqlx::AssertSqlSafe(sql);
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

fn tally<'a>(tallies: &'a [Tally], table: &str) -> &'a Tally {
    tallies.iter().find(|tally| tally.table == table).unwrap()
}

fn counts(tallies: &[Tally], table: &str) -> (u64, u64, u64, usize) {
    let tally = tally(tallies, table);
    let skipped = tally.skipped.len();
    (tally.found, tally.imported, tally.already, skipped)
}

/// An id as the rows make them: the part that tells what it is, and a number.
fn id(part: &str, number: u32) -> Uuid {
    format!("00000000-0000-4000-{part}-{number:012}")
        .parse()
        .unwrap()
}

async fn everything_is_taken_over_once_and_exactly(database: &Database) {
    let Some(old) = OldHorde::make().await else {
        return;
    };
    let store = database.open().await;
    let dry = store.import(&old.plan(Mode::DryRun)).await.unwrap();
    assert!(
        store.find_user(user(1)).await.unwrap().is_none(),
        "a dry run writes nothing"
    );
    let first = store.import(&old.plan(Mode::Write)).await.unwrap();
    assert_eq!(dry, first, "a dry run counts what is done then");
    assert_eq!(counts(&first, "users"), (301, 301, 0, 0));
    assert_eq!(counts(&first, "workers"), (96, 93, 0, 3));
    assert_eq!(counts(&first, "user_sharedkeys"), (58, 58, 0, 0));
    assert_eq!(counts(&first, "styles"), (38, 37, 0, 1));
    assert_eq!(counts(&first, "style_collections"), (6, 6, 0, 0));
    assert_eq!(counts(&first, "filters"), (30, 27, 1, 2));
    assert_eq!(counts(&first, "worker_messages"), (2, 1, 0, 1));
    assert_eq!(counts(&first, "user_problem_jobs"), (4, 4, 0, 0));
    assert_eq!(counts(&first, "teams"), (5, 5, 0, 0));
    let worker = WorkerId::from_uuid(id("a000", 12));
    let worker = store.find_worker(worker).await.unwrap().unwrap();
    let its_team = worker.team.map(ordu_api::TeamId::uuid);
    assert_eq!(its_team, Some(id("9000", 3)));
    let reasons: Vec<&str> = tally(&first, "workers")
        .skipped
        .iter()
        .map(|remark| remark.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "another worker has its name",
            "it belongs to nobody",
            "`dancing_worker` is no kind of worker"
        ]
    );
    check_accounts(&store).await;
    check_things(&store).await;
    let second = store.import(&old.plan(Mode::Write)).await.unwrap();
    for (once, twice) in first.iter().zip(&second) {
        assert_eq!(twice.imported, 0, "{}", twice.table);
        assert_eq!(
            twice.already,
            once.imported + once.already,
            "{}",
            twice.table
        );
        assert_eq!((twice.found, &twice.skipped), (once.found, &once.skipped));
    }
    check_accounts(&store).await;
    let next = store.insert_user(&new_user("new here")).await.unwrap();
    assert_eq!(next, user(301));
    old.end().await;
}

async fn check_accounts(store: &Store) {
    for number in (2..=300).filter(|number| ![3, 4, 10].contains(number)) {
        let found = store.find_user(user(number)).await.unwrap().unwrap();
        assert_eq!(found.spendable, Kudos::new(number * 101 - 404), "{number}");
        assert_eq!(found.escrow, Kudos::new(number % 7 * 10), "{number}");
    }
    let anonymous = store.find_user(UserId::ANONYMOUS).await.unwrap().unwrap();
    assert_eq!(anonymous.spendable, Kudos::new(-1));
    let moved = store.find_user(user(4)).await.unwrap().unwrap();
    assert_eq!(
        moved.spendable,
        Kudos::from_milli(1500),
        "what is on its way counts"
    );
    assert_eq!(moved.escrow, Kudos::from_milli(40_750));
    let first = store.find_user(user(1)).await.unwrap().unwrap();
    assert_eq!(first.username, "user_one");
    assert_eq!(first.subject.as_deref(), Some("bb_user_one"));
    assert!(first.roles.trusted && !first.roles.moderator);
    assert_eq!(first.spendable, Kudos::new(1_000_000));
    let granted = store.find_user(user(8)).await.unwrap().unwrap();
    assert_eq!(granted.monthly_kudos, Kudos::new(2000));
    assert_eq!(granted.monthly_received.unwrap().0, 1_794_268_800_000);
    let wiped = store.find_user(user(291)).await.unwrap().unwrap();
    assert_eq!(wiped.subject, None, "account 290 has it");
    let totals = store.totals(&[user(150), user(7)]).await.unwrap();
    let details = &totals[&user(150)];
    assert_eq!(details.kudos(Bucket::Gifted), Kudos::new(-150));
    assert_eq!(
        details.record(Record::Contribution, WorkKind::Image),
        150_250_000
    );
    assert_eq!(details.record(Record::Usage, WorkKind::Text), 450);
    assert_eq!(totals[&user(7)].kudos(Bucket::Awarded), Kudos::new(5000));
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    assert_eq!(store.audit().await.unwrap(), []);
    store.fold(1000, NOW).await.unwrap();
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
}

async fn check_things(store: &Store) {
    let worker = WorkerId::from_uuid(id("a000", 12));
    let worker = store.find_worker(worker).await.unwrap().unwrap();
    assert_eq!((worker.kind, worker.owner), (WorkKind::Image, user(13)));
    assert_eq!(
        (worker.uptime, worker.fulfilled, worker.things),
        (7200, 12, 24_000_000)
    );
    assert_eq!(
        worker.kudos_generated + worker.kudos_uptime,
        Kudos::new(120)
    );
    assert_eq!(
        (worker.speeds.len(), worker.speeds.last()),
        (20, Some(&25_000.0))
    );
    assert!(
        worker.declared.contains("stable_diffusion"),
        "{}",
        worker.declared
    );
    let paid = WorkerId::from_uuid(id("a000", 7));
    let paid = store.find_worker(paid).await.unwrap().unwrap();
    assert_eq!(
        (paid.kudos_uptime, paid.kudos_generated),
        (Kudos::new(28), Kudos::new(42))
    );
    assert!(paid.maintenance && paid.maintenance_message.as_deref() == Some("rest"));
    let style = StyleId::from_uuid(id("e000", 3));
    let style = store.find_style(style).await.unwrap().unwrap();
    assert_eq!(style.models, ["ordu-tiny"]);
    assert_eq!(style.tags, ["old"]);
    assert_eq!((style.use_count, style.owner), (9, user(4)));
    assert_eq!(
        style.shared_key,
        Some(SharedKeyId::from_uuid(id("8000", 3)))
    );
    assert!(!style.params.contains("sampler_name"), "{}", style.params);
    let set = CollectionId::from_uuid(id("f000", 2));
    let set = store.find_collection(set).await.unwrap().unwrap();
    assert_eq!(set.styles.len(), 3);
    let key = SharedKeyId::from_uuid(id("8000", 5));
    let key = store.find_shared_key(key).await.unwrap().unwrap();
    assert_eq!(
        (key.terms.budget, key.utilized),
        (Some(Kudos::new(50)), Kudos::new(5))
    );
    assert_eq!(key.terms.max_image_steps, Some(50));
    let endless = SharedKeyId::from_uuid(id("8000", 4));
    let endless = store.find_shared_key(endless).await.unwrap().unwrap();
    assert_eq!(endless.terms.budget, None);
    let suspicions = store
        .list_suspicions(ordu_core::Timestamp(0))
        .await
        .unwrap();
    let fast = suspicions
        .iter()
        .find(|one| one.suspect.worker.is_some())
        .unwrap();
    assert_eq!((fast.reason.number(), fast.count), (5, 3));
}

async fn another_salt_is_refused(database: &Database) {
    let Some(old) = OldHorde::make().await else {
        return;
    };
    let store = database.open().await;
    let plan = Import {
        anonymous_hash: ANONYMOUS_HASH.to_owned(),
        ..old.plan(Mode::Write)
    };
    let refused = store.import(&plan).await;
    assert!(matches!(refused, Err(ImportError::Salt)), "{refused:?}");
    assert!(store.find_user(user(1)).await.unwrap().is_none());
    old.end().await;
}

async fn a_database_of_something_else_is_refused(database: &Database) {
    let Some(old) = OldHorde::make().await else {
        return;
    };
    let store = database.open().await;
    old.execute("DROP TABLE filters").await;
    let refused = store.import(&old.plan(Mode::DryRun)).await;
    let Err(ImportError::Layout(why)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(why, "it has no table `filters`");
    let plan = Import {
        source: "sqlite::memory:".to_owned(),
        ..old.plan(Mode::DryRun)
    };
    let refused = store.import(&plan).await;
    assert!(
        matches!(refused, Err(ImportError::Layout(_))),
        "{refused:?}"
    );
    old.end().await;
}

async fn what_belongs_to_another_account_is_named_and_left(database: &Database) {
    let Some(old) = OldHorde::make().await else {
        return;
    };
    let store = database.open().await;
    let here = store.insert_user(&new_user("here first")).await.unwrap();
    assert_eq!(here, user(1));
    let tallies = store.import(&old.plan(Mode::Write)).await.unwrap();
    let users = tally(&tallies, "users");
    assert_eq!((users.imported, users.skipped.len()), (300, 1));
    assert_eq!(users.skipped[0].row, "user_one#1");
    let kept = store.find_user(user(1)).await.unwrap().unwrap();
    assert_eq!(
        (kept.username.as_str(), kept.spendable),
        ("here first", Kudos::ZERO)
    );
    assert_eq!(
        store.list_every_style(Some(user(1)), None).await.unwrap(),
        []
    );
    let styles = tally(&tallies, "styles");
    let of_the_other = styles
        .skipped
        .iter()
        .filter(|remark| remark.reason.contains("account 1 "));
    assert_eq!(of_the_other.count(), 2);
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    old.end().await;
}
