//! Reading a prompt past its spelling: weights, spaced letters, accents, look-alikes.

use std::iter::Peekable;
use std::str::Chars;

use crate::image::split_prompt;

/// The longest text that is judged, in bytes; more than a prompt of 7,500 words has.
pub const MAX_SCANNED_BYTES: usize = 256 << 10;

/// So many single letters in a row are a word.
const SPELLED: usize = 3;

/// The part of a prompt that is judged.
pub(super) fn positive(prompt: &str) -> &str {
    split_prompt(prompt).0
}

/// Writes a text plainly: ASCII letters and digits, words one space apart.
///
/// Weights as in `(text:1.2)` are dropped, punctuation and symbols part words, three or more single
/// letters in a row become a word, other scripts are transliterated. Normal text stays as it is.
///
/// # Source
/// `generation.md` § 8.2.
pub fn normalise(text: &str) -> String {
    join_spelled(&plain_words(text))
}

/// ASCII letters and digits, everything else a space; weights dropped.
fn plain_words(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == ':' && skip_weight(&mut rest) {
            plain.push(' ');
        } else if c.is_ascii_alphanumeric() {
            plain.push(c);
        } else if c.is_ascii() || is_symbol(c) {
            plain.push(' ');
        } else if !is_invisible(c) {
            transliterate(c, &mut plain);
        }
    }
    plain
}

/// Whether a number and a closing bracket follow a colon; the number is then taken.
fn skip_weight(rest: &mut Peekable<Chars<'_>>) -> bool {
    /// The longest number that can be a weight, in characters.
    const LONGEST: usize = 16;
    let mut ahead = rest.clone();
    let mut length = 0;
    let mut digits = 0;
    while let Some(c) = ahead.next_if(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | ' '))
    {
        length += 1;
        digits += usize::from(c.is_ascii_digit());
        if length > LONGEST {
            return false;
        }
    }
    let is_weight = digits > 0 && ahead.peek() == Some(&')');
    if is_weight {
        *rest = ahead;
    }
    is_weight
}

fn transliterate(c: char, plain: &mut String) {
    match deunicode::deunicode_char(c) {
        Some(latin) => {
            let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { ' ' };
            plain.extend(latin.chars().map(letter));
        }
        None => plain.push(' '),
    }
}

/// Pictures and drawings are no words, whatever their names are. Letters in circles and squares
/// are letters.
const fn is_symbol(c: char) -> bool {
    matches!(c,
        '\u{2190}'..='\u{245F}'
        | '\u{2500}'..='\u{2BFF}'
        | '\u{1F000}'..='\u{1F0FF}'
        | '\u{1F1E6}'..='\u{1FAFF}')
}

/// What is not seen parts no words: it is how words are hidden.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}'
        | '\u{300}'..='\u{36F}'
        | '\u{200B}'..='\u{200F}'
        | '\u{2060}'..='\u{2064}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}'
        | '\u{E0000}'..='\u{E01EF}')
}

fn join_spelled(plain: &str) -> String {
    let words: Vec<&str> = plain.split_ascii_whitespace().collect();
    let mut out = String::with_capacity(plain.len());
    let mut rest = words.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if !out.is_empty() {
            out.push(' ');
        }
        let run = rest.iter().take_while(|word| is_letter(word)).count();
        if run >= SPELLED {
            out.extend(rest.iter().take(run).copied());
            rest = rest.get(run..).unwrap_or_default();
        } else {
            out.push_str(first);
            rest = after;
        }
    }
    out
}

fn is_letter(word: &str) -> bool {
    word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic())
}
