//! Erasing a person's records: the key of their payloads is destroyed, and every proof
//! holds as before.

use std::collections::HashMap;
use std::time::Duration;

use creto_audit::{PAYLOADS_EXPIRED, RecordClass, SUBJECT_ERASED};
use creto_nhi::{NhiError, PrincipalType};
use creto_types::{Commit, LeafIndex, OrgId, PrincipalName, SubjectId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answers::Answer;
use crate::idempotency::Begun;
use crate::ports::{Erasure, Expiry};
use crate::suspension::reason;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// For how many days an answer is given again to the same idempotency key.
pub const REPLIES_KEPT_DAYS: u32 = 7;

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
    /// The pseudonym that the person's leaves have. The log does not lead from it to the
    /// person.
    pub subject: String,
    /// When.
    pub at: Timestamp,
    /// Where it lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

/// How long payloads of records are kept, in days; for ever when absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Those of evidence.
    pub evidence: Option<u32>,
    /// Those of trace records.
    pub trace: Option<u32>,
}

impl Retention {
    const fn classes(&self) -> [(RecordClass, Option<u32>); 2] {
        [
            (RecordClass::Evidence, self.evidence),
            (RecordClass::Trace, self.trace),
        ]
    }

    /// Whether all is kept for ever.
    #[must_use]
    pub const fn is_for_ever(&self) -> bool {
        self.evidence.is_none() && self.trace.is_none()
    }
}

/// None before the first instant there is: nothing is older.
fn days_before(at: Timestamp, days: u32) -> Option<Timestamp> {
    let length = Duration::from_secs(u64::from(days) * 86_400);
    at.checked_sub(length).ok()
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
            Begun::Replay(answer) => {
                self.parts.subjects.settle().await?;
                return Ok(answer);
            }
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
        org: OrgId,
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

    /// Ends keeping payloads that were kept long enough, in every organization, on record.
    /// `today` is the instant at which the day of an organization began; those of a day end
    /// together, so that there is one record of a class a day. They go in
    /// [`Governor::sweep_erased`]. One organization that fails keeps none of the others back.
    pub async fn expire_payloads(
        &self,
        retention: &Retention,
        today: &(dyn Fn(OrgId) -> Timestamp + Sync),
    ) -> Result<(), GovernError> {
        let mut outcome = Ok(());
        for organization in self.parts.nhi.organizations() {
            for (class, days) in retention.classes() {
                let today = today(organization.id);
                let Some(before) = days.and_then(|days| days_before(today, days)) else {
                    continue;
                };
                let ended = self.expire(organization.id, class, before).await;
                outcome = outcome.and(ended);
            }
        }
        outcome
    }

    /// When the newest record of each organization has its place.
    pub async fn newest_records(&self) -> Result<HashMap<OrgId, Timestamp>, GovernError> {
        let mut newest = HashMap::new();
        for organization in self.parts.nhi.organizations() {
            let id = organization.id;
            if let Some(at) = self.parts.subjects.newest(id).await? {
                newest.insert(id, at);
            }
        }
        Ok(newest)
    }

    /// Forgets the replies that were kept for idempotency keys, but those of this day and of
    /// the [`REPLIES_KEPT_DAYS`] before it.
    pub async fn forget_replies(&self, today: Timestamp) -> Result<(), GovernError> {
        match days_before(today, REPLIES_KEPT_DAYS) {
            Some(before) => Ok(self.parts.subjects.forget_replies(before).await?),
            None => Ok(()),
        }
    }

    async fn expire(
        &self,
        org: OrgId,
        class: RecordClass,
        before: Timestamp,
    ) -> Result<(), GovernError> {
        let subjects = &self.parts.subjects;
        let Some(through) = subjects.expirable(org, class, before).await? else {
            return Ok(());
        };
        // Whoever runs the server says how long, and stands for the owner.
        let owner = self.parts.nhi.owner(org)?;
        let body = json!({ "class": class, "through": through, "before": before });
        let evidence = self
            .record(org, &owner, PAYLOADS_EXPIRED, None, &body)
            .await?;
        let expiry = Expiry {
            org,
            class,
            through,
        };
        let receipt = subjects.expire(expiry, Commit::of(evidence)).await?;
        self.committed(org, &receipt);
        Ok(())
    }

    /// Removes payloads that were kept long enough, and what else is kept of people who
    /// were erased, as far as it can go now. Whether nothing is left.
    pub async fn sweep_erased(&self) -> Result<bool, GovernError> {
        Ok(self.parts.subjects.sweep().await?)
    }
}
