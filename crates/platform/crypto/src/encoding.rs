//! Unpadded base64url (RFC 4648, section 5), strict: no padding, no stray bits,
//! no white space, so that one byte string has one text.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::CryptoError;

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(what: &'static str, text: &str) -> Result<Vec<u8>, CryptoError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| CryptoError::Encoding { what })
}

/// The object's bytes as an array, or the error that names both lengths.
pub(crate) fn fixed<const N: usize>(
    what: &'static str,
    algorithm: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], CryptoError> {
    bytes.try_into().map_err(|_| CryptoError::Malformed {
        what,
        algorithm,
        expected: N,
        got: bytes.len(),
    })
}

/// Refuses bytes of another length than the algorithm's.
pub(crate) fn expect_len(
    what: &'static str,
    algorithm: &'static str,
    expected: usize,
    bytes: &[u8],
) -> Result<(), CryptoError> {
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(CryptoError::Malformed {
            what,
            algorithm,
            expected,
            got: bytes.len(),
        })
    }
}
