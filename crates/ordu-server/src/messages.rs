//! Messages to workers that still matter, at hand for every pop.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use ordu_api::message::MessageView;
use ordu_api::worker::WorkerMessage;
use ordu_api::{MessageId, WorkerId};
use ordu_core::Timestamp;
use ordu_store::Message;

use crate::app::App;
use crate::dates;

/// How many messages are kept at hand; older ones are not delivered.
const KEPT: u32 = 10_000;

/// How many messages one pop carries.
const SHOWN: usize = 50;

/// The messages at hand, by whom they are for; `None` is everybody. The newest first.
#[derive(Debug, Default)]
pub(crate) struct Messages(RwLock<BTreeMap<Option<WorkerId>, Vec<Message>>>);

impl Messages {
    /// Takes over what is stored.
    pub(crate) fn replace(&self, messages: Vec<Message>) {
        let mut by_worker: BTreeMap<_, Vec<Message>> = BTreeMap::new();
        for message in messages {
            by_worker.entry(message.worker).or_default().push(message);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = by_worker;
    }

    /// Takes note of a new message.
    pub(crate) fn put(&self, message: Message) {
        let mut by_worker = self.0.write().unwrap_or_else(PoisonError::into_inner);
        by_worker
            .entry(message.worker)
            .or_default()
            .insert(0, message);
    }

    /// Forgets a message that was deleted.
    pub(crate) fn remove(&self, message: &Message) {
        let mut by_worker = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(messages) = by_worker.get_mut(&message.worker) {
            messages.retain(|other| other.id != message.id);
        }
    }

    /// Messages for this worker alone.
    pub(crate) fn addressed_to(&self, worker: WorkerId, now: Timestamp) -> Vec<MessageView> {
        let by_worker = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let messages = by_worker.get(&Some(worker)).into_iter().flatten();
        let active = messages.filter(|message| message.expires > now);
        active.take(SHOWN).map(view).collect()
    }

    /// What a pop of this worker carries: its own messages, then those for everybody.
    pub(crate) fn for_pop(&self, worker: WorkerId, now: Timestamp) -> Vec<WorkerMessage> {
        let by_worker = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let lists = [Some(worker), None].map(|key| by_worker.get(&key));
        let active = lists
            .into_iter()
            .flatten()
            .flatten()
            .filter(|message| message.expires > now);
        active.take(SHOWN).map(carried).collect()
    }
}

fn carried(message: &Message) -> WorkerMessage {
    WorkerMessage {
        id: message.id.to_string(),
        message: message.message.clone(),
        origin: Some(message.origin.clone()),
        expiry: Some(dates::rfc822(message.expires)),
    }
}

/// A message as it is listed.
pub(crate) fn view(message: &Message) -> MessageView {
    MessageView {
        id: message.id.to_string(),
        message: message.message.clone(),
        origin: message.origin.clone(),
        expiry: dates::rfc822(message.expires),
        worker_id: message.worker.map(|worker| worker.to_string()),
        user_id: message.author.to_string(),
        created: dates::rfc822(message.created),
    }
}

impl App {
    /// Reads the messages that still matter: at the start, and again for what other nodes wrote.
    pub(crate) async fn load_messages(&self) -> Result<(), ordu_store::Error> {
        let now = self.clock.now();
        let messages = self.store.list_active_messages(now, KEPT).await?;
        self.messages.replace(messages);
        Ok(())
    }

    /// The message of this id, if there is one.
    pub(crate) async fn find_message(
        &self,
        id: &str,
    ) -> Result<Option<Message>, ordu_store::Error> {
        match id.parse::<MessageId>() {
            Ok(id) => self.store.find_message(id).await,
            Err(_) => Ok(None),
        }
    }
}
