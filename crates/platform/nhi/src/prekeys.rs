//! Keys of agents by which others agree on a secret with them before they were ever in
//! touch: one of last resort, and some that each serve once.
//!
//! The private halves are the agents' alone and never come here. What is here was signed
//! with the agent's key, so that whoever is given one knows whose it is without trusting
//! who gave it. A key that serves once is given out in the transaction that makes its use
//! durable: to one, for ever. Prekeys are not remembered here but for those that are just
//! being taken. Format: `docs/formats/prekeys.md`.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use creto_crypto::{
    AllowedAlgorithms, EncapsulationKey, KemAlgorithm, Signature, Signer, VerifyingKey,
};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::keys::{key_id, thumbprint};
use crate::service::{Inner, to_completion};
use crate::{Nhi, NhiError, PublicKeys, StatementError, framing};

/// The label that a prekey is signed under.
pub const PREKEY_LABEL: &str = "creto/prekey/v1";

/// The most prekeys of one agent that wait to be used once.
pub const MAX_ONE_TIME_PREKEYS: usize = 100;

/// The name of a prekey: the thumbprint of its public half, as for signing keys. So one
/// that was published is known again for ever, whoever publishes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrekeyId(Arc<str>);

/// A text is not the id of a prekey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("43 characters of base64url are expected")]
pub struct PrekeyIdError;

impl PrekeyId {
    /// SHA-256 in unpadded base64url.
    const LENGTH: usize = 43;

    /// The id of this key.
    pub fn of(key: &EncapsulationKey) -> Result<Self, NhiError> {
        let id = thumbprint(key.algorithm().as_str(), &key.to_base64url())?;
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PrekeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PrekeyId {
    type Err = PrekeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let of_base64url = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if text.len() == Self::LENGTH && text.bytes().all(of_base64url) {
            Ok(Self(text.into()))
        } else {
            Err(PrekeyIdError)
        }
    }
}

impl TryFrom<String> for PrekeyId {
    type Error = PrekeyIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PrekeyId> for String {
    fn from(id: PrekeyId) -> Self {
        id.0.as_ref().to_owned()
    }
}

/// How often a prekey serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrekeyKind {
    /// Once.
    OneTime,
    /// Whenever no other is left, until another takes its place.
    LastResort,
}

impl PrekeyKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OneTime, Self::LastResort];

    /// The name in stores and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneTime => "one_time",
            Self::LastResort => "last_resort",
        }
    }
}

impl fmt::Display for PrekeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is not a kind of prekey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`one_time` or `last_resort` is expected")]
pub struct UnknownPrekeyKind;

impl FromStr for PrekeyKind {
    type Err = UnknownPrekeyKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or(UnknownPrekeyKind)
    }
}

/// A prekey with its owner's signature: what is stored, and what whoever takes it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prekey {
    /// The SPIFFE id of the agent that has the private half.
    pub owner: String,
    /// How often it serves.
    pub kind: PrekeyKind,
    /// Its name.
    pub id: PrekeyId,
    /// The public half.
    pub key: EncapsulationKey,
    /// When it was published.
    #[serde(deserialize_with = "framing::instant")]
    pub published_at: Timestamp,
    /// The thumbprint of the key that signed it.
    pub kid: String,
    /// Over owner, kind, key and instant.
    pub signature: Signature,
}

impl Prekey {
    fn sign(
        signer: &dyn Signer,
        kid: String,
        owner: String,
        kind: PrekeyKind,
        key: EncapsulationKey,
        published_at: Timestamp,
    ) -> Result<Self, NhiError> {
        let id = PrekeyId::of(&key)?;
        let at = published_at.to_string();
        let fields = fields(&owner, kind, &key, &at);
        let signature =
            framing::sign(signer, PREKEY_LABEL, &fields).map_err(|source| NhiError::Crypto {
                operation: "sign a prekey",
                source,
            })?;
        Ok(Self {
            owner,
            kind,
            id,
            key,
            published_at,
            kid,
            signature,
        })
    }

    /// Checks that it is of this principal, and that one of its keys signed it. That the
    /// bytes are a key was checked when it was read.
    pub fn verify(
        &self,
        keys: &PublicKeys,
        lists: &AllowedAlgorithms,
    ) -> Result<(), StatementError> {
        lists.signature.check(self.signature.algorithm())?;
        lists.kem.check(self.key.algorithm())?;
        if self.owner != keys.spiffe_id {
            return Err(StatementError::OtherSigner {
                signer: self.owner.clone(),
                expected: keys.spiffe_id.clone(),
            });
        }
        let key: &VerifyingKey = keys.key_of(&self.owner, &self.kid)?;
        let named = PrekeyId::of(&self.key).is_ok_and(|id| id == self.id);
        if !named {
            return Err(StatementError::OtherId {
                id: self.id.to_string(),
            });
        }
        let at = self.published_at.to_string();
        let fields = fields(&self.owner, self.kind, &self.key, &at);
        Ok(framing::verify(
            key,
            PREKEY_LABEL,
            &fields,
            &self.signature,
        )?)
    }
}

