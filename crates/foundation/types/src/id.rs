//! Typed identifiers: a prefix that names the kind and a UUIDv7 (RFC 9562), for
//! example `act_0192f0c4a5e77b3c8d1e2f3a4b5c6d7e`. Ids of one kind sort by the
//! time they were made.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use creto_errors::{Class, Classify};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{Clock, Randomness, unix_millis};

/// Names a kind of id. Declared beside the thing it identifies.
pub trait IdKind: 'static {
    /// The text before the underscore: lower-case ASCII letters.
    const PREFIX: &'static str;
}

/// An id of kind `K`. Ids of two kinds are two types.
pub struct Id<K: IdKind> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

impl<K: IdKind> Id<K> {
    /// The id with this UUID.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self {
            uuid,
            kind: PhantomData,
        }
    }

    /// The UUID inside.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }
}

impl<K: IdKind> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: IdKind> Copy for Id<K> {}

impl<K: IdKind> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<K: IdKind> Eq for Id<K> {}

impl<K: IdKind> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: IdKind> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<K: IdKind> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", K::PREFIX, self.uuid.simple())
    }
}

impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of the form `{prefix}_` and 32 lower-case hexadecimal digits")]
pub struct IdError {
    prefix: &'static str,
}

impl Classify for IdError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn code(&self) -> &'static str {
        "invalid_id"
    }
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = IdError { prefix: K::PREFIX };
        let digits = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .filter(|digits| {
                digits.len() == 32
                    && digits
                        .bytes()
                        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            })
            .ok_or_else(|| error.clone())?;
        Uuid::try_parse(digits)
            .map(Self::from_uuid)
            .map_err(|_| error)
    }
}

impl<K: IdKind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The kind of [`OrgId`].
#[derive(Debug)]
pub enum OrgKind {}

impl IdKind for OrgKind {
    const PREFIX: &'static str = "org";
}

/// An organization: the unit of isolation for policies, keys, logs and budgets.
pub type OrgId = Id<OrgKind>;

/// The kind of [`ActionId`].
#[derive(Debug)]
pub enum ActionKind {}

impl IdKind for ActionKind {
    const PREFIX: &'static str = "act";
}

/// One governed action. It ties call, decision, effect, usage, invoice line and
/// leaf together.
pub type ActionId = Id<ActionKind>;

/// Where new ids come from.
pub trait IdSource: Send + Sync + 'static {
    /// A UUIDv7 that no earlier call returned.
    fn next_uuid(&self) -> Uuid;
}

impl dyn IdSource {
    /// A new id of kind `K`.
    pub fn next<K: IdKind>(&self) -> Id<K> {
        Id::from_uuid(self.next_uuid())
    }
}

/// Ids from an injected clock and an injected source of randomness.
pub struct SystemIds {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
}

impl SystemIds {
    /// Ids that carry this clock's time and this source's randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Randomness>) -> Self {
        Self { clock, random }
    }
}

impl IdSource for SystemIds {
    fn next_uuid(&self) -> Uuid {
        let mut bytes = [0_u8; 10];
        self.random.fill(&mut bytes);
        uuid::Builder::from_unix_timestamp_millis(unix_millis(self.clock.now()), &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, SeededRandom};
    use proptest::prelude::*;

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let ids = SystemIds::new(
            Arc::new(ManualClock::new(crate::Timestamp::UNIX_EPOCH)),
            Arc::new(SeededRandom::new(1)),
        );
        let action: ActionId = (&ids as &dyn IdSource).next();
        let text = action.to_string();
        assert_eq!(text.parse::<ActionId>(), Ok(action));
        assert!(text.parse::<OrgId>().is_err());
        assert!(text.to_uppercase().parse::<ActionId>().is_err());
    }

    proptest! {
        #[test]
        fn every_id_survives_its_text(bits in any::<u128>()) {
            let id = OrgId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<OrgId>(), Ok(id));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,64}") {
            let _ = text.parse::<OrgId>();
        }
    }
}
