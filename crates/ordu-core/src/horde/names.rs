//! Small numbers for things that are compared often, such as names of models.

use std::collections::BTreeMap;

/// Gives each distinct thing a number for as long as somebody holds it. Numbers are used again.
#[derive(Debug, Clone)]
pub(super) struct Interner<T> {
    numbers: BTreeMap<T, usize>,
    /// The thing of each number, and how many hold it.
    slots: Vec<Option<(T, u64)>>,
    free: Vec<usize>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            numbers: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Ord + Clone> Interner<T> {
    /// Takes hold of a thing.
    pub(super) fn hold(&mut self, thing: &T) -> usize {
        if let Some(&number) = self.numbers.get(thing) {
            if let Some(Some((_, holders))) = self.slots.get_mut(number) {
                *holders += 1;
            }
            return number;
        }
        let slot = Some((thing.clone(), 1));
        let number = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(number) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        self.numbers.insert(thing.clone(), number);
        number
    }

    /// Lets go of a thing. Answers it if nobody holds it any more.
    pub(super) fn let_go(&mut self, number: usize) -> Option<T> {
        let slot = self.slots.get_mut(number)?;
        let (_, holders) = slot.as_mut()?;
        *holders -= 1;
        if *holders > 0 {
            return None;
        }
        let (thing, _) = slot.take()?;
        self.numbers.remove(&thing);
        self.free.push(number);
        Some(thing)
    }

    /// The thing behind a number.
    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.slots.get(number)?.as_ref().map(|(thing, _)| thing)
    }

    /// How many hold a thing.
    pub(super) fn holders(&self, number: usize) -> u64 {
        let slot = self.slots.get(number).and_then(Option::as_ref);
        slot.map_or(0, |(_, holders)| *holders)
    }

    /// How many distinct things are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// A set of small numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (number % 64);
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        let word = self.0.get(number / 64).copied().unwrap_or(0);
        word >> (number % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shared_and_used_again() {
        let mut names = Interner::default();
        let a = names.hold(&"a");
        assert_eq!(names.hold(&"a"), a);
        let b = names.hold(&"b");
        assert_ne!(a, b);
        assert_eq!(names.let_go(a), None);
        assert_eq!(names.get(a), Some(&"a"));
        assert_eq!(names.let_go(a), Some("a"));
        assert_eq!(names.get(a), None);
        assert_eq!(names.hold(&"c"), a);
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn bits_grow() {
        let mut bits = Bits::default();
        for number in [0, 63, 64, 200] {
            assert!(!bits.contains(number));
            bits.insert(number);
            assert!(bits.contains(number));
        }
        assert!(!bits.contains(1));
    }
}
