//! How often each outcome was answered.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
    /// Of the denied: because a policy could not be evaluated.
    pub policy_errors: u64,
    /// How often policies were evaluated, because no verdict was remembered.
    pub evaluated: u64,
}

/// Lines that threads share out among themselves, so that two that decide at once
/// do not wait for each other's count.
const LINES: usize = 16;

#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

#[derive(Default)]
pub(crate) struct Counts {
    lines: [Line; LINES],
}

/// Places in a line.
const ALLOWED: usize = 0;
const DENIED: usize = 1;
const REQUIRES_OVERSIGHT: usize = 2;
const QUOTA_EXCEEDED: usize = 3;
const RATE_LIMITED: usize = 4;
const POLICY_ERRORS: usize = 5;
const EVALUATED: usize = 6;

thread_local! {
    static MINE: Cell<Option<usize>> = const { Cell::new(None) };
}

fn mine() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    MINE.get().unwrap_or_else(|| {
        let line = NEXT.fetch_add(1, Ordering::Relaxed) % LINES;
        MINE.set(Some(line));
        line
    })
}

impl Counts {
    fn add(&self, place: usize) {
        if let Some(counter) = self.lines.get(mine()).and_then(|line| line.0.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn decided(&self, decision: &Decision) {
        self.add(match decision {
            Decision::Allow { .. } => ALLOWED,
            Decision::Deny { reason, .. } => {
                if reason.code == deny::POLICY_ERROR {
                    self.add(POLICY_ERRORS);
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
            let counters = self.lines.iter().filter_map(|line| line.0.get(place));
            counters
                .map(|counter| counter.load(Ordering::Relaxed))
                .sum()
        };
        Counters {
            allowed: sum(ALLOWED),
            denied: sum(DENIED),
            requires_oversight: sum(REQUIRES_OVERSIGHT),
            quota_exceeded: sum(QUOTA_EXCEEDED),
            rate_limited: sum(RATE_LIMITED),
            policy_errors: sum(POLICY_ERRORS),
            evaluated: sum(EVALUATED),
        }
    }
}
