//! Tokens: JWTs (RFC 7519) with the algorithm of their key, one header and a closed
//! set of claims. The parser accepts what [`encode`] writes, byte for byte, and nothing
//! else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{
    Allowed, Signature, SignatureAlgorithm, Signer, Thumbprint, VerifyingKey, sha256,
};
use creto_types::OrgId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{DelegationLink, EpochId, Hop, LinkId, NhiError, TokenId};

/// The longest token that is read, in bytes. A composite signature is 4.5 KB of
/// base64url; those whose chain does not fit in a header line beside it may still be
/// valid from before there were digests of chains.
pub(crate) const MAX_TOKEN_LEN: usize = 16 * 1024;

/// The longest header line that common servers and proxies take, in bytes.
const MAX_HEADER_LEN: usize = 8 * 1024;
/// What precedes the token in that line (RFC 6750, section 2.1).
const HEADER_NAME: &str = "Authorization: Bearer ";

/// The only audience.
pub(crate) const AUDIENCE: &str = "creto";

/// Access tokens in the form of RFC 9068.
const TYPE: &str = "at+jwt";
/// draft-ietf-jose-pq-composite-sigs: the context of JOSE signatures is empty.
const CONTEXT: &[u8] = b"";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    /// On whose behalf: the human at the root, also of an agent's token.
    pub(crate) sub: String,
    pub(crate) aud: String,
    pub(crate) iat: i64,
    pub(crate) exp: i64,
    pub(crate) jti: TokenId,
    pub(crate) creto_org: OrgId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) creto_link: Option<LinkId>,
    /// The epoch of a human's credentials it is of; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) creto_epoch: Option<EpochId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    /// Who acts; nobody but `sub` when absent.
    pub(crate) act: Option<Actor>,
    /// The [`chain_digest`], where the actors before the one who acts are left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) creto_chain: Option<String>,
    /// The key that its holder proves to have (RFC 7800, section 3); absent from a bearer
    /// token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cnf: Option<Confirmation>,
}

/// The confirmation method of RFC 9449, section 6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmation {
    pub(crate) jkt: Thumbprint,
}

/// An actor, and within it the actors before it, the most recent outermost
/// (RFC 8693, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Actor {
    pub(crate) sub: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    act: Option<Box<Actor>>,
}

impl Actor {
    /// The actors of a chain, given as SPIFFE ids, root first.
    pub(crate) fn nested(ids: impl IntoIterator<Item = String>) -> Option<Self> {
        ids.into_iter().fold(None, |prior, sub| {
            Some(Self {
                sub,
                act: prior.map(Box::new),
            })
        })
    }
}

/// SHA-256 over the canonical array of the links, root first, as unpadded base64url:
/// what stands for the chain where its actors do not fit.
pub(crate) fn chain_digest(hops: &[Hop]) -> Result<String, NhiError> {
    let links: Vec<&DelegationLink> = hops.iter().map(|hop| hop.link.as_ref()).collect();
    Ok(URL_SAFE_NO_PAD.encode(sha256(&creto_types::canonical_json(&links)?)))
}

/// Whether the token of these claims fits in a header line that servers and proxies
/// commonly take.
pub(crate) fn fits_header(
    signer: &dyn Signer,
    kid: &str,
    claims: &Claims,
) -> Result<bool, NhiError> {
    let signature = signer.verifying_key().algorithm().signature_len();
    // Unpadded base64: four characters for three bytes, begun ones too.
    let signature = signature.saturating_mul(4).div_ceil(3);
    let signed = signing_input(signer, kid, claims)?.len();
    Ok(HEADER_NAME.len() + signed + ".".len() + signature <= MAX_HEADER_LEN)
}

fn signing_input(signer: &dyn Signer, kid: &str, claims: &Claims) -> Result<String, NhiError> {
    let header = Header {
        alg: signer.verifying_key().algorithm().as_str().to_owned(),
        kid: kid.to_owned(),
        typ: TYPE.to_owned(),
    };
    let mut input = part(&header)?;
    input.push('.');
    input.push_str(&part(claims)?);
    Ok(input)
}

pub(crate) fn encode(signer: &dyn Signer, kid: &str, claims: &Claims) -> Result<String, NhiError> {
    let mut token = signing_input(signer, kid, claims)?;
    let signature = signer
        .sign(CONTEXT, token.as_bytes())
        .map_err(|source| NhiError::Crypto {
            operation: "sign a token",
            source,
        })?;
    token.push('.');
    token.push_str(&signature.to_base64url());
    if token.len() > MAX_TOKEN_LEN {
        return Err(NhiError::Invalid {
            field: "delegation",
            why: format!("has a chain too long for a token of {MAX_TOKEN_LEN} bytes"),
        });
    }
    Ok(token)
}

fn part<T: Serialize>(value: &T) -> Result<String, NhiError> {
    Ok(URL_SAFE_NO_PAD.encode(creto_types::canonical_json(value)?))
}

/// A token taken apart; nothing of it is to be believed yet.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) kid: String,
    signed: &'a str,
    payload: &'a str,
    signature: Signature,
}

/// The header's algorithm selects nothing: it must be an accepted one, and then that
/// of the key.
pub(crate) fn parse<'a>(
    token: &'a str,
    allowed: &Allowed<SignatureAlgorithm>,
) -> Result<Unverified<'a>, NhiError> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(invalid("it is too long"));
    }
    let (signed, signature) = token
        .rsplit_once('.')
        .ok_or_else(|| invalid("it has not three parts"))?;
    let (header, payload) = signed
        .split_once('.')
        .filter(|(_, payload)| !payload.contains('.'))
        .ok_or_else(|| invalid("it has not three parts"))?;
    let header: Header = exact(
        &decode(header)?,
        "its header is not exactly `alg`, `kid` and `typ`",
    )?;
    let algorithm = header.alg.parse::<SignatureAlgorithm>();
    let algorithm = algorithm
        .and_then(|named| allowed.check(named))
        .map_err(NhiError::TokenAlgorithm)?;
    if header.typ != TYPE {
        return Err(invalid("its type is not at+jwt"));
    }
    let signature = Signature::from_bytes(algorithm, &decode(signature)?)
        .map_err(|_| invalid("its signature has a wrong length"))?;
    Ok(Unverified {
        kid: header.kid,
        signed,
        payload,
        signature,
    })
}

impl Unverified<'_> {
    /// The claims, once the signature holds.
    pub(crate) fn verify(&self, key: &VerifyingKey) -> Result<Claims, NhiError> {
        key.verify(CONTEXT, self.signed.as_bytes(), &self.signature)
            .map_err(NhiError::TokenForged)?;
        exact(
            &decode(self.payload)?,
            "its claims are not those of a Creto token",
        )
    }
}

/// The value, if these bytes are the ones [`encode`] writes for it. A struct is
/// also read from a JSON array, and an absent member from `null`: here they are
/// not.
fn exact<T: Serialize + DeserializeOwned>(bytes: &[u8], why: &'static str) -> Result<T, NhiError> {
    let value: T = serde_json::from_slice(bytes).map_err(|_| invalid(why))?;
    match creto_types::canonical_json(&value) {
        Ok(written) if written == bytes => Ok(value),
        _ => Err(invalid(why)),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, NhiError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| invalid("a part of it is not unpadded base64url"))
}

pub(crate) fn invalid(why: &'static str) -> NhiError {
    NhiError::InvalidToken { why }
}
