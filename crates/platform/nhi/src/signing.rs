//! What an agent has signed with its own key, which never leaves this crate.
//!
//! What is signed names its signer, what it is for and when it was signed, and is
//! framed so that it is never a delegation or a token (`framing.rs`). Format:
//! `docs/formats/signatures.md`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use creto_crypto::{
    Allowed, AllowedAlgorithms, CryptoError, Digest, HashAlgorithm, Signature, SignatureAlgorithm,
    Signer, VerifyingKey,
};
use creto_errors::{Class, Classify};
use creto_types::{Commit, OrgId, PrincipalName, Receipt, StoreError, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::instance::instance_in;
use crate::keys::{KEY_TYPE, key_id};
use crate::principal::organization_id;
use crate::service::to_completion;
use crate::{AgentIdentity, Nhi, NhiError, PrincipalKey, PrincipalType, framing};

/// The label that a statement is signed under.
pub const SIGNED_LABEL: &str = "creto/signed/v1";

/// The label that a statement about a digest is signed under.
pub const SIGNED_DIGEST_LABEL: &str = "creto/signed-digest/v1";

/// The longest message that is signed, in bytes. Of anything longer a digest is.
pub const MAX_SIGNED_LEN: usize = 16 * 1024;

/// What a signature is for, in the words of whoever asks for it: 1 to 63 of `a-z`,
/// `0-9`, `-`, `_`, `.`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SigningPurpose(PrincipalName);

/// A text is not a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "1 to 63 characters of a-z, 0-9, `-`, `_` and `.` are expected, the first a letter or a digit"
)]
pub struct SigningPurposeError;

impl SigningPurpose {
    /// The purpose as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for SigningPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SigningPurpose {
    type Err = SigningPurposeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The alphabet is the one of principals.
        text.parse().map(Self).map_err(|_| SigningPurposeError)
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub enum Signable<'a> {
    /// The bytes themselves, at most [`MAX_SIGNED_LEN`].
    Message(&'a [u8]),
    /// The digest of something of any length.
    Digest(&'a Digest),
}

/// A message that an agent signed, without the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedStatement {
    /// The SPIFFE id of the agent, or of the instance of it that acted.
    pub signer: String,
    /// What it is for.
    pub purpose: SigningPurpose,
    /// When it was signed.
    #[serde(deserialize_with = "framing::instant")]
    pub signed_at: Timestamp,
    /// The thumbprint of the agent's key.
    pub kid: String,
    /// The digest that was signed in the place of the message.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "present"
    )]
    pub digest: Option<Digest>,
    /// Over all of these but `kid`, and over the message when there is no digest.
    pub signature: Signature,
}

/// Absent or a digest: `null` would be another text of the same statement.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    Digest::deserialize(deserializer).map(Some)
}

impl SignedStatement {
    pub(crate) fn sign(
        signer: &dyn Signer,
        id: String,
        purpose: SigningPurpose,
        signed_at: Timestamp,
        content: Signable<'_>,
    ) -> Result<Self, NhiError> {
        let at = signed_at.to_string();
        let named = [id.as_bytes(), purpose.as_str().as_bytes(), at.as_bytes()];
        let signature = content
            .framed(named, |label, fields| framing::sign(signer, label, fields))
            .map_err(|source| NhiError::Crypto {
                operation: "sign a statement",
                source,
            })?;
        Ok(Self {
            kid: key_id(signer.verifying_key())?,
            digest: match content {
                Signable::Message(_) => None,
                Signable::Digest(digest) => Some(digest.clone()),
            },
            signer: id,
            purpose,
            signed_at,
            signature,
        })
    }

    /// Checks that this key signed the content with all that the statement says. Whose
    /// key it is has to be known from elsewhere: [`PublicKeys::verify`].
    pub fn verify(&self, key: &VerifyingKey, content: Signable<'_>) -> Result<(), CryptoError> {
        let digest = match content {
            Signable::Message(_) => None,
            Signable::Digest(digest) => Some(digest),
        };
        if self.digest.as_ref() != digest {
            return Err(CryptoError::SignatureInvalid);
        }
        let at = self.signed_at.to_string();
        let named = [
            self.signer.as_bytes(),
            self.purpose.as_str().as_bytes(),
            at.as_bytes(),
        ];
        content.framed(named, |label, fields| {
            framing::verify(key, label, fields, &self.signature)
        })
    }
}

