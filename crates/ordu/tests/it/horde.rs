//! The server killed at any instant: what was acknowledged is there and completes.

use ordu_api::ApiKey;
use ordu_api::image::ImageRequest;
use ordu_client::Horde;

use crate::program::{Running, run_json};

#[test]
fn a_killed_server_forgets_nothing_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Running::start(folder.path(), &["serve", "--no-rate-limits"]);
    let acknowledged = runtime.block_on(ask_until_it_dies(server, 200));
    assert!(acknowledged.len() >= 200);

    let server = Running::start(folder.path(), &["serve", "--no-rate-limits"]);
    let status = run_json(folder.path(), &["status", "--json", "--horde", &server.url]);
    let waiting = status["performance"]["queued_requests"].as_u64().unwrap();
    assert!(waiting >= acknowledged.len() as u64);
    let horde = Horde::new(&server.url, ApiKey::anonymous(), "tests:1:here").unwrap();
    runtime.block_on(async {
        for id in acknowledged {
            assert_eq!(horde.check(id).await.unwrap().waiting, 1);
        }
    });
}

/// Asks from eight sides; kills the server once `enough` requests were acknowledged, while others
/// are in flight.
async fn ask_until_it_dies(server: Running, enough: usize) -> Vec<ordu_api::RequestId> {
    let horde = Horde::new(&server.url, ApiKey::anonymous(), "tests:1:here").unwrap();
    let (sender, mut accepted) = tokio::sync::mpsc::channel(1000);
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (horde, sender) = (horde.clone(), sender.clone());
        askers.spawn(async move {
            let request = ImageRequest {
                prompt: "a red circle".to_owned(),
                models: vec!["ordu-tiny".to_owned()],
                ..ImageRequest::default()
            };
            while let Ok(answer) = horde.async_image(&request).await {
                if sender.send(answer.id).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut acknowledged = Vec::new();
    let mut server = Some(server);
    while let Some(id) = accepted.recv().await {
        acknowledged.push(id);
        if acknowledged.len() >= enough
            && let Some(server) = server.take()
        {
            server.kill();
        }
    }
    acknowledged
}
