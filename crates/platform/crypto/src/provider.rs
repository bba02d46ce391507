//! The provider: everything that makes keys, signatures or ciphertexts comes
//! from one value, handed in by the composition root.

use std::fmt;
use std::sync::Arc;

use creto_types::Randomness;
use zeroize::Zeroizing;

use crate::aead::{KEY_LEN, NONCE_LEN};
use crate::{
    AeadAlgorithm, AeadKey, CryptoError, DecapsulationKey, Digest, EncapsulationKey, HashAlgorithm,
    KemAlgorithm, KemCiphertext, Sealed, Secret, Signature, SignatureAlgorithm, SigningKey,
    VerifyingKey,
};

/// What Creto asks of an implementation of cryptography.
///
/// Keys that never leave a device do not fit a provider, which holds none; they
/// come in as a [`crate::Signer`].
pub trait CryptoProvider: Send + Sync + 'static {
    /// Hashes the data.
    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Digest;

    /// Fills the buffer with cryptographically secure random bytes.
    fn random(&self, buffer: &mut [u8]);

    /// A random salt: for what is committed to, never a key.
    fn salt(&self) -> [u8; 32];

    /// A new symmetric key.
    fn generate_aead_key(&self, algorithm: AeadAlgorithm) -> Result<AeadKey, CryptoError>;

    /// Encrypts under a random nonce; `aad` is authenticated and not stored.
    fn seal(&self, key: &AeadKey, aad: &[u8], plaintext: &[u8]) -> Result<Sealed, CryptoError>;

    /// Appends a random nonce, the ciphertext of the parts one after the other, and its
    /// tag, for who has a form of its own for them: what [`Sealed::from_parts`] takes. For
    /// a key that seals this one message.
    /// When it fails, `output` is as it was.
    fn append_sealed(
        &self,
        key: &AeadKey,
        aad: &[u8],
        plaintext: &[&[u8]],
        output: &mut Vec<u8>,
    ) -> Result<(), CryptoError>;

    /// Decrypts what [`CryptoProvider::seal`] made with the same key and `aad`.
    fn open(&self, key: &AeadKey, aad: &[u8], sealed: &Sealed) -> Result<Secret, CryptoError>;

    /// A new signature key.
    fn generate_signing_key(
        &self,
        algorithm: SignatureAlgorithm,
    ) -> Result<SigningKey, CryptoError>;

    /// Signs `message` in `context`.
    fn sign(
        &self,
        key: &SigningKey,
        context: &[u8],
        message: &[u8],
    ) -> Result<Signature, CryptoError>;

    /// Checks a signature. See [`VerifyingKey::verify`].
    fn verify(
        &self,
        key: &VerifyingKey,
        context: &[u8],
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), CryptoError>;

    /// A new key pair for agreeing on secrets.
    fn generate_kem_key(&self, algorithm: KemAlgorithm) -> Result<DecapsulationKey, CryptoError>;

    /// A fresh secret, and the ciphertext that carries it to the key's owner.
    fn encapsulate(&self, key: &EncapsulationKey) -> Result<(KemCiphertext, Secret), CryptoError>;

    /// The secret that a ciphertext carries. A changed ciphertext gives an
    /// unrelated secret.
    fn decapsulate(
        &self,
        key: &DecapsulationKey,
        ciphertext: &KemCiphertext,
    ) -> Result<Secret, CryptoError>;
}

/// AWS-LC, and where its interface takes no context, seed or randomness of ours,
/// libcrux: ML-DSA, and ML-KEM but for opening. BLAKE3 is its authors' own.
pub struct AwsLcProvider {
    random: Arc<dyn Randomness>,
}

impl AwsLcProvider {
    /// Draws every seed, nonce and hedge from `random`.
    #[must_use]
    pub fn new(random: Arc<dyn Randomness>) -> Self {
        Self { random }
    }
}

impl fmt::Debug for AwsLcProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsLcProvider").finish_non_exhaustive()
    }
}

impl CryptoProvider for AwsLcProvider {
    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Digest {
        Digest::of(algorithm, data)
    }

    fn random(&self, buffer: &mut [u8]) {
        self.random.fill(buffer);
    }

    fn salt(&self) -> [u8; 32] {
        let mut salt = [0; 32];
        self.random.fill_short(&mut salt);
        salt
    }

    fn generate_aead_key(&self, algorithm: AeadAlgorithm) -> Result<AeadKey, CryptoError> {
        let mut bytes = Zeroizing::new([0_u8; KEY_LEN]);
        self.random.fill(bytes.as_mut());
        AeadKey::from_bytes(algorithm, bytes.as_ref())
    }

    fn seal(&self, key: &AeadKey, aad: &[u8], plaintext: &[u8]) -> Result<Sealed, CryptoError> {
        let mut nonce = [0_u8; NONCE_LEN];
        self.random.fill(&mut nonce);
        key.seal(nonce, aad, plaintext)
    }

    fn append_sealed(
        &self,
        key: &AeadKey,
        aad: &[u8],
        plaintext: &[&[u8]],
        output: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let mut nonce = [0_u8; NONCE_LEN];
        self.random.fill_short(&mut nonce);
        let before = output.len();
        output.extend_from_slice(&nonce);
        let sealed = key.append_sealed(nonce, aad, plaintext, output);
        if sealed.is_err() {
            output.truncate(before);
        }
        sealed
    }

    fn open(&self, key: &AeadKey, aad: &[u8], sealed: &Sealed) -> Result<Secret, CryptoError> {
        key.open(aad, sealed)
    }

    fn generate_signing_key(
        &self,
        algorithm: SignatureAlgorithm,
    ) -> Result<SigningKey, CryptoError> {
        let mut seeds = Zeroizing::new(vec![0_u8; algorithm.private_key_len()]);
        self.random.fill(&mut seeds);
        SigningKey::from_bytes(algorithm, &seeds)
    }

    fn sign(
        &self,
        key: &SigningKey,
        context: &[u8],
        message: &[u8],
    ) -> Result<Signature, CryptoError> {
        key.sign(context, message, self.random.as_ref())
    }

    fn verify(
        &self,
        key: &VerifyingKey,
        context: &[u8],
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), CryptoError> {
        key.verify(context, message, signature)
    }

    fn generate_kem_key(&self, algorithm: KemAlgorithm) -> Result<DecapsulationKey, CryptoError> {
        DecapsulationKey::generate(algorithm, self.random.as_ref())
    }

    fn encapsulate(&self, key: &EncapsulationKey) -> Result<(KemCiphertext, Secret), CryptoError> {
        key.encapsulate(self.random.as_ref())
    }

    fn decapsulate(
        &self,
        key: &DecapsulationKey,
        ciphertext: &KemCiphertext,
    ) -> Result<Secret, CryptoError> {
        key.decapsulate(ciphertext)
    }
}
