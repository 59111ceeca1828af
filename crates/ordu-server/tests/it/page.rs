//! The web page without a browser: what is served, and that the form works without scripts.

use crate::support::{TestHorde, deliver_all, pop};

#[tokio::test]
async fn the_form_asks_and_shows_the_picture() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let worker = horde.client(&owner.api_key);
    let front = horde.http.get(&horde.url).send().await.unwrap();
    let policy = front.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    assert!(front.text().await.unwrap().contains("No worker is online"));

    let form = [
        ("prompt", "a <b>red</b> circle"),
        ("width", "64"),
        ("height", "64"),
        ("n", "1"),
    ];
    let page = horde
        .http
        .post(&horde.url)
        .form(&form)
        .send()
        .await
        .unwrap();
    let address = page.url().clone();
    assert!(address.path().starts_with("/requests/"), "{address}");
    assert!(page.text().await.unwrap().contains("Waiting, place 1"));

    let job = worker.pop_image(&pop("w")).await.unwrap();
    deliver_all(&worker, &job).await;
    let done = horde
        .http
        .get(address)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        done.contains("Done") && done.contains("<img src=\"http://127.0.0.1:"),
        "{done}"
    );
}

#[tokio::test]
async fn a_wrong_field_is_told_beside_the_form_and_nothing_is_lost() {
    let horde = TestHorde::start().await;
    for (field, value, told) in [
        ("width", "65", "params.width"),
        ("steps", "many", "steps"),
        ("prompt", "", "prompt"),
    ] {
        let mut form = vec![("prompt", "<script>alert(1)</script>"), ("negative", "fog")];
        form.retain(|(name, _)| *name != field);
        form.push((field, value));
        let page = horde
            .http
            .post(&horde.url)
            .form(&form)
            .send()
            .await
            .unwrap();
        assert_eq!(page.status(), 400);
        let html = page.text().await.unwrap();
        assert!(
            html.contains("role=\"alert\"") && html.contains(told),
            "{html}"
        );
        assert!(!html.contains("<script>alert"), "what was typed is escaped");
        assert!(html.contains("fog"), "what was typed is kept");
    }
}

#[tokio::test]
async fn the_form_is_not_for_other_sites() {
    let horde = TestHorde::start().await;
    for (site, status) in [("cross-site", 403), ("same-origin", 400)] {
        let sent = horde.http.post(&horde.url).header("sec-fetch-site", site);
        let page = sent.form(&[("prompt", "")]).send().await.unwrap();
        assert_eq!(page.status(), status, "{site}");
    }
}
