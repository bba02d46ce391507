//! An authenticated identity, with everything a check needs looked up once.

use std::fmt;
use std::num::NonZeroU128;
use std::sync::Arc;

use creto_nhi::{AgentIdentity, Authority, IdentityError};
use creto_types::{Line, Reading, Timestamp};

use crate::found::FoundLive;
use crate::in_force::{OrgPolicies, PolicyEpoch};
use crate::ports::{Account, Lines};

/// An authenticated identity, ready to be checked. Clones share one value.
///
/// From here a check asks memory at once for all that it is going to read: with more agents
/// than the processor's caches hold, each further step would be waited for.
#[derive(Clone)]
pub struct Bound {
    chain: Arc<Chain>,
    /// Names the chain in cache keys: the id of its last link, which stands for
    /// everyone above; for a human without a link, a number of its own. Nothing is
    /// remembered for a chain without one.
    pub(crate) number: Option<NonZeroU128>,
    lines: Lines,
}

/// What a check reads of a chain.
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
            account,
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
    pub(crate) fn new(chain: Chain, number: Option<NonZeroU128>) -> Self {
        Self {
            lines: chain.account.lines(),
            chain: Arc::new(chain),
            number,
        }
    }

    /// Asks memory for what every decision is going to read, or every one that reserves.
    #[inline]
    pub(crate) fn ask_memory(&self, reserves: bool) {
        let chain = Line::of(&*self.chain);
        chain.ask();
        chain.further(1).ask();
        if reserves {
            self.lines.own.iter().for_each(|line| line.ask_to_write());
            self.lines.shared.iter().for_each(|line| line.ask());
        }
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The same identity for a call that is decided anew because what it reserved became
    /// void: rates do not count it a second time. See [`Account::again`].
    #[must_use]
    pub fn again(&self) -> Self {
        let chain = Chain {
            account: Arc::clone(&self.chain.account).again(),
            ..Chain::clone(&self.chain)
        };
        Self::new(chain, self.number)
    }

    /// The policies in force. Read before a decision, for [`crate::Authz::still`].
    #[must_use]
    pub fn epoch(&self) -> PolicyEpoch {
        self.chain.org.epoch()
    }

    /// Whether its chain holds now. Exact once whatever ends authority has returned,
    /// and by its dates as exact as the reading.
    pub fn live(&self, now: Reading) -> Result<(), IdentityError> {
        self.chain.live(now)
    }

    /// Whether it is as it would be bound now. One from before a change of limits or rates
    /// is as right, and its decisions take longer.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.chain.account.is_current()
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Arc<AgentIdentity> {
        &self.chain.identity
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(self.identity()).finish()
    }
}

#[cfg(test)]
mod tests {
    /// Without the two counts that an `Arc` keeps before it.
    #[test]
    fn a_chain_takes_as_much_as_a_cache_line() {
        assert_eq!(size_of::<super::Chain>(), 64);
    }
}
