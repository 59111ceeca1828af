//! What is drawn on a terminal: rows of text that fit it. Pure.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::logs::plain;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) look: Look,
    pub(crate) text: String,
}

/// How a row looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    /// The first row.
    Head,
    /// Above a part.
    Title,
    Faint,
    Alarm,
}

/// Rows so many columns wide.
pub(crate) struct Page {
    pub(crate) columns: usize,
    pub(crate) rows: Vec<Row>,
}

impl Page {
    pub(crate) const fn new(columns: usize) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn put(&mut self, look: Look, text: &str) {
        let text = fitted(&plain(text).replace('\n', " "), self.columns);
        self.rows.push(Row { look, text });
    }

    /// So many rows, the last of which is `foot`.
    pub(crate) fn finish(mut self, rows: usize, foot: &str) -> Vec<Row> {
        self.rows.truncate(rows.saturating_sub(1));
        while self.rows.len() + 1 < rows {
            self.put(Look::Plain, "");
        }
        self.put(Look::Faint, foot);
        self.rows
    }
}

/// What fits in so many columns.
pub(crate) fn fitted(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut taken = 0;
    for character in text.chars() {
        taken += character.width().unwrap_or_default();
        if taken >= columns {
            break;
        }
        fitted.push(character);
    }
    fitted.push('…');
    fitted
}

/// The same, filled with spaces.
pub(crate) fn cell(text: &str, columns: usize) -> String {
    let mut cell = fitted(text, columns);
    let missing = columns.saturating_sub(cell.width());
    cell.extend(std::iter::repeat_n(' ', missing));
    cell
}

/// A time as people read it.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!(fitted("模型模型", 5), "模型…");
        assert_eq!(cell("模", 4), "模  ");
    }
}
