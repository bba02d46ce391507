//! Keys at rest, as whoever wrapped them made them.

use serde::{Deserialize, Serialize};

use crate::{CryptoError, WrapAlgorithm, encoding};

/// The most characters of a keystore's own name: what is shown of an unknown one.
const LONGEST_NAME: usize = 64;

/// A key at rest: useless without the key it was wrapped under and the purpose it was
/// wrapped for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct WrappedKey(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Derived(Derived),
    /// What a keystore gave, which it alone can read.
    Opaque {
        name: String,
        blob: Box<[u8]>,
    },
}

/// What [`crate::RootKey`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Derived {
    pub(crate) algorithm: WrapAlgorithm,
    /// Under which wrapping key of its organization; absent under the root key.
    pub(crate) version: Option<u32>,
    pub(crate) salt: String,
    pub(crate) ciphertext: String,
}

impl WrappedKey {
    /// What a keystore gave for a key: a ciphertext of its own, or a handle. `name` says
    /// to it how to read that again, and is told to people where it is not read; it is of
    /// 1 to 64 printable ASCII characters, and none of [`WrapAlgorithm`]'s.
    pub fn opaque(name: &str, blob: &[u8]) -> Result<Self, CryptoError> {
        let printable = name.bytes().all(|b| b.is_ascii_graphic());
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || !printable
            || name.parse::<WrapAlgorithm>().is_ok()
        {
            return Err(CryptoError::WrappedForm);
        }
        Ok(Self(Form::Opaque {
            name: name.to_owned(),
            blob: blob.into(),
        }))
    }

    /// By what it was wrapped; `None` when a keystore did it in a way of its own.
    #[must_use]
    pub const fn algorithm(&self) -> Option<WrapAlgorithm> {
        match &self.0 {
            Form::Derived(derived) => Some(derived.algorithm),
            Form::Opaque { .. } => None,
        }
    }

    /// The name of that algorithm, or the keystore's own.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Form::Derived(derived) => derived.algorithm.as_str(),
            Form::Opaque { name, .. } => name,
        }
    }

    /// What the keystore gave, when it is [`WrappedKey::opaque`].
    #[must_use]
    pub fn blob(&self) -> Option<&[u8]> {
        match &self.0 {
            Form::Derived(_) => None,
            Form::Opaque { blob, .. } => Some(blob),
        }
    }

    /// Under which version of the organization's wrapping key; `None` under the root
    /// key.
    #[must_use]
    pub const fn version(&self) -> Option<u32> {
        match &self.0 {
            Form::Derived(derived) => derived.version,
            Form::Opaque { .. } => None,
        }
    }

    /// What a [`crate::RootKey`] can open.
    pub(crate) fn derived(&self) -> Result<&Derived, CryptoError> {
        match &self.0 {
            Form::Derived(derived) => Ok(derived),
            Form::Opaque { name, .. } => Err(CryptoError::unknown(name)),
        }
    }
}

impl From<Derived> for WrappedKey {
    fn from(derived: Derived) -> Self {
        Self(Form::Derived(derived))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<String>,
}

impl TryFrom<Wire> for WrappedKey {
    type Error = CryptoError;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        match (wire.salt, wire.ciphertext, wire.blob) {
            (Some(salt), Some(ciphertext), None) => Ok(Derived {
                algorithm: wire.alg.parse()?,
                version: wire.key,
                salt,
                ciphertext,
            }
            .into()),
            (None, None, Some(blob)) if wire.key.is_none() => {
                Self::opaque(&wire.alg, &encoding::decode("blob", &blob)?)
            }
            _ => Err(CryptoError::WrappedForm),
        }
    }
}

impl From<WrappedKey> for Wire {
    fn from(wrapped: WrappedKey) -> Self {
        match wrapped.0 {
            Form::Derived(derived) => Self {
                alg: derived.algorithm.as_str().to_owned(),
                key: derived.version,
                salt: Some(derived.salt),
                ciphertext: Some(derived.ciphertext),
                blob: None,
            },
            Form::Opaque { name, blob } => Self {
                alg: name,
                key: None,
                salt: None,
                ciphertext: None,
                blob: Some(encoding::encode(&blob)),
            },
        }
    }
}
