//! Proofs as they are sent: JWTs of somebody else's making (RFC 9449, section 4.2).
//! Members that are not known are passed over, as RFC 7515 (section 4) and RFC 7519
//! (section 4) have it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{Accepted, HolderAlgorithm, HolderKey, Thumbprint};
use serde_json::{Map, Number, Value};

use super::DpopError;

/// The longest proof that is read, in bytes.
pub const MAX_PROOF_LEN: usize = 4 * 1024;

/// The longest `jti`, in bytes.
const MAX_JTI_LEN: usize = 256;

/// RFC 9449, section 4.2.
const TYPE: &str = "dpop+jwt";

/// The members of a private or a symmetric key (RFC 7518, sections 6.2.2, 6.3.2 and 6.4;
/// RFC 8037, section 2; RFC 9964, section 4).
const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// A proof whose signature holds: what it says was said by who has the key. Whether that
/// is so of this request, this token and this moment is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub(super) key: Thumbprint,
    pub(super) jti: String,
    method: String,
    uri: String,
    /// In seconds since 1970, whole.
    pub(super) issued_at: i64,
    pub(super) not_before: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) token_hash: Option<String>,
    pub(super) nonce: Option<String>,
}

impl Proof {
    /// Reads a proof and checks its signature by the key it carries, if that is of an
    /// algorithm that is accepted.
    ///
    /// # Errors
    ///
    /// [`DpopError::Invalid`], [`DpopError::Algorithm`].
    pub fn parse(text: &str, accepted: &Accepted<HolderAlgorithm>) -> Result<Self, DpopError> {
        if text.len() > MAX_PROOF_LEN {
            return Err(DpopError::invalid("it is too long"));
        }
        let three = || DpopError::invalid("it has not three parts");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(three)?;
        let (header, payload) = signed
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or_else(three)?;
        let header = object(header)?;
        let key = holder(&header, accepted)?;
        key.verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| DpopError::invalid("its signature does not verify"))?;
        Self::of(&key, &object(payload)?)
    }

    /// Reads the two parts of a proof as if it had been signed.
    ///
    /// # Errors
    ///
    /// [`DpopError::Invalid`].
    #[cfg(feature = "test-util")]
    pub fn unsigned(header: &[u8], claims: &[u8]) -> Result<Self, DpopError> {
        let object = |bytes| {
            serde_json::from_slice(bytes)
                .map_err(|_| DpopError::invalid("a part of it is not a JSON object"))
        };
        Self::of(
            &holder(&object(header)?, &Accepted::all())?,
            &object(claims)?,
        )
    }

    fn of(key: &HolderKey, claims: &Map<String, Value>) -> Result<Self, DpopError> {
        let wanted = |name, why| text(claims, name)?.ok_or(DpopError::invalid(why));
        let jti = wanted("jti", "it has no `jti`")?;
        if jti.is_empty() || jti.len() > MAX_JTI_LEN {
            return Err(DpopError::invalid("its `jti` is empty or too long"));
        }
        Ok(Self {
            key: key.thumbprint(),
            jti: jti.to_owned(),
            method: wanted("htm", "it has no `htm`")?.to_owned(),
            uri: wanted("htu", "it has no `htu`")?.to_owned(),
            issued_at: second(claims, "iat")?.ok_or(DpopError::invalid("it has no `iat`"))?,
            not_before: second(claims, "nbf")?,
            expires_at: second(claims, "exp")?,
            token_hash: text(claims, "ath")?.map(ToOwned::to_owned),
            nonce: text(claims, "nonce")?.map(ToOwned::to_owned),
        })
    }

    /// The thumbprint of the key it is by.
    #[must_use]
    pub const fn key(&self) -> Thumbprint {
        self.key
    }

    /// The method of the request that it is for.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The target of the request that it is for, as the client wrote it.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

/// The key in a header that is one of a proof.
fn holder(
    header: &Map<String, Value>,
    accepted: &Accepted<HolderAlgorithm>,
) -> Result<HolderKey, DpopError> {
    if text(header, "typ")? != Some(TYPE) {
        return Err(DpopError::invalid("its type is not dpop+jwt"));
    }
    // RFC 7515, section 4.1.11: none of them is understood here.
    if header.contains_key("crit") {
        return Err(DpopError::invalid("its header has critical members"));
    }
    let algorithm = text(header, "alg")?.ok_or(DpopError::invalid("it names no algorithm"))?;
    let algorithm = algorithm
        .parse::<HolderAlgorithm>()
        .and_then(|named| accepted.check(named))
        .map_err(DpopError::Algorithm)?;
    let Some(Value::Object(jwk)) = header.get("jwk") else {
        return Err(DpopError::invalid("its header has no `jwk`"));
    };
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err(DpopError::invalid("its `jwk` has private members"));
    }
    if text(jwk, "use")?.is_some_and(|name| name != "sig") {
        return Err(DpopError::invalid("its `jwk` is not for signatures"));
    }
    let named = text(jwk, "alg")?.map(str::parse::<HolderAlgorithm>);
    if named.is_some_and(|named| named != Ok(algorithm)) {
        return Err(DpopError::invalid("its `jwk` is of another algorithm"));
    }
    let no_key = || DpopError::invalid("its `jwk` is no key of its algorithm");
    let kind = (text(jwk, "kty")?, text(jwk, "crv")?);
    let member = |name| decode(text(jwk, name)?.ok_or_else(no_key)?);
    let key = match (algorithm, kind) {
        (HolderAlgorithm::Es256, (Some("EC"), Some("P-256"))) => {
            HolderKey::p256(&member("x")?, &member("y")?)
        }
        (HolderAlgorithm::Ed25519, (Some("OKP"), Some("Ed25519"))) => {
            HolderKey::ed25519(&member("x")?)
        }
        _ => return Err(no_key()),
    };
    key.map_err(|_| no_key())
}

fn decode(part: &str) -> Result<Vec<u8>, DpopError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| DpopError::invalid("a part of it is not unpadded base64url"))
}

fn object(part: &str) -> Result<Map<String, Value>, DpopError> {
    serde_json::from_slice(&decode(part)?)
        .map_err(|_| DpopError::invalid("a part of it is not a JSON object"))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, DpopError> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(DpopError::invalid("a member of it that is text is none")),
    }
}

/// A NumericDate (RFC 7519, section 2); it may have a fraction, which is cut off. One with
/// an exponent is refused: what stands before its point are not its seconds.
fn second(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, DpopError> {
    let whole = |number: &Number| {
        let text = number.to_string();
        let plain = Some(text).filter(|text| !text.contains(['e', 'E']))?;
        plain.split('.').next()?.parse().ok()
    };
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => whole(number)
            .map(Some)
            .ok_or(DpopError::invalid("an instant in it is out of range")),
        Some(_) => Err(DpopError::invalid("an instant in it is not a number")),
    }
}
