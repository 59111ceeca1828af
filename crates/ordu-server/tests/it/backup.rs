//! Backups of a horde that is being asked, restored into either database.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ordu_api::image::{ImageParams, ImageRequest};
use ordu_api::{ApiKey, RequestId, UserId};
use ordu_client::Horde;
use ordu_core::{Kudos, Timestamp};
use ordu_server::backup::{self, BackupError, Contents, Summary, Target};
use ordu_server::{BlobPlace, Config, Secret};
use ordu_store::testing::Schema;
use ordu_store::{DatabaseUrl, Options, Store};
use serde_json::Map;

use crate::support::{PICTURE, TestHorde, delivered, pop, request};

const SECRET: &str = "kept apart";

async fn start(database: &str, pictures: &Path) -> TestHorde {
    TestHorde::start_with(|config| Config {
        database: database.to_owned(),
        blobs: BlobPlace::Folder(pictures.to_owned()),
        secret: Secret::new(SECRET),
        ..config
    })
    .await
}

/// What `ordu admin backup` does: with a store of its own, as another process would have.
async fn back_up(database: &str, pictures: &Path, file: &Path) -> Summary {
    let url: DatabaseUrl = database.parse().unwrap();
    let store = Store::open(&url, &Options::default(), Timestamp(0))
        .await
        .unwrap();
    let contents = Contents {
        store: &store,
        pictures: Some(pictures),
        secret: &Secret::new(SECRET),
        files: Map::new(),
        now: Timestamp(1),
    };
    let summary = backup::write(contents, file).await.unwrap();
    store.close().await;
    summary
}

fn target(database: &str, pictures: &Path) -> Target {
    Target {
        database: database.parse().unwrap(),
        pictures: Some(pictures.to_owned()),
    }
}

/// One of the requests that are made all the time.
async fn ask(horde: &Horde) -> RequestId {
    let request = ImageRequest {
        params: ImageParams {
            n: Some(2),
            ..request().params
        },
        ..request()
    };
    horde.async_image(&request).await.unwrap().id
}

/// Asks and gives up again until told to stop.
async fn ask_on(horde: Horde, asked: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let id = ask(&horde).await;
        asked.fetch_add(1, Ordering::Relaxed);
        horde.cancel(id).await.unwrap();
    }
}

/// A horde where pictures were made, and others wait.
struct Before {
    user: UserId,
    key: ApiKey,
    done: RequestId,
    waiting: Vec<RequestId>,
    kudos: Kudos,
}

async fn work(horde: &TestHorde) -> Before {
    let user = horde.user("asker", 5000.0).await;
    let owner = horde.user("owner", 0.0).await;
    let (asker, worker) = (horde.client(&user.api_key), horde.client(&owner.api_key));
    let done = asker.async_image(&request()).await.unwrap().id;
    let job = worker.pop_image(&pop("Painter")).await.unwrap();
    let upload = job.r2_upload.clone().unwrap();
    worker
        .upload(&upload, PICTURE.to_vec().into())
        .await
        .unwrap();
    worker
        .submit_image(&delivered(job.id.unwrap()))
        .await
        .unwrap();
    let mut waiting = Vec::new();
    for _ in 0..12 {
        waiting.push(ask(&asker).await);
    }
    // No more than this: the clock by hand is ahead, and pictures would count as old.
    let store = horde.server.store();
    store.fold(1000, horde.clock.now()).await.unwrap();
    let id = user.user_id.parse().unwrap();
    let balance = store.balance(id).await;
    Before {
        user: id,
        key: user.api_key,
        done,
        waiting,
        kudos: balance.unwrap().spendable,
    }
}

