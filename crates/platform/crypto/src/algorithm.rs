//! What the kinds of algorithms have in common: a closed set, each member with
//! the name its standard gives it.

use std::fmt;

/// A kind of algorithm. A stored or sent object carries the name of its own.
pub trait Algorithm: Copy + Eq + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// What the kind is called in messages.
    const KIND: &'static str;
    /// Every algorithm of the kind that this build knows.
    const ALL: &'static [Self];

    /// The standard's name.
    fn name(self) -> &'static str;
}

/// Names both ways, in text and in documents: what is not in the list is
/// [`crate::CryptoError::UnknownAlgorithm`].
macro_rules! named {
    ($type:ident, $kind:literal, [$($variant:ident),+ $(,)?]) => {
        impl $crate::Algorithm for $type {
            const KIND: &'static str = $kind;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::CryptoError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                <Self as $crate::Algorithm>::ALL
                    .iter()
                    .copied()
                    .find(|algorithm| algorithm.as_str() == text)
                    .ok_or_else(|| $crate::CryptoError::unknown(text))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let name = String::deserialize(from)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Debug;
    use std::str::FromStr;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use crate::{
        AeadAlgorithm, Algorithm, CryptoError, HashAlgorithm, KdfAlgorithm, KemAlgorithm,
        SignatureAlgorithm, WrapAlgorithm,
    };

    /// One name a member, the same in text and in JSON, and none for anything else.
    fn check<A>()
    where
        A: Algorithm + FromStr<Err = CryptoError> + Serialize + DeserializeOwned + Debug,
    {
        let names: BTreeSet<&str> = A::ALL.iter().map(|algorithm| algorithm.name()).collect();
        assert_eq!(names.len(), A::ALL.len());
        for algorithm in A::ALL {
            let name = algorithm.name();
            assert_eq!(name.parse::<A>().unwrap(), *algorithm);
            let json = serde_json::to_string(algorithm).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<A>(&json).unwrap(), *algorithm);
            for other in [name.to_uppercase() + "x", format!(" {name}"), String::new()] {
                assert!(matches!(
                    other.parse::<A>(),
                    Err(CryptoError::UnknownAlgorithm { .. })
                ));
                let json = serde_json::to_string(&other).unwrap();
                let error = serde_json::from_str::<A>(&json).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("unknown algorithm `{other}`")),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn every_algorithm_has_one_name() {
        check::<AeadAlgorithm>();
        check::<HashAlgorithm>();
        check::<KdfAlgorithm>();
        check::<KemAlgorithm>();
        check::<SignatureAlgorithm>();
        check::<WrapAlgorithm>();
    }

    #[test]
    fn a_long_unknown_name_is_cut() {
        let error = "x".repeat(10_000).parse::<KemAlgorithm>().unwrap_err();
        assert!(error.to_string().len() < 100);
    }
}
