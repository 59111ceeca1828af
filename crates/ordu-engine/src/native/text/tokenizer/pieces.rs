//! What single tokens stand for.

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Normal,
    /// What stands for anything that is not known.
    Unknown,
    /// No text.
    Control,
    /// Text that somebody added.
    UserDefined,
    /// Nothing.
    Unused,
    /// One byte.
    Byte,
}

impl Kind {
    /// The kind of a number in a file.
    pub(super) fn of(number: f64) -> Self {
        [
            (2.0, Self::Unknown),
            (3.0, Self::Control),
            (4.0, Self::UserDefined),
            (5.0, Self::Unused),
            (6.0, Self::Byte),
        ]
        .into_iter()
        .find(|(known, _)| number.total_cmp(known).is_eq())
        .map_or(Self::Normal, |(_, kind)| kind)
    }
}

/// The bytes that a token stands for. `plain` is how normal ones are spelled.
pub(super) fn bytes_of(text: &str, kind: Kind, plain: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    match kind {
        Kind::Normal => plain(text),
        Kind::UserDefined => text.as_bytes().to_vec(),
        Kind::Byte => byte(text).map_or_else(|| plain(text), |byte| vec![byte]),
        Kind::Control | Kind::Unknown | Kind::Unused => Vec::new(),
    }
}

/// The byte of `<0x41>`.
fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// The letter that GPT-2 writes for each byte: itself where it can be seen, else one from 256 on.
pub(super) fn alphabet() -> Vec<char> {
    let mut hidden = 256..;
    (0..=255_u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => hidden.next().and_then(char::from_u32).unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_that_of_gpt_2() {
        let alphabet = alphabet();
        let letter = |byte: u8| alphabet[usize::from(byte)];
        assert_eq!(
            [letter(b'a'), letter(b' '), letter(b'\n'), letter(0xC3)],
            ['a', 'Ġ', 'Ċ', 'Ã']
        );
        let mut all = alphabet.clone();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
    }
}
