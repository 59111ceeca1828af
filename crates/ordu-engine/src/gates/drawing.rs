//! Draws what `ordu-tiny` was trained on: one shape in one colour and size at one place on a plain
//! background.
//!
//! Numbers, names and the split into trained and held-out combinations are those of
//! `training/pictures.py`.

use image::{Rgb, RgbImage};

use super::SIDE;
use crate::native::noise::{Twister, uniform};

/// Names and RGB of the colours.
pub(super) const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [230, 40, 40]),
    ("green", [30, 170, 60]),
    ("blue", [30, 60, 220]),
    ("yellow", [245, 220, 50]),
    ("purple", [200, 40, 210]),
    ("cyan", [40, 210, 230]),
    ("white", [250, 250, 250]),
    ("black", [10, 10, 10]),
];

/// Names of the shapes, and their area for a radius of one.
pub(super) const SHAPES: [(&str, f64); 4] = [
    ("circle", std::f64::consts::PI),
    ("square", 4.0 * SQUARE * SQUARE),
    ("triangle", 1.299_038_105_676_658 * TRIANGLE * TRIANGLE),
    (
        "cross",
        8.0 * ARM * HALF_WIDTH - 4.0 * HALF_WIDTH * HALF_WIDTH,
    ),
];

/// Names of the places, and the centroid of what is drawn there.
pub(super) const PLACES: [(&str, [f64; 2]); 5] = [
    ("center", [32.0, 32.0]),
    ("top left", [20.0, 20.0]),
    ("top right", [44.0, 20.0]),
    ("bottom left", [20.0, 44.0]),
    ("bottom right", [44.0, 44.0]),
];

/// Names of the sizes, and their radii.
pub(super) const SIZES: [(&str, [f64; 2]); 2] = [("small", [8.5, 10.0]), ("large", [13.5, 15.5])];

/// Proportions relative to the radius.
const SQUARE: f64 = 0.88;
const TRIANGLE: f64 = 1.2;
const ARM: f64 = 1.1;
const HALF_WIDTH: f64 = 0.36;
/// A place is met up to this many pixels.
const JITTER: f64 = 1.5;
/// Points per pixel in each direction, averaged.
const FINER: u32 = 4;

/// What a picture shows: places in the tables of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Colour of the shape.
    pub colour: usize,
    /// The shape.
    pub shape: usize,
    /// Where it is.
    pub place: usize,
    /// How large it is.
    pub size: usize,
    /// Colour of everything else.
    pub background: usize,
}

impl Scene {
    /// The sentence that names everything.
    pub fn caption(self) -> String {
        let background = COLOURS[self.background].0;
        format!("{} on a {background} background", self.without_background())
    }

    /// The same without its end.
    pub fn without_background(self) -> String {
        format!(
            "a {} {} {} at the {}",
            SIZES[self.size].0, COLOURS[self.colour].0, SHAPES[self.shape].0, PLACES[self.place].0
        )
    }

    /// Words that name the colours alone.
    pub fn colours(self) -> String {
        let (colour, background) = (COLOURS[self.colour].0, COLOURS[self.background].0);
        format!("{colour} on a {background} background")
    }

    /// The same with another colour, chosen by a number.
    #[must_use]
    pub fn in_another_colour(self, choice: u64) -> Self {
        let mut free = (0..COLOURS.len())
            .filter(|colour| *colour != self.colour && *colour != self.background);
        let colour = free
            .nth(usize::try_from(choice % 6).unwrap_or(0))
            .unwrap_or(self.colour);
        Self { colour, ..self }
    }
}

/// All 2240 combinations, in the order of the training script.
fn combinations() -> Vec<Scene> {
    let mut all = Vec::new();
    for colour in 0..COLOURS.len() {
        for shape in 0..SHAPES.len() {
            for place in 0..PLACES.len() {
                for size in 0..SIZES.len() {
                    let backgrounds = (0..COLOURS.len()).filter(|background| *background != colour);
                    all.extend(backgrounds.map(|background| Scene {
                        colour,
                        shape,
                        place,
                        size,
                        background,
                    }));
                }
            }
        }
    }
    all
}

