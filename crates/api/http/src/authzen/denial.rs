//! What ties a request for access to the evaluation that was denied (AuthZEN Access
//! Request and Approval Profile, "Requestable Denial Context").
//!
//! Evaluations are not recorded, so the denial carries its own proof: a JWS over the
//! digest of what was asked, made with a key that this process alone has. It is for
//! the caller to hand back and for nobody to read. It opens nothing: what is asked for
//! is decided anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{MacKey, sha256};
use creto_governor::{Caller, Question};
use creto_types::{Clock, Id, IdKind, IdSource, Randomness, Timestamp, canonical_json};
use serde::{Deserialize, Serialize};

use super::decode::Denial;
use crate::error::ApiError;

/// How long access may be requested after a denial; then it is evaluated again.
const LIFETIME: Duration = Duration::from_secs(600);

/// The type of these objects, so that none is taken for another of this server's.
const TYPE: &str = "creto-denial+jwt";

/// The kind of [`EvaluationId`].
enum EvaluationKind {}

impl IdKind for EvaluationKind {
    const PREFIX: &'static str = "evl";
}

/// One evaluation that was denied.
type EvaluationId = Id<EvaluationKind>;

/// Gives out proofs of denials, and recognizes them.
pub(crate) struct Denials {
    key: MacKey,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
}

/// What a requestable denial says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) evaluation_id: String,
    pub(crate) evaluated_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) request_context: String,
}

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// The evaluation.
    jti: String,
    /// The first second at which it is too late.
    exp: i64,
    /// SHA-256 of who asked for what, in hexadecimal.
    asked: String,
    /// The names of the values that the context had for the decision: the request for
    /// access repeats them among what the human is to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    facts: Vec<String>,
}

/// What a denial gave out, handed back: the evaluation it is of is still to be compared.
pub(crate) struct Recognized(Claims);

impl Recognized {
    /// Which values of the request's context are those of the evaluation.
    pub(crate) fn facts(&self) -> &[String] {
        &self.0.facts
    }
}

impl Denials {
    pub(crate) fn new(
        random: &dyn Randomness,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self {
            key: MacKey::generate(random),
            clock,
            ids,
        }
    }

    /// Proves that this was denied to the caller just now.
    pub(crate) fn prove(&self, caller: &Caller, asked: &Question) -> Result<Proof, ApiError> {
        let id: EvaluationId = self.ids.next();
        let now = self.clock.now();
        let until = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
        let claims = Claims {
            jti: id.to_string(),
            exp: until.as_second(),
            asked: digest(caller, asked)?,
            facts: asked.context.iter().map(|(name, _)| name.clone()).collect(),
        };
        let signed = format!("{}.{}", header()?, part(&claims)?);
        let tag = URL_SAFE_NO_PAD.encode(self.key.tag(signed.as_bytes()));
        Ok(Proof {
            evaluation_id: claims.jti,
            evaluated_at: now,
            expires_at: Timestamp::from_second(claims.exp).unwrap_or(now),
            request_context: format!("{signed}.{tag}"),
        })
    }

    /// What is handed back, if this process gave it out for this evaluation.
    pub(crate) fn recognize(&self, denial: &Denial) -> Result<Recognized, ApiError> {
        let given = denial.request_context.as_deref().unwrap_or_default();
        let named = denial.evaluation_id.as_ref();
        self.recognized(given)
            .filter(|claims| named.is_none_or(|named| *named == claims.jti))
            .map(Recognized)
            .ok_or(ApiError::DenialUnbound)
    }

    /// Whether exactly this was denied to the caller, not long ago.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        asked: &Question,
        Recognized(claims): &Recognized,
    ) -> Result<(), ApiError> {
        if claims.asked != digest(caller, asked)? {
            return Err(ApiError::DenialUnbound);
        }
        if self.clock.now().as_second() >= claims.exp {
            return Err(ApiError::DenialExpired);
        }
        Ok(())
    }

    fn recognized(&self, text: &str) -> Option<Claims> {
        let (signed, tag) = text.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        if !self.key.verify(signed.as_bytes(), &tag) {
            return None;
        }
        let (_, payload) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

fn header() -> Result<String, ApiError> {
    part(&Header {
        alg: "HS256",
        typ: TYPE,
    })
}

fn part(value: &impl Serialize) -> Result<String, ApiError> {
    let bytes = canonical_json(value).map_err(|_| ApiError::Internal)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Who asked for what: another delegation of the same agent is another subject.
fn digest(caller: &Caller, asked: &Question) -> Result<String, ApiError> {
    let link = caller.link().map(|link| link.to_string());
    let subject = (caller.org(), caller.name(), link);
    let kind = asked.entity_type();
    // In any order: a context is a set of named values.
    let context: BTreeMap<_, _> = asked.context.iter().cloned().collect();
    let wanted = (
        &asked.action,
        kind,
        &asked.resource_id,
        asked.units,
        context,
    );
    let bytes = canonical_json(&(subject, wanted)).map_err(|_| ApiError::Internal)?;
    Ok(hex::encode(sha256(&bytes)))
}
