//! What `creto init` and `creto serve` refuse.

use crate::harness::{Site, creto, creto_with, said, set};

#[test]
fn a_second_init_changes_nothing() {
    let site = Site::new();
    let before = std::fs::read(site.credential()).unwrap();
    let config = std::fs::read(site.path().join("creto.toml")).unwrap();
    let again = creto(
        site.path(),
        &["init", "--org", "Other", "--owner", "mallory"],
    );
    assert_eq!(again.status.code(), Some(1));
    assert!(
        said(&again).contains("already_initialized"),
        "{}",
        said(&again)
    );
    assert_eq!(before, std::fs::read(site.credential()).unwrap());
    assert_eq!(
        config,
        std::fs::read(site.path().join("creto.toml")).unwrap()
    );
}

#[test]
fn an_address_beyond_the_loopback_is_refused() {
    let site = Site::new();
    for listen in ["0.0.0.0:7180", "192.0.2.1:7180", "[::]:7180"] {
        site.configure(|table| set(table, &["server", "listen"], listen));
        let refused = creto(site.path(), &["serve"]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(
            said(&refused).contains("listen_not_loopback"),
            "{}",
            said(&refused)
        );
    }
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let cases = [
        ("integrations.nhi.endpoint", "grpc://nhi.example.test:443"),
        (
            "integrations.authz.endpoint",
            "grpc://authz.example.test:443",
        ),
        (
            "integrations.audit.endpoint",
            "grpc://audit.example.test:443",
        ),
    ];
    for (key, value) in cases {
        let site = Site::new();
        let path: Vec<&str> = key.split('.').collect();
        site.configure(|table| set(table, &path, value));
        for command in [&["serve"][..], &["config", "check"]] {
            let refused = creto(site.path(), command);
            assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
            assert!(said(&refused).contains(key), "{}", said(&refused));
            assert!(
                said(&refused).contains("config_unserved"),
                "{}",
                said(&refused)
            );
        }
    }
}

/// The integrations as the design has them, word for word.
const DESIGN: &str = include_str!("../../../crates/foundation/config/tests/it/enablement.toml");

#[test]
fn the_design_s_file_is_valid_and_every_unserved_part_is_named() {
    let site = Site::new();
    std::fs::write(site.path().join("creto.toml"), DESIGN).unwrap();
    let lacking = creto(site.path(), &["config", "check"]);
    assert_eq!(lacking.status.code(), Some(1));
    assert!(said(&lacking).contains("SLACK_"), "{}", said(&lacking));

    let checked = creto_with(
        site.path(),
        &["config", "check"],
        &[("SLACK_SIGNING_SECRET", "s"), ("SLACK_BOT_TOKEN", "t")],
    );
    assert_eq!(checked.status.code(), Some(1));
    let text = said(&checked);
    for part in [
        "the file is valid",
        "integrations.nhi.endpoint",
        "integrations.authz.endpoint",
        "integrations.audit.endpoint",
        "integrations.slack.enabled",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("stripe"), "it is switched off: {text}");

    let served = DESIGN
        .replace("grpc://nhi.creto-platform.svc:50051", "embedded")
        .replace("grpc://authz.creto-security.svc:50051", "embedded")
        .replace("grpc://audit.creto-platform.svc:50051", "embedded")
        .replacen("enabled = true", "enabled = false", 1);
    std::fs::write(site.path().join("creto.toml"), served).unwrap();
    let accepted = creto(site.path(), &["config", "check"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", said(&accepted));
    assert!(
        said(&accepted).contains("cache_ttl_seconds"),
        "{}",
        said(&accepted)
    );
}

#[test]
fn a_price_is_text_and_never_a_float() {
    let site = Site::new();
    site.configure(|table| set(table, &["metering", "prices", "history.read"], 0.05));
    let refused = creto(site.path(), &["config", "check"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("metering.prices"),
        "{}",
        said(&refused)
    );
}

/// The next run finds what the first one found.
#[test]
fn an_init_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let own = policies.join("own.cedar");
    std::fs::write(&own, "permit (").unwrap();
    let init = || creto(dir.path(), &["init", "--org", "Test", "--owner", "owner"]);
    let failed = init();
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert!(
        said(&failed).contains("policy_schema_unfit"),
        "{}",
        said(&failed)
    );
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the policies alone: {left:?}");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "permit (");
    std::fs::remove_dir_all(&policies).unwrap();
    let made = init();
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
}

#[test]
fn all_of_an_organization_may_lie_in_one_new_directory() {
    let dir = tempfile::tempdir().unwrap();
    for (config, place) in [
        ("site/creto.toml", "site"),
        ("site/creto.toml", "site/data"),
        ("site/conf/creto.toml", "site"),
    ] {
        let words = ["--config", config, "init", "--org", "Test"];
        let made = creto(dir.path(), &[&words[..], &["--data-dir", place]].concat());
        assert_eq!(made.status.code(), Some(0), "{}", said(&made));
        std::fs::remove_dir_all(dir.path().join("site")).unwrap();
    }
}

/// A price that nothing would be charged by is a mistake.
#[test]
fn connections_have_a_price_where_they_count() {
    let site = Site::new();
    site.configure(|table| {
        set(table, &["metering", "prices", "network_egress"], "0.001");
        set(table, &["runtime", "enabled"], true);
    });
    let refused = creto(site.path(), &["config", "check"]);
    assert_eq!(refused.status.code(), Some(1));
    for part in ["metering.prices.network_egress", "runtime.egress.counted"] {
        assert!(said(&refused).contains(part), "{}", said(&refused));
    }
    site.configure(|table| set(table, &["runtime", "egress", "counted"], true));
    let accepted = creto(site.path(), &["config", "check"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", said(&accepted));
}

/// What shuts the command line itself out is said before it does.
#[test]
fn a_list_of_proofs_that_creto_cannot_make_is_noted() {
    let site = Site::new();
    site.configure(|table| set(table, &["crypto", "dpop", "accepted"], vec!["ES256"]));
    let checked = creto(site.path(), &["config", "check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    let text = said(&checked);
    assert!(
        text.contains("crypto.dpop.accepted: is without Ed25519"),
        "{text}"
    );
    site.configure(|table| {
        set(
            table,
            &["crypto", "dpop", "accepted"],
            vec!["ES256", "Ed25519"],
        )
    });
    let text = said(&creto(site.path(), &["config", "check"]));
    assert!(!text.contains("crypto.dpop"), "{text}");
}

#[test]
fn a_second_server_says_that_the_data_is_in_use() {
    let site = Site::new();
    let server = site.start();
    let second = creto(server.path(), &["serve"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("store_in_use"), "{}", said(&second));
}

#[test]
fn a_doubtful_policy_is_pointed_out() {
    let site = Site::new();
    let doubtful = "@id(\"always-held\") @oversight(\"x\") forbid (principal, \
                    action == Creto::Action::\"changelog.draft\", resource);";
    std::fs::write(site.path().join("policies/doubtful.cedar"), doubtful).unwrap();
    let checked = creto(site.path(), &["config", "check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    assert!(said(&checked).contains("always-held"), "{}", said(&checked));
}

#[test]
fn policies_that_never_held_are_no_start() {
    let site = Site::new();
    std::fs::write(site.path().join("policies/broken.cedar"), "permit (").unwrap();
    let refused = creto(site.path(), &["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    assert!(said.contains("policy_syntax"), "{said}");
    assert!(said.contains("broken.cedar"), "{said}");
}

#[test]
fn an_unknown_key_is_an_error() {
    let site = Site::new();
    site.configure(|table| set(table, &["server", "lisen"], "127.0.0.1:1"));
    let refused = creto(site.path(), &["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("lisen"), "{}", said(&refused));
}

#[test]
fn a_good_configuration_passes_its_check() {
    let site = Site::new();
    let checked = creto(site.path(), &["config", "check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
}

#[test]
fn the_memory_of_decisions_is_configured_and_shown() {
    let site = Site::new();
    for refused in [0, 1_023, 16_777_217] {
        site.configure(|table| set(table, &["authz", "remembered_verdicts"], refused));
        let checked = creto(site.path(), &["config", "check"]);
        assert_eq!(checked.status.code(), Some(1), "{refused}");
        assert!(said(&checked).contains("16777216"), "{}", said(&checked));
    }
    // Rounded up to a power of two; 96 bytes each.
    site.configure(|table| set(table, &["authz", "remembered_verdicts"], 1_500));
    let shown = "2048 decisions in 192 KiB";
    let checked = creto(site.path(), &["config", "check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    assert!(said(&checked).contains(shown), "{}", said(&checked));
    let doctor = creto(site.path(), &["doctor"]);
    assert!(said(&doctor).contains(shown), "{}", said(&doctor));
    let server = site.start();
    let metrics = server.owner().get_bytes("/metrics").unwrap();
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains("creto_decision_cache_bytes 196608\n"),
        "{metrics}"
    );
}

#[test]
fn without_a_configuration_the_error_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let lost = creto(dir.path(), &["self"]);
    assert_eq!(lost.status.code(), Some(1));
    assert!(said(&lost).contains("creto.toml"), "{}", said(&lost));
    assert!(said(&lost).contains("config_missing"), "{}", said(&lost));
}

#[test]
fn a_renewed_credential_works_and_is_the_only_file() {
    let site = Site::new();
    let before = std::fs::read(site.credential()).unwrap();
    let renewed = creto(site.path(), &["init", "--renew-credential"]);
    assert_eq!(renewed.status.code(), Some(0), "{}", said(&renewed));
    assert_ne!(before, std::fs::read(site.credential()).unwrap());
    let server = site.start();
    assert_eq!(server.owner().get("/v1/self").unwrap()["kind"], "human");
}
