//! Authority only shrinks: the rules between a link and the links above it, and
//! the verification of a whole chain without any store.

use creto_crypto::VerifyingKey;
use creto_types::{PrincipalName, Quantity};

use crate::error::{ChainError, EscalationError};
use crate::link::MAX_RIGHTS;
use crate::{Budget, DelegationLink, Hop, KeyVersion, LinkId, NhiError, SignedLink, verify_link};

/// Verifies a chain, root first, from public data alone: every link is signed by
/// its delegator, continues the one before it, and holds at most what that one
/// holds in rights, time, depth and budget.
///
/// Whether the first delegator is a human, and whether a link or a key was revoked or a
/// link has expired by some instant, is not in the links; that is for the caller.
pub fn verify_chain(
    links: &[SignedLink],
    key_of: &dyn Fn(&PrincipalName, KeyVersion) -> Option<VerifyingKey>,
) -> Result<(), ChainError> {
    if links.is_empty() {
        return Err(ChainError::Empty);
    }
    let mut above: Vec<&DelegationLink> = Vec::with_capacity(links.len());
    for signed in links {
        check_link(&signed.link, &above)?;
        let key = key_of(&signed.link.delegator, signed.link.key_version).ok_or_else(|| {
            ChainError::UnknownKey {
                link: signed.link.id,
                delegator: signed.link.delegator.clone(),
            }
        })?;
        verify_link(signed, &key)?;
        above.push(&signed.link);
    }
    Ok(())
}

/// Everything about a link but its signature, given the links above it.
pub(crate) fn check_link(
    link: &DelegationLink,
    above: &[&DelegationLink],
) -> Result<(), ChainError> {
    let joined = match above.last() {
        None => link.parent.is_none(),
        Some(parent) => {
            link.parent == Some(parent.id)
                && link.org == parent.org
                && link.delegator == parent.delegatee
        }
    };
    if !joined {
        return Err(ChainError::NotJoined { link: link.id });
    }
    well_formed(link).map_err(|(_, why)| ChainError::Malformed { link: link.id, why })?;
    shrinks(link, above).map_err(|source| ChainError::Escalation {
        link: link.id,
        source,
    })
}

/// What a link has to be by itself. The error names the field.
pub(crate) fn well_formed(link: &DelegationLink) -> Result<(), (&'static str, &'static str)> {
    if link.rights.is_empty() {
        return Err(("rights", "must name at least one right"));
    }
    if link.rights.len() > MAX_RIGHTS {
        return Err(("rights", "must have at most 64 entries"));
    }
    if link.expires_at <= link.not_before {
        return Err(("expires_at", "must be after `not_before`"));
    }
    match link.budget.map(|budget| budget.limit) {
        Some(Quantity::Money(limit)) if limit.is_negative() => {
            Err(("budget", "must not be negative"))
        }
        Some(Quantity::Units(limit)) if limit > Quantity::MAX_UNITS => {
            Err(("budget", "must be at most 9007199254740991 units"))
        }
        _ => Ok(()),
    }
}

/// Whether the link holds at most what each link above it holds. `above` is root
/// first and was checked in the same way, so the last of it stands for all, but
/// for budgets: one in money is bound by the nearest in money above, one in units
/// by the nearest in units; the holder of both is held by both.
pub(crate) fn shrinks(
    link: &DelegationLink,
    above: &[&DelegationLink],
) -> Result<(), EscalationError> {
    let Some(parent) = above.last() else {
        return Ok(());
    };
    for right in &link.rights {
        if !parent.rights.iter().any(|held| held.covers(right)) {
            let held: Vec<String> = parent.rights.iter().map(ToString::to_string).collect();
            return Err(EscalationError::Rights {
                right: right.clone(),
                parent: parent.id,
                held: held.join(", "),
            });
        }
    }
    if link.expires_at > parent.expires_at {
        return Err(EscalationError::OutlivesParent {
            expires_at: link.expires_at,
            parent: parent.id,
            parent_expires_at: parent.expires_at,
        });
    }
    if link.not_before < parent.not_before {
        return Err(EscalationError::PrecedesParent {
            not_before: link.not_before,
            parent: parent.id,
            parent_not_before: parent.not_before,
        });
    }
    depth_within(link.max_depth, parent.max_depth.checked_sub(1))?;
    let Some(requested) = link.budget else {
        return Ok(());
    };
    match nearest_like(&requested, above) {
        Some((holder, held)) if !budget_within(&requested, &held) => Err(EscalationError::Budget {
            requested,
            holder,
            held,
        }),
        _ => Ok(()),
    }
}

/// Authority goes to somebody new. A link back to one who is in the chain gives
/// nothing it did not have, but a second hold on it that outlives whatever the
/// first was bound to.
pub(crate) fn no_loop(
    delegator: &PrincipalName,
    delegatee: &PrincipalName,
    above: &[Hop],
) -> Result<(), NhiError> {
    let mut chain = above
        .iter()
        .flat_map(|hop| [&hop.link.delegator, &hop.link.delegatee])
        .chain([delegator]);
    if chain.any(|name| name == delegatee) {
        return Err(NhiError::DelegationLoops {
            delegatee: delegatee.clone(),
        });
    }
    Ok(())
}

pub(crate) fn depth_within(requested: u8, allowed: Option<u8>) -> Result<(), EscalationError> {
    if allowed.is_some_and(|allowed| requested <= allowed) {
        Ok(())
    } else {
        Err(EscalationError::Depth { requested, allowed })
    }
}

fn nearest_like(requested: &Budget, above: &[&DelegationLink]) -> Option<(LinkId, Budget)> {
    above
        .iter()
        .rev()
        .filter_map(|link| Some((link.id, link.budget?)))
        .find(|(_, held)| held.limit.is_like(&requested.limit))
}

fn budget_within(requested: &Budget, held: &Budget) -> bool {
    // Two currencies cannot be compared, so neither is within the other.
    requested.period == held.period && requested.limit.at_most(&held.limit) == Some(true)
}
