//! What may be shown of a text while it grows.
//!
//! A worker's text may hold the sequence that stops it, which is not to be shown, may run on behind
//! it, and may begin anew if its worker is lost. What was shown cannot be taken back.

use ordu_api::openai::FinishReason;

use super::tokens;

/// Where a text ends, and how it is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut {
    /// Sequences that end it; none of them is empty.
    pub(crate) stops: Vec<String>,
    /// The most tokens.
    pub(crate) max_tokens: u64,
    /// What is made of white space around it.
    pub(crate) edges: Edges,
}

/// What is made of white space around a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Edges {
    /// It is part of the text.
    #[default]
    Kept,
    /// It is not: an answer in a conversation.
    Trimmed,
}

/// Whether more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Growing,
    Done,
}

impl Cut {
    /// What may be shown of a text, and why it ends there if it does.
    pub(crate) fn show<'a>(&self, text: &'a str, stage: Stage) -> (&'a str, Option<FinishReason>) {
        let text = match self.edges {
            Edges::Kept => text,
            Edges::Trimmed => text.trim_start(),
        };
        let ends = self.stops.iter().filter_map(|stop| text.find(stop));
        let (shown, reason) = match ends.min() {
            Some(end) => (text.get(..end).unwrap_or(text), Some(FinishReason::Stop)),
            None if stage == Stage::Growing => (self.without_beginning(text), None),
            None => (text, None),
        };
        let (shown, reason) = match tokens::first(shown, self.max_tokens) {
            (shown, true) => (shown, Some(FinishReason::Length)),
            (shown, false) => (shown, reason),
        };
        match self.edges {
            Edges::Kept => (shown, reason),
            Edges::Trimmed => (shown.trim_end(), reason),
        }
    }

    /// A text without an end that may become a stop sequence.
    fn without_beginning<'a>(&self, text: &'a str) -> &'a str {
        let longest = self.stops.iter().map(String::len).max().unwrap_or_default();
        // No longer end can be the beginning of any.
        let from = text.floor_char_boundary(text.len().saturating_sub(longest));
        let starts = (from..text.len()).filter(|place| text.is_char_boundary(*place));
        let mut ends = starts.filter_map(|place| Some((place, text.get(place..)?)));
        let may_stop = |end: &str| self.stops.iter().any(|stop| stop.starts_with(end));
        match ends.find(|(_, end)| may_stop(end)) {
            Some((place, _)) => text.get(..place).unwrap_or(text),
            None => text,
        }
    }
}

/// One text of those asked for.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// What is known of it.
    known: String,
    /// What was shown of it.
    shown: String,
    /// Why it ended.
    reason: Option<FinishReason>,
}

/// What was shown cannot be part of the text any more: another worker wrote another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Draft {
    /// Takes what is known of the text now.
    pub(crate) fn set(&mut self, text: String) {
        self.known = text;
    }

    /// What is known of the text.
    pub(crate) fn known(&self) -> &str {
        &self.known
    }

    /// What was shown of it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Why it ended; `None` as long as it did not.
    pub(crate) const fn reason(&self) -> Option<FinishReason> {
        self.reason
    }

    /// What more may be shown. A text that ended does not grow.
    pub(crate) fn advance(&mut self, cut: &Cut, stage: Stage) -> Result<String, Broken> {
        if self.reason.is_some() {
            return Ok(String::new());
        }
        let (shown, reason) = cut.show(&self.known, stage);
        let Some(more) = shown.strip_prefix(self.shown.as_str()) else {
            // As long as it grows it may yet become what was shown.
            return match stage {
                Stage::Growing => Ok(String::new()),
                Stage::Done => Err(Broken),
            };
        };
        let more = more.to_owned();
        self.shown.push_str(&more);
        self.reason = reason;
        Ok(more)
    }

    /// Ends the text, if nothing ended it before.
    pub(crate) fn end(&mut self, reason: FinishReason) {
        self.reason.get_or_insert(reason);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(stops: &[&str], edges: Edges) -> Cut {
        Cut {
            stops: stops.iter().map(|stop| (*stop).to_owned()).collect(),
            max_tokens: 100,
            edges,
        }
    }

    #[test]
    fn a_stop_sequence_is_never_shown_nor_its_beginning() {
        let cut = cut(&["###", "\nUser:"], Edges::Kept);
        for (text, growing, done) in [
            ("one", "one", "one"),
            ("one#", "one", "one#"),
            ("one##", "one", "one##"),
            ("one## two", "one## two", "one## two"),
            ("one### two", "one", "one"),
            ("one\nUs", "one", "one\nUs"),
            ("one\nUser: two###", "one", "one"),
        ] {
            assert_eq!(cut.show(text, Stage::Growing).0, growing, "{text}");
            assert_eq!(cut.show(text, Stage::Done).0, done, "{text}");
        }
    }

    #[test]
    fn an_answer_has_no_white_space_around_it() {
        let cut = cut(&[], Edges::Trimmed);
        assert_eq!(cut.show("\n Hello \n", Stage::Done).0, "Hello");
        assert_eq!(cut.show(" Hello ", Stage::Growing).0, "Hello");
    }

    #[test]
    fn a_text_that_is_too_long_ends_for_its_length() {
        let cut = Cut {
            max_tokens: 2,
            ..cut(&["stop"], Edges::Kept)
        };
        let end = cut.show("12345678stop", Stage::Done);
        assert_eq!(end, ("12345678", Some(FinishReason::Stop)));
        let end = cut.show("123456789stop", Stage::Done);
        assert_eq!(end, ("12345678", Some(FinishReason::Length)));
    }

    #[test]
    fn another_text_than_was_shown_breaks_it() {
        let cut = cut(&[], Edges::Kept);
        let mut draft = Draft::default();
        draft.set("one".to_owned());
        assert_eq!(draft.advance(&cut, Stage::Growing).unwrap(), "one");
        draft.set("o".to_owned());
        assert_eq!(draft.advance(&cut, Stage::Growing).unwrap(), "");
        draft.set("one two".to_owned());
        assert_eq!(draft.advance(&cut, Stage::Growing).unwrap(), " two");
        draft.set("three".to_owned());
        assert_eq!(draft.advance(&cut, Stage::Done), Err(Broken));
    }

    proptest! {
        /// However a text comes, its pieces are what is shown of the whole.
        #[test]
        fn pieces_make_what_is_shown_of_the_whole(
            text in "[ab# \n]{0,30}",
            places in prop::collection::vec(0_usize..30, 0..8),
            trimmed in any::<bool>(),
        ) {
            let edges = if trimmed { Edges::Trimmed } else { Edges::Kept };
            let cut = cut(&["##", "\na"], edges);
            let mut places: Vec<usize> = places.into_iter().filter(|at| *at < text.len()).collect();
            places.sort_unstable();
            let mut draft = Draft::default();
            let mut pieces = String::new();
            for place in places {
                draft.set(text[..place].to_owned());
                pieces += &draft.advance(&cut, Stage::Growing).unwrap();
            }
            draft.set(text.clone());
            pieces += &draft.advance(&cut, Stage::Done).unwrap();
            prop_assert_eq!(pieces, cut.show(&text, Stage::Done).0);
        }
    }
}
