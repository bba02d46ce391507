//! The offline verifier, and links altered on their way into force.

use std::collections::BTreeMap;
use std::sync::Arc;

use creto_crypto::{AwsLcProvider, CryptoProvider, LocalSigner, SignatureAlgorithm, Signer as _};
use creto_nhi::test_util::{World, name, rights};
use creto_nhi::{
    Budget, BudgetPeriod, ChainError, DELEGATION_CONTEXT, DelegationLink, KeyVersion, LinkId,
    SignedLink, verify_chain, verify_link,
};
use creto_types::{OrgId, PrincipalName, SeededRandom};
use uuid::Uuid;

use crate::{chained, code};

fn signed(world: &World, org: OrgId, ids: &[LinkId]) -> Vec<SignedLink> {
    ids.iter()
        .map(|id| world.nhi.link(org, *id).unwrap().signed.clone())
        .collect()
}

fn verify(world: &World, org: OrgId, links: &[SignedLink]) -> Result<(), ChainError> {
    verify_chain(links, &|name, _| {
        Some(world.nhi.principal(org, name)?.verifying_key.clone())
    })
}

#[tokio::test]
async fn a_stranger_verifies_a_chain_from_its_json() {
    let (world, org, ids) = chained().await;
    let text = serde_json::to_string(&signed(&world, org, &ids)).unwrap();
    let links: Vec<SignedLink> = serde_json::from_str(&text).unwrap();
    verify(&world, org, &links).unwrap();
    verify(&world, org, &links[..1]).unwrap();

    let principal = world.nhi.principal(org, &name("alice")).unwrap();
    let text = serde_json::to_string(principal.as_ref()).unwrap();
    let again: creto_nhi::Principal = serde_json::from_str(&text).unwrap();
    assert_eq!(&again, principal.as_ref());
    verify_link(&links[0], &again.verifying_key).unwrap();
}

#[tokio::test]
async fn a_chain_with_a_piece_missing_or_moved_is_refused() {
    let (world, org, ids) = chained().await;
    let links = signed(&world, org, &ids);
    let [a, b, c] = [0, 1, 2].map(|i| links[i].clone());
    assert_eq!(code(verify(&world, org, &[])), "chain_broken");
    for broken in [
        vec![b.clone()],
        vec![b.clone(), c.clone()],
        vec![a.clone(), c.clone()],
        vec![a.clone(), a.clone()],
        vec![a.clone(), c.clone(), b.clone()],
    ] {
        assert_eq!(code(verify(&world, org, &broken)), "chain_broken");
    }
    assert_eq!(
        code(verify_chain(&links, &|_, _| None)),
        "unknown_principal"
    );
}

type Alteration = fn(&mut DelegationLink, &World);

/// Every field of a link, changed to something that is well-formed.
const ALTERATIONS: &[(&str, Alteration)] = &[
    ("id", |link, world| link.id = world.ids.next()),
    ("delegatee", |link, _| link.delegatee = name("helper")),
    ("rights", |link, _| link.rights = rights(&[("a", "b")])),
    ("not_before", |link, world| link.not_before = world.after(1)),
    ("expires_at", |link, world| {
        link.expires_at = world.after(99)
    }),
    ("max_depth", |link, _| link.max_depth = 0),
    ("issued_at", |link, world| link.issued_at = world.after(1)),
    ("budget", |link, _| {
        link.budget = Some(Budget {
            limit: "1 USD".parse().unwrap(),
            period: BudgetPeriod::Total,
        });
    }),
];

