//! Builders for tests of this crate and of those above it.

mod device;
mod holder;

use std::sync::Arc;
use std::time::Duration;

use creto_crypto::{
    Allowed, AllowedAlgorithms, AwsLcProvider, InForce, KeyRing, Keystore, LocalKeystore, RootKey,
    SignatureAlgorithm, WrapAlgorithm, WrappedKey,
};
use creto_types::{
    Clock, Commit, Evidence, IdSource, ManualClock, OrgId, PrincipalName, SeededRandom, SystemIds,
    Timestamp,
};

use crate::keys::{organization_wrapping, principal_wrapping};
use crate::memory::MemoryNhiStore;
use crate::principal::{organization_id, spiffe_id};
use crate::principal_keys::{FormerKeys, wrapping_after};
use crate::{
    AgentIdentity, Authority, Budget, DelegationLink, DelegationRequest, Hop, KeyHolder,
    KeyVersion, LinkId, LinkStatus, Nhi, NhiConfig, NhiError, NhiStore, Principal, PrincipalType,
    Right, Snapshot, Standing, StoredPrincipal, TokenEnds,
};

pub use device::Device;
pub use holder::Holder;

/// The trust domain of tests.
pub const TRUST_DOMAIN: &str = "creto.test";

/// A principal's name from a literal.
///
/// # Panics
///
/// When the text is not a name.
#[must_use]
pub fn name(text: &str) -> PrincipalName {
    text.parse().expect("a literal in a test is a name")
}

/// Rights from literals of action and resource patterns.
///
/// # Panics
///
/// When a text is not a pattern.
#[must_use]
pub fn rights(pairs: &[(&str, &str)]) -> Vec<Right> {
    pairs
        .iter()
        .map(|(action, resource)| {
            Right::parse(action, resource).expect("a literal in a test is a pattern")
        })
        .collect()
}

/// An active link below `parent`, or at the root, with the parent's validity; it
/// is not signed and not in any store. Valid from the epoch to the year 9999.
#[must_use]
pub fn hop(
    org: OrgId,
    id: LinkId,
    parent: Option<&Hop>,
    delegator: &str,
    delegatee: &str,
    rights: Vec<Right>,
    budget: Option<Budget>,
) -> Hop {
    // One text for each name, as in a registry.
    let above = parent.map(|hop| &hop.link.delegatee);
    let above = above.filter(|above| above.as_str() == delegator);
    Hop {
        link: Arc::new(DelegationLink {
            id,
            org,
            delegator: above.cloned().unwrap_or_else(|| name(delegator)),
            delegatee: name(delegatee),
            parent: parent.map(|hop| hop.link.id),
            rights,
            not_before: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::MAX,
            max_depth: parent.map_or(8, |hop| hop.link.max_depth.saturating_sub(1)),
            budget,
            issued_at: Timestamp::UNIX_EPOCH,
            key_version: KeyVersion::FIRST,
        }),
        status: Arc::new(LinkStatus::active()),
    }
}

/// An organization of the tests' trust domain.
#[must_use]
pub fn authority(org: OrgId) -> Arc<Authority> {
    Arc::new(Authority::new(organization_id(TRUST_DOMAIN, org)))
}

/// The identity of the last hop's delegatee.
///
/// # Panics
///
/// When there is no hop.
#[must_use]
pub fn agent(hops: Vec<Hop>) -> Arc<AgentIdentity> {
    let last = &hops.last().expect("an agent acts by a chain").link;
    let (org, name) = (last.org, last.delegatee.clone());
    let expires_at = hops.iter().map(|hop| hop.link.expires_at).min();
    Arc::new(AgentIdentity {
        org,
        kind: PrincipalType::Agent,
        standing: Standing::all_good(&name, &hops),
        authority: authority(org),
        name,
        hops,
        narrowed: None,
        token_id: None,
        ends: TokenEnds::default(),
        expires_at: expires_at.unwrap_or(Timestamp::MAX),
    })
}

