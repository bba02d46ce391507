//! Who asks.

use creto_errors::{Class, Classify};
use creto_governor::{Caller, GovernError, Governor};
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Nobody is known to ask.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is no credential, or not one that could be a token.
    #[error("a credential is needed: `Authorization: Bearer <token>`")]
    Missing,
    /// The credential is there and does not hold.
    #[error(transparent)]
    Refused(GovernError),
}

impl Classify for CredentialError {
    fn class(&self) -> Class {
        match self {
            Self::Missing => Class::Security,
            Self::Refused(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Missing => "unauthenticated",
            Self::Refused(error) => error.code(),
        }
    }
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1); `None` when the
/// header is absent. A header of another scheme, and more than one, are errors.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, CredentialError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(CredentialError::Missing);
    }
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    token.map(Some).ok_or(CredentialError::Missing)
}

/// Who a token stands for, its whole chain verified.
pub fn authenticate(governor: &Governor, token: &str) -> Result<Caller, CredentialError> {
    governor
        .authenticate(token)
        .map_err(CredentialError::Refused)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&'static str]) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers)
            .map(|token| token.map(ToOwned::to_owned))
            .map_err(|error| error.code())
    }

    #[test]
    fn one_header_of_the_bearer_scheme_is_a_credential() {
        assert_eq!(of(&[]), Ok(None));
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c "] {
            assert_eq!(of(&[value]), Ok(Some("a.b.c".to_owned())), "{value}");
        }
        for values in [
            &["Basic YTpi"][..],
            &["a.b.c"],
            &["Bearer"],
            &["Bearer a", "Bearer a"],
        ] {
            assert_eq!(of(values), Err("unauthenticated"), "{values:?}");
        }
    }
}
