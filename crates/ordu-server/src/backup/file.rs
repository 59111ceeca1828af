//! The lines of a backup, and the checksum over them.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{BackupError, FORM, Head, Summary};

/// The longest line: the largest request is far smaller.
const MOST_LINE_BYTES: u64 = 256 << 20;

/// The largest picture.
const MOST_PICTURE_BYTES: u64 = 256 << 20;

/// A line that is no row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Mark {
    Table {
        table: String,
        columns: Vec<String>,
    },
    /// So many bytes and a line feed follow.
    Picture {
        picture: String,
        bytes: u64,
    },
    End {
        end: Summary,
        sha256: String,
    },
}

/// One thing out of a backup.
#[derive(Debug)]
pub(crate) enum Item {
    Table { name: String, columns: Vec<String> },
    Row(Vec<Value>),
    Picture { name: String, bytes: Vec<u8> },
}

/// A backup that is being written.
pub(super) struct Writer {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Writer {
    pub(super) fn new(file: File, head: &Head) -> io::Result<Self> {
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 16, file),
            hash: Sha256::new(),
        };
        writer.line(head)?;
        Ok(writer)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    pub(super) fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.bytes(&text)
    }

    pub(super) fn picture(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.line(&Mark::Picture {
            picture: name.to_owned(),
            bytes: bytes.len() as u64,
        })?;
        self.bytes(bytes)?;
        self.bytes(b"\n")
    }

    /// Writes the end, and makes everything durable.
    pub(super) fn finish(mut self, summary: Summary) -> io::Result<()> {
        let sha256 = crate::secret::hex(&self.hash.clone().finalize());
        self.line(&Mark::End {
            end: summary,
            sha256,
        })?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

/// A backup that is being read.
pub(crate) struct Reader<R = File> {
    file: BufReader<R>,
    hash: Sha256,
    found: Summary,
}

impl Reader {
    /// Opens a backup and reads its head.
    pub(super) fn open(path: &Path) -> Result<(Self, Head), BackupError> {
        let file = File::open(path).map_err(|error| BackupError::File(path.to_owned(), error))?;
        Self::new(file)
    }
}

impl<R: io::Read> Reader<R> {
    /// Reads the head of a backup.
    pub(crate) fn new(file: R) -> Result<(Self, Head), BackupError> {
        let mut reader = Self {
            file: BufReader::with_capacity(1 << 16, file),
            hash: Sha256::new(),
            found: Summary::default(),
        };
        let line = reader.next_line().map_err(|_| BackupError::Foreign)?;
        reader.hash.update(&line);
        let head: Value = serde_json::from_slice(&line).map_err(|_| BackupError::Foreign)?;
        let form = head.get("ordu_backup").and_then(Value::as_u64);
        let form = form.ok_or(BackupError::Foreign)?;
        if form != u64::from(FORM) {
            return Err(BackupError::Newer(u32::try_from(form).unwrap_or(u32::MAX)));
        }
        let head = serde_json::from_value(head).map_err(|_| BackupError::Foreign)?;
        Ok((reader, head))
    }

    /// The next thing; `None` at an end that agrees with everything before it.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, BackupError> {
        let line = self.next_line()?;
        if line.first() == Some(&b'[') {
            self.hash.update(&line);
            self.found.rows += 1;
            let row = serde_json::from_slice(&line);
            let number = self.found.rows;
            let row = row.map_err(|_| damaged(format!("row {number} cannot be read")))?;
            return Ok(Some(Item::Row(row)));
        }
        let mark: Mark = serde_json::from_slice(&line)
            .map_err(|_| damaged(format!("after row {} is no row", self.found.rows)))?;
        if let Mark::End { end, sha256 } = mark {
            let hash = crate::secret::hex(&std::mem::take(&mut self.hash).finalize());
            return if hash != sha256 {
                Err(damaged("its checksum is wrong".to_owned()))
            } else if end != self.found {
                Err(damaged("not everything is in it".to_owned()))
            } else {
                Ok(None)
            };
        }
        self.hash.update(&line);
        Ok(match mark {
            Mark::Table { table, columns } => Some(Item::Table {
                name: table,
                columns,
            }),
            Mark::Picture { picture, bytes } => Some(self.picture(picture, bytes)?),
            Mark::End { .. } => None,
        })
    }

    fn picture(&mut self, name: String, length: u64) -> Result<Item, BackupError> {
        if length > MOST_PICTURE_BYTES || !is_picture(&name) {
            return Err(damaged(format!("`{name}` is no picture")));
        }
        let mut bytes = Vec::new();
        let mut rest = (&mut self.file).take(length + 1);
        rest.read_to_end(&mut bytes).map_err(unreadable)?;
        self.hash.update(&bytes);
        if bytes.len() as u64 != length + 1 || bytes.pop() != Some(b'\n') {
            return Err(damaged(format!("picture `{name}` is cut off")));
        }
        self.found.pictures += 1;
        Ok(Item::Picture { name, bytes })
    }

    /// What was found so far.
    pub(super) const fn found(&self) -> Summary {
        self.found
    }

    fn next_line(&mut self) -> Result<Vec<u8>, BackupError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.file).take(MOST_LINE_BYTES);
        limited.read_until(b'\n', &mut line).map_err(unreadable)?;
        if line.last() == Some(&b'\n') {
            Ok(line)
        } else {
            Err(damaged("it ends too early".to_owned()))
        }
    }
}

/// A name that can be put into the folder of pictures, and nowhere else.
pub(super) fn is_picture(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Path::new(name).extension() == Some("webp".as_ref())
        && !name.starts_with('.')
        && name.chars().all(is_plain)
}

fn damaged(why: String) -> BackupError {
    BackupError::Damaged(why)
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn unreadable(error: io::Error) -> BackupError {
    BackupError::Damaged(error.to_string())
}
