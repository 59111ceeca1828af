//! Where a QR symbol stands in a picture and what it looks like there.
//!
//! # Source
//! `worker.md` § 2.12. The symbol itself: ISO/IEC 18004, by the crates `qrcode` and
//! `rqrr`.

mod raster;

use image::{DynamicImage, GrayImage};
use qrcode::{Color, EcLevel, QrCode, Version};

pub use raster::{Rasters, rasters};

use super::brightness::dark_up_to;
use crate::Baseline;

/// What stands in a symbol whose text nobody gave.
const DEFAULT_TEXT: &str = "https://haidra.net";

/// What stands in a symbol whose text does not fit.
const TOO_LARGE: &str = "This QR Code is too large for this image";

/// Sides of a module that are tried, in pixels, best first.
const MODULE_SIDES: [u32; 3] = [16, 12, 8];

/// Modules of white around a symbol.
const BORDER: u32 = 1;

/// What is meant by a border or an offset below 0, in modules or pixels, and how far from the edge a
/// symbol stands that was to stand beyond it.
const ODD: u32 = 10;

/// Centred symbols stand on multiples of this, in pixels.
const GRID: u32 = 64;

/// The modules on one side of a finder.
const FINDER: u32 = 7;

/// How strongly the background follows the symbol.
pub const BACKGROUND_STRENGTH: f32 = 1.0;

/// How strongly the finders do.
pub const FINDER_STRENGTH: f32 = 6.0;

/// How strongly the whole follows the symbol in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// As a rule.
    Usual,
    /// After a picture that did not scan.
    Insistent,
}

impl Finish {
    /// 1 is what a control network is trained with.
    pub fn strength(self) -> f32 {
        match self {
            Self::Usual => 1.5,
            Self::Insistent => 1.8,
        }
    }
}

/// The stem of files whose weights steer a family by a symbol.
pub fn weights(baseline: Baseline) -> &'static str {
    match baseline {
        Baseline::StableDiffusionXl => "control_v1p_sdxl_qrcode_monster",
        _ => "control_v1p_sd15_qrcode_monster_v2",
    }
}

/// What a QR picture is to contain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QrSpec {
    /// What is read when it is scanned.
    pub text: String,
    /// How modules look.
    pub drawer: ModuleDrawer,
    /// What the three finders show; `None`: what all shows.
    pub finder_prompt: Option<String>,
    /// Pixels from the left; `None`: centred.
    pub x: Option<i64>,
    /// Pixels from the top; `None`: centred.
    pub y: Option<i64>,
    /// Modules of white around.
    pub border: i64,
}

impl QrSpec {
    /// This text, centred, with square modules.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            drawer: ModuleDrawer::Square,
            finder_prompt: None,
            x: None,
            y: None,
            border: i64::from(BORDER),
        }
    }

    /// The specification that texts with their references make. References unknown mean nothing,
    /// values that cannot be read are the usual ones.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut spec = Self::new("");
        let mut protocol = "";
        for (reference, text) in texts {
            let number = text.trim().parse::<i64>().ok();
            match reference {
                "qr_code" | "qr_text" if !text.is_empty() => text.clone_into(&mut spec.text),
                "protocol" => {
                    protocol = match text {
                        "http" => "http://",
                        "https" => "https://",
                        _ => "",
                    }
                }
                "module_drawer" => spec.drawer = ModuleDrawer::from_name(text),
                "function_layer_prompt" if !text.is_empty() => {
                    spec.finder_prompt = Some(text.to_owned());
                }
                "x_offset" => spec.x = number,
                "y_offset" => spec.y = number,
                "qr_border" => spec.border = number.unwrap_or(i64::from(BORDER)),
                _ => {}
            }
        }
        if spec.text.is_empty() {
            DEFAULT_TEXT.clone_into(&mut spec.text);
        }
        spec.text.insert_str(0, protocol);
        spec
    }
}

/// How modules look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ModuleDrawer {
    /// Squares that touch.
    #[default]
    Square,
    /// Squares that do not.
    GappedSquare,
    /// Dots.
    Circle,
    /// Squares whose free corners are round.
    Rounded,
    /// Columns that are a little apart.
    VerticalBars,
    /// Rows that are a little apart.
    HorizontalBars,
}

impl ModuleDrawer {
    /// The drawer of a public name; others are squares.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "gapped square" => Self::GappedSquare,
            "circle" => Self::Circle,
            "rounded" => Self::Rounded,
            "vertical bars" => Self::VerticalBars,
            "horizontal bars" => Self::HorizontalBars,
            _ => Self::Square,
        }
    }
}

