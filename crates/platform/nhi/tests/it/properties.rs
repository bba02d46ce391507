//! No accepted child ever exceeds its parent, for any request.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use creto_nhi::test_util::{World, name};
use creto_nhi::{Budget, BudgetPeriod, DelegationLink, DelegationRequest, LinkId, Pattern, Right};
use creto_types::{OrgId, Timestamp};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::crew;

static WORLD: LazyLock<(World, OrgId, Runtime)> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let (world, org) = runtime.block_on(crew());
    (world, org, runtime)
});

fn pattern() -> impl Strategy<Value = Pattern> {
    "[ab]{0,3}[*]?"
        .prop_filter("not empty", |text| !text.is_empty())
        .prop_map(|text| text.parse().unwrap())
}

fn right() -> impl Strategy<Value = Right> {
    (pattern(), pattern()).prop_map(|(action, resource)| Right { action, resource })
}

fn budget() -> impl Strategy<Value = Option<Budget>> {
    let period = prop_oneof![4 => Just(BudgetPeriod::Total), 1 => Just(BudgetPeriod::Hour)];
    let measure = prop_oneof![4 => Just("USD"), 1 => Just("EUR"), 4 => Just("units")];
    proptest::option::of(
        (1_u32..6, period, measure).prop_map(|(amount, period, measure)| Budget {
            limit: format!("{amount} {measure}").parse().unwrap(),
            period,
        }),
    )
}

#[derive(Clone, Debug)]
struct Asked {
    rights: Vec<Right>,
    begin: Option<u64>,
    end: u64,
    depth: Option<u8>,
    budget: Option<Budget>,
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        proptest::collection::vec(right(), 1..4),
        proptest::option::of(0_u64..4),
        4_u64..8,
        proptest::option::of(0_u8..4),
        budget(),
    )
        .prop_map(|(rights, begin, end, depth, budget)| Asked {
            rights,
            begin,
            end,
            depth,
            budget,
        })
}

fn grant(parent: Option<LinkId>, from: &str, to: &str, asked: &Asked) -> Option<DelegationLink> {
    let (world, org, runtime) = &*WORLD;
    let request = DelegationRequest {
        delegator: name(from),
        delegatee: name(to),
        parent,
        rights: asked.rights.clone(),
        not_before: asked.begin.map(|begin| world.after(begin)),
        expires_at: world.after(asked.end),
        max_depth: asked.depth,
        budget: asked.budget,
    };
    let id = runtime.block_on(world.delegate(*org, request)).ok()?;
    Some(world.nhi.link(*org, id)?.signed.link.as_ref().clone())
}

/// Every text of up to four letters over the patterns' alphabet.
fn texts() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..4 {
        last = last
            .iter()
            .flat_map(|text| ["a", "b"].map(|letter| format!("{text}{letter}")))
            .collect();
        all.extend(last.clone());
    }
    all
}

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(texts);

fn valid(link: &DelegationLink, at: Timestamp) -> bool {
    link.not_before <= at && at < link.expires_at
}

/// `above` is root first and ends in the link's parent.
fn within(child: &DelegationLink, above: &[&DelegationLink]) {
    let parent = *above.last().unwrap();
    for action in &*TEXTS {
        for resource in &*TEXTS {
            assert!(
                !child.allows(action, resource) || parent.allows(action, resource),
                "{action} on {resource}"
            );
        }
    }
    for second in 0..9 {
        let at = WORLD.0.after(second);
        assert!(!valid(child, at) || valid(parent, at), "at {second}");
    }
    assert!(child.max_depth < parent.max_depth);
    let Some(mine) = child.budget else { return };
    // Every budget of its measure above, not the nearest alone.
    for held in above.iter().filter_map(|link| link.budget) {
        if !held.limit.is_like(&mine.limit) {
            continue;
        }
        assert_eq!(mine.period, held.period);
        assert_eq!(mine.limit.at_most(&held.limit), Some(true));
    }
}

#[test]
fn nothing_accepted_exceeds_what_is_above() {
    let accepted = AtomicU32::new(0);
    let config = Config {
        cases: 192,
        failure_persistence: None,
        ..Config::default()
    };
    let requests = (asked(), asked(), asked(), any::<bool>());
    TestRunner::new(config)
        .run(&requests, |(a, mut b, mut c, widen)| {
            // Half of the time the children ask for the rights the parent has, so
            // that enough of them are accepted for the test to mean something.
            if !widen {
                b.rights.clone_from(&a.rights);
                c.rights.clone_from(&a.rights);
            }
            let Some(root) = grant(None, "alice", "planner", &a) else {
                return Ok(());
            };
            let Some(child) = grant(Some(root.id), "planner", "worker", &b) else {
                return Ok(());
            };
            within(&child, &[&root]);
            accepted.fetch_add(1, Ordering::Relaxed);
            if let Some(below) = grant(Some(child.id), "worker", "helper", &c) {
                within(&below, &[&root, &child]);
            }
            Ok(())
        })
        .unwrap();
    let accepted = accepted.into_inner();
    assert!(accepted >= 10, "only {accepted} children were accepted");
}

proptest! {
    #[test]
    fn covering_means_matching_no_less(a in pattern(), b in pattern()) {
        let less = TEXTS.iter().find(|text| b.matches(text) && !a.matches(text));
        prop_assert_eq!(a.covers(&b), less.is_none(), "{:?}", less);
    }
}

#[test]
fn money_is_compared_exactly() {
    let asked = |limit: &str| Asked {
        rights: vec![Right::parse("*", "*").unwrap()],
        begin: None,
        end: 5,
        depth: None,
        budget: Some(Budget {
            limit: limit.parse().unwrap(),
            period: BudgetPeriod::Total,
        }),
    };
    let root = grant(None, "alice", "planner", &asked("0.30 USD")).unwrap();
    assert!(grant(Some(root.id), "planner", "worker", &asked("0.3 USD")).is_some());
    let over = asked("0.3000000000000000000000000001 USD");
    assert!(grant(Some(root.id), "planner", "worker", &over).is_none());
}
