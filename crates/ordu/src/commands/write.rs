//! `ordu write`: ask for a text, wait, print.
//!
//! Where somebody sees it, the text is printed as it comes. What was printed cannot be taken back, so
//! a script gets the finished text only, unless it asks for more.

use std::io::{self, IsTerminal as _, stdout};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ordu_api::event::{Event, Piece};
use ordu_api::text::{TextParams, TextRequest, TextStatus};
use ordu_api::{JobId, RequestId};
use ordu_client::{Error, Horde, Pace};
use ordu_worker::Engines;
use serde_json::json;

use super::engines;
use super::target::Target;
use crate::cli::{EngineChoice, Write};
use crate::exit::Exit;

/// Between two looks. A horde allows sixty in a minute.
const INTERVAL: Duration = Duration::from_millis(1100);

/// How many looks in a row may fail.
const PATIENCE: u32 = 8;

pub(crate) async fn run(args: Write) -> Result<Exit> {
    let choice = args.engine.as_ref().unwrap_or(&EngineChoice::Native);
    let writer = || {
        Ok(Engines {
            text: Some(engines::text(choice, args.engine_key.as_deref())?),
            ..Engines::default()
        })
    };
    let target = Target::named_or_started(&args.client, writer).await?;
    let exit = write(&target.horde, &args).await;
    target.finish().await;
    exit
}

async fn write(horde: &Horde, args: &Write) -> Result<Exit> {
    let accepted = match horde.async_text(&request(args)).await {
        Ok(accepted) => accepted,
        Err(Error::Refused(refusal)) => {
            eprintln!("The horde refused: {refusal}");
            return Ok(Exit::Refused);
        }
        Err(error) => return Err(error).context("the request could not be sent"),
    };
    if let Some(message) = &accepted.message {
        eprintln!("Note: {message}");
    }
    let limit = Duration::from_secs(args.timeout);
    let mut screen = Screen::new(args);
    let ending = ended(horde, accepted.id, &mut screen);
    let Ok(status) = tokio::time::timeout(limit, ending).await else {
        screen.end_line();
        // What nobody waits for should not be written.
        horde.cancel_text(accepted.id).await.ok();
        eprintln!(
            "Nothing came within {} s; the request was cancelled",
            args.timeout
        );
        return Ok(Exit::TimedOut);
    };
    let status = status?;
    if status.progress.faulted {
        screen.end_line();
        eprintln!("The horde gave up on this request: workers failed three times");
        return Ok(Exit::Failed);
    }
    Ok(print(accepted.id, &status, args, &screen))
}

