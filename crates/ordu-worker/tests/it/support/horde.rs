//! A horde that hands out the jobs and answers that a test plans.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};

use super::http::{Answer, Seen, TestServer};

pub const POP: &str = "/api/v2/generate/pop";
pub const SUBMIT: &str = "/api/v2/generate/submit";
pub const TEXT_POP: &str = "/api/v2/generate/text/pop";
pub const TEXT_SUBMIT: &str = "/api/v2/generate/text/submit";
pub const FORM_POP: &str = "/api/v2/interrogate/pop";
pub const FORM_SUBMIT: &str = "/api/v2/interrogate/submit";
pub const FIND_USER: &str = "/api/v2/find_user";
pub const PROGRESS: &str = "/api/v2/generate/progress";
const SERVICE_INFO: &str = "/.well-known/serviceinfo";

/// Stands for the address of the horde in jobs.
pub const HERE: &str = "{here}";

/// What an S3 signature looks like, and must still look like when it comes back.
pub const SIGNATURE: &str = "X-Amz-Credential=k%2F1%2Fs3&X-Amz-Signature=0a%3D&b=~*+";

/// Answers that are given once each, then the usual one for ever.
#[derive(Default)]
pub struct Script {
    pub pops: VecDeque<Answer>,
    pub submits: VecDeque<Answer>,
    pub text_pops: VecDeque<Answer>,
    pub form_pops: VecDeque<Answer>,
    pub uploads: VecDeque<Answer>,
    pub progress: Option<Answer>,
    /// Answers to `GET`, by path.
    pub files: Vec<(&'static str, Answer)>,
}

pub struct FakeHorde {
    server: TestServer,
}

impl FakeHorde {
    /// A horde with these jobs.
    pub async fn with_jobs(jobs: impl IntoIterator<Item = Value>) -> Self {
        let pops = jobs
            .into_iter()
            .map(|job| Answer::json(200, &job))
            .collect();
        Self::scripted(Script {
            pops,
            ..Script::default()
        })
        .await
    }

    /// A horde with these texts to write.
    pub async fn with_texts(jobs: impl IntoIterator<Item = Value>) -> Self {
        let jobs = jobs.into_iter();
        Self::scripted(Script {
            text_pops: jobs.map(|job| Answer::json(200, &job)).collect(),
            ..Script::default()
        })
        .await
    }

    pub async fn scripted(script: Script) -> Self {
        let here = Arc::new(OnceLock::<String>::new());
        let script = Mutex::new(script);
        let url = here.clone();
        let server = TestServer::start(move |seen| {
            let mut answer = respond(&mut script.lock().unwrap(), seen);
            if let (Ok(text), Some(url)) = (String::from_utf8(answer.body.clone()), url.get()) {
                answer.body = text.replace(HERE, url).into_bytes();
            }
            answer
        })
        .await;
        here.set(server.url.clone()).unwrap();
        Self { server }
    }