/// A symbol in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// What it says.
    pub text: String,
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top.
    pub y: u32,
    /// Side of a module, in pixels.
    pub module: u32,
    /// Modules of white around.
    pub border: u32,
    /// Modules on a side, without border.
    modules: u32,
    dark: Vec<bool>,
    drawer: ModuleDrawer,
}

impl Symbol {
    /// Its side with the border, in pixels.
    pub fn side(&self) -> u32 {
        self.module * (self.modules + 2 * self.border)
    }

    /// The same with modules of another side, for a picture scaled likewise. It starts on the grid of its
    /// modules, less than one from its place.
    #[must_use]
    pub fn scaled(&self, module: u32) -> Self {
        let place = |pixels: u32| pixels / self.module.max(1) * module;
        Self {
            x: place(self.x),
            y: place(self.y),
            module,
            ..self.clone()
        }
    }

    /// Whether the module at this place is dark; outside, none is.
    fn is_dark(&self, column: i64, row: i64) -> bool {
        let modules = i64::from(self.modules);
        if !(0..modules).contains(&column) || !(0..modules).contains(&row) {
            return false;
        }
        let place = usize::try_from(row * modules + column).unwrap_or(usize::MAX);
        self.dark.get(place).copied().unwrap_or_default()
    }

    /// Whether a module is part of one of the three finders.
    fn is_finder(&self, column: i64, row: i64) -> bool {
        let (near, far) = (
            0..i64::from(FINDER),
            i64::from(self.modules - FINDER)..i64::from(self.modules),
        );
        (near.contains(&column) && (near.contains(&row) || far.contains(&row)))
            || (far.contains(&column) && near.contains(&row))
    }
}

/// The symbol of a picture. What does not fit is drawn with smaller modules, and what does not fit
/// even then says so. `None` if the picture is too small even for that.
#[must_use]
pub fn place(spec: &QrSpec, width: u32, height: u32) -> Option<Symbol> {
    let border = u32::try_from(spec.border).unwrap_or(ODD).min(ODD * ODD);
    let most = width.max(height);
    let of_text = |text: &str| {
        let code = QrCode::with_error_correction_level(text, EcLevel::H).ok()?;
        let Version::Normal(_) = code.version() else {
            return None;
        };
        let modules = u32::try_from(code.width()).ok()?;
        let fits = |side: &u32| side * (modules + 2 * border) <= most;
        let module = MODULE_SIDES.into_iter().find(fits)?;
        Some((code, modules, module, text.to_owned()))
    };
    let (code, modules, module, text) = of_text(&spec.text).or_else(|| of_text(TOO_LARGE))?;
    let side = module * (modules + 2 * border);
    Some(Symbol {
        text,
        x: offset(spec.x, width, side),
        y: offset(spec.y, height, side),
        module,
        border,
        modules,
        dark: code
            .to_colors()
            .into_iter()
            .map(|color| color == Color::Dark)
            .collect(),
        drawer: spec.drawer,
    })
}

/// Whether a scanner finds this text in a picture.
///
/// It looks twice: scanners that part dark from bright around each pixel alone are misled by what is painted
/// inside of modules.
#[must_use]
pub fn reads(image: &DynamicImage, text: &str) -> bool {
    let grey = image.to_luma8();
    let border = dark_up_to(grey.as_raw().iter().copied());
    scans(&grey, text, |level| level)
        || scans(&grey, text, |level| if level > border { 255 } else { 0 })
}

fn scans(grey: &GrayImage, text: &str, seen: impl Fn(u8) -> u8) -> bool {
    let (width, height) = (grey.width() as usize, grey.height() as usize);
    let level = |x: usize, y: usize| {
        let level = grey.as_raw().get(y * width + x);
        seen(level.copied().unwrap_or_default())
    };
    let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(width, height, level);
    let grids = prepared.detect_grids();
    grids
        .iter()
        .any(|grid| grid.decode().is_ok_and(|(_, read)| read == text))
}

/// Where a symbol starts along one side of the picture.
fn offset(asked: Option<i64>, side: u32, symbol: u32) -> u32 {
    let room = side.saturating_sub(symbol);
    let Some(asked) = asked else {
        return room / 2 / GRID * GRID;
    };
    if asked < 0 {
        return ODD.min(room);
    }
    let asked = u32::try_from(asked).ok().filter(|asked| *asked <= room);
    asked.unwrap_or(room.saturating_sub(ODD))
}

#[cfg(test)]
mod tests;
