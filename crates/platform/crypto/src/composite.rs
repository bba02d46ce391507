//! Composite ML-DSA-65 + Ed25519, `id-MLDSA65-Ed25519-SHA512` of
//! draft-ietf-lamps-pq-composite-sigs.
//!
//! Both halves sign one message representative (section "Prefix, Label and CTX"):
//!
//! ```text
//! M' = Prefix || Label || len(ctx) || ctx || SHA-512(M)
//! ```
//!
//! and the ML-DSA half takes the label as its own context, so neither half can
//! be cut out and passed off as a plain signature.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::mldsa::{self, HEDGE_LEN, MlDsaKey, Set};
use crate::{CryptoError, encoding, sha512};

/// The object identifier of the algorithm.
pub const COMPOSITE_OID: &str = "1.3.6.1.5.5.7.6.48";

pub(crate) const NAME: &str = "ML-DSA-65-Ed25519";
const PREFIX: &[u8; 32] = b"CompositeAlgorithmSignatures2025";
const LABEL: &[u8; 30] = b"COMPSIG-MLDSA65-Ed25519-SHA512";

const ML_DSA: Set = Set::MlDsa65;

// RFC 8032, section 5.1.
const ED_SEED: usize = 32;
const ED_PUBLIC: usize = 32;
const ED_SIGNATURE: usize = 64;

pub(crate) const PUBLIC_LEN: usize = ML_DSA.public_len() + ED_PUBLIC;
pub(crate) const PRIVATE_LEN: usize = mldsa::SEED_LEN + ED_SEED;
pub(crate) const SIGNATURE_LEN: usize = ML_DSA.signature_len() + ED_SIGNATURE;

/// Both private halves, ready to sign.
pub(crate) struct CompositeKey {
    mldsa: MlDsaKey,
    ed25519: Ed25519KeyPair,
}

impl CompositeKey {
    /// Expands `mldsaSeed || tradSK` (section "SerializePrivateKey") and gives
    /// the public key `mldsaPK || tradPK` beside it.
    pub(crate) fn expand(private: &[u8]) -> Result<(Self, Vec<u8>), CryptoError> {
        let private: Zeroizing<[u8; PRIVATE_LEN]> =
            Zeroizing::new(encoding::fixed("private key", NAME, private)?);
        let (mldsa_seed, ed_seed) = private.split_at(mldsa::SEED_LEN);
        let (mldsa, mut public) = MlDsaKey::expand(ML_DSA, mldsa_seed)?;
        let ed25519 =
            Ed25519KeyPair::from_seed_unchecked(ed_seed).map_err(|_| CryptoError::Engine {
                operation: "Ed25519 key set-up",
            })?;
        public.extend_from_slice(ed25519.public_key().as_ref());
        Ok((Self { mldsa, ed25519 }, public))
    }

    /// `mldsaSig || tradSig`. `hedge` is the randomness of FIPS 204's hedged
    /// variant.
    pub(crate) fn sign(
        &self,
        context: &[u8],
        message: &[u8],
        hedge: [u8; HEDGE_LEN],
    ) -> Result<Vec<u8>, CryptoError> {
        let representative = representative(context, message)?;
        let mut signature = self.mldsa.sign(LABEL, &representative, hedge)?;
        let ed25519 = self
            .ed25519
            .try_sign(&representative)
            .map_err(|_| CryptoError::Engine {
                operation: "Ed25519 signing",
            })?;
        signature.extend_from_slice(ed25519.as_ref());
        Ok(signature)
    }
}

/// Checks both halves. Which of them failed is not told.
pub(crate) fn verify(
    public: &[u8],
    context: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    let public: [u8; PUBLIC_LEN] = encoding::fixed("public key", NAME, public)?;
    let signature: [u8; SIGNATURE_LEN] = encoding::fixed("signature", NAME, signature)?;
    let (mldsa_public, ed_public) = public.split_at(ML_DSA.public_len());
    let (mldsa_signature, ed_signature) = signature.split_at(ML_DSA.signature_len());
    let representative = representative(context, message)?;

    let mldsa = mldsa::verify(
        ML_DSA,
        mldsa_public,
        LABEL,
        &representative,
        mldsa_signature,
    )
    .is_ok();
    let ed25519 = UnparsedPublicKey::new(&ED25519, ed_public)
        .verify(&representative, ed_signature)
        .is_ok();
    if mldsa && ed25519 {
        Ok(())
    } else {
        Err(CryptoError::SignatureInvalid)
    }
}

fn representative(context: &[u8], message: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let length = u8::try_from(context.len())
        .map_err(|_| CryptoError::ContextTooLong { got: context.len() })?;
    let hash = sha512(message);
    let mut bytes = Vec::with_capacity(PREFIX.len() + LABEL.len() + 1 + context.len() + hash.len());
    bytes.extend_from_slice(PREFIX);
    bytes.extend_from_slice(LABEL);
    bytes.push(length);
    bytes.extend_from_slice(context);
    bytes.extend_from_slice(&hash);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message representative printed with the ML-DSA-65-Ed25519 example of
    /// draft-ietf-jose-pq-composite-sigs (`raw_to_be_signed`,
    /// `raw_message_representative`): the context of JOSE is empty.
    #[test]
    fn representative_of_the_jose_example() {
        let kid = "87Vn3JTmvTdxvpetv0rA5GwfoLnCkMxBDCJvYgFVuh4";
        let header = format!(r#"{{"alg":"ML-DSA-65-Ed25519","kid":"{kid}"}}"#);
        let payload = "It's a dangerous business, Frodo, going out your door.";
        let input = format!(
            "{}.{}",
            encoding::encode(header.as_bytes()),
            encoding::encode(payload.as_bytes())
        );
        let hex: String = representative(b"", input.as_bytes())
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "436f6d706f73697465416c676f726974686d5369676e61747572657332303235\
             434f4d505349472d4d4c44534136352d456432353531392d534841353132\
             00\
             9baf58046749538103f9d14500c2e6a53857983cee47d2a8b6f6170ecee7ba4f\
             854c69a342305faeb17563aa5269250d7be5c3ec63a4e9429e1f5399f014a7f1"
        );
    }

    /// The Ed25519 half of that example's signature, made with the all-zero
    /// seeds it names. Ed25519 is deterministic, ML-DSA is not, so only this half
    /// can be compared with what is printed.
    #[test]
    fn ed25519_half_of_the_jose_example() {
        let (key, _) = CompositeKey::expand(&[0; PRIVATE_LEN]).unwrap();
        let kid = "87Vn3JTmvTdxvpetv0rA5GwfoLnCkMxBDCJvYgFVuh4";
        let header = format!(r#"{{"alg":"ML-DSA-65-Ed25519","kid":"{kid}"}}"#);
        let payload = "It's a dangerous business, Frodo, going out your door.";
        let input = format!(
            "{}.{}",
            encoding::encode(header.as_bytes()),
            encoding::encode(payload.as_bytes())
        );
        let signature = key.sign(b"", input.as_bytes(), [0; 32]).unwrap();
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(hex.ends_with(
            "354600aa018983735071f1e1055063da85418d3909facfc6edcc377cac194e16\
             5b9ed4e305aafc91d60c289d3ddc420ca9070df702028cf56e11dcd5de11d90e"
        ));
    }

    #[test]
    fn a_context_of_256_bytes_is_refused() {
        assert_eq!(
            representative(&[0; 256], b""),
            Err(CryptoError::ContextTooLong { got: 256 })
        );
        assert!(representative(&[0; 255], b"").is_ok());
    }
}
