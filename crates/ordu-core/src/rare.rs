//! Values that are mostly empty: what waits in large numbers holds a pointer for each of them.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is mostly empty, and takes the place of a pointer as long as it is.
///
/// It reads, compares and is stored like the value itself.
#[derive(Debug, Clone, Default)]
pub struct Rare<T>(Option<Box<T>>);

/// What can be empty, and how it looks then.
pub trait Empty: Default + PartialEq + 'static {
    /// The empty value, the same as the default.
    const EMPTY: &'static Self;
}

impl<T: PartialEq + 'static> Empty for Vec<T> {
    const EMPTY: &'static Self = &Self::new();
}

impl<T: PartialEq + 'static> Empty for Option<T> {
    const EMPTY: &'static Self = &None;
}

/// Reads a list that takes no more room than it needs.
pub(crate) fn exact<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}

impl<T: Empty + Clone> Rare<T> {
    /// A copy of the value.
    pub fn value(&self) -> T {
        T::clone(self)
    }
}

impl<T: Empty> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        let is_empty = value == *T::EMPTY;
        Self((!is_empty).then(|| Box::new(value)))
    }
}

impl<T: Empty> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}

impl<T: Empty> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: PartialEq + 'static> FromIterator<T> for Rare<Vec<T>> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::from(Vec::from_iter(items))
    }
}

impl<'a, T: PartialEq + 'static> IntoIterator for &'a Rare<Vec<T>> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Empty> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Empty + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(self, serializer)
    }
}

impl<'de, T: Empty + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_like_the_value_that_it_holds() {
        let mut words: Rare<Vec<u32>> = Rare::default();
        assert_eq!(serde_json::to_string(&words).unwrap(), "[]");
        assert!(words.is_empty());
        words.push(1);
        assert_eq!(words, Rare::from(vec![1]));
        assert_eq!(serde_json::to_string(&words).unwrap(), "[1]");
        assert_eq!(
            serde_json::from_str::<Rare<Vec<u32>>>("[1]").unwrap(),
            words
        );
        words.clear();
        assert_eq!(words, Rare::from(Vec::new()), "however it became empty");
        let none: Rare<Option<u32>> = serde_json::from_str("null").unwrap();
        assert_eq!(none.value(), None);
    }

    #[test]
    fn what_is_empty_takes_the_place_of_a_pointer() {
        assert_eq!(size_of::<Rare<Option<String>>>(), size_of::<usize>());
        assert!(Rare::from(None::<String>).0.is_none());
        let read: Rare<Vec<u32>> = serde_json::from_str("[]").unwrap();
        assert!(read.0.is_none());
    }
}
