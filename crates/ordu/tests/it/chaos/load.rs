//! People who ask, work and give kudos away, and do not mind when the horde is away for a while.

use std::time::Duration;

use ordu_api::image::{ImagePop, ImageRequest, ImageSubmit, Reward, SubmitState, UPLOADED};
use ordu_api::text::{TextPop, TextRequest, TextSubmit};
use ordu_api::user::TestUser;
use ordu_api::{ApiKey, JobId, ReturnCode};
use ordu_client::{Error, Horde};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::record::{Heard, Record};

/// Results of each request for pictures.
pub(crate) const ASKED: u32 = 2;

/// What a person begins with.
pub(crate) const FORTUNE: i64 = 1_000_000;

/// Before somebody who was not served comes again.
const PATIENCE: Duration = Duration::from_millis(10);

/// What two writers always find something of, and what one waits for.
const TEXT_MODEL: &str = "ordu/tiny-text";
const RARE_MODEL: &str = "ordu/rare-text";

/// Who waits, by its number.
const WAITING_WRITER: usize = 3;

/// How long it waits, and its client.
const WAIT: Duration = Duration::from_secs(1);

/// How long a worker tries to hand a result back.
const TRIES: usize = 40;

/// The accounts of those who take part.
#[derive(Debug, Clone)]
pub(crate) struct People {
    asker: ApiKey,
    owner: ApiKey,
    giver: ApiKey,
    receiver: String,
    pub(crate) receiver_id: ordu_api::UserId,
}

impl People {
    pub(crate) async fn mint(urls: &[String]) -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let mint = async |name: &str| -> TestUser {
            let body = json!({ "username": name, "oauth_id": name, "kudos": FORTUNE,
                "moderator": false, "trusted": true });
            let address = format!("{}/api/v2/dev/test-user", urls[0]);
            let answer = reqwest::Client::new().post(address).json(&body).send();
            answer.await.unwrap().json().await.unwrap()
        };
        let receiver = mint("receiver").await;
        let horde = Horde::new(&urls[0], receiver.api_key, "tests:1:here").unwrap();
        let receiver = horde.find_user().await.unwrap();
        Self {
            asker: mint("asker").await.api_key,
            owner: mint("owner").await.api_key,
            giver: mint("giver").await.api_key,
            receiver: receiver.username,
            receiver_id: receiver.id,
        }
    }
}

/// What became of a gift.
pub(crate) enum Given {
    Thanks,
    /// Nobody knows whether it came through before something broke.
    Silence(String),
    Refused(String),
    /// An answer that must not be.
    Breach(String),
}

impl People {
    /// Gives one kudos away.
    pub(crate) async fn give(&self, client: &reqwest::Client, url: &str) -> Given {
        let call = client
            .post(format!("{url}/api/v2/kudos/transfer"))
            .header("apikey", self.giver.reveal())
            .json(&json!({ "username": self.receiver, "amount": 1 }));
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => return Given::Silence(error.to_string()),
        };
        let status = answer.status();
        if status.is_success() {
            return Given::Thanks;
        }
        let comes_again = answer.headers().contains_key(RETRY_AFTER);
        let said = format!(
            "{status} to a gift: {}",
            answer.text().await.unwrap_or_default()
        );
        match status {
            StatusCode::SERVICE_UNAVAILABLE if comes_again => Given::Silence(said),
            _ if status.is_server_error() => Given::Breach(said),
            _ => Given::Refused(said),
        }
    }
}

/// Everybody at work.
pub(crate) struct Load {
    urls: Vec<String>,
    people: People,
    say: UnboundedSender<Heard>,
    heard: UnboundedReceiver<Heard>,
    others: JoinSet<()>,
    workers: JoinSet<()>,
    end: CancellationToken,
}

impl Load {
    pub(crate) fn start(urls: &[String], people: &People) -> Self {
        let mut load = Self::of_workers(urls, people);
        for number in 0..3 {
            // The anonymous account may have more waiting than others.
            let key = if number == 0 {
                people.asker.clone()
            } else {
                ApiKey::anonymous()
            };
            let side = load.side(number, &key);
            load.others.spawn(load.until_the_end(ask_pictures(side)));
            let side = load.side(number, &key);
            load.others.spawn(load.until_the_end(ask_texts(side)));
        }
        let side = load.side(WAITING_WRITER, &people.asker);
        load.others.spawn(load.until_the_end(ask_one_by_one(side)));
        let side = load.side(0, &people.giver);
        load.others
            .spawn(give(side, people.clone(), load.end.clone()));
        load
    }

