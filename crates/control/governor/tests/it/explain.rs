//! Why-not answers: who lacks which permit, what forbids, and which link falls short.

use std::collections::BTreeMap;

use creto_errors::Classify as _;
use creto_governor::{
    ContextJson, ExplainAnswer, ExplainRequest, GovernError, OutcomeKind, PolicyFiles,
    PrincipalRequest, ResourceJson, TypedResource,
};

use crate::world::{World, action};

fn asks(action: &str, resource: &str) -> ExplainRequest {
    ExplainRequest {
        principal: None,
        delegation: None,
        action: action.to_owned(),
        resource: ResourceJson::Name(resource.to_owned()),
        units: 1,
        context: BTreeMap::new(),
        approval: None,
        files: None,
    }
}

fn of_bot(action: &str, resource: &str) -> ExplainRequest {
    ExplainRequest {
        principal: Some("release-bot".parse().expect("a name")),
        ..asks(action, resource)
    }
}

async fn why(world: &World, request: ExplainRequest) -> ExplainAnswer {
    let answer = world.governor.explain_policies(&world.owner, request).await;
    answer.expect("explains")
}

fn code<T: std::fmt::Debug>(result: Result<T, GovernError>) -> &'static str {
    result.expect_err("is refused").code()
}

/// The starter set with this text in place of `release.cedar`.
fn with_release(text: &str) -> BTreeMap<String, String> {
    let mut files = PolicyFiles::starter().files().clone();
    files.insert("release.cedar".to_owned(), text.to_owned());
    files.retain(|name, _| !name.ends_with(".test.json"));
    files
}

#[tokio::test]
async fn a_missing_permit_is_named_with_those_that_come_near() {
    let world = World::new().await;
    let records = world.kinds().len();
    let told = why(&world, of_bot("history.read", "repo:other")).await;
    assert_eq!(told.outcome, OutcomeKind::Deny);
    assert_eq!(told.reason.code, "no_policy_permits");
    assert_eq!(told.delegation, Some(world.bot_link.clone()));
    assert_eq!(told.rights, []);
    let missing = told.missing.expect("a permit is missing");
    assert_eq!(
        missing.principals,
        [
            r#"Creto::Human::"alice""#,
            r#"Creto::Agent::"planner""#,
            r#"Creto::Agent::"release-bot""#
        ]
    );
    let near = missing.nearest.first().expect("one comes near");
    assert_eq!(near.policy.id, "release-work");
    assert_eq!(near.policy.file, "release.cedar");
    assert_eq!(near.policy.line, Some(4));
    assert_eq!(near.unfit, ["resource"]);

    // What it proposes is what was missing.
    let mended = with_release(&missing.policy);
    let told = why(
        &world,
        ExplainRequest {
            files: Some(mended),
            ..of_bot("history.read", "repo:other")
        },
    )
    .await;
    assert_eq!((told.outcome, told.missing), (OutcomeKind::Allow, None));
    assert_eq!(world.kinds().len(), records, "nothing is recorded");
}

#[tokio::test]
async fn what_forbids_is_told_from_what_a_human_may_lift() {
    let world = World::new().await;
    let held = why(&world, of_bot("release.publish", "repo:creto")).await;
    assert_eq!(held.outcome, OutcomeKind::RequiresOversight);
    assert_eq!(held.oversight.as_deref(), Some("release"));
    assert_eq!(held.policy_ids, ["publish-needs-a-human"]);
    let [owner, planner, bot] = held.principals.as_slice() else {
        panic!("{held:?}");
    };
    assert!(owner.permitted && !planner.permitted && !bot.permitted);
    let forbid = bot.policies.iter().find(|policy| policy.effect == "forbid");
    let forbid = forbid.expect("the forbid is listed");
    assert_eq!(forbid.policy.id, "publish-needs-a-human");
    assert_eq!(forbid.outcome, "applies");
    assert_eq!(forbid.oversight.as_deref(), Some("release"));

    let approved = ExplainRequest {
        approval: Some("publish-needs-a-human".to_owned()),
        ..of_bot("release.publish", "repo:creto")
    };
    assert_eq!(why(&world, approved).await.outcome, OutcomeKind::Allow);

    let frozen = with_release(
        r#"@id("all") permit (principal is Creto::Human, action, resource);
           @id("freeze") @reason("frozen") forbid (principal, action, resource);"#,
    );
    let told = why(
        &world,
        ExplainRequest {
            files: Some(frozen),
            ..of_bot("history.read", "repo:creto")
        },
    )
    .await;
    assert_eq!(told.reason.code, "policy_forbids");
    assert_eq!(told.policy_ids, ["freeze"]);
    let missing = told
        .missing
        .expect("it would be missing without the freeze");
    assert_eq!(missing.principals.len(), 2, "the owner has one");
}

