//! The use cases of organizations, principals and delegations. Those of tokens
//! are in `tokens.rs`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use creto_crypto::{CryptoProvider, KeyRing, Keystore, LocalSigner, Signer};
use creto_types::{
    Clock, Commit, IdSource, OrgId, PrincipalName, Receipt, StoreError, Timestamp, Turn,
};
use parking_lot::RwLock;

use crate::chain::{depth_within, no_loop, shrinks, well_formed};
use crate::dpop::ProofGuard;
use crate::drafts::check_config;
use crate::keys::{KeyMaker, organization_wrapping, principal_wrapping};
use crate::link::SignError;
use crate::ports::{StoredOrganization, StoredPrincipal};
use crate::prekeys::Taking;
use crate::principal::spiffe_id;
use crate::registry::{OrgState, PrincipalEntry, Registry, verified_hops, verify_beneath};
use crate::{
    AgentIdentity, DelegationLink, DelegationRequest, Hop, IdentityError, KeyPurpose, KeyVersion,
    LinkId, LinkStatus, LinkView, NhiConfig, NhiError, NhiStore, Organization, OrganizationDraft,
    Principal, PrincipalDraft, PrincipalType, SignedLink, Standing, TokenEnds,
};

/// The longest name of an organization, in characters.
const MAX_ORGANIZATION_NAME: usize = 100;

/// Identities of non-humans, and of the humans they act for.
pub struct Nhi {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn NhiStore>,
    pub(crate) keys: KeyMaker,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: NhiConfig,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) proofs: ProofGuard,
    /// Held while credentials are superseded, while anybody is suspended or resumed, and
    /// while keys of principals are replaced, revoked or wrapped anew.
    pub(crate) superseding: tokio::sync::Mutex<()>,
    /// Read while a stored key is found and unwrapped, written while the wrapping keys
    /// of such are forgotten: one that is found can be unwrapped.
    pub(crate) unwrapping: RwLock<()>,
    /// The prekeys that are just being taken.
    pub(crate) taking: Taking,
    /// See [`Nhi::tokens_ended`].
    pub(crate) tokens_ended: AtomicU64,
}

