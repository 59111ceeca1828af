//! A place in the bytes of a file.

/// The longest key of metadata or name of a tensor, in bytes.
const MAX_NAME: usize = 65_535;

/// Reads little-endian numbers and texts one after the other.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| rest.get(..count));
        let Some(taken) = taken else {
            return Err(format!(
                "it breaks off: {count} bytes are to follow, {} do",
                rest.len()
            ));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N as u64)?;
        taken.try_into().map_err(|_| "it breaks off".to_owned())
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes of a text: a length, and so many bytes.
    pub(super) fn text(&mut self) -> Result<&'a [u8], String> {
        let length = self.u64()?;
        self.take(length)
    }

    /// A text that is the name of something.
    pub(super) fn name(&mut self) -> Result<String, String> {
        let bytes = self.text()?;
        match std::str::from_utf8(bytes) {
            Ok(name) if bytes.len() <= MAX_NAME => Ok(name.to_owned()),
            Ok(_) => Err(format!("a name of {} bytes", bytes.len())),
            Err(_) => Err("a name that is not UTF-8".to_owned()),
        }
    }
}
