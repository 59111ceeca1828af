//! Texts about pictures: who says that it sees, and what it is shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_engine::remote::openai::OpenAiMode;
use serde_json::{Value, json};

use crate::support::horde::{FakeHorde, TEXT_POP, faulted, outcomes, text};
use crate::support::http::Answer;
use crate::support::writer::{
    CHAT, COMPLETION, COMPLETIONS, Program, STREAM, TextRig, openai, serve, tokens,
};
use crate::support::{config, within};

/// A picture of so many pixels, as base64.
fn picture(side: u32) -> String {
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(side, side, image::Rgb([230, 40, 40]));
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    STANDARD.encode(file.into_inner())
}

/// A job about pictures.
fn about(number: usize, prompt: &str, pictures: &[String]) -> Value {
    let mut job = text(number, &json!({ "prompt": prompt }));
    let pictures = pictures
        .iter()
        .map(|picture| json!({"image": picture, "strength": 1.0}));
    job["extra_source_images"] = pictures.collect();
    job
}

/// llama.cpp's own stream.
fn said(pieces: &[&str], stop_type: &str) -> Answer {
    let piece = |text: &&str| json!({"content": text, "stop": false});
    let end = json!({"content": "", "stop": true, "stop_type": stop_type});
    let events = pieces.iter().map(piece).chain([end]);
    let body: Vec<String> = events.map(|event| format!("data: {event}\n\n")).collect();
    Answer::bytes(200, body.concat().into_bytes()).with("content-type", "text/event-stream")
}

/// Width and height of a JPEG in base64.
fn size(jpeg: &Value) -> (u32, u32) {
    let file = STANDARD.decode(jpeg.as_str().unwrap()).unwrap();
    let picture = image::load_from_memory_with_format(&file, image::ImageFormat::Jpeg).unwrap();
    (picture.width(), picture.height())
}

#[tokio::test]
async fn llamacpp_is_shown_pictures_in_their_places() {
    let pictures = [picture(8), picture(3000)];
    let job = about(1, "one [image 2] two [image 1] three", &pictures);
    let horde = FakeHorde::with_texts([job]).await;
    let program = Program::llamacpp(true, [said(&["Red", " dots"], "limit")]);
    let mut rig = TextRig::openai(horde, program).await;
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.horde.text_pops()[0]["capabilities"], json!(["vision"]));
    assert_eq!(rig.horde.text_submits()[0]["generation"], "Red dots");
    let task = &rig.tasks(COMPLETION)[0];
    assert_eq!(
        task["prompt"]["prompt_string"],
        "one <__media__> two <__media__> three"
    );
    let shown = task["prompt"]["multimodal_data"].as_array().unwrap();
    let sizes: Vec<_> = shown.iter().map(size).collect();
    assert_eq!(
        sizes,
        [(2048, 2048), (8, 8)],
        "in their order, and not too large"
    );
    assert_eq!(
        (&task["n_predict"], task.get("max_tokens")),
        (&json!(20), None)
    );
    rig.stop().await;
}

#[tokio::test]
async fn who_does_not_see_says_nothing_of_it() {
    for program in [Program::llamacpp(false, []), Program::openai([])] {
        let horde = FakeHorde::with_texts([about(1, "one", &[picture(8)])]).await;
        let mut rig = TextRig::openai(horde, program).await;
        assert_eq!(rig.ended(1).await.faulted, 1);
        assert_eq!(rig.horde.text_pops()[0].get("capabilities"), None);
        assert_eq!(outcomes(&rig.horde.text_submits()), [faulted(1)]);
        assert!(rig.tasks(COMPLETIONS).is_empty() && rig.tasks(COMPLETION).is_empty());
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_text_without_pictures_goes_the_usual_way() {
    let horde = FakeHorde::with_texts([text(1, &json!({}))]).await;
    let mut rig = TextRig::openai(horde, Program::llamacpp(true, [])).await;
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.tasks(COMPLETIONS)[0]["prompt"], "Once upon");
    rig.stop().await;
}

#[tokio::test]
async fn koboldcpp_gets_pictures_beside_the_prompt() {
    let mut program = Program::koboldcpp([tokens(&["Red"], Some("stop"))]);
    for (path, fact) in &mut program.facts {
        if *path == "/api/extra/version" {
            fact["vision"] = json!(true);
        }
    }
    let horde = FakeHorde::with_texts([about(1, "what is [image 1]?", &[picture(8)])]).await;
    let mut rig = TextRig::kobold(horde, program).await;
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(rig.horde.text_pops()[0]["capabilities"], json!(["vision"]));
    let task = &rig.tasks(STREAM)[0];
    assert_eq!(task["prompt"], "what is [image 1]?");
    let shown = task["images"].as_array().unwrap();
    assert_eq!(shown.iter().map(size).collect::<Vec<_>>(), [(8, 8)]);
    rig.stop().await;
}

#[tokio::test]
async fn a_koboldcpp_without_a_model_that_sees_is_shown_nothing() {
    let horde = FakeHorde::with_texts([]).await;
    let rig = TextRig::kobold(horde, Program::koboldcpp([])).await;
    within(rig.horde.wait_for(TEXT_POP, 1)).await;
    assert_eq!(rig.horde.text_pops()[0].get("capabilities"), None);
    rig.stop().await;
}

#[tokio::test]
async fn a_chat_is_shown_pictures_in_parts() {
    let event = json!({"choices": [{"delta": {"content": "Red"}, "finish_reason": "stop"}]});
    let body = format!("data: {event}\n\ndata: [DONE]\n\n");
    let answer = Answer::bytes(200, body.into_bytes()).with("content-type", "text/event-stream");
    let program = serve(Program::llamacpp(true, [answer])).await;
    let engine = openai(&program, OpenAiMode::Chat);
    let horde = FakeHorde::with_texts([about(1, "[image 1]what?", &[picture(8)])]).await;
    let config = config(&horde);
    let mut rig = TextRig::start(horde, program, engine, config);
    assert_eq!(rig.ended(1).await.done, 1);
    let parts = &rig.tasks(CHAT)[0]["messages"][0]["content"];
    let url = parts[0]["image_url"]["url"].as_str().unwrap();
    let jpeg = url.strip_prefix("data:image/jpeg;base64,").unwrap();
    assert_eq!(size(&json!(jpeg)), (8, 8));
    assert_eq!(parts[1], json!({"type": "text", "text": "what?"}));
    rig.stop().await;
}

#[tokio::test]
async fn a_picture_that_cannot_be_had_is_not_left_out() {
    let horde = FakeHorde::with_texts([about(1, "[image 1]what?", &["aGk=".to_owned()])]).await;
    let mut rig = TextRig::openai(horde, Program::llamacpp(true, [])).await;
    assert_eq!(rig.ended(1).await.faulted, 1);
    assert!(rig.tasks(COMPLETION).is_empty() && rig.tasks(COMPLETIONS).is_empty());
    rig.stop().await;
}
