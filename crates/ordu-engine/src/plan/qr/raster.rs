//! The four pictures of a symbol that a QR pipeline starts from.

use image::{GrayImage, Luma, RgbImage};

use super::{ModuleDrawer, Symbol};

const WHITE: u8 = 255;
const BLACK: u8 = 0;
const GREY: u8 = 128;

/// How far the finder mask is grown, in pixels.
const GROWTH: i64 = 8;

/// How far the finder mask's edge is blurred, in pixels.
const BLUR_RADIUS: i64 = 16;

/// How softly.
const BLUR_SIGMA: f64 = 3.0;

/// Of a module, the part that is drawn where modules are apart.
const GAPPED: f64 = 0.8;

/// The pictures, all of the size asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Rasters {
    /// The whole symbol on grey.
    pub full: RgbImage,
    /// The symbol without its finders on grey.
    pub modules: RgbImage,
    /// The finders on white.
    pub finders: RgbImage,
    /// White where the finders are, with a soft edge.
    pub mask: GrayImage,
}

/// Draws a symbol.
#[must_use]
pub fn rasters(symbol: &Symbol, width: u32, height: u32) -> Rasters {
    let drawn = |ground: u8, shown: fn(&Symbol, i64, i64) -> bool| {
        RgbImage::from_fn(width, height, |x, y| {
            let level = match module_at(symbol, x, y) {
                None => ground,
                Some(at) if shown(symbol, at.column, at.row) && is_inked(symbol, at) => BLACK,
                Some(_) => WHITE,
            };
            image::Rgb([level; 3])
        })
    };
    Rasters {
        full: drawn(GREY, |_, _, _| true),
        modules: drawn(GREY, |symbol, column, row| !symbol.is_finder(column, row)),
        finders: drawn(WHITE, Symbol::is_finder),
        mask: blurred(&finder_mask(symbol, width, height)),
    }
}

/// A module and a place inside it, each from 0 to 1.
#[derive(Clone, Copy)]
struct At {
    column: i64,
    row: i64,
    across: f64,
    down: f64,
}

/// `None` outside the symbol and its border.
fn module_at(symbol: &Symbol, x: u32, y: u32) -> Option<At> {
    let (x, y) = (x.checked_sub(symbol.x)?, y.checked_sub(symbol.y)?);
    if x >= symbol.side() || y >= symbol.side() {
        return None;
    }
    let (side, border) = (symbol.module, i64::from(symbol.border));
    let within = |place: u32| (f64::from(place % side) + 0.5) / f64::from(side);
    Some(At {
        column: i64::from(x / side) - border,
        row: i64::from(y / side) - border,
        across: within(x),
        down: within(y),
    })
}

/// Whether there is ink. Finders are always square: scanners look for their straight edges.
fn is_inked(symbol: &Symbol, at: At) -> bool {
    let (column, row) = (at.column, at.row);
    if !symbol.is_dark(column, row) {
        return false;
    }
    if symbol.is_finder(column, row) {
        return true;
    }
    let inner = |place: f64| (place - 0.5).abs() <= GAPPED / 2.0;
    let (right, below) = (at.across - 0.5, at.down - 0.5);
    let in_circle = right * right + below * below <= 0.25;
    match symbol.drawer {
        ModuleDrawer::Square => true,
        ModuleDrawer::GappedSquare => inner(at.across) && inner(at.down),
        ModuleDrawer::Circle => in_circle,
        ModuleDrawer::VerticalBars => inner(at.across),
        ModuleDrawer::HorizontalBars => inner(at.down),
        ModuleDrawer::Rounded => {
            let beside = column + if right < 0.0 { -1 } else { 1 };
            let over = row + if below < 0.0 { -1 } else { 1 };
            in_circle || symbol.is_dark(beside, row) || symbol.is_dark(column, over)
        }
    }
}

/// White on the finders and a little around them.
fn finder_mask(symbol: &Symbol, width: u32, height: u32) -> GrayImage {
    let is_finder = |x: i64, y: i64| {
        let place = |place: i64| u32::try_from(place).ok();
        let at = place(x)
            .zip(place(y))
            .and_then(|(x, y)| module_at(symbol, x, y));
        at.is_some_and(|at| symbol.is_finder(at.column, at.row))
    };
    // A finder is wider than the growth twice over, so its grown square is covered by these nine.
    let around = [-GROWTH, 0, GROWTH];
    GrayImage::from_fn(width, height, |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        let near = around
            .iter()
            .any(|dx| around.iter().any(|dy| is_finder(x + dx, y + dy)));
        Luma([if near { WHITE } else { BLACK }])
    })
}

/// Gaussian, first along rows and then along columns; beyond the edge, the edge goes on.
fn blurred(mask: &GrayImage) -> GrayImage {
    let weights: Vec<(i64, f64)> = (-BLUR_RADIUS..=BLUR_RADIUS)
        .map(|at| (at, (-0.5 * (at as f64 / BLUR_SIGMA).powi(2)).exp()))
        .collect();
    let total: f64 = weights.iter().map(|weight| weight.1).sum();
    let (width, height) = mask.dimensions();
    let level = |mask: &GrayImage, x: i64, y: i64| {
        let clamp = |place: i64, side: u32| {
            u32::try_from(place.clamp(0, i64::from(side) - 1)).unwrap_or_default()
        };
        f64::from(mask.get_pixel(clamp(x, width), clamp(y, height)).0[0])
    };
    let pass = |mask: &GrayImage, dx: i64, dy: i64| {
        GrayImage::from_fn(width, height, |x, y| {
            let (x, y) = (i64::from(x), i64::from(y));
            let sum: f64 = weights
                .iter()
                .map(|(at, weight)| weight * level(mask, x + at * dx, y + at * dy))
                .sum();
            Luma([to_level(sum / total)])
        })
    };
    pass(&pass(mask, 1, 0), 0, 1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a byte"
)]
fn to_level(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}
