//! Where log lines go: to standard error, or, while a screen is drawn there, into a buffer that the screen
//! shows the end of.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that are kept for the screen.
const MAX_LINES: usize = 200;

/// Where log lines go. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Sink>>);

#[derive(Debug, Default)]
struct Sink {
    /// There while a screen is drawn.
    kept: Option<VecDeque<String>>,
    /// A line that has not ended.
    begun: String,
}

impl Logs {
    /// Keeps lines from now on.
    pub(crate) fn keep(&self) {
        self.sink().kept = Some(VecDeque::new());
    }

    /// Lines go to standard error again, those that were kept first.
    pub(crate) fn release(&self) {
        for line in self.sink().kept.take().unwrap_or_default() {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// The newest lines, the newest last.
    pub(crate) fn last(&self, most: usize) -> Vec<String> {
        let sink = self.sink();
        let lines = sink.kept.iter().flatten();
        let surplus = lines.clone().count().saturating_sub(most);
        lines.skip(surplus).cloned().collect()
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        // Lines stay lines if somebody panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sink = self.sink();
        let Sink { kept, begun } = &mut *sink;
        let Some(kept) = kept else {
            return io::stderr().write(bytes);
        };
        begun.push_str(&String::from_utf8_lossy(bytes));
        while let Some((line, rest)) = begun.split_once('\n') {
            kept.push_back(plain(line));
            *begun = rest.to_owned();
        }
        let surplus = kept.len().saturating_sub(MAX_LINES);
        kept.drain(..surplus);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A text without what would move the cursor or change colours.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => {
                // The usual sequences end with a letter.
                let _ = characters.find(char::is_ascii_alphabetic);
            }
            '\n' => plain.push('\n'),
            '\t' => plain.push(' '),
            other if other.is_control() => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_tricks_are_left_out() {
        assert_eq!(plain("\x1b[32m INFO\x1b[0m a\tb\r\x07\nc"), " INFO a b\nc");
        assert_eq!(plain("\x1b"), "");
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let mut logs = Logs::default();
        logs.keep();
        for number in 0..MAX_LINES + 5 {
            writeln!(logs, "line {number}").unwrap();
        }
        assert_eq!(logs.last(2), ["line 203", "line 204"]);
        assert_eq!(logs.last(1000).len(), MAX_LINES);
    }
}