impl std::fmt::Debug for Nhi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nhi")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Nhi {
    /// Loads everything from the store. Fails when the keystore does not open the
    /// stored keys, or when what is stored does not fit the configuration.
    pub async fn open(
        store: Arc<dyn NhiStore>,
        provider: Arc<dyn CryptoProvider>,
        keystore: Arc<dyn Keystore>,
        ids: Arc<dyn IdSource>,
        clock: Arc<dyn Clock>,
        config: NhiConfig,
    ) -> Result<Arc<Self>, NhiError> {
        check_config(&config)?;
        let snapshot = store.load().await?;
        for stored in &snapshot.principals {
            let principal = &stored.principal;
            let expected = spiffe_id(
                &config.trust_domain,
                principal.org,
                principal.kind,
                &principal.name,
            );
            if principal.spiffe_id != expected {
                return Err(NhiError::TrustDomainChanged {
                    stored: principal.spiffe_id.clone(),
                    configured: config.trust_domain,
                });
            }
        }
        let keys = KeyMaker {
            ring: KeyRing::new(keystore, Arc::clone(&provider), config.algorithms.clone()),
            provider,
            algorithms: config.algorithms.clone(),
        };
        let proofs = ProofGuard::new(keys.provider.as_ref(), Arc::clone(&clock));
        let registry = RwLock::new(Registry::load(snapshot, &config.trust_domain, &keys)?);
        Ok(Arc::new(Self {
            inner: Arc::new(Inner {
                store,
                keys,
                ids,
                clock,
                config,
                registry,
                proofs,
                superseding: tokio::sync::Mutex::default(),
                unwrapping: RwLock::default(),
                taking: Taking::default(),
                tokens_ended: AtomicU64::default(),
            }),
        }))
    }

    /// Prepares an organization with all its keys and the human who owns it.
    pub fn draft_organization(
        &self,
        name: &str,
        owner: PrincipalName,
    ) -> Result<OrganizationDraft, NhiError> {
        let length = name.chars().count();
        if name.trim() != name
            || !(1..=MAX_ORGANIZATION_NAME).contains(&length)
            || name.chars().any(char::is_control)
        {
            return Err(NhiError::Invalid {
                field: "name",
                why: format!(
                    "must have 1 to {MAX_ORGANIZATION_NAME} characters, none of them a control \
                     character, and no space around them"
                ),
            });
        }
        let inner = &self.inner;
        let organization = Organization {
            id: inner.ids.next(),
            name: name.to_owned(),
            created_at: inner.clock.now(),
        };
        let org = organization.id;
        // Of an organization that is never founded it is forgotten with the process.
        let wrapping = inner.keys.ring.draft(org).and_then(|key| {
            inner.keys.ring.add(org, &key)?;
            Ok(key)
        });
        let wrapping = wrapping.map_err(|source| NhiError::Crypto {
            operation: "make a wrapping key",
            source,
        })?;
        let keys = KeyPurpose::ALL
            .into_iter()
            .map(|purpose| {
                let wrapping = organization_wrapping(org, purpose);
                Ok((
                    purpose,
                    inner.keys.make(org, purpose.fixed_algorithm(), &wrapping)?,
                ))
            })
            .collect::<Result<Vec<_>, NhiError>>()?;
        let stored = StoredOrganization {
            organization,
            owner: owner.clone(),
            keys,
            wrapping: vec![wrapping],
            former_issuers: Vec::new(),
            former_log_keys: Vec::new(),
        };
        let state = OrgState::new(&stored, &inner.config.trust_domain, &inner.keys)?;
        let owner = inner.new_principal(org, owner, PrincipalType::Human)?;
        Ok(OrganizationDraft {
            stored,
            owner,
            state,
        })
    }

    /// Founds the organization.
    pub async fn commit_organization(
        &self,
        draft: OrganizationDraft,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let OrganizationDraft {
                stored,
                owner,
                mut state,
            } = draft;
            let receipt = inner
                .store
                .insert_organization(stored, owner.clone(), commit)
                .await?;
            state.add_principal(owner)?;
            inner.registry.write().add_organization(state);
            Ok(receipt)
        })
        .await
    }

    /// Prepares a principal with its key.
    pub fn draft_principal(
        &self,
        org: OrgId,
        name: PrincipalName,
        kind: PrincipalType,
    ) -> Result<PrincipalDraft, NhiError> {
        if self
            .inner
            .registry
            .read()
            .org(org)?
            .principals
            .contains_key(&name)
        {
            return Err(NhiError::PrincipalExists { name });
        }
        let stored = self.inner.new_principal(org, name, kind)?;
        Ok(PrincipalDraft { stored })
    }

    /// Adds the principal.
    pub async fn commit_principal(
        &self,
        draft: PrincipalDraft,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let stored = draft.stored;
            let (org, name) = (stored.principal.org, stored.principal.name.clone());
            let receipt = inner
                .store
                .insert_principal(stored.clone(), commit)
                .await
                .map_err(|error| match error {
                    StoreError::Conflict { what: "principal" } => {
                        NhiError::PrincipalExists { name }
                    }
                    other => other.into(),
                })?;
            if let Some(state) = inner.registry.write().orgs.get_mut(&org) {
                state.add_principal(stored)?;
            }
            Ok(receipt)
        })
        .await
    }

    /// Checks a delegation against everything above it and signs it with the
    /// delegator's key.
    pub fn draft_delegation(
        &self,
        org: OrgId,
        request: DelegationRequest,
    ) -> Result<SignedLink, NhiError> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let (delegator, above) = {
            let registry = inner.registry.read();
            let state = registry.org(org)?;
            let delegator = state.principal(&request.delegator)?.clone();
            let delegatee = state.principal(&request.delegatee)?;
            must_be_agent(&delegatee.principal)?;
            in_good_standing(&delegatee.standing)?;
            let above = request.parent.map(|id| state.chain(id)).transpose()?;
            (delegator, above.unwrap_or_default())
        };
        let above = verified_hops(&above, &inner.config.algorithms.now().signature)?;
        inner.may_delegate(org, &delegator.principal, &above, now)?;
        no_loop(&request.delegator, &request.delegatee, &above)?;

        let parent = above.last().map(|hop| hop.link.as_ref());
        let earliest = parent.map_or(now, |parent| parent.not_before.max(now));
        let deepest = match parent {
            Some(parent) => parent.max_depth,
            None => inner.config.max_depth,
        }
        .checked_sub(1);
        let version = delegator.present().version;
        let link = DelegationLink {
            id: inner.ids.next(),
            org,
            delegator: request.delegator,
            delegatee: request.delegatee,
            parent: request.parent,
            rights: request.rights,
            not_before: request.not_before.unwrap_or(earliest),
            expires_at: request.expires_at,
            max_depth: request.max_depth.or(deepest).unwrap_or(0),
            budget: request.budget,
            issued_at: now,
            key_version: version,
        };
        well_formed(&link).map_err(|(field, why)| NhiError::Invalid {
            field,
            why: why.to_owned(),
        })?;
        if link.expires_at <= now {
            return Err(NhiError::Invalid {
                field: "expires_at",
                why: format!("must be later than now, {now}"),
            });
        }
        depth_within(link.max_depth, deepest)?;
        shrinks(&link, &links(&above))?;
        // Last: a key is unwrapped for what may be given alone.
        let (signer, present) = inner.principal_signer(org, &link.delegator)?;
        if present != version {
            return Err(StoreError::Conflict {
                what: "principal key",
            }
            .into());
        }
        SignedLink::sign(link, &signer).map_err(|error| match error {
            SignError::Canonical(error) => error.into(),
            SignError::Crypto(source) => NhiError::Crypto {
                operation: "sign a delegation",
                source,
            },
        })
    }

    /// Puts a signed delegation into force. It is verified like one from outside.
    pub async fn commit_delegation(
        &self,
        link: SignedLink,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        self.inner.verify_new(&link)?;
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let receipt = match inner.store.insert_link(link.clone(), commit).await {
                Err(error @ StoreError::Conflict { what: "key" }) => {
                    inner.told_of_keys().await;
                    inner.verify_new(&link)?;
                    return Err(error.into());
                }
                result => result?,
            };
            if let Some(state) = inner.registry.write().orgs.get_mut(&link.link.org) {
                state.add_signed(link, LinkStatus::active())?;
            }
            Ok(receipt)
        })
        .await
    }

    /// All organizations, by id.
    #[must_use]
    pub fn organizations(&self) -> Vec<Arc<Organization>> {
        let registry = self.inner.registry.read();
        registry
            .orgs
            .values()
            .map(|state| Arc::clone(&state.organization))
            .collect()
    }

    /// One organization.
    #[must_use]
    pub fn organization(&self, org: OrgId) -> Option<Arc<Organization>> {
        let registry = self.inner.registry.read();
        registry
            .orgs
            .get(&org)
            .map(|state| Arc::clone(&state.organization))
    }

    /// One principal of an organization.
    #[must_use]
    pub fn principal(&self, org: OrgId, name: &PrincipalName) -> Option<Arc<Principal>> {
        let registry = self.inner.registry.read();
        let entry = registry.orgs.get(&org)?.principals.get(name)?;
        Some(Arc::clone(&entry.principal))
    }

    /// Principals with a name greater than `after`, by name.
    #[must_use]
    pub fn principals(
        &self,
        org: OrgId,
        after: Option<&PrincipalName>,
        limit: usize,
    ) -> Vec<Arc<Principal>> {
        let registry = self.inner.registry.read();
        let Some(state) = registry.orgs.get(&org) else {
            return Vec::new();
        };
        let principals = state.principals.after(after).take(limit);
        principals
            .map(|entry| Arc::clone(&entry.principal))
            .collect()
    }

    /// One delegation of an organization.
    #[must_use]
    pub fn link(&self, org: OrgId, id: LinkId) -> Option<LinkView> {
        let registry = self.inner.registry.read();
        registry.orgs.get(&org)?.links.get(&id).cloned()
    }

    /// Delegations with an id greater than `after`, by id.
    #[must_use]
    pub fn links(&self, org: OrgId, after: Option<LinkId>, limit: usize) -> Vec<LinkView> {
        let registry = self.inner.registry.read();
        let Some(state) = registry.orgs.get(&org) else {
            return Vec::new();
        };
        let links = state.links.after(after.as_ref()).take(limit);
        links.cloned().collect()
    }

    /// The delegations that were given to a principal, newest first, whatever
    /// became of them.
    #[must_use]
    pub fn held_by(&self, org: OrgId, holder: &PrincipalName, limit: usize) -> Vec<LinkView> {
        let registry = self.inner.registry.read();
        let Some(state) = registry.orgs.get(&org) else {
            return Vec::new();
        };
        state.principals.held(holder).take(limit).cloned().collect()
    }

    /// The chain that ends in this link, root first. Every signature was
    /// verified; whether the chain is live is for [`AgentIdentity::live`].
    pub fn chain(&self, org: OrgId, id: LinkId) -> Result<Vec<Hop>, NhiError> {
        let chain = self.inner.registry.read().org(org)?.chain(id)?;
        verified_hops(&chain, &self.inner.config.algorithms.now().signature)
    }

    /// The identity of a delegation's holder acting by it. Whether it is live is
    /// for [`AgentIdentity::live`].
    pub fn identity_for_link(
        &self,
        org: OrgId,
        id: LinkId,
    ) -> Result<Arc<AgentIdentity>, NhiError> {
        self.inner.identity_of(org, id).map(Arc::new)
    }

    /// The identity of a human acting in person.
    pub fn identity_for_human(
        &self,
        org: OrgId,
        name: &PrincipalName,
    ) -> Result<Arc<AgentIdentity>, NhiError> {
        self.inner.human(org, name).map(Arc::new)
    }

    /// Signs with one of an organization's keys.
    pub fn signer(&self, org: OrgId, purpose: KeyPurpose) -> Result<Arc<dyn Signer>, NhiError> {
        let registry = self.inner.registry.read();
        Ok(registry.org(org)?.signer(purpose))
    }
}