impl Signable<'_> {
    /// Calls with the label and the fields of the frame: what the statement names, and this.
    fn framed<T>(
        self,
        [signer, purpose, at]: [&[u8]; 3],
        call: impl FnOnce(&str, &[&[u8]]) -> T,
    ) -> T {
        match self {
            Self::Message(message) => call(SIGNED_LABEL, &[signer, purpose, at, message]),
            Self::Digest(digest) => {
                let digest = digest.to_string();
                call(
                    SIGNED_DIGEST_LABEL,
                    &[signer, purpose, at, digest.as_bytes()],
                )
            }
        }
    }
}

/// A key that principals sign with, as a JWK: `kty` is `AKP` (RFC 9964).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Its thumbprint.
    pub kid: String,
    /// The key.
    #[serde(flatten)]
    pub key: VerifyingKey,
}

impl From<&PrincipalKey> for PublicKey {
    fn from(key: &PrincipalKey) -> Self {
        Self {
            kid: key.kid.clone(),
            key: key.key.clone(),
        }
    }
}

/// A key of a principal that was revoked: nothing that it signed holds any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedKey {
    /// Its thumbprint.
    pub kid: String,
}

impl From<&PrincipalKey> for RevokedKey {
    fn from(key: &PrincipalKey) -> Self {
        Self {
            kid: key.kid.clone(),
        }
    }
}

/// A key in a document that is not understood here: RFC 7517, section 5, passes over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// What it is called.
    pub kid: String,
    /// The algorithm that it names.
    pub algorithm: String,
}

/// Whose keys these are. What else stands in such a document is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReadKeys")]
pub struct PublicKeys {
    /// The SPIFFE id of the principal.
    pub spiffe_id: String,
    /// Its keys, newest first: the one that signs now, unless it was revoked, and those
    /// before.
    pub keys: Vec<PublicKey>,
    /// Those that were revoked. Apart, so that whoever does not know that there are such
    /// finds no key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked_keys: Vec<RevokedKey>,
    /// Those of the document that are of no use here, so that whoever needs one is told
    /// why it is not there.
    #[serde(skip)]
    pub passed_over: Vec<PassedOver>,
}

#[derive(Deserialize)]
struct ReadKeys {
    spiffe_id: String,
    keys: Vec<ReadKey>,
    #[serde(default)]
    revoked_keys: Vec<RevokedKey>,
}

enum ReadKey {
    Known(PublicKey),
    PassedOver(PassedOver),
}

impl<'de> Deserialize<'de> for ReadKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = Value::deserialize(deserializer)?;
        let text = |name| key.get(name).and_then(Value::as_str);
        let (kind, algorithm) = (text("kty"), text("alg").unwrap_or_default());
        let known = algorithm.parse::<SignatureAlgorithm>().is_ok();
        if known && kind.is_none_or(|kind| kind == KEY_TYPE) {
            let read = serde_json::from_value(key).map(Self::Known);
            return read.map_err(serde::de::Error::custom);
        }
        Ok(Self::PassedOver(PassedOver {
            kid: text("kid").unwrap_or_default().to_owned(),
            algorithm: algorithm.to_owned(),
        }))
    }
}

impl From<ReadKeys> for PublicKeys {
    fn from(read: ReadKeys) -> Self {
        let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
        for key in read.keys {
            match key {
                ReadKey::Known(key) => keys.push(key),
                ReadKey::PassedOver(key) => passed_over.push(key),
            }
        }
        Self {
            spiffe_id: read.spiffe_id,
            keys,
            revoked_keys: read.revoked_keys,
            passed_over,
        }
    }
}

/// A statement does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// It says to be of somebody else.
    #[error("it says to be signed by {signer}, not by {expected}")]
    OtherSigner {
        /// Who it says.
        signer: String,
        /// Whose it was to be.
        expected: String,
    },
    /// It was signed for something else.
    #[error("it was signed for `{purpose}`, not for `{expected}`")]
    OtherPurpose {
        /// For what.
        purpose: SigningPurpose,
        /// What it was to be for.
        expected: String,
    },
    /// It names a key that is none of the signer's.
    #[error("{kid} is no key of the signer")]
    UnknownKey {
        /// Which.
        kid: String,
    },
    /// It names a key of the signer's that was revoked.
    #[error("the key {kid} of the signer was revoked")]
    KeyRevoked {
        /// Which.
        kid: String,
    },
    /// A prekey is called by the name of another.
    #[error("{id} is not the id of this key")]
    OtherId {
        /// The name.
        id: String,
    },
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] CryptoError),
}

