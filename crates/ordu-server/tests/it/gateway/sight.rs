//! Conversations about pictures.

use ordu_api::ApiKey;
use ordu_api::text::TextJob;
use ordu_client::Horde;
use reqwest::Method;
use serde_json::{Value, json};

use super::{call, get, post, scribe};
use crate::support::{Answer, TINY_PNG, TestHorde, soon, text_pop, written};

const SEEING: &str = "a/Qwen-seer";
const BLIND: &str = "a/Qwen-writer";

/// A horde with a scribe that sees, another that does not, and nobody else.
struct Desk {
    horde: TestHorde,
    worker: Horde,
    /// Of a trusted account: of others one picture is taken.
    key: ApiKey,
}

impl Desk {
    async fn start() -> Self {
        let horde = TestHorde::start().await;
        let owner: ApiKey = scribe(&horde, &[BLIND]).await;
        let worker = horde.client(&owner);
        let desk = Self {
            horde,
            worker,
            key: owner,
        };
        assert!(desk.pop().await.id.is_none());
        desk
    }

    /// What the scribe that sees gets.
    async fn pop(&self) -> TextJob {
        let mut pop = text_pop("seer");
        pop.models = vec![SEEING.to_owned()];
        pop.max_length = 300;
        pop.capabilities = Some(vec!["vision".to_owned()]);
        self.worker.pop_text(&pop).await.unwrap()
    }

    /// Asks, and has the scribe that sees answer.
    async fn ask(&self, body: &Value) -> (Answer, TextJob) {
        let work = async {
            let job = loop {
                let job = self.pop().await;
                if job.id.is_some() {
                    break job;
                }
                tokio::task::yield_now().await;
            };
            self.worker
                .submit_text(&written(job.id.unwrap()))
                .await
                .unwrap();
            job
        };
        soon(async { tokio::join!(self.post(body), work) }).await
    }

    async fn post(&self, body: &Value) -> Answer {
        let door = (Method::POST, "/chat/completions");
        Answer::read(call(&self.horde, door, self.key.reveal()).json(body)).await
    }
}

fn data_url() -> String {
    format!("data:image/png;base64,{TINY_PNG}")
}

fn image(url: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": url}})
}

fn about(model: &str, parts: &[Value]) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": parts}]})
}

