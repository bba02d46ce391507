//! Candidates that fail tests beside them: looked at, and not put in force.

use std::collections::BTreeMap;

use creto_governor::{
    DryRunRequest, ExplainRequest, FailedTestsAnswer, FilesRequest, OutcomeKind, ResourceJson,
};
use creto_types::Clock as _;

use crate::policies::{Files, code, publish, reads, starter, without_reading};
use crate::world::World;

/// Nobody reads the history, and the tests say that somebody does.
fn failing() -> Files {
    let mut files = without_reading();
    let tests = starter().remove("release.test.json").expect("ships");
    files.insert("release.test.json".to_owned(), tests);
    files
}

fn explained(files: Files) -> ExplainRequest {
    ExplainRequest {
        principal: Some("release-bot".parse().expect("a name")),
        delegation: None,
        action: "history.read".to_owned(),
        resource: ResourceJson::Name("repo:creto".to_owned()),
        units: 1,
        context: BTreeMap::new(),
        approval: None,
        files: Some(files),
    }
}

fn names_the_failure(failed: Option<FailedTestsAnswer>) {
    let failed = failed.expect("a test fails");
    assert!(failed.failed > 0 && failed.failed < failed.of, "{failed:?}");
    assert_eq!(failed.items.len(), failed.failed, "{failed:?}");
    for test in &failed.items {
        assert_eq!(test.file, "release.test.json");
        assert!(!test.passed && test.failure.is_some(), "{test:?}");
    }
}

#[tokio::test]
async fn a_candidate_whose_tests_fail_is_looked_at_and_not_put_in_force() {
    let world = World::new().await;
    let governor = &world.governor;
    let since = world.clock.now();
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
    let dry_run = async |files| {
        let request = DryRunRequest {
            files,
            since,
            until: None,
            before: None,
        };
        governor.dry_run_policies(&world.owner, request).await
    };
    let tried = dry_run(failing()).await.expect("is looked at");
    assert_eq!((tried.judged, tried.different), (1, 1));
    names_the_failure(tried.tests_failed);
    let passing = dry_run(starter()).await.expect("answers");
    assert_eq!(passing.tests_failed, None);

    let told = governor.explain_policies(&world.owner, explained(failing()));
    let told = told.await.expect("is looked at");
    assert_eq!(told.reason.code, "no_policy_permits");
    names_the_failure(told.tests_failed);

    let request = FilesRequest { files: failing() };
    let started = governor.start_policy_shadow(&world.owner, request.clone(), None);
    names_the_failure(started.await.expect("is looked at").tests_failed);
    let status = governor.policy_shadow(&world.owner).expect("answers");
    assert!(status.active);
    names_the_failure(status.tests_failed);

    // Whether it could be published is another question.
    let valid = governor.validate_policies(&world.owner, request).await;
    let valid = valid.expect("answers");
    assert_eq!(valid.code.as_deref(), Some("policy_tests_failed"));
    let published = governor.publish_policies(&world.owner, publish(failing()), None);
    assert_eq!(code(published.await), "policy_tests_failed");
    assert_eq!(reads(&world).await, OutcomeKind::Allow);
}

#[tokio::test]
async fn what_does_not_compile_is_not_looked_at_either() {
    let world = World::new().await;
    let governor = &world.governor;
    let with = |file: &str, text: &str| {
        let mut files = failing();
        files.insert(file.to_owned(), text.to_owned());
        files
    };
    for (files, refusal) in [
        (
            with(
                "a.cedar",
                "permit (principal, action, resource) when { 1 };",
            ),
            "policy_invalid",
        ),
        (with("a.test.json", "{}"), "policy_test_unreadable"),
    ] {
        let told = governor.explain_policies(&world.owner, explained(files.clone()));
        assert_eq!(code(told.await), refusal);
        let request = FilesRequest { files };
        let started = governor.start_policy_shadow(&world.owner, request, None);
        assert_eq!(code(started.await), refusal);
    }
}
