//! What is really in force: at start, when the directory changes, and after a
//! publication.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use creto_errors::{Class, Classify};
use creto_telemetry::PolicyReload;
use creto_types::{Commit, OrgId, PrincipalName, StoreError, Timestamp};
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::answers::{self, PoliciesInForceAnswer, PolicySource, RefusedAnswer};
use super::bundle::{BundleError, CheckedBundle};
use crate::ports::{PolicyVersion, ServedPolicies};
use crate::records::{PoliciesBefore, PolicyReloaded};
use crate::{Call, Caller, GovernError, Governor};

/// How long to wait before a store that could not be read is asked again: at first, and
/// at most.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What each organization is served, and from where.
#[derive(Default)]
pub(crate) struct InForce {
    /// One change of what is in force at a time, so that what is durable and what
    /// is in force follow one order.
    pub(super) changing: Mutex<()>,
    /// One bundle that was sent is compiled at a time; held by the work, which goes on without its
    /// caller.
    pub(super) checking: Arc<Mutex<()>>,
    state: RwLock<State>,
    /// The organizations of which the store is being asked what is to be served.
    open: parking_lot::Mutex<HashSet<OrgId>>,
}

#[derive(Default)]
struct State {
    orgs: HashMap<OrgId, Serving>,
    directory: Directory,
}

#[derive(Clone)]
struct Serving {
    source: Source,
    /// `None` when nothing could be put in force.
    loaded: Option<(String, Timestamp)>,
    /// Why the published version is not in force.
    refused: Option<RefusedAnswer>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Directory,
    Published(u64),
}

/// The configured directory as it was seen last.
#[derive(Clone, Default)]
struct Directory {
    accepted: Option<CheckedBundle>,
    refused: Option<RefusedAnswer>,
}

/// The directory was not put in force in every organization that follows it.
#[derive(Debug, thiserror::Error)]
#[error("what lies in the policy directory is not in force everywhere: {}", told(.failed))]
pub struct ReloadError {
    /// Where it is not, and why.
    pub failed: Vec<(OrgId, GovernError)>,
}

fn told(failed: &[(OrgId, GovernError)]) -> String {
    let one =
        |(org, error): &(OrgId, GovernError)| format!("{org}: {}", creto_errors::chain(error));
    failed.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Classify for ReloadError {
    fn class(&self) -> Class {
        Class::Transient
    }

    fn code(&self) -> &'static str {
        "policy_reload_incomplete"
    }
}

impl InForce {
    fn follows_directory(&self, org: OrgId) -> bool {
        let state = self.state.read();
        let serving = state.orgs.get(&org);
        serving.is_some_and(|serving| serving.source == Source::Directory)
    }
}

