//! An authenticated identity, with everything a check needs looked up once.

use std::fmt;
use std::num::NonZeroU128;
use std::sync::Arc;

use creto_nhi::{AgentIdentity, Authority, IdentityError};
use creto_types::{Reading, Timestamp};

use crate::found::FoundLive;
use crate::in_force::{OrgPolicies, PolicyEpoch};
use crate::ports::{Account, Near};

/// An authenticated identity, ready to be checked. Clones share one value.
#[derive(Clone)]
pub struct Bound(Arc<Chain>);

/// What a check reads of a chain, in two lines of memory. From here it asks memory at once
/// for everything that is this agent's alone: with more agents than the processor's caches
/// hold, each further step would be waited for.
#[derive(Clone)]
pub(crate) struct Chain {
    found_live: FoundLive,
    /// From when to when the chain is valid by its dates, in nanoseconds since the
    /// Unix epoch.
    from: i64,
    until: i64,
    pub(crate) org: Arc<OrgPolicies>,
    /// The identity's own, without a detour by it.
    pub(crate) authority: Arc<Authority>,
    pub(crate) identity: Arc<AgentIdentity>,
    pub(crate) account: Arc<dyn Account>,
    near: [Option<Arc<dyn Near>>; 2],
    /// Names the chain in cache keys: the id of its last link, which stands for
    /// everyone above; for a human without a link, a number of its own. Nothing is
    /// remembered for a chain without one.
    pub(crate) number: Option<NonZeroU128>,
}

/// An instant as nanoseconds since the Unix epoch. What lies beyond 2262 is as
/// good as for ever.
fn nanos(at: Timestamp) -> i64 {
    let nanos = at.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

impl Chain {
    pub(crate) fn new(
        identity: Arc<AgentIdentity>,
        number: Option<NonZeroU128>,
        org: Arc<OrgPolicies>,
        account: Arc<dyn Account>,
    ) -> Self {
        let links = || identity.hops.iter().map(|hop| &hop.link);
        let from = links().map(|link| nanos(link.not_before)).max();
        let until = links().map(|link| nanos(link.expires_at)).min();
        Self {
            found_live: FoundLive::not_yet(),
            from: from.unwrap_or(i64::MIN),
            until: nanos(identity.expires_at).min(until.unwrap_or(i64::MAX)),
            org,
            authority: Arc::clone(&identity.authority),
            identity,
            near: account.near(),
            account,
            number,
        }
    }

    /// Whether the chain holds now. Exact once whatever ends authority has
    /// returned: see [`creto_nhi::Authority`].
    pub(crate) fn live(&self, now: Reading) -> Result<(), IdentityError> {
        let in_time = self.from <= now.wall_ns && now.wall_ns < self.until;
        let walk = || {
            let now = Timestamp::from_nanosecond(now.wall_ns.into()).unwrap_or(Timestamp::MAX);
            self.identity.live(now)
        };
        self.found_live
            .or_walk(|| self.authority.epoch(), in_time, walk)
    }
}

impl Bound {
    pub(crate) fn new(chain: Chain) -> Self {
        Self(Arc::new(chain))
    }

    /// Asks memory for what a decision that reserves is going to read.
    #[inline]
    pub(crate) fn prefetch(&self) {
        let chain = self.chain();
        chain.near.iter().flatten().for_each(|near| near.prefetch());
        chain.account.prefetch();
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.0
    }

    /// The same identity for a call that is decided anew because what it reserved became
    /// void: rates do not count it a second time. See [`Account::again`].
    #[must_use]
    pub fn again(&self) -> Self {
        Self::new(Chain {
            account: Arc::clone(&self.0.account).again(),
            ..Chain::clone(&self.0)
        })
    }

    /// The policies in force. Read before a decision, for [`crate::Authz::still`].
    #[must_use]
    pub fn epoch(&self) -> PolicyEpoch {
        self.0.org.epoch()
    }

    /// Whether its chain holds now. Exact once whatever ends authority has returned,
    /// and by its dates as exact as the reading.
    pub fn live(&self, now: Reading) -> Result<(), IdentityError> {
        self.0.live(now)
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Arc<AgentIdentity> {
        &self.0.identity
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(self.identity()).finish()
    }
}

#[cfg(test)]
mod tests {
    /// With the two counts that an `Arc` keeps before it.
    #[test]
    fn a_chain_takes_two_cache_lines() {
        assert_eq!(size_of::<super::Chain>() + 2 * size_of::<usize>(), 128);
    }
}
