//! The slices answer what Cedar's own authorizer answers: generated policies,
//! templates with links, entities and requests, with a schema and without.

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, Policy, PolicyId, PolicySet, Request,
    Schema, SlotId, Template,
};
use creto_authz::eval::{EvalDecision, EvalInput, evaluate};
use proptest::prelude::*;
use proptest::sample::select;

const PRINCIPALS: [&str; 5] = [
    r#"User::"ann""#,
    r#"User::"bob""#,
    r#"N::Bot::"one""#,
    r#"Team::"core""#,
    r#"User::"not there""#,
];
const ACTIONS: [&str; 4] = [
    r#"Action::"read""#,
    r#"Action::"write""#,
    r#"Action::"edits""#,
    r#"N::Action::"read""#,
];
const RESOURCES: [&str; 4] = [
    r#"Doc::"a""#,
    r#"Doc::"b""#,
    r#"Folder::"top""#,
    r#"Doc::"not there""#,
];
const KINDS: [&str; 5] = ["User", "N::Bot", "Team", "Doc", "Folder"];

/// ann is in core, core in all; write and edits are in each other's group; a lies
/// in inner, inner in top.
const ENTITIES: &str = r#"[
  {"uid": {"type": "User", "id": "ann"},
   "attrs": {"age": 30, "boss": {"__entity": {"type": "User", "id": "bob"}}},
   "parents": [{"type": "Team", "id": "core"}]},
  {"uid": {"type": "User", "id": "bob"}, "attrs": {"age": 9223372036854775807}, "parents": []},
  {"uid": {"type": "N::Bot", "id": "one"}, "attrs": {},
   "parents": [{"type": "Team", "id": "core"}]},
  {"uid": {"type": "Team", "id": "core"}, "attrs": {}, "parents": [{"type": "Team", "id": "all"}]},
  {"uid": {"type": "Team", "id": "all"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Action", "id": "write"}, "attrs": {},
   "parents": [{"type": "Action", "id": "edits"}]},
  {"uid": {"type": "Doc", "id": "a"}, "attrs": {"public": true},
   "parents": [{"type": "Folder", "id": "inner"}], "tags": {"k": "v"}},
  {"uid": {"type": "Doc", "id": "b"}, "attrs": {"public": false, "owner": "ann"}, "parents": []},
  {"uid": {"type": "Folder", "id": "inner"}, "attrs": {},
   "parents": [{"type": "Folder", "id": "top"}]},
  {"uid": {"type": "Folder", "id": "top"}, "attrs": {}, "parents": []}
]"#;

/// What the entities fit, and every generated request that is not about the action of
/// N: in a schema none of a namespace may have the name of one outside.
const SCHEMA: &str = r#"
  type Asked = { n?: Long, m?: { k: String } };
  entity Team in [Team];
  entity User in [Team] = { age: Long, boss?: User };
  entity Folder in [Folder];
  entity Doc in [Folder] = { public: Bool, owner?: String } tags String;
  action edits, read appliesTo {
    principal: [User, N::Bot, Team], resource: [Doc, Folder], context: Asked,
  };
  action write in [edits] appliesTo {
    principal: [User, N::Bot, Team], resource: [Doc, Folder], context: Asked,
  };
  namespace N { entity Bot in [Team]; }
"#;

const CONDITIONS: [&str; 18] = [
    "",
    "",
    "when { true }",
    "unless { true }",
    "when { context.n > 2 }",
    "when { context.n + 9223372036854775807 > 0 }",
    "when { context has n && context.n == 1 }",
    "when { context has m.k }",
    "when { context.m.k == \"x\" }",
    "when { context == {n: 1} }",
    "when { principal.age < 40 }",
    "when { principal has boss && principal.boss.age > 3 }",
    "when { principal.age + 1 > 0 } unless { resource.public }",
    r#"when { principal in Team::"all" }"#,
    r#"when { resource in [Folder::"top", Doc::"b"] }"#,
    r#"when { action in Action::"edits" }"#,
    r#"when { resource.hasTag("k") && resource.getTag("k") == "v" }"#,
    "when { context }",
];

