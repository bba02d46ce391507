//! One step of authority: a signed link from a delegator to a delegatee.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use creto_crypto::{Signature, Signer, VerifyingKey};
use creto_types::{
    CanonicalError, Id, IdKind, Line, OrgId, PrincipalName, Timestamp, canonical_json,
};
use serde::{Deserialize, Serialize};

use crate::error::ChainError;
use crate::since::Since;
use crate::{Budget, KeyVersion, Right};

/// The context a link is signed in.
pub const DELEGATION_CONTEXT: &[u8] = b"creto/delegation/v1";

/// The most rights in one link.
pub const MAX_RIGHTS: usize = 64;

/// The kind of [`LinkId`].
#[derive(Debug)]
pub enum LinkKind {}

impl IdKind for LinkKind {
    const PREFIX: &'static str = "lnk";
}

/// One delegation.
pub type LinkId = Id<LinkKind>;

/// What one principal lets another do in its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegationLink {
    /// Its id.
    pub id: LinkId,
    /// Both principals are of this organization.
    pub org: OrgId,
    /// Who gives.
    pub delegator: PrincipalName,
    /// Who is given.
    pub delegatee: PrincipalName,
    /// The link by which the delegator holds what it gives; absent when the
    /// delegator is a human and the chain starts here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<LinkId>,
    /// What is given: any of these.
    pub rights: Vec<Right>,
    /// From when on.
    pub not_before: Timestamp,
    /// Until when, exclusive.
    pub expires_at: Timestamp,
    /// How many links may follow below this one; 0 forbids passing it on.
    pub max_depth: u8,
    /// The most it may cost. Without one, the budgets above still hold.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub budget: Option<Budget>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Which of the delegator's keys signs it; absent when that is the first, which
    /// alone there was in links of before.
    #[serde(skip_serializing_if = "KeyVersion::is_first", default)]
    pub key_version: KeyVersion,
}

impl DelegationLink {
    /// The bytes that are signed: RFC 8785.
    pub fn signing_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical_json(self)
    }

    /// Whether one of the rights allows the action on the resource.
    #[must_use]
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        self.rights
            .iter()
            .any(|right| right.matches(action, resource))
    }
}

/// A link and its delegator's signature: what is stored, shown and verified
/// offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedLink {
    /// What is signed. Every identity that acts by it shares it.
    #[serde(with = "shared")]
    pub link: Arc<DelegationLink>,
    /// By the delegator's key, in [`DELEGATION_CONTEXT`].
    pub signature: Signature,
}

/// A shared value is written as what it is.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

pub(crate) enum SignError {
    Canonical(CanonicalError),
    Crypto(creto_crypto::CryptoError),
}

impl SignedLink {
    pub(crate) fn sign(link: DelegationLink, signer: &dyn Signer) -> Result<Self, SignError> {
        let bytes = link.signing_bytes().map_err(SignError::Canonical)?;
        let signature = signer
            .sign(DELEGATION_CONTEXT, &bytes)
            .map_err(SignError::Crypto)?;
        Ok(Self {
            link: Arc::new(link),
            signature,
        })
    }
}

/// Checks the signature of one link by its delegator's key. It says nothing
/// about the link's place in a chain: see [`crate::verify_chain`].
pub fn verify_link(signed: &SignedLink, delegator: &VerifyingKey) -> Result<(), ChainError> {
    let link = signed.link.id;
    let bytes = signed
        .link
        .signing_bytes()
        .map_err(|source| ChainError::NotCanonical { link, source })?;
    delegator
        .verify(DELEGATION_CONTEXT, &bytes, &signed.signature)
        .map_err(|source| ChainError::Forged { link, source })
}

/// Whether a link was revoked, by itself or with the key that signed it. Shared by
/// everyone who holds the link, so that a revocation is seen by the very next check.
#[derive(Debug, Default)]
pub struct LinkStatus {
    own: Ended,
    /// Of the key that signed it: one for all of that key's links. `None` for a link that
    /// no registry knows.
    key: Option<Arc<Ended>>,
}

/// Whether something ended for ever, and when.
#[derive(Debug, Default)]
pub(crate) struct Ended(Since);

impl Ended {
    pub(crate) fn is_so(&self) -> bool {
        self.0.is_so()
    }

    /// `None` for something that ended only as long as the store has not told.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.0.at()
    }

    /// The first end stands.
    pub(crate) fn end(&self, at: Timestamp) {
        self.0.first(at);
    }

    /// Dead from now on; the instant is still to be told.
    pub(crate) fn kill(&self) {
        self.0.untold();
    }
}

impl LinkStatus {
    /// Not revoked.
    #[must_use]
    pub fn active() -> Self {
        Self::default()
    }

    /// Revoked at this time.
    #[must_use]
    pub fn revoked(at: Timestamp) -> Self {
        let status = Self::default();
        status.revoke(at);
        status
    }

    /// The same of a link that this key signed.
    pub(crate) fn signed_by(self, key: Arc<Ended>) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// Whether it was revoked, by itself or with its key. True from before
    /// [`crate::Nhi::revoke`] or [`crate::Nhi::revoke_key`] returns, for ever.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.own.is_so() || self.is_key_revoked()
    }

    /// Whether the key that signed it was revoked.
    #[must_use]
    pub fn is_key_revoked(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.is_so())
    }

    /// When it was revoked by itself. `None` for a dead link only as long as the store
    /// has not told, or when it died with its key.
    #[must_use]
    pub fn revoked_at(&self) -> Option<Timestamp> {
        self.own.at()
    }

    pub(crate) fn revoke(&self, at: Timestamp) {
        self.own.end(at);
    }

    pub(crate) fn kill(&self) {
        self.own.kill();
    }

    pub(crate) fn is_itself_revoked(&self) -> bool {
        self.own.is_so()
    }
}

/// One link of a chain as a check sees it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The link.
    pub link: Arc<DelegationLink>,
    /// Its status, always current.
    pub status: Arc<LinkStatus>,
}

/// A link as it stands now. Clones share one value.
#[derive(Clone, Debug)]
pub struct LinkView(Arc<KnownLink>);

/// What a registry knows of a link.
#[derive(Debug)]
pub struct KnownLink {
    /// The link and its signature.
    pub signed: SignedLink,
    /// Its own status; it is also dead when a link above it is.
    pub status: Arc<LinkStatus>,
    /// Its signature and its place in its chain were checked in this process.
    /// Neither ever changes, so once is enough.
    verified: AtomicBool,
}

impl LinkView {
    pub(crate) fn new(signed: SignedLink, status: LinkStatus) -> Self {
        Self(Arc::new(KnownLink {
            signed,
            status: Arc::new(status),
            verified: AtomicBool::new(false),
        }))
    }

    pub(crate) fn hop(&self) -> Hop {
        Hop {
            link: Arc::clone(&self.signed.link),
            status: Arc::clone(&self.status),
        }
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.0.verified.load(Ordering::Acquire)
    }

    pub(crate) fn set_verified(&self) {
        self.0.verified.store(true, Ordering::Release);
    }

    /// Asks memory for what whoever takes the link reads of it.
    pub(crate) fn ask_memory(&self) {
        Line::of(&*self.0).ask();
    }
}

impl Deref for LinkView {
    type Target = KnownLink;

    fn deref(&self) -> &KnownLink {
        &self.0
    }
}
