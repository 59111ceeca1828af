//! `ordu bot mastodon`: whoever mentions an account gets a picture in reply.
//!
//! Mentions are taken in the order in which they came, each once: what was taken is written down before
//! anything is asked of the horde, and what is under way when the bot ends goes on at its next start.
//!
//! # Source
//! Mastodon's public API documentation (`docs.joinmastodon.org`).

mod answer;
mod mastodon;
mod memory;
mod mention;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_client::Horde;
use ordu_server::Clock;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::answer::Painter;
use self::mastodon::{Account, Mastodon, Notification, Trouble};
use self::memory::{Memory, Open, Verdict};
use super::signals::Signals;
use super::target::Target;
use crate::cli::{Bot, BotCommand, MastodonBot};
use crate::exit::Exit;

/// How long the bot waits after Mastodon did not answer.
const AGAIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: Bot) -> Result<Exit> {
    let BotCommand::Mastodon(args) = args.what;
    let mut signals = Signals::listen()?;
    let horde = Target::named(&args.client)?.horde;
    let mastodon = Mastodon::new(&args.mastodon_url, &args.mastodon_token)?;
    let me = match mastodon.account().await {
        Ok(me) => me,
        Err(Trouble::Refused(reason)) => {
            eprintln!("Mastodon refused: {reason}");
            return Ok(Exit::Refused);
        }
        Err(error) => return Err(error).context("Mastodon does not answer"),
    };
    let memory = Memory::open(&args.bot_state)?;
    println!("answering as @{}", me.acct);
    let responder = Responder::new(&args, horde, mastodon, me);
    tokio::select! {
        failed = responder.work(memory) => failed,
        // Whatever is under way is written down.
        () = signals.next() => Ok(Exit::Done),
    }
}

/// Somebody who answers mentions.
struct Responder {
    mastodon: Arc<Mastodon>,
    painter: Arc<Painter>,
    me: Account,
    per_account: usize,
    at_once: usize,
    interval: Duration,
}

/// What became of a mention: its status.
type Answered = String;

impl Responder {
    fn new(args: &MastodonBot, horde: Horde, mastodon: Mastodon, me: Account) -> Self {
        let mastodon = Arc::new(mastodon);
        Self {
            per_account: usize::try_from(args.bot_per_account).unwrap_or(usize::MAX),
            at_once: usize::try_from(args.bot_at_once).unwrap_or(1),
            interval: Duration::from_secs(args.bot_interval),
            painter: Arc::new(Painter::new(args, horde, Arc::clone(&mastodon))),
            mastodon,
            me,
        }
    }

    /// Answers until this is dropped; fails if the memory fails.
    async fn work(&self, mut memory: Memory) -> Result<Exit> {
        let mut working: JoinSet<Answered> = JoinSet::new();
        let mut begun: Vec<String> = Vec::new();
        let news = Notify::new();
        let mut listening = Box::pin(self.mastodon.listen(&news));
        loop {
            self.begin(&memory, &mut working, &mut begun);
            let is_busy = memory.opened().len() > self.at_once;
            let looked = if is_busy {
                // Mastodon keeps what is not taken yet.
                Ok(false)
            } else {
                self.look(&mut memory).await
            };
            if matches!(looked, Ok(true)) {
                continue;
            }
            if let Err(error) = &looked {
                tracing::warn!(%error, "Mastodon does not tell who mentioned the bot");
            }
            let pause = if looked.is_err() {
                AGAIN
            } else {
                self.interval
            };
            tokio::select! {
                Some(ended) = working.join_next() => Self::end(&memory, &mut begun, ended)?,
                () = news.notified(), if looked.is_ok() => {}
                never = &mut listening => match never {},
                () = sleep(pause) => {}
            }
        }
    }

    /// Takes what is new; says whether anything was.
    async fn look(&self, memory: &mut Memory) -> Result<bool> {
        let Some(since) = memory.since() else {
            // Who mentioned the account before it became a bot did not mean the bot.
            let newest = self.mastodon.newest_mention().await?;
            memory.begin_after(newest.unwrap_or_else(|| "0".to_owned()))?;
            return Ok(false);
        };
        let mentions = self.mastodon.mentions(since).await?;
        let any = !mentions.is_empty();
        for mention in mentions {
            self.take(memory, mention)?;
        }
        Ok(any)
    }

    fn take(&self, memory: &mut Memory, mention: Notification) -> Result<()> {
        let Some(status) = mention.status else {
            return memory.pass(mention.id);
        };
        if mention.account.bot || mention.account.id == self.me.id {
            return memory.pass(mention.id);
        }
        let now = Clock::System.now();
        let verdict = memory.count(&mention.account.acct, self.per_account, now);
        if verdict == Verdict::Silence {
            tracing::info!(status = %status.id, "too many mentions of one account: not answered");
            return memory.pass(mention.id);
        }
        let open = Open {
            account: mention.account.acct,
            too_many: verdict == Verdict::TooMany,
            status,
            request: None,
        };
        memory.take(mention.id, open)
    }

    /// Begins to answer what is open, as much as may be done at once.
    fn begin(&self, memory: &Memory, working: &mut JoinSet<Answered>, begun: &mut Vec<String>) {
        for (id, open) in memory.opened() {
            if begun.len() >= self.at_once {
                break;
            }
            if begun.contains(&id) {
                continue;
            }
            begun.push(id.clone());
            let painter = Arc::clone(&self.painter);
            let journal = memory.journal();
            working.spawn(async move {
                painter.answer(&open, &journal).await;
                id
            });
        }
    }

    fn end(
        memory: &Memory,
        begun: &mut Vec<String>,
        ended: Result<Answered, tokio::task::JoinError>,
    ) -> Result<()> {
        match ended {
            Ok(id) => {
                begun.retain(|other| *other != id);
                memory.close(&id)
            }
            Err(error) => {
                tracing::error!(%error, "an answer broke off; it is tried again at the next start");
                Ok(())
            }
        }
    }
}
