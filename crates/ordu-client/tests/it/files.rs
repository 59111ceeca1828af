//! Pictures to and from signed addresses, and from addresses of strangers.

use bytes::Bytes;
use ordu_client::{Error, Fetcher, Trust};

use crate::support::horde;
use crate::support::http::{Answer, TestServer};

/// As S3 signs it: every kind of escape, and characters that encoders like to touch.
const SIGNED: &str = "/bucket/a%20b.webp?X-Amz-Credential=k%2F20261123%2Fauto%2Fs3%2Faws4_request&X-Amz-Date=1\
    &b=~!*()&plus=a+b&lower=%2f&empty=&X-Amz-Signature=00ff%3D";

/// Checklist: PUT to a presigned URL sends no content type and does not re-encode the query.
#[tokio::test]
async fn an_upload_sends_the_query_untouched_and_no_content_type() {
    let server = TestServer::start(|_| Answer::bytes(200, Vec::new())).await;
    let url = format!("{}{SIGNED}", server.url);
    horde(&server.url)
        .upload(&url, Bytes::from_static(b"RIFF"))
        .await
        .unwrap();

    let seen = &server.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("PUT", SIGNED)
    );
    assert_eq!(seen.body, b"RIFF");
    assert_eq!(seen.header("content-length"), Some("4"));
    for absent in [
        "content-type",
        "apikey",
        "client-agent",
        "transfer-encoding",
    ] {
        assert_eq!(seen.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn a_refused_upload_is_an_error_by_its_status() {
    let server = TestServer::start(|seen| {
        Answer::bytes(
            seen.target.trim_start_matches('/').parse().unwrap(),
            b"<Error/>".to_vec(),
        )
    })
    .await;
    let put = async |status: u16| {
        let url = format!("{}/{status}", server.url);
        horde(&server.url).upload(&url, Bytes::new()).await
    };
    assert_eq!(put(403).await.unwrap_err().refusal().unwrap().status, 403);
    assert!(put(500).await.unwrap_err().is_passing());
    assert!(matches!(
        horde(&server.url)
            .upload("file:///etc/passwd", Bytes::new())
            .await,
        Err(Error::Malformed { .. })
    ));
}

#[tokio::test]
async fn a_download_has_a_limit_and_follows_few_redirects() {
    let server = TestServer::start(|seen| match seen.target.as_str() {
        "/there" => Answer::bytes(302, Vec::new()).with("location", "/picture"),
        "/loop" => Answer::bytes(302, Vec::new()).with("location", "/loop"),
        _ => Answer::bytes(200, vec![7; 1000]),
    })
    .await;
    let get = async |path: &str, limit| {
        let url = format!("{}{path}", server.url);
        horde(&server.url).download(&url, limit).await
    };
    assert_eq!(get("/there", 1000).await.unwrap().len(), 1000);
    assert!(matches!(
        get("/picture", 999).await,
        Err(Error::TooLarge { limit: 999 })
    ));
    assert!(matches!(
        get("/loop", 1000).await,
        Err(Error::Malformed { .. })
    ));
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.header("apikey").is_none())
    );
}

#[tokio::test]
async fn strangers_cannot_point_into_the_private_network() {
    let inside = TestServer::start(|_| Answer::bytes(200, b"secret".to_vec())).await;
    let port = inside.url.rsplit(':').next().unwrap();
    let own = horde("http://10.0.0.1");
    let fetcher = Fetcher::new(&own).unwrap();
    let trust = Trust::horde(&own);
    for url in [
        inside.url.clone(),
        format!("https://127.0.0.1:{port}/"),
        "https://127.0.0.1/".to_owned(),
        "https://localhost/".to_owned(),
        "https://[::1]/".to_owned(),
    ] {
        let refused = fetcher.fetch(&url, &trust, 100).await;
        assert!(
            matches!(refused, Err(Error::Forbidden { .. })),
            "{url}: {refused:?}"
        );
    }
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn the_own_horde_may_be_private_but_not_redirect_elsewhere() {
    let inside = TestServer::start(|_| Answer::bytes(200, b"secret".to_vec())).await;
    let target = inside.url.clone();
    let server = TestServer::start(move |seen| match seen.target.as_str() {
        "/away" => Answer::bytes(302, Vec::new()).with("location", target.clone()),
        _ => Answer::bytes(200, b"picture".to_vec()),
    })
    .await;
    let horde = horde(&server.url);
    let fetcher = Fetcher::new(&horde).unwrap();
    let trust = Trust::horde(&horde);
    let url = |path: &str| format!("{}{path}", server.url);
    assert_eq!(
        fetcher.fetch(&url("/source"), &trust, 100).await.unwrap(),
        "picture"
    );
    assert!(matches!(
        fetcher.fetch(&url("/away"), &trust, 100).await,
        Err(Error::Forbidden { .. })
    ));
    assert!(inside.seen().is_empty());
    let more = trust.and(&inside.url);
    assert_eq!(
        fetcher.fetch(&url("/away"), &more, 100).await.unwrap(),
        "secret"
    );
}
