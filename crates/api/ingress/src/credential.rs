//! Who asks.

use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_governor::{Caller, GovernError, Governor};
use creto_nhi::{DpopError, NhiError, Proof};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Request};

use crate::Hosts;

/// Where a proof of possession stands (RFC 9449, section 4.1).
pub const PROOF_HEADER: HeaderName = HeaderName::from_static("dpop");

/// Where the nonce for the next proof stands (RFC 9449, section 8).
pub const NONCE_HEADER: HeaderName = HeaderName::from_static("dpop-nonce");

/// Nobody is known to ask.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is no credential, or not one that could be a token.
    #[error(
        "a credential is needed: `Authorization: Bearer <token>`, or `DPoP <token>` with a proof"
    )]
    Missing,
    /// The proof of possession is missing, or not one for this request.
    #[error(transparent)]
    Proof(DpopError),
    /// The credential is there and does not hold.
    #[error(transparent)]
    Refused(GovernError),
}

impl CredentialError {
    /// How long to wait, where waiting is all there is to do.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.dpop().and_then(DpopError::retry_after)
    }

    /// What is wrong with a proof or a token that needs one, when it is that.
    #[must_use]
    pub const fn dpop(&self) -> Option<&DpopError> {
        match self {
            Self::Proof(error) | Self::Refused(GovernError::Nhi(NhiError::Dpop(error))) => {
                Some(error)
            }
            Self::Missing | Self::Refused(_) => None,
        }
    }
}

impl Classify for CredentialError {
    fn class(&self) -> Class {
        match self {
            Self::Missing => Class::Security,
            Self::Proof(error) => error.class(),
            Self::Refused(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Missing => "unauthenticated",
            Self::Proof(error) => error.code(),
            Self::Refused(error) => error.code(),
        }
    }
}

/// By which scheme a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// RFC 6750, section 2.1.
    Bearer,
    /// RFC 9449, section 7.1.
    Dpop,
}

/// The token of `Authorization`; `None` when the header is absent. A header of another
/// scheme, and more than one, are errors.
fn presented(headers: &HeaderMap) -> Result<Option<(Scheme, &str)>, CredentialError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(CredentialError::Missing);
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(CredentialError::Missing)?;
    let scheme = if scheme.eq_ignore_ascii_case("bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case("dpop") {
        Scheme::Dpop
    } else {
        return Err(CredentialError::Missing);
    };
    Ok(Some((scheme, token.trim())))
}

/// Whether a request has a credential of its own, whatever that is worth.
#[must_use]
pub fn has_credential(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

/// Whether a request has to do with keys that tokens are bound to, so that its answer
/// tells the nonce for the next.
#[must_use]
pub fn speaks_dpop(headers: &HeaderMap) -> bool {
    headers.contains_key(PROOF_HEADER) || matches!(presented(headers), Ok(Some((Scheme::Dpop, _))))
}

/// The proof that came with a request, when one did: it is for this request, and its
/// signature holds (RFC 9449, section 4.3). Whether it is fresh, and of the right key, is
/// seen when the token is.
///
/// # Errors
///
/// [`CredentialError::Proof`].
pub fn proof<B>(
    governor: &Governor,
    hosts: &Hosts,
    request: &Request<B>,
) -> Result<Option<Proof>, CredentialError> {
    let mut values = request.headers().get_all(PROOF_HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let invalid = |why| CredentialError::Proof(DpopError::Invalid { why });
    if values.next().is_some() {
        return Err(invalid("there are several"));
    }
    let text = value.to_str().map_err(|_| invalid("it is not text"))?;
    let proof = Proof::parse(text, &governor.proof_algorithms()).map_err(CredentialError::Proof)?;
    if proof.method() != request.method().as_str() {
        return Err(invalid("its `htm` is not the method of this request"));
    }
    if !hosts.are_meant_at(proof.uri(), request.uri().path()) {
        return Err(invalid("its `htu` is not the target of this request"));
    }
    Ok(Some(proof))
}

/// Who a request is by, the whole chain of its token verified; `None` when it brings no
/// credential.
pub fn identify<B>(
    governor: &Governor,
    hosts: &Hosts,
    request: &Request<B>,
) -> Result<Option<Caller>, CredentialError> {
    let Some((scheme, token)) = presented(request.headers())? else {
        return Ok(None);
    };
    let caller = match scheme {
        // A proof beside a bearer token proves nothing about it.
        Scheme::Bearer => governor.authenticate(token),
        Scheme::Dpop => {
            let proof = proof(governor, hosts, request)?;
            let proof = proof.ok_or(CredentialError::Proof(DpopError::ProofRequired))?;
            governor.authenticate_with_proof(token, &proof)
        }
    };
    caller.map(Some).map_err(CredentialError::Refused)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&'static str]) -> Result<Option<(Scheme, String)>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        presented(&headers)
            .map(|found| found.map(|(scheme, token)| (scheme, token.to_owned())))
            .map_err(|error| error.code())
    }

    #[test]
    fn one_header_of_a_known_scheme_is_a_credential() {
        assert_eq!(of(&[]), Ok(None));
        for (value, scheme) in [
            ("Bearer a.b.c", Scheme::Bearer),
            ("bearer a.b.c", Scheme::Bearer),
            ("BEARER  a.b.c ", Scheme::Bearer),
            ("DPoP a.b.c", Scheme::Dpop),
            ("dpop  a.b.c ", Scheme::Dpop),
        ] {
            assert_eq!(
                of(&[value]),
                Ok(Some((scheme, "a.b.c".to_owned()))),
                "{value}"
            );
        }
        for values in [
            &["Basic YTpi"][..],
            &["a.b.c"],
            &["Bearer"],
            &["DPoP"],
            &["Bearer a", "Bearer a"],
            &["DPoP a", "Bearer a"],
        ] {
            assert_eq!(of(values), Err("unauthenticated"), "{values:?}");
        }
    }
}