#[tokio::test]
async fn an_altered_link_is_refused_by_the_verifier_and_by_the_service() {
    let (world, org, [root, ..]) = chained().await;
    let drafted = world
        .nhi
        .draft_delegation(org, world.request("planner", "worker", Some(root)))
        .unwrap();
    let parent = signed(&world, org, &[root]).remove(0);
    for (field, alter) in ALTERATIONS {
        let mut altered = drafted.clone();
        alter(Arc::make_mut(&mut altered.link), &world);
        assert_ne!(altered, drafted, "{field} is altered");
        assert_eq!(
            code(verify(&world, org, &[parent.clone(), altered.clone()])),
            "delegation_forged",
            "{field}"
        );
        assert_eq!(
            code(
                world
                    .nhi
                    .commit_delegation(altered, Default::default())
                    .await
            ),
            "delegation_forged",
            "{field}"
        );
    }
    assert_eq!(world.nhi.links(org, None, 10).len(), 3, "nothing came in");
    world
        .nhi
        .commit_delegation(drafted, Default::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_revoke_that_comes_second_finds_it_dead() {
    let (world, org, [root, ..]) = chained().await;
    let status = world.nhi.link(org, root).unwrap().status.clone();
    // The store knows already, memory does not yet.
    world
        .store
        .revoke_link(org, root, world.now(), Default::default())
        .await
        .unwrap();
    assert!(!status.is_revoked());
    assert_eq!(
        code(
            world
                .nhi
                .revoke(org, root, world.now(), Default::default())
                .await
        ),
        "delegation_already_revoked"
    );
    assert!(status.is_revoked());
}

#[tokio::test]
async fn another_principals_signature_is_not_the_delegators() {
    let (world, org, [root, ..]) = chained().await;
    // Alice signs a root link; presented as if the planner had signed it.
    let mut forged = world
        .nhi
        .draft_delegation(org, world.request("alice", "worker", None))
        .unwrap();
    let link = Arc::make_mut(&mut forged.link);
    link.delegator = name("planner");
    link.parent = Some(root);
    link.max_depth = 0;
    assert_eq!(
        code(
            world
                .nhi
                .commit_delegation(forged, Default::default())
                .await
        ),
        "delegation_forged"
    );
}

/// Principals that sign whatever they like: no service stands in between.
struct Rogues {
    keys: BTreeMap<PrincipalName, LocalSigner>,
    org: OrgId,
    next: u128,
}

impl Rogues {
    fn new() -> Self {
        let provider: Arc<dyn CryptoProvider> =
            Arc::new(AwsLcProvider::new(Arc::new(SeededRandom::new(3))));
        let keys = ["alice", "planner", "worker"].map(|who| {
            let key = provider
                .generate_signing_key(SignatureAlgorithm::MlDsa65Ed25519)
                .unwrap();
            (name(who), LocalSigner::new(key, Arc::clone(&provider)))
        });
        Self {
            keys: keys.into(),
            org: OrgId::from_uuid(Uuid::from_u128(1)),
            next: 1,
        }
    }

    fn sign(&mut self, change: impl FnOnce(&mut DelegationLink)) -> SignedLink {
        self.next += 1;
        let at = |text: &str| text.parse().unwrap();
        let mut link = DelegationLink {
            id: LinkId::from_uuid(Uuid::from_u128(self.next)),
            org: self.org,
            delegator: name("alice"),
            delegatee: name("planner"),
            parent: None,
            rights: rights(&[("fs.*", "repo:*")]),
            not_before: at("2026-01-02T00:00:00Z"),
            expires_at: at("2026-01-03T00:00:00Z"),
            max_depth: 2,
            budget: Some(Budget {
                limit: "5 USD".parse().unwrap(),
                period: BudgetPeriod::Day,
            }),
            issued_at: at("2026-01-01T00:00:00Z"),
            key_version: KeyVersion::FIRST,
        };
        change(&mut link);
        let bytes = link.signing_bytes().unwrap();
        let signature = self.keys[&link.delegator]
            .sign(DELEGATION_CONTEXT, &bytes)
            .unwrap();
        SignedLink {
            link: Arc::new(link),
            signature,
        }
    }

    fn verify(&self, links: &[SignedLink]) -> Result<(), ChainError> {
        verify_chain(links, &|name, _| {
            Some(self.keys.get(name)?.verifying_key().clone())
        })
    }
}

#[test]
fn a_well_signed_escalation_is_refused_offline_too() {
    let mut rogues = Rogues::new();
    let root = rogues.sign(|_| ());
    let id = root.link.id;
    let mut below = |change: fn(&mut DelegationLink)| {
        let child = rogues.sign(|link| {
            link.delegator = name("planner");
            link.delegatee = name("worker");
            link.parent = Some(id);
            link.max_depth = 1;
            change(link);
        });
        rogues.verify(&[root.clone(), child])
    };
    below(|_| ()).unwrap();
    below(|link| link.budget = None).unwrap();
    type Case = (&'static str, fn(&mut DelegationLink));
    let cases: [Case; 11] = [
        ("delegation_rights_exceed_parent", |link| {
            link.rights = rights(&[("fs.read", "repo:a"), ("*", "repo:a")]);
        }),
        ("delegation_outlives_parent", |link| {
            link.expires_at = "2026-01-03T00:00:00.000000001Z".parse().unwrap();
        }),
        ("delegation_precedes_parent", |link| {
            link.not_before = "2026-01-01T23:59:59.999999999Z".parse().unwrap();
        }),
        ("delegation_depth_exceeded", |link| link.max_depth = 2),
        ("delegation_budget_exceeds_parent", |link| {
            link.budget = Some(Budget {
                limit: "5.0000001 USD".parse().unwrap(),
                period: BudgetPeriod::Day,
            });
        }),
        ("delegation_budget_exceeds_parent", |link| {
            link.budget = Some(Budget {
                limit: "5 USD".parse().unwrap(),
                period: BudgetPeriod::Total,
            });
        }),
        ("chain_broken", |link| link.parent = None),
        ("chain_broken", |link| {
            link.org = OrgId::from_uuid(Uuid::from_u128(9));
        }),
        ("chain_broken", |link| link.delegator = name("alice")),
        ("delegation_malformed", |link| link.rights.clear()),
        ("delegation_malformed", |link| {
            link.expires_at = link.not_before;
        }),
    ];
    for (expected, change) in cases {
        assert_eq!(code(below(change)), expected);
    }
}

#[test]
fn budgets_of_two_measures_are_both_held() {
    let mut rogues = Rogues::new();
    let names = ["alice", "planner", "worker", "helper"];
    let mut verify = |budgets: [&str; 3]| {
        let mut links: Vec<SignedLink> = Vec::new();
        for (depth, budget) in budgets.into_iter().enumerate() {
            let parent = links.last().map(|signed| signed.link.id);
            let link = rogues.sign(|link| {
                link.delegator = name(names[depth]);
                link.delegatee = name(names[depth + 1]);
                link.parent = parent;
                link.max_depth = 2 - u8::try_from(depth).unwrap();
                link.budget = Some(Budget {
                    limit: budget.parse().unwrap(),
                    period: BudgetPeriod::Hour,
                });
            });
            links.push(link);
        }
        rogues.verify(&links)
    };
    verify(["5 USD", "100 units", "5 USD"]).unwrap();
    verify(["5 USD", "100 units", "100 units"]).unwrap();
    for over in ["5.01 USD", "1 EUR", "101 units"] {
        assert_eq!(
            code(verify(["5 USD", "100 units", over])),
            "delegation_budget_exceeds_parent",
            "{over}"
        );
    }
}

/// The bytes under signatures that exist already.
#[test]
fn the_signed_bytes_of_a_budget_in_money_are_fixed() {
    let link = |budget: &str| -> DelegationLink {
        let text = format!(
            r#"{{"budget":{budget},"delegatee":"worker","delegator":"planner","expires_at":"2026-01-02T00:00:00Z","id":"lnk_019b76daa8007a219e6a663bd37311aa","issued_at":"2026-01-01T00:00:00.5Z","max_depth":6,"not_before":"2026-01-01T00:00:00Z","org":"org_019b76daa800770db259e4e1cb631c66","parent":"lnk_019b76daa800722ab1ba804098e6cb29","rights":[{{"action":"fs.write","resource":"repo:*"}}]}}"#
        );
        let link: DelegationLink = serde_json::from_str(&text).unwrap();
        assert_eq!(
            String::from_utf8(link.signing_bytes().unwrap()).unwrap(),
            text
        );
        link
    };
    let money = link(r#"{"limit":{"amount":"5.00","currency":"USD"},"period":"day"}"#);
    assert_eq!(money.budget.unwrap().to_string(), "5.00 USD per day");
    let units = link(r#"{"limit":{"units":1000},"period":"hour"}"#);
    assert_eq!(units.budget.unwrap().to_string(), "1000 units per hour");
}

#[test]
fn what_was_signed_for_something_else_is_no_link() {
    let mut rogues = Rogues::new();
    let mut link = rogues.sign(|_| ());
    let bytes = link.link.signing_bytes().unwrap();
    link.signature = rogues.keys[&name("alice")]
        .sign(b"creto/something-else/v1", &bytes)
        .unwrap();
    assert_eq!(code(rogues.verify(&[link])), "delegation_forged");
}

#[test]
fn unknown_fields_and_bad_patterns_do_not_parse() {
    let right = r#"{"action":"a*b","resource":"r"}"#;
    assert!(serde_json::from_str::<creto_nhi::Right>(right).is_err());
    let right = r#"{"action":"a","resource":"r","also":"x"}"#;
    assert!(serde_json::from_str::<creto_nhi::Right>(right).is_err());
}
