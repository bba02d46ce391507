//! The lock of one tree of delegations, whole or in parts.
//!
//! Every call below a root counts in what the root may spend, and in what the links below
//! it may. So threads that decide for one tree would wait for one another at every call.
//! Once they were seen to, the tree has parts. Each is a lock on a cache line of its own,
//! with an [`Advance`] of every counter that agents share: so much of it is set aside for
//! this part. A thread takes one part, and spends what lies there: then it writes no line
//! that another thread writes. Whoever needs the counters themselves locks the whole, which
//! is all parts.
//!
//! What is set aside counts as taken, so that the parts together never grant more than the
//! counter has; and it is called in before anything is refused, so that nothing is refused
//! while there is room. This is O'Neil's escrow (*The Escrow Transactional Method*, ACM
//! TODS 11:4, 1986) between the processors of one machine.

use std::cell::Cell as ThreadCell;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use super::cell::Locked;
use super::window::Span;

/// How often somebody waits for a tree before it gets parts.
const WAITS: u32 = 64;

/// More parts let more threads decide at once, and take longer to lock as a whole.
const FEWEST: usize = 4;
const MOST: usize = 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Taken before any part by whoever locks the whole.
    lock: Mutex<()>,
    waits: AtomicU32,
    /// Set once, under the lock.
    parts: OnceLock<Parts>,
}

/// The parts of one tree: a power of two.
#[derive(Clone, Debug)]
pub(crate) struct Parts(Arc<[Part]>);

/// A whole tree is locked.
pub(crate) struct Whole<'a> {
    tree: &'a Tree,
    parts: Vec<MutexGuard<'a, ()>>,
    _lock: MutexGuard<'a, ()>,
}

/// A lock on a line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part(Mutex<()>);

/// One part of a tree is locked.
pub(crate) struct InPart<'a> {
    pub(super) number: usize,
    _lock: MutexGuard<'a, ()>,
}

impl Locked for Whole<'_> {}

impl Tree {
    #[inline]
    pub(crate) fn lock(&self) -> Whole<'_> {
        let lock = self.lock.try_lock().unwrap_or_else(|| self.wait());
        let parts = self.parts.get().map_or_else(Vec::new, Parts::lock);
        Whole {
            tree: self,
            parts,
            _lock: lock,
        }
    }

    #[cold]
    fn wait(&self) -> MutexGuard<'_, ()> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.lock.lock()
    }

    /// Whether so many waited for it that it is to have parts, or it has them already.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.waits.load(Ordering::Relaxed) >= WAITS
    }
}

impl Parts {
    fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(FEWEST, usize::from);
        let parts = threads.clamp(FEWEST, MOST).next_power_of_two();
        Self((0..parts).map(|_| Part::default()).collect())
    }

    #[cold]
    fn lock(&self) -> Vec<MutexGuard<'_, ()>> {
        self.0.iter().map(|part| part.0.lock()).collect()
    }

    /// Locks one: that which this thread had before, or another where some other thread has
    /// that.
    #[inline]
    pub(super) fn lock_one(&self, tree: &Tree) -> Option<InPart<'_>> {
        let usual = usual(self.0.len());
        let (number, lock) = match self.0.get(usual)?.0.try_lock() {
            Some(lock) => (usual, lock),
            None => self.lock_other(tree, usual)?,
        };
        Some(InPart {
            number,
            _lock: lock,
        })
    }

    #[cold]
    fn lock_other(&self, tree: &Tree, usual: usize) -> Option<(usize, MutexGuard<'_, ()>)> {
        // Who locks the whole lets go of all soon, and this thread's advances are in its part.
        if !tree.lock.is_locked() {
            let others = self.0.iter().enumerate();
            for (number, part) in others.filter(|(number, _)| *number != usual) {
                if let Some(lock) = part.0.try_lock() {
                    USUAL.set(number);
                    return Some((number, lock));
                }
            }
        }
        Some((usual, self.0.get(usual)?.0.lock()))
    }
}

