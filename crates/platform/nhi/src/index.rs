//! What there may be a million of: found by its key at once, and listed in order.
//!
//! A tree of names costs a comparison with a text elsewhere in memory at every step, which
//! no cache holds once there are many. So everything is found by a hash, and an order of
//! keys alone serves lists.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::ops::Bound;

use creto_types::{Line, PrincipalName};

use crate::registry::PrincipalEntry;
use crate::table::Table;
use crate::{LinkId, LinkView};

/// A table that grows moves all it has, while everybody waits for the registry. Of so many
/// tables, each has a small part of all.
const TABLES: usize = 64;

/// A map by hash with an order of its keys. The hash is under a secret of the process
/// (`SipHash`): whoever chooses names does not choose what collides.
pub(crate) struct Index<K, V> {
    tables: Vec<Table<K, V>>,
    hashing: RandomState,
    order: BTreeSet<K>,
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self {
            tables: std::iter::repeat_with(Table::default)
                .take(TABLES)
                .collect(),
            hashing: RandomState::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord, V> Index<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.get_asking(key, |_| ())
    }

    /// The same, that asks memory for what will be read of it before the key is compared:
    /// a key may be a text elsewhere.
    fn get_asking(&self, key: &K, ask: impl Fn(&V)) -> Option<&V> {
        let (place, hash) = self.place(key);
        self.tables.get(place)?.get(hash, key, ask)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (place, hash) = self.place(key);
        self.tables.get_mut(place)?.get_mut(hash, key)
    }

    /// Adds one, or puts it in the place of the one of this key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let (place, hash) = self.place(&key);
        let table = self.tables.get_mut(place);
        self.order.insert(key.clone());
        table
            .expect("a place is less than the number of tables")
            .insert(hash, key, value);
    }

    /// Those of keys greater than this one, or all, by key.
    pub(crate) fn after<'a>(&'a self, after: Option<&'a K>) -> impl Iterator<Item = &'a V> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.order.range((from, Bound::Unbounded));
        keys.filter_map(|key| self.get(key))
    }

    /// Which table, and where in it.
    fn place(&self, key: &K) -> (usize, u32) {
        let hash = self.hashing.hash_one(key);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "some of its bits are meant, for each its own"
        )]
        let (place, hash) = ((hash >> 32) as usize % TABLES, hash as u32);
        (place, hash)
    }
}

/// Everybody in an organization, each with the links that it was given.
#[derive(Default)]
pub(crate) struct Principals(Index<PrincipalName, Place>);

/// With its key and hash it is one line of memory, and leads to all that is asked for most.
struct Place {
    entry: PrincipalEntry,
    held: Held,
}

/// Links by their ids. Most hold one, which is then one step away.
#[derive(Default)]
struct Held {
    newest: Option<LinkView>,
    older: Option<Box<Older>>,
}

/// Oldest first.
struct Older(Vec<LinkView>);

fn id(link: &LinkView) -> LinkId {
    link.signed.link.id
}

impl Held {
    fn add(&mut self, link: LinkView) {
        let older = match self.newest.take() {
            Some(newest) if id(&newest) > id(&link) => {
                self.newest = Some(newest);
                link
            }
            before => {
                self.newest = Some(link);
                let Some(before) = before else { return };
                before
            }
        };
        let held = &mut self.older.get_or_insert_with(|| Older(Vec::new()).into()).0;
        let at = held.partition_point(|known| id(known) < id(&older));
        held.insert(at, older);
    }

    /// Newest first.
    fn iter(&self) -> impl Iterator<Item = &LinkView> {
        let older = self.older.iter().flat_map(|older| older.0.iter().rev());
        self.newest.iter().chain(older)
    }
}

impl Place {
    /// Whoever looks for an agent looks at what it holds next.
    fn ask_memory(&self) {
        Line::of(&*self.entry.principal).ask();
        if let Some(newest) = &self.held.newest {
            newest.ask_memory();
        }
    }
}

impl Principals {
    pub(crate) fn get(&self, name: &PrincipalName) -> Option<&PrincipalEntry> {
        Some(&self.place(name)?.entry)
    }

    fn place(&self, name: &PrincipalName) -> Option<&Place> {
        self.0.get_asking(name, Place::ask_memory)
    }

    pub(crate) fn get_mut(&mut self, name: &PrincipalName) -> Option<&mut PrincipalEntry> {
        self.0.get_mut(name).map(|place| &mut place.entry)
    }

    pub(crate) fn contains_key(&self, name: &PrincipalName) -> bool {
        self.0.get(name).is_some()
    }

    pub(crate) fn insert(&mut self, name: PrincipalName, entry: PrincipalEntry) {
        let held = Held::default();
        let place = Place { entry, held };
        self.0.insert(name, place);
    }

    /// Those of names greater than this one, or all, by name.
    pub(crate) fn after<'a>(
        &'a self,
        after: Option<&'a PrincipalName>,
    ) -> impl Iterator<Item = &'a PrincipalEntry> {
        self.0.after(after).map(|place| &place.entry)
    }

    /// Tells that somebody was given a link. `None` when there is no such principal.
    pub(crate) fn give(&mut self, holder: &PrincipalName, link: LinkView) -> Option<()> {
        self.0.get_mut(holder)?.held.add(link);
        Some(())
    }

    /// The links that somebody was given, newest first.
    pub(crate) fn held(&self, holder: &PrincipalName) -> impl Iterator<Item = &LinkView> {
        let place = self.place(holder).into_iter();
        place.flat_map(|place| place.held.iter())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use creto_crypto::{Signature, SignatureAlgorithm};
    use creto_types::OrgId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::test_util::hop;
    use crate::{LinkStatus, SignedLink};

    #[test]
    fn a_principal_takes_one_line() {
        assert_eq!(Table::<PrincipalName, Place>::SLOT, 64);
    }

    /// A link that nobody signed.
    fn link(number: u128) -> LinkView {
        let id = LinkId::from_uuid(Uuid::from_u128(number));
        let org = OrgId::from_uuid(Uuid::from_u128(0));
        let hop = hop(org, id, None, "alice", "agent", Vec::new(), None);
        let signature = Signature::from_bytes(SignatureAlgorithm::Ed25519, &[0; 64]).unwrap();
        let signed = SignedLink {
            link: hop.link,
            signature,
        };
        LinkView::new(signed, LinkStatus::active())
    }

    fn distinct() -> impl Strategy<Value = Vec<u128>> {
        let numbers = proptest::collection::btree_set(0_u128..64, 0..12);
        let numbers = numbers.prop_map(|numbers| numbers.into_iter().collect::<Vec<_>>());
        numbers.prop_shuffle()
    }

    proptest! {
        /// In whatever order they came.
        #[test]
        fn links_are_held_newest_first(numbers in distinct()) {
            let mut held = Held::default();
            for number in &numbers {
                held.add(link(*number));
            }
            let mut newest_first: Vec<_> = numbers.iter().map(|number| id(&link(*number))).collect();
            newest_first.sort_by(|one, other| other.cmp(one));
            let listed: Vec<_> = held.iter().map(id).collect();
            prop_assert_eq!(listed, newest_first);
        }

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