fn side(variable: &'static str, names: &'static [&'static str]) -> BoxedStrategy<String> {
    prop_oneof![
        3 => Just(variable.to_owned()),
        3 => select(names).prop_map(move |uid| format!("{variable} == {uid}")),
        3 => select(names).prop_map(move |uid| format!("{variable} in {uid}")),
        1 => Just(format!(r#"{variable} in Team::"all""#)),
        1 => Just(format!(r#"{variable} in Folder::"inner""#)),
        2 => select(&KINDS[..]).prop_map(move |kind| format!("{variable} is {kind}")),
        2 => (select(&KINDS[..]), select(names))
            .prop_map(move |(kind, uid)| format!("{variable} is {kind} in {uid}")),
    ]
    .boxed()
}

fn slotted(variable: &'static str) -> BoxedStrategy<String> {
    prop_oneof![
        Just(format!("{variable} == ?{variable}")),
        Just(format!("{variable} in ?{variable}")),
        select(&KINDS[..]).prop_map(move |kind| format!("{variable} is {kind} in ?{variable}")),
    ]
    .boxed()
}

fn action() -> BoxedStrategy<String> {
    prop_oneof![
        2 => Just("action".to_owned()),
        3 => select(&ACTIONS[..]).prop_map(|uid| format!("action == {uid}")),
        1 => select(&ACTIONS[..]).prop_map(|uid| format!("action in {uid}")),
        2 => proptest::collection::vec(select(&ACTIONS[..]), 0..4)
            .prop_map(|uids| format!("action in [{}]", uids.join(", "))),
    ]
    .boxed()
}

fn policy(slots: bool) -> BoxedStrategy<String> {
    let (principal, resource) = if slots {
        (slotted("principal"), slotted("resource"))
    } else {
        (side("principal", &PRINCIPALS), side("resource", &RESOURCES))
    };
    (
        prop::bool::weighted(0.7),
        principal,
        action(),
        resource,
        select(&CONDITIONS[..]),
    )
        .prop_map(|(permit, principal, action, resource, condition)| {
            let effect = if permit { "permit" } else { "forbid" };
            format!("{effect} ({principal}, {action}, {resource}) {condition};")
        })
        .boxed()
}

/// Policies, templates and which entities each template is linked with.
type Case = (Vec<(bool, String)>, Vec<(String, usize, usize)>);

fn case() -> impl Strategy<Value = Case> {
    (
        proptest::collection::vec((any::<bool>(), policy(false)), 0..14),
        proptest::collection::vec(
            (policy(true), 0..PRINCIPALS.len(), 0..RESOURCES.len()),
            0..4,
        ),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn slices_answer_what_cedar_answers(
        (policies, templates) in case(),
        principal in select(&PRINCIPALS[..]),
        action in select(&ACTIONS[..]),
        resource in select(&RESOURCES[..]),
        context in select(&[r#"{}"#, r#"{"n": 1}"#, r#"{"n": 5, "m": {"k": "x"}}"#][..]),
        fits in any::<bool>(),
    ) {
        let mut text = String::new();
        for (position, (named, policy)) in policies.iter().enumerate() {
            if *named {
                // Its id has a character that Cedar does not print as it is.
                text.push_str(&format!("@id(\"named\\t{position}\") "));
            }
            text.push_str(policy);
            text.push('\n');
        }
        for (position, (template, _, _)) in templates.iter().enumerate() {
            text.push_str(&format!("@id(\"t{position}\") {template}\n"));
        }
        let mut set = PolicySet::new();
        let parsed: PolicySet = text.parse().unwrap();
        for template in parsed.templates() {
            set.add_template(template.new_id(PolicyId::new(template.annotation("id").unwrap())))
                .unwrap();
        }
        for policy in parsed.policies() {
            let id = policy.annotation("id").map(PolicyId::new);
            set.add(id.map_or_else(|| policy.clone(), |id| policy.new_id(id))).unwrap();
        }
        let mut links = Vec::new();
        for (position, (_, principal, resource)) in templates.iter().enumerate() {
            let (principal, resource) = (PRINCIPALS[*principal], RESOURCES[*resource]);
            set.link(
                PolicyId::new(format!("t{position}")),
                PolicyId::new(format!("link {position}")),
                [
                    (SlotId::principal(), principal.parse().unwrap()),
                    (SlotId::resource(), resource.parse().unwrap()),
                ]
                .into(),
            )
            .unwrap();
            links.push(serde_json::json!({
                "template_id": format!("t{position}"),
                "link_id": format!("link {position}"),
                "args": {"?principal": principal, "?resource": resource},
            }));
        }
        let fits = fits && !action.starts_with("N::");
        let schema = fits.then(|| Schema::from_cedarschema_str(SCHEMA).unwrap().0);
        let entities = Entities::from_json_str(ENTITIES, schema.as_ref()).unwrap();
        let uid = |text: &str| -> EntityUid { text.parse().unwrap() };
        let action_uid = uid(action);
        let described = schema.as_ref().map(|schema| (schema, &action_uid));
        let request = Request::new(
            uid(principal),
            action_uid.clone(),
            uid(resource),
            Context::from_json_str(context, described).unwrap(),
            schema.as_ref(),
        )
        .unwrap();
        let expected = Authorizer::new().is_authorized(&request, &set, &entities);

        let asked = serde_json::json!({
            "principal": principal,
            "action": action,
            "resource": resource,
            "context": serde_json::from_str::<serde_json::Value>(context).unwrap(),
        });
        let answer = evaluate(&EvalInput {
            policies: &text,
            schema: fits.then_some(SCHEMA),
            entities: ENTITIES,
            request: &asked.to_string(),
            links: Some(&serde_json::Value::from(links).to_string()),
        })
        .unwrap();

        let allowed = answer.decision == EvalDecision::Allow;
        prop_assert_eq!(allowed, expected.decision() == Decision::Allow, "{}", text);
        let mut reason: Vec<String> = expected
            .diagnostics()
            .reason()
            .map(|id| AsRef::<str>::as_ref(id).to_owned())
            .collect();
        reason.sort();
        let mut found = answer.reason;
        found.sort();
        prop_assert_eq!(found, reason, "{}", text);
        let errors: Vec<String> = expected
            .diagnostics()
            .errors()
            .map(ToString::to_string)
            .collect();
        prop_assert_eq!(answer.errors, errors, "{}", text);
    }
}

/// One policy or template in Cedar's JSON, as `Policy::to_json` writes it.
#[test]
fn a_single_policy_in_json_is_taken() {
    let request = r#"{"principal": "User::\"ann\"", "action": "Action::\"read\"",
                      "resource": "Doc::\"a\"", "context": {}}"#;
    let asked = Request::new(
        r#"User::"ann""#.parse().unwrap(),
        r#"Action::"read""#.parse().unwrap(),
        r#"Doc::"a""#.parse().unwrap(),
        Context::empty(),
        None,
    )
    .unwrap();
    let entities = Entities::from_json_str(ENTITIES, None).unwrap();
    let same = |json: &serde_json::Value, set: &PolicySet, links: Option<&str>| {
        let expected = Authorizer::new().is_authorized(&asked, set, &entities);
        let answer = evaluate(&EvalInput {
            policies: &json.to_string(),
            schema: None,
            entities: ENTITIES,
            request,
            links,
        })
        .unwrap();
        let allowed = answer.decision == EvalDecision::Allow;
        assert_eq!(allowed, expected.decision() == Decision::Allow, "{json}");
        let (reason, errors) = (
            expected.diagnostics().reason(),
            expected.diagnostics().errors(),
        );
        let reason: Vec<String> = reason.map(ToString::to_string).collect();
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        assert_eq!((answer.reason, answer.errors), (reason, errors), "{json}");
    };
    for text in [
        "permit (principal, action, resource) when { principal.age < 40 };",
        "@id(\"named\") forbid (principal, action, resource) unless { resource.public };",
        "@id(\"fails\") permit (principal, action, resource) when { context.n > 1 };",
    ] {
        let json = Policy::parse(None, text).unwrap().to_json().unwrap();
        let policy = Policy::from_json(None, json.clone()).unwrap();
        same(&json, &PolicySet::from_policies([policy]).unwrap(), None);
    }
    let text = "permit (principal in ?principal, action, resource);";
    let json = Template::parse(None, text).unwrap().to_json().unwrap();
    let template = Template::from_json(None, json.clone()).unwrap();
    let id = template.id().clone();
    let mut set = PolicySet::new();
    set.add_template(template).unwrap();
    same(&json, &set, None);
    let team: EntityUid = r#"Team::"all""#.parse().unwrap();
    let links = serde_json::json!([{
        "template_id": id.to_string(),
        "link_id": "core",
        "args": {"?principal": team.to_string()},
    }]);
    let values = [(SlotId::principal(), team)].into();
    set.link(id, PolicyId::new("core"), values).unwrap();
    same(&json, &set, Some(&links.to_string()));
}

fn error(input: &EvalInput<'_>) -> &'static str {
    use creto_errors::Classify as _;
    evaluate(input).unwrap_err().code()
}

#[test]
fn what_cannot_be_evaluated_is_named() {
    let good = EvalInput {
        policies: "permit (principal, action, resource);",
        entities: "[]",
        request: r#"{"principal": "U::\"a\"", "action": "Action::\"b\"", "resource": "R::\"c\"",
                     "context": {}}"#,
        ..EvalInput::default()
    };
    let answer = evaluate(&good).unwrap();
    assert_eq!(
        serde_json::to_value(&answer).unwrap(),
        serde_json::json!({"decision": "allow", "reason": ["policy0"], "errors": []})
    );
    let policies = EvalInput {
        policies: "permit",
        ..good
    };
    assert_eq!(error(&policies), "policy_syntax");
    for json in ["{", "{}", r#"{"effect": "permit"}"#, r#"{"templates": {}}"#] {
        let policies = EvalInput {
            policies: json,
            ..good
        };
        assert_eq!(error(&policies), "policy_syntax", "{json}");
    }
    let twice = r#"@id("a") permit (principal, action, resource);
                   @id("a") permit (principal, action, resource);"#;
    assert_eq!(
        error(&EvalInput {
            policies: twice,
            ..good
        }),
        "policy_syntax"
    );
    let schema = EvalInput {
        schema: Some("entity"),
        ..good
    };
    assert_eq!(error(&schema), "policy_schema_invalid");
    let entities = EvalInput {
        entities: "{}",
        ..good
    };
    assert_eq!(error(&entities), "policy_entities_invalid");
    let request = EvalInput {
        request: "{}",
        ..good
    };
    assert_eq!(error(&request), "policy_request_invalid");
    let unfit = EvalInput {
        schema: Some("entity U;"),
        ..good
    };
    assert_eq!(error(&unfit), "policy_request_invalid");
    let json = EvalInput {
        schema: Some(
            r#"{"": {"entityTypes": {"U": {}, "R": {}}, "actions": {"b": {
            "appliesTo": {"principalTypes": ["U"], "resourceTypes": ["R"]}}}}}"#,
        ),
        ..good
    };
    assert_eq!(evaluate(&json).unwrap(), answer);
    for links in [
        "{",
        r#"[{"template_id": "t", "link_id": "l", "args": {}}]"#,
        r#"[{"template_id": "policy0", "link_id": "l", "args": {}}]"#,
    ] {
        assert_eq!(
            error(&EvalInput {
                links: Some(links),
                ..good
            }),
            "policy_link_invalid"
        );
    }
}