    pub fn url(&self) -> &str {
        &self.server.url
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    pub fn pops(&self) -> Vec<Value> {
        self.bodies("POST", POP)
    }

    pub fn submits(&self) -> Vec<Value> {
        self.bodies("POST", SUBMIT)
    }

    pub fn text_pops(&self) -> Vec<Value> {
        self.bodies("POST", TEXT_POP)
    }

    pub fn form_pops(&self) -> Vec<Value> {
        self.bodies("POST", FORM_POP)
    }

    pub fn form_submits(&self) -> Vec<Value> {
        self.bodies("POST", FORM_SUBMIT)
    }

    pub fn text_submits(&self) -> Vec<Value> {
        self.bodies("POST", TEXT_SUBMIT)
    }

    pub fn uploads(&self) -> Vec<Seen> {
        let puts = self.seen().into_iter();
        puts.filter(|seen| seen.method == "PUT").collect()
    }

    pub async fn wait_for(&self, path: &str, count: usize) {
        super::within(self.server.wait_for("POST", path, count)).await;
    }

    fn bodies(&self, method: &str, path: &str) -> Vec<Value> {
        self.server
            .seen_at(method, path)
            .iter()
            .map(Seen::json)
            .collect()
    }
}

fn respond(script: &mut Script, seen: &Seen) -> Answer {
    if seen.is("POST", POP) {
        script.pops.pop_front().unwrap_or_else(idle)
    } else if seen.is("POST", SUBMIT) {
        let accepted = || Answer::json(200, &json!({"reward": 10.5, "news": true}));
        script.submits.pop_front().unwrap_or_else(accepted)
    } else if seen.is("POST", TEXT_POP) {
        script.text_pops.pop_front().unwrap_or_else(idle)
    } else if seen.is("POST", FORM_POP) {
        let nothing = || Answer::json(200, &json!({"forms": null, "skipped": {}}));
        script.form_pops.pop_front().unwrap_or_else(nothing)
    } else if seen.is("POST", TEXT_SUBMIT) || seen.is("POST", FORM_SUBMIT) {
        Answer::json(200, &json!({"reward": 2.5}))
    } else if seen.is("POST", PROGRESS) {
        let unknown = || Answer::json(404, &json!({"message": "no such path"}));
        script.progress.clone().unwrap_or_else(unknown)
    } else if seen.method == "PUT" {
        let stored = || Answer::bytes(200, Vec::new());
        script.uploads.pop_front().unwrap_or_else(stored)
    } else {
        let file = script.files.iter().find(|(path, _)| seen.is("GET", path));
        file.map_or_else(
            || Answer::bytes(404, Vec::new()),
            |(_, answer)| answer.clone(),
        )
    }
}

/// A horde that says that it has these extensions, each in its present version.
pub fn extended(names: &[&str]) -> (&'static str, Answer) {
    let present = ordu_api::extension::EXTENSIONS.iter();
    let named = present.filter(|(name, _)| names.contains(name));
    let listed: serde_json::Map<String, Value> = named
        .map(|(name, version)| ((*name).to_owned(), json!(version)))
        .collect();
    assert_eq!(listed.len(), names.len());
    let document = json!({"api": {"ordu": {"extensions": listed}}});
    (SERVICE_INFO, Answer::json(200, &document))
}

pub fn idle() -> Answer {
    let skipped = json!({"models": 1, "a_new_reason": 2});
    Answer::json(
        200,
        &json!({"id": null, "ids": [], "payload": {}, "skipped": skipped}),
    )
}

pub fn refusal(status: u16, rc: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"message": message, "rc": rc}))
}

/// The `number`th id.
pub fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A job with these ids, small and quick.
pub fn job(numbers: &[usize]) -> Value {
    let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
    let uploads: Vec<_> = ids
        .iter()
        .map(|id| format!("{HERE}/r2/{id}.webp?{SIGNATURE}"))
        .collect();
    json!({
        "id": ids[0], "ids": ids, "r2_upload": uploads[0], "r2_uploads": uploads,
        "model": "test", "ttl": 150, "skipped": {}, "messages": [],
        "source_image": null, "source_processing": "img2img", "source_mask": null,
        "payload": {"prompt": "a cat###a dog", "ddim_steps": 2, "n_iter": ids.len(), "seed": "7",
                    "sampler_name": "k_euler", "cfg_scale": 7.5, "width": 64, "height": 64,
                    "karras": true}
    })
}

/// A job with other members, at the top and in the payload.
pub fn job_with(number: usize, top: &Value, payload: &Value) -> Value {
    let mut job = job(&[number]);
    let merge = |into: &mut Value, from: &Value| {
        into.as_object_mut()
            .unwrap()
            .extend(from.as_object().unwrap().clone());
    };
    merge(&mut job, top);
    merge(&mut job["payload"], payload);
    job
}

/// A text to write, with these members more or other in its payload.
pub fn text(number: usize, payload: &Value) -> Value {
    let mut job = json!({
        "id": id(number), "ids": [id(number)], "model": "tiny", "ttl": 150, "skipped": {},
        "softprompt": null, "messages": [],
        "payload": {"prompt": "Once upon", "n": 1, "max_length": 20, "max_context_length": 100},
    });
    job["payload"]
        .as_object_mut()
        .unwrap()
        .extend(payload.as_object().unwrap().clone());
    job
}

/// How the submits of some ids ended, as `(number, state)`, in the order of the ids.
pub fn outcomes(submits: &[Value]) -> Vec<(usize, String)> {
    let mut outcomes: Vec<_> = submits
        .iter()
        .map(|submit| {
            let id = submit["id"].as_str().unwrap();
            let number = id.rsplit('-').next().unwrap().parse().unwrap();
            (number, submit["state"].as_str().unwrap().to_owned())
        })
        .collect();
    outcomes.sort();
    outcomes
}

pub fn ok(number: usize) -> (usize, String) {
    (number, "ok".to_owned())
}

pub fn faulted(number: usize) -> (usize, String) {
    (number, "faulted".to_owned())
}