    /// Nobody who asks for more.
    pub(crate) fn of_workers(urls: &[String], people: &People) -> Self {
        let (say, heard) = unbounded_channel();
        let mut load = Self {
            urls: urls.to_vec(),
            people: people.clone(),
            say,
            heard,
            others: JoinSet::new(),
            workers: JoinSet::new(),
            end: CancellationToken::new(),
        };
        load.hire();
        load
    }

    /// Replaces the workers: those at work vanish with their jobs.
    pub(crate) fn hire(&mut self) {
        self.workers.abort_all();
        for number in 0..3 {
            let side = self.side(number, &self.people.owner);
            let name = format!("painter {number}");
            self.workers.spawn(self.until_the_end(paint(side, name)));
            let side = self.side(number, &self.people.owner);
            let offer = text_offer(number, TEXT_MODEL);
            self.workers.spawn(self.until_the_end(write(side, offer)));
        }
        // Of the others' model there is always something: this one waits.
        let side = self.side(WAITING_WRITER, &self.people.owner);
        let side = Side {
            horde: side.horde.patient(WAIT),
            ..side
        };
        let offer = text_offer(WAITING_WRITER, RARE_MODEL);
        self.workers.spawn(self.until_the_end(write(side, offer)));
    }

    /// Lets the gift that is on its way arrive and everybody else go, and writes down what they heard.
    pub(crate) async fn end(mut self, record: &mut Record) {
        self.end.cancel();
        while self.others.join_next().await.is_some() {}
        while self.workers.join_next().await.is_some() {}
        record.take(&mut self.heard);
    }

    fn side(&self, number: usize, key: &ApiKey) -> Side {
        let url = &self.urls[number % self.urls.len()];
        let next = &self.urls[(number + 1) % self.urls.len()];
        let horde = |url: &str| Horde::new(url, key.clone(), "tests:1:here").unwrap();
        Side {
            horde: horde(url),
            elsewhere: (next != url).then(|| horde(next)),
            url: url.clone(),
            say: self.say.clone(),
        }
    }

    fn until_the_end(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let end = self.end.clone();
        async move {
            end.run_until_cancelled(work).await;
        }
    }
}

/// Where somebody stands.
struct Side {
    horde: Horde,
    /// Another node, if there is one.
    elsewhere: Option<Horde>,
    url: String,
    say: UnboundedSender<Heard>,
}

impl Side {
    fn say(&self, heard: Heard) {
        self.say.send(heard).unwrap();
    }

