//! How often each outcome was answered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::{Decision, deny};

/// How often each outcome was answered since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Allowed.
    pub allowed: u64,
    /// Denied.
    pub denied: u64,
    /// Held for a human.
    pub requires_oversight: u64,
    /// Over a limit.
    pub quota_exceeded: u64,
    /// Too fast.
    pub rate_limited: u64,
    /// Of the denied, those with each code of [`deny::ALL`], in its order.
    pub denied_by: [u64; deny::ALL.len()],
    /// How often policies were evaluated, because no verdict was remembered.
    pub evaluated: u64,
}

impl Counters {
    /// How often it was denied with this code of [`deny::ALL`].
    #[must_use]
    pub fn denied_with(&self, code: &str) -> u64 {
        let counted = deny::ALL.iter().zip(self.denied_by);
        counted
            .filter(|(known, _)| **known == code)
            .map(|(_, count)| count)
            .sum()
    }
}

/// So many threads at once count on lines of their own, which nobody else writes: that is
/// a load and a store. What others count is added to lines that they share.
const LINES: usize = 64;

#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; PLACES]);

pub(crate) struct Counts {
    own: [Line; LINES],
    shared: Line,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            own: std::array::from_fn(|_| Line::default()),
            shared: Line::default(),
        }
    }
}

/// Places in a line.
const ALLOWED: usize = 0;
const DENIED: usize = 1;
const REQUIRES_OVERSIGHT: usize = 2;
const QUOTA_EXCEEDED: usize = 3;
const RATE_LIMITED: usize = 4;
const EVALUATED: usize = 5;
/// Of the first code of [`deny::ALL`]; the others follow.
const DENIED_BY: usize = 6;
const PLACES: usize = DENIED_BY + deny::ALL.len();

/// The number of a thread among those that live.
struct ThreadNumber(usize);

/// Numbers that ended threads gave back, the least first, and how many there were at most.
static NUMBERS: Mutex<(BinaryHeap<Reverse<usize>>, usize)> = Mutex::new((BinaryHeap::new(), 0));

impl ThreadNumber {
    fn new() -> Self {
        let (free, most) = &mut *NUMBERS.lock();
        Self(free.pop().map_or_else(
            || {
                *most += 1;
                *most - 1
            },
            |Reverse(number)| number,
        ))
    }
}

impl Drop for ThreadNumber {
    fn drop(&mut self) {
        NUMBERS.lock().0.push(Reverse(self.0));
    }
}

thread_local! {
    static MINE: ThreadNumber = ThreadNumber::new();
}

impl Counts {
    fn add(&self, place: usize) {
        // A thread that is ending has no number any more.
        let mine = MINE.try_with(|mine| mine.0).unwrap_or(LINES);
        if let Some(counter) = self.own.get(mine).and_then(|line| line.0.get(place)) {
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else if let Some(counter) = self.shared.0.get(place) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn decided(&self, decision: &Decision) {
        self.add(match decision {
            Decision::Allow { .. } => ALLOWED,
            Decision::Deny { reason, .. } => {
                let code = deny::ALL.iter().position(|code| *code == reason.code);
                if let Some(code) = code {
                    self.add(DENIED_BY + code);
                }
                DENIED
            }
            Decision::RequiresOversight { .. } => REQUIRES_OVERSIGHT,
            Decision::QuotaExceeded { .. } => QUOTA_EXCEEDED,
            Decision::RateLimited { .. } => RATE_LIMITED,
        });
    }

    pub(crate) fn evaluated(&self) {
        self.add(EVALUATED);
    }

    pub(crate) fn read(&self) -> Counters {
        let sum = |place: usize| {
            let lines = self.own.iter().chain([&self.shared]);
            lines
                .filter_map(|line| line.0.get(place))
                .map(|counter| counter.load(Ordering::Relaxed))
                .sum()
        };
        Counters {
            allowed: sum(ALLOWED),
            denied: sum(DENIED),
            requires_oversight: sum(REQUIRES_OVERSIGHT),
            quota_exceeded: sum(QUOTA_EXCEEDED),
            rate_limited: sum(RATE_LIMITED),
            denied_by: std::array::from_fn(|code| sum(DENIED_BY + code)),
            evaluated: sum(EVALUATED),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use creto_errors::Classify as _;
    use creto_nhi::{IdentityError, KeyVersion, LinkId};

    use super::*;

    /// Whatever ends an identity denies with its own code.
    #[test]
    fn every_denial_of_an_identity_has_a_place() {
        let link: LinkId = "lnk_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e".parse().unwrap();
        let name: creto_types::PrincipalName = "bot".parse().unwrap();
        let ends = [
            IdentityError::Revoked { link },
            IdentityError::KeyRevoked {
                link,
                delegator: name.clone(),
                version: KeyVersion::FIRST,
            },
            IdentityError::PrincipalRevoked {
                principal: name.clone(),
            },
            IdentityError::Suspended { principal: name },
            IdentityError::Expired { link: None },
            IdentityError::NotYetValid { link },
            IdentityError::Superseded,
            IdentityError::IssuerRetired,
            IdentityError::Broken,
        ];
        for end in ends {
            assert!(deny::ALL.contains(&end.code()), "{end}");
        }
    }

    /// More of them at once than there are lines, and more than that one after another.
    #[test]
    fn every_thread_counts() {
        let counts = Counts::default();
        let together = Barrier::new(2 * LINES);
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..2 * LINES {
                    scope.spawn(|| {
                        counts.evaluated();
                        // Each has its number before any ends.
                        together.wait();
                        (1..100).for_each(|_| counts.evaluated());
                    });
                }
            });
        }
        let of = |line: &Line| line.0[EVALUATED].load(Ordering::Relaxed);
        assert!(counts.own.iter().all(|line| of(line) > 0));
        assert!(of(&counts.shared) > 0);
        let all = u64::try_from(3 * 2 * 100 * LINES).unwrap();
        assert_eq!(counts.read().evaluated, all);
    }
}
