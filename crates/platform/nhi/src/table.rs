//! One table of values by the hash of their keys, each in a slot with its key: one line of
//! memory leads to most of them, where tags beside the slots would take another one before.
//!
//! Slots are tried from that of the hash on. Whoever is further from its own takes the slot
//! of who is nearer (Celis's Robin Hood), so that all are about as far. The order of slots is
//! that of hashes, so that a table that grows by a part is moved from its first slot to its
//! last. Nothing is ever removed.

use std::mem::{replace, swap};

/// See the module's documentation.
pub(crate) struct Table<K, V> {
    slots: Vec<Option<Slot<K, V>>>,
    len: usize,
}

/// So that none of half a line or of a whole one lies in two.
#[repr(align(32))]
struct Slot<K, V> {
    key: K,
    value: V,
    hash: u32,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Eq, V> Table<K, V> {
    #[cfg(test)]
    pub(crate) const SLOT: usize = size_of::<Option<Slot<K, V>>>();

    /// The slot of a hash, of so many: their order is that of hashes.
    fn home(&self, hash: u32) -> usize {
        let scaled = (u64::from(hash) * self.slots.len() as u64) >> u32::BITS;
        usize::try_from(scaled).unwrap_or_default()
    }

    fn next(&self, at: usize) -> usize {
        let next = at + 1;
        if next == self.slots.len() { 0 } else { next }
    }

    /// How far a slot is from that of a hash.
    fn distance(&self, hash: u32, at: usize) -> usize {
        let home = self.home(hash);
        let around = if at < home { self.slots.len() } else { 0 };
        at + around - home
    }

    fn find(&self, hash: u32, key: &K, ask: impl Fn(&V)) -> Option<usize> {
        let (mut at, mut distance) = (self.home(hash), 0);
        loop {
            let slot = self.slots.get(at)?.as_ref()?;
            if slot.hash == hash {
                ask(&slot.value);
                if slot.key == *key {
                    return Some(at);
                }
            } else if self.distance(slot.hash, at) < distance {
                return None;
            }
            (at, distance) = (self.next(at), distance + 1);
        }
    }

    /// The value of a key. What is asked for of a value is asked for before its key is
    /// compared.
    pub(crate) fn get(&self, hash: u32, key: &K, ask: impl Fn(&V)) -> Option<&V> {
        let at = self.find(hash, key, ask)?;
        Some(&self.slots.get(at)?.as_ref()?.value)
    }

    pub(crate) fn get_mut(&mut self, hash: u32, key: &K) -> Option<&mut V> {
        let at = self.find(hash, key, |_| ())?;
        Some(&mut self.slots.get_mut(at)?.as_mut()?.value)
    }

    /// Adds one, or puts it in the place of the one of this key.
    pub(crate) fn insert(&mut self, hash: u32, key: K, value: V) {
        if let Some(known) = self.get_mut(hash, &key) {
            *known = value;
            return;
        }
        self.len += 1;
        // At least a quarter of all slots stays free.
        if self.len * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.put(Slot { key, value, hash });
    }

    /// A third more than there are is the least; these are two thirds more, so that each
    /// value is moved some four times.
    fn grow(&mut self) {
        let slots = self.len * 5 / 3 + 2;
        let empty = std::iter::repeat_with(|| None).take(slots);
        let before = replace(&mut self.slots, empty.collect());
        before.into_iter().flatten().for_each(|slot| self.put(slot));
    }

    /// A key that is not there, into a table that has a free slot.
    fn put(&mut self, mut slot: Slot<K, V>) {
        let (mut at, mut distance) = (self.home(slot.hash), 0);
        loop {
            let nearer = match self.slots.get(at).and_then(Option::as_ref) {
                None => break,
                Some(other) => self.distance(other.hash, at),
            };
            if nearer < distance
                && let Some(other) = self.slots.get_mut(at).and_then(Option::as_mut)
            {
                swap(other, &mut slot);
                distance = nearer;
            }
            (at, distance) = (self.next(at), distance + 1);
        }
        if let Some(free) = self.slots.get_mut(at) {
            *free = Some(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is a map, whatever hashes its keys have: none, few or all alike, and at the
        /// last slot too.
        #[test]
        fn it_finds_what_a_map_would(
            keys in proptest::collection::vec(0_u32..400, 0..400),
            step in prop::sample::select(vec![0, 1, 1 << 20, 1 << 31, u32::MAX / 400, u32::MAX]),
            from in prop::sample::select(vec![0, u32::MAX - 3]),
        ) {
            let hash = |key: u32| from.wrapping_add(key.wrapping_mul(step));
            let (mut table, mut map) = (Table::default(), HashMap::new());
            for (turn, key) in keys.iter().enumerate() {
                table.insert(hash(*key), *key, turn);
                map.insert(*key, turn);
                prop_assert!(table.len * 4 <= table.slots.len() * 3);
            }
            prop_assert_eq!(table.len, map.len());
            for key in 0..400 {
                prop_assert_eq!(table.get(hash(key), &key, |_| ()), map.get(&key));
                let found = table.get_mut(hash(key), &key).copied();
                prop_assert_eq!(found, map.get(&key).copied());
            }
        }
    }

    /// With as few slots free as there ever are, a value is some slots from its own.
    #[test]
    fn none_is_far_from_its_slot() {
        let mut table = Table::default();
        for key in 0..20_000_u32 {
            table.insert(key.wrapping_mul(0x9e37_79b1).rotate_left(7), key, ());
        }
        let slots = table.slots.iter().enumerate();
        let far = slots.filter_map(|(at, slot)| Some(table.distance(slot.as_ref()?.hash, at)));
        let furthest = far.max();
        assert!(furthest < Some(40), "{furthest:?}");
    }
}