/// The identity of a human acting in person.
#[must_use]
pub fn human(org: OrgId, human: &str) -> Arc<AgentIdentity> {
    let name = name(human);
    Arc::new(AgentIdentity {
        org,
        kind: PrincipalType::Human,
        standing: Standing::all_good(&name, &[]),
        authority: authority(org),
        name,
        hops: Vec::new(),
        narrowed: None,
        token_id: None,
        ends: TokenEnds::default(),
        expires_at: Timestamp::MAX,
    })
}

/// Revokes a link that no store knows, and does not tell: see [`changed`].
pub fn revoke(status: &LinkStatus, at: Timestamp) {
    status.revoke(at);
}

/// Suspends a principal of an identity's chain that no store knows, and tells its
/// organization.
///
/// # Panics
///
/// When the principal is not in the chain.
pub fn suspend(identity: &AgentIdentity, principal: &str, at: Timestamp) {
    standing_of(identity, principal).suspend(at);
    identity.authority.changed();
}

/// Ends what [`suspend`] began, and tells the organization.
///
/// # Panics
///
/// When the principal is not in the chain.
pub fn resume(identity: &AgentIdentity, principal: &str) {
    standing_of(identity, principal).resume();
    identity.authority.changed();
}

fn standing_of<'a>(identity: &'a AgentIdentity, principal: &str) -> &'a Standing {
    let mut standings = identity.standing.iter();
    standings
        .find(|standing| standing.principal().as_str() == principal)
        .expect("the principal is in the chain")
}

/// Tells an organization that authority ended or came back in it.
pub fn changed(authority: &Authority) {
    authority.changed();
}

/// Leaves a principal no room for proofs until the next nonce.
pub fn use_up_proofs(nhi: &Nhi, org: OrgId, principal: &PrincipalName) {
    nhi.inner.proofs.use_up(org, principal);
}

/// A commit with one record about the organization.
#[must_use]
pub fn commit(org: OrgId, kind: &str) -> Commit {
    Commit::of(Evidence {
        org,
        kind: kind.to_owned(),
        at: Timestamp::UNIX_EPOCH,
        actor: name("tester"),
        action_id: None,
        body: serde_json::Value::Null,
    })
}

/// An [`Nhi`] with everything it was made of, so that it can be made again.
pub struct World {
    /// The service.
    pub nhi: Arc<Nhi>,
    /// Its store; open another `Nhi` on it to restart.
    pub store: Arc<dyn NhiStore>,
    /// Stands still until told.
    pub clock: Arc<ManualClock>,
    /// Ids of this clock and of seeded randomness.
    pub ids: Arc<dyn IdSource>,
}

impl World {
    /// In memory, at the start of 2026.
    ///
    /// # Panics
    ///
    /// When it cannot be opened.
    pub async fn new() -> Self {
        Self::on(Arc::new(MemoryNhiStore::new())).await
    }

    /// On this store, at the start of 2026.
    ///
    /// # Panics
    ///
    /// When it cannot be opened.
    pub async fn on(store: Arc<dyn NhiStore>) -> Self {
        Self::in_domain(store, TRUST_DOMAIN).await
    }

    /// A world of another trust domain, which does not restart.
    ///
    /// # Panics
    ///
    /// When it cannot be opened.
    pub async fn of_domain(trust_domain: &str) -> Self {
        Self::in_domain(Arc::new(MemoryNhiStore::new()), trust_domain).await
    }

    async fn in_domain(store: Arc<dyn NhiStore>, trust_domain: &str) -> Self {
        let start = "2026-01-01T00:00:00Z"
            .parse()
            .expect("the literal is an instant");
        let clock = Arc::new(ManualClock::new(start));
        let random = Arc::new(SeededRandom::new(7));
        let ids: Arc<dyn IdSource> =
            Arc::new(SystemIds::new(Arc::clone(&clock) as Arc<dyn Clock>, random));
        let config = NhiConfig::new(trust_domain);
        let nhi = open(&store, &clock, &ids, 1, local('7'), config)
            .await
            .expect("an empty store opens");
        Self {
            nhi,
            store,
            clock,
            ids,
        }
    }

