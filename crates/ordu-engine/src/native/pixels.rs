//! Pictures to tensors and back.

use candle_core::{Device, Tensor};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};

use crate::{EngineError, Source};

/// `[1, 3, h, w]` in −1…1 to a picture; values beyond are cut.
///
/// # Errors
///
/// Those of the tensor library.
pub fn to_image(pixels: &Tensor) -> Result<RgbImage, EngineError> {
    let (_, _, height, width) = pixels.dims4()?;
    let interleaved = pixels.squeeze(0)?.permute((1, 2, 0))?.flatten_all()?;
    let bytes: Vec<u8> = interleaved
        .to_vec1::<f32>()?
        .into_iter()
        .map(to_byte)
        .collect();
    let (width, height) = (side(width)?, side(height)?);
    RgbImage::from_raw(width, height, bytes)
        .ok_or_else(|| EngineError::bad_task("pixels do not fill the picture"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255 before"
)]
fn to_byte(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}

fn side(pixels: usize) -> Result<u32, EngineError> {
    u32::try_from(pixels).map_err(|_| EngineError::bad_task(format!("a side of {pixels} pixels")))
}

/// A picture to `[1, 3, h, w]` in −1…1.
///
/// # Errors
///
/// Those of the tensor library.
pub fn to_tensor(image: &RgbImage) -> Result<Tensor, EngineError> {
    let numbers: Vec<f32> = image
        .as_raw()
        .iter()
        .map(|byte| f32::from(*byte) / 127.5 - 1.0)
        .collect();
    let shape = (image.height() as usize, image.width() as usize, 3);
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?
        .permute((2, 0, 1))?
        .unsqueeze(0)?
        .contiguous()?)
}

/// A mask to `[1, 1, h / factor, w / factor]` in 0…1: each number is the mean of its square.
///
/// # Errors
///
/// Those of the tensor library.
pub fn to_latent_mask(mask: &GrayImage, factor: u32) -> Result<Tensor, EngineError> {
    let numbers: Vec<f32> = mask
        .as_raw()
        .iter()
        .map(|byte| f32::from(*byte) / 255.0)
        .collect();
    let shape = (1, 1, mask.height() as usize, mask.width() as usize);
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.avg_pool2d(factor as usize)?)
}

/// A size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

impl Size {
    /// The smallest size that is as large, in whole steps.
    #[must_use]
    pub fn in_steps_of(self, step: u32) -> Self {
        Self {
            width: self.width.next_multiple_of(step),
            height: self.height.next_multiple_of(step),
        }
    }
}

/// The source of a task at one size: opaque colours, and what is to be made anew.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The colours.
    pub image: RgbImage,
    /// White: make anew. `None` if nothing is masked.
    pub mask: Option<GrayImage>,
}

impl Prepared {
    /// Resizes a source with Lanczos and joins its mask with its transparency: whichever asks for
    /// more.
    pub fn new(source: &Source, size: Size) -> Self {
        let resized = resize(&source.image, size);
        let transparency = resized.color().has_alpha().then(|| {
            let rgba = resized.to_rgba8();
            GrayImage::from_fn(size.width, size.height, |x, y| {
                Luma([255 - rgba.get_pixel(x, y).0[3]])
            })
        });
        let given = source
            .mask
            .as_ref()
            .map(|mask| imageops::resize(mask, size.width, size.height, FilterType::Triangle));
        let mask = match (transparency, given) {
            (Some(mut one), Some(other)) => {
                for (left, right) in one.pixels_mut().zip(other.pixels()) {
                    left.0[0] = left.0[0].max(right.0[0]);
                }
                Some(one)
            }
            (one, other) => one.or(other),
        };
        // A mask that is black everywhere masks nothing.
        let mask = mask.filter(|mask| mask.pixels().any(|pixel| pixel.0[0] > 0));
        Self {
            image: resized.to_rgb8(),
            mask,
        }
    }

    /// The picture with everything under the mask grey, and nothing of it left.
    pub fn greyed(&self) -> RgbImage {
        let Some(mask) = &self.mask else {
            return self.image.clone();
        };
        let mut grey = self.image.clone();
        for (pixel, mask) in grey.pixels_mut().zip(mask.pixels()) {
            if mask.0[0] >= 128 {
                *pixel = Rgb([128; 3]);
            }
        }
        grey
    }

    /// The picture with everything under the mask replaced by a continuation of what is around it.
    pub fn continued(&self) -> RgbImage {
        match &self.mask {
            Some(mask) => continuation(&self.image, mask),
            None => self.image.clone(),
        }
    }

    /// Makes the mask larger by some pixels in every direction.
    #[must_use]
    pub fn grown(mut self, pixels: u32) -> Self {
        self.mask = self.mask.map(|mask| grow(&mask, pixels));
        self
    }
}

/// Resizes with Lanczos unless the size is right already.
pub fn resize(image: &DynamicImage, size: Size) -> DynamicImage {
    if (image.width(), image.height()) == (size.width, size.height) {
        return image.clone();
    }
    image.resize_exact(size.width, size.height, FilterType::Lanczos3)
}

/// The largest value within a distance, first along lines, then along columns.
fn grow(mask: &GrayImage, pixels: u32) -> GrayImage {
    let (width, height) = mask.dimensions();
    let lines = GrayImage::from_fn(width, height, |x, y| {
        let near = x.saturating_sub(pixels)..(x + pixels + 1).min(width);
        Luma([near
            .map(|x| mask.get_pixel(x, y).0[0])
            .max()
            .unwrap_or_default()])
    });
    GrayImage::from_fn(width, height, |x, y| {
        let near = y.saturating_sub(pixels)..(y + pixels + 1).min(height);
        Luma([near
            .map(|y| lines.get_pixel(x, y).0[0])
            .max()
            .unwrap_or_default()])
    })
}