#[tokio::test]
async fn a_picture_is_looked_at_by_who_sees() {
    let desk = Desk::start().await;
    let close = json!({"type": "image_url", "image_url": {"url": data_url(), "detail": "high"}});
    let question = json!({"type": "text", "text": "Which is red?"});
    // Whichever model is free: only one of them sees.
    let body = about("any", &[image(&data_url()), close, question]);
    let (answer, job) = desk.ask(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["model"], SEEING);
    let prompt = job.payload.prompt.unwrap();
    assert!(
        prompt.contains("user\n[image 1]\n[image 2]\nWhich is red?<|im_end|>"),
        "{prompt}"
    );
    // As long as the worker can that sees, with room for what it sees.
    assert_eq!(job.payload.params.max_length, Some(300));
    assert!(job.payload.params.max_context_length.unwrap() > 2300);
    let tokens = answer.body["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!((2000..2100).contains(&tokens), "{tokens}");
    let pictures = job.extra_source_images.unwrap();
    assert_eq!(pictures.len(), 2);
    for picture in pictures {
        let file = desk.worker.download(&picture.image, 10_000).await.unwrap();
        assert_eq!(file.get(8..12), Some(&b"WEBP"[..]));
    }
}

#[tokio::test]
async fn models_say_whether_they_see() {
    let desk = Desk::start().await;
    let dreamer = crate::support::pop("dreamer");
    desk.worker.pop_image(&dreamer).await.unwrap();
    let models = get(&desk.horde, "/models").await.body;
    let sees = |name: &str| {
        let models = models["data"].as_array().unwrap();
        let model = models.iter().find(|model| model["id"] == name).unwrap();
        model.get("vision").cloned()
    };
    assert_eq!(sees(SEEING), Some(json!(true)));
    assert_eq!(sees(BLIND), Some(json!(false)));
    assert_eq!(sees("ordu-tiny"), None);
}

#[tokio::test]
async fn a_picture_that_nobody_sees_is_refused() {
    let desk = Desk::start().await;
    let answer = desk.post(&about(BLIND, &[image(&data_url())])).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let error = &answer.body["error"];
    assert_eq!(
        (&error["type"], &error["param"], &error["code"]),
        (
            &json!("invalid_request_error"),
            &json!("messages"),
            &json!("unsupported_parameter")
        )
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(BLIND) && message.contains(SEEING),
        "{message}"
    );
    // The worker that sees goes away.
    desk.horde.later(10 * 60);
    let mut blind = text_pop("scribe");
    blind.models = vec![BLIND.to_owned()];
    desk.worker.pop_text(&blind).await.unwrap();
    let answer = desk.post(&about("any", &[image(&data_url())])).await;
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert_eq!(answer.status, 400);
    assert!(message.contains("no worker looks at pictures"), "{message}");
}

/// Parts of a message that are no pictures, too large, too many, or of a kind that is not taken; with the
/// code of the answer, and the member that it complains about.
fn wrong() -> Vec<(Vec<Value>, Option<&'static str>, Option<&'static str>)> {
    let garbage = "data:image/png;base64,R0FSQkFHRQ==";
    vec![
        (vec![image(garbage)], Some("ImageValidationFailed"), None),
        (
            vec![image("ftp://x/y.png")],
            Some("ImageValidationFailed"),
            None,
        ),
        (
            vec![image("http://127.0.0.1/x.png")],
            Some("SourceImageUrlInvalid"),
            None,
        ),
        (
            vec![image("http://169.254.169.254/x.png")],
            Some("SourceImageUrlInvalid"),
            None,
        ),
        (
            vec![image(&large())],
            Some("SourceImageResolutionExceeded"),
            None,
        ),
        (
            vec![image(&data_url()); 6],
            Some("TooManyExtraSourceImages."),
            None,
        ),
        (
            vec![
                json!({"type": "image_url", "image_url": {"url": data_url(), "detail": "blurred"}}),
            ],
            None,
            Some("messages[0].content[0].image_url.detail"),
        ),
        (
            vec![json!({"type": "image_url", "image_url": {"url": data_url(), "detail": 1}})],
            None,
            Some("messages[0].content[0].image_url.detail"),
        ),
        (
            vec![json!({"type": "image_url", "image_url": {}})],
            None,
            Some("messages[0].content[0]"),
        ),
        (
            vec![json!({"type": "file", "file": {"file_id": "x"}})],
            Some("unsupported_parameter"),
            Some("messages[0].content[0]"),
        ),
        (
            vec![json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})],
            Some("unsupported_parameter"),
            Some("messages[0].content[0]"),
        ),
    ]
}

#[tokio::test]
async fn what_is_no_picture_is_said() {
    let desk = Desk::start().await;
    for (parts, code, param) in wrong() {
        let answer = desk.post(&about(SEEING, &parts)).await;
        let error = &answer.body["error"];
        assert_eq!(answer.status, 400, "{code:?} {param:?}: {}", answer.body);
        assert_eq!(error["code"].as_str(), code, "{}", answer.body);
        assert_eq!(error["param"].as_str(), param, "{}", answer.body);
    }
    // Of who is not trusted one picture is taken.
    let two = about(SEEING, &[image(&data_url()), image(&data_url())]);
    let answer = post(&desk.horde, "/chat/completions", &two).await;
    let code = &answer.body["error"]["code"];
    assert_eq!(code, "MoreThanMinExtraSourceImage.", "{}", answer.body);
    let idle = desk.pop().await;
    assert!(idle.id.is_none(), "nothing of it waits");
}

/// A picture of more pixels than are taken.
fn large() -> String {
    use base64::Engine as _;
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::GrayImage::new(4000, 4000);
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    let file = base64::engine::general_purpose::STANDARD.encode(file.into_inner());
    format!("data:image/png;base64,{file}")
}