impl Whole<'_> {
    /// The parts, which the tree is given if it has none. They are locked only if it had
    /// them before.
    pub(super) fn parts(&self) -> &Parts {
        self.tree.parts.get_or_init(Parts::new)
    }

    /// How many parts are locked.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of the part that this thread takes, of however many there are.
    static USUAL: ThreadCell<usize> = const { ThreadCell::new(usize::MAX) };
}

#[inline]
fn usual(parts: usize) -> usize {
    let known = match USUAL.get() {
        usize::MAX => {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % MOST;
            USUAL.set(next);
            next
        }
        known => known,
    };
    // There are a power of two.
    known & parts.saturating_sub(1)
}

/// What of one counter is set aside for one part, in one window of the counter. Read and
/// written under the lock of the part, or of the whole.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Advance {
    start: AtomicI64,
    end: AtomicI64,
    left: AtomicI64,
}

/// What of one counter is set aside: for each part of its tree.
#[derive(Clone, Debug)]
pub(crate) struct Advances(Arc<[Advance]>);

impl Advance {
    fn span(&self) -> Span {
        Span {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
        }
    }

    pub(super) fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed)
    }

    fn set(&self, span: Span, left: i64) {
        self.start.store(span.start, Ordering::Relaxed);
        self.end.store(span.end, Ordering::Relaxed);
        self.left.store(left, Ordering::Relaxed);
    }

    /// Sets aside so much more of this window.
    pub(super) fn add(&self, _: &Whole<'_>, span: Span, amount: i64) {
        self.set(span, self.left().saturating_add(amount));
    }
}

impl Advances {
    pub(super) fn of(tree: &Whole<'_>) -> Self {
        Self(tree.parts.iter().map(|_| Advance::default()).collect())
    }

    /// For the part that this thread takes.
    pub(super) fn usual(&self, tree: &Whole<'_>) -> Option<&Advance> {
        self.0.get(usual(tree.len()))
    }

    /// Whether so much of the window of an instant is left in this part.
    #[inline]
    pub(super) fn cover(&self, part: &InPart<'_>, at: i64, amount: i128) -> bool {
        self.0.get(part.number).is_some_and(|advance| {
            advance.span().contains(at) && amount <= i128::from(advance.left())
        })
    }

    /// Whether so much of the window of an instant can be given back to this part.
    #[inline]
    pub(super) fn have_room(&self, part: &InPart<'_>, at: i64, amount: i128) -> bool {
        self.0.get(part.number).is_some_and(|advance| {
            let room = i64::MAX - advance.left();
            advance.span().contains(at) && amount <= i128::from(room)
        })
    }

    /// Takes what is covered.
    #[inline]
    pub(super) fn take(&self, part: &InPart<'_>, amount: i128) {
        self.change(part, |left| left - amount);
    }

    /// Gives back what there is room for.
    #[inline]
    pub(super) fn give_back(&self, part: &InPart<'_>, amount: i128) {
        self.change(part, |left| left + amount);
    }

    #[inline]
    fn change(&self, part: &InPart<'_>, to: impl FnOnce(i128) -> i128) {
        if let Some(advance) = self.0.get(part.number) {
            // Both were compared with it before.
            let left = i64::try_from(to(i128::from(advance.left()))).unwrap_or(0);
            advance.left.store(left, Ordering::Relaxed);
        }
    }

    /// All that is set aside.
    pub(super) fn sum(&self) -> i128 {
        self.0.iter().map(|part| i128::from(part.left())).sum()
    }

    /// Takes away all that is set aside, and says how much it was. The tree is locked.
    pub(super) fn call_in(&self) -> i128 {
        let sum = self.sum();
        let nothing = Span { start: 0, end: 0 };
        self.0.iter().for_each(|part| part.set(nothing, 0));
        sum
    }
}

#[cfg(test)]
impl Tree {
    /// As if so many had waited that it gets parts.
    pub(super) fn make_busy(&self) {
        self.waits.store(WAITS, Ordering::Relaxed);
    }

    pub(super) fn waits(&self) -> u32 {
        self.waits.load(Ordering::Relaxed)
    }
}

/// The part that this thread takes from now on.
#[cfg(test)]
pub(super) fn take_from_now_on(part: usize) {
    USUAL.set(part);
}
