//! Payloads at rest: each under the key of its subject, which is destroyed to erase them.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use creto_crypto::{
    AeadAlgorithm, AeadKey, AlgorithmsInUse, AllowedAlgorithms, CryptoError, CryptoProvider,
    InForce, KdfAlgorithm, KeyRing, Keystore, MAC_LENGTH, Sealed, Secret, WrappedKey, WrappingKey,
    unknown_algorithm,
};
use creto_errors::Classify as _;
use creto_types::{OrgId, StoreError, SubjectId};

use crate::{Commitment, IndexKey, Opening};

/// Bytes of a subject's key.
const KEY_LEN: usize = 32;

/// Bytes of a nonce, of either cipher.
const NONCE_LEN: usize = 12;

/// Bytes of a tag, of either cipher.
const TAG_LEN: usize = 16;

/// Separates the keys of payloads from whatever else may be derived of a subject's.
const CONTEXT: &[u8] = b"creto/payload/v1\0";

/// Separates the key of the search index from those of payloads.
const INDEX_CONTEXT: &[u8] = b"creto/search/v1\0";

/// The key of a subject, in memory. Wiped with its last clone.
#[derive(Clone)]
pub struct SubjectKey(Arc<Secret>);

impl SubjectKey {
    /// What search terms are tagged under, when this is the key of the organization itself:
    /// that one is never erased, and its wrapping may change without changing it.
    pub fn index_key(&self) -> Result<IndexKey, CryptoError> {
        let mut derived = vec![0; MAC_LENGTH];
        let outcome =
            KdfAlgorithm::HkdfSha256.derive(&[], self.0.expose(), &[INDEX_CONTEXT], &mut derived);
        // Wiped from here on, whatever came of it.
        let derived = Secret::new(derived);
        outcome?;
        Ok(IndexKey::of(&derived))
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubjectKey").finish_non_exhaustive()
    }
}

/// A subject that was made and is not stored yet.
#[derive(Clone, Debug)]
pub struct NewSubject {
    /// Its pseudonym.
    pub id: SubjectId,
    /// Its key.
    pub key: SubjectKey,
    /// The same for the store, under the organization's wrapping key.
    pub wrapped: WrappedKey,
}

/// Makes subjects, and seals and opens payloads.
pub struct Sealer {
    /// Of what the store names alone; which one is the newest, the store says.
    ring: KeyRing,
    provider: Arc<dyn CryptoProvider>,
    algorithms: InForce,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// Keys are wrapped and payloads sealed by the algorithms for new objects; what is of
    /// an accepted one is opened.
    #[must_use]
    pub fn new(
        keystore: Arc<dyn Keystore>,
        provider: Arc<dyn CryptoProvider>,
        algorithms: InForce,
    ) -> Self {
        Self {
            ring: KeyRing::new(keystore, Arc::clone(&provider), algorithms.clone()),
            provider,
            algorithms,
        }
    }

