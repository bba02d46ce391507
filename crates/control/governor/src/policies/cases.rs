//! Tests written beside policies: what is asked, and what the policies must say.
//! `docs/formats/policies.md` describes the files.

use std::sync::Arc;

use creto_authz::{CompiledPolicies, Finding};
use creto_types::{OrgId, PrincipalName, Timestamp};
use serde::Deserialize;

use super::bundle::BundleError;
use super::judge::{Asked, Judge, VerdictAnswer, chain_identity};
use crate::OutcomeKind;
use crate::facts::{ContextMap, ResourceJson};

/// The organization of tests that name none.
const ORGANIZATION: &str = "org_00000000000070008000000000000000";

/// The longest chain: the human and the agents below.
const MAX_CHAIN: usize = 17;

/// One file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestFile {
    #[serde(default)]
    organization: Option<OrgId>,
    tests: Vec<PolicyTest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTest {
    name: String,
    chain: Vec<PrincipalName>,
    action: String,
    resource: ResourceJson,
    #[serde(default = "one")]
    units: u64,
    #[serde(default)]
    context: ContextMap,
    #[serde(default)]
    approval: Option<String>,
    #[serde(default)]
    now: Option<Timestamp>,
    expect: Expected,
}

const fn one() -> u64 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    outcome: ExpectedOutcome,
    #[serde(default)]
    policies: Option<Vec<String>>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    oversight: Option<String>,
}

/// Budgets and rates are no business of policies.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpectedOutcome {
    Allow,
    Deny,
    RequiresOversight,
}

impl ExpectedOutcome {
    const fn kind(self) -> OutcomeKind {
        match self {
            Self::Allow => OutcomeKind::Allow,
            Self::Deny => OutcomeKind::Deny,
            Self::RequiresOversight => OutcomeKind::RequiresOversight,
        }
    }
}

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// The file it stands in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What was expected and what the policies said; `None` when it passed.
    pub failure: Option<String>,
}

/// How the tests beside the policies ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestReport {
    /// Every test, in the order of the files.
    pub cases: Vec<TestCase>,
}

impl TestReport {
    /// How many failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases
            .iter()
            .filter(|case| case.failure.is_some())
            .count()
    }

    /// The failures.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let failures = self.cases.iter().filter_map(|case| {
            let failure = case.failure.as_ref()?;
            Some(Finding {
                file: case.file.clone(),
                line: None,
                policy: None,
                message: format!("{}: {failure}", case.name),
            })
        });
        failures.collect()
    }
}

/// Reads files of tests, or says all that is wrong with them.
pub(crate) fn read_tests<'a>(
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<(String, TestFile)>, BundleError> {
    let mut read = Vec::new();
    let mut findings = Vec::new();
    for (file, text) in files {
        let mut finding = |line, message| {
            findings.push(Finding {
                file: file.to_owned(),
                line,
                policy: None,
                message,
            });
        };
        match serde_json::from_str::<TestFile>(text) {
            Err(error) => finding(Some(error.line()), error.to_string()),
            Ok(tests) => {
                for test in &tests.tests {
                    if !(1..=MAX_CHAIN).contains(&test.chain.len()) {
                        let message = format!(
                            "{}: a chain has 1 to {MAX_CHAIN} principals, the human first",
                            test.name
                        );
                        finding(None, message);
                    }
                }
                read.push((file.to_owned(), tests));
            }
        }
    }
    if findings.is_empty() {
        Ok(read)
    } else {
        Err(BundleError::TestsUnreadable(findings))
    }
}

/// Asks the policies everything the tests ask.
pub(crate) fn run_tests(
    policies: &Arc<CompiledPolicies>,
    files: &[(String, TestFile)],
) -> TestReport {
    let mut report = TestReport::default();
    for (file, tests) in files {
        let org = tests.organization.or_else(|| ORGANIZATION.parse().ok());
        let mut judge = org.map(|org| (org, Judge::new(org, Arc::clone(policies))));
        for test in &tests.tests {
            let failure = match &mut judge {
                Some((org, judge)) => test.run(*org, judge),
                None => Some("there is no organization to ask for".to_owned()),
            };
            report.cases.push(TestCase {
                file: file.clone(),
                name: test.name.clone(),
                failure,
            });
        }
    }
    report
}

impl PolicyTest {
    fn run(&self, org: OrgId, judge: &mut Judge) -> Option<String> {
        let Some(identity) = chain_identity(org, &self.chain) else {
            return Some("the chain names nobody".to_owned());
        };
        let asked = Asked {
            action: self.action.clone(),
            resource: self.resource.to_ref(),
            units: self.units,
            context: self.context.clone(),
            approval: self.approval.as_deref().map(Into::into),
        };
        let at = self.now.unwrap_or(Timestamp::UNIX_EPOCH);
        self.expect.differs(&judge.verdict(&identity, &asked, at))
    }
}

impl Expected {
    /// What differs, in one sentence.
    fn differs(&self, verdict: &VerdictAnswer) -> Option<String> {
        let said = if verdict.policies.is_empty() {
            format!(
                "{} ({}): {}",
                verdict.outcome.as_str(),
                verdict.code,
                verdict.message
            )
        } else {
            format!(
                "{} ({}) by {}",
                verdict.outcome.as_str(),
                verdict.code,
                verdict.policies.join(", ")
            )
        };
        let expected = self.outcome.kind();
        if verdict.outcome != expected {
            return Some(format!("expected {}, got {said}", expected.as_str()));
        }
        if let Some(policies) = &self.policies {
            let mut wanted = policies.clone();
            wanted.sort();
            let mut found = verdict.policies.clone();
            found.sort();
            if wanted != found {
                return Some(format!("expected it by {}, got {said}", shown(&wanted)));
            }
        }
        if let Some(code) = self.code.as_ref().filter(|code| **code != verdict.code) {
            return Some(format!("expected the code {code}, got {said}"));
        }
        match &self.oversight {
            Some(kind) if verdict.oversight.as_ref() != Some(kind) => Some(format!(
                "expected the approval {kind}, got {}",
                verdict.oversight.as_deref().unwrap_or("none")
            )),
            _ => None,
        }
    }
}

