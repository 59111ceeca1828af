//! Byte pairs: neighbours become one, the best pair first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A part of the text that has not been merged into another one.
struct Part {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
    is_gone: bool,
}

/// What a text falls into when neighbours are merged, beginning with single characters. `rank` says how
/// soon two parts are merged, the smallest first and the leftmost of equals; `None` is never.
pub(super) fn merged<R: Ord + Copy>(
    text: &str,
    rank: impl Fn(&str, &str) -> Option<R>,
) -> impl Iterator<Item = &str> {
    let mut parts: Vec<Part> = Vec::new();
    for (place, (start, letter)) in text.char_indices().enumerate() {
        parts.push(Part {
            start,
            end: start + letter.len_utf8(),
            previous: place.checked_sub(1),
            next: Some(place + 1),
            is_gone: false,
        });
    }
    if let Some(last) = parts.last_mut() {
        last.next = None;
    }
    // Rank, left part, and the ends that both had when they were looked at.
    let mut pairs = BinaryHeap::new();
    let pair = |parts: &[Part], left: usize| {
        let one = parts.get(left)?;
        let other = parts.get(one.next?)?;
        let rank = rank(
            text.get(one.start..one.end)?,
            text.get(other.start..other.end)?,
        )?;
        Some(Reverse((rank, left, one.end, other.end)))
    };
    pairs.extend((0..parts.len()).filter_map(|left| pair(&parts, left)));
    while let Some(Reverse((_, left, middle, end))) = pairs.pop() {
        let Some(next) = still_there(&parts, left, middle, end) else {
            continue;
        };
        let after = parts.get_mut(next).and_then(|other| {
            other.is_gone = true;
            other.next
        });
        if let Some(one) = parts.get_mut(left) {
            one.end = end;
            one.next = after;
        }
        if let Some(after) = after.and_then(|after| parts.get_mut(after)) {
            after.previous = Some(left);
        }
        let before = parts.get(left).and_then(|one| one.previous);
        pairs.extend(pair(&parts, left));
        pairs.extend(before.and_then(|before| pair(&parts, before)));
    }
    parts
        .into_iter()
        .filter(|part| !part.is_gone)
        .filter_map(|part| text.get(part.start..part.end))
}

/// The right part of a pair, if both are as they were when the pair was found.
fn still_there(parts: &[Part], left: usize, middle: usize, end: usize) -> Option<usize> {
    let one = parts.get(left).filter(|one| !one.is_gone)?;
    let other = parts.get(one.next?)?;
    (one.end == middle && other.end == end).then_some(one.next?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str, order: &[&str]) -> Vec<String> {
        let rank = |left: &str, right: &str| {
            let whole = [left, right].concat();
            order.iter().position(|known| *known == whole)
        };
        merged(text, rank).map(str::to_owned).collect()
    }

    #[test]
    fn the_best_pair_is_merged_first() {
        assert_eq!(parts("abc", &["bc", "ab", "abc"]), ["abc"]);
        assert_eq!(parts("abc", &["ab", "bc"]), ["ab", "c"]);
        assert_eq!(parts("aaaa", &["aa"]), ["aa", "aa"]);
        assert_eq!(parts("aaa", &["aa"]), ["aa", "a"]);
        assert_eq!(parts("", &["aa"]), [""; 0]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "[abä]{0,40}", order in proptest::collection::vec("[abä]{2,4}", 0..12)) {
            let order: Vec<&str> = order.iter().map(String::as_str).collect();
            let parts = parts(&text, &order);
            prop_assert_eq!(parts.concat(), text);
            for part in parts {
                prop_assert!(part.chars().count() == 1 || order.contains(&part.as_str()));
            }
        }
    }
}
