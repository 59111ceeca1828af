//! The bytes of a model file, wherever they lie.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::EngineError;

/// A file that is mapped into memory, part of this program, or read.
#[derive(Debug)]
pub(in crate::native) enum Content {
    Mapped(Mmap),
    Bundled(&'static [u8]),
    Owned(Vec<u8>),
}

impl Content {
    /// Maps a file.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] if it cannot be opened, [`EngineError::BadModel`] if it is empty.
    pub(in crate::native) fn map(path: &Path) -> Result<Self, EngineError> {
        let io = |source| EngineError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(EngineError::bad_model(
                path.display().to_string(),
                "the file is empty",
            ));
        }
        // SAFETY: the map is only read. Somebody who truncates the file while it is mapped can make
        // a read fail with SIGBUS; model files are written under another name and moved into place,
        // so that is an operator's error.
        #[expect(
            unsafe_code,
            reason = "mapping is what keeps a 4 GB checkpoint out of memory"
        )]
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped(map))
    }

    pub(in crate::native) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Bundled(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}
