//! What `creto doctor` says here.

use creto_runtime_gvisor::GvisorConfig;
use creto_runtime_gvisor::doctor::doctor;

use crate::world::skipped;

#[test]
fn everything_is_there_or_has_a_remedy() {
    let checks = doctor(&GvisorConfig::new("/nonexistent/state"));
    assert!(checks.iter().any(|check| check.name.contains("TPROXY")));
    for check in &checks {
        assert_eq!(check.ok, check.remedy.is_none(), "{check:?}");
        assert!(check.ok || skipped(), "{check:?}");
    }
}

#[test]
fn a_missing_runsc_is_named() {
    let config = GvisorConfig {
        runsc: Some("/nonexistent/runsc".into()),
        ..GvisorConfig::new("/nonexistent/state")
    };
    let checks = doctor(&config);
    let check = checks
        .iter()
        .find(|check| check.name.starts_with("runsc"))
        .expect("a check of runsc");
    assert!(!check.ok);
    assert!(check.detail.contains("/nonexistent/runsc"), "{check:?}");
    assert!(check.remedy.is_some());
}
