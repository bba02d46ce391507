//! Policies, the life of a chain and limits, as they were together.

/// Reads policies, and then whether a chain is live, until both were so at one moment.
///
/// `changes` counts what ends or restores authority ([`creto_nhi::Authority`]);
/// `latest` says that no newer policies were published, up to the return of that call.
/// Both count a change before it returns.
///
/// A change that returned between the two reads is seen by one of the counts, and both are
/// read again. What did not return in between goes on beside this decision, and may as
/// well come before or after it. So no decision joins old policies to a life that came
/// later, nor the other way round.
#[inline]
pub(crate) fn at_one_moment<P, L>(
    changes: impl Fn() -> u64,
    policies: impl Fn() -> P,
    latest: impl Fn(&P) -> bool,
    live: impl Fn() -> L,
) -> (P, L, Moment) {
    loop {
        let moment = Moment::from(&changes);
        let policies = policies();
        let live = live();
        if moment.lasts(&changes, || latest(&policies)) {
            return (policies, live, moment);
        }
    }
}

/// When policies and a chain's life were so together.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    before: u64,
}

impl Moment {
    /// From now on: of what is read after this.
    #[inline]
    pub(crate) fn from(changes: impl Fn() -> u64) -> Self {
        Self { before: changes() }
    }

    /// Whether they still are: then what was read in between, as limits are, was so at that
    /// moment too.
    #[inline]
    pub(crate) fn lasts(self, changes: impl Fn() -> u64, latest: impl FnOnce() -> bool) -> bool {
        changes() == self.before && latest()
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// A set of policies by its number, a suspension and a limit.
    struct World {
        set: AtomicU64,
        published: AtomicU64,
        suspended: AtomicBool,
        changes: AtomicU64,
        limit: AtomicU64,
    }

    impl World {
        fn new(suspended: bool) -> Arc<Self> {
            Arc::new(Self {
                set: AtomicU64::new(1),
                published: AtomicU64::new(1),
                suspended: AtomicBool::new(suspended),
                changes: AtomicU64::new(0),
                limit: AtomicU64::new(1),
            })
        }

        fn publish(&self, set: u64) {
            self.set.store(set, Ordering::SeqCst);
            self.published.store(set, Ordering::SeqCst);
        }

        fn suspend(&self, suspended: bool) {
            self.suspended.store(suspended, Ordering::SeqCst);
            self.changes.fetch_add(1, Ordering::SeqCst);
        }

        fn set_limit(&self, limit: u64) {
            self.limit.store(limit, Ordering::SeqCst);
        }

        /// The policies that decide, whether the chain is live, and by which limit.
        fn decide(&self) -> (u64, bool, u64) {
            loop {
                let changes = || self.changes.load(Ordering::SeqCst);
                let latest = |set: &u64| *set >= self.published.load(Ordering::SeqCst);
                let (set, live, moment) = at_one_moment(
                    changes,
                    || self.set.load(Ordering::SeqCst),
                    latest,
                    || !self.suspended.load(Ordering::SeqCst),
                );
                let limit = self.limit.load(Ordering::SeqCst);
                if moment.lasts(changes, || latest(&set)) {
                    return (set, live, limit);
                }
            }
        }
    }

    /// What nobody may see while these changes are made one after the other.
    fn never(suspended: bool, change: fn(&World), seen: (u64, bool, u64)) {
        let mut checker = loom::model::Builder::new();
        // Every interleaving with at most this many forced switches of threads.
        checker.preemption_bound = Some(3);
        checker.check(move || {
            let world = World::new(suspended);
            let changing = {
                let world = Arc::clone(&world);
                loom::thread::spawn(move || change(&world))
            };
            assert_ne!(world.decide(), seen);
            changing.join().unwrap();
            assert_ne!(world.decide(), seen);
        });
    }

    #[test]
    fn what_was_replaced_decides_nothing_for_whoever_was_resumed_later() {
        never(
            true,
            |world| {
                world.publish(2);
                world.suspend(false);
            },
            (1, true, 1),
        );
    }

    #[test]
    fn what_is_published_later_decides_nothing_for_whoever_was_suspended_before() {
        never(
            false,
            |world| {
                world.suspend(true);
                world.publish(2);
            },
            (2, true, 1),
        );
    }

    #[test]
    fn two_changes_of_one_kind_are_seen_in_their_order() {
        never(
            false,
            |world| {
                world.suspend(true);
                world.publish(2);
                world.publish(3);
                world.suspend(false);
            },
            (2, true, 1),
        );
    }

    #[test]
    fn what_was_replaced_decides_nothing_by_a_limit_that_was_set_later() {
        never(
            false,
            |world| {
                world.publish(2);
                world.set_limit(2);
            },
            (1, true, 2),
        );
        never(
            false,
            |world| {
                world.suspend(true);
                world.set_limit(2);
            },
            (1, true, 2),
        );
    }

    #[test]
    fn what_is_published_later_decides_nothing_by_a_limit_of_before() {
        never(
            false,
            |world| {
                world.set_limit(2);
                world.publish(2);
            },
            (2, true, 1),
        );
    }
}