/// Everything that was acknowledged before the backup began is there.
async fn check(horde: &TestHorde, before: &Before) {
    let client = horde.client(&before.key);
    let me = client.find_user().await.unwrap();
    assert!(me.username.starts_with("asker#"), "{}", me.username);
    for id in &before.waiting {
        assert_eq!(client.check(*id).await.unwrap().waiting, 2);
    }
    let path = format!("/generate/status/{}", before.done);
    let status = horde.get(&path).await.body;
    let link = status["generations"][0]["img"].as_str().unwrap();
    let picture = horde.http.get(link).send().await.unwrap();
    assert_eq!(picture.bytes().await.unwrap(), PICTURE);
    let store = horde.server.store();
    let balance = store.balance(before.user).await.unwrap();
    assert_eq!(balance.spendable, before.kudos);
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_restores_into_the_other_database_and_back() {
    let Ok(address) = std::env::var("ORDU_TEST_POSTGRES") else {
        assert!(
            std::env::var("ORDU_TEST_NO_SKIP").is_err(),
            "ORDU_TEST_POSTGRES is not set"
        );
        eprintln!("SKIPPED: ORDU_TEST_POSTGRES is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let sqlite = |name: &str| format!("sqlite://{}", place(name).display());
    let schema = Schema::create(&address).await.unwrap();

    let horde = start(&sqlite("one.db"), &place("one")).await;
    let before = work(&horde).await;
    let file = place("under-load.backup");
    let first = back_up_under_load(&horde, &sqlite("one.db"), &place("one"), &file).await;
    assert_eq!(first.pictures, 1);
    horde.server.stop().await;

    let into_postgres = target(&schema.url(), &place("two"));
    assert_eq!(backup::restore(&file, &into_postgres).await.unwrap(), first);
    let second = back_up(&schema.url(), &place("two"), &place("second")).await;
    let into_sqlite = target(&sqlite("three.db"), &place("three"));
    assert_eq!(
        backup::restore(&place("second"), &into_sqlite)
            .await
            .unwrap(),
        second
    );
    back_up(&sqlite("three.db"), &place("three"), &place("third")).await;
    assert_eq!(lines(&file), lines(&place("second")));
    assert_eq!(lines(&file), lines(&place("third")));

    for (database, pictures) in [(schema.url(), "two"), (sqlite("three.db"), "three")] {
        let horde = start(&database, &place(pictures)).await;
        check(&horde, &before).await;
        horde.server.stop().await;
    }
    schema.drop_schema().await.unwrap();
}

/// Makes a backup while four clients ask on.
async fn back_up_under_load(
    horde: &TestHorde,
    database: &str,
    pictures: &Path,
    file: &Path,
) -> Summary {
    let (asked, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let load = async {
        let ask = || ask_on(horde.anonymous(), &asked, &stop);
        tokio::join!(ask(), ask(), ask(), ask())
    };
    let made = async {
        while asked.load(Ordering::Relaxed) < 8 {
            horde.anonymous().performance().await.unwrap();
        }
        let summary = back_up(database, pictures, file).await;
        stop.store(true, Ordering::Relaxed);
        summary
    };
    tokio::join!(load, made).1
}

/// The lines of a backup that say what is in it, whatever the order of rows.
fn lines(file: &PathBuf) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap();
    let lines = bytes.split(|byte| *byte == b'\n').skip(1);
    let told = lines.filter(|line| !line.starts_with(b"{\"end\""));
    let mut lines: Vec<Vec<u8>> = told.map(<[u8]>::to_vec).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn nothing_is_restored_of_a_file_that_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let database = format!("sqlite://{}", place("one.db").display());
    let horde = start(&database, &place("one")).await;
    work(&horde).await;
    horde.server.stop().await;
    let good = place("good");
    back_up(&database, &place("one"), &good).await;
    let bytes = std::fs::read(&good).unwrap();
    let into = format!("sqlite://{}", place("two.db").display());
    let into = target(&into, &place("two"));
    let broken = place("broken");
    for step in 1..8 {
        let at = bytes.len() * step / 8;
        std::fs::write(&broken, &bytes[..at]).unwrap();
        assert!(
            backup::restore(&broken, &into).await.is_err(),
            "cut off at {at}"
        );
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        std::fs::write(&broken, flipped).unwrap();
        assert!(
            backup::restore(&broken, &into).await.is_err(),
            "changed at {at}"
        );
    }
    for text in [
        "",
        "\n",
        "{}\n",
        "[1]\n",
        "SQLite format 3\0",
        "{\"ordu_backup\":\"x\"}\n",
    ] {
        std::fs::write(&broken, text).unwrap();
        let refused = backup::restore(&broken, &into).await;
        assert!(
            matches!(refused, Err(BackupError::Foreign)),
            "{text:?}: {refused:?}"
        );
    }
    let text =
        String::from_utf8_lossy(&bytes).replacen("{\"ordu_backup\":1", "{\"ordu_backup\":2", 1);
    std::fs::write(&broken, text).unwrap();
    let refused = backup::restore(&broken, &into).await;
    assert!(matches!(refused, Err(BackupError::Newer(2))), "{refused:?}");
    assert!(!place("two.db").exists(), "nothing was made");
    backup::restore(&good, &into).await.unwrap();
    let again = backup::restore(&good, &into).await;
    assert!(again.unwrap_err().to_string().contains("not empty"));
}

#[tokio::test]
async fn a_file_that_is_there_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    std::fs::write(&file, "precious").unwrap();
    let url: DatabaseUrl = "sqlite::memory:".parse().unwrap();
    let store = Store::open(&url, &Options::default(), Timestamp(0))
        .await
        .unwrap();
    let contents = Contents {
        store: &store,
        pictures: None,
        secret: &Secret::new(SECRET),
        files: Map::new(),
        now: Timestamp(1),
    };
    let refused = backup::write(contents, &file).await;
    assert!(matches!(refused, Err(BackupError::File(..))), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
