//! The policies in force in one organization, and how they are replaced.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;

use crate::action::{Action, ActionKey};
use crate::cache::{Flights, Numbered};
use crate::evaluate::{Question, Verdict};
use crate::model::{PolicyId, ResourceRef};
use crate::policies::CompiledPolicies;
use crate::rules::Reads;

/// What is remembered of a question: all that depends on nothing but the chain,
/// the action, the resource and what else stands in the cache's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Settled {
    /// The rights of this hop do not cover it.
    OutsideRights(u8),
    /// What the policies say.
    Policies(Verdict),
}

/// One set of policies while it is in force.
pub(crate) struct InForce {
    /// Counted over all organizations of the process: no two sets share one. Zero before it
    /// is put in force; of one organization it rises.
    pub(crate) epoch: u32,
    pub(crate) policies: Arc<CompiledPolicies>,
    pub(crate) settled: Numbered<Settled>,
    /// The schema's resource types; a type's place is its number in cache keys.
    kinds: Vec<String>,
    actions: HashMap<ActionKey, ActionFacts, foldhash::fast::FixedState>,
}

fn next_epoch() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a check needs to know of an action to find its verdict again.
pub(crate) struct ActionFacts {
    /// What else its policies read.
    pub(crate) reads: Reads,
    /// By the resource type's number: whether a request without context fits the
    /// schema.
    bare: Vec<bool>,
}

impl ActionFacts {
    /// Whether a request without context fits the schema.
    pub(crate) fn fits_bare(&self, kind: u8, units: u64) -> bool {
        let fits = self.bare.get(usize::from(kind)).copied().unwrap_or(false);
        fits && i64::try_from(units).is_ok()
    }
}

impl InForce {
    fn new(policies: Arc<CompiledPolicies>) -> Self {
        let report = policies.report();
        let kinds = report.resources.clone();
        let mut actions = HashMap::default();
        for name in &report.actions {
            let key = Action::named(name).key();
            // Names without a number are decided anew each time.
            if key == ActionKey::UNKNOWN {
                continue;
            }
            let Some(reads) = policies.reads(name) else {
                continue;
            };
            let fits = |kind: &String| {
                let resource = ResourceRef::new(kind.as_str(), "any");
                policies.plainly_fits(&Question::bare(name, &resource))
            };
            let facts = ActionFacts {
                reads: reads.clone(),
                bare: kinds.iter().map(fits).collect(),
            };
            actions.insert(key, facts);
        }
        Self {
            epoch: 0,
            settled: Numbered::new(),
            kinds,
            actions,
            policies,
        }
    }

    /// What is known of an action; `None` when this schema does not declare it.
    pub(crate) fn action(&self, key: ActionKey) -> Option<&ActionFacts> {
        self.actions.get(&key)
    }

    /// The number of a resource type, if the schema has it and a key has room.
    pub(crate) fn kind(&self, name: &str) -> Option<u8> {
        let place = self.kinds.iter().position(|kind| kind == name)?;
        u8::try_from(place).ok()
    }
}

/// The set that a decision is made by, for as long as the decision is looked at.
pub(crate) type Pinned = Guard<Option<Arc<InForce>>>;

/// Which set of policies was in force when this was read; no set comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyEpoch(u32);

impl PolicyEpoch {
    /// The first set is number one.
    pub(crate) fn of(pinned: &Pinned) -> Self {
        Self(pinned.as_ref().map_or(0, |set| set.epoch))
    }
}

/// Where the set in force is kept.
#[derive(Default)]
pub(crate) struct OrgPolicies {
    now: ArcSwapOption<InForce>,
    /// The epoch of the newest set whose publication is about to return, or did.
    published: AtomicU32,
    /// Nobody waits for the evaluations of another organization.
    pub(crate) flights: Flights,
    /// Sets that were replaced while a check looked at them. They are dropped by
    /// whoever publishes later, never by a check: dropping ten thousand policies
    /// takes milliseconds.
    replaced: Mutex<Vec<Arc<InForce>>>,
}

impl OrgPolicies {
    pub(crate) fn load(&self) -> Pinned {
        self.now.load()
    }

    /// Whether no newer set's publication returned.
    pub(crate) fn is_latest(&self, PolicyEpoch(epoch): PolicyEpoch) -> bool {
        epoch >= self.published.load(Ordering::SeqCst)
    }

    pub(crate) fn epoch(&self) -> PolicyEpoch {
        PolicyEpoch::of(&self.load())
    }

    /// Replaces the set. Whoever loads after this returned has the new one: the
    /// exchange is sequentially consistent.
    pub(crate) fn publish(&self, policies: Arc<CompiledPolicies>) {
        let mut next = InForce::new(policies);
        let mut replaced = self.replaced.lock();
        // In the order in which they are put in force, whoever was ready first.
        next.epoch = next_epoch();
        let epoch = next.epoch;
        replaced.extend(self.now.swap(Some(Arc::new(next))));
        self.published.store(epoch, Ordering::SeqCst);
        replaced.retain(|set| Arc::strong_count(set) > 1);
    }
}

/// The policies that an allow names: a place in a pinned set.
pub(crate) fn permitting(pinned: &Pinned, number: u32) -> &[PolicyId] {
    let settled = pinned.as_ref().and_then(|set| set.settled.get(number));
    match settled {
        Some(Settled::Policies(Verdict::Permitted { policies })) => policies,
        _ => &[],
    }
}
