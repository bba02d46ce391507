//! Erasing a person's records: the key of their payloads is destroyed, and every proof
//! holds as before.

use creto_audit::SUBJECT_ERASED;
use creto_nhi::{NhiError, PrincipalType};
use creto_types::{Commit, LeafIndex, PrincipalName, SubjectId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answers::Answer;
use crate::idempotency::Begun;
use crate::ports::Erasure;
use crate::suspension::reason;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// Why a person's records are erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasureRequest {
    /// Why, for whoever reads the log: 1 to 512 characters, without control characters
    /// but line breaks. It stays, so it should not name the person.
    pub reason: String,
}

/// A person whose records were erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasureAnswer {
    /// The pseudonym that the person's leaves have. Nothing leads from it to the person
    /// any more.
    pub subject: String,
    /// When.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for ErasureAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

impl Governor {
    /// Erases the records of a person who is suspended or revoked, for ever: their payloads can be
    /// opened by nobody. For owners.
    ///
    /// Durable with its evidence when this returns, in the files too. What else is kept of
    /// the person goes as soon as it can ([`Governor::sweep_erased`]).
    ///
    /// # Errors
    ///
    /// `forbidden`, `invalid_request` for a reason that cannot be used or for an agent,
    /// `unknown_principal`, `principal_not_suspended`, `not_found` when there is nothing
    /// to erase.
    pub async fn erase_subject(
        &self,
        caller: &Caller,
        name: &PrincipalName,
        request: ErasureRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<ErasureAnswer, GovernError> {
        caller.may(Call::EraseSubject, self.now())?;
        caller.require_person("erase a person's records")?;
        let reason = reason(&request.reason)?;
        let ticket = match self
            .begin(caller, key, "subject.erase", &(name, &request))
            .await?
        {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(ticket) => ticket,
        };
        let (org, nhi) = (caller.org(), &self.parts.nhi);
        let found = nhi.principal(org, name).zip(nhi.standing(org, name));
        let Some((principal, standing)) = found else {
            return Err(NhiError::UnknownPrincipal { name: name.clone() }.into());
        };
        if principal.kind != PrincipalType::Human {
            let message = "a person is expected; records of agents are those of people";
            return Err(GovernError::invalid("name", message.to_owned()));
        }
        if !(standing.is_suspended() || standing.is_revoked()) {
            return Err(NhiError::NotSuspended { name: name.clone() }.into());
        }
        let subject = self.parts.subjects.subject(org, name).await?;
        let subject = subject.ok_or(GovernError::NotFound {
            what: "record of this person",
        })?;
        let body = json!({ "subject": subject, "reason": reason });
        let evidence = self
            .record(org, caller.name(), SUBJECT_ERASED, None, &body)
            .await?;
        let answer = ErasureAnswer {
            subject: subject.to_string(),
            at: evidence.at,
            leaf: None,
        };
        let commit = Commit::of(evidence).with_idempotency(ticket.record(&answer)?);
        let erased = self.destroy(org, name, subject, commit).await;
        ticket.finish(answer, erased)
    }

    /// In a task of its own: what begins is ended, though nobody waits any more.
    async fn destroy(
        &self,
        org: creto_types::OrgId,
        person: &PrincipalName,
        subject: SubjectId,
        commit: Commit,
    ) -> Result<Option<LeafIndex>, GovernError> {
        let turn = commit.turn();
        let subjects = std::sync::Arc::clone(&self.parts.subjects);
        let person = person.clone();
        let erasure = Erasure {
            org,
            person,
            subject,
        };
        let work = tokio::spawn(async move {
            let erased = subjects.erase(erasure, commit).await;
            drop(turn);
            erased
        });
        let receipt = match work.await {
            Ok(erased) => erased?,
            Err(error) => return Err(creto_types::StoreError::Unavailable(Box::new(error)).into()),
        };
        Ok(self.committed(org, &receipt))
    }

    /// Removes what else is kept of people who were erased, as far as it can go now.
    /// Whether nothing is left.
    pub async fn sweep_erased(&self) -> Result<bool, GovernError> {
        Ok(self.parts.subjects.sweep().await?)
    }
}