fn shown(policies: &[String]) -> String {
    if policies.is_empty() {
        "no policy".to_owned()
    } else {
        policies.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use creto_authz::PolicySources;
    use serde_json::{Value, json};

    use super::*;

    fn report(tests: Value) -> TestReport {
        let compiled = CompiledPolicies::compile(&PolicySources::starter()).unwrap();
        let text = json!({ "tests": tests }).to_string();
        let read = read_tests([("a.test.json", text.as_str())].into_iter()).unwrap();
        run_tests(&Arc::new(compiled), &read)
    }

    fn publish(expect: Value) -> Value {
        json!({
            "name": "publishing", "chain": ["alice", "planner", "bot"],
            "action": "release.publish", "resource": "repo:creto", "expect": expect,
        })
    }

    fn failure(test: Value) -> Option<String> {
        report(json!([test])).cases.remove(0).failure
    }

    #[test]
    fn a_test_passes_when_all_it_expects_is_so() {
        let held = json!({
            "outcome": "requires_oversight", "policies": ["publish-needs-a-human"],
            "code": "needs_approval", "oversight": "release",
        });
        assert_eq!(failure(publish(held)), None);
        let mut approved = publish(json!({"outcome": "allow", "policies": ["release-work"]}));
        approved["approval"] = json!("publish-needs-a-human");
        assert_eq!(failure(approved), None);
        // The human acts in person: nobody needs to be asked.
        let mut alone = publish(json!({"outcome": "allow"}));
        alone["chain"] = json!(["alice"]);
        assert_eq!(failure(alone), None);
    }

    /// One judge answers all tests of a run, and remembers: for each chain its own.
    #[test]
    fn chains_of_one_length_are_told_apart() {
        let policies = r#"
            permit (principal, action, resource);
            @id("not-mallory")
            forbid (principal == Creto::Agent::"mallory", action, resource);
            @id("not-below-eve")
            forbid (principal == Creto::Human::"eve", action, resource);
        "#;
        let sources = PolicySources {
            policies: vec![("test.cedar".to_owned(), policies.to_owned())],
            ..PolicySources::starter()
        };
        let compiled = Arc::new(CompiledPolicies::compile(&sources).unwrap());
        let case = |chain: Value, outcome: &str| {
            json!({
                "name": chain.to_string(), "chain": chain, "action": "history.read",
                "resource": "repo:creto", "expect": {"outcome": outcome},
            })
        };
        let tests = json!({ "tests": [
            case(json!(["alice", "bot"]), "allow"),
            case(json!(["alice", "mallory"]), "deny"),
            case(json!(["eve", "bot"]), "deny"),
            case(json!(["alice", "mallory", "bot"]), "deny"),
            case(json!(["alice", "planner", "bot"]), "allow"),
            case(json!(["alice"]), "allow"),
            case(json!(["eve"]), "deny"),
        ]})
        .to_string();
        let read = read_tests([("a.test.json", tests.as_str())].into_iter()).unwrap();
        for case in run_tests(&compiled, &read).cases {
            assert_eq!(case.failure, None, "{}", case.name);
        }
    }

    #[test]
    fn a_test_fails_by_each_of_its_expectations() {
        for (expect, part) in [
            (
                json!({"outcome": "allow"}),
                "expected allow, got requires_oversight",
            ),
            (
                json!({"outcome": "requires_oversight", "policies": ["release-work"]}),
                "expected it by release-work",
            ),
            (
                json!({"outcome": "requires_oversight", "code": "permitted"}),
                "expected the code permitted",
            ),
            (
                json!({"outcome": "requires_oversight", "oversight": "spending"}),
                "expected the approval spending, got release",
            ),
        ] {
            let text = failure(publish(expect)).expect("fails");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_is_no_test_is_pointed_at() {
        for (text, part) in [
            ("{", "EOF"),
            ("{\"tests\": [{}]}", "missing field `name`"),
            ("{\"tests\": [], \"more\": 1}", "unknown field `more`"),
        ] {
            let refused = read_tests([("a.test.json", text)].into_iter());
            let refused = refused.expect_err("is refused");
            assert!(refused.to_string().contains(part), "{refused}");
            assert_eq!(refused.findings()[0].line, Some(1));
        }
        let mut nobody = publish(json!({"outcome": "deny"}));
        nobody["chain"] = json!([]);
        let text = json!({ "tests": [nobody] }).to_string();
        assert!(read_tests([("a.test.json", text.as_str())].into_iter()).is_err());
    }

    #[test]
    fn context_and_resource_types_reach_the_policies() {
        let mut test = json!({
            "name": "egress", "chain": ["alice", "bot"], "action": "network_egress",
            "resource": {"type": "Creto::Host", "id": "releases.example.test"},
            "context": {"port": 443, "protocol": "tls"},
            "expect": {"outcome": "allow", "policies": ["egress-release-host"]},
        });
        assert_eq!(failure(test.clone()), None);
        test["context"]["protocol"] = json!("tcp");
        assert!(failure(test.clone()).is_some());
        test["context"]["protocol"] = json!(7);
        let text = failure(test).expect("does not fit the schema");
        assert!(text.contains("invalid_request"), "{text}");
    }
}