    /// With keys that everybody knows.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn for_tests() -> Self {
        Self::for_tests_with("7", "A256GCM")
    }

    /// With the root key of one digit, over and over, and this cipher for new payloads;
    /// both are read.
    #[cfg(feature = "test-util")]
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "tests name what there is")]
    pub fn for_tests_with(digit: &str, cipher: &str) -> Self {
        use creto_crypto::Allowed;

        let random = Arc::new(creto_types::SystemRandom);
        let provider = Arc::new(creto_crypto::AwsLcProvider::new(random));
        let root = creto_crypto::RootKey::from_hex(&digit.repeat(64)).expect("it is hexadecimal");
        let new = cipher.parse().expect("it is a cipher");
        let both = [AeadAlgorithm::Aes256Gcm, AeadAlgorithm::ChaCha20Poly1305];
        let algorithms = AllowedAlgorithms {
            aead: Allowed::new(new, both).expect("it is one of both"),
            ..AllowedAlgorithms::default()
        };
        Self::new(
            Arc::new(creto_crypto::LocalKeystore::new(root, provider.clone())),
            provider,
            algorithms.into(),
        )
    }

    /// With the keys of [`Sealer::for_tests`], and a keystore that notes who asks it.
    #[cfg(feature = "test-util")]
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "tests name what there is")]
    pub fn for_tests_noting() -> (Self, Arc<crate::NotingKeystore>) {
        let random = Arc::new(creto_types::SystemRandom);
        let provider = Arc::new(creto_crypto::AwsLcProvider::new(random));
        let root = creto_crypto::RootKey::from_hex(&"7".repeat(64)).expect("it is hexadecimal");
        let keystore = Arc::new(crate::NotingKeystore::new(root, provider.clone()));
        let algorithms = AllowedAlgorithms::default().into();
        (Self::new(keystore.clone(), provider, algorithms), keystore)
    }

    /// Where this keeps the root key.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn for_tests_on(keystore: Arc<dyn Keystore>) -> Self {
        let random = Arc::new(creto_types::SystemRandom);
        let provider = Arc::new(creto_crypto::AwsLcProvider::new(random));
        Self::new(keystore, provider, AllowedAlgorithms::default().into())
    }

    /// As [`Sealer::for_tests_with`], and accepts no other cipher.
    #[cfg(feature = "test-util")]
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "tests name what there is")]
    pub fn for_tests_only_with(digit: &str, cipher: &str) -> Self {
        use creto_crypto::Allowed;

        let new = cipher.parse().expect("it is a cipher");
        let sealer = Self::for_tests_with(digit, cipher);
        sealer.algorithms.replace(AllowedAlgorithms {
            aead: Allowed::only(new),
            ..AllowedAlgorithms::default()
        });
        sealer
    }

    /// Opens a wrapping key of an organization, so that nobody waits for the keystore who
    /// makes or unlocks a subject under it.
    pub fn open_wrapping(&self, org: OrgId, key: &WrappingKey) -> Result<(), CryptoError> {
        self.ring.add(org, key)
    }

    /// Forgets the wrapping keys before this version, which were retired.
    pub fn retire_before(&self, org: OrgId, version: u32) {
        self.ring.retire_before(org, version);
    }

    /// A new subject. Its key is wrapped under this wrapping key; without one, directly
    /// under the root key.
    pub fn make(
        &self,
        org: OrgId,
        wrapping: Option<&WrappingKey>,
    ) -> Result<NewSubject, CryptoError> {
        let mut bytes = [0_u8; 16];
        self.provider.random(&mut bytes);
        let id = SubjectId::of_random(bytes);
        let mut secret = vec![0; KEY_LEN];
        self.provider.random(&mut secret);
        let secret = Secret::new(secret);
        let purpose = id.key_purpose(org);
        let wrapped = self.ring.wrap_under(org, wrapping, &purpose, &secret)?;
        let key = SubjectKey(Arc::new(secret));
        Ok(NewSubject { id, key, wrapped })
    }

    /// The key of a stored subject. `wrapping` is the wrapping key that it names.
    pub fn unlock(
        &self,
        org: OrgId,
        subject: SubjectId,
        wrapping: Option<&WrappingKey>,
        wrapped: &WrappedKey,
    ) -> Result<SubjectKey, CryptoError> {
        let purpose = subject.key_purpose(org);
        let secret = self.ring.unwrap_under(org, wrapping, &purpose, wrapped)?;
        Ok(SubjectKey(Arc::new(secret)))
    }

    /// The lists by which it seals and opens.
    #[must_use]
    pub const fn algorithms(&self) -> &InForce {
        &self.algorithms
    }

    /// Whether these lists and the keystore read everything of what is stored.
    pub fn reads_all_of(
        &self,
        lists: &AllowedAlgorithms,
        stored: &AlgorithmsInUse,
    ) -> Result<(), StoreError> {
        lists
            .read_all_of(stored, self.ring.keystore())
            .map_err(|error| unreadable("data", error))
    }

    /// A fresh salt.
    #[must_use]
    pub fn salt(&self) -> [u8; 32] {
        self.provider.salt()
    }

    /// Salt and payload for the store. They are bound to whose they are, and to the
    /// leaf's commitment; where the leaf stands is not known yet.
    pub fn seal(
        &self,
        key: &SubjectKey,
        org: OrgId,
        subject: SubjectId,
        commitment: Commitment,
        opening: &Opening,
    ) -> Result<Vec<u8>, CryptoError> {
        let bound = bound(org, subject, commitment);
        let algorithm = self.algorithms.now().aead.for_new();
        let cipher = cipher(&key.0, algorithm, commitment)?;
        let name = algorithm.as_str();
        let length = u8::try_from(name.len()).map_err(|_| CryptoError::Engine {
            operation: "naming a cipher",
        })?;
        let plaintext = [opening.salt().as_slice(), opening.payload()];
        let all: usize = plaintext.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(1 + name.len() + NONCE_LEN + all + TAG_LEN);
        bytes.push(length);
        bytes.extend_from_slice(name.as_bytes());
        self.provider
            .append_sealed(&cipher, &bound, &plaintext, &mut bytes)?;
        Ok(bytes)
    }

    /// What [`Sealer::seal`] sealed for the same subject and commitment.
    pub fn open(
        &self,
        key: &SubjectKey,
        org: OrgId,
        subject: SubjectId,
        commitment: Commitment,
        bytes: &[u8],
    ) -> Result<Opening, CryptoError> {
        let (algorithm, nonce, ciphertext) = parts(bytes)?;
        let algorithm = self.algorithms.now().aead.check(algorithm)?;
        let sealed = Sealed::from_parts(algorithm, nonce, ciphertext)?;
        let bound = bound(org, subject, commitment);
        let cipher = cipher(&key.0, algorithm, commitment)?;
        let opened = self.provider.open(&cipher, &bound, &sealed)?;
        Opening::from_bytes(opened.expose()).ok_or(CryptoError::OpenFailed)
    }
}

