//! Pictures that come from outside: fetched, measured, decoded and re-encoded, all within bounds.
//!
//! The header is read first, so that nothing is unpacked that is larger than allowed.

use std::io::Cursor;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Limits, Luma, Rgb, RgbImage, Rgba};
use ordu_api::ReturnCode;
use ordu_core::Refusal;
use ordu_core::alchemy::{MAX_TILES, TILE, is_link};
use ordu_core::likeness::{self, Likeness};
use tokio::sync::Semaphore;

use crate::fetch::{FetchError, Fetcher};

/// The most pixels of a source picture.
pub(crate) const MAX_SOURCE_PIXELS: u64 = 3072 * 3072;

/// The largest side of any picture: what WebP can hold.
const MAX_SIDE: u32 = 16_383;

/// The most memory that decoding one picture may take, in bytes.
const MAX_DECODED_BYTES: u64 = 256 << 20;

/// How many pictures are decoded at the same time.
const DECODERS: usize = 2;

/// How long one picture may take.
const DECODE_DEADLINE: Duration = Duration::from_secs(20);

/// The WebP quality that source pictures are kept in.
const SOURCE_QUALITY: f32 = 50.0;

/// The WebP quality that pictures are kept in that somebody looks at, or works on.
const FINE_QUALITY: f32 = 95.0;

/// Turns what clients and workers send into pictures.
pub(crate) struct Pictures {
    fetcher: Fetcher,
    decoders: Semaphore,
}

/// What is kept of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// A picture: lossy.
    Picture,
    /// A mask: every pixel counts.
    Mask,
    /// What is looked at, also closely: hardly lossy.
    Seen,
    /// What is worked on as it is: hardly lossy, and as large as alchemists take.
    Fine,
}

impl Keep {
    /// The most pixels.
    pub(crate) const fn max_pixels(self) -> u64 {
        match self {
            Self::Picture | Self::Mask | Self::Seen => MAX_SOURCE_PIXELS,
            Self::Fine => MAX_TILES * TILE as u64 * TILE as u64,
        }
    }
}

impl Pictures {
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        Self {
            fetcher,
            decoders: Semaphore::new(DECODERS),
        }
    }

    /// Reads a URL or base64 text, and gives the picture back as WebP.
    pub(crate) async fn read(&self, source: &str, keep: Keep) -> Result<Source, Refusal> {
        if !is_link(source) {
            return self.recode(decode_base64(source)?, keep).await;
        }
        let bytes = self.fetch(source).await?;
        let recoded = self.recode(bytes.clone(), keep).await;
        recoded.map_err(|refusal| refuse_fetched(&bytes, refusal))
    }

    /// Takes a picture, a URL or base64, only to look how large it is: width and height in pixels.
    pub(crate) async fn measure(&self, source: &str) -> Result<(u32, u32), Refusal> {
        if !is_link(source) {
            return dimensions(&decode_base64(source)?);
        }
        let bytes = self.fetch(source).await?;
        dimensions(&bytes).map_err(|refusal| refuse_fetched(&bytes, refusal))
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, Refusal> {
        let fetched = self.fetcher.fetch(url).await;
        fetched.map_err(|error| refuse_fetch(&error))
    }

    /// A picture in another format.
    pub(crate) async fn convert(&self, bytes: Bytes, format: Format) -> Result<Bytes, Refusal> {
        self.decoding(move || convert(&bytes, format)).await
    }

    /// Where a picture is transparent, as a mask: white there, black elsewhere.
    pub(crate) async fn holes(&self, bytes: Bytes) -> Result<Bytes, Refusal> {
        self.decoding(move || holes(&bytes)).await
    }

    /// Whether a picture is transparent anywhere.
    pub(crate) async fn has_holes(&self, bytes: Bytes) -> Result<bool, Refusal> {
        self.decoding(move || has_holes(&bytes)).await
    }

    /// How a picture looks, to compare it with others.
    pub(crate) async fn likeness(&self, bytes: Bytes) -> Result<Likeness, Refusal> {
        self.decoding(move || likeness(&bytes)).await
    }

    async fn recode(&self, bytes: Bytes, keep: Keep) -> Result<Source, Refusal> {
        self.decoding(move || recode(&bytes, keep)).await
    }

    async fn decoding<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Ok(_permit) = self.decoders.acquire().await else {
            return Err(unreadable("closing"));
        };
        let work = tokio::task::spawn_blocking(work);
        match tokio::time::timeout(DECODE_DEADLINE, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unreadable("its decoder gave up")),
            Err(_) => Err(unreadable("decoding it takes too long")),
        }
    }
}

/// A picture in the form it is kept in.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) webp: Bytes,
    pub(crate) has_alpha: bool,
    /// In pixels.
    pub(crate) width: u32,
    /// In pixels.
    pub(crate) height: u32,
}

