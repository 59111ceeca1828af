//! Server-sent events, taken out of bytes as they come.
//!
//! # Source
//! The WHATWG's HTML standard, "Server-sent events".

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The last id that was said, by this event or one before it.
    pub id: Option<String>,
    /// What it is called; empty if it has no name.
    pub name: String,
    /// What it says.
    pub data: String,
}

/// Makes events of bytes.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    id: Option<String>,
    name: String,
    data: Option<String>,
}

impl Decoder {
    /// Takes bytes; they may end anywhere.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How much of an event is kept that is not whole yet, in bytes.
    pub(crate) fn pending(&self) -> usize {
        self.buffer.len() + self.data.as_ref().map_or(0, String::len)
    }

    /// The next event that is whole.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        while let Some(line) = self.line() {
            if !line.is_empty() {
                self.take(&line);
                continue;
            }
            let name = std::mem::take(&mut self.name);
            // An event without data is none.
            if let Some(data) = self.data.take() {
                let id = self.id.clone();
                return Some(Frame { id, name, data });
            }
        }
        None
    }

    /// The next whole line without its end: `\n`, `\r\n` or `\r`.
    fn line(&mut self) -> Option<String> {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let end = self.buffer.iter().position(is_end)?;
        let after = match (self.buffer.get(end), self.buffer.get(end + 1)) {
            // The other half of the end may still be on its way.
            (Some(b'\r'), None) => return None,
            (Some(b'\r'), Some(b'\n')) => end + 2,
            _ => end + 1,
        };
        let line: Vec<u8> = self.buffer.drain(..after).take(end).collect();
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    fn take(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments have no field; others are for later versions.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&str]) -> Vec<(Option<String>, String, String)> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(chunk.as_bytes());
            while let Some(Frame { id, name, data }) = decoder.next() {
                frames.push((id, name, data));
            }
        }
        frames
    }

    fn frame(id: Option<&str>, name: &str, data: &str) -> (Option<String>, String, String) {
        (id.map(str::to_owned), name.to_owned(), data.to_owned())
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": hello\n\nid: 1\nevent: a\ndata: x\ndata:y\n\ndata: ä: z\n\nevent: none\n\n";
        let expected = [frame(Some("1"), "a", "x\ny"), frame(Some("1"), "", "ä: z")];
        assert_eq!(read(&[text]), expected);
        let windows = text.replace('\n', "\r\n");
        let single: Vec<String> = windows.chars().map(String::from).collect();
        let single: Vec<&str> = single.iter().map(String::as_str).collect();
        assert_eq!(read(&single), expected);
        assert_eq!(read(&[&text.replace('\n', "\r"), "data: "]), expected);
    }

    #[test]
    fn what_is_not_whole_is_no_event() {
        assert_eq!(read(&["event: a\ndata: x\n"]), []);
        let mut decoder = Decoder::default();
        decoder.push(b"data: xyz\ndata");
        assert_eq!(decoder.next(), None);
        assert_eq!(decoder.pending(), "xyz".len() + "data".len());
    }
}
