//! Pictures behind signed links.

use crate::support::{Answer, PICTURE, TestHorde, pop, request};

#[tokio::test]
async fn a_link_allows_only_what_it_was_made_for() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    horde.anonymous().async_image(&request()).await.unwrap();
    let job = worker.pop_image(&pop("w")).await.unwrap();
    let upload = job.r2_upload.unwrap();
    let status = async |request: reqwest::RequestBuilder| Answer::read(request).await.status;
    assert_eq!(status(horde.http.put(&upload).body(PICTURE)).await, 200);
    assert_eq!(
        status(horde.http.get(&upload)).await,
        403,
        "an upload is no download"
    );
    let forged = upload.replace("signature=", "signature=x");
    assert_eq!(status(horde.http.put(forged).body(PICTURE)).await, 403);
    let bare = upload.split('?').next().unwrap();
    assert_eq!(status(horde.http.put(bare).body(PICTURE)).await, 403);
    horde.later(31 * 60);
    assert_eq!(
        status(horde.http.put(&upload).body(PICTURE)).await,
        403,
        "it expired"
    );
}
