//! What two bundles say differently: by policy, not by line.

use std::collections::{BTreeMap, BTreeSet};

use creto_authz::{PolicyEffect, Printed};
use schemars::JsonSchema;
use serde::Serialize;

use super::bundle::Candidate;

/// What is in the second bundle and not in the first, and the other way round.
/// Policies and templates are told apart by their ids; spaces, comments and the order of
/// annotations are no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyDiff {
    /// Whether the two say the same.
    pub same: bool,
    /// Policies and templates that are new.
    pub added: Vec<PolicyText>,
    /// Policies and templates that are gone.
    pub removed: Vec<PolicyText>,
    /// Policies and templates that say something else.
    pub changed: Vec<PolicyChange>,
    /// Actions that the schema did not have.
    pub actions_added: Vec<String>,
    /// Actions that the schema has no more.
    pub actions_removed: Vec<String>,
    /// Resource types that the schema did not have.
    pub resources_added: Vec<String>,
    /// Resource types that the schema has no more.
    pub resources_removed: Vec<String>,
    /// Files of schema, links and tests whose text differs.
    pub files_changed: Vec<String>,
}

/// One policy or template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyText {
    /// Its name.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// The file it stands in.
    pub file: String,
    /// As it was written.
    pub text: String,
}

/// One policy or template that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyChange {
    /// Its name.
    pub id: String,
    /// What it said.
    pub before: PolicyText,
    /// What it says.
    pub after: PolicyText,
}

impl PolicyDiff {
    /// Compares two bundles that compile.
    #[must_use]
    pub fn between(before: &Candidate, after: &Candidate) -> Self {
        let (old, new) = (texts(before), texts(after));
        let (old_report, new_report) = (before.compiled.report(), after.compiled.report());
        let mut diff = Self {
            added: only_in(&new, &old),
            removed: only_in(&old, &new),
            actions_added: missing(&new_report.actions, &old_report.actions),
            actions_removed: missing(&old_report.actions, &new_report.actions),
            resources_added: missing(&new_report.resources, &old_report.resources),
            resources_removed: missing(&old_report.resources, &new_report.resources),
            files_changed: files_changed(before, after),
            ..Self::default()
        };
        for (id, before) in &old {
            if let Some(after) = new.get(id)
                && after.meaning != before.meaning
            {
                diff.changed.push(PolicyChange {
                    id: id.clone(),
                    before: shown(id, before),
                    after: shown(id, after),
                });
            }
        }
        diff.same = diff
            == Self {
                same: diff.same,
                ..Self::default()
            };
        diff
    }
}

type Texts = BTreeMap<String, Printed>;

fn shown(id: &str, policy: &Printed) -> PolicyText {
    PolicyText {
        id: id.to_owned(),
        effect: effect(policy.effect).to_owned(),
        file: policy.file.clone(),
        text: policy.text.clone(),
    }
}

fn texts(bundle: &Candidate) -> Texts {
    // It compiled, so it can be printed.
    bundle.files.sources().printed().unwrap_or_default()
}

pub(crate) const fn effect(effect: PolicyEffect) -> &'static str {
    match effect {
        PolicyEffect::Permit => "permit",
        PolicyEffect::Forbid => "forbid",
    }
}

fn only_in(here: &Texts, there: &Texts) -> Vec<PolicyText> {
    let only = here.iter().filter(|(id, _)| !there.contains_key(*id));
    only.map(|(id, policy)| shown(id, policy)).collect()
}

fn missing(here: &[String], there: &[String]) -> Vec<String> {
    let here: BTreeSet<&String> = here.iter().collect();
    let there: BTreeSet<&String> = there.iter().collect();
    here.difference(&there)
        .map(|name| (*name).clone())
        .collect()
}

/// Policies and templates are compared one by one, so their files are not.
fn files_changed(before: &Candidate, after: &Candidate) -> Vec<String> {
    let (old, new) = (before.files.files(), after.files.files());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| !name.ends_with(".cedar") && old.get(*name) != new.get(*name))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::bundle::PolicyFiles;
    use super::*;

    fn bundle(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Candidate {
        let mut files = PolicyFiles::starter().files().clone();
        change(&mut files);
        Candidate::check(PolicyFiles::new(files).unwrap()).unwrap()
    }

    #[test]
    fn spaces_comments_and_places_are_no_difference() {
        let before = bundle(|_| {});
        let after = bundle(|files| {
            let text = files.remove("release.cedar").unwrap();
            let text = text.replace("permit (", "// a remark\npermit    (");
            files.insert("renamed.cedar".to_owned(), text);
        });
        let diff = PolicyDiff::between(&before, &after);
        assert!(diff.same, "{diff:?}");
    }

    #[test]
    fn what_was_added_removed_and_changed_is_named() {
        let before = bundle(|_| {});
        let after = bundle(|files| {
            files.remove("egress.cedar");
            files.remove("egress.test.json");
            let text = files.get_mut("release.cedar").unwrap();
            *text = text.replace("repo:creto", "repo:other");
            files.remove("release.test.json");
            let schema = files.get_mut("release.cedarschema").unwrap();
            *schema = schema.replace("\"history.read\"", "\"history.read\", \"history.write\"");
            let more = "@id(\"more\") permit (principal, action, resource);";
            files.insert("more.cedar".to_owned(), more.to_owned());
        });
        let diff = PolicyDiff::between(&before, &after);
        let ids = |policies: &[PolicyText]| -> Vec<String> {
            policies.iter().map(|policy| policy.id.clone()).collect()
        };
        assert!(!diff.same);
        assert_eq!(ids(&diff.added), ["more"]);
        assert_eq!(ids(&diff.removed), ["egress-release-host"]);
        assert_eq!(diff.changed.len(), 1);
        assert_eq!(diff.changed[0].id, "release-work");
        assert!(diff.changed[0].after.text.contains("repo:other"));
        assert_eq!(diff.actions_added, ["history.write"]);
        assert_eq!(diff.actions_removed, [""; 0]);
        let files = [
            "egress.test.json",
            "release.cedarschema",
            "release.test.json",
        ];
        assert_eq!(diff.files_changed, files);
    }

    #[test]
    fn a_template_that_nothing_is_made_of_differs_too() {
        let with = |text: &str| {
            bundle(|files| {
                files.insert("more.cedar".to_owned(), text.to_owned());
            })
        };
        let none = bundle(|_| {});
        let before = with("@id(\"may\") permit (principal == ?principal, action, resource);");
        let after = with("@id(\"may\") permit (principal in ?principal, action, resource);");
        let diff = PolicyDiff::between(&before, &after);
        assert!(!diff.same);
        let [change] = diff.changed.as_slice() else {
            panic!("{diff:?}");
        };
        assert_eq!(
            (change.id.as_str(), change.before.file.as_str()),
            ("may", "more.cedar")
        );
        assert!(change.after.text.contains("principal in ?principal"));
        let diff = PolicyDiff::between(&none, &before);
        assert_eq!(diff.added[0].id, "may");
        assert!(!PolicyDiff::between(&before, &none).removed.is_empty());
        assert!(PolicyDiff::between(&before, &before).same);
    }
}
