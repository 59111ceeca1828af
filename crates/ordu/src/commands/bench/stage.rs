//! What a server finds at its start: accounts, waiting requests, a past. It is written by the store
//! itself, because to ask for it all over HTTP takes longer than to measure.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use ordu_api::{ApiKey, RequestId, UserId, WorkerId};
use ordu_core::horde::{Address, Request, Requester, Work};
use ordu_core::image::ImageSpec;
use ordu_core::ledger::{Entry, Event, Reason};
use ordu_core::text::TextSpec;
use ordu_core::{Kudos, Millis, Roles, Timestamp};
use ordu_server::Secret;
use ordu_store::{DatabaseUrl, NewRequest, NewUser, Options, Past, Store, UserChange};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::scenario::{PROMPT_BYTES, Stage, Wanted};

/// The model of pictures that workers here have.
pub(crate) const IMAGE_MODEL: &str = "ordu-tiny";
/// The model of texts that workers here have.
pub(crate) const TEXT_MODEL: &str = "koboldcpp/LLaMA2-13B-Tiefighter";

/// Accounts that ask.
const ASKERS: u32 = 128;
/// Accounts whose requests wait.
const CROWD: u32 = 50;
/// Requests that are written at the same time: enough to fill a commit.
const AT_ONCE: usize = 512;
/// Waiting requests that are looked at.
const LOOKED_AT: usize = 1_000;
/// How long what waits lives: longer than any scenario.
const LIFE: Millis = Millis::from_minutes(120);

/// Who takes part, by their keys.
#[derive(Debug, Clone)]
pub(crate) struct People {
    /// Never empty.
    pub(crate) askers: Vec<ApiKey>,
    /// Whose the workers are.
    pub(crate) owner: ApiKey,
    /// Some of the requests that wait.
    pub(crate) waiting: Vec<RequestId>,
}

impl People {
    /// One account that does everything.
    pub(crate) fn one(key: &ApiKey) -> Self {
        Self {
            askers: vec![key.clone()],
            owner: key.clone(),
            waiting: Vec::new(),
        }
    }

    /// The account of a client.
    pub(crate) fn asker(&self, number: u32) -> &ApiKey {
        let count = self.askers.len().max(1);
        let at = usize::try_from(number).unwrap_or_default() % count;
        self.askers.get(at).unwrap_or(&self.owner)
    }
}

/// Prepares a database. `scale` is the share of everything.
pub(crate) async fn prepare(
    database: &str,
    secret: &Secret,
    stage: Stage,
    scale: f64,
    now: Timestamp,
) -> Result<People> {
    let url: DatabaseUrl = database.parse()?;
    let store = Store::open(&url, &Options::default(), now).await;
    let store = Arc::new(store.context("cannot prepare the database")?);
    let writer = Writer { store: &store, now };
    let mut askers = Vec::new();
    for number in 0..ASKERS {
        askers.push(writer.account(&format!("asker {number}"), secret).await?.1);
    }
    let (_, owner) = writer.account("owner", secret).await?;
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        crowd.push(writer.account(&format!("crowd {number}"), secret).await?.0);
    }
    let past = scaled(stage.finished, scale);
    if past > 0 {
        writer
            .past(past, crowd.first().copied().unwrap_or_default())
            .await?;
    }
    let waiting = scaled(stage.waiting, scale);
    let waiting = writer.crowd(waiting, stage.wanted, &crowd).await?;
    store.close().await;
    Ok(People {
        askers,
        owner,
        waiting,
    })
}

/// A share of a number, at least 1 of something.
pub(crate) fn scaled(number: u32, scale: f64) -> u32 {
    let share = (f64::from(number) * scale).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the number"
    )]
    let share = share.clamp(0.0, f64::from(number)) as u32;
    share
}

struct Writer<'a> {
    store: &'a Arc<Store>,
    now: Timestamp,
}

