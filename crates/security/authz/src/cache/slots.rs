//! A fixed number of cache lines that any thread reads without a lock.
//!
//! Each slot is a sequence lock: its first word counts changes, odd while one is
//! under way. Whoever reads a slot reads the count before and after and takes the
//! slot for empty when it moved. All words are atomic, so a torn read is a value
//! that is thrown away, never undefined. Whoever writes claims the slot by one
//! compare-and-exchange and gives up when another is there: what is not cached is
//! evaluated again.
//!
//! A slot matches only when every word of its key does, so two keys with one hash
//! are two keys. Nothing is allocated after the start: more keys than slots push
//! each other out, and an attacker who chooses keys can only do that.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use creto_types::Line;

use super::room::room;

/// Slots that one hash may use. With a quarter of all slots taken, four keys in a
/// thousand find theirs full.
const WAYS: usize = 4;

/// An atomic word; the checker of interleavings has its own.
pub(crate) trait Word: Sync {
    /// Zero.
    fn zero() -> Self;
    /// See [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;
    /// See [`AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);
    /// Whether `old` was replaced by `new`, with acquire ordering.
    fn replace(&self, old: u64, new: u64) -> bool;
    /// See [`std::sync::atomic::fence`].
    fn fence(order: Ordering);
}

impl Word for AtomicU64 {
    fn zero() -> Self {
        Self::new(0)
    }

    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        self.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

/// `WORDS` words: the state (changes in the upper half, epoch in the lower), the
/// head (part of the key in the upper half, the value in the lower), and the rest
/// of the key.
#[repr(align(64))]
struct Slot<const WORDS: usize, W>([W; WORDS]);

/// A key of `WORDS` words, of which the first and the lower half of the second are
/// zero: there a slot keeps its state and its value.
pub(crate) type Key<const WORDS: usize> = [u64; WORDS];

/// The lower half of a word.
const LOW: u64 = 0xffff_ffff;
/// One change begun or ended.
const STEP: u64 = 1 << 32;

const fn low(word: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    {
        word as u32
    }
}

const fn changing(state: u64) -> bool {
    state & STEP != 0
}

impl<const WORDS: usize, W: Word> Slot<WORDS, W> {
    fn state(&self, order: Ordering) -> u64 {
        self.0.first().map_or(0, |state| state.load(order))
    }

    /// Whether all words hold this key. Reads each word once and gives the head.
    fn head_of(&self, key: &Key<WORDS>) -> Option<u64> {
        let ([_, head, rest @ ..], [_, wanted, others @ ..]) = (&self.0[..], &key[..]) else {
            return None;
        };
        let head = head.load(Ordering::Relaxed);
        let differing = rest
            .iter()
            .zip(others)
            .fold((head ^ wanted) & !LOW, |bits, (word, other)| {
                bits | (word.load(Ordering::Relaxed) ^ other)
            });
        (differing == 0).then_some(head)
    }

    fn get(&self, epoch: u32, key: &Key<WORDS>) -> Option<u32> {
        let before = self.state(Ordering::Acquire);
        if low(before) != epoch || changing(before) {
            return None;
        }
        let head = self.head_of(key)?;
        // The words above are read before the state is read again.
        W::fence(Ordering::Acquire);
        (self.state(Ordering::Relaxed) == before).then_some(low(head))
    }

    fn put(&self, epoch: u32, key: &Key<WORDS>, value: u32) {
        let [state, head, rest @ ..] = &self.0[..] else {
            return;
        };
        let [_, wanted, others @ ..] = &key[..] else {
            return;
        };
        let before = state.load(Ordering::Relaxed);
        let claimed = before.wrapping_add(STEP);
        if changing(before) || !state.replace(before, claimed) {
            return;
        }
        // Whoever reads a word written below also sees the claim above.
        W::fence(Ordering::Release);
        head.store(wanted & !LOW | u64::from(value), Ordering::Relaxed);
        for (word, other) in rest.iter().zip(others) {
            word.store(*other, Ordering::Relaxed);
        }
        let done = claimed.wrapping_add(STEP) & !LOW | u64::from(epoch);
        state.store(done, Ordering::Release);
    }
}

/// Slots in groups of [`WAYS`].
pub(crate) struct Slots<const WORDS: usize, W = AtomicU64> {
    groups: Box<[[Slot<WORDS, W>; WAYS]]>,
}

impl<const WORDS: usize, W: Word> Slots<WORDS, W> {
    /// Room for about `slots`, rounded up to a power of two.
    pub(crate) fn new(slots: usize) -> Self {
        let groups = slots.div_ceil(WAYS).next_power_of_two();
        let slot = || Slot(std::array::from_fn(|_| W::zero()));
        Self {
            groups: room(groups, || std::array::from_fn(|_| slot())),
        }
    }

