//! The use cases. Everything that gives or takes authority is in this file.

use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use creto_crypto::{CryptoProvider, RootKey, SignatureAlgorithm, Signer};
use creto_types::{Clock, Commit, IdSource, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use parking_lot::RwLock;

use crate::chain::{depth_within, shrinks, well_formed};
use crate::keys::{KeyMaker, jwk, organization_wrapping, principal_wrapping};
use crate::link::SignError;
use crate::ports::{StoredOrganization, StoredPrincipal};
use crate::principal::{is_trust_domain, organization_id, spiffe_id};
use crate::registry::{LinkEntry, OrgState, Registry, verified_hops, verify_beneath};
use crate::token::{self, Claims, invalid};
use crate::{
    AgentIdentity, Budget, DelegationLink, Hop, KeyPurpose, LinkId, LinkStatus, LinkView, NhiError,
    NhiStore, Organization, Principal, PrincipalType, Right, SignedLink, TokenId,
};

/// A token's `iat` may lie this far ahead: the wall clock may have been stepped
/// back since it was issued.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// The longest name of an organization, in characters.
const MAX_ORGANIZATION_NAME: usize = 100;

/// Limits and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NhiConfig {
    /// The SPIFFE trust domain. It is part of every stored identity and cannot
    /// be changed later.
    pub trust_domain: String,
    /// The longest life of a token.
    pub token_ttl: Duration,
    /// The longest chain, in links.
    pub max_depth: u8,
}

impl NhiConfig {
    /// The default limits: tokens of one hour, chains of eight links.
    #[must_use]
    pub fn new(trust_domain: impl Into<String>) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            token_ttl: Duration::from_secs(60 * 60),
            max_depth: 8,
        }
    }
}

/// What a delegation is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationRequest {
    /// Who gives: a human, or the holder of `parent`.
    pub delegator: PrincipalName,
    /// The agent who is given.
    pub delegatee: PrincipalName,
    /// The link by which the delegator holds what it gives.
    pub parent: Option<LinkId>,
    /// What is given.
    pub rights: Vec<Right>,
    /// From when on; the earliest possible instant when absent.
    pub not_before: Option<Timestamp>,
    /// Until when, exclusive.
    pub expires_at: Timestamp,
    /// How many links may follow below; the most that is allowed when absent.
    pub max_depth: Option<u8>,
    /// The most it may cost. Without one, the budgets above still hold.
    pub budget: Option<Budget>,
}

/// A token and what its caller needs to know about it.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token: a credential.
    pub token: String,
    /// Its `jti`.
    pub id: TokenId,
    /// Its `exp`.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// An organization that is not founded yet.
pub struct OrganizationDraft {
    stored: StoredOrganization,
    owner: StoredPrincipal,
    state: OrgState,
}

impl OrganizationDraft {
    /// The organization.
    #[must_use]
    pub const fn organization(&self) -> &Organization {
        &self.stored.organization
    }

    /// Its first human.
    #[must_use]
    pub const fn owner(&self) -> &Principal {
        &self.owner.principal
    }
}

impl std::fmt::Debug for OrganizationDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OrganizationDraft")
            .field(self.organization())
            .field(self.owner())
            .finish()
    }
}

/// A principal that is not added yet.
#[derive(Debug)]
pub struct PrincipalDraft {
    stored: StoredPrincipal,
}

impl PrincipalDraft {
    /// The principal.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.stored.principal
    }
}

/// Identities of non-humans, and of the humans they act for.
pub struct Nhi {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn NhiStore>,
    keys: KeyMaker,
    ids: Arc<dyn IdSource>,
    clock: Arc<dyn Clock>,
    config: NhiConfig,
    registry: RwLock<Registry>,
}

