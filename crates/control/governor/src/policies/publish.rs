//! Publication: a bundle becomes a version, and the version is put in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use creto_types::{Commit, LeafIndex, OrgId, Receipt, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::{
    FollowAnswer, PolicyBundleAnswer, PolicySource, PolicyVersionAnswer, ValidationAnswer,
};
use super::bundle::{BundleError, Candidate, CheckedBundle, PolicyFiles};
use crate::idempotency::{Begun, Ticket};
use crate::ports::PolicyVersion;
use crate::records::PolicyPublished;
use crate::{Call, Caller, GovernError, Governor, IdempotencyKey};

/// The longest reason, in bytes.
const MAX_REASON: usize = 1_000;

/// Policies to publish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishPoliciesRequest {
    /// Texts by name: `NAME.cedarschema`, `NAME.cedar`, `NAME.test.json`. They
    /// replace everything that was published before.
    pub files: BTreeMap<String, String>,
    /// Why; it is kept with the version and in the log.
    pub reason: String,
    /// The newest version as the author knows it, 0 when there is none: if another
    /// one was published since, this is refused. Not checked when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_version: Option<u64>,
}

/// An earlier version to publish again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackPoliciesRequest {
    /// Which.
    pub version: u64,
    /// Why.
    pub reason: String,
    /// As for a publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_version: Option<u64>,
}

/// From now on the configured directory is served again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowRequest {
    /// Why.
    pub reason: String,
}

/// Files of a bundle that is only looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesRequest {
    /// Texts by name: `NAME.cedarschema`, `NAME.cedar`, `NAME.test.json`.
    pub files: BTreeMap<String, String>,
}

struct Publication<'a> {
    caller: &'a Caller,
    ticket: &'a Ticket,
    bundle: CheckedBundle,
    reason: String,
    expect_version: Option<u64>,
    restores: Option<u64>,
}

