//! Edges as thin lines: where brightness changes most, along the change, and strongly enough or beside
//! what is strong enough (Canny 1986, "A Computational Approach to Edge Detection").
//!
//! The numbers are those of OpenCV's `Canny` of a colour picture with its usual 3×3 Sobel and the sum
//! of absolute values as length: of each pixel the channel counts that changes most.

use image::{GrayImage, Luma, RgbImage};

/// Changes above the second are edges; those above the first are if they touch one.
pub const THRESHOLDS: (i32, i32) = (100, 200);

/// Tangent of 22.5° in 32768ths: a direction is one of four.
const TANGENT: i64 = 13_573;

/// How much a picture changes at a pixel, and in which direction.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    dx: i32,
    dy: i32,
}

impl Change {
    fn length(self) -> i32 {
        self.dx.abs() + self.dy.abs()
    }
}

/// Changes of all pixels. Beyond the edge nothing changes.
struct Changes {
    width: u32,
    height: u32,
    found: Vec<Change>,
}

impl Changes {
    fn of(picture: &RgbImage) -> Self {
        let (width, height) = picture.dimensions();
        let mut found = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height {
            for x in 0..width {
                found.push(change(picture, x, y));
            }
        }
        Self {
            width,
            height,
            found,
        }
    }

    fn at(&self, x: u32, y: u32) -> Change {
        let index = y as usize * self.width as usize + x as usize;
        self.found.get(index).copied().unwrap_or_default()
    }

    /// The length at a pixel beside another one.
    fn beside(&self, (x, y): (u32, u32), (dx, dy): (i32, i32)) -> i32 {
        let place = x.checked_add_signed(dx).zip(y.checked_add_signed(dy));
        match place {
            Some((x, y)) if x < self.width && y < self.height => self.at(x, y).length(),
            _ => 0,
        }
    }

    /// Whether nothing changes more along the direction of the change.
    fn is_crest(&self, x: u32, y: u32) -> bool {
        let here = self.at(x, y);
        let length = here.length();
        let beside = |step: (i32, i32)| self.beside((x, y), step);
        let across = i64::from(here.dx.abs());
        let along = i64::from(here.dy.abs()) << 15;
        let flat = across * TANGENT;
        // 67.5°: the tangent is larger by two.
        let steep = flat + (across << 16);
        if along < flat {
            length > beside((-1, 0)) && length >= beside((1, 0))
        } else if along > steep {
            length > beside((0, -1)) && length >= beside((0, 1))
        } else {
            let side = if (here.dx ^ here.dy) < 0 { -1 } else { 1 };
            length > beside((-side, -1)) && length > beside((side, 1))
        }
    }
}

/// Of the three channels the one that changes most; the first of equals.
fn change(picture: &RgbImage, x: u32, y: u32) -> Change {
    let left = x.saturating_sub(1);
    let right = (x + 1).min(picture.width() - 1);
    let (above, below) = (y.saturating_sub(1), (y + 1).min(picture.height() - 1));
    let rows = [above, y, below].map(|y| {
        let pixel = |x: u32| picture.get_pixel(x, y).0.map(i32::from);
        [pixel(left), pixel(x), pixel(right)]
    });
    let [top, middle, bottom] = rows;
    let mut most = Change::default();
    for channel in 0..3 {
        let of = |pixel: [i32; 3]| pixel.into_iter().nth(channel).unwrap_or_default();
        let [a, b, c] = top.map(of);
        let [d, _, f] = middle.map(of);
        let [g, h, i] = bottom.map(of);
        let found = Change {
            dx: (c + 2 * f + i) - (a + 2 * d + g),
            dy: (g + 2 * h + i) - (a + 2 * b + c),
        };
        if channel == 0 || found.length() > most.length() {
            most = found;
        }
    }
    most
}

/// White lines on black.
pub fn canny(picture: &RgbImage, (low, high): (i32, i32)) -> GrayImage {
    let (width, height) = picture.dimensions();
    let mut edges = GrayImage::new(width, height);
    if width == 0 || height == 0 {
        return edges;
    }
    let changes = Changes::of(picture);
    let mut maybe = vec![false; changes.found.len()];
    let index = |x: u32, y: u32| y as usize * width as usize + x as usize;
    let mut sure = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let length = changes.at(x, y).length();
            if length <= low || !changes.is_crest(x, y) {
                continue;
            }
            if length > high {
                sure.push((x, y));
            } else if let Some(maybe) = maybe.get_mut(index(x, y)) {
                *maybe = true;
            }
        }
    }
    while let Some((x, y)) = sure.pop() {
        edges.put_pixel(x, y, Luma([255]));
        for y in y.saturating_sub(1)..=(y + 1).min(height - 1) {
            for x in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                let waits = maybe.get_mut(index(x, y));
                if waits.is_some_and(std::mem::take) {
                    sure.push((x, y));
                }
            }
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn an_edge_is_one_line() {
        let half = RgbImage::from_fn(20, 10, |x, _| {
            if x < 10 {
                Rgb([0, 0, 0])
            } else {
                Rgb([0, 200, 0])
            }
        });
        let edges = canny(&half, THRESHOLDS);
        for y in 0..10 {
            let found: Vec<u32> = (0..20)
                .filter(|x| edges.get_pixel(*x, y).0 == [255])
                .collect();
            assert_eq!(found, [9], "line {y}");
        }
    }

    #[test]
    fn small_and_empty_pictures_have_edges_or_none() {
        for (width, height) in [(0, 0), (0, 5), (1, 1), (1, 7), (2, 2)] {
            let picture = RgbImage::from_pixel(width, height, Rgb([9, 9, 9]));
            let edges = canny(&picture, THRESHOLDS);
            assert_eq!(edges.dimensions(), (width, height));
            assert!(edges.pixels().all(|pixel| pixel.0 == [0]));
        }
    }
}