/// Each payload has a key of its own: random nonces of 96 bits bear 2^32 messages of one
/// key (NIST SP 800-38D, section 8.3), which a busy organization has in half a day. Each
/// cipher too, so that no key is used with two. The commitment, which is salted, is there
/// once.
fn cipher(
    secret: &Secret,
    algorithm: AeadAlgorithm,
    commitment: Commitment,
) -> Result<AeadKey, CryptoError> {
    let mut derived = vec![0; KEY_LEN];
    let info = [
        CONTEXT,
        algorithm.as_str().as_bytes(),
        b"\0",
        commitment.as_bytes(),
    ];
    let outcome = KdfAlgorithm::HkdfSha256.derive(&[], secret.expose(), &info, &mut derived);
    // Wiped from here on, whatever came of it.
    let derived = Secret::new(derived);
    outcome?;
    AeadKey::from_bytes(algorithm, derived.expose())
}

fn bound(org: OrgId, subject: SubjectId, commitment: Commitment) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    bytes.extend_from_slice(CONTEXT);
    // Writing to memory does not fail.
    let _ = write!(bytes, "{org}\0{subject}\0");
    bytes.extend_from_slice(commitment.as_bytes());
    bytes
}

/// A thing of the store that does not open: by an algorithm that is not accepted, for the
/// keystore does not open it, or because it is broken.
#[must_use]
pub fn unreadable(what: &'static str, error: CryptoError) -> StoreError {
    let (code, class) = (error.code(), error.class());
    match error {
        CryptoError::UnknownAlgorithm { .. } | CryptoError::AlgorithmNotAllowed { .. } => {
            let source = Box::new(error);
            StoreError::Algorithm { what, code, source }
        }
        CryptoError::KeystoreUnavailable { .. }
        | CryptoError::KeystoreRefused { .. }
        | CryptoError::KeystoreForeign { .. } => StoreError::Keystore {
            what,
            code,
            class,
            source: Box::new(error),
        },
        error => StoreError::Corrupt {
            what,
            source: Box::new(error),
        },
    }
}

/// A document of the store that does not parse: for it names an algorithm that is unknown
/// here, or because it is broken.
#[must_use]
pub fn unparsed(what: &'static str, text: &str, error: serde_json::Error) -> StoreError {
    let unknown = serde_json::from_str(text);
    let unknown = unknown.map(|document| unknown_algorithm(&document));
    match unknown {
        Ok(Some(unknown)) => unreadable(what, unknown),
        _ => StoreError::Corrupt {
            what,
            source: Box::new(error),
        },
    }
}

