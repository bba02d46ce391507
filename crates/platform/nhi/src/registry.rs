//! Everything in memory: what reads are served from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use creto_crypto::{Allowed, SignatureAlgorithm, VerifyingKey};
use creto_types::{OrgId, PrincipalName, StoreError, Timestamp};

use crate::authority::{Authority, Standing, Standings};
use crate::chain::check_link;
use crate::credentials::Epoch;
use crate::ends::Retirement;
use crate::index::{Index, Principals};
use crate::keys::{KeyMaker, SharedSigner, key_id, organization_wrapping};
use crate::ports::{
    Snapshot, StoredEpoch, StoredFormerKey, StoredLink, StoredOrganization, StoredPrincipal,
    StoredSuspension,
};
use crate::principal::organization_id;
use crate::principal_keys::{FormerKeys, KnownKey, known_keys, wrapping_after};
use crate::{
    ChainError, DelegationLink, Hop, KeyPurpose, LinkId, LinkStatus, LinkView, NhiError,
    Organization, Principal, PrincipalType, Role, SignedLink, StoredKey, verify_link,
};

/// The longest chain there can be: a depth is one byte.
const LONGEST_CHAIN: usize = 256;

#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) orgs: BTreeMap<OrgId, OrgState>,
    /// Whose issuer key has this `kid`.
    pub(crate) issuers: HashMap<String, OrgId>,
}

pub(crate) struct OrgState {
    pub(crate) organization: Arc<Organization>,
    pub(crate) owner: PrincipalName,
    pub(crate) authority: Arc<Authority>,
    pub(crate) keys: BTreeMap<KeyPurpose, SharedSigner>,
    /// Those that sign checkpoints besides.
    pub(crate) former_log_keys: BTreeMap<KeyPurpose, SharedSigner>,
    pub(crate) issuer_kid: String,
    /// Of the issuer now in use: it is told once another one replaced it.
    issuer_retirement: Retirement,
    /// The version of the wrapping key that came with the issuer; 0 before the first.
    rotation: u32,
    /// Those that were replaced and not retired, oldest first.
    pub(crate) former_issuers: Vec<KnownIssuer>,
    pub(crate) principals: Principals,
    pub(crate) links: Index<LinkId, LinkView>,
    /// Of the humans whose credentials were ever superseded.
    pub(crate) epochs: BTreeMap<PrincipalName, Epoch>,
}

/// A former issuer: what its tokens are checked with.
pub(crate) struct KnownIssuer {
    pub(crate) kid: String,
    pub(crate) key: VerifyingKey,
    pub(crate) replaced_at: Timestamp,
    pub(crate) retirement: Retirement,
}

#[derive(Clone)]
pub(crate) struct PrincipalEntry {
    pub(crate) principal: Arc<Principal>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) keys: Box<Keys>,
}

/// What a principal signs with and is verified by: not beside it, because few who look for
/// a principal read it.
#[derive(Clone)]
pub(crate) struct Keys {
    /// The one that it signs with now.
    pub(crate) key: Arc<StoredKey>,
    /// What its links are verified by, oldest first; the last is the one it signs with.
    pub(crate) known: Arc<[KnownKey]>,
    /// Whether the store said so; nothing is signed otherwise.
    pub(crate) settled: bool,
}

/// One link of a chain with what it takes to verify it.
pub(crate) struct ChainEntry {
    pub(crate) entry: LinkView,
    delegator: Arc<Principal>,
    /// The key that signed it.
    key: VerifyingKey,
}

