//! The token that stands for an approval.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_errors::{Class, Classify};
use creto_types::Randomness;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "grt_";

/// A single-use approval: `grt_` and 32 random bytes in unpadded base64url. It is
/// shown to the agent alone; `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant(String);

/// A text does not have the form of a grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant is `grt_` and 43 characters of base64url")]
pub struct InvalidGrant;

impl Classify for InvalidGrant {
    fn class(&self) -> Class {
        Class::Security
    }

    fn code(&self) -> &'static str {
        "grant_malformed"
    }
}

impl Grant {
    pub(crate) fn generate(random: &dyn Randomness) -> Self {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The whole text, prefix included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(..)")
    }
}

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text
            .strip_prefix(PREFIX)
            .and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok())
            .ok_or(InvalidGrant)?;
        if bytes.len() == 32 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidGrant)
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = InvalidGrant;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.0
    }
}
