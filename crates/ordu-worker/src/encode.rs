//! Pictures as WebP, for the way back to the horde.

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage, Rgba, RgbaImage};
use webp::{Encoder, WebPConfig};

/// The longest side that WebP can hold, in pixels.
const MAX_SIDE: u32 = 16_383;

/// Out of 100.
const QUALITY: f32 = 95.0;

/// From 0, fast, to 6, small.
const METHOD: i32 = 4;

/// The picture could not be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a picture could not be encoded")]
pub(crate) struct EncodeError;

/// A picture as lossy WebP with its alpha channel, if it has one. Takes its time: for a thread that may
/// block.
pub(crate) fn webp(picture: DynamicImage) -> Result<Bytes, EncodeError> {
    let mut settings = WebPConfig::new().map_err(|()| EncodeError)?;
    settings.quality = QUALITY;
    settings.method = METHOD;
    let picture = fitting(picture);
    let encoded = if picture.color().has_alpha() {
        let pixels = picture.into_rgba8();
        Encoder::from_rgba(&pixels, pixels.width(), pixels.height()).encode_advanced(&settings)
    } else {
        let pixels = picture.into_rgb8();
        Encoder::from_rgb(&pixels, pixels.width(), pixels.height()).encode_advanced(&settings)
    };
    encoded
        .map(|bytes| Bytes::copy_from_slice(&bytes))
        .map_err(|_| EncodeError)
}

/// The longest side of a picture that a text is about, in pixels: models look no closer.
const MAX_SEEN_SIDE: u32 = 2048;

/// Out of 100.
const SEEN_QUALITY: u8 = 90;

/// A picture that a text is about, as JPEG, which all programs read: on white if it is transparent. For
/// a thread that may block.
pub(crate) fn jpeg(picture: DynamicImage) -> Result<Vec<u8>, EncodeError> {
    let mut picture = picture;
    if picture.width().max(picture.height()) > MAX_SEEN_SIDE {
        picture = picture.resize(MAX_SEEN_SIDE, MAX_SEEN_SIDE, FilterType::Triangle);
    }
    if picture.color().has_alpha() {
        let white = Rgba([u8::MAX; 4]);
        let mut page = RgbaImage::from_pixel(picture.width(), picture.height(), white);
        imageops::overlay(&mut page, &picture.into_rgba8(), 0, 0);
        picture = page.into();
    }
    let mut file = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut file, SEEN_QUALITY);
    let encoded = picture.into_rgb8().write_with_encoder(encoder);
    encoded.map_err(|_| EncodeError)?;
    Ok(file)
}

/// The longest side of a picture that only shows what is coming, in pixels.
const MAX_PREVIEW_SIDE: u32 = 256;

/// Out of 100.
const PREVIEW_QUALITY: f32 = 60.0;

/// A picture that only shows what is coming, as a small WebP. For a thread that may block.
pub(crate) fn preview(picture: RgbImage) -> Result<Bytes, EncodeError> {
    let mut settings = WebPConfig::new().map_err(|()| EncodeError)?;
    settings.quality = PREVIEW_QUALITY;
    let mut picture = DynamicImage::from(picture);
    if picture.width().max(picture.height()) > MAX_PREVIEW_SIDE {
        picture = picture.resize(MAX_PREVIEW_SIDE, MAX_PREVIEW_SIDE, FilterType::Triangle);
    }
    let pixels = picture.into_rgb8();
    Encoder::from_rgb(&pixels, pixels.width(), pixels.height())
        .encode_advanced(&settings)
        .map(|bytes| Bytes::copy_from_slice(&bytes))
        .map_err(|_| EncodeError)
}

fn fitting(picture: DynamicImage) -> DynamicImage {
    if picture.width().max(picture.height()) <= MAX_SIDE {
        return picture;
    }
    picture.resize(MAX_SIDE, MAX_SIDE, FilterType::Lanczos3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &Bytes) -> DynamicImage {
        image::load_from_memory_with_format(bytes, image::ImageFormat::WebP).unwrap()
    }

    #[test]
    fn alpha_survives() {
        let picture = RgbaImage::from_fn(64, 64, |x, _| {
            Rgba([200, 30, 30, if x < 32 { 0 } else { 255 }])
        });
        let back = decoded(&webp(picture.into()).unwrap()).into_rgba8();
        assert_eq!(back.get_pixel(0, 0).0[3], 0);
        assert_eq!(back.get_pixel(63, 0).0[3], 255);
    }

    #[test]
    fn what_is_seen_is_small_and_on_white() {
        let picture = RgbaImage::from_pixel(4096, 1024, Rgba([0, 0, 0, 0]));
        let file = jpeg(picture.into()).unwrap();
        let back = image::load_from_memory_with_format(&file, image::ImageFormat::Jpeg);
        let back = back.unwrap().into_rgb8();
        assert_eq!(back.dimensions(), (2048, 512));
        assert!(back.get_pixel(9, 9).0.iter().all(|channel| *channel > 250));
    }

    #[test]
    fn opaque_pictures_stay_opaque() {
        let picture = DynamicImage::new_rgb8(16, 8);
        let back = decoded(&webp(picture).unwrap());
        assert!(!back.color().has_alpha());
        assert_eq!((back.width(), back.height()), (16, 8));
    }

    #[test]
    fn a_picture_too_long_for_webp_is_scaled_down() {
        let back = decoded(&webp(DynamicImage::new_rgb8(MAX_SIDE + 1, 4)).unwrap());
        assert_eq!(back.width(), MAX_SIDE);
    }

    #[test]
    fn a_preview_is_small() {
        let noise = RgbImage::from_fn(512, 300, |x, y| {
            let value = (x + 1).wrapping_mul(2_654_435_761) ^ (y + 1).wrapping_mul(40_503_011);
            let [red, green, blue, _] = value.to_le_bytes();
            image::Rgb([red, green, blue])
        });
        let bytes = preview(noise).unwrap();
        let back = decoded(&bytes);
        assert_eq!((back.width(), back.height()), (256, 150));
        assert!(bytes.len() < 48 << 10, "{}", bytes.len());
        let tiny = decoded(&preview(RgbImage::new(8, 8)).unwrap());
        assert_eq!((tiny.width(), tiny.height()), (8, 8));
    }

    #[test]
    fn nothing_cannot_be_encoded() {
        assert_eq!(webp(DynamicImage::new_rgb8(0, 0)), Err(EncodeError));
    }
}
