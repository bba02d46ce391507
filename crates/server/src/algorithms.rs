//! `[crypto]`: which algorithms are used and which are read.

use std::str::FromStr;

use creto_config::{AlgorithmsSection, CryptoSection};
use creto_crypto::{
    Accepted, Algorithm, Allowed, AllowedAlgorithms, CryptoError, HolderAlgorithm,
    SignatureAlgorithm,
};
use creto_nhi::KeyPurpose;

use crate::config::{ServerConfigError, invalid};

/// What the section does not say is as in [`AllowedAlgorithms::default`].
pub(crate) fn algorithms(section: &CryptoSection) -> Result<AllowedAlgorithms, ServerConfigError> {
    let defaults = AllowedAlgorithms::default();
    let signature = allowed(
        "crypto.signatures",
        &section.signatures,
        &defaults.signature,
    )?;
    let made = SignatureAlgorithm::OF_ORGANIZATIONS;
    if !made.contains(&signature.for_new()) {
        let made = made.map(SignatureAlgorithm::as_str).join(" or ");
        return Err(invalid(
            "crypto.signatures.new",
            &format!("must be {made}, which take a context that tells the uses of a key apart"),
        ));
    }
    // Of the first line of checkpoints the format fixes the algorithm.
    for purpose in KeyPurpose::ALL {
        if let Some(algorithm) = purpose.fixed_algorithm()
            && signature.check(algorithm).is_err()
        {
            return Err(invalid(
                "crypto.signatures.accepted",
                &format!(
                    "must have {algorithm}: the key `{purpose}` of every organization is of it"
                ),
            ));
        }
    }
    Ok(AllowedAlgorithms {
        signature,
        wrapping: allowed(
            "crypto.key_wrapping",
            &section.key_wrapping,
            &defaults.wrapping,
        )?,
        aead: allowed("crypto.sealing", &section.sealing, &defaults.aead)?,
        kem: allowed("crypto.kem", &section.kem, &defaults.kem)?,
        hash: allowed("crypto.digests", &section.digests, &defaults.hash)?,
        holder: proofs(section.dpop.accepted.as_deref())?,
    })
}

/// One name of an algorithm stands for all of its names.
fn proofs(accepted: Option<&[String]>) -> Result<Accepted<HolderAlgorithm>, ServerConfigError> {
    let Some(names) = accepted else {
        return Ok(AllowedAlgorithms::default().holder);
    };
    if names.is_empty() {
        return Err(invalid("crypto.dpop.accepted", "must have an algorithm"));
    }
    let parse = |name: &String| parsed("crypto.dpop.accepted", name);
    let read = names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Ok(Accepted::new(read))
}

fn parsed<A>(key: &str, name: &str) -> Result<A, ServerConfigError>
where
    A: Algorithm + FromStr<Err = CryptoError>,
{
    name.parse::<A>().map_err(|error| {
        let known: Vec<&str> = A::ALL.iter().map(|algorithm| algorithm.name()).collect();
        let known = known.join(", ");
        invalid(key, &format!("names an {error}; known are {known}"))
    })
}

fn allowed<A>(
    key: &str,
    section: &AlgorithmsSection,
    defaults: &Allowed<A>,
) -> Result<Allowed<A>, ServerConfigError>
where
    A: Algorithm + FromStr<Err = CryptoError>,
{
    let parse = |member: &str, name: &String| parsed::<A>(&format!("{key}.{member}"), name);
    let new = match &section.new {
        Some(name) => parse("new", name)?,
        None => defaults.for_new(),
    };
    let accepted = match &section.accepted {
        Some(names) => names
            .iter()
            .map(|name| parse("accepted", name))
            .collect::<Result<Vec<A>, _>>()?,
        None => {
            let mut accepted = defaults.accepted().to_vec();
            if !accepted.contains(&new) {
                accepted.push(new);
            }
            accepted
        }
    };
    Allowed::new(new, accepted).map_err(|_| {
        invalid(
            &format!("{key}.accepted"),
            &format!("must have {new}, by which new objects are made"),
        )
    })
}

#[cfg(test)]
mod tests {
    use creto_crypto::{HashAlgorithm, KemAlgorithm, WrapAlgorithm};

    use super::*;

    /// The defaults, and what a section adds to them.
    const KEMS: [KemAlgorithm; 3] = [
        KemAlgorithm::XWing,
        KemAlgorithm::MlKem768,
        KemAlgorithm::MlKem1024,
    ];

