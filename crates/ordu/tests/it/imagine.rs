//! From nothing to a picture.

use image::{ImageFormat, RgbImage};
use ordu_engine::gates::{Scene, draw, held_out, judge};

use crate::program::{Running, run, run_json, text};

const PROMPT: &str = "a large red circle at the center on a blue background";

/// How many of the pixels in a square around the middle, and in the corners, are nearest to red or
/// to blue.
fn is_red_on_blue(picture: &RgbImage) -> bool {
    let (width, height) = picture.dimensions();
    let is_red = |x: u32, y: u32| {
        let [red, green, blue] = picture.get_pixel(x, y).0;
        red > 150 && green < 110 && blue < 110
    };
    let is_blue = |x: u32, y: u32| {
        let [red, green, blue] = picture.get_pixel(x, y).0;
        blue > 150 && red < 110 && green < 110
    };
    let middle: Vec<(u32, u32)> = (width * 7 / 16..width * 9 / 16)
        .flat_map(|x| (height * 7 / 16..height * 9 / 16).map(move |y| (x, y)))
        .collect();
    let corners: Vec<(u32, u32)> = (0..width / 8)
        .flat_map(|x| (0..height / 8).map(move |y| (x, y)))
        .flat_map(|(x, y)| {
            [
                (x, y),
                (width - 1 - x, y),
                (x, height - 1 - y),
                (width - 1 - x, height - 1 - y),
            ]
        })
        .collect();
    let red = middle.iter().filter(|(x, y)| is_red(*x, *y)).count();
    let blue = corners.iter().filter(|(x, y)| is_blue(*x, *y)).count();
    red * 10 >= middle.len() * 9 && blue * 10 >= corners.len() * 9
}

#[test]
fn one_command_starts_a_horde_and_paints() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing answers at the default address of a test: it names its own data folder.
    let arguments = [
        "imagine", PROMPT, "--seed", "7", "--out", "a.png", "--data", "data",
    ];
    let output = run(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "a.png");
    assert!(text(&output.stderr).contains("starting one for this call"));
    let bytes = std::fs::read(folder.path().join("a.png")).unwrap();
    assert_eq!(image::guess_format(&bytes).unwrap(), ImageFormat::Png);
    let picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (512, 512));
    assert!(
        is_red_on_blue(&picture),
        "the picture is not a red circle on blue"
    );
}

/// Out of the box: a PNG whose middle is opaque and red, and whose corners are not there.
#[test]
fn a_shape_that_stands_on_nothing_is_saved_with_alpha() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = "a large red circle at the center";
    let arguments = [
        "imagine",
        prompt,
        "--transparent",
        "--size",
        "64x64",
        "--seed",
        "7",
        "--out",
        "a.png",
        "--data",
        "data",
    ];
    let output = run(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let picture = image::open(folder.path().join("a.png")).unwrap();
    assert!(picture.color().has_alpha());
    let picture = picture.to_rgba8();
    let [red, green, blue, alpha] = picture.get_pixel(32, 32).0;
    assert!(alpha > 200, "the middle has an alpha of {alpha}");
    assert!(
        red > 150 && green < 110 && blue < 110,
        "{red} {green} {blue}"
    );
    for corner in [(2, 2), (61, 2), (2, 61), (61, 61)] {
        let alpha = picture.get_pixel(corner.0, corner.1).0[3];
        assert!(alpha < 50, "{corner:?} has an alpha of {alpha}");
    }
}

#[test]
fn the_horde_of_up_paints_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let horde = Running::start(folder.path(), &["up"]);
    let base = [
        "imagine", PROMPT, "--horde", &horde.url, "--size", "64x64", "--json", "--seed", "7",
    ];
    let first = run_json(
        folder.path(),
        &[&base[..], &["--out", "a.webp", "-n", "2"]].concat(),
    );
    assert_eq!(first["pictures"].as_array().unwrap().len(), 2);
    assert_eq!(first["pictures"][1]["path"], "a-2.webp");
    let again = run_json(folder.path(), &[&base[..], &["--out", "b.webp"]].concat());
    assert_eq!(again["pictures"][0]["seed"], "7");
    let read = |name: &str| image::open(folder.path().join(name)).unwrap().to_rgb8();
    assert!(is_red_on_blue(&read("a.webp")) && is_red_on_blue(&read("b.webp")));
    assert_eq!(horde.terminate(), Some(0));
}

#[test]
fn a_picture_is_redrawn_from_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let horde = Running::start(folder.path(), &["up"]);
    let source = RgbImage::from_pixel(64, 64, image::Rgb([0, 0, 255]));
    source.save(folder.path().join("source.png")).unwrap();
    let prompt = "a large green square at the center on a blue background";
    let output = run(
        folder.path(),
        &[
            "imagine",
            prompt,
            "--horde",
            &horde.url,
            "--size",
            "64x64",
            "--init",
            "source.png",
            "--strength",
            "0.9",
            "--out",
            "c.png",
        ],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        image::open(folder.path().join("c.png")).unwrap().width(),
        64
    );
    let broken = folder.path().join("broken.png");
    std::fs::write(&broken, b"no picture").unwrap();
    let refused = run(
        folder.path(),
        &[
            "imagine",
            prompt,
            "--horde",
            &horde.url,
            "--init",
            "broken.png",
        ],
    );
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("ImageValidationFailed"));
}

