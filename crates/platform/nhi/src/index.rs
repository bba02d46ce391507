//! What there may be a million of: found by its key at once, and listed in order.
//!
//! A tree of names costs a comparison with a text elsewhere in memory at every step, which
//! no cache holds once there are many. So everything is found by a hash, and an order of
//! keys alone serves lists.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::ops::Bound;

use creto_types::PrincipalName;
use smallvec::SmallVec;

use crate::LinkId;
use crate::registry::PrincipalEntry;

/// A table that grows moves all it has, while everybody waits for the registry. Of so many
/// tables, each has a small part of all.
const TABLES: usize = 64;

/// A map by hash with an order of its keys. The hashes are under secrets of the process
/// (`SipHash`): whoever chooses names does not choose what collides.
pub(crate) struct Index<K, V> {
    tables: Vec<HashMap<K, V>>,
    /// Tells the table. Under a secret of its own: in a table the hash would be alike.
    places: RandomState,
    order: BTreeSet<K>,
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self {
            tables: std::iter::repeat_with(HashMap::default)
                .take(TABLES)
                .collect(),
            places: RandomState::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord, V> Index<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.tables.get(self.place(key))?.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key);
        self.tables.get_mut(place)?.get_mut(key)
    }

    /// Adds one, or puts it in the place of the one of this key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let place = self.place(&key);
        let table = self.tables.get_mut(place);
        self.order.insert(key.clone());
        table
            .expect("a place is less than the number of tables")
            .insert(key, value);
    }

    /// Those of keys greater than this one, or all, by key.
    pub(crate) fn after<'a>(&'a self, after: Option<&'a K>) -> impl Iterator<Item = &'a V> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.order.range((from, Bound::Unbounded));
        keys.filter_map(|key| self.get(key))
    }

    fn place(&self, key: &K) -> usize {
        let hash = self.places.hash_one(key);
        usize::try_from(hash % TABLES as u64).unwrap_or_default()
    }
}

/// Everybody in an organization, each with the links that it was given.
#[derive(Default)]
pub(crate) struct Principals(Index<PrincipalName, Place>);

struct Place {
    entry: PrincipalEntry,
    /// Oldest first. Most hold one, which then lies here and nowhere else.
    held: SmallVec<[LinkId; 1]>,
}

impl Principals {
    pub(crate) fn get(&self, name: &PrincipalName) -> Option<&PrincipalEntry> {
        self.0.get(name).map(|place| &place.entry)
    }

    pub(crate) fn get_mut(&mut self, name: &PrincipalName) -> Option<&mut PrincipalEntry> {
        self.0.get_mut(name).map(|place| &mut place.entry)
    }

    pub(crate) fn contains_key(&self, name: &PrincipalName) -> bool {
        self.0.get(name).is_some()
    }

    pub(crate) fn insert(&mut self, name: PrincipalName, entry: PrincipalEntry) {
        let held = SmallVec::new();
        self.0.insert(name, Place { entry, held });
    }

    /// Those of names greater than this one, or all, by name.
    pub(crate) fn after<'a>(
        &'a self,
        after: Option<&'a PrincipalName>,
    ) -> impl Iterator<Item = &'a PrincipalEntry> {
        self.0.after(after).map(|place| &place.entry)
    }

    /// Tells that somebody was given a link. `None` when there is no such principal.
    pub(crate) fn give(&mut self, holder: &PrincipalName, link: LinkId) -> Option<()> {
        let held = &mut self.0.get_mut(holder)?.held;
        let at = held.partition_point(|known| *known < link);
        held.insert(at, link);
        Some(())
    }

    /// The links that somebody was given, oldest first.
    pub(crate) fn held(&self, holder: &PrincipalName) -> &[LinkId] {
        self.0.get(holder).map_or(&[], |place| &place.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is a map, and its lists are in order and complete.
        #[test]
        fn it_finds_and_lists_what_a_tree_would(
            keys in proptest::collection::vec(0_u16..512, 0..300),
            after in proptest::option::of(0_u16..512),
        ) {
            let mut index = Index::default();
            let mut tree = std::collections::BTreeMap::new();
            for (turn, key) in keys.iter().enumerate() {
                index.insert(*key, turn);
                tree.insert(*key, turn);
            }
            for key in 0..512 {
                prop_assert_eq!(index.get(&key), tree.get(&key));
            }
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let listed: Vec<_> = index.after(after.as_ref()).collect();
            let expected: Vec<_> = tree.range((from, Bound::Unbounded)).map(|(_, v)| v).collect();
            prop_assert_eq!(listed, expected);
        }
    }
}
