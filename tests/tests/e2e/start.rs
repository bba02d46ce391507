//! What `creto init` and `creto serve` refuse.

use crate::harness::{Site, creto, said, set};

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