#[tokio::test]
async fn rights_that_fall_short_are_shown_beside_what_policies_say() {
    let world = World::new().await;
    let told = why(&world, of_bot("payroll.run", "repo:creto")).await;
    assert_eq!(told.reason.code, "right_not_delegated");
    assert_eq!(told.rights.len(), 2, "neither link has it");
    let link = &told.rights[0];
    assert_eq!(link.delegator.as_str(), "alice");
    assert_eq!(link.rights[0].unfit, ["action"]);
    let verdict = told.verdict.expect("policies are asked all the same");
    assert_eq!(verdict.code, "unknown_action");

    let host = ExplainRequest {
        resource: ResourceJson::Typed(TypedResource {
            kind: "Creto::Host".to_owned(),
            id: "evil.example.test".to_owned(),
        }),
        context: BTreeMap::from([
            ("port".to_owned(), ContextJson::Long(443)),
            ("protocol".to_owned(), ContextJson::Text("tls".to_owned())),
        ]),
        ..of_bot("network_egress", "")
    };
    let told = why(&world, host).await;
    assert_eq!(told.rights[0].rights[0].unfit, ["resource"]);
    assert_eq!(told.verdict.expect("asked").code, "no_policy_permits");
}

#[tokio::test]
async fn it_is_the_decision_of_the_action_itself() {
    let world = World::new().await;
    for (name, resource) in [
        ("history.read", "repo:creto"),
        ("history.read", "repo:other"),
        ("release.publish", "repo:creto"),
        ("payroll.run", "repo:creto"),
    ] {
        let told = why(&world, of_bot(name, resource)).await;
        let mut request = action(name);
        request.resource = resource.into();
        let decided = world.governor.submit(&world.bot, request, None).await;
        let decided = decided.expect("answers");
        assert_eq!(told.outcome, decided.outcome, "{name}");
        assert_eq!(told.reason.code, decided.reason.code, "{name}");
        assert_eq!(told.policy_ids, decided.policy_ids, "{name}");
    }
    let revoked = world
        .governor
        .revoke(&world.owner, &world.planner_link, None);
    revoked.await.expect("revokes");
    let told = why(&world, of_bot("history.read", "repo:creto")).await;
    assert_eq!(told.reason.code, "delegation_revoked");
    assert_eq!(
        told.verdict.expect("asked").outcome,
        OutcomeKind::Allow,
        "policies alone would let it through"
    );
}

#[tokio::test]
async fn whom_it_is_about_is_named_exactly_and_only_owners_ask() {
    let world = World::new().await;
    let governor = &world.governor;
    let by_agent = governor.explain_policies(&world.bot, asks("history.read", "repo:creto"));
    assert_eq!(code(by_agent.await), "forbidden");

    let told = why(&world, asks("history.read", "repo:creto")).await;
    assert_eq!((told.principal.as_str(), told.delegation), ("alice", None));

    let named = |name: &str, delegation: Option<&str>| ExplainRequest {
        principal: Some(name.parse().expect("a name")),
        delegation: delegation.map(str::to_owned),
        ..asks("history.read", "repo:creto")
    };
    let nobody = governor.explain_policies(&world.owner, named("nobody", None));
    assert_eq!(code(nobody.await), "not_found");
    let in_person = named("alice", Some(&world.bot_link));
    let in_person = governor.explain_policies(&world.owner, in_person);
    assert_eq!(code(in_person.await), "invalid_request");
    let anothers = named("planner", Some(&world.bot_link));
    let anothers = governor.explain_policies(&world.owner, anothers);
    assert_eq!(code(anothers.await), "not_found");
    let by_link = ExplainRequest {
        delegation: Some(world.bot_link.clone()),
        ..asks("history.read", "repo:creto")
    };
    assert_eq!(why(&world, by_link).await.principal.as_str(), "release-bot");

    let made = PrincipalRequest {
        name: "idle".parse().expect("a name"),
        ..serde_json::from_value(serde_json::json!({ "name": "idle" })).expect("a request")
    };
    let made = governor.create_principal(&world.owner, made, None).await;
    made.expect("is made");
    let told = why(&world, named("idle", None)).await;
    assert_eq!(told.reason.code, "no_delegation");
    assert_eq!((told.verdict, told.principals.len()), (None, 0));

    for broken in [
        asks("", "repo:creto"),
        asks("history.read", ""),
        ExplainRequest {
            units: 0,
            ..asks("history.read", "repo:creto")
        },
        ExplainRequest {
            context: BTreeMap::from([("oversight".to_owned(), ContextJson::Bool(true))]),
            ..asks("history.read", "repo:creto")
        },
    ] {
        let refused = governor.explain_policies(&world.owner, broken).await;
        assert_eq!(code(refused), "invalid_request");
    }
}

#[tokio::test]
async fn what_is_listed_is_bounded_and_what_applies_comes_first() {
    let world = World::new().await;
    let mut text = String::new();
    for n in 0..80 {
        text.push_str(&format!(
            "@id(\"p{n}\") permit (principal, action, resource) when {{ context.units > {} }};\n",
            100 - n
        ));
    }
    let request = ExplainRequest {
        units: 30,
        files: Some(with_release(&text)),
        ..asks("history.read", "repo:creto")
    };
    let told = why(&world, request).await;
    let [owner] = told.principals.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!((owner.policies.len(), owner.more), (50, 30));
    let applies = owner
        .policies
        .iter()
        .take_while(|policy| policy.outcome == "applies");
    assert_eq!(applies.count(), 9, "p71 to p79");
}
