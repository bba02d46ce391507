use std::collections::BTreeMap;

use creto_config::{Endpoint, Integrations, UnservedKind};
use creto_errors::Classify;
use proptest::prelude::*;

use crate::environment;

/// Section 7.1 of the integration design, as it stands.
const ENABLEMENT: &str = include_str!("enablement.toml");

fn secrets() -> BTreeMap<String, String> {
    environment(&[
        ("SLACK_SIGNING_SECRET", "slack-signing"),
        ("SLACK_BOT_TOKEN", "slack-token"),
        ("STRIPE_API_KEY", "stripe-key"),
        ("STRIPE_WEBHOOK_SECRET", "stripe-webhook"),
    ])
}

#[test]
fn the_design_s_file_parses_and_validates() {
    let integrations = Integrations::from_toml(ENABLEMENT, &secrets()).unwrap();
    assert_eq!(
        integrations.nhi.endpoint,
        Endpoint::Grpc {
            host: "nhi.creto-platform.svc".to_owned(),
            port: 50051
        }
    );
    assert_eq!(integrations.nhi.timeout_ms.get(), 100);
    assert_eq!(integrations.nhi.retry_max_attempts.get(), 3);
    assert_eq!(integrations.authz.timeout_ms.get(), 10);
    assert!(integrations.audit.async_writes);
    assert_eq!(integrations.audit.batch_size.get(), 100);
    assert_eq!(integrations.audit.flush_interval_ms.get(), 1000);
    let slack = integrations.slack.as_ref().unwrap();
    assert_eq!(slack.signing_secret.expose(), "slack-signing");
    assert_eq!(slack.bot_token.expose(), "slack-token");
    assert!(integrations.stripe.is_none());

    let shown = format!(
        "{integrations:?} {}",
        toml::to_string(&integrations).unwrap()
    );
    assert!(!shown.contains("slack-"), "{shown}");
}

#[test]
fn what_this_build_cannot_serve_is_named() {
    let integrations = Integrations::from_toml(ENABLEMENT, &secrets()).unwrap();
    let keys = |kind| {
        integrations
            .unserved()
            .iter()
            .filter(|unserved| unserved.kind == kind)
            .map(|unserved| unserved.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(UnservedKind::Refused),
        [
            "integrations.nhi.endpoint",
            "integrations.authz.endpoint",
            "integrations.audit.endpoint",
            "integrations.slack.enabled",
        ]
    );
    assert_eq!(
        keys(UnservedKind::Note),
        [
            "integrations.authz.cache_ttl_seconds",
            "integrations.audit.async_writes",
        ]
    );
    assert_eq!(
        integrations.unserved()[1].value,
        "grpc://authz.creto-security.svc:50051"
    );
}

#[test]
fn a_disabled_section_needs_no_variables_and_an_enabled_one_does() {
    let mut variables = secrets();
    variables.remove("STRIPE_API_KEY");
    variables.remove("STRIPE_WEBHOOK_SECRET");
    Integrations::from_toml(ENABLEMENT, &variables).unwrap();

    variables.remove("SLACK_BOT_TOKEN");
    let error = Integrations::from_toml(ENABLEMENT, &variables).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 22, column 13: `integrations.slack.bot_token` needs the environment variable \
         SLACK_BOT_TOKEN, which is not set"
    );

    variables.insert("SLACK_BOT_TOKEN".to_owned(), String::new());
    let error = Integrations::from_toml(ENABLEMENT, &variables).unwrap_err();
    assert_eq!(error.code(), "secret_empty");
}

#[test]
fn an_enabled_section_without_its_secret_is_refused() {
    let text = "[integrations.stripe]\nenabled = true\napi_key = \"k\"\n";
    let error = Integrations::from_toml(text, &secrets()).unwrap_err();
    assert_eq!(error.code(), "config_invalid");
    assert!(
        error
            .to_string()
            .contains("integrations.stripe.webhook_secret")
    );
}

#[test]
fn an_empty_file_is_all_embedded_and_wholly_served() {
    let integrations = Integrations::from_toml("", &environment(&[])).unwrap();
    assert_eq!(integrations.nhi.endpoint, Endpoint::Embedded);
    assert!(integrations.unserved().is_empty());
}

#[test]
fn a_deadline_of_an_embedded_system_is_noted() {
    let text = "[integrations.nhi]\nendpoint = \"embedded\"\ntimeout_ms = 5\n";
    let integrations = Integrations::from_toml(text, &environment(&[])).unwrap();
    assert_eq!(integrations.unserved()[0].kind, UnservedKind::Note);
    assert_eq!(
        integrations.unserved()[0].key,
        "integrations.nhi.timeout_ms"
    );
}

#[test]
fn unknown_keys_and_values_out_of_bounds_are_errors() {
    for (line, key) in [
        ("[integrations.smtp]", "integrations.smtp"),
        (
            "[integrations.nhi]\ncache_ttl_seconds = 1",
            "integrations.nhi.cache_ttl_seconds",
        ),
        (
            "[integrations.nhi]\ntimeout_ms = 0",
            "integrations.nhi.timeout_ms",
        ),
        (
            "[integrations.nhi]\nretry_max_attempts = 11",
            "integrations.nhi.retry_max_attempts",
        ),
        (
            "[integrations.audit]\nbatch_size = -1",
            "integrations.audit.batch_size",
        ),
        (
            "[integrations.slack]\nenabled = \"yes\"",
            "integrations.slack.enabled",
        ),
        ("[server]", "server"),
    ] {
        let error = Integrations::from_toml(line, &environment(&[])).unwrap_err();
        assert_eq!(error.code(), "config_value", "{line}");
        assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
    }
}

proptest! {
    /// Mutations of a good file reach further than arbitrary text.
    #[test]
    fn a_damaged_file_never_panics(at in 0_usize..700, with in ".{0,3}", cut in 0_usize..6) {
        let mut text: Vec<char> = ENABLEMENT.chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, with.chars());
        let text: String = text.into_iter().collect();
        if let Err(error) = Integrations::from_toml(&text, &secrets()) {
            let shown = format!("{error:?}");
            prop_assert!(!shown.contains("slack-"), "{}", shown);
        }
    }
}

#[test]
fn evidence_cannot_be_asked_to_wait_or_trace_not_to() {
    let text = "[integrations.audit]\nasync_writes = false";
    let integrations = Integrations::from_toml(text, &BTreeMap::new()).expect("is valid");
    let refused = integrations.unserved();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].kind, UnservedKind::Refused);
    assert_eq!(refused[0].key, "integrations.audit.async_writes");
}