pub(crate) fn recode(bytes: &[u8], keep: Keep) -> Result<Source, Refusal> {
    let picture = decode(bytes, keep.max_pixels())?;
    let has_alpha = picture.color().has_alpha();
    let (width, height) = (picture.width(), picture.height());
    let (rgb, rgba);
    let encoder = if has_alpha {
        rgba = picture.to_rgba8();
        webp::Encoder::from_rgba(&rgba, width, height)
    } else {
        rgb = picture.to_rgb8();
        webp::Encoder::from_rgb(&rgb, width, height)
    };
    let encoded = match keep {
        Keep::Picture => encoder.encode_simple(false, SOURCE_QUALITY),
        Keep::Mask => encoder.encode_simple(true, 100.0),
        Keep::Seen | Keep::Fine => encoder.encode_simple(false, FINE_QUALITY),
    };
    let encoded =
        encoded.map_err(|error| unreadable(&format!("WebP cannot hold it: {error:?}")))?;
    Ok(Source {
        webp: Bytes::copy_from_slice(&encoded),
        has_alpha,
        width,
        height,
    })
}

pub(crate) fn likeness(bytes: &[u8]) -> Result<Likeness, Refusal> {
    let picture = decode(bytes, Keep::Fine.max_pixels())?;
    let side = u32::try_from(likeness::SIDE).unwrap_or(u32::MAX);
    let small = picture
        .resize_exact(side, side, FilterType::Triangle)
        .to_rgb8();
    let mut pixels = [[0; 3]; likeness::SIDE * likeness::SIDE];
    for (pixel, Rgb(colour)) in pixels.iter_mut().zip(small.pixels()) {
        *pixel = *colour;
    }
    Ok(Likeness::of(&pixels))
}

/// A picture that shows nothing, as WebP: what is put in the place of one that must not be seen.
pub(crate) fn blank() -> Result<Bytes, Refusal> {
    const SIDE: u32 = 64;
    const GREY: u8 = 0x80;
    let grey = RgbImage::from_pixel(SIDE, SIDE, Rgb([GREY; 3]));
    let encoder = webp::Encoder::from_rgb(&grey, SIDE, SIDE);
    let encoded = encoder.encode_simple(false, SOURCE_QUALITY);
    let encoded = encoded.map_err(|error| unreadable(&format!("{error:?}")))?;
    Ok(Bytes::copy_from_slice(&encoded))
}

/// What a picture is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
    WebP,
}

impl Format {
    /// What it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::WebP => "webp",
        }
    }
}

/// A picture in another format; as it is, if it has that format already.
pub(crate) fn convert(bytes: &Bytes, format: Format) -> Result<Bytes, Refusal> {
    let wanted = match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::WebP => ImageFormat::WebP,
    };
    if image::guess_format(bytes).is_ok_and(|found| found == wanted) {
        return Ok(bytes.clone());
    }
    let picture = decode(bytes, Keep::Fine.max_pixels())?;
    let picture = match format {
        // It has no alpha.
        Format::Jpeg => DynamicImage::ImageRgb8(picture.to_rgb8()),
        Format::Png | Format::WebP => picture,
    };
    write(&picture, wanted)
}

fn write(picture: &DynamicImage, format: ImageFormat) -> Result<Bytes, Refusal> {
    let mut file = Vec::new();
    let written = picture.write_to(&mut Cursor::new(&mut file), format);
    written.map_err(|error| unreadable(&error.to_string()))?;
    Ok(file.into())
}

pub(crate) fn holes(bytes: &[u8]) -> Result<Bytes, Refusal> {
    let picture = decode(bytes, MAX_SOURCE_PIXELS)?;
    if !picture.color().has_alpha() {
        return Err(unreadable(
            "it has no alpha: make transparent what is to be drawn anew",
        ));
    }
    let rgba = picture.to_rgba8();
    let mask = GrayImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let Rgba([.., alpha]) = *rgba.get_pixel(x, y);
        Luma([u8::MAX - alpha])
    });
    write(&DynamicImage::ImageLuma8(mask), ImageFormat::Png)
}

fn has_holes(bytes: &[u8]) -> Result<bool, Refusal> {
    let picture = decode(bytes, MAX_SOURCE_PIXELS)?;
    if !picture.color().has_alpha() {
        return Ok(false);
    }
    let rgba = picture.to_rgba8();
    Ok(rgba.pixels().any(|Rgba([.., alpha])| *alpha < u8::MAX))
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, Refusal> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    reader.map_err(|error| unreadable(&error.to_string()))
}

/// Width and height in pixels, by the header.
fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let size = reader(bytes)?.into_dimensions();
    size.map_err(|error| unreadable(&error.to_string()))
}