    /// The slots that a hash may use, that where it is found most often first: with another
    /// first slot for each hash, since caches would keep a quarter of slots that are all the
    /// first of their group.
    #[inline]
    fn slots(&self, hash: u64) -> impl Iterator<Item = &Slot<WORDS, W>> + Clone {
        let mask = self.groups.len().wrapping_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "some of its bits are meant"
        )]
        let (group, first) = (hash as usize & mask, (hash >> 62) as usize);
        let group = self.groups.get(group);
        (0..WAYS).filter_map(move |way| group?.get((first + way) % WAYS))
    }

    /// Asks memory for the slot where this hash is found most often.
    #[inline]
    pub(crate) fn ask_memory(&self, hash: u64) {
        if let Some(first) = self.slots(hash).next() {
            Line::of(first).ask();
        }
    }

    /// The value that was put under this key in this epoch, if it is still there.
    pub(crate) fn get(&self, hash: u64, epoch: u32, key: &Key<WORDS>) -> Option<u32> {
        self.slots(hash).find_map(|slot| slot.get(epoch, key))
    }

    /// Remembers a value. It takes the slot of the same key, else one of another
    /// epoch, else one that the hash picks. Epochs are counted from one.
    pub(crate) fn put(&self, hash: u64, epoch: u32, key: &Key<WORDS>, value: u32) {
        let mut slots = self.slots(hash);
        let same = slots.clone().find(|slot| slot.head_of(key).is_some());
        let stale = || {
            slots
                .clone()
                .find(|slot| low(slot.state(Ordering::Relaxed)) != epoch)
        };
        if let Some(slot) = same.or_else(stale).or_else(|| slots.next()) {
            slot.put(epoch, key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Word for loom::sync::atomic::AtomicU64 {
        fn zero() -> Self {
            Self::new(0)
        }

        fn load(&self, order: Ordering) -> u64 {
            self.load(order)
        }

        fn store(&self, value: u64, order: Ordering) {
            self.store(value, order);
        }

        fn replace(&self, old: u64, new: u64) -> bool {
            self.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        }

        fn fence(order: Ordering) {
            loom::sync::atomic::fence(order);
        }
    }

    type Loom = loom::sync::atomic::AtomicU64;

    /// Two writers of different keys and a reader share one slot: in every
    /// interleaving, weak ones included, a hit has the value of its own key.
    #[test]
    fn a_torn_slot_is_never_a_hit() {
        let mut checker = loom::model::Builder::new();
        // Every interleaving with at most this many forced switches of threads.
        checker.preemption_bound = Some(2);
        checker.check(|| {
            let slot: loom::sync::Arc<Slot<3, Loom>> =
                loom::sync::Arc::new(Slot(std::array::from_fn(|_| Loom::zero())));
            let (one, two) = ([0, 1 << 32, 10], [0, 2 << 32, 20]);
            slot.put(1, &one, 100);
            let writer = {
                let slot = loom::sync::Arc::clone(&slot);
                loom::thread::spawn(move || slot.put(1, &two, 200))
            };
            let other = {
                let slot = loom::sync::Arc::clone(&slot);
                loom::thread::spawn(move || slot.put(2, &one, 300))
            };
            assert!(matches!(slot.get(1, &one), None | Some(100)));
            assert!(matches!(slot.get(1, &two), None | Some(200)));
            assert!(matches!(slot.get(2, &one), None | Some(300)));
            writer.join().unwrap();
            other.join().unwrap();
        });
    }

    #[test]
    fn a_key_is_found_only_whole_and_in_its_epoch() {
        let slots = Slots::<4>::new(64);
        let key = [0, 5 << 32, 7, 8];
        slots.put(3, 1, &key, 42);
        assert_eq!(slots.get(3, 1, &key), Some(42));
        assert_eq!(slots.get(3, 2, &key), None);
        assert_eq!(slots.get(3, 1, &[0, 6 << 32, 7, 8]), None);
        assert_eq!(slots.get(3, 1, &[0, 5 << 32, 7, 9]), None);
        slots.put(3, 1, &key, 43);
        assert_eq!(slots.get(3, 1, &key), Some(43));
    }

    #[test]
    fn one_hash_for_all_keys_only_pushes_out() {
        let slots = Slots::<3>::new(1 << 10);
        for word in 0..1_000_u64 {
            let key = [0, 1 << 32, word];
            slots.put(word << 60, 1, &key, low(word));
            assert_eq!(slots.get(word << 60, 1, &key), Some(low(word)));
        }
        let kept = (0..1_000_u64)
            .filter(|word| slots.get(0, 1, &[0, 1 << 32, *word]).is_some())
            .count();
        assert_eq!(kept, WAYS);
    }

    /// Slots of another epoch are taken before one in force is pushed out.
    #[test]
    fn old_epochs_go_first() {
        let slots = Slots::<3>::new(WAYS);
        for word in 0..4 {
            slots.put(0, 1, &[0, 0, word], 1);
        }
        for word in 0..4 {
            slots.put(0, 2, &[0, 0, 10 + word], 2);
        }
        for word in 0..4 {
            assert_eq!(slots.get(0, 2, &[0, 0, 10 + word]), Some(2));
        }
    }
}
