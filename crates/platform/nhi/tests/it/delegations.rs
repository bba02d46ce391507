//! Escalation attempts, one a dimension, and who may delegate at all.

use std::sync::Arc;

use creto_errors::{Class, Classify};
use creto_nhi::test_util::{World, name, rights};
use creto_nhi::{Budget, BudgetPeriod, DelegationRequest, LinkId, PrincipalType};
use creto_types::{OrgId, Quantity};

use crate::{chained, code, crew};

fn budget(limit: &str, period: BudgetPeriod) -> Option<Budget> {
    Some(Budget {
        limit: limit.parse().unwrap(),
        period,
    })
}

/// alice -> planner: writes below `repo:`, from minute one for an hour, two more
/// links, ten dollars a month.
async fn bounded() -> (World, OrgId, LinkId) {
    let (world, org) = crew().await;
    let parent = DelegationRequest {
        rights: rights(&[("fs.*", "repo:*"), ("net.get", "docs.example")]),
        not_before: Some(world.after(60)),
        expires_at: world.after(3_660),
        max_depth: Some(2),
        budget: budget("10 USD", BudgetPeriod::Month),
        ..world.request("alice", "planner", None)
    };
    let id = world.delegate(org, parent).await.unwrap();
    (world, org, id)
}

fn child(world: &World, parent: LinkId) -> DelegationRequest {
    DelegationRequest {
        rights: rights(&[("fs.write", "repo:changelog")]),
        expires_at: world.after(600),
        ..world.request("planner", "worker", Some(parent))
    }
}

#[tokio::test]
async fn a_child_within_its_parent_is_accepted() {
    let (world, org, parent) = bounded().await;
    for request in [
        child(&world, parent),
        DelegationRequest {
            rights: rights(&[("fs.*", "repo:*"), ("net.get", "docs.example")]),
            not_before: Some(world.after(60)),
            expires_at: world.after(3_660),
            max_depth: Some(1),
            budget: budget("10.00 USD", BudgetPeriod::Month),
            ..child(&world, parent)
        },
    ] {
        let id = world.delegate(org, request).await.unwrap();
        let link = world
            .nhi
            .link(org, id)
            .unwrap()
            .signed
            .link
            .as_ref()
            .clone();
        assert_eq!(link.max_depth, 1, "the most that is left");
        assert_eq!(link.not_before, world.after(60), "not before the parent");
    }
}

#[tokio::test]
async fn each_dimension_has_its_own_refusal() {
    let (world, org, parent) = bounded().await;
    let base = || child(&world, parent);
    let cases = [
        (
            "delegation_rights_exceed_parent",
            DelegationRequest {
                rights: rights(&[("fs.write", "repo:x"), ("fs.write", "home:x")]),
                ..base()
            },
        ),
        (
            "delegation_rights_exceed_parent",
            DelegationRequest {
                rights: rights(&[("*", "repo:x")]),
                ..base()
            },
        ),
        (
            // Covered by two rights of the parent together, by neither alone.
            "delegation_rights_exceed_parent",
            DelegationRequest {
                rights: rights(&[("fs.read", "docs.example")]),
                ..base()
            },
        ),
        (
            "delegation_outlives_parent",
            DelegationRequest {
                expires_at: world.after(3_661),
                ..base()
            },
        ),
        (
            "delegation_precedes_parent",
            DelegationRequest {
                not_before: Some(world.after(59)),
                ..base()
            },
        ),
        (
            "delegation_depth_exceeded",
            DelegationRequest {
                max_depth: Some(2),
                ..base()
            },
        ),
        (
            "delegation_budget_exceeds_parent",
            DelegationRequest {
                budget: budget("10.01 USD", BudgetPeriod::Month),
                ..base()
            },
        ),
        (
            "delegation_budget_exceeds_parent",
            DelegationRequest {
                budget: budget("1 USD", BudgetPeriod::Day),
                ..base()
            },
        ),
        (
            "delegation_budget_exceeds_parent",
            DelegationRequest {
                budget: budget("1 EUR", BudgetPeriod::Month),
                ..base()
            },
        ),
    ];
    for (expected, request) in cases {
        let error = world
            .nhi
            .draft_delegation(org, request.clone())
            .unwrap_err();
        assert_eq!(error.code(), expected, "{request:?}");
        assert_eq!(error.class(), Class::Security);
    }
}