    fn read(text: &str) -> Result<AllowedAlgorithms, String> {
        let section: CryptoSection = toml::from_str(text).unwrap();
        algorithms(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_as_by_default() {
        assert_eq!(read("").unwrap(), AllowedAlgorithms::default());
    }

    #[test]
    fn a_new_algorithm_is_accepted_beside_those_of_before() {
        let read = read(
            "[signatures]\nnew = \"ML-DSA-65\"\n\
             [key_wrapping]\nnew = \"HKDF-SHA384+ChaCha20-Poly1305\"\n\
             [kem]\nnew = \"ML-KEM-1024\"\n\
             [digests]\nnew = \"blake3\"\n\
             [dpop]\naccepted = [\"EdDSA\"]\n",
        )
        .unwrap();
        assert_eq!(read.holder.list(), [HolderAlgorithm::Ed25519]);
        assert_eq!(read.signature.for_new(), SignatureAlgorithm::MlDsa65);
        for algorithm in SignatureAlgorithm::OF_ORGANIZATIONS {
            read.signature.check(algorithm).unwrap();
        }
        assert!(read.signature.check(SignatureAlgorithm::MlDsa44).is_err());
        assert_eq!(read.kem.for_new(), KemAlgorithm::MlKem1024);
        assert_eq!(read.kem.accepted(), KEMS);
        assert_eq!(read.hash.for_new(), HashAlgorithm::Blake3);
        assert!(read.hash.check(HashAlgorithm::Sha384).is_ok());
        assert!(read.hash.check(HashAlgorithm::Sha3_256).is_err());
        assert_eq!(
            read.wrapping.accepted(),
            [
                WrapAlgorithm::HkdfSha256Aes256Gcm,
                WrapAlgorithm::HkdfSha384ChaCha20Poly1305
            ]
        );
    }

    #[test]
    fn each_mistake_is_named_with_its_key() {
        for (text, key, why) in [
            (
                "[signatures]\nnew = \"RS256\"",
                "crypto.signatures.new",
                "known are Ed25519, ML-DSA-44, ML-DSA-65, ML-DSA-65-Ed25519",
            ),
            (
                "[key_wrapping]\naccepted = [\"A256GCM\"]",
                "crypto.key_wrapping.accepted",
                "unknown algorithm `A256GCM`; known are HKDF-SHA256+A256GCM, \
                 HKDF-SHA384+A256GCM, HKDF-SHA512+A256GCM, HKDF-SHA256+ChaCha20-Poly1305, \
                 HKDF-SHA384+ChaCha20-Poly1305, HKDF-SHA512+ChaCha20-Poly1305",
            ),
            (
                "[key_wrapping]\nnew = \"HKDF-SHA3-256+A256GCM\"",
                "crypto.key_wrapping.new",
                "unknown algorithm `HKDF-SHA3-256+A256GCM`",
            ),
            (
                "[kem]\nnew = \"RSA\"",
                "crypto.kem.new",
                "known are ML-KEM-768, ML-KEM-1024, X-Wing",
            ),
            (
                "[dpop]\naccepted = [\"RS256\"]",
                "crypto.dpop.accepted",
                "known are ES256, Ed25519",
            ),
            ("[dpop]\naccepted = []", "crypto.dpop.accepted", "must have"),
            (
                "[digests]\nnew = \"md5\"",
                "crypto.digests.new",
                "known are sha-256, sha-384, sha-512, sha3-256, blake3",
            ),
            (
                "[signatures]\nnew = \"Ed25519\"",
                "crypto.signatures.new",
                "context",
            ),
            (
                "[signatures]\nnew = \"ML-DSA-44\"",
                "crypto.signatures.new",
                "must be ML-DSA-65 or ML-DSA-65-Ed25519",
            ),
            (
                "[signatures]\nnew = \"ML-DSA-65\"\naccepted = [\"ML-DSA-65\"]",
                "crypto.signatures.accepted",
                "log_ed25519",
            ),
            (
                "[signatures]\naccepted = [\"ML-DSA-65-Ed25519\"]",
                "crypto.signatures.accepted",
                "log_ed25519",
            ),
            (
                "[signatures]\nnew = \"ML-DSA-65\"\naccepted = [\"ML-DSA-65-Ed25519\", \"Ed25519\"]",
                "crypto.signatures.accepted",
                "must have ML-DSA-65",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key) && error.contains(why), "{error}");
        }
    }
}
