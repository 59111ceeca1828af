//! Everything that reads what comes from outside, as fuzzing calls it. Each entry says whether it made
//! sense of the bytes.

use image::GenericImageView as _;

use crate::encode::jpeg;
use crate::inputs::{decode, unpack};
use crate::manager::civitai;
use crate::safety::remote;

/// A larger picture takes too long to write again.
const MOST_PIXELS: u32 = 512 * 512;

/// What other servers answer: CivitAI, the service of textual inversions, classifiers.
pub fn answer(bytes: &[u8]) -> bool {
    civitai::is_read(bytes) | remote::read(bytes).is_ok()
}

/// A picture that comes with a job, as it is or as base64.
pub fn picture(bytes: &[u8]) -> bool {
    let unpacked = std::str::from_utf8(bytes).map(unpack);
    let unpacked = unpacked.ok().and_then(Result::ok);
    let Ok(picture) = decode(unpacked.as_deref().unwrap_or(bytes)) else {
        return false;
    };
    let (width, height) = picture.dimensions();
    if width * height <= MOST_PIXELS {
        assert!(jpeg(picture).is_ok(), "models look at JPEG");
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use image::{DynamicImage, ImageFormat};

    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        for entry in [answer, picture] {
            for bytes in [
                &b""[..],
                b"\xff\0",
                b"[[[[",
                b"<html>",
                b"GIF89a",
                b"data:,base64,",
            ] {
                assert!(!entry(bytes), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn answers_are_read() {
        let sum = "0".repeat(64);
        let file = format!(
            r#"{{"name": "a.safetensors", "sizeKB": 1e300, "primary": true,
                "downloadUrl": "https://a.example", "hashes": {{"SHA256": "{sum}"}}}}"#
        );
        for text in [
            r#"{"nsfw": true, "csam": false}"#.to_owned(),
            format!(r#"{{"url": "https://a.example", "hash": "{sum}"}}"#),
            format!(r#"{{"id": 1, "modelVersions": [{{"id": 2, "files": [{file}]}}]}}"#),
        ] {
            assert!(answer(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn pictures_are_read() {
        let mut png = Cursor::new(Vec::new());
        let drawn = DynamicImage::new_rgba16(9, 7).write_to(&mut png, ImageFormat::Png);
        drawn.unwrap();
        assert!(picture(png.get_ref()));
        assert!(picture(STANDARD.encode(png.get_ref()).as_bytes()));
    }
}
