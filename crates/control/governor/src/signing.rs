//! Signing on behalf of an agent, with its own key, which it never has in hand; and the
//! keys by which others check what it signed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use creto_crypto::{Digest, sha256};
use creto_nhi::{MAX_SIGNED_LEN, Nhi, PrincipalKey, Signable, SignedStatement, SigningPurpose};
use creto_types::{ActionId, Commit, LeafIndex, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answers::Answer;
use crate::idempotency::{Begun, Ticket};
use crate::{
    ActionAnswer, ActionRequest, Call, Caller, GovernError, Governor, GrantText, IdempotencyKey,
    OutcomeKind,
};

/// The action that policies decide when an agent has something signed.
const SIGN: &str = "identity.sign";

/// Something is to be signed with the caller's own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// What it is for: 1 to 63 of `a-z`, `0-9`, `-`, `_`, `.`, the first a letter or a
    /// digit. It is signed with the message.
    pub purpose: String,
    /// The message: unpadded base64url of at most 16,384 bytes. Either this or `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The digest of a message of any length: the name of a function that
    /// `crypto.digests` accepts, `:`, and lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The single-use grant of an approved oversight request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantText>,
}

/// A signature and its algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignatureValue {
    /// Its JOSE name.
    pub alg: String,
    /// Its bytes as unpadded base64url.
    pub sig: String,
}

/// A message that an agent signed, without the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementAnswer {
    /// The SPIFFE id of the agent, or of its instance that acted.
    pub signer: String,
    /// What it is for.
    pub purpose: String,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// The thumbprint of the agent's key.
    pub kid: String,
    /// The digest that was signed in the place of the message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
    /// Over all of these but `kid`, and over the message when there is no digest.
    pub signature: SignatureValue,
}

impl From<&SignedStatement> for StatementAnswer {
    fn from(signed: &SignedStatement) -> Self {
        Self {
            signer: signed.signer.clone(),
            purpose: signed.purpose.to_string(),
            signed_at: signed.signed_at,
            kid: signed.kid.clone(),
            digest: signed.digest.as_ref().map(ToString::to_string),
            signature: SignatureValue {
                alg: signed.signature.algorithm().to_string(),
                sig: signed.signature.to_base64url(),
            },
        }
    }
}

/// The answer to a request to sign: the decision, and the signature when that allows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SigningAnswer {
    /// What was decided. What is allowed is settled already.
    pub decision: ActionAnswer,
    /// What was signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signed: Option<StatementAnswer>,
    /// Where the signature lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for SigningAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

/// A public key as a JWK (RFC 7517, RFC 9964), with what becomes of what it signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicKeyAnswer {
    /// Always `AKP`.
    pub kty: String,
    /// The JOSE name of its algorithm.
    pub alg: String,
    /// Its thumbprint.
    pub kid: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub purpose: String,
    /// Its bytes as unpadded base64url.
    #[serde(rename = "pub")]
    pub public: String,
    /// Which of the principal's keys, counted from 1: delegations name it so.
    pub version: u32,
    /// Since when the principal has it.
    pub since: Timestamp,
    /// What it is good for.
    pub state: KeyState,
    /// When it was revoked, once that is known for certain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
}

/// What a key of a principal is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// The principal signs with it, and what it signed holds.
    Present,
    /// Another took its place; what it signed holds.
    Former,
    /// Nothing that it signed holds, for ever.
    Revoked,
}

impl From<&PrincipalKey> for PublicKeyAnswer {
    fn from(key: &PrincipalKey) -> Self {
        Self {
            kty: "AKP".to_owned(),
            alg: key.key.algorithm().to_string(),
            kid: key.kid.clone(),
            purpose: "sig".to_owned(),
            public: key.key.to_base64url(),
            version: key.version.get(),
            since: key.since,
            state: match (key.revoked, key.present) {
                (true, _) => KeyState::Revoked,
                (false, true) => KeyState::Present,
                (false, false) => KeyState::Former,
            },
            revoked_at: key.revoked_at,
        }
    }
}

