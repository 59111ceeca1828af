//! Looking for the likeliest text: the best beginnings are followed side by side.
//!
//! # Source
//! What `generate` of transformers does, by its documentation and by comparison: beam search with a
//! length penalty of 1, a penalty for repetition (Keskar et al. 2019, "CTRL"), a least length; with
//! one beam the likeliest word each time.

use std::cmp::Ordering;

use crate::EngineError;

/// Worse than any text.
const NEVER: f32 = -1e9;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// Beginnings that are followed.
    pub beams: usize,
    /// Tokens that it has at least, the first mark included.
    pub least: usize,
    /// Tokens that it has at most.
    pub most: usize,
    /// By how much words that are there already are made less likely; 1 is not at all.
    pub penalty: f32,
}

/// What knows which words may come next.
pub(super) trait Source {
    /// A number for each word, for each beam: the last token of the beam, and which of the beams
    /// before it goes on from.
    fn next(&mut self, tokens: &[u32], from: &[u32]) -> Result<Vec<Vec<f32>>, EngineError>;
}

/// The best text from `begin` on, both marks included if it has them.
///
/// # Errors
///
/// Those of the source.
pub(super) fn search(
    source: &mut dyn Source,
    wish: &Wish,
    (begin, end): (u32, u32),
) -> Result<Vec<u32>, EngineError> {
    if wish.beams < 2 {
        return likeliest(source, wish, (begin, end));
    }
    let count = wish.beams;
    let beam = |number: usize| Beam {
        tokens: vec![begin],
        score: if number == 0 { 0.0 } else { NEVER },
        from: 0,
    };
    let mut running: Vec<Beam> = (0..count).map(beam).collect();
    let mut done = Done {
        texts: vec![Text::default(); count],
        may_improve: true,
    };
    for length in 1..wish.most {
        let last: Vec<u32> = running
            .iter()
            .filter_map(|beam| beam.tokens.last().copied())
            .collect();
        let from: Vec<u32> = running.iter().map(|beam| beam.from).collect();
        let mut logits = source.next(&last, &from)?;
        for (beam, logits) in running.iter().zip(&mut logits) {
            logarithms(logits);
            adjust(logits, beam, wish, end);
            for number in logits.iter_mut() {
                *number += beam.score;
            }
        }
        let candidates = best(&logits, &running, 2 * count);
        let is_last = length + 1 >= wish.most;
        let ends = |beam: &Beam| is_last || beam.tokens.last() == Some(&end);
        done.take(
            candidates.iter().take(count).filter(|beam| ends(beam)),
            length,
        );
        let ended = candidates.iter().all(ends);
        running = followed(candidates, count, ends);
        done.look_ahead(&running, length);
        if ended || !done.may_improve {
            break;
        }
    }
    Ok(done
        .best()
        .or_else(|| Some(running.into_iter().next()?.tokens))
        .unwrap_or_default())
}

/// The likeliest word each time.
fn likeliest(
    source: &mut dyn Source,
    wish: &Wish,
    (begin, end): (u32, u32),
) -> Result<Vec<u32>, EngineError> {
    let mut beam = Beam {
        tokens: vec![begin],
        score: 0.0,
        from: 0,
    };
    while beam.tokens.len() < wish.most {
        let last: Vec<u32> = beam.tokens.last().copied().into_iter().collect();
        let mut logits = source
            .next(&last, &[0])?
            .into_iter()
            .next()
            .unwrap_or_default();
        adjust(&mut logits, &beam, wish, end);
        let numbered = (0_u32..).zip(&logits);
        let Some((word, _)) =
            numbered.max_by(|one, other| order(*one.1, *other.1, (one.0, other.0)))
        else {
            break;
        };
        beam.tokens.push(word);
        if word == end {
            break;
        }
    }
    Ok(beam.tokens)
}

/// By number; of equals the earlier one is the greater.
fn order(one: f32, other: f32, (place, behind): (u32, u32)) -> Ordering {
    one.total_cmp(&other).then(behind.cmp(&place))
}

/// The beginning of a text.
#[derive(Clone, Debug)]
struct Beam {
    tokens: Vec<u32>,
    score: f32,
    /// Which beam it was a step ago.
    from: u32,
}

/// A text that is done, or a place for one.
#[derive(Clone, Debug)]
struct Text {
    tokens: Vec<u32>,
    score: f32,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            score: NEVER,
        }
    }
}

/// The best texts that are done, the best first.
struct Done {
    texts: Vec<Text>,
    /// Whether one that still runs may become better.
    may_improve: bool,
}

