//! The crate from outside: what shrinks, what is refused, what survives.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod algorithms;
mod chains;
mod credentials;
mod delegations;
mod dpop;
mod expulsion;
mod instances;
mod lifecycle;
mod log_keys;
mod prekeys;
mod principal_keys;
mod properties;
mod roles;
mod rotation;
mod signing;
mod stores;
mod suspension;
mod tokens;

use creto_crypto::{Algorithm as _, AllowedAlgorithms, HashAlgorithm, SignatureAlgorithm};
use creto_errors::Classify;
use creto_nhi::test_util::World;
use creto_nhi::{LinkId, PrincipalType};
use creto_types::OrgId;

/// Lists that read everything there is.
fn lists() -> AllowedAlgorithms {
    let signatures = SignatureAlgorithm::ALL.iter().map(|one| one.name());
    let functions = HashAlgorithm::ALL.iter().map(|one| one.name());
    let all = signatures.chain(functions);
    all.fold(AllowedAlgorithms::default(), |lists, name| {
        lists.reading_also(name).unwrap()
    })
}

/// The code of an error.
fn code<T: std::fmt::Debug, E: Classify>(result: Result<T, E>) -> &'static str {
    result.unwrap_err().code()
}

/// An organization of `alice` with the agents `planner`, `worker` and `helper`.
async fn crew() -> (World, OrgId) {
    let world = World::new().await;
    let org = world.organization("alice").await;
    for agent in ["planner", "worker", "helper"] {
        world.principal(org, agent, PrincipalType::Agent).await;
    }
    (world, org)
}

/// The same with the chain alice -> planner -> worker -> helper.
async fn chained() -> (World, OrgId, [LinkId; 3]) {
    let (world, org) = crew().await;
    let mut parent = None;
    let mut ids = Vec::new();
    for (from, to) in [
        ("alice", "planner"),
        ("planner", "worker"),
        ("worker", "helper"),
    ] {
        let id = world
            .delegate(org, world.request(from, to, parent))
            .await
            .unwrap();
        ids.push(id);
        parent = Some(id);
    }
    (world, org, ids.try_into().unwrap())
}