/// Colours of a picture at one resolution, each as sums of red, green, blue and weight.
struct Level {
    size: Size,
    sums: Vec<[f32; 4]>,
}

impl Level {
    fn halved(&self) -> Self {
        let size = Size {
            width: self.size.width.div_ceil(2),
            height: self.size.height.div_ceil(2),
        };
        let mut sums = vec![[0.0; 4]; (size.width * size.height) as usize];
        for ((x, y), from) in self.size.places().zip(&self.sums) {
            if let Some(to) = sums.get_mut(size.index(x / 2, y / 2)) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += from;
                }
            }
        }
        Self { size, sums }
    }

    /// Gives pixels without any weight the colour of their place one resolution below.
    fn fill_from(&mut self, coarser: &Self) {
        for ((x, y), to) in self.size.places().zip(&mut self.sums) {
            if to[3] <= 0.0 {
                *to = coarser
                    .sums
                    .get(coarser.size.index(x / 2, y / 2))
                    .copied()
                    .unwrap_or_default();
            }
        }
    }
}

impl Size {
    fn places(self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.height).flat_map(move |y| (0..self.width).map(move |x| (x, y)))
    }

    fn index(self, x: u32, y: u32) -> usize {
        (y * self.width + x) as usize
    }
}

/// Fills what is masked from coarser and coarser means of what is not ("push-pull", Gortler et al.
/// 1996).
fn continuation(image: &RgbImage, mask: &GrayImage) -> RgbImage {
    let pixels = image.pixels().zip(mask.pixels());
    let sums = pixels.map(|(pixel, mask)| {
        let weight = 1.0 - f32::from(mask.0[0]) / 255.0;
        let [red, green, blue] = pixel.0.map(|byte| f32::from(byte) * weight);
        [red, green, blue, weight]
    });
    let size = Size {
        width: image.width(),
        height: image.height(),
    };
    let mut levels = vec![Level {
        size,
        sums: sums.collect(),
    }];
    while let Some(last) = levels
        .last()
        .filter(|last| last.size.width.max(last.size.height) > 1)
    {
        levels.push(last.halved());
    }
    while let (Some(coarser), Some(level)) = (levels.pop(), levels.last_mut()) {
        level.fill_from(&coarser);
        if levels.len() == 1 {
            break;
        }
    }
    let finest = levels.pop().map(|level| level.sums).unwrap_or_default();
    let mut filled = image.clone();
    for ((pixel, mask), [red, green, blue, weight]) in
        filled.pixels_mut().zip(mask.pixels()).zip(finest)
    {
        if mask.0[0] == 0 {
            continue;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of bytes"
        )]
        let mean = |sum: f32| (sum / weight).round() as u8;
        // Where nothing at all is kept, grey.
        pixel.0 = if weight > 0.0 {
            [mean(red), mean(green), mean(blue)]
        } else {
            [128; 3]
        };
    }
    filled
}

/// Puts `made` over `kept` as far as the mask says. All three have one size.
pub fn composite(made: &RgbImage, kept: &RgbImage, mask: &GrayImage) -> RgbImage {
    let mut joined = kept.clone();
    for ((to, from), mask) in joined.pixels_mut().zip(made.pixels()).zip(mask.pixels()) {
        let share = u32::from(mask.0[0]);
        for (to, from) in to.0.iter_mut().zip(from.0) {
            let mixed = (u32::from(from) * share + u32::from(*to) * (255 - share) + 127) / 255;
            *to = u8::try_from(mixed).unwrap_or(u8::MAX);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(masked: impl Fn(u32, u32) -> bool) -> Prepared {
        let image = RgbImage::from_fn(20, 13, |x, _| {
            Rgb(if x < 10 { [200, 0, 0] } else { [0, 0, 200] })
        });
        let mask = GrayImage::from_fn(20, 13, |x, y| Luma([if masked(x, y) { 255 } else { 0 }]));
        Prepared {
            image,
            mask: Some(mask),
        }
    }

    #[test]
    fn what_is_masked_continues_what_is_around_it() {
        let prepared = prepared(|x, y| (1..5).contains(&x) && (3..9).contains(&y));
        let filled = prepared.continued();
        assert_eq!(filled, prepared.image);
        assert_eq!(prepared.greyed().get_pixel(2, 5).0, [128; 3]);
    }

    #[test]
    fn nothing_of_what_is_masked_is_left() {
        let filled = prepared(|x, _| x < 10).continued();
        assert!(filled.pixels().all(|pixel| pixel.0 == [0, 0, 200]));
        let filled = prepared(|_, _| true).continued();
        assert!(filled.pixels().all(|pixel| pixel.0 == [128; 3]));
    }

    #[test]
    fn masks_grow_in_every_direction_and_stop_at_the_edge() {
        let grown = prepared(|x, y| (x, y) == (1, 5)).grown(2).mask.unwrap();
        assert_eq!(
            grown.pixels().filter(|pixel| pixel.0[0] == 255).count(),
            4 * 5
        );
    }

    #[test]
    fn a_mask_without_white_masks_nothing() {
        let mask = GrayImage::new(4, 4);
        let image = DynamicImage::ImageRgb8(RgbImage::new(4, 4));
        let source = Source {
            mask: Some(mask),
            ..Source::new(image)
        };
        assert_eq!(
            Prepared::new(
                &source,
                Size {
                    width: 8,
                    height: 8
                }
            )
            .mask,
            None
        );
    }
}