impl Governor {
    /// Puts in force what each organization is to be served: its published
    /// version, or the directory, which was checked by the caller. Called once,
    /// before anything is decided.
    ///
    /// A directory that was refused is reported, and who follows it goes on with what it
    /// was served last. It is an error where nothing was taken from it.
    ///
    /// What was published, or taken from a directory that is refused now, and is not
    /// accepted by this build is not replaced by anything: everything in that
    /// organization is denied until its owner publishes again, or the directory is
    /// mended.
    pub async fn serve_policies(
        &self,
        directory: Result<CheckedBundle, BundleError>,
    ) -> Result<(), GovernError> {
        match &directory {
            Ok(directory) => self.accept(directory),
            Err(refused) => self.refuse_directory(refused),
        }
        for organization in self.parts.nhi.organizations() {
            let org = organization.id;
            match (self.parts.policies.served(org).await?, &directory) {
                (Some(ServedPolicies::Published { version }), _) => {
                    self.serve_published(org, version).await?;
                }
                (Some(ServedPolicies::Directory { digest }), Ok(directory))
                    if digest == directory.digest =>
                {
                    self.enforce(org, Source::Directory, directory);
                }
                (Some(ServedPolicies::Directory { .. }) | None, Ok(directory)) => {
                    self.enforce_directory(org, directory).await?;
                }
                (served, Err(_)) => {
                    let known = match served {
                        Some(ServedPolicies::Directory { digest }) => {
                            self.enforce_kept(org, &digest).await?
                        }
                        _ => false,
                    };
                    if !known {
                        return directory.map(drop).map_err(GovernError::from);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what is in the directory now. What cannot be accepted is reported and
    /// changes nothing. An organization in which it could not be put in force keeps
    /// none of the others back; called again, this goes on with those alone.
    pub async fn reload_policies(
        &self,
        found: Result<CheckedBundle, BundleError>,
    ) -> Result<(), ReloadError> {
        let directory = match found {
            Ok(directory) => directory,
            Err(error) => {
                self.refuse_directory(&error);
                return Ok(());
            }
        };
        let _one_at_a_time = self.in_force.changing.lock().await;
        self.accept(&directory);
        let mut failed = Vec::new();
        for organization in self.parts.nhi.organizations() {
            let org = organization.id;
            if self.in_force.follows_directory(org)
                && !self.serves(org, &directory.digest)
                && let Err(error) = self.enforce_directory(org, &directory).await
            {
                failed.push((org, error));
            }
        }
        if !failed.is_empty() {
            return Err(ReloadError { failed });
        }
        self.parts.metrics.policy_reloads.inc(PolicyReload::Loaded);
        tracing::info!(
            digest = directory.digest,
            policies = directory.compiled.report().policies.len(),
            "the policy directory was loaded"
        );
        Ok(())
    }

    /// What is really in force for the caller's organization.
    pub fn policies_in_force(&self, caller: &Caller) -> Result<PoliciesInForceAnswer, GovernError> {
        caller.may(Call::GetPoliciesInForce, self.now())?;
        caller.require_person("read its policies")?;
        let org = caller.org();
        let (serving, directory) = {
            let state = self.in_force.state.read();
            let serving = state.orgs.get(&org).cloned();
            (serving, state.directory.refused.clone())
        };
        let serving = serving.ok_or(GovernError::NotFound {
            what: "policies in force",
        })?;
        let compiled = self.parts.authz.policies(org);
        let report = compiled.as_ref().map(|compiled| compiled.report().clone());
        let report = report.unwrap_or_default();
        let (source, version) = match serving.source {
            Source::Directory => (PolicySource::Directory, None),
            Source::Published(version) => (PolicySource::Published, Some(version)),
        };
        let refused = match source {
            PolicySource::Directory => directory,
            PolicySource::Published => serving.refused,
        };
        let (digest, loaded_at) = serving.loaded.unzip();
        Ok(PoliciesInForceAnswer {
            source,
            version,
            digest,
            loaded_at,
            policies: compiled.map_or_else(Vec::new, |compiled| answers::policies(&compiled)),
            actions: report.actions,
            resources: report.resources,
            warnings: answers::findings(&report.warnings),
            refused,
        })
    }

    /// The directory's bundle, if what is in it now may be put in force.
    pub(super) fn directory(&self) -> Result<CheckedBundle, GovernError> {
        let state = self.in_force.state.read();
        match (&state.directory.refused, &state.directory.accepted) {
            (Some(refused), _) => Err(GovernError::PolicyDirectory {
                message: refused.message.clone(),
            }),
            (None, Some(accepted)) => Ok(accepted.clone()),
            (None, None) => Err(GovernError::PolicyDirectory {
                message: "this server follows no directory".to_owned(),
            }),
        }
    }

    /// Puts a bundle in force that was just made durable as this version.
    pub(super) fn enforce_version(&self, org: OrgId, version: u64, bundle: &CheckedBundle) {
        self.enforce(org, Source::Published(version), bundle);
    }

    pub(super) fn enforce_followed(&self, org: OrgId, bundle: &CheckedBundle) {
        self.enforce(org, Source::Directory, bundle);
    }

    /// After a failure: when it leaves open whether a change is durable, what the store
    /// says is what is served. While the store cannot be read it is asked again, until
    /// it is known.
    pub(super) async fn in_doubt(&self, org: OrgId, error: StoreError) -> GovernError {
        match error {
            StoreError::Unavailable(_) => {
                if let Err(lost) = self.recover_in_force(org).await {
                    tracing::error!(
                        %org,
                        error = &lost as &dyn std::error::Error,
                        "it is open which policies are to be served; the store is asked again"
                    );
                    self.recover_later(org);
                }
                error.into()
            }
            // The call that was first may have left it open.
            StoreError::Replayed(_) => match self.recover_in_force(org).await {
                Ok(()) => error.into(),
                Err(lost) => lost,
            },
            error => error.into(),
        }
    }

    fn recover_later(&self, org: OrgId) {
        if !self.in_force.open.lock().insert(org) {
            return;
        }
        let governor = self.me.clone();
        tokio::spawn(async move {
            let mut wait = FIRST_WAIT;
            loop {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                // Nobody is served any more.
                let Some(governor) = governor.upgrade() else {
                    return;
                };
                let _one_at_a_time = governor.in_force.changing.lock().await;
                if governor.recover_in_force(org).await.is_ok() {
                    governor.in_force.open.lock().remove(&org);
                    tracing::info!(%org, "it is known again which policies are to be served");
                    return;
                }
            }
        });
    }

    /// The answer of a call that was made before, once what it did is in force: its
    /// outcome may have been open until now.
    pub(super) async fn in_force_again<T>(&self, org: OrgId, answer: T) -> Result<T, GovernError> {
        let _one_at_a_time = self.in_force.changing.lock().await;
        self.recover_in_force(org).await?;
        Ok(answer)
    }

    async fn recover_in_force(&self, org: OrgId) -> Result<(), GovernError> {
        match self.parts.policies.served(org).await? {
            Some(ServedPolicies::Published { version }) => {
                let serving = self.in_force.state.read().orgs.get(&org).cloned();
                if serving.is_none_or(|serving| serving.source != Source::Published(version)) {
                    self.serve_published(org, version).await?;
                }
            }
            Some(ServedPolicies::Directory { digest })
                if !self.in_force.follows_directory(org) || !self.serves(org, &digest) =>
            {
                let directory = self.directory()?;
                if directory.digest == digest {
                    self.enforce(org, Source::Directory, &directory);
                } else {
                    self.enforce_directory(org, &directory).await?;
                }
            }
            Some(ServedPolicies::Directory { .. }) | None => {}
        }
        Ok(())
    }

    fn accept(&self, directory: &CheckedBundle) {
        self.in_force.state.write().directory = Directory {
            accepted: Some(directory.clone()),
            refused: None,
        };
    }

    fn refuse_directory(&self, error: &BundleError) {
        self.parts.metrics.policy_reloads.inc(PolicyReload::Refused);
        tracing::error!(
            code = creto_errors::Classify::code(error),
            error = creto_errors::chain(error),
            "the policy directory was refused; what was in force stays in force"
        );
        let refused = RefusedAnswer::of(error, self.now());
        self.in_force.state.write().directory.refused = Some(refused);
    }

    /// Goes on with what was taken from the directory last; `false` when nothing was.
    async fn enforce_kept(&self, org: OrgId, digest: &str) -> Result<bool, GovernError> {
        let Some(files) = self.parts.policies.kept(org, digest).await? else {
            return Ok(false);
        };
        match self.check_bundle(files).await? {
            Ok(bundle) => self.enforce(org, Source::Directory, &bundle),
            Err(error) => {
                tracing::error!(
                    %org,
                    digest,
                    code = creto_errors::Classify::code(&error),
                    error = creto_errors::chain(&error),
                    "what was taken from the policy directory last cannot be served by this \
                     build; everything is denied until the directory is mended"
                );
                self.serve_nothing(org, Source::Directory, &error);
            }
        }
        Ok(true)
    }

    fn serves(&self, org: OrgId, digest: &str) -> bool {
        let state = self.in_force.state.read();
        let loaded = state.orgs.get(&org).and_then(|org| org.loaded.as_ref());
        loaded.is_some_and(|(loaded, _)| loaded == digest)
    }

    /// Puts the directory in force for one organization, with evidence.
    async fn enforce_directory(
        &self,
        org: OrgId,
        directory: &CheckedBundle,
    ) -> Result<(), GovernError> {
        // The server has no name of its own in the log. The directory is in the
        // hands of whoever runs the server, which stands for the owner.
        let Some(owner) = self.owner_name(org) else {
            return Err(StoreError::NotFound { what: "owner" }.into());
        };
        let commit = self.reload_commit(org, &owner, directory, None).await?;
        let (digest, files) = (directory.digest.clone(), directory.files.clone());
        let policies = &self.parts.policies;
        let receipt = policies
            .follow_directory(org, digest, files, commit)
            .await?;
        self.enforce(org, Source::Directory, directory);
        self.committed(org, &receipt);
        Ok(())
    }

    pub(super) async fn reload_commit(
        &self,
        org: OrgId,
        actor: &PrincipalName,
        directory: &CheckedBundle,
        reason: Option<&str>,
    ) -> Result<Commit, GovernError> {
        let body = PolicyReloaded {
            digest: directory.digest.clone(),
            files: directory.files.files().keys().cloned().collect(),
            reason: reason.map(str::to_owned),
            previous: self.served_before(org).await?,
        };
        let evidence = self
            .record(org, actor, "policy.reloaded", None, &body)
            .await?;
        Ok(Commit::of(evidence))
    }

    /// What is to be served now, for the record of what comes after it. From the store:
    /// a new start, or a publication of unknown outcome, makes no gap.
    pub(super) async fn served_before(
        &self,
        org: OrgId,
    ) -> Result<Option<PoliciesBefore>, GovernError> {
        let policies = &self.parts.policies;
        Ok(match policies.served(org).await? {
            None => None,
            Some(ServedPolicies::Directory { digest }) => {
                Some(PoliciesBefore::Directory { digest })
            }
            Some(ServedPolicies::Published { version }) => {
                let below = version.checked_add(1);
                let newest = policies.list(org, below, 1).await?.into_iter().next();
                let newest = newest.ok_or(StoreError::NotFound {
                    what: "policy version",
                })?;
                Some(PoliciesBefore::Published {
                    version: newest.version,
                    digest: newest.digest,
                })
            }
        })
    }

    fn owner_name(&self, org: OrgId) -> Option<PrincipalName> {
        self.parts.nhi.owner(org).ok()
    }

    async fn serve_published(&self, org: OrgId, version: u64) -> Result<(), GovernError> {
        let stored = self.parts.policies.get(org, version).await?;
        let (head, files) = stored.ok_or(StoreError::NotFound {
            what: "policy version",
        })?;
        match self.check_bundle(files).await? {
            Ok(bundle) => self.enforce(org, Source::Published(version), &bundle),
            Err(error) => self.refuse_published(&head, &error),
        }
        Ok(())
    }

    fn refuse_published(&self, version: &PolicyVersion, error: &BundleError) {
        tracing::error!(
            org = %version.org,
            version = version.version,
            code = creto_errors::Classify::code(error),
            error = creto_errors::chain(error),
            "the published policies cannot be served by this build; everything is denied \
             until others are published"
        );
        self.serve_nothing(version.org, Source::Published(version.version), error);
    }

    fn serve_nothing(&self, org: OrgId, source: Source, error: &BundleError) {
        let serving = Serving {
            source,
            loaded: None,
            refused: Some(RefusedAnswer::of(error, self.now())),
        };
        self.in_force.state.write().orgs.insert(org, serving);
    }

    fn enforce(&self, org: OrgId, source: Source, bundle: &CheckedBundle) {
        self.parts.authz.publish(org, Arc::clone(&bundle.compiled));
        let serving = Serving {
            source,
            loaded: Some((bundle.digest.clone(), self.now())),
            refused: None,
        };
        self.in_force.state.write().orgs.insert(org, serving);
    }
}
