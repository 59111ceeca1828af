//! QR codes: symbols, places and rasters.

use super::*;

fn placed(text: &str, width: u32, height: u32) -> Symbol {
    place(&QrSpec::new(text), width, height).unwrap()
}

/// Checklist: vectors: QR pixel size.
#[test]
fn sizes_are_those_of_the_table() {
    // 11 and 26 bytes at the highest correction: versions 2 and 4.
    assert_eq!(placed("hello world", 512, 512).side(), 432);
    assert_eq!(placed("https://example.com/abcdef", 1024, 1024).side(), 560);
}

/// Checklist: QR: offset clamping.
#[test]
fn offsets_are_centred_on_the_grid_or_clamped() {
    for (asked, side, symbol, expected) in [
        (None, 512, 384, 64),
        (None, 1024, 432, 256),
        (None, 512, 560, 0),
        (Some(0), 512, 432, 0),
        (Some(33), 512, 432, 33),
        (Some(80), 512, 432, 80),
        (Some(81), 512, 432, 70),
        (Some(-1), 512, 432, 10),
        (Some(i64::MIN), 512, 510, 2),
        (Some(i64::MAX), 512, 432, 70),
        (Some(5), 100, 432, 0),
    ] {
        assert_eq!(
            offset(asked, side, symbol),
            expected,
            "{asked:?} {side} {symbol}"
        );
    }
}

/// Checklist: QR: oversize text.
#[test]
fn what_does_not_fit_gets_smaller_modules_and_then_says_so() {
    let text = "x".repeat(40);
    assert_eq!(placed(&text, 1024, 64).module, 16);
    assert_eq!(placed(&text, 576, 576).module, 12);
    let too_large = placed(&"x".repeat(1000), 512, 512);
    assert_eq!(too_large.text, TOO_LARGE);
    assert!(too_large.side() <= 512);
    assert_eq!(placed(&"x".repeat(100_000), 1024, 1024).text, TOO_LARGE);
    assert_eq!(place(&QrSpec::new("x"), 64, 64), None);
    let spec = QrSpec {
        border: i64::MAX,
        ..QrSpec::new("x")
    };
    assert_eq!(place(&spec, 256, 256), None);
}

#[test]
fn texts_make_a_specification() {
    let spec = QrSpec::from_texts([
        ("qr_code", "example.com"),
        ("protocol", "https"),
        ("module_drawer", "Rounded"),
        ("function_layer_prompt", "a rose"),
        ("x_offset", "-4"),
        ("y_offset", "many"),
        ("qr_border", "3"),
        ("unheard of", "?"),
    ]);
    let expected = QrSpec {
        drawer: ModuleDrawer::Rounded,
        finder_prompt: Some("a rose".to_owned()),
        x: Some(-4),
        border: 3,
        ..QrSpec::new("https://example.com")
    };
    assert_eq!(spec, expected);
    assert_eq!(QrSpec::from_texts([]), QrSpec::new(DEFAULT_TEXT));
}

#[test]
fn rasters_show_their_part_of_the_symbol() {
    let symbol = placed("hello", 512, 512);
    let drawn = rasters(&symbol, 512, 512);
    let level =
        |image: &image::RgbImage, x: u32, y: u32| image.get_pixel(symbol.x + x, symbol.y + y).0[0];
    // The corner of a finder lies one module of border in.
    let corner = symbol.module + 2;
    assert_eq!(level(&drawn.full, corner, corner), 0);
    assert_eq!(level(&drawn.modules, corner, corner), 255);
    assert_eq!(level(&drawn.finders, corner, corner), 0);
    assert_eq!(drawn.full.get_pixel(0, 0).0, [128; 3]);
    assert_eq!(drawn.finders.get_pixel(0, 0).0, [255; 3]);
    let inside = symbol.module * 4;
    assert_eq!(
        drawn.mask.get_pixel(symbol.x + inside, symbol.y + inside).0,
        [255]
    );
    assert_eq!(drawn.mask.get_pixel(256, 256).0, [0]);
    // The mask is grown by 8 pixels: its soft edge is half as bright there.
    let edge = symbol.x + symbol.module * 8 + 8;
    let soft = drawn.mask.get_pixel(edge, symbol.y + inside).0[0];
    assert!((100..=155).contains(&soft), "{soft}");
}

#[test]
fn every_drawer_leaves_the_middle_of_dark_modules_dark() {
    for name in [
        "square",
        "gapped square",
        "circle",
        "rounded",
        "vertical bars",
        "horizontal bars",
    ] {
        let spec = QrSpec {
            drawer: ModuleDrawer::from_name(name),
            ..QrSpec::new("hello")
        };
        let symbol = place(&spec, 512, 512).unwrap();
        let full = rasters(&symbol, 512, 512).full;
        let modules = i64::from(symbol.modules);
        for row in 0..modules {
            for column in 0..modules {
                let middle = |at: i64, start: u32| {
                    start
                        + u32::try_from(at + i64::from(symbol.border)).unwrap() * symbol.module
                        + symbol.module / 2
                };
                let pixel = full
                    .get_pixel(middle(column, symbol.x), middle(row, symbol.y))
                    .0[0];
                assert_eq!(
                    pixel == 0,
                    symbol.is_dark(column, row),
                    "{name} {column} {row}"
                );
            }
        }
    }
}

#[test]
fn what_is_drawn_can_be_read() {
    for name in [
        "square",
        "gapped square",
        "circle",
        "rounded",
        "vertical bars",
        "horizontal bars",
    ] {
        let spec = QrSpec {
            drawer: ModuleDrawer::from_name(name),
            ..QrSpec::new("https://example.com")
        };
        let symbol = place(&spec, 512, 576).unwrap();
        let drawn: DynamicImage = rasters(&symbol, 512, 576).full.into();
        assert!(reads(&drawn, "https://example.com"), "{name}");
        assert!(!reads(&drawn, "https://example.org"), "{name}");
    }
    assert!(!reads(&DynamicImage::new_rgb8(64, 64), "x"));
    assert!(!reads(&DynamicImage::new_rgb8(1, 1), "x"));
}

/// A shape lies over the symbol: what is bright inside of it is darker than what is dark elsewhere looks
/// beside white.
#[test]
fn a_symbol_is_read_through_what_is_painted_over_it() {
    let text = "https://example.org/abc";
    let symbol = place(&QrSpec::new(text), 512, 512).unwrap();
    let mut drawn = rasters(&symbol, 512, 512).full;
    for (x, y, pixel) in drawn.enumerate_pixels_mut() {
        let is_dark = pixel.0[0] < 128;
        let is_inside = x.abs_diff(256).pow(2) + y.abs_diff(256).pow(2) < 150 * 150;
        let is_rim = (x + y) % 16 < 5;
        pixel.0 = match (is_dark, is_inside) {
            (true, _) if is_rim => [90; 3],
            (true, _) => [10; 3],
            (false, true) if is_rim => [150; 3],
            (false, true) => [200; 3],
            (false, false) => [250; 3],
        };
    }
    assert!(reads(&drawn.into(), text));
}
