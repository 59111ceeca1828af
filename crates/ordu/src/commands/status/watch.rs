//! `ordu status --watch`: a screen that follows the horde, or a line for each change.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Horde, Pulses};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep};

use super::board::{Board, News};
use crate::commands::signals::Signals;
use crate::commands::terminal::Terminal;
use crate::exit::Exit;

/// Between two looks at a horde that does not tell by itself, as its limits allow.
const LOOK: Duration = Duration::from_secs(10);

/// Before a stream that broke off is opened again.
const AGAIN: Duration = Duration::from_secs(3);

/// How often a screen may change.
const FRAME: Duration = Duration::from_millis(250);

/// News that may wait for the screen.
const MAX_NEWS: usize = 16;

/// Shows what the horde does until somebody has seen enough.
pub(crate) async fn run(horde: &Horde, json: bool) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let source = Source::open(horde).await;
    let unreachable = || format!("the horde at {} does not answer", horde.base_url());
    let source = source.with_context(unreachable)?;
    let (sender, news) = mpsc::channel(MAX_NEWS);
    let draws = Terminal::is_there() && !json;
    let listening = async {
        if draws {
            tokio::join!(source.follow(horde, &sender), models(horde, &sender));
        } else {
            source.follow(horde, &sender).await;
        }
    };
    let showing = async {
        if draws {
            draw(horde, news).await
        } else {
            print(news, json).await
        }
    };
    tokio::select! {
        () = listening => Ok(Exit::Done),
        shown = showing => shown.map(|()| Exit::Done),
        () = signals.next() => Ok(Exit::Done),
    }
}

/// Where news come from.
enum Source {
    /// The horde tells.
    Told(Box<Pulses>),
    /// It must be asked.
    Asked,
}

impl Source {
    /// A horde that does not know the stream must know how busy it is.
    async fn open(horde: &Horde) -> Result<Self, Error> {
        match horde.pulses().await {
            Ok(pulses) => Ok(Self::Told(Box::new(pulses))),
            Err(Error::Refused(_) | Error::RateLimited { .. }) => {
                horde.performance().await?;
                Ok(Self::Asked)
            }
            Err(error) => Err(error),
        }
    }

    /// Passes on what comes, for as long as somebody listens.
    async fn follow(self, horde: &Horde, news: &mpsc::Sender<News>) {
        match self {
            Self::Told(pulses) => follow_pulses(horde, *pulses, news).await,
            Self::Asked => ask(horde, news).await,
        }
    }
}

async fn follow_pulses(horde: &Horde, mut pulses: Pulses, news: &mpsc::Sender<News>) {
    loop {
        let trouble = match pulses.next().await {
            Ok(Some(pulse)) => {
                if news.send(News::Pulse(pulse)).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => "the stream ended".to_owned(),
            Err(error) => words(&error),
        };
        if news.send(News::Trouble(trouble)).await.is_err() {
            return;
        }
        pulses = loop {
            sleep(AGAIN).await;
            if let Ok(pulses) = horde.pulses().await {
                break pulses;
            }
        };
    }
}

/// An error with its causes.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

async fn ask(horde: &Horde, news: &mpsc::Sender<News>) {
    loop {
        let told = match horde.performance().await {
            Ok(load) => News::Load(load),
            Err(error) => News::Trouble(words(&error)),
        };
        if news.send(told).await.is_err() {
            return;
        }
        sleep(LOOK).await;
    }
}

/// Nobody tells what models there are: they are asked for.
async fn models(horde: &Horde, news: &mpsc::Sender<News>) {
    loop {
        if let Ok(mut models) = horde.models(WorkKind::Image).await {
            models.sort_by(|one, other| {
                let waiting = other.jobs.total_cmp(&one.jobs);
                waiting.then_with(|| one.name.cmp(&other.name))
            });
            if news.send(News::Models(models)).await.is_err() {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

/// Draws until `q` is pressed.
async fn draw(horde: &Horde, mut news: mpsc::Receiver<News>) -> Result<()> {
    let title = horde.base_url().to_string();
    let title = title.trim_end_matches(ordu_api::BASE_PATH);
    let (mut terminal, mut keys) = Terminal::enter().context("cannot draw on this terminal")?;
    let mut board = Board::default();
    let mut frames = interval(FRAME);
    loop {
        tokio::select! {
            _ = frames.tick() => {
                let rows = board.draw(title, Terminal::size(), Instant::now());
                terminal.draw(rows).context("cannot draw on this terminal")?;
            }
            told = news.recv() => match told {
                Some(told) => board.take(told, Instant::now()),
                None => return Ok(()),
            },
            Some(key) = keys.recv() => if matches!(key, b'q' | b'Q') {
                return Ok(());
            },
        }
    }
}

/// Prints until whoever reads has gone.
async fn print(mut news: mpsc::Receiver<News>, json: bool) -> Result<()> {
    while let Some(told) = news.recv().await {
        let line = if json {
            told.json().map(|value| value.to_string())
        } else {
            told.line()
        };
        let Some(line) = line else { continue };
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot print")?,
        }
    }
    Ok(())
}