fn fields<'a>(
    owner: &'a str,
    kind: PrekeyKind,
    key: &'a EncapsulationKey,
    at: &'a str,
) -> [&'a [u8]; 5] {
    [
        owner.as_bytes(),
        kind.as_str().as_bytes(),
        key.algorithm().as_str().as_bytes(),
        key.as_bytes(),
        at.as_bytes(),
    ]
}

/// A prekey that can be taken, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailablePrekey {
    /// Its name.
    pub id: PrekeyId,
    /// How often it serves.
    pub kind: PrekeyKind,
    /// Its mechanism.
    pub algorithm: KemAlgorithm,
    /// The thumbprint of the key that signed it.
    pub kid: String,
}

impl From<&Prekey> for AvailablePrekey {
    fn from(prekey: &Prekey) -> Self {
        Self {
            id: prekey.id.clone(),
            kind: prekey.kind,
            algorithm: prekey.key.algorithm(),
            kid: prekey.kid.clone(),
        }
    }
}

/// Keeps prekeys, under the promises of [`crate::NhiStore`]. A prekey that was taken, or
/// replaced, is never available again, and its id is kept for ever.
#[async_trait]
pub trait PrekeyStore: Send + Sync {
    /// Adds an agent's prekeys; one of last resort takes the place of the one there is, and
    /// those of `withdrawn`, which serve once, wait no more.
    /// All of it or nothing. `Conflict` with `what` `prekey` when the organization had one
    /// of these before, `withdrawn prekey` when one of those does not wait,
    /// `prekeys` when there are none or more than [`MAX_ONE_TIME_PREKEYS`] would wait that a
    /// key signed which was not revoked,
    /// `principal` when the agent is suspended or revoked, `key` when the one that signed
    /// them was revoked; `NotFound` when there is no such principal.
    async fn publish_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
        prekeys: Vec<Prekey>,
        withdrawn: Vec<PrekeyId>,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;

    /// Whether the organization ever had one of these, whatever became of it.
    async fn any_published(&self, org: OrgId, ids: Vec<PrekeyId>) -> Result<bool, StoreError>;

    /// Those that can be taken: the ones that serve once, oldest first, and then the one
    /// of last resort.
    async fn available_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<Vec<AvailablePrekey>, StoreError>;

    /// One of those.
    async fn prekey(&self, org: OrgId, id: &PrekeyId) -> Result<Option<Prekey>, StoreError>;

    /// Takes one that is available; one that serves once is not afterwards. `Conflict`
    /// with `what` `prekey` when it is not available, `principal` when its owner is
    /// suspended or revoked, `key` when the one that signed it was revoked.
    async fn take_prekey(
        &self,
        org: OrgId,
        id: &PrekeyId,
        by: &PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<Receipt, StoreError>;
}

/// Prekeys to publish.
#[derive(Clone, Debug, Default)]
pub struct NewPrekeys {
    /// The next one of last resort; the one there is stays when absent.
    pub last_resort: Option<EncapsulationKey>,
    /// Those that serve once.
    pub one_time: Vec<EncapsulationKey>,
}

impl NewPrekeys {
    /// Their names: those that serve once, then the one of last resort. Refuses one that is
    /// there twice.
    pub fn ids(&self) -> Result<Vec<PrekeyId>, NhiError> {
        let keys = self.one_time.iter().chain(&self.last_resort);
        let ids = keys.map(PrekeyId::of).collect::<Result<Vec<_>, _>>()?;
        if ids.iter().collect::<HashSet<_>>().len() != ids.len() {
            return Err(NhiError::Invalid {
                field: "one_time",
                why: "must be keys that differ".to_owned(),
            });
        }
        Ok(ids)
    }
}

/// Prekeys that are signed and not published yet.
#[derive(Debug)]
pub struct PrekeysDraft {
    org: OrgId,
    owner: PrincipalName,
    prekeys: Vec<Prekey>,
    withdrawn: Vec<PrekeyId>,
}

impl PrekeysDraft {
    /// What is to be published.
    #[must_use]
    pub fn prekeys(&self) -> &[Prekey] {
        &self.prekeys
    }

