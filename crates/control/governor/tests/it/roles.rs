//! What people may ask for, by their roles.

use std::num::NonZeroU32;

use creto_errors::Classify as _;
use creto_governor::{
    Call, Caller, CredentialRequest, GovernError, HandOverRequest, HumanRequest, IdempotencyKey,
    InvoiceRequest, PolicyFiles, PrincipalRequest, RateRequest, RateSubject, RoleRequest,
    SuspensionRequest, TokenRequest,
};
use creto_nhi::Role;
use creto_types::PrincipalName;

use crate::policies::publish;
use crate::world::{World, action, delegate};

fn name(text: &str) -> PrincipalName {
    text.parse().expect("a name")
}

fn human(text: &str, role: &str) -> HumanRequest {
    HumanRequest {
        name: name(text),
        role: role.to_owned(),
        ttl_seconds: None,
        jkt: None,
    }
}

fn because() -> SuspensionRequest {
    SuspensionRequest {
        reason: "a reason".to_owned(),
    }
}

fn role(role: &str) -> RoleRequest {
    RoleRequest {
        role: role.to_owned(),
        reason: "a reason".to_owned(),
    }
}

/// An id of nothing.
fn unknown<T: creto_types::IdKind>() -> creto_types::Id<T> {
    let text = format!("{}_{:032x}", T::PREFIX, 0x7000_8000_0000_0000_0001_u128);
    text.parse().expect("an id")
}

fn rate() -> RateRequest {
    RateRequest {
        event: Some("changelog.draft".to_owned()),
        ..RateRequest::per_second(RateSubject::Organization, NonZeroU32::MIN, NonZeroU32::MIN)
    }
}

async fn join(world: &World, text: &str, role: &str) -> Caller {
    let added = world
        .governor
        .add_human(&world.owner, human(text, role), None)
        .await
        .expect("is added");
    let token = added.token.expect("shown once");
    world.governor.authenticate(&token).expect("a good token")
}

/// Whether a call was refused for the caller's role; whatever else came of it counts
/// as taken.
fn taken<T>(done: Result<T, GovernError>) -> bool {
    !matches!(done, Err(GovernError::Forbidden { message }) if message.contains("does not allow"))
}