/// By which keys what a principal signed is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicKeysAnswer {
    /// The principal.
    pub spiffe_id: String,
    /// Its name.
    pub name: PrincipalName,
    /// `human` or `agent`.
    pub kind: String,
    /// Whether it is suspended now. What it signed before is valid as it was.
    pub suspended: bool,
    /// Whether it was revoked, for ever. Then, too.
    pub revoked: bool,
    /// The keys by which what it signed is checked, newest first.
    pub keys: Vec<PublicKeyAnswer>,
    /// Those that were revoked, newest first: nothing that they signed holds.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub revoked_keys: Vec<PublicKeyAnswer>,
}

/// What is to be signed, as it was read.
enum Content {
    Message(Vec<u8>),
    Digest(Digest),
}

impl Content {
    fn read(nhi: &Nhi, request: &SignRequest) -> Result<Self, GovernError> {
        match (&request.message, &request.digest) {
            (Some(text), None) => message(text).map(Self::Message),
            (None, Some(text)) => Ok(Self::Digest(nhi.digest("digest", text)?)),
            _ => Err(GovernError::invalid(
                "message",
                "either `message` or `digest` is expected",
            )),
        }
    }

    fn signable(&self) -> Signable<'_> {
        match self {
            Self::Message(message) => Signable::Message(message),
            Self::Digest(digest) => Signable::Digest(digest),
        }
    }

    /// What stands for it where it is not shown.
    fn digest(&self, nhi: &Nhi) -> Digest {
        match self {
            Self::Message(message) => Digest::of(nhi.digest_algorithms().for_new(), message),
            Self::Digest(digest) => digest.clone(),
        }
    }
}

impl Governor {
    /// Signs a message or its digest with the caller's own key, when its policies permit
    /// `identity.sign` of `signature:<purpose>`. The evidence is durable before the
    /// signature is handed out; it holds the digest of the message, never the message.
    /// A decision that does not allow it is an answer.
    ///
    /// # Errors
    ///
    /// `forbidden` to people; `invalid_request` for a purpose or message that cannot be
    /// used; `digest_malformed`, `unknown_algorithm` or `algorithm_not_allowed` for a
    /// digest.
    pub async fn sign(
        &self,
        caller: &Caller,
        request: SignRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<SigningAnswer, GovernError> {
        caller.may(Call::Sign, self.now())?;
        if caller.link().is_none() {
            return Err(GovernError::forbidden(
                "a key signs for the agent whose it is, and for nobody else",
            ));
        }
        self.admit(caller)?;
        let purpose: SigningPurpose = request
            .purpose
            .parse()
            .map_err(|error| GovernError::invalid("purpose", format!("{error}")))?;
        let ticket = match self.begin(caller, key, SIGN, &request).await? {
            Begun::Replay(answer) => return self.statement_in_force(caller, answer),
            Begun::Fresh(ticket) => ticket,
        };
        // Behind what was answered before: which functions are accepted changes.
        let content = Content::read(&self.parts.nhi, &request)?;
        let asked = asked(&purpose, &content, request.grant);
        let decision = self.submit(caller, asked, None).await?;
        if decision.outcome != OutcomeKind::Allow {
            return Ok(SigningAnswer {
                decision,
                signed: None,
                leaf: None,
            });
        }
        let action = decision.action_id;
        let made = self
            .signed(caller, decision, &purpose, &content, &ticket)
            .await;
        self.close(caller, Some(action), made.is_ok()).await;
        let answer = made?;
        // What ended while this was written is not outrun.
        caller.may(Call::Sign, self.now())?;
        self.statement_in_force(caller, answer)
    }

    /// What a revoked key signed is not given out, nor repeated.
    fn statement_in_force(
        &self,
        caller: &Caller,
        answer: SigningAnswer,
    ) -> Result<SigningAnswer, GovernError> {
        if let Some(signed) = &answer.signed {
            let nhi = &self.parts.nhi;
            nhi.signed_in_force(caller.org(), caller.name(), &signed.kid)?;
        }
        Ok(answer)
    }

    /// Makes the evidence of a signature durable, and gives it.
    async fn signed(
        &self,
        caller: &Caller,
        decision: ActionAnswer,
        purpose: &SigningPurpose,
        content: &Content,
        ticket: &Ticket,
    ) -> Result<SigningAnswer, GovernError> {
        let action: Option<ActionId> = Some(decision.action_id);
        let mut evidence = self
            .record(caller.org(), caller.name(), "identity.signed", action, &())
            .await?;
        let nhi = &self.parts.nhi;
        nhi.settle_keys(caller.org(), caller.name()).await?;
        let signed = nhi.sign_statement(
            caller.identity(),
            purpose.clone(),
            evidence.at,
            content.signable(),
        )?;
        evidence.body = json!({
            "signer": signed.signer,
            "purpose": purpose,
            "digest": content.digest(nhi),
            "kid": signed.kid,
            "signature_sha256": hex::encode(sha256(signed.signature.as_bytes())),
            "delegation": caller.link(),
        });
        let answer = SigningAnswer {
            decision,
            signed: Some(StatementAnswer::from(&signed)),
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = nhi
            .commit_statement(caller.identity(), &signed, commit)
            .await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(caller.org(), &receipt))
                .map_err(GovernError::from),
        )
    }