    /// Those that wait and are given to nobody, because their algorithm is not read any
    /// more: they end with the publication, so that they take no place.
    #[must_use]
    pub fn withdrawn(&self) -> &[PrekeyId] {
        &self.withdrawn
    }
}

/// What an agent has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrekeysLeft {
    /// How many serve once.
    pub one_time: usize,
    /// The one of last resort.
    pub last_resort: Option<PrekeyId>,
}

/// The prekeys that serve once and are just being taken: who comes meanwhile looks for
/// another one. That none is given out twice is for the store to see to.
#[derive(Debug, Default)]
pub(crate) struct Taking(Mutex<HashSet<(OrgId, PrekeyId)>>);

/// A place among those that are just being taken, until it is dropped.
struct Place {
    inner: Arc<Inner>,
    named: (OrgId, PrekeyId),
}

impl Place {
    /// `None` when somebody else has it.
    fn of(inner: &Arc<Inner>, org: OrgId, id: &PrekeyId) -> Option<Self> {
        let named = (org, id.clone());
        let free = inner.taking.0.lock().insert(named.clone());
        free.then(|| Self {
            inner: Arc::clone(inner),
            named,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.taking.0.lock().remove(&self.named);
    }
}

/// A prekey that nobody else in this process takes meanwhile.
pub struct ChosenPrekey {
    org: OrgId,
    prekey: Prekey,
    /// Of one that serves once.
    _place: Option<Place>,
}

impl ChosenPrekey {
    /// Which.
    #[must_use]
    pub const fn prekey(&self) -> &Prekey {
        &self.prekey
    }
}

impl fmt::Debug for ChosenPrekey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChosenPrekey")
            .field(&self.prekey.id)
            .finish()
    }
}

impl Nhi {
    /// A prekey's public half, of an algorithm that is read here. `field` is what it is
    /// called where it came from.
    pub fn encapsulation_key(
        &self,
        field: &'static str,
        algorithm: &str,
        public: &str,
    ) -> Result<EncapsulationKey, NhiError> {
        let algorithms = self.inner.config.algorithms.now();
        let read = algorithm
            .parse()
            .and_then(|algorithm| algorithms.kem.check(algorithm))
            .and_then(|algorithm| EncapsulationKey::from_base64url(algorithm, public));
        read.map_err(|why| NhiError::KeyRefused { field, why })
    }

    /// By which algorithm new prekeys are made, and which are read.
    #[must_use]
    pub fn prekey_algorithms(&self) -> creto_crypto::Allowed<KemAlgorithm> {
        self.inner.config.algorithms.now().kem.clone()
    }