    /// Stops the service and starts it on the same store.
    ///
    /// # Panics
    ///
    /// When it cannot be opened.
    pub async fn restart(&mut self) {
        self.nhi = self.reopen('7').await.expect("a store opens again");
    }

    /// Opens the same store with the root key that repeats this digit; `7` is
    /// the right one.
    pub async fn reopen(&self, root_digit: char) -> Result<Arc<Nhi>, NhiError> {
        let config = NhiConfig::new(TRUST_DOMAIN);
        let keystore = local(root_digit);
        open(&self.store, &self.clock, &self.ids, 2, keystore, config).await
    }

    /// Opens the same store where this keeps the root key.
    pub async fn reopen_on(&self, keystore: Arc<dyn Keystore>) -> Result<Arc<Nhi>, NhiError> {
        let config = NhiConfig::new(TRUST_DOMAIN);
        let keystore = |_| keystore;
        open(&self.store, &self.clock, &self.ids, 5, keystore, config).await
    }

    /// Opens the same store under other algorithms.
    pub async fn reopen_under(&self, algorithms: impl Into<InForce>) -> Result<Arc<Nhi>, NhiError> {
        let mut config = NhiConfig::new(TRUST_DOMAIN);
        config.algorithms = algorithms.into();
        let keystore = local('7');
        open(&self.store, &self.clock, &self.ids, 3, keystore, config).await
    }

    /// Opens the same store where every token of an agent has to be bound to a key.
    pub async fn reopen_requiring_proof(&self) -> Result<Arc<Nhi>, NhiError> {
        let mut config = NhiConfig::new(TRUST_DOMAIN);
        config.require_proof = true;
        let keystore = local('7');
        open(&self.store, &self.clock, &self.ids, 4, keystore, config).await
    }

    /// The present of this world.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An instant this many seconds from now.
    ///
    /// # Panics
    ///
    /// Never for numbers a test would use.
    #[must_use]
    pub fn after(&self, seconds: u64) -> Timestamp {
        self.now()
            .checked_add(Duration::from_secs(seconds))
            .expect("a test stays in representable time")
    }

    /// Founds an organization owned by the human `owner`.
    ///
    /// # Panics
    ///
    /// When it cannot be founded.
    pub async fn organization(&self, owner: &str) -> OrgId {
        let draft = self
            .nhi
            .draft_organization("Example", name(owner))
            .expect("the name is valid");
        let org = draft.organization().id;
        self.nhi
            .commit_organization(draft, commit(org, "organization.created"))
            .await
            .expect("the store takes it");
        org
    }

    /// Adds a principal.
    ///
    /// # Panics
    ///
    /// When it cannot be added.
    pub async fn principal(&self, org: OrgId, text: &str, kind: PrincipalType) {
        let draft = self
            .nhi
            .draft_principal(org, name(text), kind)
            .expect("the name is free");
        self.nhi
            .commit_principal(draft, commit(org, "principal.created"))
            .await
            .expect("the store takes it");
    }

    /// Drafts and commits a delegation.
    pub async fn delegate(
        &self,
        org: OrgId,
        request: DelegationRequest,
    ) -> Result<LinkId, NhiError> {
        let signed = self.nhi.draft_delegation(org, request)?;
        let id = signed.link.id;
        self.nhi
            .commit_delegation(signed, commit(org, "delegation.granted"))
            .await?;
        Ok(id)
    }

    /// A request for every right for one day, without a budget.
    #[must_use]
    pub fn request(
        &self,
        delegator: &str,
        delegatee: &str,
        parent: Option<LinkId>,
    ) -> DelegationRequest {
        DelegationRequest {
            delegator: name(delegator),
            delegatee: name(delegatee),
            parent,
            rights: rights(&[("*", "*")]),
            not_before: None,
            expires_at: self.after(24 * 60 * 60),
            max_depth: None,
            budget: None,
        }
    }
}

