//! Keys of those who hold something, by which they prove that it is theirs: the
//! signatures that JOSE libraries make everywhere. Nothing here is signed with them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{Algorithm, CryptoError, encoding, sha256};

/// A coordinate of a point on P-256 (RFC 7518, section 6.2.1.2).
const COORDINATE_LEN: usize = 32;
/// What a point given by both its coordinates begins with (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;
const ED25519_LEN: usize = 32;

/// The algorithms of [`HolderKey`], by the names that JOSE has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HolderAlgorithm {
    /// ECDSA on P-256 with SHA-256, `ES256` (RFC 7518, section 3.4).
    Es256,
    /// Ed25519: `Ed25519` (RFC 9864), and `EdDSA` (RFC 8037) on that curve.
    Ed25519,
}

impl HolderAlgorithm {
    /// Every name that it has in a header, its own first.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Es256 => &["ES256"],
            Self::Ed25519 => &["Ed25519", "EdDSA"],
        }
    }
}

impl Algorithm for HolderAlgorithm {
    const KIND: &'static str = "proof";
    const ALL: &'static [Self] = &[Self::Es256, Self::Ed25519];

    fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl fmt::Display for HolderAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HolderAlgorithm {
    type Err = CryptoError;

    fn from_str(text: &str) -> Result<Self, CryptoError> {
        match text {
            "ES256" => Ok(Self::Es256),
            "Ed25519" | "EdDSA" => Ok(Self::Ed25519),
            _ => Err(CryptoError::unknown(text)),
        }
    }
}

/// A public key of somebody else's.
#[derive(Clone, PartialEq, Eq)]
pub struct HolderKey(Key);

#[derive(Clone, PartialEq, Eq)]
enum Key {
    P256 {
        x: [u8; COORDINATE_LEN],
        y: [u8; COORDINATE_LEN],
    },
    Ed25519([u8; ED25519_LEN]),
}

impl HolderKey {
    /// The point with these coordinates. Whether it lies on the curve shows when a
    /// signature is verified.
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, CryptoError> {
        let name = HolderAlgorithm::Es256.name();
        let coordinate = |bytes| encoding::fixed("public key", name, bytes);
        Ok(Self(Key::P256 {
            x: coordinate(x)?,
            y: coordinate(y)?,
        }))
    }

    /// The key of RFC 8032 with these bytes.
    pub fn ed25519(bytes: &[u8]) -> Result<Self, CryptoError> {
        let name = HolderAlgorithm::Ed25519.name();
        encoding::fixed("public key", name, bytes).map(|bytes| Self(Key::Ed25519(bytes)))
    }

    /// The only algorithm it verifies.
    #[must_use]
    pub const fn algorithm(&self) -> HolderAlgorithm {
        match self.0 {
            Key::P256 { .. } => HolderAlgorithm::Es256,
            Key::Ed25519(_) => HolderAlgorithm::Ed25519,
        }
    }

    /// Checks a signature over `message`, in the form JOSE has for it.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let verified = match &self.0 {
            Key::P256 { x, y } => {
                let point = [&[UNCOMPRESSED], x.as_slice(), y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Key::Ed25519(bytes) => {
                UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature)
            }
        };
        verified.map_err(|_| CryptoError::SignatureInvalid)
    }

    /// Its SHA-256 thumbprint (RFC 7638; RFC 8037, section 2).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        let members = match &self.0 {
            Key::P256 { x, y } => {
                let (x, y) = (encoding::encode(x), encoding::encode(y));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Key::Ed25519(bytes) => {
                let x = encoding::encode(bytes);
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
        };
        Thumbprint(sha256(members.as_bytes()))
    }
}

impl fmt::Debug for HolderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HolderKey({}, {})",
            self.algorithm().name(),
            self.thumbprint()
        )
    }
}

/// The SHA-256 thumbprint of a public key (RFC 7638); as text, unpadded base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::encode(&self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = CryptoError;

    fn from_str(text: &str) -> Result<Self, CryptoError> {
        let bytes = encoding::decode("thumbprint", text)?;
        encoding::fixed("thumbprint", "SHA-256", &bytes).map(Self)
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = CryptoError;

    fn try_from(text: String) -> Result<Self, CryptoError> {
        text.parse()
    }
}

impl From<Thumbprint> for String {
    fn from(thumbprint: Thumbprint) -> Self {
        thumbprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        encoding::decode("test", text).unwrap()
    }

    /// RFC 8037, appendix A.3 and A.4.
    #[test]
    fn an_ed25519_key_verifies_and_has_the_thumbprint_of_the_rfc() {
        let key = HolderKey::ed25519(&bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
        let key = key.unwrap();
        assert_eq!(
            key.thumbprint().to_string(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = bytes(
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt\
             9g7sVvpAr_MuM0KAg",
        );
        key.verify(message, &signature).unwrap();
        assert!(key.verify(b"other", &signature).is_err());
    }

    /// RFC 7515, appendix A.3; the thumbprint is that of RFC 7638's rule by hand.
    #[test]
    fn a_p256_key_verifies_the_signature_of_the_rfc() {
        let x = bytes("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        let y = bytes("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let key = HolderKey::p256(&x, &y).unwrap();
        let message = b"eyJhbGciOiJFUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
            cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let message: Vec<u8> = message.iter().copied().filter(|b| *b != b' ').collect();
        let signature = bytes(
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA\
             pmWQxfKTUJqPP3-Kg6NU1Q",
        );
        key.verify(&message, &signature).unwrap();
        for place in [0, 31, 32, 63] {
            let mut wrong = signature.clone();
            wrong[place] ^= 1;
            assert!(key.verify(&message, &wrong).is_err(), "{place}");
        }
        let off_the_curve = HolderKey::p256(&y, &x).unwrap();
        assert!(off_the_curve.verify(&message, &signature).is_err());
        assert!(HolderKey::p256(&x[1..], &y).is_err());
    }

    #[test]
    fn a_thumbprint_has_one_text() {
        let text = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        let thumbprint: Thumbprint = text.parse().unwrap();
        assert_eq!(
            serde_json::to_string(&thumbprint).unwrap(),
            format!("\"{text}\"")
        );
        for wrong in [
            "",
            &text[1..],
            &format!("{text}="),
            &format!("{text}A"),
            &text.replace('4', "5l"),
        ] {
            assert!(wrong.parse::<Thumbprint>().is_err(), "{wrong}");
        }
        // The last character carries two bits that must be zero.
        let stray = text.replace("S4k", "S4l");
        assert!(stray.parse::<Thumbprint>().is_err());
    }
}
