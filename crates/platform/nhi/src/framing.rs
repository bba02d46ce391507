//! What a principal's key signs besides delegation links, as bytes.
//!
//! A frame is a label, a zero byte, and each field after its length: eight bytes,
//! big-endian. No two lists of fields have one frame, and no frame is anything else
//! that is signed here: a link is JSON and begins with `{`, a token's signing input has
//! no byte outside of base64url and `.`, and neither has a zero byte. So the label
//! separates also where the algorithm takes no context (plain Ed25519). Where it takes
//! one, the label is the context as well.

use creto_crypto::{CryptoError, Signature, Signer, VerifyingKey};
use creto_types::Timestamp;
use serde::Deserialize as _;
use serde::de::{Deserializer, Error as _, Unexpected};

/// The bytes that are signed.
pub(crate) fn frame(label: &str, fields: &[&[u8]]) -> Vec<u8> {
    let length = fields.iter().map(|field| 8 + field.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(label.len() + 1 + length);
    frame.extend_from_slice(label.as_bytes());
    frame.push(0);
    for field in fields {
        let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(field);
    }
    frame
}

/// Signs a frame of this label.
pub(crate) fn sign(
    signer: &dyn Signer,
    label: &str,
    fields: &[&[u8]],
) -> Result<Signature, CryptoError> {
    signer.sign(
        context(signer.verifying_key(), label),
        &frame(label, fields),
    )
}

/// Checks the signature of a frame of this label.
pub(crate) fn verify(
    key: &VerifyingKey,
    label: &str,
    fields: &[&[u8]],
    signature: &Signature,
) -> Result<(), CryptoError> {
    key.verify(context(key, label), &frame(label, fields), signature)
}

/// Reads an instant that is a field of a frame. RFC 3339 has many texts for one instant,
/// and it is the text that is signed: any other than the one that is signed here is refused,
/// so that nobody alters a document whose signature holds all the same.
pub(crate) fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    let instant: Option<Timestamp> = text.parse().ok();
    instant
        .filter(|instant| instant.to_string() == text)
        .ok_or_else(|| {
            let what = "an instant of RFC 3339 in UTC, without trailing zeros";
            D::Error::invalid_value(Unexpected::Str(&text), &what)
        })
}

fn context<'a>(key: &VerifyingKey, label: &'a str) -> &'a [u8] {
    match key.algorithm().takes_context() {
        true => label.as_bytes(),
        false => b"",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use creto_crypto::{
        Algorithm as _, AwsLcProvider, LocalSigner, SignatureAlgorithm, SigningKey,
    };
    use creto_types::SeededRandom;
    use proptest::prelude::{any, prop_assert_eq, prop_assert_ne, proptest};

    use super::*;

    fn signer(algorithm: SignatureAlgorithm) -> LocalSigner {
        let seed = vec![5; algorithm.private_key_len()];
        let key = SigningKey::from_bytes(algorithm, &seed).unwrap();
        LocalSigner::new(
            key,
            Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(1)))),
        )
    }

    #[test]
    fn a_frame_is_as_the_format_says() {
        let expected = b"creto/x/v1\0\0\0\0\0\0\0\0\x02ab\0\0\0\0\0\0\0\0";
        assert_eq!(frame("creto/x/v1", &[b"ab", b""]), expected);
    }

    /// One label and other fields, other bytes or split otherwise; another label.
    #[test]
    fn what_is_signed_under_one_label_holds_under_no_other_and_no_context() {
        for algorithm in SignatureAlgorithm::ALL {
            let signer = signer(*algorithm);
            let key = signer.verifying_key();
            let signature = sign(&signer, "creto/one/v1", &[b"ab", b"c"]).unwrap();
            verify(key, "creto/one/v1", &[b"ab", b"c"], &signature).unwrap();
            for (label, fields) in [
                ("creto/two/v1", [&b"ab"[..], &b"c"[..]]),
                ("creto/one/v1", [b"a", b"bc"]),
                ("creto/one/v1", [b"ab", b"d"]),
            ] {
                assert!(
                    verify(key, label, &fields, &signature).is_err(),
                    "{algorithm}"
                );
            }
            // As a token is checked, over anything that a token could be.
            for message in [&b"abc"[..], b"ab", b"c", b"eyJhbGciOiJ9.eyJhIjoxfQ"] {
                assert!(key.verify(b"", message, &signature).is_err(), "{algorithm}");
            }
            if algorithm.takes_context() {
                let whole = frame("creto/one/v1", &[b"ab", b"c"]);
                assert!(key.verify(b"", &whole, &signature).is_err(), "{algorithm}");
                let link = crate::DELEGATION_CONTEXT;
                assert!(key.verify(link, &whole, &signature).is_err(), "{algorithm}");
            }
        }
    }

    proptest! {
        /// Reading it back gives the fields again, so no two lists have one frame.
        #[test]
        fn a_frame_has_one_reading(fields: Vec<Vec<u8>>, label in "[a-z/]{1,20}") {
            let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            let frame = frame(&label, &parts);
            let end = frame.iter().position(|byte| *byte == 0).unwrap();
            prop_assert_eq!(&frame[..end], label.as_bytes());
            let (mut rest, mut read) = (&frame[end + 1..], Vec::new());
            while let Some((length, after)) = rest.split_first_chunk::<8>() {
                let length = usize::try_from(u64::from_be_bytes(*length)).unwrap();
                let (field, after) = after.split_at(length);
                read.push(field.to_vec());
                rest = after;
            }
            prop_assert_eq!(rest.len(), 0);
            prop_assert_eq!(read, fields);
        }

        /// Whatever somebody has signed, the bytes that are signed are no JSON object and
        /// no signing input of a token.
        #[test]
        fn no_frame_is_a_link_or_a_token(message in any::<Vec<u8>>()) {
            let frame = frame("creto/signed/v1", &[&message]);
            prop_assert_ne!(frame[0], b'{');
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&frame).ok(), None);
            let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            prop_assert_eq!(frame.iter().all(of_token), false);
        }
    }
}