/// Decodes within bounds; the header decides first.
pub(crate) fn decode(bytes: &[u8], max_pixels: u64) -> Result<DynamicImage, Refusal> {
    let (width, height) = dimensions(bytes)?;
    if u64::from(width) * u64::from(height) > max_pixels || width.max(height) > MAX_SIDE {
        let message = format!(
            "The picture is {width}x{height}: at most {max_pixels} pixels are allowed, {MAX_SIDE} \
             a side"
        );
        return Err(Refusal::new(
            ReturnCode::SourceImageResolutionExceeded,
            message,
        ));
    }
    let mut limited = reader(bytes)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limited.limits(limits);
    limited
        .decode()
        .map_err(|error| unreadable(&error.to_string()))
}

pub(crate) fn decode_base64(text: &str) -> Result<Bytes, Refusal> {
    let text = text.split_once(";base64,").map_or(text, |(_, data)| data);
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map(Bytes::from).map_err(|error| {
        let message = format!("The picture is neither a URL nor base64: {error}");
        Refusal::new(ReturnCode::ImageValidationFailed, message)
    })
}

fn unreadable(why: &str) -> Refusal {
    Refusal::new(
        ReturnCode::ImageValidationFailed,
        format!("The picture cannot be read: {why}"),
    )
}

/// What was fetched and cannot be read is told apart from what was sent: no picture at all, or a broken one.
///
/// # Source
/// `generation.md` § 2.1.
fn refuse_fetched(bytes: &[u8], refusal: Refusal) -> Refusal {
    if refusal.code != ReturnCode::ImageValidationFailed {
        return refusal;
    }
    let is_picture = image::guess_format(bytes).is_ok();
    let (code, what) = if is_picture {
        (ReturnCode::SourceImageUnreadable, "holds a broken picture")
    } else {
        (ReturnCode::SourceImageUrlInvalid, "holds no picture")
    };
    Refusal::new(code, format!("The URL {what}: {}", refusal.message))
}

fn refuse_fetch(error: &FetchError) -> Refusal {
    let code = match error {
        FetchError::TooLarge(_) => ReturnCode::SourceImageSizeExceeded,
        FetchError::Forbidden(_) | FetchError::Failed(_) => ReturnCode::SourceImageUrlInvalid,
    };
    Refusal::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        DynamicImage::new_rgb8(width, height)
            .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
            .unwrap();
        bytes
    }

    #[test]
    fn pictures_become_webp() {
        let source = recode(&png(64, 64), Keep::Picture).unwrap();
        assert_eq!(source.webp.get(8..12), Some(&b"WEBP"[..]));
        assert!(!source.has_alpha);
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // The header of a PNG of 60,000 x 60,000 pixels, with nothing behind it.
        let mut bomb = png(8, 8);
        bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let refusal = recode(&bomb, Keep::Picture).unwrap_err();
        assert_eq!(refusal.code, ReturnCode::SourceImageResolutionExceeded);
    }

    #[test]
    fn garbage_is_refused() {
        for garbage in [&b""[..], b"garbage", &png(8, 8)[..20]] {
            let refusal = recode(garbage, Keep::Picture).unwrap_err();
            assert_eq!(refusal.code, ReturnCode::ImageValidationFailed);
        }
        assert!(decode_base64("not base64!").is_err());
        assert_eq!(
            decode_base64("data:image/png;base64,AAAA").unwrap().len(),
            3
        );
    }

    #[test]
    fn what_is_transparent_becomes_a_mask() {
        let mut picture = image::RgbaImage::from_pixel(2, 1, Rgba([9, 9, 9, 255]));
        let solid = write(&DynamicImage::from(picture.clone()), ImageFormat::Png).unwrap();
        assert!(!has_holes(&solid).unwrap());
        picture.put_pixel(1, 0, Rgba([9, 9, 9, 0]));
        let holed = write(&DynamicImage::from(picture), ImageFormat::Png).unwrap();
        assert!(has_holes(&holed).unwrap());
        let mask = decode(&holes(&holed).unwrap(), MAX_SOURCE_PIXELS).unwrap();
        assert_eq!(mask.to_luma8().into_raw(), [0, 255]);
        // Nothing says what is to be drawn anew.
        assert!(holes(&png(2, 1)).is_err());
    }

    #[test]
    fn pictures_change_their_format() {
        let png: Bytes = png(8, 8).into();
        for (format, expected) in [
            (Format::Png, ImageFormat::Png),
            (Format::Jpeg, ImageFormat::Jpeg),
            (Format::WebP, ImageFormat::WebP),
        ] {
            let file = convert(&png, format).unwrap();
            assert_eq!(image::guess_format(&file).unwrap(), expected);
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}
