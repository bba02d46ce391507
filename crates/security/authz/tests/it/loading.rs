//! What is accepted as policies, and what is said about the rest.

use creto_authz::{CompiledPolicies, PolicyEffect, PolicyError, PolicySources};
use creto_errors::Classify as _;

use crate::world::sources;

fn refused(sources: &PolicySources) -> PolicyError {
    CompiledPolicies::compile(sources).unwrap_err()
}

/// The code, and the place of the first finding.
fn finding(policies: &str) -> (&'static str, Option<usize>, String) {
    let error = refused(&sources(policies));
    let first = error.findings().first().unwrap().clone();
    assert_eq!(first.file, "test.cedar");
    assert!(!first.message.is_empty());
    (error.code(), first.line, error.to_string())
}

#[test]
fn the_starter_set_is_the_folder_that_ships() {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies");
    let starter = PolicySources::starter();
    assert_eq!(PolicySources::from_dir(&shipped).unwrap(), starter);
    let compiled = CompiledPolicies::compile(&starter).unwrap();
    let report = compiled.report();
    assert_eq!(report.warnings, []);
    assert_eq!(
        report.actions,
        [
            "changelog.draft",
            "history.read",
            "identity.sign",
            "network_egress",
            "prekey.publish",
            "prekey.take",
            "release.publish",
            "secret.lease",
            "secret.put",
            "secret.read"
        ]
    );
    assert_eq!(report.resources, ["Creto::Host", "Creto::Resource"]);
    let shown: Vec<_> = report
        .policies
        .iter()
        .map(|info| (info.id.as_str(), info.effect, info.oversight.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            ("egress-release-host", PolicyEffect::Permit, None),
            ("release-work", PolicyEffect::Permit, None),
            (
                "publish-needs-a-human",
                PolicyEffect::Forbid,
                Some("release")
            ),
        ]
    );
    assert_eq!(
        report.policies[2].reason.as_deref(),
        Some("publishing a release reaches people outside")
    );
    assert_eq!(report.policies[1].line, Some(4));
}

