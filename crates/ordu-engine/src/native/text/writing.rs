//! From bytes of tokens to a text that stops where it should.

use std::str;

use crate::{Finish, Format, ProgressSink, Text, TextTask};

/// A text in the making.
#[derive(Debug)]
pub(super) struct Writing<'t> {
    task: &'t TextTask,
    text: String,
    /// The beginning of a character whose end has not come.
    held: Vec<u8>,
    /// The longest stop sequence, in bytes.
    longest: usize,
}

impl<'t> Writing<'t> {
    pub(super) fn new(task: &'t TextTask) -> Self {
        let lengths = task.stop_sequence.iter().map(String::len);
        Self {
            task,
            text: String::new(),
            held: Vec::new(),
            longest: lengths.max().unwrap_or(0),
        }
    }

    /// Adds what a token stands for, and tells it on. `false` if the text is complete.
    pub(super) fn add(&mut self, bytes: &[u8], progress: &dyn ProgressSink) -> bool {
        let start = self.text.len();
        self.held.extend_from_slice(bytes);
        self.take_whole_characters();
        let end = self.stop(start);
        if let Some(end) = end {
            self.text.truncate(end);
            self.held.clear();
        }
        if self.text.len() > start {
            self.tell(progress);
        }
        end.is_none()
    }

    /// The text as it was asked for.
    pub(super) fn finished(mut self, finish: Finish, progress: &dyn ProgressSink) -> Text {
        if finish == Finish::Stop && !self.held.is_empty() {
            // The model ended it, so that is all there will be of the character.
            self.held.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.tell(progress);
        }
        Text {
            text: self.task.format.apply(&self.task.prompt, &self.text),
            finish,
        }
    }

    fn tell(&self, progress: &dyn ProgressSink) {
        if !progress.wants_text() {
            return;
        }
        let so_far = self.task.format.so_far(&self.task.prompt, &self.text);
        if !so_far.is_empty() {
            progress.text(&so_far);
        }
    }

    /// Moves characters that are complete from what is held to the text; what can become none is marked.
    fn take_whole_characters(&mut self) {
        loop {
            match str::from_utf8(&self.held) {
                Ok(whole) => {
                    self.text.push_str(whole);
                    self.held.clear();
                    return;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    let whole = self.held.get(..valid).unwrap_or_default();
                    self.text
                        .push_str(str::from_utf8(whole).unwrap_or_default());
                    let Some(bad) = error.error_len() else {
                        self.held.drain(..valid);
                        return;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    self.held.drain(..valid + bad);
                }
            }
        }
    }

    /// Where the text is to end, if something that ends it lies in what was added from `start` on.
    fn stop(&self, start: usize) -> Option<usize> {
        // A sequence may have begun in what was there before.
        let from = self
            .text
            .floor_char_boundary(start.saturating_sub(self.longest.saturating_sub(1)));
        let window = self.text.get(from..)?;
        let sequences = self.task.stop_sequence.iter();
        let stops = sequences
            .filter(|sequence| !sequence.is_empty())
            .filter_map(|sequence| Some(from + window.find(sequence.as_str())? + sequence.len()));
        let line = matches!(
            self.task.format,
            Format {
                single_line: Some(true),
                ..
            }
        )
        .then(|| end_of_line(&self.text))
        .flatten();
        stops.chain(line).min()
    }
}

/// Where the first line that holds anything ends, behind its `\n`.
fn end_of_line(text: &str) -> Option<usize> {
    let blank = text.len() - text.trim_start_matches(['\r', '\n']).len();
    let line = text.get(blank..)?;
    Some(blank + line.find('\n')? + 1)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;
    use crate::Step;

    #[derive(Default)]
    struct Heard(RefCell<Vec<String>>);

    impl ProgressSink for Heard {
        fn step(&self, _step: Step) {}

        fn wants_text(&self) -> bool {
            true
        }

        fn text(&self, so_far: &str) {
            let mut heard = self.0.borrow_mut();
            let piece = so_far.strip_prefix(&heard.concat()).unwrap().to_owned();
            heard.push(piece);
        }
    }

    fn task(stops: &[&str]) -> TextTask {
        TextTask {
            stop_sequence: stops.iter().map(|&stop| stop.to_owned()).collect(),
            ..TextTask::default()
        }
    }

    /// What is written of these pieces, and what was told of it.
    fn write(task: &TextTask, pieces: &[&[u8]]) -> (String, Vec<String>) {
        let heard = Heard::default();
        let mut writing = Writing::new(task);
        let mut finish = Finish::Length;
        for piece in pieces {
            if !writing.add(piece, &heard) {
                finish = Finish::Stop;
                break;
            }
        }
        let text = writing.finished(finish, &heard).text;
        (text, heard.0.into_inner())
    }

    #[test]
    fn a_stop_sequence_is_met_across_tokens_and_stays() {
        let task = task(&["the end", "", "\n\n"]);
        let (text, heard) = write(&task, &[b"a t", b"he", b" en", b"d of it", b"more"]);
        assert_eq!(text, "a the end");
        assert_eq!(heard, ["a t", "he", " en", "d"]);
        assert_eq!(write(&task, &[b"a\n", b"\nb"]).0, "a\n\n");
        // The one that ends first counts.
        assert_eq!(write(&task, &[b"x\n\nthe end"]).0, "x\n\n");
    }

    #[test]
    fn characters_are_told_whole() {
        let nothing = task(&[]);
        let (text, heard) = write(&nothing, &[b"\xF0\x9F", b"\x98", b"\x80!", b"\xC3"]);
        assert_eq!(text, "\u{1F600}!");
        assert_eq!(heard, ["\u{1F600}!"]);
        assert_eq!(
            write(&nothing, &[b"a\xFFb", b"\xC3", b"c"]).0,
            "a\u{FFFD}b\u{FFFD}c"
        );
    }

    #[test]
    fn one_line_ends_at_its_end() {
        let mut one_line = task(&[]);
        one_line.format.single_line = Some(true);
        let (text, heard) = write(&one_line, &[b"\n", b"a", b"b\nc", b"d"]);
        assert_eq!(text, "ab");
        assert_eq!(heard, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn what_is_told_is_the_text(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 0..12),
            stops in proptest::collection::vec("[ab\u{E4}]{0,3}", 0..3),
        ) {
            let task = TextTask { stop_sequence: stops, ..TextTask::default() };
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (text, heard) = write(&task, &pieces);
            prop_assert_eq!(&heard.concat(), &text);
            for stop in task.stop_sequence.iter().filter(|stop| !stop.is_empty()) {
                let ends = text.find(stop.as_str()).map(|at| at + stop.len());
                prop_assert!(ends.is_none_or(|end| end == text.len()));
            }
        }
    }
}
