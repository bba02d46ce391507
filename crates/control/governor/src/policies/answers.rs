//! What callers get back about policies.

use std::collections::BTreeMap;

use creto_authz::{CompiledPolicies, Finding};
use creto_errors::Classify as _;
use creto_types::{LeafIndex, PrincipalName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bundle::{BundleError, CheckedBundle};
use super::cases::{TestCase, TestReport};
use super::diff::effect;
use crate::answers::Answer;
use crate::ports::PolicyVersion;

/// One thing that is wrong, or looks wrong, in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingAnswer {
    /// The file; empty when it is about all of them.
    pub file: String,
    /// The line, counted from one, when it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<usize>,
    /// The policy, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<String>,
    /// What it is, and what to do.
    pub message: String,
}

impl From<&Finding> for FindingAnswer {
    fn from(finding: &Finding) -> Self {
        Self {
            file: finding.file.clone(),
            line: finding.line,
            policy: finding.policy.clone(),
            message: finding.message.clone(),
        }
    }
}

pub(crate) fn findings(findings: &[Finding]) -> Vec<FindingAnswer> {
    findings.iter().map(FindingAnswer::from).collect()
}

/// One published version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersionAnswer {
    /// Counts up from 1 in the organization.
    pub version: u64,
    /// SHA-256 of the bundle, in hexadecimal.
    pub digest: String,
    /// Who published it.
    pub author: PrincipalName,
    /// Why.
    pub reason: String,
    /// When.
    pub published_at: Timestamp,
    /// The earlier version whose bundle this one brought back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restores: Option<u64>,
    /// Where its publication lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl From<&PolicyVersion> for PolicyVersionAnswer {
    fn from(version: &PolicyVersion) -> Self {
        Self {
            version: version.version,
            digest: version.digest.clone(),
            author: version.author.clone(),
            reason: version.reason.clone(),
            published_at: version.published_at,
            restores: version.restores,
            leaf: version.leaf,
        }
    }
}

impl Answer for PolicyVersionAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

/// One published version with its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyBundleAnswer {
    /// Which, by whom and why.
    #[serde(flatten)]
    pub head: PolicyVersionAnswer,
    /// Texts by name.
    pub files: BTreeMap<String, String>,
}

/// One policy that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyAnswer {
    /// Its name.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// The file it stands in.
    pub file: String,
    /// The line it starts in, counted from one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<usize>,
    /// The kind of approval that lifts it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oversight: Option<String>,
    /// What whoever is refused reads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

pub(crate) fn policies(compiled: &CompiledPolicies) -> Vec<PolicyAnswer> {
    let infos = compiled.report().policies.iter();
    infos
        .map(|info| PolicyAnswer {
            id: info.id.to_string(),
            effect: effect(info.effect).to_owned(),
            file: info.file.clone(),
            line: info.line,
            oversight: info.oversight.clone(),
            reason: info.reason.clone(),
        })
        .collect()
}

/// Where the policies in force come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicySource {
    /// The configured directory, which is followed.
    Directory,
    /// A published version.
    Published,
}

/// What is really in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoliciesInForceAnswer {
    /// Where they come from.
    pub source: PolicySource,
    /// The published version; absent when the directory is followed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u64>,
    /// SHA-256 of the bundle, in hexadecimal; absent when nothing is in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
    /// Since when this process serves them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loaded_at: Option<Timestamp>,
    /// Every policy, in the order of the files. Without any, everything is denied.
    pub policies: Vec<PolicyAnswer>,
    /// The actions of the schema.
    pub actions: Vec<String>,
    /// The resource types of the schema.
    pub resources: Vec<String>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<FindingAnswer>,
    /// Why what should be in force is not: the files in the directory, or the
    /// published version, that were refused. What was in force before stays so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<RefusedAnswer>,
}

/// The directory is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FollowAnswer {
    /// `directory`.
    pub source: PolicySource,
    /// SHA-256 of the bundle in it that is in force now, in hexadecimal.
    pub digest: String,
    /// Where the change lies in the log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<LeafIndex>,
}

impl Answer for FollowAnswer {
    fn set_leaf(&mut self, leaf: LeafIndex) {
        self.leaf = Some(leaf);
    }
}

/// Policies that were not put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedAnswer {
    /// Stable, `snake_case`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Everything that was found.
    pub findings: Vec<FindingAnswer>,
    /// When it was found.
    pub at: Timestamp,
}

impl RefusedAnswer {
    pub(crate) fn of(error: &BundleError, at: Timestamp) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            findings: findings(&error.findings()),
            at,
        }
    }
}

/// One test beside the policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestAnswer {
    /// The file it stands in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Whether the policies said what it expects.
    pub passed: bool,
    /// What they said instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

impl From<&TestCase> for TestAnswer {
    fn from(case: &TestCase) -> Self {
        Self {
            file: case.file.clone(),
            name: case.name.clone(),
            passed: case.failure.is_none(),
            failure: case.failure.clone(),
        }
    }
}

pub(crate) fn tests(report: &TestReport) -> Vec<TestAnswer> {
    report.cases.iter().map(TestAnswer::from).collect()
}

/// Failed tests that one answer lists.
const LISTED: usize = 20;

/// Tests beside a candidate that fail. It is looked at all the same, and cannot be put
/// in force until they pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedTestsAnswer {
    /// How many fail.
    pub failed: usize,
    /// Of how many.
    pub of: usize,
    /// Those that fail, at most 20 of them.
    pub items: Vec<TestAnswer>,
}

impl FailedTestsAnswer {
    /// `None` when every test passed.
    #[must_use]
    pub fn of(report: &TestReport) -> Option<Self> {
        let failed = report.failed();
        let failures = report.cases.iter().filter(|case| case.failure.is_some());
        (failed > 0).then(|| Self {
            failed,
            of: report.cases.len(),
            items: failures.take(LISTED).map(TestAnswer::from).collect(),
        })
    }
}

/// Whether files could be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValidationAnswer {
    /// Whether they could.
    pub valid: bool,
    /// SHA-256 of the bundle, in hexadecimal, when they could.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
    /// The code of the refusal, when they could not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// What is wrong.
    pub findings: Vec<FindingAnswer>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<FindingAnswer>,
    /// The policies that were read.
    pub policies: Vec<PolicyAnswer>,
    /// The tests beside them, as far as they ran.
    pub tests: Vec<TestAnswer>,
}

impl From<&Result<CheckedBundle, BundleError>> for ValidationAnswer {
    fn from(checked: &Result<CheckedBundle, BundleError>) -> Self {
        match checked {
            Ok(bundle) => Self {
                valid: true,
                digest: Some(bundle.digest.clone()),
                code: None,
                findings: Vec::new(),
                warnings: findings(&bundle.compiled.report().warnings),
                policies: policies(&bundle.compiled),
                tests: tests(&bundle.tests),
            },
            Err(error) => Self {
                valid: false,
                digest: None,
                code: Some(error.code().to_owned()),
                findings: match error {
                    // Files that cannot be read at all have no findings.
                    BundleError::Policies(creto_authz::PolicyError::Unreadable {
                        path, ..
                    }) => {
                        vec![FindingAnswer {
                            file: path.display().to_string(),
                            line: None,
                            policy: None,
                            message: creto_errors::chain(error),
                        }]
                    }
                    other => findings(&other.findings()),
                },
                warnings: Vec::new(),
                policies: Vec::new(),
                tests: match error {
                    BundleError::TestsFailed(report) => tests(report),
                    _ => Vec::new(),
                },
            },
        }
    }
}