/// The tenth of the combinations that no training has seen, in the order of the training script.
pub fn held_out() -> Vec<Scene> {
    /// Seed of the split, for ever.
    const SPLIT: u64 = 20_240_607;
    let all = combinations();
    let order = Twister::new(SPLIT).permutation(all.len());
    order
        .into_iter()
        .take(all.len() / 10)
        .map(|index| all[index])
        .collect()
}

/// Some held-out scenes, chosen by a seed; repeated if there are not enough.
pub(super) fn scenes(seed: u64, count: usize) -> Vec<Scene> {
    let all = held_out();
    let order = Twister::new(seed).permutation(all.len());
    order
        .into_iter()
        .cycle()
        .take(count)
        .map(|index| all[index])
        .collect()
}

/// Draws a scene; place and radius are jittered by the seed.
pub fn draw(scene: Scene, seed: u64) -> RgbImage {
    let jitter = uniform(seed);
    let [x, y] = PLACES[scene.place].1;
    let (x, y) = (
        x + JITTER * (2.0 * jitter[0] - 1.0),
        y + JITTER * (2.0 * jitter[1] - 1.0),
    );
    let [low, high] = SIZES[scene.size].1;
    let radius = low + (high - low) * jitter[2];
    let (fore, back) = (COLOURS[scene.colour].1, COLOURS[scene.background].1);
    RgbImage::from_fn(SIDE, SIDE, |column, row| {
        let share = coverage(
            scene.shape,
            [f64::from(column) - x, f64::from(row) - y],
            radius,
        );
        let mix =
            |fore: u8, back: u8| f64::from(back) + (f64::from(fore) - f64::from(back)) * share;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of two bytes"
        )]
        let byte = |channel: usize| mix(fore[channel], back[channel]).round() as u8;
        Rgb([byte(0), byte(1), byte(2)])
    })
}

/// Which part of a pixel the shape covers; `corner` is the pixel's upper left corner seen from the
/// centroid.
fn coverage(shape: usize, corner: [f64; 2], radius: f64) -> f64 {
    let offset = |step: u32| (f64::from(step) + 0.5) / f64::from(FINER);
    let points =
        (0..FINER).flat_map(|row| (0..FINER).map(move |column| (offset(column), offset(row))));
    let hits = points
        .filter(|(dx, dy)| inside(shape, [corner[0] + dx, corner[1] + dy], radius))
        .count();
    hits as f64 / f64::from(FINER * FINER)
}

/// Whether a point, seen from the centroid with y downwards, lies in a shape.
pub(super) fn inside(shape: usize, [dx, dy]: [f64; 2], radius: f64) -> bool {
    let (ax, ay) = (dx.abs(), dy.abs());
    match SHAPES[shape].0 {
        "circle" => dx * dx + dy * dy <= radius * radius,
        "square" => ax.max(ay) <= SQUARE * radius,
        "triangle" => {
            let around = TRIANGLE * radius;
            dy <= around / 2.0 && 3_f64.sqrt() * ax - dy <= around
        }
        _ => ax.max(ay) <= ARM * radius && ax.min(ay) <= HALF_WIDTH * radius,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_is_that_of_the_training_script() {
        // The first and the last held-out combinations that `pictures.split()` prints.
        let held_out = held_out();
        let scene = |colour, shape, place, size, background| Scene {
            colour,
            shape,
            place,
            size,
            background,
        };
        assert_eq!(held_out.len(), 224);
        assert_eq!(held_out[0], scene(1, 1, 0, 1, 7));
        assert_eq!(held_out[1], scene(7, 1, 4, 0, 1));
        assert_eq!(held_out[3], scene(1, 2, 4, 0, 6));
        assert_eq!(held_out[223], scene(1, 2, 0, 0, 0));
    }

    #[test]
    fn captions_name_everything() {
        let scene = Scene {
            colour: 0,
            shape: 0,
            place: 0,
            size: 1,
            background: 2,
        };
        assert_eq!(
            scene.caption(),
            "a large red circle at the center on a blue background"
        );
        assert_eq!(COLOURS[scene.in_another_colour(0).colour].0, "green");
    }
}