impl Inner {
    fn new_principal(
        &self,
        org: OrgId,
        name: PrincipalName,
        kind: PrincipalType,
    ) -> Result<StoredPrincipal, NhiError> {
        let key = self
            .keys
            .make(org, None, &principal_wrapping(org, kind, &name))?;
        Ok(StoredPrincipal {
            principal: Principal {
                org,
                spiffe_id: spiffe_id(&self.config.trust_domain, org, kind, &name),
                name,
                kind,
                created_at: self.clock.now(),
                verifying_key: key.public.clone(),
            },
            key,
        })
    }

    /// The key that a principal signs with now, and its version.
    pub(crate) fn principal_signer(
        &self,
        org: OrgId,
        name: &PrincipalName,
    ) -> Result<(LocalSigner, KeyVersion), NhiError> {
        let _guard = self.unwrapping.read();
        let entry = self.registry.read().org(org)?.principal(name)?.clone();
        entry.settled()?;
        let present = entry.present();
        present.in_force(name)?;
        Ok((
            self.keys.signer(org, &entry.keys.key, &entry.wrapping()?)?,
            present.version,
        ))
    }

    fn verify_new(&self, signed: &SignedLink) -> Result<(), NhiError> {
        let link = &signed.link;
        let (delegator, above) = {
            let registry = self.registry.read();
            let state = registry.org(link.org)?;
            let delegatee = state.principal(&link.delegatee)?;
            must_be_agent(&delegatee.principal)?;
            in_good_standing(&delegatee.standing)?;
            let delegator = state.principal(&link.delegator)?.clone();
            let above = link.parent.map(|id| state.chain(id)).transpose()?;
            (delegator, above.unwrap_or_default())
        };
        let above = verified_hops(&above, &self.config.algorithms.now().signature)?;
        let now = self.clock.now();
        self.may_delegate(link.org, &delegator.principal, &above, now)?;
        no_loop(&link.delegator, &link.delegatee, &above)?;
        if above.is_empty() {
            depth_within(link.max_depth, self.config.max_depth.checked_sub(1))?;
        }
        let key = delegator.known(link.key_version)?;
        key.in_force(&link.delegator)?;
        let delegator = &delegator.principal;
        let algorithms = self.config.algorithms.now();
        let allowed = &algorithms.signature;
        verify_beneath(signed, &links(&above), delegator, &key.public, allowed)
    }