#[tokio::test]
async fn the_refusal_names_both_values() {
    let (world, org, parent) = bounded().await;
    let error = world
        .nhi
        .draft_delegation(
            org,
            DelegationRequest {
                budget: budget("11 USD", BudgetPeriod::Month),
                ..child(&world, parent)
            },
        )
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("11.00 USD per month") && error.contains("10.00 USD per month"),
        "{error}"
    );
}

#[tokio::test]
async fn a_link_without_a_budget_does_not_hide_the_one_above() {
    let (world, org, parent) = bounded().await;
    let between = world.delegate(org, child(&world, parent)).await.unwrap();
    let below = DelegationRequest {
        budget: budget("11 USD", BudgetPeriod::Month),
        ..DelegationRequest {
            delegator: name("worker"),
            delegatee: name("helper"),
            ..child(&world, between)
        }
    };
    assert_eq!(
        code(world.nhi.draft_delegation(org, below)),
        "delegation_budget_exceeds_parent"
    );
}

#[tokio::test]
async fn depth_runs_out() {
    let (world, org) = crew().await;
    let last = DelegationRequest {
        max_depth: Some(0),
        ..world.request("alice", "planner", None)
    };
    let last = world.delegate(org, last).await.unwrap();
    for depth in [None, Some(0)] {
        let further = DelegationRequest {
            max_depth: depth,
            ..world.request("planner", "worker", Some(last))
        };
        assert_eq!(
            code(world.nhi.draft_delegation(org, further)),
            "delegation_depth_exceeded"
        );
    }
    let deep = DelegationRequest {
        max_depth: Some(8),
        ..world.request("alice", "planner", None)
    };
    assert_eq!(
        code(world.nhi.draft_delegation(org, deep)),
        "delegation_depth_exceeded",
        "eight links are the longest chain by default"
    );
}

#[tokio::test]
async fn only_a_human_starts_a_chain_and_only_a_holder_continues_it() {
    let (world, org, [root, middle, _]) = chained().await;
    let draft = |request| code(world.nhi.draft_delegation(org, request));
    assert_eq!(
        draft(world.request("planner", "worker", None)),
        "principal_not_human"
    );
    assert_eq!(
        draft(world.request("worker", "helper", Some(root))),
        "delegation_parent_not_held"
    );
    assert_eq!(
        draft(world.request("alice", "helper", Some(middle))),
        "delegation_parent_not_held",
        "not even the human the chain starts from"
    );
    assert_eq!(
        draft(world.request("alice", "alice", None)),
        "delegatee_not_agent"
    );
    assert_eq!(
        draft(world.request("alice", "nobody", None)),
        "unknown_principal"
    );
    assert_eq!(
        draft(world.request("nobody", "planner", None)),
        "unknown_principal"
    );
    assert_eq!(
        draft(world.request("planner", "worker", Some(world.ids.next()))),
        "unknown_delegation"
    );
}

