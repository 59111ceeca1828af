//! Fetching files from servers that do it right, and from those that do not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ordu_worker::manager::{
    DownloadError, DownloadOptions, Downloads, Fetched, Format, Secret, TransferProgress, Wanted,
    Web,
};
use tokio::sync::watch;

use crate::support::files::{FileServer, Served, Trick};
use crate::support::{logs, within};

/// Settings that never make a test wait, with small limits.
pub fn options() -> DownloadOptions {
    DownloadOptions {
        buffer: 1000,
        pause: Duration::from_millis(1),
        keep_free: 0,
        ..DownloadOptions::default()
    }
}

fn downloads(options: DownloadOptions) -> Downloads {
    logs::record();
    Downloads::new(Web::new().unwrap(), options)
}

/// Bytes that differ everywhere.
pub fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap())
        .collect()
}

pub fn sum(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    use sha2::{Digest, Sha256};
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn wanted(server: &FileServer, folder: &Path, body: &[u8]) -> Wanted {
    Wanted {
        url: server.at("/x"),
        target: folder.join("x.safetensors"),
        sha256: Some(sum(body)),
        md5: None,
        limit: None,
        format: Format::Any,
    }
}

async fn fetch(downloads: &Downloads, wanted: &Wanted) -> Result<Fetched, DownloadError> {
    let progress = watch::Sender::new(TransferProgress::default());
    within(downloads.fetch(wanted, &progress)).await
}

/// Names of the files in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let mut names: Vec<_> = files
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

struct Place {
    server: FileServer,
    folder: tempfile::TempDir,
    wanted: Wanted,
    body: Vec<u8>,
}

/// A server with one file, and what is wanted of it.
async fn place(served: impl FnOnce(Vec<u8>) -> Served) -> Place {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let body = content(10_000);
    server.put("/x", served(body.clone()));
    let wanted = wanted(&server, folder.path(), &body);
    Place {
        server,
        folder,
        wanted,
        body,
    }
}

impl Place {
    fn has_it(&self) -> bool {
        std::fs::read(&self.wanted.target).is_ok_and(|found| found == self.body)
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("x.safetensors.part")
    }
}

#[tokio::test]
async fn a_file_comes_once_and_its_checksum_is_remembered() {
    let place = place(Served::new).await;
    let downloads = downloads(options());
    let progress = watch::Sender::new(TransferProgress::default());
    let fetched = within(downloads.fetch(&place.wanted, &progress))
        .await
        .unwrap();
    assert_eq!(fetched, Fetched::Now);
    let told = *progress.borrow();
    assert_eq!((told.bytes, told.total), (10_000, Some(10_000)));
    assert!(told.speed > 0.0);
    assert!(place.has_it());
    assert_eq!(files(place.folder.path()), ["x.safetensors", "x.sha256"]);
    assert_eq!(
        fetch(&downloads, &place.wanted).await.unwrap(),
        Fetched::AlreadyThere
    );
    assert_eq!(place.server.asked("/x").len(), 1);
}

#[tokio::test]
async fn a_cut_connection_goes_on_where_it_stopped() {
    let place = place(|body| Served::new(body).tricks([Trick::Cut(4000), Trick::Cut(500)])).await;
    fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert!(place.has_it());
    let ranges = place.server.ranges("/x");
    assert_eq!(ranges, ["bytes=0-", "bytes=4000-9999", "bytes=4500-9999"]);
    let again = &place.server.asked("/x")[1];
    assert_eq!(again.headers["if-range"], "\"one\"");
}

#[tokio::test]
async fn a_server_without_ranges_starts_anew() {
    let served = |body| Served {
        ranges: false,
        ..Served::new(body).tricks([Trick::Cut(4000)])
    };
    let place = place(served).await;
    fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert!(place.has_it());
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_not_mixed() {
    let place = place(|body| {
        let old = vec![0; body.len()];
        Served::new(old).always(Trick::Cut(4000))
    })
    .await;
    let few = DownloadOptions {
        retries: 0,
        ..options()
    };
    fetch(&downloads(few), &place.wanted).await.unwrap_err();
    assert!(place.part().exists());
    let new = Served {
        etag: Some("\"two\"".to_owned()),
        ..Served::new(place.body.clone())
    };
    place.server.put("/x", new);
    fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert!(place.has_it());
    assert_eq!(
        place.server.asked("/x").len(),
        3,
        "once the old, once the question, once the new"
    );
}

#[tokio::test]
async fn a_large_file_comes_over_several_connections() {
    let place = place(|body| Served::new(body).tricks([Trick::None, Trick::Cut(10)])).await;
    let parallel = DownloadOptions {
        parallel_from: 8_000,
        segment: 2_500,
        ..options()
    };
    fetch(&downloads(parallel), &place.wanted).await.unwrap();
    assert!(place.has_it());
    let mut ranges = place.server.ranges("/x");
    assert_eq!(ranges.remove(0), "bytes=0-");
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    for (_, end) in ranges.iter().map(|range| range.split_once('-').unwrap()) {
        assert!(["4999", "7499", "9999"].contains(&end), "{ranges:?}");
    }
}

#[tokio::test]
async fn what_came_before_a_cancellation_need_not_come_again() {
    let place = place(|body| Served::new(body).tricks([Trick::Stall(5_000)])).await;
    let downloads = downloads(options());
    let (progress, mut told) = watch::channel(TransferProgress::default());
    tokio::select! {
        ended = downloads.fetch(&place.wanted, &progress) => panic!("{ended:?}"),
        seen = within(told.wait_for(|told| told.bytes >= 5_000)) => drop(seen.unwrap()),
    }
    fetch(&downloads, &place.wanted).await.unwrap();
    assert!(place.has_it());
    assert_eq!(place.server.ranges("/x"), ["bytes=0-", "bytes=5000-9999"]);
}

#[tokio::test]
async fn a_part_of_another_program_is_gone_on_with_if_its_checksum_tells() {
    let place = place(Served::new).await;
    std::fs::write(place.part(), &place.body[..7_000]).unwrap();
    fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert!(place.has_it());
    assert_eq!(place.server.ranges("/x"), ["bytes=7000-"]);
}

#[tokio::test]
async fn a_wrong_file_is_fetched_once_more_and_then_given_up() {
    let place = place(|body| Served::new(content(body.len() - 1))).await;
    let error = fetch(&downloads(options()), &place.wanted)
        .await
        .unwrap_err();
    assert!(matches!(error, DownloadError::Mismatch { .. }), "{error}");
    assert_eq!(place.server.asked("/x").len(), 2);
    assert!(files(place.folder.path()).is_empty());
}

#[tokio::test]
async fn a_spoilt_file_on_disk_is_replaced() {
    let place = place(Served::new).await;
    std::fs::write(&place.wanted.target, "spoilt").unwrap();
    let fetched = fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert_eq!(fetched, Fetched::Now);
    assert!(place.has_it());
}

#[tokio::test]
async fn a_server_that_promises_too_much_is_given_up() {
    let served = |body| Served {
        ranges: false,
        ..Served::new(body).always(Trick::Claim(7))
    };
    let place = place(served).await;
    let error = fetch(&downloads(options()), &place.wanted)
        .await
        .unwrap_err();
    assert!(matches!(error, DownloadError::Web { .. }), "{error}");
    assert!(!place.wanted.target.exists());
}

#[tokio::test]
async fn an_answer_of_unknown_length_ends_where_it_ends() {
    let served = |body| Served {
        ranges: false,
        ..Served::new(body).always(Trick::NoLength)
    };
    let place = place(served).await;
    fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert!(place.has_it());
}

#[tokio::test]
async fn a_part_from_elsewhere_is_not_believed() {
    let place = place(|body| {
        Served::new(body).tricks([Trick::Cut(100), Trick::WrongRange, Trick::WrongRange])
    })
    .await;
    fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert!(place.has_it());
}

#[tokio::test]
async fn some_statuses_are_final_and_others_pass() {
    for (status, requests) in [(401, 1), (403, 1), (404, 1), (410, 1), (503, 6), (429, 6)] {
        let place = place(|body| Served::new(body).always(Trick::Status(status))).await;
        let error = fetch(&downloads(options()), &place.wanted)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(place.server.asked("/x").len(), requests, "{status}");
    }
    let passing = [503, 500, 408].map(Trick::Status);
    let place = place(|body| Served::new(body).tricks(passing)).await;
    fetch(&downloads(options()), &place.wanted).await.unwrap();
    assert!(place.has_it());
}

#[tokio::test]
async fn a_silent_server_is_left_and_asked_again() {
    let place =
        place(|body| Served::new(body).tricks([Trick::Stall(0), Trick::Stall(2_000)])).await;
    let impatient = DownloadOptions {
        silence: Duration::from_millis(50),
        ..options()
    };
    fetch(&downloads(impatient), &place.wanted).await.unwrap();
    assert!(place.has_it());
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_head_or_by_counting() {
    for trick in [Trick::None, Trick::NoLength] {
        let served = |body| Served {
            ranges: false,
            ..Served::new(body).always(trick)
        };
        let place = place(served).await;
        let wanted = Wanted {
            limit: Some(5_000),
            ..place.wanted.clone()
        };
        let error = fetch(&downloads(options()), &wanted).await.unwrap_err();
        assert!(
            matches!(error, DownloadError::TooLarge { limit: 5_000, .. }),
            "{error}"
        );
        assert!(files(place.folder.path()).is_empty());
    }
    let place = place(Served::new).await;
    let just = Wanted {
        limit: Some(10_000),
        ..place.wanted.clone()
    };
    fetch(&downloads(options()), &just).await.unwrap();
}

#[tokio::test]
async fn the_disk_keeps_its_floor() {
    let place = place(Served::new).await;
    let greedy = DownloadOptions {
        keep_free: u64::MAX / 2,
        ..options()
    };
    let error = fetch(&downloads(greedy), &place.wanted).await.unwrap_err();
    assert!(
        matches!(error, DownloadError::NoSpace { needed: 10_000, .. }),
        "{error}"
    );
    assert!(!place.wanted.target.exists());
}

#[tokio::test]
async fn offline_only_what_is_here_is_had() {
    let place = place(Served::new).await;
    let offline = downloads(DownloadOptions {
        offline: true,
        ..options()
    });
    let error = fetch(&offline, &place.wanted).await.unwrap_err();
    assert!(matches!(error, DownloadError::Offline { .. }), "{error}");
    std::fs::write(&place.wanted.target, &place.body).unwrap();
    assert_eq!(
        fetch(&offline, &place.wanted).await.unwrap(),
        Fetched::AlreadyThere
    );
    assert!(place.server.asked("/x").is_empty());
}

#[tokio::test]
async fn a_rate_holds_transfers_back() {
    let place = place(Served::new).await;
    let slow = downloads(DownloadOptions {
        rate: Some(50_000),
        ..options()
    });
    let start = std::time::Instant::elapsed;
    let before = tokio::time::Instant::now().into_std();
    fetch(&slow, &place.wanted).await.unwrap();
    assert!(start(&before) >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_token_goes_to_its_host_and_is_never_shown() {
    const TOKEN: &str = "TOKEN0123456789";
    let place = place(Served::new).await;
    let elsewhere = FileServer::start().await;
    elsewhere.put("/y", Served::new(place.body.clone()));
    let redirect = Served {
        redirect: Some(
            elsewhere
                .at("/y")
                .to_string()
                .replace("127.0.0.1", "localhost"),
        ),
        ..Served::default()
    };
    place.server.put("/x", redirect);
    logs::record();
    let web = Web::new()
        .unwrap()
        .with_token("127.0.0.1", &Secret::new(TOKEN));
    let downloads = Downloads::new(web, options());
    fetch(&downloads, &place.wanted).await.unwrap();
    assert!(place.has_it());
    assert_eq!(place.server.asked("/x")[0].query, format!("token={TOKEN}"));
    assert_eq!(elsewhere.asked("/y")[0].query, "");
    let gone = Wanted {
        url: place.server.at("/gone"),
        target: place.folder.path().join("z"),
        ..place.wanted
    };
    let error = fetch(&downloads, &gone).await.unwrap_err();
    let nobody = Wanted {
        url: url::Url::parse("http://127.0.0.1:1/x").unwrap(),
        ..gone
    };
    let few = Downloads::new(
        Web::new()
            .unwrap()
            .with_token("127.0.0.1", &Secret::new(TOKEN)),
        DownloadOptions {
            retries: 0,
            ..options()
        },
    );
    let refused = fetch(&few, &nobody).await.unwrap_err();
    for text in [
        format!("{error} {error:?}"),
        format!("{refused} {refused:?}"),
        format!("{few:?}"),
        logs::recorded(),
    ] {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[tokio::test]
async fn two_managers_that_share_a_store_fetch_a_file_once() {
    let place = place(Served::new).await;
    let (one, two) = (downloads(options()), downloads(options()));
    let (one, two) = tokio::join!(fetch(&one, &place.wanted), fetch(&two, &place.wanted));
    let mut ends = [one.unwrap(), two.unwrap()];
    ends.sort_by_key(|end| *end == Fetched::Now);
    assert_eq!(ends, [Fetched::AlreadyThere, Fetched::Now]);
    assert_eq!(place.server.asked("/x").len(), 1);
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_once() {
    let place = place(Served::new).await;
    let mirror = FileServer::start().await;
    let by_hash = format!("/by-hash/{}", sum(&place.body));
    let gateway = Some((mirror.at("/"), Secret::new("KEY")));
    let downloads = downloads(DownloadOptions {
        gateway,
        ..options()
    });
    fetch(&downloads, &place.wanted).await.unwrap();
    assert_eq!(mirror.asked(&by_hash).len(), 1);
    assert_eq!(mirror.asked(&by_hash)[0].headers["apikey"], "KEY");
    assert_eq!(place.server.asked("/x").len(), 1);
    mirror.put(&by_hash, Served::new(place.body.clone()));
    let again = Wanted {
        target: place.folder.path().join("again"),
        ..place.wanted.clone()
    };
    fetch(&downloads, &again).await.unwrap();
    assert_eq!(place.server.asked("/x").len(), 1);
    mirror.put(&by_hash, Served::new("something else"));
    let spoilt = Wanted {
        target: place.folder.path().join("spoilt"),
        ..place.wanted.clone()
    };
    fetch(&downloads, &spoilt).await.unwrap();
    assert_eq!(place.server.asked("/x").len(), 2, "the origin counts more");
}

#[tokio::test]
async fn a_hostile_header_and_a_pickle_are_refused() {
    let header = |length: u64, text: &str| {
        let mut body = length.to_le_bytes().to_vec();
        body.extend_from_slice(text.as_bytes());
        body
    };
    let overlap = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\
                    \"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}";
    let beyond =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,8]}}";
    for body in [
        header(u64::MAX, "{}"),
        header(1 << 40, "{}"),
        header(10, "{}"),
        header(overlap.len() as u64, &format!("{overlap}............")),
        header(beyond.len() as u64, &format!("{beyond}........")),
        b"\x80\x02}q\x00.".to_vec(),
        b"PK\x03\x04archive/data.pkl".to_vec(),
    ] {
        let server = FileServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        server.put("/x", Served::new(body.clone()));
        let wanted = Wanted {
            format: Format::Safetensors,
            ..wanted(&server, folder.path(), &body)
        };
        let error = fetch(&downloads(options()), &wanted).await.unwrap_err();
        assert!(matches!(error, DownloadError::Refused { .. }), "{error}");
        assert!(files(folder.path()).is_empty());
        assert_eq!(
            server.asked("/x").len(),
            1,
            "a file that is what it should be is not asked for again"
        );
    }
}
