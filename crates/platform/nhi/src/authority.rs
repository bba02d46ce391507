//! What ends authority while it is held: suspension, and the epoch that tells
//! every reader that something did; and what else an organization's identities share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use creto_types::{PrincipalName, Timestamp};

use crate::link::Ended;
use crate::since::Since;
use crate::{Hop, Role};

/// What all identities of one organization share: its SPIFFE id, and a count of how
/// often authority ended or came back in it.
///
/// # How a reader uses it
///
/// A reader that found an identity live may remember that, and for how long the
/// chain is valid by its dates, and need not look at the flags of the chain again
/// while the epoch is the same:
///
/// 1. load [`Authority::epoch`];
/// 2. when it is the one remembered, use what is remembered;
/// 3. otherwise call [`crate::AgentIdentity::live`], and remember its answer with
///    the epoch that was loaded *before* it.
///
/// # Why that is exact
///
/// A call that ends or restores authority first changes its flags, then adds one
/// to the epoch, then returns. So does one that is refused because another call
/// did it before: it has seen the flags changed, and the other may not have come to
/// the epoch yet. All of these operations are sequentially consistent. Let a check
/// begin after such a call returned.
///
/// - Its load of the epoch comes after the addition in the one order of all these
///   operations, so it reads the added value or a later one.
/// - If the reader remembers an answer with an epoch that is at least the added
///   one, then that epoch was read from this addition or a later one. Additions
///   are read-modify-writes, so reading any later one synchronizes with this one,
///   too: the flags were changed before that load, and so before the walk that
///   gave the answer. The answer knows the change.
/// - If it remembers an older epoch, or none, it walks the flags now, after the
///   addition, and sees the change.
///
/// A walk that runs while a call is under way may see its change or miss it; that
/// call has not returned. If it missed the change, its epoch was loaded before the
/// addition, and what it remembers is not used once the call has returned.
///
/// Dates are not in the epoch: that a chain expires is for the reader's clock.
#[derive(Debug)]
pub struct Authority {
    organization_id: String,
    epoch: AtomicU64,
}

impl Authority {
    /// The organization of this SPIFFE id, in which nothing ended yet.
    #[must_use]
    pub fn new(organization_id: String) -> Self {
        Self {
            organization_id,
            epoch: AtomicU64::new(0),
        }
    }

    /// The SPIFFE id of the organization.
    #[must_use]
    pub fn organization_id(&self) -> &str {
        &self.organization_id
    }

    /// The present epoch. It never repeats in one process and is not stored.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// To be called once the flags are changed and before their change is
    /// announced to anybody.
    pub(crate) fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether a principal is suspended or revoked, and which role a human has. Shared by every
/// identity in whose chain the principal stands, so that a change is seen by the very
/// next check.
#[derive(Debug)]
pub struct Standing {
    principal: PrincipalName,
    ended: Ended,
    suspended: Since,
    /// The role of a human, as its place in [`Role::ALL`] counted from one, in the lowest
    /// bits; above them how often its credentials were superseded in this process.
    person: AtomicU64,
}

/// The bits of a role.
const ROLE: u64 = 0b111;
/// One supersession.
const SUPERSESSION: u64 = ROLE + 1;

impl Standing {
    /// A principal in good standing.
    #[must_use]
    pub fn good(principal: PrincipalName) -> Self {
        Self {
            principal,
            ended: Ended::default(),
            suspended: Since::default(),
            person: AtomicU64::new(0),
        }
    }

    /// Good standings for whoever acts by this chain: its human and every
    /// delegatee, or `actor` alone when there is no chain. Shared with no other
    /// identity: for chains that exist only in a question.
    #[must_use]
    pub fn all_good(actor: &PrincipalName, hops: &[Hop]) -> Arc<[Arc<Self>]> {
        let root = hops.first().map_or(actor, |hop| &hop.link.delegator);
        std::iter::once(root)
            .chain(hops.iter().map(|hop| &hop.link.delegatee))
            .map(|name| Arc::new(Self::good(name.clone())))
            .collect()
    }

    /// Whose standing it is.
    #[must_use]
    pub const fn principal(&self) -> &PrincipalName {
        &self.principal
    }

    /// Whether the principal is suspended. True from before
    /// [`crate::Nhi::suspend`] returns until [`crate::Nhi::resume`] does.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended.is_so()
    }

    /// Whether the principal was revoked. True from before
    /// [`crate::Nhi::revoke_principal`] returns, for ever.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.ended.is_so()
    }

    /// When the principal was revoked. `None` for one that was only as long as the
    /// store has not told.
    #[must_use]
    pub fn revoked_at(&self) -> Option<Timestamp> {
        self.ended.at()
    }

    pub(crate) fn revoke(&self, at: Timestamp) {
        self.ended.end(at);
    }

    /// Revoked from now on; since when is still to be told.
    pub(crate) fn kill(&self) {
        self.ended.kill();
    }

    /// Since when the principal is suspended. `None` for one that is suspended
    /// only as long as the store has not told.
    #[must_use]
    pub fn suspended_at(&self) -> Option<Timestamp> {
        self.suspended.at()
    }

    /// The role of a human. `None` for an agent, and for a human who was given none
    /// or whose role the store has not told.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        let place = self.person.load(Ordering::SeqCst) & ROLE;
        let mut known = (1..).zip(Role::ALL);
        known.find_map(|(number, role)| (number == place).then_some(role))
    }

    pub(crate) fn set_role(&self, role: Option<Role>) {
        let mut known = (1..).zip(Role::ALL);
        let place = known.find_map(|(number, known)| (role == Some(known)).then_some(number));
        let replaced = |person| Some(person & !ROLE | place.unwrap_or(0));
        // It refuses nothing.
        let _ = self
            .person
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, replaced);
    }

    pub(crate) fn supersessions(&self) -> u64 {
        self.person.load(Ordering::SeqCst) / SUPERSESSION
    }

    /// Another epoch of the human's credentials began: no token of the one before holds.
    /// Changed together with the epoch, under the registry's lock.
    pub(crate) fn supersede(&self) {
        self.person.fetch_add(SUPERSESSION, Ordering::SeqCst);
    }

    pub(crate) fn suspend(&self, at: Timestamp) {
        self.suspended.set(at);
    }

    /// Suspended from now on; since when is still to be told.
    pub(crate) fn hold(&self) {
        self.suspended.untold();
    }

    pub(crate) fn resume(&self) {
        self.suspended.clear();
    }
}

/// The standings of a chain's principals: its human, then every delegatee.
pub(crate) type Standings = Arc<[Arc<Standing>]>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_and_supersessions_leave_one_another_alone() {
        let standing = Standing::good(crate::test_util::name("alice"));
        assert_eq!((standing.role(), standing.supersessions()), (None, 0));
        for (count, role) in (1..).zip(Role::ALL.map(Some).into_iter().chain([None])) {
            standing.set_role(role);
            standing.supersede();
            assert_eq!((standing.role(), standing.supersessions()), (role, count));
        }
    }
}