impl Classify for StatementError {
    fn class(&self) -> Class {
        match self {
            Self::OtherSigner { .. }
            | Self::OtherPurpose { .. }
            | Self::UnknownKey { .. }
            | Self::KeyRevoked { .. }
            | Self::OtherId { .. } => Class::Security,
            Self::Signature(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::OtherSigner { .. } => "signed_by_another",
            Self::OtherPurpose { .. } => "signed_for_another_purpose",
            Self::UnknownKey { .. } => "signing_key_unknown",
            Self::KeyRevoked { .. } => "signed_by_revoked_key",
            Self::OtherId { .. } => "prekey_id_mismatch",
            Self::Signature(error) => error.code(),
        }
    }
}

impl PublicKeys {
    /// Checks that the statement is of this principal, or of an instance of it, and
    /// that one of its keys signed the message, or its digest when the statement has one.
    /// Signature and digest are of algorithms that these lists read.
    pub fn verify(
        &self,
        signed: &SignedStatement,
        message: &[u8],
        lists: &AllowedAlgorithms,
    ) -> Result<(), StatementError> {
        match &signed.digest {
            None => self.verify_content(signed, Signable::Message(message), lists),
            Some(digest) => {
                let function = lists.hash.check(digest.algorithm())?;
                self.verify_digest(signed, &Digest::of(function, message), lists)
            }
        }
    }

    /// The same of a statement about a digest, which was computed of the message by the
    /// function that the statement names.
    pub fn verify_digest(
        &self,
        signed: &SignedStatement,
        digest: &Digest,
        lists: &AllowedAlgorithms,
    ) -> Result<(), StatementError> {
        lists.hash.check(digest.algorithm())?;
        self.verify_content(signed, Signable::Digest(digest), lists)
    }

    fn verify_content(
        &self,
        signed: &SignedStatement,
        content: Signable<'_>,
        lists: &AllowedAlgorithms,
    ) -> Result<(), StatementError> {
        lists.signature.check(signed.signature.algorithm())?;
        self.key_of(&signed.signer, &signed.kid)
            .and_then(|key| Ok(signed.verify(key, content)?))
    }

    /// Checks that these are the keys of a principal, or of the agent of an instance.
    pub fn of(&self, spiffe_id: &str) -> Result<(), StatementError> {
        if instance_in(spiffe_id, &self.spiffe_id).is_some() {
            return Ok(());
        }
        Err(StatementError::OtherSigner {
            signer: spiffe_id.to_owned(),
            expected: self.spiffe_id.clone(),
        })
    }

    /// The key of this thumbprint, for what says to be signed by `signer`. That a
    /// document names a key by a thumbprint which is another's helps nobody: the
    /// signature is checked with the key.
    pub(crate) fn key_of(&self, signer: &str, kid: &str) -> Result<&VerifyingKey, StatementError> {
        self.of(signer)?;
        if self.revoked_keys.iter().any(|key| key.kid == kid) {
            return Err(StatementError::KeyRevoked {
                kid: kid.to_owned(),
            });
        }
        if let Some(key) = self.keys.iter().find(|key| key.kid == kid) {
            return Ok(&key.key);
        }
        if let Some(key) = self.passed_over.iter().find(|key| key.kid == kid) {
            key.algorithm.parse::<SignatureAlgorithm>()?;
        }
        Err(StatementError::UnknownKey {
            kid: kid.to_owned(),
        })
    }
}

/// What others may know of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPrincipal {
    /// Its name.
    pub name: PrincipalName,
    /// Human or agent.
    pub kind: PrincipalType,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether it was revoked, for ever.
    pub revoked: bool,
    /// Its SPIFFE id, and by which keys what it signed is checked.
    pub public: PublicKeys,
    /// The same keys, oldest first, and what else is known of each.
    pub keys: Vec<PrincipalKey>,
}

