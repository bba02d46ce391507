//! Moving the organization to other keys and algorithms, and ending the old ones.

use std::sync::Arc;

use creto_nhi::NhiError;
use creto_types::{Commit, LeafIndex, StoreError, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answers::Answer;
use crate::idempotency::Begun;
use crate::suspension::reason;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// How often a retirement is tried again when a key was made meanwhile.
const ATTEMPTS: usize = 5;

/// Why keys are rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationRequest {
    /// Why, for whoever reads the log: 1 to 512 characters, without control
    /// characters but line breaks.
    pub reason: String,
}

/// Why the keys of before are retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetirementRequest {
    /// Why, as for a rotation.
    pub reason: String,
    /// Also when tokens that those keys signed may still be valid: they end now.
    #[serde(default)]
    pub now: bool,
}

/// The keys that are used from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationAnswer {
    /// The version of the key that private keys are wrapped under.
    pub wrapping_version: u32,
    /// How they are wrapped, by its name.
    pub wrapping: String,
    /// By which algorithm tokens are signed.
    pub issuer: String,
    /// The `kid` of that key.
    pub issuer_kid: String,
    /// The `kid` of the key before: its tokens hold until it is retired.
    pub former_kid: String,
    /// Whether the configuration says something else of algorithms than what is in force,
    /// or cannot be read: these keys are of what is in force.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub configuration_differs: bool,
    /// From when that holds.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// The keys that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetirementAnswer {
    /// The wrapping keys before this version; what was under them is under it now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before_version: Option<u32>,
    /// The `kid` of each issuer key whose tokens hold no more.
    pub issuer_kids: Vec<String>,
    /// How many payloads of records were sealed anew, by the cipher for new ones.
    #[serde(default)]
    pub resealed: u64,
    /// How many could not be opened and stayed as they were: their cipher has to be
    /// accepted for as long as they are kept.
    #[serde(default)]
    pub unread: u64,
    /// From when that holds.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for RotationAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Answer for RetirementAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Governor {
    /// Gives the organization a new wrapping key and a new issuer key, of the
    /// algorithms that are in force for new keys. What the keys before made
    /// stays valid until [`Governor::retire_keys`]. For the owner.
    ///
    /// # Errors
    ///
    /// `forbidden` to agents, `invalid_request` for a reason that cannot be used,
    /// `conflict` when another rotation came first.
    pub async fn rotate_keys(
        &self,
        caller: &Caller,
        request: RotationRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<RotationAnswer, GovernError> {
        caller.may(Call::RotateKeys, self.now())?;
        caller.require_person("rotate keys")?;
        let reason = reason(&request.reason)?;
        let ticket = match self.begin(caller, key, "keys.rotate", &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let org = caller.org();
        let nhi = Arc::clone(&self.parts.nhi);
        // The keystore may be a device, which others need not wait for.
        let draft = tokio::task::spawn_blocking(move || nhi.draft_rotation(org))
            .await
            .map_err(|error| StoreError::NotDone(Box::new(error)))??;
        let made = draft.summary();
        let body = json!({
            "wrapping_version": made.wrapping_version,
            "wrapping": made.wrapping.as_str(),
            "issuer": made.issuer.as_str(),
            "issuer_kid": made.issuer_kid,
            "former_kid": made.former_kid,
            "reason": reason,
        });
        let evidence = self
            .record(org, caller.name(), "keys.rotated", None, &body)
            .await?;
        let answer = RotationAnswer {
            wrapping_version: made.wrapping_version,
            wrapping: made.wrapping.as_str().to_owned(),
            issuer: made.issuer.as_str().to_owned(),
            issuer_kid: made.issuer_kid.clone(),
            former_kid: made.former_kid.clone(),
            configuration_differs: self.parts.algorithms.lists().await.differ(),
            at: evidence.at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = self.parts.nhi.commit_rotation(draft, commit).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Ends the keys that rotations replaced: what is still wrapped under them is
    /// wrapped anew, payloads of records are sealed by the cipher for new ones, and tokens
    /// that they signed verify no more. For the owner.
    ///
    /// # Errors
    ///
    /// As for a rotation; `issuer_in_use` while such tokens may be valid, unless the
    /// request says `now`.
    pub async fn retire_keys(
        &self,
        caller: &Caller,
        request: RetirementRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<RetirementAnswer, GovernError> {
        caller.may(Call::RetireKeys, self.now())?;
        caller.require_person("retire keys")?;
        let reason = reason(&request.reason)?;
        let ticket = match self.begin(caller, key, "keys.retire", &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let org = caller.org();
        let nhi = &self.parts.nhi;
        let mut attempts = ATTEMPTS;
        let mut resealed: u64 = 0;
        loop {
            let retiring = nhi.retiring(org)?;
            if let Some(until) = retiring.tokens_until
                && until > self.now()
                && !request.now
            {
                return Err(NhiError::IssuerInUse { until }.into());
            }
            nhi.rewrap_keys(org).await?;
            let again = self.parts.subjects.reseal(org).await?;
            resealed = resealed.saturating_add(again.sealed);
            let body = json!({
                "before_version": retiring.before_version,
                "issuer_kids": retiring.issuer_kids,
                "resealed": resealed,
                "unread": again.unread,
                "reason": reason,
            });
            let evidence = self
                .record(org, caller.name(), "keys.retired", None, &body)
                .await?;
            let answer = RetirementAnswer {
                before_version: retiring.before_version,
                issuer_kids: retiring.issuer_kids.clone(),
                resealed,
                unread: again.unread,
                at: evidence.at,
                leaf: None,
            };
            let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
            let committed = nhi.retire_keys(org, retiring, commit).await;
            attempts -= 1;
            match committed {
                // A key was made under an older one, or rotated, meanwhile.
                Err(NhiError::Store(StoreError::Conflict { .. })) if attempts > 0 => {}
                committed => {
                    return ticket.finish(
                        answer,
                        committed
                            .map(|receipt| self.committed(org, &receipt))
                            .map_err(GovernError::from),
                    );
                }
            }
        }
    }
}