impl std::fmt::Debug for Nhi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nhi")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Nhi {
    /// Loads everything from the store. Fails when the root key does not open the
    /// stored keys, or when what is stored does not fit the configuration.
    pub async fn open(
        store: Arc<dyn NhiStore>,
        provider: Arc<dyn CryptoProvider>,
        root: Arc<RootKey>,
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
        let keys = KeyMaker { provider, root };
        let registry = RwLock::new(Registry::load(snapshot, &keys)?);
        Ok(Arc::new(Self {
            inner: Arc::new(Inner {
                store,
                keys,
                ids,
                clock,
                config,
                registry,
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
        let keys = KeyPurpose::ALL
            .into_iter()
            .map(|purpose| {
                let wrapping = organization_wrapping(org, purpose);
                Ok((purpose, inner.keys.make(purpose.algorithm(), &wrapping)?))
            })
            .collect::<Result<Vec<_>, NhiError>>()?;
        let stored = StoredOrganization { organization, keys };
        let state = OrgState::new(&stored, &inner.keys)?;
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
        to_completion(async move {
            let OrganizationDraft {
                stored,
                owner,
                mut state,
            } = draft;
            let receipt = inner
                .store
                .insert_organization(stored, owner.clone(), commit)
                .await?;
            state.add_principal(owner);
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
        to_completion(async move {
            let stored = draft.stored;
            let (org, name) = (stored.principal.org, stored.principal.name.clone());
            let receipt = inner
                .store
                .insert_principal(stored.clone(), commit)
                .await
                .map_err(|error| match error {
                    StoreError::Conflict { .. } => NhiError::PrincipalExists { name },
                    other => other.into(),
                })?;
            if let Some(state) = inner.registry.write().orgs.get_mut(&org) {
                state.add_principal(stored);
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
            if delegatee.principal.kind != PrincipalType::Agent {
                return Err(NhiError::DelegateeNotAgent {
                    name: request.delegatee,
                });
            }
            let above = request.parent.map(|id| state.chain(id)).transpose()?;
            (delegator, above.unwrap_or_default())
        };
        let above = verified_hops(&above)?;
        inner.may_delegate(org, &delegator.principal, &above, now)?;

        let parent = above.last().map(|hop| hop.link.as_ref());
        let earliest = parent.map_or(now, |parent| parent.not_before.max(now));
        let deepest = match parent {
            Some(parent) => parent.max_depth,
            None => inner.config.max_depth,
        }
        .checked_sub(1);
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
        let signer = inner
            .keys
            .signer(&delegator.key, &principal_wrapping(org, &link.delegator))?;
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
        self.verify_new(&link)?;
        let inner = Arc::clone(&self.inner);
        to_completion(async move {
            let receipt = inner.store.insert_link(link.clone(), commit).await?;
            if let Some(state) = inner.registry.write().orgs.get_mut(&link.link.org) {
                state
                    .links
                    .insert(link.link.id, LinkEntry::new(link, LinkStatus::active()));
            }
            Ok(receipt)
        })
        .await
    }

    fn verify_new(&self, signed: &SignedLink) -> Result<(), NhiError> {
        let link = &signed.link;
        let (delegator, above) = {
            let registry = self.inner.registry.read();
            let state = registry.org(link.org)?;
            state.principal(&link.delegatee)?;
            let delegator = state.principal(&link.delegator)?.clone();
            let above = link.parent.map(|id| state.chain(id)).transpose()?;
            (delegator, above.unwrap_or_default())
        };
        let above = verified_hops(&above)?;
        let now = self.inner.clock.now();
        self.inner
            .may_delegate(link.org, &delegator.principal, &above, now)?;
        verify_beneath(signed, &links(&above), &delegator.principal)
    }

    /// Ends a delegation and, with it, every one below. On return no identity
    /// that holds it is live.
    pub async fn revoke(
        &self,
        org: OrgId,
        link: LinkId,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let status = {
            let registry = self.inner.registry.read();
            let entry = registry.org(org)?.links.get(&link);
            Arc::clone(&entry.ok_or(NhiError::UnknownDelegation { link })?.status)
        };
        if status.is_revoked() {
            return Err(NhiError::AlreadyRevoked { link });
        }
        let inner = Arc::clone(&self.inner);
        to_completion(async move {
            let receipt = inner
                .store
                .revoke_link(org, link, at, commit)
                .await
                .map_err(|error| match error {
                    StoreError::Conflict { .. } => NhiError::AlreadyRevoked { link },
                    other => other.into(),
                })?;
            status.revoke(at);
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
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        state
            .principals
            .range::<PrincipalName, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, entry)| Arc::clone(&entry.principal))
            .collect()
    }

    /// One delegation of an organization.
    #[must_use]
    pub fn link(&self, org: OrgId, id: LinkId) -> Option<LinkView> {
        let registry = self.inner.registry.read();
        Some(registry.orgs.get(&org)?.links.get(&id)?.view())
    }

    /// Delegations with an id greater than `after`, by id.
    #[must_use]
    pub fn links(&self, org: OrgId, after: Option<LinkId>, limit: usize) -> Vec<LinkView> {
        let registry = self.inner.registry.read();
        let Some(state) = registry.orgs.get(&org) else {
            return Vec::new();
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        state
            .links
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, entry)| entry.view())
            .collect()
    }

    /// The chain that ends in this link, root first. Every signature was
    /// verified; whether the chain is live is for [`AgentIdentity::live`].
    pub fn chain(&self, org: OrgId, id: LinkId) -> Result<Vec<Hop>, NhiError> {
        let chain = self.inner.registry.read().org(org)?.chain(id)?;
        verified_hops(&chain)
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

    /// Issues a token for an identity that is live now. It lives for `ttl`, at
    /// most as long as the configuration allows and as the chain holds.
    pub fn issue_token(
        &self,
        identity: &AgentIdentity,
        ttl: Option<Duration>,
    ) -> Result<IssuedToken, NhiError> {
        let inner = &self.inner;
        let longest = inner.config.token_ttl;
        let ttl = ttl.unwrap_or(longest);
        if ttl < Duration::from_secs(1) || ttl > longest {
            return Err(NhiError::Invalid {
                field: "ttl_seconds",
                why: format!("must be 1 to {}", longest.as_secs()),
            });
        }
        // What is signed comes from here, not from the caller's copy.
        let org = identity.org;
        let fresh = match identity.link() {
            Some(hop) => inner.identity_of(org, hop.link.id)?,
            None => inner.human(org, &identity.name)?,
        };
        let now = inner.clock.now();
        fresh.live(now)?;
        let until = now
            .saturating_add(ttl)
            .unwrap_or(Timestamp::MAX)
            .min(fresh.expires_at);
        let claims = Claims {
            iss: organization_id(&inner.config.trust_domain, org),
            sub: fresh.spiffe_id.clone(),
            aud: token::AUDIENCE.to_owned(),
            iat: now.as_second(),
            exp: until.as_second(),
            jti: inner.ids.next(),
            creto_org: org,
            creto_link: fresh.link().map(|hop| hop.link.id),
            act: token::actors(&fresh.hops, |hop| inner.delegator_id(hop))?,
        };
        let expires_at = instant(claims.exp)?;
        if expires_at <= now {
            return Err(NhiError::TokenExpired { at: expires_at });
        }
        let (signer, kid) = {
            let registry = inner.registry.read();
            let state = registry.org(org)?;
            (state.signer(KeyPurpose::Issuer), state.issuer_kid.clone())
        };
        Ok(IssuedToken {
            token: token::encode(signer.as_ref(), &kid, &claims)?,
            id: claims.jti,
            expires_at,
        })
    }

    /// Checks a token and the whole chain behind it.
    pub fn verify_token(&self, token: &str) -> Result<Arc<AgentIdentity>, NhiError> {
        let inner = &self.inner;
        let unverified = token::parse(token)?;
        let (org, key) = {
            let registry = inner.registry.read();
            let org = registry
                .issuers
                .get(&unverified.kid)
                .copied()
                .ok_or_else(|| invalid("its key is not known"))?;
            let signer = registry.org(org)?.signer(KeyPurpose::Issuer);
            (org, signer.verifying_key().clone())
        };
        let claims = unverified.verify(&key)?;
        if claims.creto_org != org || claims.iss != organization_id(&inner.config.trust_domain, org)
        {
            return Err(invalid("its key belongs to another organization"));
        }
        if claims.aud != token::AUDIENCE {
            return Err(invalid("it is for another audience"));
        }
        let now = inner.clock.now();
        let expires_at = instant(claims.exp)?;
        if now >= expires_at {
            return Err(NhiError::TokenExpired { at: expires_at });
        }
        let latest = now.saturating_add(CLOCK_STEP).unwrap_or(Timestamp::MAX);
        if instant(claims.iat)? > latest {
            return Err(invalid("it was issued in the future"));
        }
        let mut identity = match claims.creto_link {
            Some(link) => inner.identity_of(org, link)?,
            None => inner.human_by_spiffe_id(org, &claims.sub)?,
        };
        let actors = token::actors(&identity.hops, |hop| inner.delegator_id(hop))?;
        if identity.spiffe_id != claims.sub || actors != claims.act {
            return Err(invalid("it does not describe its delegation"));
        }
        identity.token_id = Some(claims.jti);
        identity.expires_at = identity.expires_at.min(expires_at);
        identity.live(now)?;
        Ok(Arc::new(identity))
    }

    /// The keys that tokens are checked with, as a JWK set.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        let registry = self.inner.registry.read();
        let keys: Vec<serde_json::Value> = registry
            .orgs
            .values()
            .map(|state| {
                let signer = state.signer(KeyPurpose::Issuer);
                jwk(signer.verifying_key(), &state.issuer_kid)
            })
            .collect();
        serde_json::json!({ "keys": keys })
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
        let key = self.keys.make(
            SignatureAlgorithm::MlDsa65Ed25519,
            &principal_wrapping(org, &name),
        )?;
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
                PrincipalType::Human => Ok(()),
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
            Err(crate::IdentityError::NotYetValid { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn identity_of(&self, org: OrgId, id: LinkId) -> Result<AgentIdentity, NhiError> {
        let (chain, holder) = {
            let registry = self.registry.read();
            let state = registry.org(org)?;
            let chain = state.chain(id)?;
            let link = state.links.get(&id);
            let link = link.ok_or(NhiError::UnknownDelegation { link: id })?;
            let holder = Arc::clone(&state.principal(&link.link.delegatee)?.principal);
            (chain, holder)
        };
        let hops = verified_hops(&chain)?;
        let expires_at = hops.iter().map(|hop| hop.link.expires_at).min();
        Ok(AgentIdentity {
            org,
            name: holder.name.clone(),
            kind: holder.kind,
            spiffe_id: holder.spiffe_id.clone(),
            hops,
            token_id: None,
            expires_at: expires_at.unwrap_or(Timestamp::MIN),
        })
    }

    fn human(&self, org: OrgId, name: &PrincipalName) -> Result<AgentIdentity, NhiError> {
        let registry = self.registry.read();
        let principal = &registry.org(org)?.principal(name)?.principal;
        if principal.kind != PrincipalType::Human {
            return Err(NhiError::NotHuman { name: name.clone() });
        }
        Ok(AgentIdentity {
            org,
            name: principal.name.clone(),
            kind: principal.kind,
            spiffe_id: principal.spiffe_id.clone(),
            hops: Vec::new(),
            token_id: None,
            expires_at: Timestamp::MAX,
        })
    }

    fn human_by_spiffe_id(&self, org: OrgId, id: &str) -> Result<AgentIdentity, NhiError> {
        let name = id
            .rsplit('/')
            .next()
            .and_then(|name| name.parse::<PrincipalName>().ok())
            .ok_or_else(|| invalid("its subject is not a principal"))?;
        self.human(org, &name)
    }

    fn delegator_id(&self, hop: &Hop) -> Result<String, NhiError> {
        let registry = self.registry.read();
        let entry = registry.org(hop.link.org)?.principal(&hop.link.delegator)?;
        Ok(entry.principal.spiffe_id.clone())
    }
}

fn links(hops: &[Hop]) -> Vec<&DelegationLink> {
    hops.iter().map(|hop| hop.link.as_ref()).collect()
}

fn instant(second: i64) -> Result<Timestamp, NhiError> {
    Timestamp::from_second(second).map_err(|_| invalid("an instant in it is out of range"))
}

fn check_config(config: &NhiConfig) -> Result<(), NhiError> {
    let invalid = |field, why: &str| {
        Err(NhiError::Invalid {
            field,
            why: why.to_owned(),
        })
    };
    if !is_trust_domain(&config.trust_domain) {
        return invalid(
            "trust_domain",
            "must be 1 to 255 of a-z, 0-9, `.`, `-` and `_`",
        );
    }
    if config.token_ttl < Duration::from_secs(1) {
        return invalid("token_ttl", "must be at least one second");
    }
    if config.max_depth == 0 {
        return invalid("max_depth", "must be at least 1");
    }
    Ok(())
}

/// Runs a change to its end even when the caller goes away in the middle:
/// between the store's yes and memory's update there is no place to stop.
async fn to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, NhiError>> + Send + 'static,
) -> Result<T, NhiError> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(StoreError::Unavailable(Box::new(error)).into()),
    }
}