impl Nhi {
    /// A digest of a function that is read here. `field` is what it is called where it
    /// came from.
    pub fn digest(&self, field: &'static str, text: &str) -> Result<Digest, NhiError> {
        let digest: Result<Digest, CryptoError> = text.parse();
        digest
            .and_then(|digest| {
                self.digest_algorithms().check(digest.algorithm())?;
                Ok(digest)
            })
            .map_err(|why| NhiError::KeyRefused { field, why })
    }

    /// By which function new digests are made, and which are read.
    #[must_use]
    pub fn digest_algorithms(&self) -> Allowed<HashAlgorithm> {
        self.inner.config.algorithms.now().hash.clone()
    }

    /// Signs a message or a digest with the key of the agent that acts, for this purpose
    /// and at this instant. Whether it may is the caller's to decide, and to have on record before
    /// the statement is handed out.
    pub fn sign_statement(
        &self,
        identity: &AgentIdentity,
        purpose: SigningPurpose,
        signed_at: Timestamp,
        content: Signable<'_>,
    ) -> Result<SignedStatement, NhiError> {
        if let Signable::Message(message) = content
            && message.len() > MAX_SIGNED_LEN
        {
            return Err(NhiError::Invalid {
                field: "message",
                why: format!("must have at most {MAX_SIGNED_LEN} bytes; sign a digest instead"),
            });
        }
        let (signer, _) = self.inner.principal_signer(identity.org, &identity.name)?;
        SignedStatement::sign(&signer, identity.acting_id(), purpose, signed_at, content)
    }

    /// Makes the evidence of a statement durable. Refused when the key that signed it was
    /// revoked meanwhile.
    pub async fn commit_statement(
        &self,
        identity: &AgentIdentity,
        signed: &SignedStatement,
        commit: Commit,
    ) -> Result<Receipt, NhiError> {
        let (org, name, kid) = (identity.org, identity.name.clone(), signed.kid.clone());
        let inner = Arc::clone(&self.inner);
        to_completion(commit.turn(), async move {
            let added = inner
                .store
                .add_statement(org, name.clone(), kid.clone(), commit);
            let result = added.await;
            if let Err(StoreError::Conflict { what: "key" }) = result {
                inner.told_of_keys().await;
            }
            // Also when it was revoked since the store said yes.
            Self { inner }.signed_in_force(org, &name, &kid)?;
            Ok(result?)
        })
        .await
    }

    /// The principal of an organization with this SPIFFE id, which may be that of an
    /// instance of an agent.
    pub fn known_principal(
        &self,
        org: OrgId,
        id: &str,
    ) -> Result<Option<KnownPrincipal>, NhiError> {
        let inner = &self.inner;
        let domain = organization_id(&inner.config.trust_domain, org);
        let path = id.strip_prefix(&domain).and_then(|id| id.strip_prefix('/'));
        let mut parts = path.into_iter().flat_map(|path| path.split('/'));
        let (Some(_), Some(name)) = (parts.next(), parts.next()) else {
            return Ok(None);
        };
        let Ok(name) = name.parse::<PrincipalName>() else {
            return Ok(None);
        };
        let found = inner
            .registry
            .read()
            .org(org)?
            .principals
            .get(&name)
            .cloned();
        let Some(entry) = found else {
            return Ok(None);
        };
        let principal = &entry.principal;
        let is_this = match principal.kind {
            PrincipalType::Human => id == principal.spiffe_id,
            PrincipalType::Agent => instance_in(id, &principal.spiffe_id).is_some(),
        };
        if !is_this {
            return Ok(None);
        }
        let keys = entry.listed()?;
        let (revoked, in_force): (Vec<_>, Vec<_>) = keys.iter().rev().partition(|key| key.revoked);
        Ok(Some(KnownPrincipal {
            name,
            kind: principal.kind,
            suspended: entry.standing.is_suspended(),
            revoked: entry.standing.is_revoked(),
            public: PublicKeys {
                spiffe_id: principal.spiffe_id.clone(),
                keys: in_force.into_iter().map(PublicKey::from).collect(),
                revoked_keys: revoked.into_iter().map(RevokedKey::from).collect(),
                passed_over: Vec::new(),
            },
            keys,
        }))
    }
}
