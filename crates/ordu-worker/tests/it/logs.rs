//! What must never be logged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::engine::{Plan, Scripted};
use crate::support::horde::{FakeHorde, job, job_with};
use crate::support::{KEY, Rig, logs};

/// Checklist: no prompt, image or key in any log at any verbosity.
#[tokio::test]
async fn no_prompt_picture_key_or_signature_is_logged_at_any_level() {
    let source = STANDARD.encode("SECRET PICTURE THAT IS NONE");
    let secret = |number| {
        let prompt = json!({"prompt": "SECRETPROMPT {SECRETCHOICE|SECRETCHOICE}###SECRETNEGATIVE"});
        job_with(number, &json!({"source_image": source}), &prompt)
    };
    let failing_upload = job_with(
        3,
        &json!({"r2_upload": "nonsense", "r2_uploads": null}),
        &json!({}),
    );
    let horde = FakeHorde::with_jobs([secret(1), secret(2), failing_upload, job(&[4])]).await;
    let mut rig = Rig::start(horde, Scripted::new([Plan::Draw(1), Plan::Fail]));
    rig.ended(4).await;
    rig.stop().await;

    let logged = logs::recorded();
    assert!(logged.contains("popped a job") && logged.contains("TRACE"));
    for secret in [
        KEY,
        "SECRETPROMPT",
        "SECRETCHOICE",
        "SECRETNEGATIVE",
        &source,
        "X-Amz-Signature",
    ] {
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