    /// Whether the delegator holds the chain it wants to pass on, now.
    fn may_delegate(
        &self,
        org: OrgId,
        delegator: &Principal,
        above: &[Hop],
        now: Timestamp,
    ) -> Result<(), NhiError> {
        let Some(parent) = above.last() else {
            return match delegator.kind {
                PrincipalType::Human => Ok(self.human(org, &delegator.name)?.live(now)?),
                PrincipalType::Agent => Err(NhiError::NotHuman {
                    name: delegator.name.clone(),
                }),
            };
        };
        if parent.link.delegatee != delegator.name {
            return Err(NhiError::ParentNotHeld {
                delegator: delegator.name.clone(),
                parent: parent.link.id,
                holder: parent.link.delegatee.clone(),
            });
        }
        // A parent that begins later may be passed on already.
        match self.identity_of(org, parent.link.id)?.live(now) {
            Err(IdentityError::NotYetValid { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn identity_of(&self, org: OrgId, id: LinkId) -> Result<AgentIdentity, NhiError> {
        let (chain, holder, standing, authority) = {
            let registry = self.registry.read();
            let state = registry.org(org)?;
            let chain = state.chain(id)?;
            let standing = state.standings(&chain)?;
            let link = state.links.get(&id);
            let link = link.ok_or(NhiError::UnknownDelegation { link: id })?;
            let holder = Arc::clone(&state.principal(&link.signed.link.delegatee)?.principal);
            (chain, holder, standing, Arc::clone(&state.authority))
        };
        let hops = verified_hops(&chain, &self.config.algorithms.now().signature)?;
        let expires_at = hops.iter().map(|hop| hop.link.expires_at).min();
        Ok(AgentIdentity {
            org,
            name: holder.name.clone(),
            kind: holder.kind,
            hops,
            standing,
            authority,
            narrowed: None,
            token_id: None,
            ends: TokenEnds::default(),
            expires_at: expires_at.unwrap_or(Timestamp::MIN),
        })
    }

    pub(crate) fn human(
        &self,
        org: OrgId,
        name: &PrincipalName,
    ) -> Result<AgentIdentity, NhiError> {
        let registry = self.registry.read();
        let state = registry.org(org)?;
        let PrincipalEntry {
            principal,
            standing,
            ..
        } = state.principal(name)?;
        if principal.kind != PrincipalType::Human {
            return Err(NhiError::NotHuman { name: name.clone() });
        }
        Ok(AgentIdentity {
            org,
            name: principal.name.clone(),
            kind: principal.kind,
            hops: Vec::new(),
            standing: Arc::new([Arc::clone(standing)]),
            authority: Arc::clone(&state.authority),
            narrowed: None,
            token_id: None,
            ends: TokenEnds::default(),
            expires_at: Timestamp::MAX,
        })
    }
}

fn must_be_agent(principal: &Principal) -> Result<(), NhiError> {
    match principal.kind {
        PrincipalType::Agent => Ok(()),
        PrincipalType::Human => Err(NhiError::DelegateeNotAgent {
            name: principal.name.clone(),
        }),
    }
}

/// Nothing is delegated to somebody revoked or suspended.
fn in_good_standing(standing: &Standing) -> Result<(), IdentityError> {
    not_revoked(standing)?;
    if standing.is_suspended() {
        return Err(IdentityError::Suspended {
            principal: standing.principal().clone(),
        });
    }
    Ok(())
}

/// What is for ever is neither begun again nor taken back.
pub(crate) fn not_revoked(standing: &Standing) -> Result<(), IdentityError> {
    if standing.is_revoked() {
        return Err(IdentityError::PrincipalRevoked {
            principal: standing.principal().clone(),
        });
    }
    Ok(())
}

fn links(hops: &[Hop]) -> Vec<&DelegationLink> {
    hops.iter().map(|hop| hop.link.as_ref()).collect()
}

/// Runs a change to its end even when the caller goes away in the middle:
/// between the store's yes and memory's update there is no place to stop. Who
/// repeats the call waits for the turn that is held until then.
pub(crate) async fn to_completion<T: Send + 'static>(
    turn: Turn,
    work: impl Future<Output = Result<T, NhiError>> + Send + 'static,
) -> Result<T, NhiError> {
    let work = async move {
        let outcome = work.await;
        drop(turn);
        outcome
    };
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(StoreError::Unavailable(Box::new(error)).into()),
    }
}
