//! A text that another program writes, piece by piece.
//!
//! Stop sequences belong into a text, and nothing behind them does. Programs differ in that, so it is
//! we who look for them.

use super::backend::Failure;
use crate::{Finish, ProgressSink, Step, Text, TextError, TextTask};

/// The longest text.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// A text that grows.
pub(super) struct Growing<'t> {
    task: &'t TextTask,
    stops: Vec<&'t str>,
    text: String,
    finish: Option<Finish>,
    pieces: u32,
}

impl<'t> Growing<'t> {
    pub(super) fn new(task: &'t TextTask) -> Self {
        let stops = task.stop_sequence.iter().map(String::as_str);
        Self {
            task,
            stops: stops.filter(|stop| !stop.is_empty()).collect(),
            text: String::new(),
            finish: None,
            pieces: 0,
        }
    }

    /// Takes the next piece; says whether more may come: a stop sequence ends the text.
    pub(super) fn add(&mut self, piece: &str) -> Result<bool, Failure> {
        let before = self.text.len();
        self.text.push_str(piece);
        if self.text.len() > MAX_TEXT_BYTES {
            return Err(Failure::Final(TextError::Refused {
                reason: "it writes without end".to_owned(),
            }));
        }
        let Some(end) = self.stopped(before) else {
            return Ok(true);
        };
        self.text.truncate(end);
        self.finish = Some(Finish::Stop);
        Ok(false)
    }

    /// The program says why it ended, unless a stop sequence had ended the text before.
    pub(super) fn end(&mut self, finish: Finish) {
        self.finish.get_or_insert(finish);
    }

    /// A stop sequence that the program met and took away is put back.
    pub(super) fn keep(&mut self, stop: &str) {
        if self.stops.contains(&stop) && !self.text.ends_with(stop) {
            self.text.push_str(stop);
        }
    }

    /// Tells of the text, a piece of which is a token in most programs.
    pub(super) fn tell(&mut self, progress: &dyn ProgressSink) {
        self.pieces = self.task.max_length.min(self.pieces.saturating_add(1));
        tell(self.task, self.pieces, &self.text, progress);
    }

    /// Where the first stop sequence ends that reaches into what is new.
    fn stopped(&self, before: usize) -> Option<usize> {
        let longest = self.stops.iter().map(|stop| stop.len()).max()?;
        let from = self
            .text
            .floor_char_boundary(before.saturating_sub(longest));
        let new = self.text.get(from..)?;
        let ends = self.stops.iter().filter_map(|stop| {
            let at = new.find(stop)?;
            Some((at, from + at + stop.len()))
        });
        ends.min().map(|(_, end)| end)
    }

    /// The text, if there is one or the program says that there is nothing to write.
    pub(super) fn finished(self) -> Result<Text, Failure> {
        match self.finish {
            Some(Finish::Stop) => {}
            None if self.text.is_empty() => {
                return Err(Failure::Passing("the answer has no text".to_owned()));
            }
            _ if self.text.is_empty() => return Err(Failure::Final(TextError::Empty)),
            _ => {}
        }
        Ok(Text {
            text: self.text,
            finish: self.finish.unwrap_or(Finish::Unknown),
        })
    }
}

/// Tells of a text of so many tokens, before it is done.
pub(super) fn tell(task: &TextTask, tokens: u32, text: &str, progress: &dyn ProgressSink) {
    progress.step(Step {
        step: tokens,
        of: task.max_length,
        preview: None,
    });
    if progress.wants_text() {
        progress.text(&task.format.so_far(&task.prompt, text));
    }
}

/// The text as the task wants it; one that formatting leaves nothing of is better than none.
pub(super) fn formatted(task: &TextTask, written: Text) -> Text {
    let formatted = task.format.apply(&task.prompt, &written.text);
    if formatted.is_empty() {
        return written;
    }
    Text {
        text: formatted,
        finish: written.finish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(stops: &[&str]) -> TextTask {
        TextTask {
            stop_sequence: stops.iter().map(|stop| (*stop).to_owned()).collect(),
            ..TextTask::default()
        }
    }

    #[test]
    fn a_stop_sequence_across_pieces_ends_the_text_and_stays() {
        let stopping = task(&["\nUser:", "END"]);
        let mut growing = Growing::new(&stopping);
        assert!(growing.add("Hé").unwrap());
        assert!(growing.add("llo\nUs").unwrap());
        assert!(!growing.add("er: more END").unwrap());
        growing.end(Finish::Length);
        let text = growing.finished().unwrap();
        assert_eq!(
            (text.text.as_str(), text.finish),
            ("Héllo\nUser:", Finish::Stop)
        );
    }

    #[test]
    fn a_reported_stop_sequence_is_put_back_once() {
        let stopping = task(&["END"]);
        let mut growing = Growing::new(&stopping);
        growing.add("a").unwrap();
        growing.keep("other");
        growing.keep("END");
        growing.keep("END");
        assert_eq!(growing.finished().unwrap().text, "aEND");
    }

    #[test]
    fn nothing_is_a_text_only_if_the_program_says_so() {
        let any = task(&[]);
        let ended = |finish: Option<Finish>| {
            let mut growing = Growing::new(&any);
            if let Some(finish) = finish {
                growing.end(finish);
            }
            growing.finished()
        };
        assert_eq!(ended(Some(Finish::Stop)).unwrap().text, "");
        assert!(matches!(
            ended(Some(Finish::Length)),
            Err(Failure::Final(TextError::Empty))
        ));
        assert!(matches!(ended(None), Err(Failure::Passing(_))));
    }

    #[test]
    fn what_formatting_leaves_nothing_of_stays() {
        let mut wanted = task(&[]);
        wanted.format.remove_special = Some(true);
        let text = |text: &str| Text {
            text: text.to_owned(),
            finish: Finish::Stop,
        };
        assert_eq!(formatted(&wanted, text("a#")).text, "a");
        assert_eq!(formatted(&wanted, text("##")).text, "##");
    }
}