    /// Signs prekeys with the key of the agent whose private halves they belong to. That
    /// takes a while for many, beside the calls that are served meanwhile.
    pub async fn draft_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
        new: NewPrekeys,
        published_at: Timestamp,
    ) -> Result<PrekeysDraft, NhiError> {
        if new.one_time.len() > MAX_ONE_TIME_PREKEYS {
            return Err(NhiError::Invalid {
                field: "one_time",
                why: format!("must be at most {MAX_ONE_TIME_PREKEYS} keys"),
            });
        }
        new.ids()?;
        let withdrawn = self.inner.unread_prekeys(org, owner).await?;
        let (inner, owner) = (Arc::clone(&self.inner), owner.clone());
        let work = move || {
            let (signer, _) = inner.principal_signer(org, &owner)?;
            let kid = key_id(signer.verifying_key())?;
            let id = {
                let registry = inner.registry.read();
                registry
                    .org(org)?
                    .principal(&owner)?
                    .principal
                    .spiffe_id
                    .clone()
            };
            let last_resort = new.last_resort.map(|key| (PrekeyKind::LastResort, key));
            let one_time = new
                .one_time
                .into_iter()
                .map(|key| (PrekeyKind::OneTime, key));
            let prekeys = one_time
                .chain(last_resort)
                .map(|(kind, key)| {
                    Prekey::sign(&signer, kid.clone(), id.clone(), kind, key, published_at)
                })
                .collect::<Result<Vec<_>, NhiError>>()?;
            Ok(PrekeysDraft {
                org,
                owner,
                prekeys,
                withdrawn,
            })
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(StoreError::Unavailable(Box::new(error)).into()),
        }
    }

    /// Publishes them.
    pub async fn commit_prekeys(
        &self,
        draft: PrekeysDraft,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let PrekeysDraft {
                org,
                owner,
                prekeys,
                withdrawn,
            } = draft;
            let store = inner.store.prekeys();
            let kids: Vec<String> = prekeys.iter().map(|prekey| prekey.kid.clone()).collect();
            let published = store.publish_prekeys(org, &owner, prekeys, withdrawn, commit);
            match published.await {
                Err(error @ StoreError::Conflict { what: "key" }) => {
                    inner.told_of_keys().await;
                    let nhi = Self { inner };
                    for kid in &kids {
                        nhi.signed_in_force(org, &owner, kid)?;
                    }
                    Err(error.into())
                }
                published => Ok(published?),
            }
        })
        .await
    }

    /// Whether the organization ever had one of these prekeys, whatever became of it: none
    /// is published again.
    pub async fn any_prekey_published(
        &self,
        org: OrgId,
        ids: Vec<PrekeyId>,
    ) -> Result<bool, NhiError> {
        Ok(self.inner.store.prekeys().any_published(org, ids).await?)
    }

    /// What an agent has left that would be given out.
    pub async fn prekeys_left(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<PrekeysLeft, NhiError> {
        let available = self.inner.available_prekeys(org, owner).await?;
        let one_time = |row: &&AvailablePrekey| row.kind == PrekeyKind::OneTime;
        let last_resort = |row: &&AvailablePrekey| row.kind == PrekeyKind::LastResort;
        Ok(PrekeysLeft {
            one_time: available.iter().filter(one_time).count(),
            last_resort: available.iter().find(last_resort).map(|row| row.id.clone()),
        })
    }

    /// Chooses a prekey of an agent: the oldest one that serves once, or the one of last
    /// resort when none is left. `None` when there is neither. It is not taken yet:
    /// [`Nhi::take_prekey`].
    pub async fn choose_prekey(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<Option<ChosenPrekey>, NhiError> {
        let inner = &self.inner;
        for row in inner.available_prekeys(org, owner).await? {
            // Had before anything is waited for: who gives up meanwhile leaves none behind.
            let place = match row.kind {
                PrekeyKind::LastResort => None,
                PrekeyKind::OneTime => match Place::of(inner, org, &row.id) {
                    Some(place) => Some(place),
                    None => continue,
                },
            };
            // None where somebody else took it meanwhile.
            if let Some(prekey) = inner.store.prekeys().prekey(org, &row.id).await? {
                return Ok(Some(ChosenPrekey {
                    org,
                    prekey,
                    _place: place,
                }));
            }
        }
        Ok(None)
    }

    /// Takes the prekey, once the evidence of that is durable. `Conflict` when it is not
    /// available any more: choose another.
    pub async fn take_prekey(
        &self,
        chosen: ChosenPrekey,
        by: &PrincipalName,
        at: Timestamp,
        commit: Commit,
    ) -> Result<(Receipt, Prekey), NhiError> {
        let (inner, by) = (Arc::clone(&self.inner), by.clone());
        // To its end, with the place kept: who comes meanwhile does not run into it.
        to_completion(commit.turn(), async move {
            let store = inner.store.prekeys();
            let id = &chosen.prekey.id;
            let taken = store.take_prekey(chosen.org, id, &by, at, commit).await;
            if let Err(StoreError::Conflict { what: "key" }) = taken {
                // Once memory knows, it is not chosen again.
                inner.told_of_keys().await;
                return Err(StoreError::Conflict { what: "prekey" }.into());
            }
            Ok((taken?, chosen.prekey.clone()))
        })
        .await
    }
}

impl Inner {
    /// Of an algorithm that is read, and signed by a key of the agent that was not revoked.
    async fn available_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<Vec<AvailablePrekey>, NhiError> {
        let owner_entry = self.registry.read().org(org)?.principal(owner)?.clone();
        let keys = owner_entry.listed()?;
        let in_force = |kid: &str| keys.iter().any(|key| key.kid == kid && !key.revoked);
        let mut available = self.store.prekeys().available_prekeys(org, owner).await?;
        let algorithms = self.config.algorithms.now();
        let allowed = &algorithms.kem;
        available.retain(|row| in_force(&row.kid) && allowed.check(row.algorithm).is_ok());
        Ok(available)
    }

    /// Those that wait to serve once and never do: of an algorithm that is not read.
    async fn unread_prekeys(
        &self,
        org: OrgId,
        owner: &PrincipalName,
    ) -> Result<Vec<PrekeyId>, NhiError> {
        let mut waiting = self.store.prekeys().available_prekeys(org, owner).await?;
        let algorithms = self.config.algorithms.now();
        let allowed = &algorithms.kem;
        waiting
            .retain(|row| row.kind == PrekeyKind::OneTime && allowed.check(row.algorithm).is_err());
        Ok(waiting.into_iter().map(|row| row.id).collect())
    }
}