/// From an address to a picture that somebody has tried to scan, with what is part of the program; and a
/// text that is too long for the picture.
#[test]
fn a_picture_with_a_qr_code_says_whether_it_scans() {
    let folder = tempfile::tempdir().unwrap();
    let horde = Running::start(folder.path(), &["up"]);
    let address = "https://example.org/abc";
    let base = [
        "imagine", PROMPT, "--horde", &horde.url, "--json", "--seed", "7",
    ];
    let asked = ["--qr", address, "--steps", "10", "--out", "a.png"];
    let made = run_json(folder.path(), &[&base[..], &asked].concat());
    assert!(made["pictures"][0]["scans"].is_boolean(), "{made}");
    let picture = image::open(folder.path().join("a.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (512, 512));
    let long = "x".repeat(300);
    let refused = run(folder.path(), &[&base[..], &["--qr", &long]].concat());
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(
        told.contains("300 bytes") && told.contains("512x512"),
        "{told}"
    );
    assert_eq!(horde.terminate(), Some(0));
}

/// A white cross on black: its map, what it steers, and a second pass.
#[test]
fn a_drawing_steers_and_a_second_pass_refines() {
    let folder = tempfile::tempdir().unwrap();
    let horde = Running::start(folder.path(), &["up"]);
    let cross = RgbImage::from_fn(64, 64, |x, y| {
        let (dx, dy) = (x.abs_diff(20), y.abs_diff(20));
        let inside = dx.max(dy) <= 15 && dx.min(dy) <= 5;
        image::Rgb(if inside { [250; 3] } else { [10; 3] })
    });
    cross.save(folder.path().join("cross.png")).unwrap();
    let base = [
        "imagine",
        "red on a blue background",
        "--horde",
        &horde.url,
        "--json",
        "--init",
        "cross.png",
        "--control",
        "canny",
    ];
    let paint = |more: &[&str]| run_json(folder.path(), &[&base[..], more].concat());
    let read = |name: &str| image::open(folder.path().join(name)).unwrap().to_rgb8();
    paint(&["--map-only", "--size", "64x64", "--out", "map.png"]);
    let map = read("map.png");
    let lines = map.pixels().filter(|pixel| pixel.0 == [255; 3]).count();
    assert!((60..300).contains(&lines), "{lines} pixels of edges");
    let size = [
        "--size",
        "128x128",
        "--hires-fix",
        "--hires-strength",
        "0.5",
    ];
    paint(&[&size[..], &["--seed", "7", "--out", "a.png"]].concat());
    let picture = read("a.png");
    assert_eq!(picture.dimensions(), (128, 128));
    let is_red = |x: u32, y: u32| {
        let [red, _, blue] = picture.get_pixel(x, y).0;
        red > blue
    };
    assert!(is_red(40, 40) && is_red(16, 40) && is_red(40, 64));
    assert!(!is_red(18, 18) && !is_red(62, 62) && !is_red(100, 100));
    let refused = run(
        folder.path(),
        &["imagine", "x", "--horde", &horde.url, "--control", "canny"],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(horde.terminate(), Some(0));
}

#[test]
fn a_background_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let horde = Running::start(folder.path(), &["up"]);
    let base = [
        "imagine",
        "a large red circle at the center on a blue background",
        "--horde",
        &horde.url,
        "--json",
        "--size",
        "64x64",
        "--seed",
        "7",
    ];
    let more = ["--post", "strip_background", "--out", "circle.png"];
    run_json(folder.path(), &[&base[..], &more].concat());
    let picture = image::open(folder.path().join("circle.png")).unwrap();
    assert!(picture.color().has_alpha());
    let picture = picture.to_rgba8();
    assert!(picture.get_pixel(32, 32).0[3] > 230);
    assert!(picture.get_pixel(1, 1).0[3] < 25);
    // Nobody here mends faces, and nobody knows other names.
    let refused = run(
        folder.path(),
        &["imagine", "x", "--horde", &horde.url, "--post", "sharpen"],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(horde.terminate(), Some(0));
}

/// Two scenes without a colour in common.
fn four_colours() -> [Scene; 2] {
    let one = held_out()[0];
    let colours = |scene: Scene| [scene.colour, scene.background];
    let shares = |other: Scene| colours(other).iter().any(|it| colours(one).contains(it));
    let two = held_out().iter().copied().find(|other| !shares(*other));
    [one, two.unwrap()]
}

/// Without a horde and without naming a model: the colour of one on the ground of the other.
#[test]
fn pictures_are_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let scenes = four_colours();
    for (scene, name) in scenes.into_iter().zip(["a.png", "b.png"]) {
        draw(scene, 1).save(folder.path().join(name)).unwrap();
    }
    let base = ["imagine", "a picture", "--data", "data", "--size", "64x64"];
    let more = ["--seed", "1", "--out", "c.png", "--remix", "a.png", "b.png"];
    let output = run(folder.path(), &[&base[..], &more].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let made = image::open(folder.path().join("c.png")).unwrap();
    let made = judge(&made.to_rgb8());
    let crosses = |shape: Scene, ground: Scene| {
        made.colour == Some(shape.colour) && made.background == ground.background
    };
    let [one, two] = scenes;
    assert!(crosses(one, two) || crosses(two, one), "{made:?}");
}

#[test]
fn what_is_wrong_with_pictures_to_mix_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png"] {
        RgbImage::new(8, 8).save(folder.path().join(name)).unwrap();
    }
    let said = |pictures: &[&str]| {
        let base = ["imagine", "x", "--data", "data", "--remix"];
        let output = run(folder.path(), &[&base[..], pictures].concat());
        assert!(!output.status.success());
        text(&output.stderr)
    };
    for (pictures, part) in [
        (&["a.png=0.5", "b.png"][..], "always counts 1"),
        (&["a.png", "absent.png"], "`absent.png`"),
        (&["a.png"; 7], "at most, not 7"),
    ] {
        let said = said(pictures);
        assert!(said.contains(part), "{said}");
    }
}