/// Asks for what a row is about, with what cannot be done where that is possible. `None`
/// for the few that need more than a name; the routes of those are tried as well.
async fn ask(world: &World, caller: &Caller, call: Call) -> Option<bool> {
    let governor = &world.governor;
    let missing = "lnk_00000000000070008000000000000001";
    Some(match call {
        Call::Whoami => taken(governor.whoami(caller)),
        Call::IssueToken => taken(
            governor
                .issue_token(
                    caller,
                    TokenRequest {
                        delegation: None,
                        ttl_seconds: None,
                        instance: None,
                        jkt: None,
                    },
                    None,
                )
                .await,
        ),
        Call::IssueAgentToken => {
            let delegation = Some(world.bot_link.clone());
            let request = TokenRequest {
                delegation,
                ttl_seconds: None,
                instance: None,
                jkt: None,
            };
            taken(governor.issue_token(caller, request, None).await)
        }
        Call::GetCheckpoint => taken(governor.checkpoint(caller).await),
        Call::GetLogKeys => taken(governor.log_keys(caller)),
        Call::GetAlgorithms => taken(governor.algorithms(caller).await),
        Call::GetLeaf => taken(governor.leaf(caller, creto_types::LeafIndex(0)).await),
        Call::GetConsistency => taken(governor.log_consistency(caller, 0, None).await),
        Call::GetTile => taken(governor.log_resource(caller, "checkpoint").await),
        Call::ExportEvidence => taken(governor.export(caller, None).await),
        Call::ListOversightRequests => {
            taken(governor.oversight_requests(caller, None, None, 1).await)
        }
        Call::GetOversightRequest => {
            let id = unknown();
            taken(governor.oversight_request(caller, id, None).await)
        }
        Call::ApproveRequest => taken(governor.approve(caller, unknown(), None, None).await),
        Call::DenyRequest => taken(governor.deny_request(caller, unknown(), None, None).await),
        Call::AddHuman => taken(
            governor
                .add_human(caller, human("planner", "owner"), None)
                .await,
        ),
        Call::SetRole => {
            let nobody = name("nobody");
            let set = governor.set_role(caller, &nobody, role("owner"), None);
            taken(set.await)
        }
        Call::RenewHumanCredential => {
            let request = CredentialRequest::default();
            let nobody = name("nobody");
            let renewed = governor.renew_human_credential(caller, &nobody, request, None);
            taken(renewed.await)
        }
        Call::SuspendHuman => {
            let owner = world.owner.name();
            taken(
                governor
                    .suspend_principal(caller, owner, because(), None)
                    .await,
            )
        }
        Call::SuspendPrincipal => {
            let nobody = name("nobody");
            taken(
                governor
                    .suspend_principal(caller, &nobody, because(), None)
                    .await,
            )
        }
        Call::ResumePrincipal => {
            let nobody = name("nobody");
            taken(
                governor
                    .resume_principal(caller, &nobody, because(), None)
                    .await,
            )
        }
        Call::CreatePrincipal => {
            let kind = "agent".to_owned();
            let request = PrincipalRequest {
                name: name("planner"),
                kind,
            };
            taken(governor.create_principal(caller, request, None).await)
        }
        Call::ListPrincipals => taken(governor.principals(caller, None, 1)),
        Call::Delegate => {
            let request = delegate("nobody", "1.00", creto_types::Clock::now(&*world.clock));
            taken(governor.delegate(caller, request, None).await)
        }
        Call::ListDelegations => taken(governor.delegations(caller, None, 1)),
        Call::GetDelegation => taken(governor.delegation(caller, missing)),
        Call::RevokeDelegation => taken(governor.revoke(caller, missing, None).await),
        Call::ListSecrets => taken(governor.secrets(caller, None, 1).await),
        Call::ListLeases => taken(governor.leases(caller, None, 1).await),
        Call::HandOverSecret => {
            let request = HandOverRequest {
                to: "planner".to_owned(),
            };
            taken(
                governor
                    .hand_over_secret(caller, "none", request, None)
                    .await,
            )
        }
        Call::RevokeLease => taken(governor.revoke_lease(caller, "none", None).await),
        Call::SubmitAction => taken(governor.submit(caller, action("history.read"), None).await),
        Call::SettleAction => {
            let id = unknown();
            taken(governor.settle(caller, id, 1, None).await)
        }
        Call::ReleaseAction => taken(governor.release(caller, unknown(), None).await),
        Call::GetAction => taken(governor.action_records(caller, unknown()).await),
        Call::Ask => taken(governor.asking(caller).map(|_| ())),
        Call::ReserveTimestamps => taken(governor.reserve_timestamps(caller, 0).await),
        Call::OrderEvents => taken(governor.order_events(caller, Vec::new(), None).await),
        Call::IssueInvoice => {
            let at = creto_types::Clock::now(&*world.clock);
            let request = InvoiceRequest {
                customer: None,
                from: at,
                to: None,
            };
            taken(governor.issue_invoice(caller, request, None).await)
        }
        Call::ListInvoices => taken(governor.invoices(caller, None, 1).await),
        Call::SetRate => taken(governor.set_rate(caller, rate(), None).await),
        Call::ListRates => taken(governor.list_rates(caller, None, 1)),
        Call::ListSandboxes => taken(governor.sandboxes(caller, None, 1).await),
        Call::GetSandbox => taken(governor.sandbox(caller, "none", None).await),
        Call::KillSandbox => taken(governor.kill(caller, "none").await),
        Call::ListPolicyVersions => taken(governor.policy_versions(caller, None, 1).await),
        Call::GetPoliciesInForce => taken(governor.policies_in_force(caller)),
        Call::PublishPolicies => {
            let nothing = publish(std::collections::BTreeMap::new());
            taken(governor.publish_policies(caller, nothing, None).await)
        }
        _ => return None,
    })
}

