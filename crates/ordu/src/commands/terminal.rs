//! The terminal while a screen is drawn on it: keys one by one, a page of its own, and everything as it was
//! when it is left, however that happens.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::thread;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::sync::mpsc;

use super::page::{Look, Row};

/// A page of its own, no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";

/// The page before, with the cursor.
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// The size where the terminal does not tell it.
const USUAL: (usize, usize) = (80, 24);

/// Keys that may wait for somebody to look.
const MAX_KEYS: usize = 16;

/// A terminal that a screen is drawn on.
pub(crate) struct Terminal {
    before: Termios,
    shown: Vec<Row>,
    size: (usize, usize),
}

impl Terminal {
    /// Whether there is somebody to draw for.
    pub(crate) fn is_there() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Begins to draw. Keys come from the second value; Ctrl-C stays a signal.
    pub(crate) fn enter() -> io::Result<(Self, mpsc::Receiver<u8>)> {
        let before = tcgetattr(io::stdin())?;
        let mut mode = before.clone();
        mode.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &mode)?;
        let terminal = Self {
            before,
            shown: Vec::new(),
            size: (0, 0),
        };
        put(ENTER)?;
        let (sender, keys) = mpsc::channel(MAX_KEYS);
        // It ends with the process: nothing can wake who reads from a terminal.
        thread::spawn(move || {
            for key in io::stdin().lock().bytes().map_while(Result::ok) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        Ok((terminal, keys))
    }

    /// Columns and rows.
    pub(crate) fn size() -> (usize, usize) {
        let told = tcgetwinsize(io::stdout()).ok();
        told.map(|size| (size.ws_col.into(), size.ws_row.into()))
            .filter(|(columns, rows)| *columns > 0 && *rows > 0)
            .unwrap_or(USUAL)
    }

    /// Draws the rows that differ from those before.
    pub(crate) fn draw(&mut self, rows: Vec<Row>) -> io::Result<()> {
        let size = Self::size();
        if self.size != size {
            self.size = size;
            self.shown.clear();
            put("\x1b[2J")?;
        }
        let changes = changes(&self.shown, &rows);
        self.shown = rows;
        if changes.is_empty() {
            return Ok(());
        }
        put(&changes)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody is left to be told if this fails.
        let _ = put(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What turns the rows on the screen into others.
fn changes(before: &[Row], after: &[Row]) -> String {
    let mut text = String::new();
    for (place, row) in after.iter().enumerate() {
        if before.get(place) == Some(row) {
            continue;
        }
        let look = match row.look {
            Look::Plain => "0",
            Look::Head => "7",
            Look::Title => "1",
            Look::Faint => "2",
            Look::Alarm => "31",
        };
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "\x1b[{};1H\x1b[{look}m{}\x1b[0m\x1b[K",
            place + 1,
            row.text
        );
    }
    if before.len() > after.len() {
        let _ = write!(text, "\x1b[{};1H\x1b[J", after.len() + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        Row {
            look: Look::Plain,
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_what_changes_is_drawn() {
        let before = [row("a"), row("b"), row("c")];
        assert_eq!(changes(&before, &before), "");
        assert_eq!(
            changes(&before, &[row("a"), row("x")]),
            "\x1b[2;1H\x1b[0mx\x1b[0m\x1b[K\x1b[3;1H\x1b[J"
        );
    }
}