    /// Waits after an answer that was none; tells what must not be answered.
    async fn endure(&self, error: &Error) {
        if let Some(what) = breach(error) {
            self.say(Heard::Breach(what));
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

/// A horde in trouble may be silent, or answer 503 and when to come again. Nothing else.
fn breach(error: &Error) -> Option<String> {
    match error {
        Error::Unavailable {
            source: None,
            retry_after: None,
            reason,
        } => Some(format!("an answer of 5xx without Retry-After: {reason}")),
        Error::Malformed { reason } => Some(format!("an answer that cannot be read: {reason}")),
        _ => None,
    }
}

async fn ask_pictures(side: Side) {
    let mut request = ImageRequest {
        prompt: "a red circle".to_owned(),
        models: vec!["ordu-tiny".to_owned()],
        ..ImageRequest::default()
    };
    request.params.n = Some(ASKED);
    loop {
        match side.horde.async_image(&request).await {
            Ok(accepted) => side.say(Heard::Request(accepted.id)),
            Err(error) => side.endure(&error).await,
        }
    }
}

fn text_request(model: &str) -> TextRequest {
    TextRequest {
        prompt: "Once upon a time".to_owned(),
        models: vec![model.to_owned()],
        ..TextRequest::default()
    }
}

async fn ask_texts(side: Side) {
    let request = text_request(TEXT_MODEL);
    loop {
        match side.horde.async_text(&request).await {
            Ok(accepted) => side.say(Heard::Request(accepted.id)),
            Err(error) => side.endure(&error).await,
        }
    }
}

/// The next one when there is something of the one before: meanwhile its writer waits.
async fn ask_one_by_one(side: Side) {
    let (request, patient) = (text_request(RARE_MODEL), side.horde.patient(WAIT));
    loop {
        match side.horde.async_text(&request).await {
            Ok(accepted) => {
                side.say(Heard::Request(accepted.id));
                // Whether it is done or not.
                drop(patient.text_status(accepted.id).await);
            }
            Err(error) => side.endure(&error).await,
        }
    }
}

async fn paint(side: Side, name: String) {
    let pop = ImagePop {
        name,
        models: vec!["ordu-tiny".to_owned()],
        bridge_agent: "AI Horde Worker reGen:14.0.0:https://example.org".to_owned(),
        amount: 2,
        ..ImagePop::default()
    };
    loop {
        let job = match side.horde.pop_image(&pop).await {
            Ok(job) => job,
            Err(error) => {
                side.endure(&error).await;
                continue;
            }
        };
        for id in &job.ids {
            side.say(Heard::Job(*id));
        }
        let uploads = job.r2_uploads.unwrap_or_default();
        for (id, upload) in job.ids.into_iter().zip(uploads) {
            if !bring(&side, id, &upload).await {
                continue;
            }
            let submit = ImageSubmit {
                id: id.to_string(),
                generation: UPLOADED.to_owned(),
                state: SubmitState::Ok,
                seed: 1,
                gen_metadata: Vec::new(),
            };
            hand_back(&side, id, Made::Picture(submit)).await;
        }
    }
}

fn text_offer(number: usize, model: &str) -> TextPop {
    TextPop {
        name: format!("writer {number}"),
        models: vec![model.to_owned()],
        bridge_agent: "KoboldCppEmbedWorker:2:https://example.org".to_owned(),
        max_length: 512,
        max_context_length: 2048,
        ..TextPop::default()
    }
}

async fn write(side: Side, pop: TextPop) {
    loop {
        let job = match side.horde.pop_text(&pop).await {
            Ok(job) => job,
            Err(error) => {
                side.endure(&error).await;
                continue;
            }
        };
        let Some(id) = job.id else {
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        side.say(Heard::Job(id));
        let submit = TextSubmit {
            id: id.to_string(),
            generation: format!("there was the job {id}"),
            state: SubmitState::Ok,
            seed: 1,
            gen_metadata: Vec::new(),
        };
        hand_back(&side, id, Made::Text(submit)).await;
    }
}

/// The picture of a job: which one it is can be read from it.
pub(crate) fn picture(id: JobId) -> Vec<u8> {
    format!("RIFF\0\0\0\0WEBP{id}").into_bytes()
}

/// Brings a picture to where it belongs. Whether it arrived.
async fn bring(side: &Side, id: JobId, upload: &str) -> bool {
    for _ in 0..TRIES {
        match side.horde.upload(upload, picture(id).into()).await {
            Ok(()) => return true,
            Err(Error::Refused(_)) => return false,
            Err(error) => side.endure(&error).await,
        }
    }
    false
}

/// What a worker made.
#[derive(Clone)]
enum Made {
    Picture(ImageSubmit),
    Text(TextSubmit),
}

impl Made {
    async fn hand_in(&self, horde: &Horde) -> Result<Reward, Error> {
        match self {
            Self::Picture(submit) => horde.submit_image(submit).await,
            Self::Text(submit) => horde.submit_text(submit).await,
        }
    }
}

/// Hands a result back until the horde says what became of it: to one node and the other in turn. Then
/// once more, as somebody does who did not hear the answer.
async fn hand_back(side: &Side, id: JobId, made: Made) {
    for turn in 0..TRIES {
        let elsewhere = side.elsewhere.as_ref().filter(|_| turn % 2 == 1);
        let horde = elsewhere.unwrap_or(&side.horde);
        match made.hand_in(horde).await {
            Ok(settled) => {
                let text = match &made {
                    Made::Picture(_) => None,
                    Made::Text(submit) => Some(submit.generation.clone()),
                };
                side.say(Heard::Reward(id, text, settled.reward));
                if elsewhere.is_some() {
                    side.say(Heard::Elsewhere);
                }
                let other = side.elsewhere.as_ref().unwrap_or(&side.horde);
                if let Ok(again) = made.hand_in(other).await {
                    side.say(Heard::Reward(id, None, again.reward));
                }
                return;
            }
            // Whoever gave it away, every node knows it.
            Err(error) if error.is(ReturnCode::InvalidJobID) => {
                return side.say(Heard::Breach(format!("the job {id}: {error}")));
            }
            // It arrived, but the answer was lost; or it took too long.
            Err(Error::Refused(_)) => return,
            Err(error) => side.endure(&error).await,
        }
    }
}

/// Gives one kudos at a time. What is not known of a gift counts, so none is let go of half way.
async fn give(side: Side, people: People, end: CancellationToken) {
    let client = reqwest::Client::new();
    while !end.is_cancelled() {
        match people.give(&client, &side.url).await {
            Given::Thanks => {
                side.say(Heard::Gift { acknowledged: true });
                continue;
            }
            Given::Silence(_) => side.say(Heard::Gift {
                acknowledged: false,
            }),
            Given::Refused(_) => (),
            Given::Breach(what) => side.say(Heard::Breach(what)),
        }
        tokio::time::sleep(PATIENCE).await;
    }
}
