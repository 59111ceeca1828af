//! Which models to follow: those that are asked for most, as far as this machine is fast with them. Pure.
//!
//! # Source
//! `worker.md` § 1.21 (`dynamic_models`) and § 7, with a threshold so that models do not come and go.

use std::collections::BTreeMap;

/// What a model that is followed counts more than one that is not.
const LOYALTY: f64 = 1.5;

/// A model that could be offered.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its name in the horde.
    pub name: String,
    /// Work that waits for it, in megapixelsteps.
    pub queued: f64,
    /// Whether its files are here.
    pub is_here: bool,
    /// Whether it is followed now.
    pub is_followed: bool,
}

/// How many may be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// At the same time.
    pub most: usize,
    /// Of these, how many whose files are not here.
    pub fetches: usize,
}

/// The models to follow from now on, the most wanted first. `speeds` are seconds per megapixelstep, as
/// measured; a model that was never drawn with counts as fast as those that were, on average.
pub fn follow(candidates: &[Candidate], speeds: &BTreeMap<String, f64>, room: Room) -> Vec<String> {
    let is_useful = |candidate: &&Candidate| {
        candidate.is_followed || (candidate.queued.is_finite() && candidate.queued > 0.0)
    };
    let mut ranked: Vec<_> = candidates
        .iter()
        .filter(is_useful)
        .map(|candidate| (worth(candidate, speeds), candidate))
        .collect();
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.name.cmp(&y.name)));
    let mut fetches = room.fetches;
    let mut followed: Vec<String> = Vec::new();
    for (_, candidate) in ranked {
        if followed.len() >= room.most || followed.contains(&candidate.name) {
            continue;
        }
        if !candidate.is_here {
            let Some(left) = fetches.checked_sub(1) else {
                continue;
            };
            fetches = left;
        }
        followed.push(candidate.name.clone());
    }
    followed
}

/// Seconds of the queue's work that this machine would take off others, with a bonus for what it serves
/// already.
fn worth(candidate: &Candidate, speeds: &BTreeMap<String, f64>) -> f64 {
    let measured = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
    let known: Vec<f64> = speeds.values().copied().filter(measured).collect();
    let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
    let usual = if known.is_empty() {
        1.0
    } else {
        known.iter().sum::<f64>() / f64::from(count)
    };
    let own = speeds.get(&candidate.name).copied().filter(measured);
    let queued = if candidate.queued.is_finite() {
        candidate.queued.max(0.0)
    } else {
        0.0
    };
    let loyalty = if candidate.is_followed { LOYALTY } else { 1.0 };
    queued / own.unwrap_or(usual) * loyalty
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(name: &str, queued: f64) -> Candidate {
        Candidate {
            name: name.to_owned(),
            queued,
            is_here: true,
            is_followed: false,
        }
    }

    const TWO: Room = Room {
        most: 2,
        fetches: 1,
    };

    #[test]
    fn the_longest_queues_are_followed_by_how_fast_they_go() {
        let known = [
            waits("a", 10.0),
            waits("b", 30.0),
            waits("c", 20.0),
            waits("d", 0.0),
        ];
        let with = |speeds: &[(&str, f64)]| {
            let speeds = speeds
                .iter()
                .map(|(name, rate)| ((*name).to_owned(), *rate));
            follow(&known, &speeds.collect(), TWO)
        };
        assert_eq!(with(&[]), ["b", "c"]);
        assert_eq!(
            with(&[("b", 4.0), ("a", 0.5)]),
            ["a", "c"],
            "b is slow here"
        );
        assert_eq!(with(&[("b", f64::NAN), ("a", 0.0)]), ["b", "c"]);
    }

    #[test]
    fn nothing_is_fetched_beyond_what_is_allowed() {
        let absent = |name, queued| Candidate {
            is_here: false,
            ..waits(name, queued)
        };
        let known = [absent("a", 9.0), absent("b", 8.0), waits("c", 1.0)];
        assert_eq!(follow(&known, &BTreeMap::new(), TWO), ["a", "c"]);
        let none = Room { fetches: 0, ..TWO };
        assert_eq!(follow(&known, &BTreeMap::new(), none), ["c"]);
    }

    #[test]
    fn a_model_that_is_followed_goes_only_for_a_much_longer_queue() {
        let mut known = [waits("old", 10.0), waits("new", 14.0)];
        known[0].is_followed = true;
        let one = Room { most: 1, ..TWO };
        assert_eq!(follow(&known, &BTreeMap::new(), one), ["old"]);
        known[1].queued = 16.0;
        assert_eq!(follow(&known, &BTreeMap::new(), one), ["new"]);
        known[1].queued = 0.0;
        known[0].queued = 0.0;
        assert_eq!(
            follow(&known, &BTreeMap::new(), one),
            ["old"],
            "no reason to change"
        );
    }

    fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let any = (0..9_u8, -1.0..1e6_f64, any::<bool>(), any::<bool>());
        let any = any.prop_map(|(name, queued, is_here, is_followed)| Candidate {
            name: name.to_string(),
            queued,
            is_here,
            is_followed,
        });
        proptest::collection::vec(any, 0..12).prop_map(|mut all| {
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all.dedup_by(|a, b| a.name == b.name);
            all
        })
    }

    proptest! {
        /// Never too many, none twice, none fetched beyond the limit; and who looks again at the same
        /// horde changes nothing.
        #[test]
        fn a_choice_keeps_its_limits_and_is_stable(
            candidates in any_candidates(),
            speeds in proptest::collection::btree_map("[0-9]", 0.001..1e3_f64, 0..9),
            most in 0..6_usize,
            fetches in 0..4_usize,
        ) {
            let room = Room { most, fetches };
            let chosen = follow(&candidates, &speeds, room);
            prop_assert!(chosen.len() <= most);
            let of = |name: &String| candidates.iter().find(|known| known.name == *name).unwrap();
            prop_assert!(chosen.iter().filter(|name| !of(name).is_here).count() <= fetches);
            let mut again = candidates.clone();
            for candidate in &mut again {
                candidate.is_followed = chosen.contains(&candidate.name);
            }
            let mut after = follow(&again, &speeds, room);
            let mut before = chosen.clone();
            before.sort();
            before.dedup();
            prop_assert_eq!(before.len(), chosen.len());
            after.sort();
            prop_assert_eq!(before, after);
        }

        /// Nobody is left out for a model that is no nearer and much less wanted.
        #[test]
        fn who_is_left_out_is_wanted_less(candidates in any_candidates(), most in 1..6_usize) {
            let room = Room { most, fetches: candidates.len() };
            let chosen = follow(&candidates, &BTreeMap::new(), room);
            let (inside, outside): (Vec<_>, Vec<_>) = candidates
                .iter()
                .partition(|candidate| chosen.contains(&candidate.name));
            let least = inside.iter().map(|known| known.queued).fold(f64::MAX, f64::min);
            for candidate in outside.iter().filter(|known| known.queued > 0.0) {
                prop_assert!(chosen.len() == most);
                prop_assert!(candidate.queued <= least * LOYALTY);
            }
        }
    }
}