/// Waits until nothing more will come, and shows what comes.
async fn ended(horde: &Horde, id: RequestId, screen: &mut Screen) -> Result<TextStatus> {
    let extensions = horde.extensions().await.unwrap_or_default();
    if extensions.tells_events() {
        let pace = Pace::default();
        let told = horde.follow(id, &pace, |event| screen.hear(event));
        told.await.context("the request was lost from sight")?;
    }
    let mut failures = 0;
    loop {
        match horde.text_status(id).await {
            Ok(status) if status.progress.done || status.progress.faulted => return Ok(status),
            Ok(_) => failures = 0,
            Err(error) if error.is_passing() && failures < PATIENCE => failures += 1,
            Err(error) => return Err(error).context("the request was lost from sight"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A text as far as it was printed.
struct Screen {
    is_on: bool,
    /// Who writes it now, and what is known of it.
    writer: Option<JobId>,
    text: String,
    printed: String,
}

impl Screen {
    /// Several texts are written at once, and a reader wants one after the other.
    fn new(args: &Write) -> Self {
        let is_seen = args.stream || stdout().is_terminal();
        Self {
            is_on: is_seen && !args.client.json && args.n == 1,
            writer: None,
            text: String::new(),
            printed: String::new(),
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Assigned(assigned) => self.begin(assigned.id),
            Event::Token(piece) => self.take(piece),
            _ => {}
        }
    }

    /// Whoever begins writes the whole text anew.
    fn begin(&mut self, writer: JobId) {
        if self.writer != Some(writer) {
            self.writer = Some(writer);
            self.text.clear();
        }
    }

    fn take(&mut self, piece: &Piece) {
        self.begin(piece.id);
        // Of a text whose beginning was missed the next piece brings it, or the end.
        let Some(text) = piece.put(&self.text) else {
            return;
        };
        self.text = text;
        if let Some(more) = self.text.strip_prefix(&self.printed).filter(|_| self.is_on) {
            show(more);
            self.printed.push_str(more);
        }
    }

    /// Prints what is missing of the finished text.
    fn finish(&self, text: &str) {
        if let Some(more) = text.strip_prefix(&self.printed) {
            println!("{more}");
        } else {
            println!();
            eprintln!(
                "Note: the text was changed after some of it was printed; this is all of it:"
            );
            println!("{text}");
        }
    }

    /// Makes room for what is said about it.
    fn end_line(&self) {
        if !self.printed.is_empty() {
            println!();
        }
    }
}

/// Prints at once, without the end of a line. Nobody may read any more.
fn show(text: &str) {
    let mut out = stdout().lock();
    let _ = io::Write::write_all(&mut out, text.as_bytes());
    let _ = io::Write::flush(&mut out);
}

fn print(id: RequestId, status: &TextStatus, args: &Write, screen: &Screen) -> Exit {
    if args.client.json {
        let texts: Vec<_> = status
            .generations
            .iter()
            .map(|text| {
                json!({
                    "text": text.text, "seed": text.seed, "model": text.model,
                    "worker": text.worker_name, "state": text.state,
                })
            })
            .collect();
        let kudos = status.progress.kudos;
        println!("{}", json!({ "id": id, "kudos": kudos, "texts": texts }));
    } else {
        let mut texts = status.generations.iter();
        if let Some(first) = texts.next() {
            screen.finish(&first.text);
        }
        for text in texts {
            println!("{}", text.text);
        }
    }
    if status.generations.is_empty() {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn request(args: &Write) -> TextRequest {
    TextRequest {
        prompt: args.prompt.clone(),
        params: params(args),
        models: args.model.clone(),
        style: args.style.clone(),
        ..TextRequest::default()
    }
}

fn params(args: &Write) -> TextParams {
    TextParams {
        n: Some(args.n),
        max_length: args.max_length,
        max_context_length: args.max_context_length,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        typical: args.typical,
        rep_pen: args.rep_pen,
        rep_pen_range: args.rep_pen_range,
        stop_sequence: (!args.stop.is_empty()).then(|| args.stop.clone()),
        frmttriminc: args.trim.then_some(true),
        singleline: args.single_line.then_some(true),
        ..TextParams::default()
    }
}

#[cfg(test)]
mod tests {
    use ordu_api::event::Assigned;
    use ordu_api::image::Steps;

    use super::*;

    fn screen() -> Screen {
        Screen {
            is_on: true,
            writer: None,
            text: String::new(),
            printed: String::new(),
        }
    }

    fn job(number: u128) -> JobId {
        format!("00000000-0000-4000-8000-{number:012}")
            .parse()
            .unwrap()
    }

    fn piece(number: u128, at: usize, text: &str) -> Event {
        Event::Token(Piece {
            id: job(number),
            steps: Steps::default(),
            at,
            text: text.to_owned(),
        })
    }

    #[test]
    fn only_what_continues_the_text_is_printed() {
        let mut screen = screen();
        let mut heard = |event| {
            screen.hear(&event);
            screen.printed.clone()
        };
        assert_eq!(heard(piece(1, 0, "Once")), "Once");
        assert_eq!(heard(piece(1, 4, " upon")), "Once upon");
        // A piece is missing, then the whole comes.
        assert_eq!(heard(piece(1, 20, "!")), "Once upon");
        assert_eq!(heard(piece(1, 0, "Once upon a")), "Once upon a");
        // Another worker writes it anew: as long as it may become the same, nothing is said.
        let anew = Event::Assigned(Assigned {
            id: job(2),
            model: String::new(),
        });
        assert_eq!(heard(anew), "Once upon a");
        assert_eq!(heard(piece(2, 0, "Once")), "Once upon a");
        assert_eq!(heard(piece(2, 4, " upon a time")), "Once upon a time");
        assert_eq!(heard(piece(2, 0, "Never")), "Once upon a time");
        assert_eq!(heard(piece(2, 5, " ever")), "Once upon a time");
    }
}