    /// The public keys of a principal of the caller's organization, by its SPIFFE id or
    /// by that of an instance of it.
    pub fn public_keys(
        &self,
        caller: &Caller,
        spiffe_id: &str,
    ) -> Result<PublicKeysAnswer, GovernError> {
        caller.may(Call::GetPublicKeys, self.now())?;
        self.admit(caller)?;
        let known = self.parts.nhi.known_principal(caller.org(), spiffe_id)?;
        let known = known.ok_or(GovernError::NotFound { what: "principal" })?;
        let newest_first = known.keys.iter().rev();
        let (revoked, in_force): (Vec<_>, Vec<_>) = newest_first.partition(|key| key.revoked);
        Ok(PublicKeysAnswer {
            spiffe_id: known.public.spiffe_id,
            name: known.name,
            kind: known.kind.to_string(),
            suspended: known.suspended,
            revoked: known.revoked,
            keys: in_force.into_iter().map(PublicKeyAnswer::from).collect(),
            revoked_keys: revoked.into_iter().map(PublicKeyAnswer::from).collect(),
        })
    }
}

fn message(text: &str) -> Result<Vec<u8>, GovernError> {
    let message = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| GovernError::invalid("message", "unpadded base64url is expected"))?;
    if message.len() > MAX_SIGNED_LEN {
        return Err(GovernError::invalid(
            "message",
            format!("at most {MAX_SIGNED_LEN} bytes are signed; of more, sign the `digest`"),
        ));
    }
    Ok(message)
}

/// The action with what is signed among its arguments: who approves it sees that, and a
/// grant is for that alone.
fn asked(purpose: &SigningPurpose, content: &Content, grant: Option<GrantText>) -> ActionRequest {
    let args = match content {
        Content::Message(message) => shown(message),
        Content::Digest(digest) => json!({ "digest": digest }),
    };
    ActionRequest {
        action: SIGN.to_owned(),
        resource: format!("signature:{purpose}").as_str().into(),
        context: BTreeMap::new(),
        args,
        units: 1,
        grant,
    }
}

fn shown(message: &[u8]) -> Value {
    let mut args = json!({
        "message_sha256": hex::encode(sha256(message)),
        "message_bytes": message.len(),
    });
    let (name, shown) = match std::str::from_utf8(message) {
        Ok(text) if !text.chars().any(steers) => ("message", text.to_owned()),
        _ => ("message_base64url", URL_SAFE_NO_PAD.encode(message)),
    };
    if let Value::Object(args) = &mut args {
        args.insert(name.to_owned(), Value::String(shown));
    }
    args
}

/// What no text for people holds. A few of them, escaped, would also outgrow what
/// arguments may take.
fn steers(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_be_signed_may_be_asked() {
        let purpose: SigningPurpose = "p".parse().unwrap();
        for byte in [0, b'"', b'\\', b'\n', b'a', 0xFF] {
            let message = Content::Message(vec![byte; MAX_SIGNED_LEN]);
            assert!(asked(&purpose, &message, None).validate().is_ok(), "{byte}");
        }
    }

    #[test]
    fn an_approver_sees_text_as_text() {
        let purpose: SigningPurpose = "p".parse().unwrap();
        let of = |message: &[u8]| asked(&purpose, &Content::Message(message.to_vec()), None).args;
        assert_eq!(of("Grüße\n".as_bytes())["message"], "Grüße\n");
        assert_eq!(of(b"\x1b[2J")["message"], Value::Null);
        assert_eq!(of(b"\x1b[2J")["message_base64url"], "G1sySg");
        assert_eq!(of(b"")["message_bytes"], 0);
    }
}