impl Governor {
    /// Publishes policies and puts them in force. They must compile, and every
    /// test beside them must pass. Once this returned, no decision uses the old
    /// ones, on any thread; the organization follows the directory no longer.
    pub async fn publish_policies(
        &self,
        caller: &Caller,
        request: PublishPoliciesRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<PolicyVersionAnswer, GovernError> {
        caller.may(Call::PublishPolicies, self.now())?;
        caller.require_person("publish policies")?;
        let ticket = match self.begin(caller, key, "policy.publish", &request).await? {
            Begun::Replay(answer) => return self.in_force_again(caller.org(), answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let reason = reason(&request.reason)?;
        let bundle = self
            .check_bundle(PolicyFiles::new(request.files)?)
            .await??;
        self.publish(Publication {
            caller,
            ticket: &ticket,
            bundle,
            reason,
            expect_version: request.expect_version,
            restores: None,
        })
        .await
    }

    /// Publishes the bundle of an earlier version again, as a new version.
    pub async fn rollback_policies(
        &self,
        caller: &Caller,
        request: RollbackPoliciesRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<PolicyVersionAnswer, GovernError> {
        caller.may(Call::RollbackPolicies, self.now())?;
        caller.require_person("publish policies")?;
        let ticket = match self.begin(caller, key, "policy.rollback", &request).await? {
            Begun::Replay(answer) => return self.in_force_again(caller.org(), answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let reason = reason(&request.reason)?;
        let (_, files) = self.stored_version(caller.org(), request.version).await?;
        let bundle = self.check_bundle(files).await??;
        self.publish(Publication {
            caller,
            ticket: &ticket,
            bundle,
            reason,
            expect_version: request.expect_version,
            restores: Some(request.version),
        })
        .await
    }

    /// Serves the configured directory again, and every change of it from now on.
    pub async fn follow_policy_directory(
        &self,
        caller: &Caller,
        request: FollowRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<FollowAnswer, GovernError> {
        caller.may(Call::FollowPolicyDirectory, self.now())?;
        caller.require_person("choose which policies are served")?;
        let ticket = match self.begin(caller, key, "policy.follow", &request).await? {
            Begun::Replay(answer) => return self.in_force_again(caller.org(), answer).await,
            Begun::Fresh(ticket) => ticket,
        };
        let reason = reason(&request.reason)?;
        let org = caller.org();
        let _one_at_a_time = self.in_force.changing.lock().await;
        let directory = self.directory()?;
        let commit = self
            .reload_commit(org, caller.name(), &directory, Some(&reason))
            .await?;
        let answer = FollowAnswer {
            source: PolicySource::Directory,
            digest: directory.digest.clone(),
            leaf: None,
        };
        let commit = commit.with_idempotency(ticket.record(&answer)?);
        let policies = &self.parts.policies;
        let followed = policies
            .follow_directory(
                org,
                directory.digest.clone(),
                directory.files.clone(),
                commit,
            )
            .await;
        let leaf = match followed {
            Ok(receipt) => {
                self.enforce_followed(org, &directory);
                Ok(self.committed(org, &receipt))
            }
            Err(error) => Err(self.in_doubt(org, error).await),
        };
        ticket.finish(answer, leaf)
    }

    /// Published versions below `before`, newest first.
    pub async fn policy_versions(
        &self,
        caller: &Caller,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PolicyVersionAnswer>, GovernError> {
        caller.may(Call::ListPolicyVersions, self.now())?;
        caller.require_person("read its policies")?;
        let policies = &self.parts.policies;
        let versions = policies.list(caller.org(), before, limit).await?;
        Ok(versions.iter().map(PolicyVersionAnswer::from).collect())
    }

    /// One published version with its files.
    pub async fn policy_version(
        &self,
        caller: &Caller,
        version: u64,
    ) -> Result<PolicyBundleAnswer, GovernError> {
        caller.may(Call::GetPolicyVersion, self.now())?;
        caller.require_person("read its policies")?;
        let (head, files) = self.stored_version(caller.org(), version).await?;
        Ok(PolicyBundleAnswer {
            head: PolicyVersionAnswer::from(&head),
            files: files.files().clone(),
        })
    }

    /// Whether files could be published, and what is wrong when not.
    pub async fn validate_policies(
        &self,
        caller: &Caller,
        request: FilesRequest,
    ) -> Result<ValidationAnswer, GovernError> {
        caller.may(Call::ValidatePolicies, self.now())?;
        caller.require_person("validate policies")?;
        let checked = match PolicyFiles::new(request.files) {
            Ok(files) => self.check_bundle(files).await?,
            Err(error) => Err(error),
        };
        Ok(ValidationAnswer::from(&checked))
    }

    /// Compiles and tests what is to be put in force.
    pub(super) async fn check_bundle(
        &self,
        files: PolicyFiles,
    ) -> Result<Result<CheckedBundle, BundleError>, GovernError> {
        let candidate = self.check_candidate(files).await?;
        Ok(candidate.and_then(Candidate::passed))
    }

    /// Compiles and tests a bundle on a thread of its own, one after the other: whoever
    /// tries policies takes one processor, and leaves the others to those who decide.
    pub(super) async fn check_candidate(
        &self,
        files: PolicyFiles,
    ) -> Result<Result<Candidate, BundleError>, GovernError> {
        let one_at_a_time = Arc::clone(&self.in_force.checking).lock_owned().await;
        let check = move || {
            let _one_at_a_time = one_at_a_time;
            Candidate::check(files)
        };
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|error| StoreError::Unavailable(Box::new(error)).into())
    }

    async fn stored_version(
        &self,
        org: OrgId,
        version: u64,
    ) -> Result<(PolicyVersion, PolicyFiles), GovernError> {
        let stored = self.parts.policies.get(org, version).await?;
        stored.ok_or(GovernError::NotFound {
            what: "policy version",
        })
    }

    async fn publish(
        &self,
        publication: Publication<'_>,
    ) -> Result<PolicyVersionAnswer, GovernError> {
        let (caller, org) = (publication.caller, publication.caller.org());
        let _one_at_a_time = self.in_force.changing.lock().await;
        let newest = self.parts.policies.list(org, None, 1).await?;
        let newest = newest.first().map_or(0, |version| version.version);
        if let Some(expected) = publication.expect_version
            && expected != newest
        {
            return Err(GovernError::PolicyVersion { expected, newest });
        }
        let version = PolicyVersion {
            org,
            version: newest + 1,
            digest: publication.bundle.digest.clone(),
            author: caller.name().clone(),
            reason: publication.reason,
            published_at: self.now(),
            restores: publication.restores,
            leaf: None,
        };
        let answer = PolicyVersionAnswer::from(&version);
        let commit = self.publication_commit(caller, &version).await?;
        let commit = commit.with_idempotency(publication.ticket.record(&answer)?);
        let files = publication.bundle.files.clone();
        let number = version.version;
        let published = self.parts.policies.publish(version, files, commit).await;
        let leaf = self
            .published(org, number, &publication.bundle, published)
            .await;
        publication.ticket.finish(answer, leaf)
    }

    async fn published(
        &self,
        org: OrgId,
        version: u64,
        bundle: &CheckedBundle,
        outcome: Result<Receipt, StoreError>,
    ) -> Result<Option<LeafIndex>, GovernError> {
        match outcome {
            Ok(receipt) => {
                self.enforce_version(org, version, bundle);
                tracing::info!(%org, version, digest = bundle.digest, "policies published");
                Ok(self.committed(org, &receipt))
            }
            Err(error) => Err(self.in_doubt(org, error).await),
        }
    }

    async fn publication_commit(
        &self,
        caller: &Caller,
        version: &PolicyVersion,
    ) -> Result<Commit, GovernError> {
        let kind = match version.restores {
            None => "policy.published",
            Some(_) => "policy.rolled_back",
        };
        let body = PolicyPublished {
            version: version.version,
            digest: version.digest.clone(),
            author: version.author.clone(),
            reason: version.reason.clone(),
            restores: version.restores,
            previous: self.served_before(version.org).await?,
        };
        let evidence = self
            .record(version.org, caller.name(), kind, None, &body)
            .await?;
        Ok(Commit::of(evidence))
    }
}

pub(super) fn reason(text: &str) -> Result<String, GovernError> {
    let text = text.trim();
    let printable = text.chars().all(|c| !c.is_control() || c == '\n');
    if text.is_empty() || text.len() > MAX_REASON || !printable {
        return Err(GovernError::invalid(
            "reason",
            format!("1 to {MAX_REASON} bytes of text are expected"),
        ));
    }
    Ok(text.to_owned())
}