impl OrgState {
    /// An organization without principals, its keys ready to sign.
    pub(crate) fn new(
        stored: &StoredOrganization,
        trust_domain: &str,
        keys: &KeyMaker,
    ) -> Result<Self, NhiError> {
        let org = stored.organization.id;
        for key in &stored.wrapping {
            keys.ring.add(org, key).map_err(|source| NhiError::Crypto {
                operation: "open a wrapping key",
                source,
            })?;
        }
        let mut signers: BTreeMap<KeyPurpose, SharedSigner> = BTreeMap::new();
        for (purpose, key) in &stored.keys {
            let fixed = purpose.fixed_algorithm();
            if fixed.is_some_and(|algorithm| algorithm != key.public.algorithm()) {
                return Err(corrupt("organization key", "it is of another algorithm"));
            }
            let signer = keys.signer(org, key, &organization_wrapping(org, *purpose))?;
            signers.insert(*purpose, Arc::new(signer));
        }
        let mut former_log_keys: BTreeMap<KeyPurpose, SharedSigner> = BTreeMap::new();
        for former in &stored.former_log_keys {
            let wrapping = organization_wrapping(org, former.purpose);
            let signer = keys.signer(org, &former.key, &wrapping)?;
            former_log_keys.insert(former.purpose, Arc::new(signer));
        }
        if signers.len() != KeyPurpose::ALL.len() {
            return Err(corrupt("organization", "it does not have every key"));
        }
        let issuer = signers
            .get(&KeyPurpose::Issuer)
            .expect("every purpose has a key: counted above");
        Ok(Self {
            organization: Arc::new(stored.organization.clone()),
            owner: stored.owner.clone(),
            authority: Arc::new(Authority::new(organization_id(trust_domain, org))),
            issuer_kid: key_id(issuer.verifying_key())?,
            issuer_retirement: Retirement::default(),
            rotation: stored.wrapping.last().map_or(0, |key| key.version),
            former_issuers: stored
                .former_issuers
                .iter()
                .map(|former| {
                    Ok(KnownIssuer {
                        kid: key_id(&former.public)?,
                        key: former.public.clone(),
                        replaced_at: former.replaced_at,
                        retirement: Retirement::default(),
                    })
                })
                .collect::<Result<_, NhiError>>()?,
            keys: signers,
            former_log_keys,
            principals: Principals::default(),
            links: Index::default(),
            epochs: BTreeMap::new(),
        })
    }

    /// Grows whenever the set of issuer keys changes: a rotation adds one and counts,
    /// a retirement leaves the newest alone. Never 0, so that one more organization
    /// counts too.
    pub(crate) fn issuer_sequence(&self) -> u64 {
        let retired = u64::from(self.former_issuers.is_empty());
        2 * u64::from(self.rotation) + retired
    }

    pub(crate) fn add_principal(&mut self, stored: StoredPrincipal) -> Result<(), NhiError> {
        self.add_with_keys(stored, Vec::new())
    }

    fn add_with_keys(
        &mut self,
        stored: StoredPrincipal,
        before: Vec<StoredFormerKey>,
    ) -> Result<(), NhiError> {
        let name = stored.principal.name.clone();
        let standing = Standing::good(name.clone());
        if name == self.owner {
            standing.set_role(Some(Role::Owner));
        }
        self.principals.insert(
            name,
            PrincipalEntry {
                standing: Arc::new(standing),
                keys: Box::new(Keys {
                    known: known_keys(&stored.principal, before)?.into(),
                    settled: true,
                    key: Arc::new(stored.key),
                }),
                principal: Arc::new(stored.principal),
            },
        );
        Ok(())
    }

    /// Adds a link, which dies with the key that signed it.
    pub(crate) fn add_signed(
        &mut self,
        mut signed: SignedLink,
        status: LinkStatus,
    ) -> Result<(), NhiError> {
        let delegator = self.principal(&signed.link.delegator)?;
        let key = delegator.known(signed.link.key_version)?;
        let status = status.signed_by(Arc::clone(&key.status));
        // One text for each name, however many links there are.
        let delegatee = self.principal(&signed.link.delegatee)?;
        let names = [delegator, delegatee].map(|entry| entry.principal.name.clone());
        let link = Arc::make_mut(&mut signed.link);
        [link.delegator, link.delegatee] = names;
        let link = LinkView::new(signed, status);
        let holder = &link.signed.link.delegatee;
        let given = self.principals.give(holder, link.clone());
        given.ok_or_else(|| NhiError::UnknownPrincipal {
            name: holder.clone(),
        })?;
        self.links.insert(link.signed.link.id, link);
        Ok(())
    }

    pub(crate) fn principal(&self, name: &PrincipalName) -> Result<&PrincipalEntry, NhiError> {
        self.principals
            .get(name)
            .ok_or_else(|| NhiError::UnknownPrincipal { name: name.clone() })
    }

    /// The standings along a chain, root first.
    pub(crate) fn standings(&self, chain: &[ChainEntry]) -> Result<Standings, NhiError> {
        let human = chain
            .first()
            .map(|first| &first.entry.signed.link.delegator);
        let delegatees = chain.iter().map(|link| &link.entry.signed.link.delegatee);
        human
            .into_iter()
            .chain(delegatees)
            .map(|name| Ok(Arc::clone(&self.principal(name)?.standing)))
            .collect()
    }

