//! Links and sweeps, without a server.

use super::*;

fn blobs() -> Blobs {
    Blobs::in_memory(Secret::new("s"), "http://horde/")
}

fn parts(url: &str) -> (String, i64, String) {
    let (head, signature) = url.split_once("&signature=").unwrap();
    let (path, expires) = head.split_once("?expires=").unwrap();
    (
        path.rsplit('/').next().unwrap().into(),
        expires.parse().unwrap(),
        signature.into(),
    )
}

#[test]
fn a_link_allows_one_thing_for_half_an_hour() {
    let blobs = blobs();
    let now = Timestamp(1_000_000);
    let url = blobs.link("a.webp", Permission::Upload, now);
    assert!(url.starts_with("http://horde/blobs/a.webp?"), "{url}");
    let (name, expires, signature) = parts(&url);
    let link = Link {
        name: &name,
        expires,
        signature: &signature,
    };
    let other = Link {
        name: "b.webp",
        ..link
    };
    let longer = Link {
        expires: expires + 1,
        ..link
    };
    let late = now + LINK_LIFETIME + Millis(1000);
    assert!(blobs.allows(&link, Permission::Upload, now + LINK_LIFETIME));
    assert!(!blobs.allows(&link, Permission::Download, now));
    assert!(!blobs.allows(&link, Permission::Upload, late));
    assert!(!blobs.allows(&other, Permission::Upload, now));
    assert!(!blobs.allows(&longer, Permission::Upload, now));
}

#[test]
fn only_our_names_in_our_folder_are_ours() {
    let id = "00000000-0000-4000-8000-00000000000a";
    let (here, below) = (
        blobs(),
        Blobs {
            folder: Some("some/folder".into()),
            ..blobs()
        },
    );
    for (name, is_here, is_below) in [
        (format!("{id}.webp"), true, false),
        (format!("some/folder/{id}_src_3.webp"), false, true),
        (format!("{SHARED}/{id}.webp"), false, false),
        (format!("some/folder/{SHARED}/{id}.webp"), false, false),
        (format!("{id}.png"), false, false),
        ("photo.webp".to_owned(), false, false),
        (PROBE.to_owned(), false, false),
    ] {
        let location = Path::from(name.as_str());
        assert_eq!(here.is_ours(&location), is_here, "{name}");
        assert_eq!(below.is_ours(&location), is_below, "{name}");
    }
}

#[tokio::test]
async fn a_sweep_goes_on_where_the_last_one_ended() {
    let blobs = Blobs { bite: 3, ..blobs() };
    for number in 0..7 {
        let name = format!("00000000-0000-4000-8000-{number:012}.webp");
        blobs.put(&name, Bytes::new()).await.unwrap();
    }
    blobs.put("zebra.webp", Bytes::new()).await.unwrap();
    let (written, later) = (Timestamp(0), Timestamp(i64::MAX / 2));
    assert_eq!(blobs.sweep(written).await.unwrap(), 0);
    let mut swept = Vec::new();
    for _ in 0..5 {
        swept.push(blobs.sweep(later).await.unwrap());
    }
    // 3 to 5, 6 and the foreign one, then again from the start.
    assert_eq!(swept, [3, 1, 3, 0, 0]);
}
