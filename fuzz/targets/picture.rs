//! Pictures of strangers, with the limits that the engine and the worker give them.

#![no_main]

use std::io::Cursor;

use image::{ImageReader, Limits};
use libfuzzer_sys::fuzz_target;
use ordu_engine::native::pixels::{Size, resize};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = ImageReader::new(Cursor::new(bytes)).with_guessed_format() else {
        return;
    };
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(512), Some(512));
    limits.max_alloc = Some(16 << 20);
    reader.limits(limits);
    if let Ok(picture) = reader.decode() {
        let size = Size {
            width: 64,
            height: 64,
        };
        resize(&picture, size);
    }
});
