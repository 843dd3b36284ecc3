//! A map that notes what was changed in it.
//!
//! A peer with many links does something on one or two of them at an input. Whatever follows from the state of links, their
//! timers and who has something to say, is found again for those that were touched and not for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// A [`BTreeMap`] that is read as one; every way to change a value notes its key until [`TouchedMap::take_touched`].
#[derive(Debug)]
pub(crate) struct TouchedMap<K, V> {
    map: BTreeMap<K, V>,
    touched: BTreeSet<K>,
}

impl<K, V> Default for TouchedMap<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), touched: BTreeSet::new() }
    }
}

impl<K: Ord + Copy, V> TouchedMap<K, V> {
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.map.get_mut(key)?;
        self.touched.insert(*key);
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.touched.insert(key);
        self.map.insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.map.remove(key)?;
        self.touched.insert(*key);
        Some(value)
    }

    /// Touches those only that are handed out.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let touched = &mut self.touched;
        self.map.iter_mut().inspect(move |(key, _)| _ = touched.insert(**key))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// Everything, which is then gone from here.
    pub(crate) fn take(&mut self) -> BTreeMap<K, V> {
        self.touched.extend(self.map.keys());
        std::mem::take(&mut self.map)
    }

    /// Keys of what was changed, put in or removed since this was last asked.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<K> {
        std::mem::take(&mut self.touched)
    }
}

impl<K, V> Deref for TouchedMap<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_change_a_value_notes_its_key_and_reading_does_not() {
        let mut map = TouchedMap::default();
        (0..4).for_each(|key| _ = map.insert(key, 0));
        assert_eq!(map.take_touched(), BTreeSet::from([0, 1, 2, 3]));

        assert_eq!((map.get(&1), map.len(), map.values().count()), (Some(&0), 4, 4));
        assert!(map.get_mut(&9).is_none() && map.remove(&9).is_none());
        assert!(map.take_touched().is_empty());

        *map.get_mut(&1).unwrap() = 7;
        assert_eq!(map.take_touched(), BTreeSet::from([1]));
        assert_eq!(map.remove(&1), Some(7));
        assert_eq!(map.take_touched(), BTreeSet::from([1]));
        map.values_mut().for_each(|value| *value += 1);
        assert_eq!(map.take_touched(), BTreeSet::from([0, 2, 3]));
        assert_eq!(map.iter_mut().next(), Some((&0, &mut 1)));
        assert_eq!(map.take_touched(), BTreeSet::from([0]));
        assert_eq!(map.take().len(), 3);
        assert_eq!(map.take_touched(), BTreeSet::from([0, 2, 3]));
    }
}
