//! Linear multistep (Adams and Bashforth, in `σ`): the directions of up to four steps are the values of
//! a polynomial, which is integrated over the next step.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::run::Run;
use super::schedule::Level;
use crate::EngineError;

/// Steps that are looked at.
const ORDER: usize = 4;

/// Walks `x` through finite levels.
pub(super) fn walk(
    mut x: Tensor,
    levels: &[Level],
    run: &mut Run<'_, '_>,
) -> Result<Tensor, EngineError> {
    // Of the last steps, the latest first: where, and in which direction.
    let mut known: VecDeque<(f64, Tensor)> = VecDeque::new();
    for pair in levels.windows(2) {
        let &[now, next] = pair else { continue };
        let clean = run.clean(&x, now)?;
        known.push_front((now.sigma, ((&x - &clean)? / now.sigma)?));
        known.truncate(ORDER);
        let places: Vec<f64> = known.iter().map(|(sigma, _)| *sigma).collect();
        for (place, (_, direction)) in known.iter().enumerate() {
            let weight = integral(&places, place, (now.sigma, next.sigma));
            x = (x + (direction * weight)?)?;
        }
        run.told(&clean)?;
    }
    Ok(x)
}

/// The integral of the polynomial that is 1 at one of some places and 0 at the others. It is cubic at
/// most, so that two points of Gauss and Legendre give it exactly.
fn integral(places: &[f64], one: usize, (from, to): (f64, f64)) -> f64 {
    let own = places.get(one).copied().unwrap_or_default();
    let value = |at: f64| -> f64 {
        let others = places.iter().enumerate().filter(|(place, _)| *place != one);
        others
            .map(|(_, other)| (at - other) / (own - other))
            .product()
    };
    let (middle, half) = (f64::midpoint(from, to), (to - from) / 2.0);
    let point = half / 3.0_f64.sqrt();
    (value(middle - point) + value(middle + point)) * half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_equal_steps_are_those_of_the_books() {
        let places = [0.0, -1.0, -2.0, -3.0];
        for (place, expected) in [55.0, -59.0, 37.0, -9.0].into_iter().enumerate() {
            let weight = integral(&places, place, (0.0, 1.0));
            assert!((weight - expected / 24.0).abs() < 1e-12, "{place} {weight}");
        }
    }
}
