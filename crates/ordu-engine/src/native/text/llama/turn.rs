//! Telling places by turning pairs of numbers (Su et al. 2021, "RoFormer").

use candle_core::{Result, Tensor};

use super::config::{Config, Near, Turns};
use super::rows::each_row;

/// The speeds at which the pairs of a head turn.
#[derive(Debug)]
pub(super) struct Turning {
    turns: Turns,
    speeds: Vec<f64>,
}

/// Cosines and sines of the angles at some places.
#[derive(Debug)]
pub(super) struct Angles {
    turns: Turns,
    places: Vec<Vec<(f32, f32)>>,
}

impl Turning {
    /// `slower` divides the speeds one by one, as Llama 3 has it.
    pub(super) fn new(config: &Config, slower: Option<&[f32]>) -> Self {
        let stretched = |pair: usize| {
            let divisor = slower.and_then(|slower| slower.get(pair)).copied();
            config.stretch * f64::from(divisor.unwrap_or(1.0))
        };
        Self::of(config, config.base, stretched)
    }

    /// For layers that look at what is near only.
    pub(super) fn near(config: &Config, near: Near) -> Self {
        Self::of(config, near.base, |_| 1.0)
    }

    fn of(config: &Config, base: f64, divisor: impl Fn(usize) -> f64) -> Self {
        let pairs = config.head / 2;
        let speed = |pair: usize| {
            let along = pair as f64 / pairs as f64;
            base.powf(-along) / divisor(pair)
        };
        Self {
            turns: config.family.turns,
            speeds: (0..pairs).map(speed).collect(),
        }
    }

    /// Those of `count` places from `first` on.
    pub(super) fn angles(&self, first: usize, count: usize) -> Angles {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "f32 is what networks compute in"
        )]
        let turned = |place: usize, speed: &f64| {
            let (sin, cos) = (place as f64 * speed).sin_cos();
            (cos as f32, sin as f32)
        };
        let at = |place| {
            self.speeds
                .iter()
                .map(move |speed| turned(place, speed))
                .collect()
        };
        Angles {
            turns: self.turns,
            places: (first..first + count).map(at).collect(),
        }
    }
}

impl Angles {
    /// `[1, heads, places, head]`, turned.
    pub(super) fn turn(&self, x: &Tensor) -> Result<Tensor> {
        each_row(x, |row, head| {
            let place = row.checked_rem(self.places.len()).unwrap_or_default();
            let angles = self.places.get(place).map_or(&[][..], Vec::as_slice);
            match self.turns {
                Turns::Neighbours => {
                    let (pairs, _) = head.as_chunks_mut::<2>();
                    for ([one, other], angle) in pairs.iter_mut().zip(angles) {
                        turn(one, other, *angle);
                    }
                }
                Turns::Halves => {
                    let (ones, others) = head.split_at_mut(head.len() / 2);
                    for ((one, other), angle) in ones.iter_mut().zip(others).zip(angles) {
                        turn(one, other, *angle);
                    }
                }
            }
        })
    }
}

fn turn(one: &mut f32, other: &mut f32, (cos, sin): (f32, f32)) {
    (*one, *other) = (*one * cos - *other * sin, *one * sin + *other * cos);
}