#[tokio::test]
async fn every_call_asks_the_table() {
    let world = World::paced(10_000).await;
    let mut asked = 0;
    for role in Role::ALL {
        let caller = join(&world, &format!("the-{role}"), role.as_str()).await;
        assert_eq!(caller.role(), Some(role));
        for call in Call::ALL {
            if let Some(taken) = ask(&world, &caller, *call).await {
                assert_eq!(taken, call.allows(role), "{role} {call:?}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 4 * 40, "{asked}");
    // Agents have no role, and what they may do is as before.
    assert_eq!(world.planner.role(), None);
    for call in Call::ALL {
        world.planner.allowed(*call).expect("is not about agents");
    }
    world.check_records().await.expect("the log holds");
}

#[tokio::test]
async fn another_role_counts_from_the_next_call_on() {
    let world = World::new().await;
    let governor = &world.governor;
    let carol = join(&world, "carol", "operator").await;
    governor
        .set_rate(&carol, rate(), None)
        .await
        .expect("operators set rates");
    let files = PolicyFiles::starter().files().clone();
    governor
        .publish_policies(&carol, publish(files), None)
        .await
        .expect("operators publish policies");
    for next in ["auditor", "approver", "owner"] {
        let set = governor.set_role(&world.owner, carol.name(), role(next), None);
        assert_eq!(set.await.expect("is set").role, next);
        // By the very caller that was there before.
        let refused = governor.set_rate(&carol, rate(), None).await;
        assert_eq!(refused.is_ok(), next == "owner", "{next}");
    }
    // An owner may add people, and not unmake the founder.
    let added = governor.add_human(&carol, human("dave", "auditor"), None);
    added.await.expect("owners add people");
    let founder = world.owner.name();
    let refused = governor.set_role(&carol, founder, role("auditor"), None);
    let refused = refused.await.expect_err("the founder stays");
    assert_eq!(refused.code(), "owner_keeps_role");
    let refused = governor.suspend_principal(&carol, founder, because(), None);
    let refused = refused.await.expect_err("the founder stays");
    assert_eq!(refused.code(), "owner_not_suspended");
    let stolen =
        governor.renew_human_credential(&carol, founder, CredentialRequest::default(), None);
    assert_eq!(
        stolen.await.expect_err("the founder's own").code(),
        "forbidden"
    );

    // What is on record names who did it and why, and holds.
    let set: Vec<_> = world
        .commits
        .evidence(world.owner.org())
        .into_iter()
        .filter(|record| record.kind == "role.set")
        .map(|record| (record.actor.to_string(), record.body["role"].clone()))
        .collect();
    let expected = ["operator", "auditor", "approver", "owner"];
    assert_eq!(set.len(), expected.len() + 1);
    for ((actor, role), expected) in set.iter().zip(expected) {
        assert_eq!((actor.as_str(), role), (founder.as_str(), &expected.into()));
    }
    assert_eq!(set.last().map(|(actor, _)| actor.as_str()), Some("carol"));
    world.check_records().await.expect("the log holds");
}

#[tokio::test]
async fn a_person_is_stopped_and_gets_another_credential() {
    let world = World::new().await;
    let governor = &world.governor;
    let carol = join(&world, "carol", "approver").await;
    let operator = join(&world, "oscar", "operator").await;
    let who = name("carol");
    let refused = governor.suspend_principal(&operator, &who, because(), None);
    assert_eq!(refused.await.expect_err("owners only").code(), "forbidden");
    let suspended = governor.suspend_principal(&world.owner, &who, because(), None);
    suspended.await.expect("is suspended");
    let refused = governor.oversight_requests(&carol, None, None, 1).await;
    assert_eq!(
        refused.expect_err("is stopped").code(),
        "principal_suspended"
    );
    let renew =
        || governor.renew_human_credential(&world.owner, &who, CredentialRequest::default(), None);
    assert_eq!(
        renew().await.expect_err("is stopped").code(),
        "principal_suspended"
    );
    let refused = governor.resume_principal(&operator, &who, because(), None);
    assert_eq!(refused.await.expect_err("owners only").code(), "forbidden");
    let resumed = governor.resume_principal(&world.owner, &who, because(), None);
    resumed.await.expect("is resumed");
    governor
        .oversight_requests(&carol, None, None, 1)
        .await
        .expect("goes on");

    let old = renew()
        .await
        .expect("is renewed")
        .token
        .expect("shown once");
    governor.authenticate(&old).expect("is good");
    let new = renew()
        .await
        .expect("is renewed")
        .token
        .expect("shown once");
    let ended = governor.authenticate(&old).expect_err("is superseded");
    assert_eq!(ended.code(), "token_superseded");
    let carol = governor.authenticate(&new).expect("is good");
    assert_eq!(carol.role(), Some(Role::Approver));
    world.check_records().await.expect("the log holds");
}

#[tokio::test]
async fn a_repeated_addition_is_one_and_shows_no_credential() {
    let world = World::new().await;
    let governor = &world.governor;
    let key = || Some(IdempotencyKey::new("one").expect("a key"));
    let add = || governor.add_human(&world.owner, human("carol", "auditor"), key());
    let first = add().await.expect("is added");
    let again = add().await.expect("is the same call");
    assert!(first.token.is_some() && again.token.is_none());
    assert_eq!(
        (first.name, first.role, first.leaf),
        (again.name, again.role, again.leaf)
    );
    let text = format!("{:?}", add().await);
    assert!(!text.contains("token"), "{text}");
    for (request, field) in [
        (human("dave", "king"), "role"),
        (
            HumanRequest {
                ttl_seconds: Some(0),
                ..human("dave", "owner")
            },
            "ttl_seconds",
        ),
        (
            HumanRequest {
                ttl_seconds: Some(u64::MAX),
                ..human("dave", "owner")
            },
            "ttl_seconds",
        ),
    ] {
        let refused = governor.add_human(&world.owner, request, None).await;
        let refused = refused.expect_err("cannot be used");
        assert_eq!(refused.code(), "invalid_request");
        assert!(refused.to_string().contains(field), "{refused}");
    }
    let by_agent = governor.add_human(&world.planner, human("dave", "owner"), None);
    assert_eq!(by_agent.await.expect_err("an agent").code(), "forbidden");
    let who = name("carol");
    let by_agent = governor.set_role(&world.planner, &who, role("owner"), None);
    assert_eq!(by_agent.await.expect_err("an agent").code(), "forbidden");
    world.check_records().await.expect("the log holds");
}

/// What no server writes is found by whoever reads the log offline.
#[tokio::test]
async fn a_log_in_which_roles_come_from_nowhere_does_not_hold() {
    let world = World::new().await;
    join(&world, "carol", "auditor").await;
    let evidence = world.commits.evidence(world.owner.org());
    let set = evidence.iter().find(|record| record.kind == "role.set");
    let set = serde_json::to_value(set.expect("was set")).expect("JSON");
    let next = creto_types::LeafIndex(u64::try_from(evidence.len()).expect("few"));
    for (pointer, value, why) in [
        ("/actor", "carol", "only an owner may set roles"),
        ("/actor", "planner", "only an owner may set roles"),
        ("/body/principal", "planner", "no human"),
        ("/body/principal", "nobody", "no human"),
        (
            "/body/principal",
            world.owner.name().as_str(),
            "stays its owner",
        ),
        ("/body/role", "king", "king"),
    ] {
        let mut record = set.clone();
        *record.pointer_mut(pointer).expect("is there") = value.into();
        let refused = world.after_the_leaves().leaf(next, &record);
        let refused = refused.expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
}
