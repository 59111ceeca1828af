//! Entries of metadata.

use std::borrow::Cow;
use std::ops::Range;

use super::cursor::Cursor;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::native::text) enum Value {
    Number(u64),
    Negative(i64),
    Real(f64),
    Flag(bool),
    Text(String),
    List(List),
}

/// A list, left where it lies.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::native::text) struct List {
    kind: u32,
    count: u64,
    range: Range<usize>,
}

const TEXT: u32 = 8;
const LIST: u32 = 9;

impl Value {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, String> {
        let kind = cursor.u32()?;
        if kind == LIST {
            return List::read(cursor).map(Self::List);
        }
        if kind == TEXT {
            let text = String::from_utf8_lossy(cursor.text()?);
            return Ok(Self::Text(text.into_owned()));
        }
        let bytes = cursor.take(width(kind)?)?;
        scalar(kind, bytes).ok_or_else(|| format!("a value of type {kind} that is none"))
    }

    pub(in crate::native::text) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(in crate::native::text) fn as_number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A number of any kind.
    pub(in crate::native::text) fn as_real(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number as f64),
            Self::Negative(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            Self::Flag(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    pub(in crate::native::text) fn as_flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&List> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

impl List {
    /// Walks over a list; what it is made of is checked on the way.
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, String> {
        let (kind, count) = (cursor.u32()?, cursor.u64()?);
        let start = cursor.place();
        match kind {
            LIST => return Err("a list of lists".to_owned()),
            TEXT => {
                for _ in 0..count {
                    cursor.text()?;
                }
            }
            _ => {
                let bytes = width(kind)?.checked_mul(count);
                cursor.take(bytes.unwrap_or(u64::MAX))?;
            }
        }
        Ok(Self {
            kind,
            count,
            range: start..cursor.place(),
        })
    }

    pub(super) fn texts<'a>(&self, file: &'a [u8]) -> Option<impl Iterator<Item = Cow<'a, str>>> {
        let mut cursor = Cursor::new(file.get(self.range.clone())?);
        let count = self.count;
        let next = move |_| cursor.text().ok().map(String::from_utf8_lossy);
        (self.kind == TEXT).then(|| (0..count).map_while(next))
    }

    pub(super) fn numbers<'a>(&self, file: &'a [u8]) -> Option<impl Iterator<Item = f64>> {
        let kind = self.kind;
        let bytes: &'a [u8] = file.get(self.range.clone())?;
        let width = usize::try_from(width(kind).ok()?).ok()?;
        let read = move |bytes| scalar(kind, bytes).and_then(|value| value.as_real());
        Some(bytes.chunks_exact(width).map_while(read))
    }
}

/// Bytes of one value.
fn width(kind: u32) -> Result<u64, String> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(format!("values of type {kind} are not known")),
    }
}

fn scalar(kind: u32, bytes: &[u8]) -> Option<Value> {
    let signed = |number: i64| match u64::try_from(number) {
        Ok(number) => Value::Number(number),
        Err(_) => Value::Negative(number),
    };
    Some(match (kind, bytes) {
        (0, [byte]) => Value::Number(u64::from(*byte)),
        (1, [byte]) => signed(i64::from(byte.cast_signed())),
        (7, [byte @ (0 | 1)]) => Value::Flag(*byte == 1),
        (2, _) => Value::Number(u64::from(u16::from_le_bytes(bytes.try_into().ok()?))),
        (3, _) => signed(i64::from(i16::from_le_bytes(bytes.try_into().ok()?))),
        (4, _) => Value::Number(u64::from(u32::from_le_bytes(bytes.try_into().ok()?))),
        (5, _) => signed(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        (6, _) => Value::Real(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))),
        (10, _) => Value::Number(u64::from_le_bytes(bytes.try_into().ok()?)),
        (11, _) => signed(i64::from_le_bytes(bytes.try_into().ok()?)),
        (12, _) => Value::Real(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    })
}
