//! Pictures, by link, in the answer, as they come, and from another picture.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use ordu_api::event::JobProgress;
use ordu_api::image::{ImageJob, ImagePop, SourceProcessing, Steps};
use ordu_client::Horde;
use reqwest::Method;
use serde_json::{Value, json};

use super::{call, post, posting};
use crate::support::{Answer, TINY_PNG, TestHorde, delivered, pop, soon};

/// A horde with a dreamer that has looked for a job.
struct Studio {
    horde: TestHorde,
    worker: Horde,
}

impl Studio {
    async fn start() -> Self {
        let horde = TestHorde::start().await;
        let owner = horde.user("owner", 0.0).await.api_key;
        let worker = horde.client(&owner);
        worker.pop_image(&offer()).await.unwrap();
        Self { horde, worker }
    }

    async fn job(&self) -> ImageJob {
        soon(async {
            loop {
                let job = self.worker.pop_image(&offer()).await.unwrap();
                if job.id.is_some() {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Does the next job, and all that belong to it.
    async fn work(&self) -> ImageJob {
        let job = self.job().await;
        for (id, upload) in job.ids.iter().zip(job.r2_uploads.clone().unwrap()) {
            self.worker.upload(&upload, picture().into()).await.unwrap();
            self.worker.submit_image(&delivered(id)).await.unwrap();
        }
        job
    }

    async fn ask(&self, body: &Value) -> (Answer, ImageJob) {
        let path = "/images/generations";
        soon(async { tokio::join!(post(&self.horde, path, body), self.work()) }).await
    }
}

fn offer() -> ImagePop {
    let models = ["ordu-tiny", "stable_diffusion_inpainting"];
    ImagePop {
        models: models.map(str::to_owned).to_vec(),
        ..pop("dreamer")
    }
}

/// A real picture: half red, half nothing.
fn drawing() -> RgbaImage {
    RgbaImage::from_fn(64, 64, |x, _| {
        if x < 32 {
            Rgba([230, 40, 40, 255])
        } else {
            Rgba([0, 0, 0, 0])
        }
    })
}

fn file(picture: RgbaImage, format: ImageFormat) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    DynamicImage::from(picture)
        .write_to(&mut file, format)
        .unwrap();
    file.into_inner()
}

fn picture() -> Vec<u8> {
    file(drawing(), ImageFormat::WebP)
}

#[tokio::test]
async fn pictures_come_by_link() {
    let studio = Studio::start().await;
    let body = json!({"prompt": "a red circle", "n": 2, "size": "500x512", "quality": "low"});
    let (answer, job) = studio.ask(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let payload = &job.payload;
    assert_eq!(
        (payload.width, payload.height),
        (512, 512),
        "as near as it goes"
    );
    assert_eq!(payload.ddim_steps, 15);
    assert_eq!(
        (&answer.body["size"], &answer.body["output_format"]),
        (&json!("512x512"), &json!("png"))
    );
    let data = answer.body["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    for image in data {
        assert_eq!(
            (&image["model"], &image["censored"]),
            (&json!("ordu-tiny"), &json!(false))
        );
        assert!(image.get("b64_json").is_none());
        let url = image["url"].as_str().unwrap();
        let fetched = studio.horde.http.get(url).send().await.unwrap();
        assert_eq!(fetched.bytes().await.unwrap(), picture());
    }
}

#[tokio::test]
async fn pictures_come_in_the_answer_in_the_format_asked_for() {
    let studio = Studio::start().await;
    for (more, format) in [
        (json!({"response_format": "b64_json"}), ImageFormat::Png),
        (json!({"output_format": "jpeg"}), ImageFormat::Jpeg),
        (json!({"output_format": "webp"}), ImageFormat::WebP),
    ] {
        let mut body = json!({"prompt": "a red circle", "model": "ordu-tiny", "size": "auto"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let (answer, _) = studio.ask(&body).await;
        let shown = answer.body["data"][0]["b64_json"].as_str().unwrap();
        let file = STANDARD.decode(shown).unwrap();
        assert_eq!(image::guess_format(&file).unwrap(), format);
        let back = image::load_from_memory(&file).unwrap();
        assert_eq!((back.width(), back.height()), (64, 64));
    }
}

#[tokio::test]
async fn pictures_are_seen_coming() {
    let studio = Studio::start().await;
    // Of a picture that may yet be withheld nothing is shown before.
    let body = json!({
        "prompt": "a red circle", "stream": true, "partial_images": 1, "moderation": "low",
    });
    let look = async {
        let response = posting(&studio.horde, "/images/generations", &body)
            .send()
            .await;
        response.unwrap().text().await.unwrap()
    };
    let work = async {
        let job = studio.job().await;
        for step in 1..3 {
            studio.horde.later(1);
            let progress = JobProgress {
                id: job.id.unwrap().to_string(),
                steps: Steps { step, of: 30 },
                preview: Some(TINY_PNG.to_owned()),
                text: None,
            };
            assert!(
                studio
                    .worker
                    .report_progress(&progress)
                    .await
                    .unwrap()
                    .watched
            );
        }
        let upload = job.r2_upload.unwrap();
        studio
            .worker
            .upload(&upload, picture().into())
            .await
            .unwrap();
        studio
            .worker
            .submit_image(&delivered(job.id.unwrap()))
            .await
            .unwrap();
    };
    let (text, ()) = soon(Box::pin(async { tokio::join!(look, work) })).await;
    let names = text.lines().filter_map(|line| line.strip_prefix("event: "));
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [
            "image_generation.partial_image",
            "image_generation.completed"
        ]
    );
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<Value> = data
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&data[0]["b64_json"], &data[0]["partial_image_index"]),
        (&json!(TINY_PNG), &json!(0))
    );
    let last = STANDARD
        .decode(data[1]["b64_json"].as_str().unwrap())
        .unwrap();
    assert_eq!(image::guess_format(&last).unwrap(), ImageFormat::Png);
}

/// A form with files, as browsers and clients write it.
#[derive(Default)]
struct Form(Vec<u8>);

const BOUNDARY: &str = "between-two-parts";

impl Form {
    fn text(self, name: &str, text: &str) -> Self {
        self.add(&format!("name=\"{name}\""), text.as_bytes())
    }

    fn file(self, name: &str, file: &[u8]) -> Self {
        self.add(&format!("name=\"{name}\"; filename=\"picture.png\""), file)
    }

    fn add(mut self, head: &str, body: &[u8]) -> Self {
        let head = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; {head}\r\n\r\n");
        self.0.extend([head.as_bytes(), body, b"\r\n"].concat());
        self
    }
}

async fn edit(studio: &Studio, form: Form) -> Answer {
    let call = call(
        &studio.horde,
        (Method::POST, "/images/edits"),
        ordu_api::ANONYMOUS_KEY,
    );
    let call = call.header(
        "content-type",
        format!("multipart/form-data; boundary={BOUNDARY}"),
    );
    let end = format!("--{BOUNDARY}--\r\n").into_bytes();
    Answer::read(call.body([form.0, end].concat())).await
}

fn form() -> Form {
    let form = Form::default().text("prompt", "a blue square");
    form.text("size", "512x512").text("n", "1")
}

#[tokio::test]
async fn a_picture_is_drawn_anew_where_it_is_transparent() {
    let studio = Studio::start().await;
    let solid = RgbaImage::from_pixel(64, 64, Rgba([1, 2, 3, 255]));
    let png = |picture| file(picture, ImageFormat::Png);
    for (form, processing) in [
        (
            form().file("image", &png(drawing())),
            SourceProcessing::Inpainting,
        ),
        (
            form().file("image[]", &png(solid.clone())),
            SourceProcessing::Img2Img,
        ),
        (
            form()
                .file("image", &png(solid.clone()))
                .file("mask", &png(drawing())),
            SourceProcessing::Inpainting,
        ),
    ] {
        let is_painted = processing == SourceProcessing::Inpainting;
        let (answer, job) = soon(async { tokio::join!(edit(&studio, form), studio.work()) }).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(job.source_processing, processing);
        assert!(job.source_image.is_some());
        assert_eq!(
            job.payload.denoising_strength,
            (!is_painted).then_some(0.75)
        );
        if let Some(mask) = job.source_mask {
            let mask = studio.horde.http.get(mask).send().await.unwrap();
            let mask = image::load_from_memory(&mask.bytes().await.unwrap()).unwrap();
            // Where theirs is transparent, ours is white.
            let mask = mask.to_luma8();
            assert_eq!(
                (mask.get_pixel(5, 5).0, mask.get_pixel(60, 5).0),
                ([0], [255])
            );
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said_of_its_member() {
    let studio = Studio::start().await;
    for (more, param) in [
        (json!({"prompt": ""}), "prompt"),
        (json!({"size": "big"}), "size"),
        (json!({"size": "10x10"}), "size"),
        (json!({"size": "99999x512"}), "size"),
        (json!({"quality": "best"}), "quality"),
        (json!({"n": 0}), "n"),
        (json!({"response_format": "file"}), "response_format"),
        (json!({"output_format": "gif"}), "output_format"),
        (json!({"partial_images": 9}), "partial_images"),
    ] {
        let mut body = json!({"prompt": "a red circle"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = post(&studio.horde, "/images/generations", &body).await;
        assert_eq!(
            (answer.status, &answer.body["error"]["param"]),
            (400, &json!(param)),
            "{more}"
        );
    }
    let body = json!({"prompt": "a red circle", "model": "dall-e-3"});
    let answer = post(&studio.horde, "/images/generations", &body).await;
    assert_eq!(answer.body["error"]["code"], "model_not_found");
    let body = json!({"prompt": "a red circle", "model": "stable_diffusion_inpainting"});
    let answer = post(&studio.horde, "/images/generations", &body).await;
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(message.ends_with("there are ordu-tiny"), "{message}");
    let png = |picture| file(picture, ImageFormat::Png);
    let solid = RgbaImage::from_pixel(8, 8, Rgba([1, 2, 3, 255]));
    for (form, param) in [
        (form(), "image"),
        (form().file("image", b"garbage"), "image"),
        (
            form()
                .file("image", &png(drawing()))
                .file("mask", b"garbage"),
            "mask",
        ),
        (
            form()
                .file("image", &png(drawing()))
                .file("image", &png(solid)),
            "image",
        ),
    ] {
        let answer = edit(&studio, form).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.body["error"]["param"], param, "{}", answer.body);
    }
    let answer = post(&studio.horde, "/images/edits", &json!({"prompt": "x"})).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn what_no_worker_can_do_is_not_waited_for() {
    let studio = Studio::start().await;
    // The worker takes 2048 x 2048 at most.
    let body = json!({"prompt": "a red circle", "size": "3072x3072"});
    let key = studio.horde.user("rich", 100_000.0).await.api_key;
    let ask = call(
        &studio.horde,
        (Method::POST, "/images/generations"),
        key.reveal(),
    );
    let answer = soon(Answer::read(ask.json(&body))).await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (503, &json!("no_worker")),
        "{}",
        answer.body
    );
}