    pub(crate) fn signer(&self, purpose: KeyPurpose) -> SharedSigner {
        let signer = self
            .keys
            .get(&purpose)
            .expect("every purpose has a key: checked by `new`");
        Arc::clone(signer)
    }

    /// The issuer key of this `kid`, now in use or replaced and not retired, and what tells
    /// that it is.
    pub(crate) fn issuer_key(&self, kid: &str) -> Option<(VerifyingKey, Retirement)> {
        if self.issuer_kid == kid {
            let key = self.signer(KeyPurpose::Issuer).verifying_key().clone();
            return Some((key, self.issuer_retirement.clone()));
        }
        let mut former = self.former_issuers.iter();
        let found = former.find(|issuer| issuer.kid == kid)?;
        Some((found.key.clone(), found.retirement.clone()))
    }

    /// The chain that ends in this link, root first, unverified.
    pub(crate) fn chain(&self, id: LinkId) -> Result<Vec<ChainEntry>, NhiError> {
        let mut chain = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let entry = match (self.links.get(&id), chain.is_empty()) {
                (Some(entry), _) if chain.len() < LONGEST_CHAIN => entry,
                (None, true) => return Err(NhiError::UnknownDelegation { link: id }),
                _ => return Err(ChainError::NotJoined { link: id }.into()),
            };
            let link = &entry.signed.link;
            next = link.parent;
            let delegator = self.principal(&link.delegator)?;
            chain.push(ChainEntry {
                delegator: Arc::clone(&delegator.principal),
                key: delegator.known(link.key_version)?.public.clone(),
                entry: entry.clone(),
            });
        }
        chain.reverse();
        Ok(chain)
    }
}

impl Registry {
    /// Rebuilds everything from the store.
    pub(crate) fn load(
        snapshot: Snapshot,
        trust_domain: &str,
        keys: &KeyMaker,
    ) -> Result<Self, NhiError> {
        let mut registry = Self::default();
        for stored in snapshot.organizations {
            registry.add_organization(OrgState::new(&stored, trust_domain, keys)?);
        }
        let mut former = FormerKeys::of(snapshot.former_keys);
        for stored in snapshot.principals {
            if stored.principal.verifying_key != stored.key.public {
                return Err(corrupt("principal", "its two public keys differ"));
            }
            // Links are believed by these public keys and those before them, and kinds
            // by nothing else: all are what the wrapped key says, not what the rows say.
            let org = stored.principal.org;
            let before = former.take(&stored.principal);
            let wrapping = wrapping_after(&stored.principal, &before)?;
            keys.signer(org, &stored.key, &wrapping)?;
            registry
                .orgs
                .get_mut(&stored.principal.org)
                .ok_or_else(|| corrupt("principal", "its organization is missing"))?
                .add_with_keys(stored, before)?;
        }
        former.all_taken()?;
        registry.end_keys(snapshot.key_revocations)?;
        for StoredLink { signed, revoked_at } in snapshot.links {
            let status = revoked_at.map_or_else(LinkStatus::active, LinkStatus::revoked);
            registry
                .orgs
                .get_mut(&signed.link.org)
                .ok_or_else(|| corrupt("delegation", "its organization is missing"))?
                .add_signed(signed, status)
                .map_err(|_| corrupt("delegation", "a principal or key of it is missing"))?;
        }
        for StoredSuspension {
            org,
            principal,
            since,
        } in snapshot.suspensions
        {
            registry
                .orgs
                .get(&org)
                .and_then(|state| state.principals.get(&principal))
                .ok_or_else(|| corrupt("suspension", "its principal is missing"))?
                .standing
                .suspend(since);
        }
        for stored in snapshot.expulsions {
            registry
                .orgs
                .get(&stored.org)
                .and_then(|state| state.principals.get(&stored.principal))
                .ok_or_else(|| corrupt("revocation", "its principal is missing"))?
                .standing
                .revoke(stored.at);
        }
        for stored in snapshot.roles {
            let state = registry.orgs.get(&stored.org);
            state
                .filter(|state| state.owner != stored.human)
                .and_then(|state| state.principals.get(&stored.human))
                .filter(|entry| entry.principal.kind == PrincipalType::Human)
                .ok_or_else(|| corrupt("role", "it is of nobody who can have another"))?
                .standing
                .set_role(Some(stored.role));
        }
        for stored in snapshot.epochs {
            registry.begin_epoch(stored)?;
        }
        Ok(registry)
    }