#[tokio::test]
async fn authority_does_not_go_back_into_its_chain() {
    let (world, org, [root, middle, last]) = chained().await;
    for (from, to, parent) in [
        ("planner", "planner", root),
        ("worker", "worker", middle),
        ("worker", "planner", middle),
        ("helper", "planner", last),
        ("helper", "worker", last),
        ("helper", "helper", last),
    ] {
        let request = world.request(from, to, Some(parent));
        let error = world.nhi.draft_delegation(org, request).unwrap_err();
        assert_eq!(error.code(), "delegation_loops", "{from} to {to}");
        assert_eq!(error.class(), Class::Security);
        assert!(error.to_string().contains(&format!("`{to}`")), "{error}");
    }
    // The human it starts from is in the chain too, and no agent at all.
    assert_eq!(
        code(
            world
                .nhi
                .draft_delegation(org, world.request("helper", "alice", Some(last)))
        ),
        "delegatee_not_agent"
    );
    // Nor by a link that was drafted as another.
    let mut turned = world
        .nhi
        .draft_delegation(org, world.request("planner", "helper", Some(root)))
        .unwrap();
    Arc::make_mut(&mut turned.link).delegatee = name("planner");
    let refused = world.nhi.commit_delegation(turned, Default::default());
    assert_eq!(code(refused.await), "delegation_loops");
    assert_eq!(world.nhi.links(org, None, 10).len(), 3);
    // Who is in another chain of the same human is somebody new in this one.
    let apart = world
        .delegate(org, world.request("alice", "helper", None))
        .await
        .unwrap();
    world
        .delegate(org, world.request("helper", "planner", Some(apart)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dead_parent_gives_nothing() {
    let (world, org, [root, middle, _]) = chained().await;
    let drafted = world
        .nhi
        .draft_delegation(org, world.request("worker", "helper", Some(middle)))
        .unwrap();
    world
        .nhi
        .revoke(org, root, world.now(), Default::default())
        .await
        .unwrap();
    assert_eq!(
        code(
            world
                .nhi
                .draft_delegation(org, world.request("worker", "helper", Some(middle)))
        ),
        "delegation_revoked"
    );
    assert_eq!(
        code(
            world
                .nhi
                .commit_delegation(drafted, Default::default())
                .await
        ),
        "delegation_revoked",
        "drafted before, committed after"
    );
}

#[tokio::test]
async fn malformed_requests_name_their_field() {
    let (world, org) = crew().await;
    let base = || world.request("alice", "planner", None);
    let cases = [
        (
            "rights",
            DelegationRequest {
                rights: Vec::new(),
                ..base()
            },
        ),
        (
            "rights",
            DelegationRequest {
                rights: rights(&[("a", "b"); 65]),
                ..base()
            },
        ),
        (
            "expires_at",
            DelegationRequest {
                expires_at: world.now(),
                ..base()
            },
        ),
        (
            "expires_at",
            DelegationRequest {
                not_before: Some(world.after(10)),
                expires_at: world.after(10),
                ..base()
            },
        ),
        (
            "budget",
            DelegationRequest {
                budget: budget("-1 USD", BudgetPeriod::Total),
                ..base()
            },
        ),
        (
            "budget",
            DelegationRequest {
                budget: Some(Budget {
                    limit: Quantity::Units(Quantity::MAX_UNITS + 1),
                    period: BudgetPeriod::Total,
                }),
                ..base()
            },
        ),
    ];
    for (field, request) in cases {
        let error = world.nhi.draft_delegation(org, request).unwrap_err();
        assert_eq!(error.code(), "invalid_identity_request");
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[tokio::test]
async fn organizations_do_not_see_each_other() {
    let (world, acme, [root, ..]) = chained().await;
    let other = world.organization("mallory").await;
    world
        .principal(other, "planner", PrincipalType::Agent)
        .await;
    world.principal(other, "worker", PrincipalType::Agent).await;
    assert!(world.nhi.link(other, root).is_none());
    assert!(world.nhi.links(other, None, 10).is_empty());
    assert!(world.nhi.principal(other, &name("alice")).is_none());
    assert_eq!(
        code(world.nhi.identity_for_link(other, root)),
        "unknown_delegation"
    );
    assert_eq!(code(world.nhi.chain(other, root)), "unknown_delegation");
    assert_eq!(
        code(
            world
                .nhi
                .draft_delegation(other, world.request("planner", "worker", Some(root)))
        ),
        "unknown_delegation"
    );
    assert_eq!(
        code(
            world
                .nhi
                .revoke(other, root, world.now(), Default::default())
                .await
        ),
        "unknown_delegation"
    );
    assert!(!world.nhi.link(acme, root).unwrap().status.is_revoked());
}
