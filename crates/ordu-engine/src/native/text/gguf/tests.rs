//! Headers, honest and hostile.

use super::*;

/// A header, piece by piece.
#[derive(Clone, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn new(tensors: u64, values: u64) -> Self {
        Self(MAGIC.to_vec()).u32(3).u64(tensors).u64(values)
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend(text.bytes());
        self
    }

    fn tensor(self, name: &str, sides: &[u64], kind: u32, offset: u64) -> Self {
        let rank = u32::try_from(sides.len()).unwrap();
        let head = self.text(name).u32(rank);
        let sides = sides.iter().fold(head, |all, side| all.u64(*side));
        sides.u32(kind).u64(offset)
    }

    /// The header, and behind it so many bytes for tensors.
    fn data(mut self, bytes: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + bytes, 1);
        self.0
    }
}

fn refused(bytes: Vec<u8>) -> String {
    Gguf::from_bytes("x", bytes).unwrap_err().to_string()
}

#[test]
fn a_small_file_is_read() {
    let bytes = Writer::new(2, 3)
        .text("a")
        .u32(8)
        .text("b c")
        .text("n")
        .u32(9)
        .u32(5)
        .u64(2)
        .u32(u32::MAX)
        .u32(7)
        .text("l")
        .u32(9)
        .u32(8)
        .u64(2)
        .text("x")
        .text("")
        .tensor("one", &[4, 2], 0, 0)
        .tensor("two", &[32], 8, 32)
        .data(66);
    let file = Gguf::from_bytes("x", bytes).unwrap();
    assert_eq!(file.text("a"), Some("b c"));
    assert_eq!(file.numbers("n").unwrap().collect::<Vec<_>>(), [-1.0, 7.0]);
    assert_eq!(file.texts("l").unwrap().collect::<Vec<_>>(), ["x", ""]);
    assert!(
        file.numbers("l")
            .is_none_or(|mut numbers| numbers.next().is_none())
    );
    assert!(file.texts("n").is_none());
    assert_eq!(file.entry("one").unwrap().shape, [2, 4]);
    assert_eq!(file.tensor("two").unwrap().shape().dims(), [32]);
    assert_eq!(file.bytes(), 66);
    assert!(file.tensor("three").is_err());
}

#[test]
fn hostile_headers_are_refused_with_their_reason() {
    let one =
        |sides: &[u64], kind, offset| Writer::new(1, 0).tensor("t", sides, kind, offset).data(64);
    let value = |kind: u32| Writer::new(0, 1).text("k").u32(kind);
    let alignment = |number: u32| {
        Writer::new(0, 1)
            .text("general.alignment")
            .u32(4)
            .u32(number)
    };
    let twice = Writer::new(2, 0)
        .tensor("t", &[1], 0, 0)
        .tensor("t", &[1], 0, 32);
    let over = Writer::new(2, 0)
        .tensor("t", &[16], 0, 0)
        .tensor("u", &[1], 0, 32);
    for (bytes, expected) in [
        (b"PK\x03\x04 something else".to_vec(), "not a GGUF file"),
        (Writer(MAGIC.to_vec()).u32(1).0, "too old"),
        (Writer(MAGIC.to_vec()).u32(3 << 24).0, "big-endian"),
        (Writer(MAGIC.to_vec()).u32(9).0, "version 9"),
        (Writer::new(u64::MAX, 0).0, "tensors, at most"),
        (Writer::new(0, u64::MAX).0, "metadata, at most"),
        (Writer::new(0, 1).u64(u64::MAX).0, "breaks off"),
        (value(8).u64(1 << 60).0, "breaks off"),
        (value(9).u32(4).u64(u64::MAX).0, "breaks off"),
        (value(9).u32(8).u64(u64::MAX).0, "breaks off"),
        (value(9).u32(9).u64(1).0, "a list of lists"),
        (value(99).u64(0).0, "type 99"),
        (value(7).u32(2).0, "that is none"),
        (alignment(0).0, "general.alignment"),
        (alignment(24).0, "general.alignment"),
        (one(&[], 0, 0), "0 dimensions"),
        (one(&[1; 5], 0, 0), "5 dimensions"),
        (one(&[0], 0, 0), "a side of 0"),
        (one(&[1 << 40, 1 << 40], 0, 0), "a shape of"),
        (one(&[1 << 62], 0, 0), "a shape of"),
        (one(&[1 << 50], 0, 0), "the file ends"),
        (one(&[33], 8, 0), "no whole blocks"),
        (one(&[32], 77, 0), "type 77 is not known"),
        (one(&[1], 0, 8), "no multiple of 32"),
        (one(&[1], 0, u64::MAX - 31), "the file ends"),
        (one(&[17], 0, 0), "the file ends"),
        (twice.data(64), "twice"),
        (over.data(64), "overlap"),
    ] {
        let reason = refused(bytes);
        assert!(
            reason.contains(expected),
            "{reason:?} does not say {expected:?}"
        );
    }
    let rare = Gguf::from_bytes("x", one(&[32], 20, 0)).unwrap();
    let reason = rare.tensor("t").unwrap_err().to_string();
    assert!(reason.contains("stored as IQ4_NL"), "{reason}");
}