impl Writer<'_> {
    /// An account that is trusted, rich, and may have much waiting.
    async fn account(&self, name: &str, secret: &Secret) -> Result<(UserId, ApiKey)> {
        let key = ordu_server::new_api_key()?;
        let user = NewUser {
            username: name.to_owned(),
            key_hash: Some(secret.hash(&key)),
            subject: Uuid::new_v4().to_string(),
            concurrency: 1_000_000,
            created: self.now,
        };
        let id = self.store.insert_user(&user).await?;
        let change = UserChange {
            trusted: Some(true),
            ..UserChange::default()
        };
        self.store.update_user(id, &change).await?;
        let riches = Entry::reward(id, Kudos::new(100_000_000), Reason::Reconciliation);
        let event = Event {
            id: Uuid::new_v4(),
            at: self.now,
            kind: None,
            entries: vec![riches],
        };
        self.store.record(&event).await?;
        Ok((id, key))
    }

    async fn past(&self, requests: u32, owner: UserId) -> Result<()> {
        let spec = TextSpec {
            prompt: prompt(0),
            ..TextSpec::default()
        };
        let request = self.request(Work::Text(Arc::new(spec)), owner, 0);
        let past = Past {
            requests,
            owner,
            worker: WorkerId::from_uuid(Uuid::new_v4()),
            spec: serde_json::to_string(&request)?,
            result: format!(r#"{{"seed":1,"text":"{}"}}"#, prompt(1)),
            at: self.now,
            expires: self.now + LIFE,
        };
        Ok(self.store.rehearse(&past).await?)
    }

    /// Requests that wait, of all the crowd; answers some of them.
    async fn crowd(&self, count: u32, wanted: Wanted, crowd: &[UserId]) -> Result<Vec<RequestId>> {
        let mut looked_at = Vec::new();
        let mut writing = JoinSet::new();
        for (number, owner) in (0..count).zip(crowd.iter().cycle()) {
            let request = self.request(picture(number, wanted), *owner, number);
            if looked_at.len() < LOOKED_AT {
                looked_at.push(request.id);
            }
            let row = NewRequest {
                id: request.id,
                owner: *owner,
                kind: request.work.kind(),
                spec: serde_json::to_string(&request)?,
                n: 1,
                priority: 0,
                created: request.created,
                expires: self.now + LIFE,
                client_agent: "rehearsal:1:ordu".to_owned(),
                ip: None,
                shared_key: None,
                hold: Kudos::ZERO,
                consumed: Kudos::ZERO,
                activation: None,
                activity: None,
                answer: None,
            };
            if writing.len() >= AT_ONCE
                && let Some(written) = writing.join_next().await
            {
                written??;
            }
            let store = Arc::clone(self.store);
            writing.spawn(async move { store.insert_request(&row).await });
        }
        while let Some(written) = writing.join_next().await {
            written??;
        }
        Ok(looked_at)
    }

    fn request(&self, work: Work, user: UserId, number: u32) -> Request {
        Request {
            id: RequestId::from_uuid(Uuid::new_v4()),
            requester: Requester {
                user,
                roles: Roles::NONE,
                available: Kudos::new(100),
                address: Address::Safe,
            },
            work,
            // Scattered, so that the order of the queue is not that of their coming.
            priority: Kudos::new(i64::from(number.wrapping_mul(2_654_435_761) % 10_000)),
            created: self.now,
            twin: None,
        }
    }
}

/// A request for a picture; those for nobody are of 200 models in 8 sizes.
fn picture(number: u32, wanted: Wanted) -> Work {
    let spec = match wanted {
        Wanted::Us => ImageSpec {
            prompt: prompt(number),
            models: vec![IMAGE_MODEL.to_owned()],
            width: 64,
            height: 64,
            ..ImageSpec::default()
        },
        Wanted::Nobody => ImageSpec {
            prompt: prompt(number),
            models: vec![format!("far away {}", number % 200)],
            width: 512 + number / 200 % 8 * 64,
            ..ImageSpec::default()
        },
    };
    Work::Image(Arc::new(spec))
}

fn prompt(number: u32) -> String {
    let mut prompt = format!("{number} red circles ");
    let length = usize::try_from(PROMPT_BYTES).unwrap_or_default();
    while prompt.len() < length {
        prompt.push_str("and another one ");
    }
    prompt.truncate(length);
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_something_is_something() {
        assert_eq!(scaled(100_000, 0.001), 100);
        assert_eq!((scaled(100, 0.001), scaled(0, 0.5)), (1, 0));
        assert_eq!(scaled(u32::MAX, 1.0), u32::MAX);
    }

    #[test]
    fn prompts_have_the_length_that_is_taken_off() {
        assert_eq!(prompt(99_999).len(), 200);
    }
}
