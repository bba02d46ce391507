//! Other keys for the organization's log, while its readers follow it.

use std::collections::BTreeMap;

use creto_crypto::VerifyingKey;
use creto_nhi::KeyPurpose;
use creto_types::{Commit, LeafIndex, OrgId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answers::Answer;
use crate::idempotency::Begun;
use crate::keys::RotationRequest;
use crate::suspension::reason;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// Why keys of the log are retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRetirementRequest {
    /// Why, as for a rotation.
    pub reason: String,
}

/// The keys that sign for the log from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRotationAnswer {
    /// The `kid` of each new key: `log_ed25519` and `log_composite` sign checkpoints,
    /// `evidence` exported bundles.
    pub kids: BTreeMap<String, String>,
    /// The `kid` of each key before. Those of checkpoints sign besides until they are
    /// retired.
    pub former_kids: BTreeMap<String, String>,
    /// The algorithm of each new key. That of `log_ed25519` is always Ed25519.
    #[serde(default)]
    pub algorithms: BTreeMap<String, String>,
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

/// The keys that sign checkpoints no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRetirementAnswer {
    /// The `kid` of each.
    pub kids: BTreeMap<String, String>,
    /// From when that holds.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// The verifier keys of the log's checkpoints, as note tools read them: Ed25519 first, then
/// the one that holds against quantum computers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogVerifierKeys {
    /// Those in force.
    pub in_force: [String; 2],
    /// Those that sign besides until they are retired.
    pub former: Option<[String; 2]>,
}

impl Answer for LogRotationAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Answer for LogRetirementAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

fn by_name<T>(keys: BTreeMap<KeyPurpose, T>) -> BTreeMap<String, T> {
    let named = |(purpose, key): (KeyPurpose, T)| (purpose.as_str().to_owned(), key);
    keys.into_iter().map(named).collect()
}

impl Governor {
    /// The keys that whoever follows the log has to know: one pair of them.
    pub fn log_keys(&self, caller: &Caller) -> Result<LogVerifierKeys, GovernError> {
        caller.may(Call::GetLogKeys, self.now())?;
        let audit = &self.parts.audit;
        Ok(LogVerifierKeys {
            in_force: audit.verifier_keys(caller.org())?,
            former: audit.former_verifier_keys(caller.org())?,
        })
    }

    /// Gives the log new keys, of the algorithm that is in force for new ones but where the
    /// format has another. Those of before sign its checkpoints besides, so that
    /// whoever knows them can follow it until [`Governor::retire_log_keys`]. The record
    /// has the new keys: it lies in the log that the keys before signed alone. For the
    /// owner.
    ///
    /// # Errors
    ///
    /// `forbidden` to agents, `invalid_request` for a reason that cannot be used,
    /// `log_keys_not_retired` while keys of an earlier rotation sign besides, `conflict`
    /// when another rotation came first.
    pub async fn rotate_log_keys(
        &self,
        caller: &Caller,
        request: RotationRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<LogRotationAnswer, GovernError> {
        caller.may(Call::RotateLogKeys, self.now())?;
        caller.require_person("rotate keys")?;
        let reason = reason(&request.reason)?;
        let ticket = match self.begin(caller, key, "log_keys.rotate", &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let org = caller.org();
        let draft = self.parts.nhi.draft_log_rotation(org)?;
        let keys: BTreeMap<String, VerifyingKey> = by_name(draft.keys());
        let former_kids = by_name(draft.former().clone());
        let body = json!({ "keys": keys, "former_kids": former_kids, "reason": reason });
        let evidence = self
            .record(org, caller.name(), "log_keys.rotated", None, &body)
            .await?;
        let algorithm = |key: &VerifyingKey| key.algorithm().as_str().to_owned();
        let algorithms = keys
            .iter()
            .map(|(name, key)| (name.clone(), algorithm(key)));
        let algorithms = algorithms.collect();
        let kid = |(name, key)| Ok((name, creto_nhi::key_id(&key)?));
        let answer = LogRotationAnswer {
            kids: keys
                .into_iter()
                .map(kid)
                .collect::<Result<_, GovernError>>()?,
            former_kids,
            algorithms,
            configuration_differs: self.parts.algorithms.lists().await.differ(),
            at: evidence.at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = self.parts.nhi.commit_log_rotation(draft, commit).await;
        // Also after an answer that was lost: the keys may have changed.
        self.rekey(org).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// Ends the keys of the log that a rotation replaced: they sign no more, and whoever
    /// knows no other cannot follow the log. For the owner.
    ///
    /// # Errors
    ///
    /// As for a rotation; `not_found` when no key waits for it. When the log cannot be
    /// signed by the new keys, those of before stay.
    pub async fn retire_log_keys(
        &self,
        caller: &Caller,
        request: LogRetirementRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<LogRetirementAnswer, GovernError> {
        caller.may(Call::RetireLogKeys, self.now())?;
        caller.require_person("retire keys")?;
        let reason = reason(&request.reason)?;
        let ticket = match self.begin(caller, key, "log_keys.retire", &request).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let org = caller.org();
        let former = self.parts.nhi.former_log_keys(org)?;
        let kids = by_name(former.clone());
        if kids.is_empty() {
            return Err(GovernError::NotFound {
                what: "former key of the log",
            });
        }
        // Whatever stops the server next, the checkpoint that it finds is by keys it has.
        self.parts.audit.rekey(org).await?;
        let body = json!({ "kids": kids, "reason": reason });
        let evidence = self
            .record(org, caller.name(), "log_keys.retired", None, &body)
            .await?;
        let answer = LogRetirementAnswer {
            kids,
            at: evidence.at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let committed = self.parts.nhi.retire_log_keys(org, former, commit).await;
        self.rekey(org).await;
        ticket.finish(
            answer,
            committed
                .map(|receipt| self.committed(org, &receipt))
                .map_err(GovernError::from),
        )
    }

    /// What is decided is durable; a log that cannot be written now is signed by these keys
    /// when it can be.
    async fn rekey(&self, org: OrgId) {
        if let Err(error) = self.parts.audit.rekey(org).await {
            tracing::warn!(
                %org, error = &error as &dyn std::error::Error,
                "the log is not signed by its new keys yet"
            );
        }
    }
}
