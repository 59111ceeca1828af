//! Source and mask of a task, at the size it is drawn.
//!
//! # Source
//! `worker.md` § 2.7.

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, Luma, RgbImage};

use crate::Source;

/// A source as a model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Without transparency.
    pub image: RgbImage,
    /// White: regenerate. `None` if nothing is masked.
    pub mask: Option<GrayImage>,
}

/// The source resized, aspect not preserved. A mask of its own counts; without one, what is
/// transparent is masked.
#[must_use]
pub fn prepare(source: &Source, width: u32, height: u32) -> Prepared {
    let own = source.mask.as_ref();
    let mask = match own {
        Some(mask) => Some(imageops::resize(mask, width, height, FilterType::Lanczos3)),
        None => transparent_part(&source.image, width, height),
    };
    Prepared {
        image: resized(&source.image, width, height),
        mask,
    }
}

/// A picture resized, its transparency dropped.
#[must_use]
pub fn resized(image: &DynamicImage, width: u32, height: u32) -> RgbImage {
    let image = image.to_rgb8();
    if image.dimensions() == (width, height) {
        return image;
    }
    imageops::resize(&image, width, height, FilterType::Lanczos3)
}

fn transparent_part(image: &DynamicImage, width: u32, height: u32) -> Option<GrayImage> {
    if !image.color().has_alpha() {
        return None;
    }
    let image = image.to_rgba8();
    let mask = GrayImage::from_fn(image.width(), image.height(), |x, y| {
        Luma([255 - image.get_pixel(x, y).0[3]])
    });
    Some(imageops::resize(&mask, width, height, FilterType::Lanczos3))
}

/// A mask that is white everywhere.
#[must_use]
pub fn everything(width: u32, height: u32) -> GrayImage {
    GrayImage::from_pixel(width, height, Luma([255]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checklist: white mask, transparent alpha: regenerated area.
    #[test]
    fn white_and_transparent_mean_regenerate() {
        let plain = Source::new(DynamicImage::new_rgb8(4, 4));
        let prepared = prepare(&plain, 8, 16);
        assert_eq!(prepared.image.dimensions(), (8, 16));
        assert_eq!(prepared.mask, None);

        let transparent = Source::new(DynamicImage::new_rgba8(4, 4));
        let mask = prepare(&transparent, 8, 8).mask.unwrap();
        assert!(mask.pixels().all(|pixel| pixel.0 == [255]));

        let masked = Source {
            mask: Some(GrayImage::new(2, 2)),
            ..transparent
        };
        let mask = prepare(&masked, 8, 8).mask.unwrap();
        assert!(mask.pixels().all(|pixel| pixel.0 == [0]));
    }
}
