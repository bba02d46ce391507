//! Algorithms that nobody here knows, in documents that cannot be read for it.

use std::str::FromStr;

use serde_json::Value;

use crate::{
    AeadAlgorithm, CryptoError, HashAlgorithm, KemAlgorithm, SignatureAlgorithm, WrapAlgorithm,
};

/// The first algorithm in the document that is unknown here: of a key, a signature, a sealed
/// object, a wrapped key or a digest, in the forms that this crate writes. For whoever could
/// not read it: an error of a decoder of JSON is a text, and an unknown algorithm has another
/// remedy than a document that was cut off.
#[must_use]
pub fn unknown_algorithm(document: &Value) -> Option<CryptoError> {
    match document {
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let has = |name: &str| members.contains_key(name);
            let named = match (text("alg"), text("enc")) {
                (Some(name), _) if has("sig") => unknown::<SignatureAlgorithm>(name),
                (Some(name), _) if has("pub") => {
                    unknown::<SignatureAlgorithm>(name).and_then(|_| unknown::<KemAlgorithm>(name))
                }
                (Some(name), _) if has("salt") => unknown::<WrapAlgorithm>(name),
                (_, Some(name)) if has("nonce") => unknown::<AeadAlgorithm>(name),
                _ => None,
            };
            let digest = || {
                let (function, _) = text("digest")?.split_once(':')?;
                unknown::<HashAlgorithm>(function)
            };
            named
                .or_else(digest)
                .or_else(|| members.values().find_map(unknown_algorithm))
        }
        Value::Array(elements) => elements.iter().find_map(unknown_algorithm),
        _ => None,
    }
}

fn unknown<A: FromStr<Err = CryptoError>>(name: &str) -> Option<CryptoError> {
    name.parse::<A>().err()
}

#[cfg(test)]
mod tests {
    use creto_errors::Classify as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_found_wherever_an_object_of_ours_has_it() {
        for object in [
            json!({ "alg": "New", "pub": "AA" }),
            json!({ "alg": "New", "sig": "AA" }),
            json!({ "alg": "New", "salt": "AA", "ciphertext": "AA" }),
            json!({ "enc": "New", "nonce": "AA", "ciphertext": "AA" }),
            json!({ "digest": "New:00" }),
            // No signature is of a key encapsulation.
            json!({ "alg": "X-Wing", "sig": "AA" }),
        ] {
            let document = json!({ "a": [null, { "b": object }], "c": 1 });
            let error = unknown_algorithm(&document).unwrap();
            assert_eq!(error.code(), "unknown_algorithm", "{object}");
        }
    }

    #[test]
    fn what_is_known_or_none_of_ours_is_no_name() {
        for document in [
            json!({ "alg": "Ed25519", "pub": "AA" }),
            json!({ "alg": "X-Wing", "pub": 7 }),
            json!({ "alg": "ML-DSA-65", "sig": "AA" }),
            json!({ "alg": "a device", "blob": "AA" }),
            json!({ "enc": "A256GCM", "nonce": "AA" }),
            json!({ "digest": "sha-256:00" }),
            json!({ "digest": "of nothing", "alg": "New" }),
            json!({ "alg": 7, "pub": "AA" }),
            json!(["New"]),
        ] {
            assert_eq!(unknown_algorithm(&document), None, "{document}");
        }
    }
}
