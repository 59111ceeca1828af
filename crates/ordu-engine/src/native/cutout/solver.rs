//! Solves the equations of matting: conjugate gradients, with an incomplete Cholesky factor of the same
//! pattern to start from.
//!
//! # Source
//! Hestenes and Stiefel 1952; Meijerink and van der Vorst 1977; Manteuffel 1980 (shifted diagonals).

use crate::EngineError;

/// Who comes before a pixel, two rows or columns away at most, and it itself, which is the last.
pub(super) const LOWER: usize = 13;
/// No number of anybody.
pub(super) const NOBODY: u32 = u32::MAX;
/// What is left of the error at the end.
const TOLERANCE: f64 = 1e-7;
/// Steps that are made at most.
const MAX_STEPS: usize = 5000;
/// Steps from one question whether to go on to the next.
const BREATH: usize = 8;
/// What is added to the diagonal if the factor breaks down without.
const SHIFTS: [f64; 7] = [0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

/// A symmetric matrix and the right side.
#[derive(Clone, Debug)]
pub(super) struct System {
    /// Of each row what lies before the diagonal, and the diagonal.
    pub(super) lower: Vec<[f64; LOWER]>,
    /// Whose columns those are.
    pub(super) neighbours: Vec<[u32; LOWER - 1]>,
    pub(super) right: Vec<f64>,
}

impl System {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            lower: vec![[0.0; LOWER]; rows],
            neighbours: vec![[NOBODY; LOWER - 1]; rows],
            right: vec![0.0; rows],
        }
    }

    fn times(&self, x: &[f64], y: &mut [f64]) {
        y.fill(0.0);
        for (row, (lower, before)) in self.lower.iter().zip(&self.neighbours).enumerate() {
            let own = x[row];
            let mut sum = lower[LOWER - 1] * own;
            for (value, column) in lower.iter().zip(before) {
                if *column != NOBODY {
                    let column = *column as usize;
                    sum += value * x[column];
                    y[column] += value * own;
                }
            }
            y[row] += sum;
        }
    }

    /// A triangle whose product with its mirror image is the matrix, but for entries beyond the pattern.
    fn factor(&self, shift: f64, pairs: &Pairs) -> Option<Vec<[f64; LOWER]>> {
        let mut factor = self.lower.clone();
        for row in 0..factor.len() {
            let mut line = factor[row];
            let mut rest = line[LOWER - 1] + shift;
            for (slot, shared) in pairs.iter().enumerate() {
                let column = self.neighbours[row][slot];
                if column == NOBODY {
                    line[slot] = 0.0;
                    continue;
                }
                let above = &factor[column as usize];
                let mut value = line[slot];
                for (mine, theirs) in shared {
                    value -= line[*mine] * above[*theirs];
                }
                value /= above[LOWER - 1];
                line[slot] = value;
                rest -= value * value;
            }
            if !rest.is_finite() || rest <= 1e-12 {
                return None;
            }
            line[LOWER - 1] = rest.sqrt();
            factor[row] = line;
        }
        Some(factor)
    }

    /// What the matrix of a factor would have to be multiplied with to give `x`.
    fn divide(&self, factor: &[[f64; LOWER]], x: &[f64], y: &mut [f64]) {
        for (row, (line, before)) in factor.iter().zip(&self.neighbours).enumerate() {
            let mut rest = x[row];
            for (value, column) in line.iter().zip(before) {
                if *column != NOBODY {
                    rest -= value * y[*column as usize];
                }
            }
            y[row] = rest / line[LOWER - 1];
        }
        for (row, (line, before)) in factor.iter().zip(&self.neighbours).enumerate().rev() {
            let own = y[row] / line[LOWER - 1];
            y[row] = own;
            for (value, column) in line.iter().zip(before) {
                if *column != NOBODY {
                    y[*column as usize] -= value * own;
                }
            }
        }
    }
}

/// For each slot of a row: which slots of that row and of the row it stands for are the same column.
type Pairs = [Vec<(usize, usize)>; LOWER - 1];

fn pairs() -> Pairs {
    std::array::from_fn(|slot| {
        let before = 0..slot;
        let shared = before.filter_map(|mine| {
            // Places in rows of five, two to the left and two up from the pixel.
            let down = (mine / 5 + 2).checked_sub(slot / 5)?;
            let right = (mine % 5 + 2).checked_sub(slot % 5).filter(|it| *it < 5)?;
            let theirs = down * 5 + right;
            (theirs < LOWER - 1).then_some((mine, theirs))
        });
        shared.collect()
    })
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// The solution; `None` if it is not found in time.
///
/// # Errors
///
/// That of `go_on`, which is asked every few steps.
pub(super) fn solve(
    system: &System,
    go_on: &dyn Fn() -> Result<(), EngineError>,
) -> Result<Option<Vec<f64>>, EngineError> {
    let rows = system.right.len();
    let mut x = vec![0.0; rows];
    let goal = TOLERANCE * dot(&system.right, &system.right).sqrt();
    let pairs = pairs();
    go_on()?;
    let mut shifts = SHIFTS.iter();
    let Some(factor) = shifts.find_map(|shift| system.factor(*shift, &pairs)) else {
        return Ok(None);
    };
    let mut rest = system.right.clone();
    let mut eased = vec![0.0; rows];
    system.divide(&factor, &rest, &mut eased);
    let mut way = eased.clone();
    let mut bent = vec![0.0; rows];
    let mut length = dot(&rest, &eased);
    for step in 0..MAX_STEPS {
        if dot(&rest, &rest).sqrt() <= goal {
            return Ok(Some(x));
        }
        if step.is_multiple_of(BREATH) {
            go_on()?;
        }
        system.times(&way, &mut bent);
        let along = length / dot(&way, &bent);
        if !along.is_finite() {
            return Ok(None);
        }
        for ((x, rest), (way, bent)) in x.iter_mut().zip(&mut rest).zip(way.iter().zip(&bent)) {
            *x += along * way;
            *rest -= along * bent;
        }
        system.divide(&factor, &rest, &mut eased);
        let now = dot(&rest, &eased);
        for (way, eased) in way.iter_mut().zip(&eased) {
            *way = eased + now / length * *way;
        }
        length = now;
    }
    Ok(None)
}