#[test]
fn unnamed_policies_are_numbered_over_all_files() {
    let mut set = sources("permit (principal, action, resource);");
    set.policies.push((
        "more.cedar".to_owned(),
        "@id(\"named\") permit (principal, action, resource);\n\
         forbid (principal, action, resource);"
            .to_owned(),
    ));
    let compiled = CompiledPolicies::compile(&set).unwrap();
    let shown: Vec<_> = compiled
        .report()
        .policies
        .iter()
        .map(|info| (info.id.as_str(), info.file.as_str(), info.line))
        .collect();
    assert_eq!(
        shown,
        [
            ("policy0", "test.cedar", Some(1)),
            ("named", "more.cedar", Some(1)),
            ("policy2", "more.cedar", Some(2)),
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let syntax = finding("permit (principal, action, resource);\npermit (principal;");
    assert_eq!((syntax.0, syntax.1), ("policy_syntax", Some(2)));

    for unfit in [
        r#"permit (principal, action == Creto::Action::"nope", resource);"#,
        r#"permit (principal, action, resource) when { principal.age > 3 };"#,
        r#"permit (principal, action, resource) when { context.units == "3" };"#,
        // Not every action has a port.
        r#"permit (principal, action, resource) when { context.port == 80 };"#,
        r#"permit (principal == Other::User::"x", action, resource);"#,
    ] {
        let (code, line, text) = finding(&format!("@id(\"mine\")\n{unfit}"));
        assert_eq!(code, "policy_invalid", "{unfit}");
        assert!(line.is_some(), "{unfit}");
        assert!(text.contains("(mine)"), "{text}");
    }
}

#[test]
fn annotations_are_checked() {
    let forbid = "forbid (principal, action, resource) unless { context.oversight.approved };";
    let permit = "permit (principal, action, resource);";
    let bad = [
        format!("@id(\"\") {permit}"),
        format!("@id(\"a b\") {permit}"),
        format!("@id(\"a+b\") {permit}"),
        format!("@id(\"{}\") {permit}", "x".repeat(129)),
        format!("@id(\"a\") {permit} @id(\"a\") {permit}"),
        format!("{permit} @id(\"policy0\") {permit}"),
        format!("@oversight(\"k\") {permit}"),
        format!("@requireApproval(\"k\") {permit}"),
        format!("@oversight {forbid}"),
        format!("@oversight(\" \") {forbid}"),
        format!("@oversight(\"k\") @requireApproval(\"k\") {forbid}"),
        format!("@reason(\"one line\\nand another\") {forbid}"),
        format!("@reason(\"one line\nand another\") {permit}"),
        format!("@reason(\"one line\\u{{2028}}and another\") {permit}"),
    ];
    for policies in bad {
        assert_eq!(finding(&policies).0, "policy_annotation", "{policies}");
    }
    let kept = format!(
        "@id(\"a.b/c:d-e_1\") @oversight(\"k\") @note(\"mine\") @reason(\"one\\tline\") {forbid}"
    );
    assert!(CompiledPolicies::compile(&sources(&kept)).is_ok());
}

#[test]
fn every_finding_is_reported_at_once() {
    let error = refused(&sources(
        "@oversight(\"k\") permit (principal, action, resource);\n\
         @oversight forbid (principal, action, resource);",
    ));
    assert_eq!(error.findings().len(), 2);
}

fn with_schema(schema: &str) -> PolicySources {
    PolicySources {
        schema: vec![("own.cedarschema".to_owned(), schema.to_owned())],
        ..PolicySources::default()
    }
}

const BASE: &str = r#"
    entity Organization;
    entity Human in [Organization] = { name: String };
    entity Agent in [Organization] = { name: String, owner: Human, depth: Long };
    entity Host;
    type Oversight = { approved: Bool };
"#;

fn namespaced(rest: &str) -> PolicySources {
    with_schema(&format!("namespace Creto {{ {BASE} {rest} }}"))
}

#[test]
fn a_schema_the_engine_can_fill_is_served() {
    let fits = namespaced(
        r#"entity Ticket in [Organization] = { id: String };
           entity Bare;
           action work;
           action "ticket.close" in [work] appliesTo {
               principal: [Human, Agent], resource: [Ticket, Bare, Host],
               context: { oversight: Oversight, units: Long, label?: String }
           };"#,
    );
    let compiled = CompiledPolicies::compile(&fits).unwrap();
    assert_eq!(compiled.report().actions, ["ticket.close"]);
    assert_eq!(
        compiled.report().resources,
        ["Creto::Bare", "Creto::Host", "Creto::Ticket"]
    );
}

#[test]
fn a_schema_the_engine_cannot_fill_is_refused() {
    let context = "context: { oversight: Oversight, units: Long }";
    let unfit = [
        // Not everyone in a chain can be asked.
        format!("action a appliesTo {{ principal: [Agent], resource: [Host], {context} }};"),
        // The engine's context values are missing or of another type.
        "action a appliesTo { principal: [Human, Agent], resource: [Host] };".to_owned(),
        "action a appliesTo { principal: [Human, Agent], resource: [Host], \
         context: { oversight: Oversight, units: String } };"
            .to_owned(),
        "action a appliesTo { principal: [Human, Agent], resource: [Host], \
         context: { oversight?: Oversight, units: Long } };"
            .to_owned(),
        // A resource with facts nobody gives.
        format!(
            "entity Odd = {{ color: String }}; \
             action a appliesTo {{ principal: [Human, Agent], resource: [Odd], {context} }};"
        ),
    ];
    for schema in unfit {
        let error = refused(&namespaced(&schema));
        assert_eq!(error.code(), "policy_schema_unfit", "{schema}");
    }
    let principals = with_schema(
        "namespace Creto { entity Organization; entity Human; entity Agent; entity Host; \
         action a appliesTo { principal: [Human, Agent], resource: [Host], \
         context: { oversight: { approved: Bool }, units: Long } }; }",
    );
    assert_eq!(refused(&principals).code(), "policy_schema_unfit");
    let elsewhere = with_schema(&format!(
        "namespace Creto {{ {BASE} }} namespace Other {{ \
         action a appliesTo {{ principal: [Creto::Human, Creto::Agent], resource: [Creto::Host], \
         context: {{ oversight: Creto::Oversight, units: Long }} }}; }}"
    ));
    assert_eq!(refused(&elsewhere).code(), "policy_schema_unfit");
    assert_eq!(
        refused(&with_schema("entity {")).code(),
        "policy_schema_invalid"
    );
    let dangling = namespaced("entity Lost in [Nowhere];");
    assert_eq!(refused(&dangling).code(), "policy_schema_invalid");
    let none = refused(&PolicySources::default());
    assert_eq!(none.code(), "policy_schema_unfit");
    assert!(none.to_string().contains("there is no schema"), "{none}");
}

/// A bare name in a request means the one of the namespace.
#[test]
fn a_resource_type_without_a_namespace_is_refused() {
    let ticket = "entity Ticket = { id: String };";
    let with = |kind: &str, file: String| {
        let mut sources = namespaced(&format!(
            "action \"ticket.close\" appliesTo {{ principal: [Human, Agent], \
             resource: [{kind}], context: {{ oversight: Oversight, units: Long }} }};"
        ));
        let file = ("ticket.cedarschema".to_owned(), file);
        sources.schema.push(file);
        sources
    };
    let error = refused(&with("Ticket", ticket.to_owned()));
    assert_eq!(error.code(), "policy_schema_unfit");
    let [finding] = error.findings() else {
        panic!("{error:?}");
    };
    assert!(finding.message.contains("`Ticket`"), "{finding:?}");
    assert!(finding.message.contains("namespace Creto"), "{finding:?}");
    // In a namespace, and be it another one, it can be named.
    for namespace in ["Creto", "Desk"] {
        let kind = format!("{namespace}::Ticket");
        let file = format!("namespace {namespace} {{ {ticket} }}");
        let compiled = CompiledPolicies::compile(&with(&kind, file)).unwrap();
        assert_eq!(compiled.report().resources, [kind]);
    }
}

#[test]
fn a_directory_is_read_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in PolicySources::starter().schema {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("b.cedar", "permit (principal, action, resource);");
    write("a.cedar", "forbid (principal, action, resource);");
    write("a.links.json", "[]");
    write("b.json", "not links");
    write("notes.txt", "not a policy");
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let set = PolicySources::from_dir(dir.path()).unwrap();
    let names: Vec<_> = set.policies.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.cedar", "b.cedar"]);
    assert_eq!(set.links, [("a.links.json".to_owned(), "[]".to_owned())]);
    assert!(CompiledPolicies::compile(&set).is_ok());
    let missing = PolicySources::from_dir(&dir.path().join("nowhere")).unwrap_err();
    assert_eq!(missing.code(), "policies_unreadable");
}

/// Every example of the manual is accepted, and gives no warning.
#[test]
fn the_manual_s_examples_load() {
    let manual = include_str!("../../../../../docs/policies.md");
    let mut set = sources("");
    let mut examples = 0;
    for block in manual.split("```cedar\n").skip(1) {
        let text = block.split("```").next().unwrap().to_owned();
        examples += 1;
        let name = format!("example{examples}");
        if text.starts_with("namespace") {
            set.schema.push((name, text));
        } else if !text.contains("publish-needs-a-human") {
            set.policies.push((name, text));
        }
    }
    assert_eq!(examples, 11);
    let compiled = CompiledPolicies::compile(&set).unwrap();
    assert_eq!(compiled.report().warnings, []);
    assert_eq!(compiled.report().policies.len(), 7);
    assert!(
        compiled
            .report()
            .actions
            .contains(&"ticket.close".to_owned())
    );
}