/// Every stored key as it was before organizations had wrapping keys: under the root
/// key that repeats the digit 7.
#[must_use]
pub fn under_root(snapshot: &Snapshot) -> Vec<(OrgId, KeyHolder, WrappedKey)> {
    const ALGORITHM: WrapAlgorithm = WrapAlgorithm::HkdfSha256Aes256Gcm;
    let provider = Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(9))));
    let root = RootKey::from_hex(&"7".repeat(64)).expect("64 digits are a root key");
    let keystore: Arc<dyn Keystore> = Arc::new(LocalKeystore::new(root, provider.clone()));
    let algorithms = AllowedAlgorithms {
        wrapping: Allowed::only(ALGORITHM),
        ..AllowedAlgorithms::default()
    };
    let ring = KeyRing::new(Arc::clone(&keystore), provider, algorithms.into());
    let mut keys = Vec::new();
    for stored in &snapshot.organizations {
        let org = stored.organization.id;
        for key in &stored.wrapping {
            ring.add(org, key).expect("the root key is the right one");
        }
        for (purpose, key) in &stored.keys {
            let wrapping = organization_wrapping(org, *purpose);
            keys.push((org, KeyHolder::Organization(*purpose), wrapping, key));
        }
        for former in &stored.former_log_keys {
            let wrapping = organization_wrapping(org, former.purpose);
            let holder = KeyHolder::FormerLog(former.purpose);
            keys.push((org, holder, wrapping, &former.key));
        }
    }
    let mut former = FormerKeys::of(snapshot.former_keys.clone());
    for stored in &snapshot.principals {
        let before = former.take(&stored.principal);
        let wrapping = wrapping_after(&stored.principal, &before).expect("keys are JSON");
        let holder = KeyHolder::Principal(stored.principal.name.clone());
        keys.push((stored.principal.org, holder, wrapping, &stored.key));
    }
    keys.into_iter()
        .map(|(org, holder, purpose, key)| {
            let secret = ring.unwrap(org, &purpose, &key.wrapped);
            let secret = secret.expect("its wrapping key is there");
            let wrapped = keystore.wrap(ALGORITHM, &purpose, &secret);
            (org, holder, wrapped.expect("it can be wrapped"))
        })
        .collect()
}

/// An agent that was never added, with a key of the cheapest algorithm, Ed25519: for a
/// store that is to hold very many. It can be delegated to and signs nothing.
///
/// # Panics
///
/// When the organization is not there.
#[must_use]
pub fn cheap_agent(nhi: &Nhi, org: OrgId, name: PrincipalName) -> StoredPrincipal {
    let inner = &nhi.inner;
    let kind = PrincipalType::Agent;
    let wrapping = principal_wrapping(org, kind, &name);
    let key = inner
        .keys
        .make(org, Some(SignatureAlgorithm::Ed25519), &wrapping)
        .expect("the organization has a wrapping key");
    StoredPrincipal {
        principal: Principal {
            org,
            spiffe_id: spiffe_id(&inner.config.trust_domain, org, kind, &name),
            name,
            kind,
            created_at: inner.clock.now(),
            verifying_key: key.public.clone(),
        },
        key,
    }
}

/// The root key that repeats this digit.
fn local(digit: char) -> impl FnOnce(Arc<AwsLcProvider>) -> Arc<dyn Keystore> {
    let root = RootKey::from_hex(&digit.to_string().repeat(64)).expect("64 digits are a root key");
    move |provider| Arc::new(LocalKeystore::new(root, provider))
}

async fn open(
    store: &Arc<dyn NhiStore>,
    clock: &Arc<ManualClock>,
    ids: &Arc<dyn IdSource>,
    seed: u64,
    keystore: impl FnOnce(Arc<AwsLcProvider>) -> Arc<dyn Keystore>,
    config: NhiConfig,
) -> Result<Arc<Nhi>, NhiError> {
    let provider: Arc<AwsLcProvider> =
        Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(seed))));
    Nhi::open(
        Arc::clone(store),
        provider.clone(),
        keystore(provider),
        Arc::clone(ids),
        Arc::clone(clock) as Arc<dyn Clock>,
        config,
    )
    .await
}