impl Done {
    /// Takes those that are done with so many tokens before their last.
    fn take<'b>(&mut self, beams: impl Iterator<Item = &'b Beam>, length: usize) {
        let count = self.texts.len();
        self.texts.extend(beams.map(|beam| Text {
            tokens: beam.tokens.clone(),
            score: beam.score / length as f32,
        }));
        self.texts
            .sort_by(|one, other| other.score.total_cmp(&one.score));
        self.texts.truncate(count);
    }

    /// Looks whether the best that runs could still be better than the worst that is done.
    fn look_ahead(&mut self, running: &[Beam], length: usize) {
        let best = running.first().map_or(NEVER, |beam| beam.score);
        let is_open = self.texts.iter().any(|text| text.tokens.is_empty());
        let worst = self.texts.last().map_or(NEVER, |text| text.score);
        self.may_improve &= is_open || best / length as f32 > worst;
    }

    fn best(self) -> Option<Vec<u32>> {
        let first = self.texts.into_iter().next()?;
        (!first.tokens.is_empty()).then_some(first.tokens)
    }
}

/// Numbers as logarithms of probabilities.
fn logarithms(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|number| (number - most).exp()).sum();
    let whole = most + sum.ln();
    for number in logits {
        *number -= whole;
    }
}

/// Makes repetitions less likely, and an early end impossible.
fn adjust(logits: &mut [f32], beam: &Beam, wish: &Wish, end: u32) {
    let mut there = beam.tokens.clone();
    there.sort_unstable();
    there.dedup();
    for token in there {
        if let Some(number) = logits.get_mut(token as usize) {
            *number = if *number < 0.0 {
                *number * wish.penalty
            } else {
                *number / wish.penalty
            };
        }
    }
    if beam.tokens.len() < wish.least
        && let Some(number) = logits.get_mut(end as usize)
    {
        *number = f32::NEG_INFINITY;
    }
}

/// The best ways to go on, the best first.
fn best(logits: &[Vec<f32>], running: &[Beam], count: usize) -> Vec<Beam> {
    let mut all: Vec<(f32, u32, u32)> = Vec::new();
    for (beam, logits) in (0_u32..).zip(logits) {
        let mut own: Vec<(f32, u32, u32)> = (0_u32..)
            .zip(logits)
            .map(|(word, number)| (*number, beam, word))
            .collect();
        let by_score = |one: &(f32, u32, u32), other: &(f32, u32, u32)| {
            order(other.0, one.0, (other.2, one.2))
        };
        if own.len() > count {
            own.select_nth_unstable_by(count, by_score);
            own.truncate(count);
        }
        own.sort_by(by_score);
        all.extend(own);
    }
    // Of equals the one of the earlier beam comes first.
    all.sort_by(|one, other| other.0.total_cmp(&one.0));
    let chosen = all.into_iter().take(count);
    chosen
        .filter_map(|(score, from, word)| {
            let mut tokens = running.get(from as usize)?.tokens.clone();
            tokens.push(word);
            Some(Beam {
                tokens,
                score,
                from,
            })
        })
        .collect()
}

/// Those to go on with: the best that did not end. Where too few are left, ended ones fill up, without
/// a chance.
fn followed(candidates: Vec<Beam>, count: usize, ends: impl Fn(&Beam) -> bool) -> Vec<Beam> {
    let (ended, mut running): (Vec<Beam>, Vec<Beam>) = candidates.into_iter().partition(ends);
    let filling = ended.into_iter().map(|beam| Beam {
        score: beam.score + NEVER,
        ..beam
    });
    running.extend(filling);
    running.truncate(count);
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says the same of each place, whatever was before.
    struct Fixed(Vec<Vec<f32>>, usize);

    impl Source for Fixed {
        fn next(&mut self, tokens: &[u32], _from: &[u32]) -> Result<Vec<Vec<f32>>, EngineError> {
            let row = self.0.get(self.1).cloned().unwrap_or_else(|| vec![0.0; 4]);
            self.1 += 1;
            Ok(vec![row; tokens.len()])
        }
    }

    fn wish(beams: usize) -> Wish {
        Wish {
            beams,
            least: 0,
            most: 5,
            penalty: 1.0,
        }
    }

    #[test]
    fn the_likeliest_words_are_taken_until_the_end() {
        let rows = vec![
            vec![0.0, 0.0, 5.0, 1.0],
            vec![9.0, 0.0, 0.0, 1.0],
            vec![0.0, 9.0, 0.0, 0.0],
        ];
        for beams in [1, 2, 3] {
            let mut source = Fixed(rows.clone(), 0);
            let found = search(&mut source, &wish(beams), (3, 1)).unwrap();
            assert_eq!(found, [3, 2, 0, 1], "{beams}");
        }
    }

    #[test]
    fn a_text_is_as_long_as_it_may_be_and_as_it_must() {
        let ends = vec![vec![0.0, 9.0, 1.0, 0.0]; 9];
        for beams in [1, 4] {
            let least = Wish {
                least: 3,
                ..wish(beams)
            };
            let found = search(&mut Fixed(ends.clone(), 0), &least, (3, 1)).unwrap();
            assert_eq!(found.len(), 4, "{found:?}");
            assert_eq!(found.last(), Some(&1));
            let never = vec![vec![0.0, -99.0, 1.0, 0.0]; 9];
            let found = search(&mut Fixed(never, 0), &wish(beams), (3, 1)).unwrap();
            assert_eq!(found, [3, 2, 2, 2, 2]);
        }
    }
}