/// The cipher that sealed bytes name.
pub fn sealed_by(bytes: &[u8]) -> Result<AeadAlgorithm, CryptoError> {
    parts(bytes).map(|(algorithm, ..)| algorithm)
}

fn parts(bytes: &[u8]) -> Result<(AeadAlgorithm, &[u8], &[u8]), CryptoError> {
    let split = || {
        let (length, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN)?;
        Some((std::str::from_utf8(name).ok()?, nonce, ciphertext))
    };
    let (name, nonce, ciphertext) = split().ok_or(CryptoError::OpenFailed)?;
    Ok((name.parse()?, nonce, ciphertext))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_payload_has_a_key_of_its_own() {
        let sealer = Sealer::for_tests();
        let secret = || Secret::new(vec![7; KEY_LEN]);
        let (one, two) = (
            Commitment::from_bytes([1; 32]),
            Commitment::from_bytes([2; 32]),
        );
        let aes = AeadAlgorithm::Aes256Gcm;
        let key = |commitment| cipher(&secret(), aes, commitment).unwrap();
        let sealed = sealer.provider.seal(&key(one), b"aad", b"text").unwrap();
        assert!(sealer.provider.open(&key(one), b"aad", &sealed).is_ok());
        assert!(sealer.provider.open(&key(two), b"aad", &sealed).is_err());
    }

    /// The form of `docs/formats/log.md`, by Python's `hmac`: an index that is stored is found
    /// in by later builds.
    #[test]
    fn the_key_of_the_index_is_derived_of_the_subjects() {
        let key = SubjectKey(Arc::new(Secret::new(vec![7; KEY_LEN])));
        let term = crate::SearchTerm::new(crate::SearchField::Agent, "bot");
        let tag = key.index_key().unwrap().tag(&term);
        assert_eq!(hex::encode(tag.tag), "7eb808d7b9c7b1f99b6e1590c5469395");
    }

    /// The form of `docs/formats/log.md`, sealed by Python's `cryptography` with a nonce of
    /// fives: what is stored stays readable.
    #[test]
    fn what_others_seal_in_this_form_is_opened() {
        let key = SubjectKey(Arc::new(Secret::new(vec![7; KEY_LEN])));
        let org = format!("org_{:032x}", 1).parse().unwrap();
        let subject = format!("sub_{:032x}", 2).parse().unwrap();
        let commitment = Commitment::from_bytes([1; 32]);
        for (name, ciphertext) in [
            (
                "A256GCM",
                "8b187d060c019778ef7e0c2d2ce6fdac8e9256fa5fa186dee461b4ac2ee7bd399aee01f3fea1cd\
                 7d83efb85cae6791689329ebd2faa45b",
            ),
            (
                "ChaCha20-Poly1305",
                "158fdfaf2d6ca0b722eefc78e4503cdf5bea8c39aceeb4ee68ea46c0bacbdb5ec167a75965d985\
                 a2dea6b0948e108942f84ec20155ede9",
            ),
        ] {
            let length = u8::try_from(name.len()).unwrap();
            let ciphertext = hex::decode(ciphertext).unwrap();
            let sealed = [&[length], name.as_bytes(), &[5; NONCE_LEN], &ciphertext].concat();
            let sealer = Sealer::for_tests_with("7", name);
            let opened = sealer.open(&key, org, subject, commitment, &sealed);
            let opened = opened.unwrap();
            assert_eq!(opened.salt(), &[9; 32]);
            assert_eq!(opened.payload(), br#"{"a":1}"#);
            // And what is sealed here has the same form, but for the nonce.
            let again = sealer
                .seal(&key, org, subject, commitment, &opened)
                .unwrap();
            let nonce = 1 + name.len()..1 + name.len() + NONCE_LEN;
            assert_eq!(
                (again.len(), &again[..nonce.start]),
                (sealed.len(), &sealed[..nonce.start])
            );
            assert_ne!(again[nonce.clone()], sealed[nonce]);
            let opened = sealer.open(&key, org, subject, commitment, &again).unwrap();
            assert_eq!(opened.payload(), br#"{"a":1}"#);
        }
    }
}