    pub(crate) fn add_organization(&mut self, state: OrgState) {
        let org = state.organization.id;
        self.issuers.insert(state.issuer_kid.clone(), org);
        for former in &state.former_issuers {
            self.issuers.insert(former.kid.clone(), org);
        }
        self.orgs.insert(org, state);
    }

    /// Tokens are signed by another key from now on; those of the one before hold.
    pub(crate) fn replace_issuer(
        &mut self,
        org: OrgId,
        signer: SharedSigner,
        rotation: u32,
        at: Timestamp,
    ) -> Result<(), NhiError> {
        let kid = key_id(signer.verifying_key())?;
        let state = self
            .orgs
            .get_mut(&org)
            .ok_or(NhiError::UnknownOrganization { org })?;
        let former = state.keys.insert(KeyPurpose::Issuer, signer);
        state.rotation = rotation;
        let former_kid = std::mem::replace(&mut state.issuer_kid, kid.clone());
        let retirement = std::mem::take(&mut state.issuer_retirement);
        if let Some(former) = former {
            state.former_issuers.push(KnownIssuer {
                kid: former_kid,
                key: former.verifying_key().clone(),
                replaced_at: at,
                retirement,
            });
        }
        self.issuers.insert(kid, org);
        Ok(())
    }

    /// Keys of the log take the place of others, which sign checkpoints besides.
    pub(crate) fn replace_log_keys(
        &mut self,
        org: OrgId,
        keys: Vec<(KeyPurpose, SharedSigner)>,
    ) -> Result<(), NhiError> {
        let state = self
            .orgs
            .get_mut(&org)
            .ok_or(NhiError::UnknownOrganization { org })?;
        for (purpose, signer) in keys {
            let former = state.keys.insert(purpose, signer);
            if let Some(former) = former.filter(|_| purpose.signs_checkpoints()) {
                state.former_log_keys.insert(purpose, former);
            }
        }
        Ok(())
    }

    pub(crate) fn begin_epoch(&mut self, stored: StoredEpoch) -> Result<(), NhiError> {
        let missing = || corrupt("credential epoch", "its human is missing");
        let state = self.orgs.get_mut(&stored.org).ok_or_else(missing)?;
        let human = state.principals.get(&stored.human).ok_or_else(missing)?;
        let standing = Arc::clone(&human.standing);
        let epoch = Epoch {
            id: stored.epoch,
            since: stored.since,
        };
        let before = state.epochs.insert(stored.human, epoch);
        if before.is_none_or(|before| before.id != epoch.id) {
            standing.supersede();
        }
        Ok(())
    }

    pub(crate) fn org(&self, org: OrgId) -> Result<&OrgState, NhiError> {
        self.orgs
            .get(&org)
            .ok_or(NhiError::UnknownOrganization { org })
    }
}

/// Verifies what was not verified before, and gives the chain as hops. Called
/// without any lock: a signature takes its time.
pub(crate) fn verified_hops(
    chain: &[ChainEntry],
    allowed: &Allowed<SignatureAlgorithm>,
) -> Result<Vec<Hop>, NhiError> {
    let mut above: Vec<&DelegationLink> = Vec::with_capacity(chain.len());
    for ChainEntry {
        entry,
        delegator,
        key,
    } in chain
    {
        if !entry.is_verified() {
            verify_beneath(&entry.signed, &above, delegator, key, allowed)?;
            entry.set_verified();
        }
        above.push(&entry.signed.link);
    }
    Ok(chain.iter().map(|link| link.entry.hop()).collect())
}

/// Verifies one link given the verified links above it and its delegator.
pub(crate) fn verify_beneath(
    signed: &SignedLink,
    above: &[&DelegationLink],
    delegator: &Principal,
    key: &VerifyingKey,
    allowed: &Allowed<SignatureAlgorithm>,
) -> Result<(), NhiError> {
    let link = signed.link.id;
    let not_allowed = |source| ChainError::NotAllowed { link, source };
    let algorithm = signed.signature.algorithm();
    allowed.check(algorithm).map_err(not_allowed)?;
    check_link(&signed.link, above)?;
    if above.is_empty() && delegator.kind != PrincipalType::Human {
        return Err(NhiError::NotHuman {
            name: delegator.name.clone(),
        });
    }
    Ok(verify_link(signed, key)?)
}

pub(crate) fn corrupt(what: &'static str, why: &'static str) -> NhiError {
    StoreError::Corrupt {
        what,
        source: why.into(),
    }
    .into()
}
