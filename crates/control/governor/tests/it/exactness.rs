//! Once a change returned, no decision uses the old state, on any thread.
//!
//! Changes and decisions take numbers from one counter when they begin and when they
//! end. A decision saw values (which policies decided, which limit refused, who was
//! suspended); each must be one that was in force at some moment between its two
//! numbers: a change that returned before it began has to show, one that began after
//! it ended must not.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use creto_authz::{Action, Bound, Decision, ResourceRef};
use creto_governor::{
    ActionAnswer, ActionRequest, Caller, LimitRequest, LimitSubject, OnExceedName, OutcomeKind,
    PolicyFiles, PrincipalRequest, PublishPoliciesRequest, RateRequest, RateSubject,
    SuspensionRequest, WindowName,
};
use creto_nhi::LinkId;
use creto_types::{Clock as _, Quantity};
use serde_json::json;

use crate::world::{World, delegate, enter};

/// One order over everything that begins or ends.
#[derive(Default)]
struct Order(AtomicU64);

impl Order {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// The values that something had, each from a change that began and ended.
struct Register<T> {
    changes: Vec<(u64, u64, T)>,
}

impl<T: PartialEq + Debug> Register<T> {
    /// With the value it has before anything is counted.
    fn new(first: T) -> Self {
        Self {
            changes: vec![(0, 0, first)],
        }
    }

    async fn change<F: Future>(&mut self, order: &Order, to: T, change: F) -> F::Output {
        let begun = order.next();
        let done = change.await;
        self.changes.push((begun, order.next(), to));
        done
    }

    /// What may have been seen between these two.
    fn possible(&self, begun: u64, ended: u64) -> impl Iterator<Item = &T> {
        let next = self.changes.iter().skip(1).map(Some).chain([None]);
        self.changes
            .iter()
            .zip(next)
            .filter(move |((from, _, _), next)| {
                *from < ended && next.is_none_or(|(_, until, _)| *until > begun)
            })
            .map(|((_, _, value), _)| value)
    }

    fn check(&self, seen: &Seen, what: &str, fits: impl Fn(&T) -> bool) {
        let possible: Vec<&T> = self.possible(seen.begun, seen.ended).collect();
        assert!(
            possible.iter().any(|value| fits(value)),
            "{what} was one of {possible:?} while this was decided: {seen:?}"
        );
    }
}

/// One decision and what it shows.
#[derive(Debug)]
struct Seen {
    begun: u64,
    ended: u64,
    /// The place of the delegation it was asked under.
    link: usize,
    outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Revoked,
    Suspended,
    /// By the policies of this version.
    Denied(u64),
    /// By the policies of this version, had it not been for this limit.
    Exceeded(u64, u64),
    Allowed(u64),
    TooFast,
}

/// `v17`: the version that decided.
fn version(policies: &[impl AsRef<str>]) -> u64 {
    let [one] = policies else {
        panic!("one policy decides each time");
    };
    let number = one
        .as_ref()
        .strip_prefix('v')
        .expect("named by its version");
    number.parse().expect("a number")
}

fn units(limit: Quantity) -> u64 {
    match limit {
        Quantity::Units(units) => units,
        Quantity::Money(_) => panic!("a limit of units was set"),
    }
}

pub(crate) fn of_decision(decision: Decision) -> Outcome {
    let ids = |policies: &[creto_authz::PolicyId]| {
        let ids: Vec<String> = policies.iter().map(ToString::to_string).collect();
        version(&ids)
    };
    match decision {
        Decision::Allow { policies, .. } => Outcome::Allowed(ids(&policies)),
        Decision::QuotaExceeded { exceeded, policies } => {
            Outcome::Exceeded(ids(&policies), units(exceeded.limit))
        }
        Decision::Deny { reason, policies } => match reason.code {
            "delegation_revoked" => Outcome::Revoked,
            "principal_suspended" => Outcome::Suspended,
            "policy_forbids" => Outcome::Denied(ids(&policies)),
            other => panic!("{other}: {}", reason.text),
        },
        Decision::RateLimited { .. } => Outcome::TooFast,
        other => panic!("{other:?}"),
    }
}

fn of_answer(answer: &ActionAnswer) -> Outcome {
    match (answer.outcome, answer.reason.code.as_str()) {
        (OutcomeKind::Allow, _) => Outcome::Allowed(version(&answer.policy_ids)),
        (OutcomeKind::QuotaExceeded, _) => {
            let quota = answer.quota.as_ref().expect("says which");
            Outcome::Exceeded(version(&answer.policy_ids), units(quota.limit))
        }
        (OutcomeKind::RateLimited, "rate_limited") => Outcome::TooFast,
        (_, "delegation_revoked") => Outcome::Revoked,
        (_, "principal_suspended") => Outcome::Suspended,
        (_, "policy_forbids") => Outcome::Denied(version(&answer.policy_ids)),
        _ => panic!("{answer:?}"),
    }
}

/// What every call asks for. Limits lie far below and far above it.
pub(crate) const ASKED: u64 = 500_000;

/// The policies of a version: the even ones permit everything, the odd ones nothing.
pub(crate) fn policies(version: u64) -> PublishPoliciesRequest {
    let effect = if version.is_multiple_of(2) {
        "permit"
    } else {
        "forbid"
    };
    let text = format!("@id(\"v{version}\") {effect} (principal, action, resource);");
    with_schema(text, "another version")
}

pub(crate) fn with_schema(policies: String, reason: &str) -> PublishPoliciesRequest {
    let starter = PolicyFiles::starter();
    let schemas = starter
        .files()
        .iter()
        .filter(|(name, _)| name.ends_with(".cedarschema"));
    let mut files: BTreeMap<_, _> = schemas
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    files.insert("all.cedar".to_owned(), policies);
    PublishPoliciesRequest {
        files,
        reason: reason.to_owned(),
        expect_version: None,
    }
}

/// Of the whole organization: the even ones refuse what is asked, the odd ones leave
/// room for every caller. No two are the same.
pub(crate) fn limit(round: u64) -> u64 {
    let base = if round.is_multiple_of(2) {
        1_000
    } else {
        1_000_000_000
    };
    base + round
}

pub(crate) fn set(most: u64) -> LimitRequest {
    LimitRequest {
        scope: LimitSubject::Organization,
        event: None,
        limit: Quantity::Units(most),
        window: WindowName::Total,
        time_zone: None,
        on_exceed: OnExceedName::Block,
        grace: None,
        thresholds: Some(Vec::new()),
    }
}

pub(crate) fn because() -> SuspensionRequest {
    SuspensionRequest {
        reason: "a round of the test".to_owned(),
    }
}

fn read(units: u64) -> ActionRequest {
    ActionRequest {
        action: "history.read".to_owned(),
        resource: "repo:creto".into(),
        context: std::collections::BTreeMap::new(),
        args: json!({}),
        units,
        grant: None,
    }
}

/// Delegations of the test: each gives an agent all work without a budget.
pub(crate) struct Links {
    /// Bound once, and asked for ever.
    pub(crate) bound: Vec<Bound>,
    callers: Vec<Caller>,
    ids: Vec<String>,
}

/// The first twelve stand below `lead`, who is suspended from time to time, and ten
/// of those are revoked. The last two stand below the owner and stay.
const REVOKED: usize = 10;
const BELOW_LEAD: usize = 12;
pub(crate) const LINKS: usize = 14;

pub(crate) async fn links(world: &World) -> Links {
    let governor = &world.governor;
    for name in ["lead", "worker"] {
        let request = PrincipalRequest {
            name: name.parse().expect("a name"),
            kind: "agent".to_owned(),
        };
        let made = governor.create_principal(&world.owner, request, None).await;
        made.expect("an agent is made");
    }
    let end = world.clock.now() + std::time::Duration::from_secs(3_600);
    let give = async |from: &Caller, to: &str| {
        let mut request = delegate(to, "1.00", end);
        request.budget = None;
        let given = governor.delegate(from, request, None).await;
        given.expect("delegates").id
    };
    let lead = give(&world.owner, "lead").await;
    let lead = enter(governor, &world.owner, &lead).await;
    let mut links = Links {
        bound: Vec::new(),
        callers: Vec::new(),
        ids: Vec::new(),
    };
    for place in 0..LINKS {
        let from = if place < BELOW_LEAD {
            &lead
        } else {
            &world.owner
        };
        let id = give(from, "worker").await;
        let link: LinkId = id.parse().expect("an id");
        let identity = world.nhi.identity_for_link(world.owner.org(), link);
        links
            .bound
            .push(world.authz.bind(identity.expect("is known")));
        links.callers.push(enter(governor, &world.owner, &id).await);
        links.ids.push(id);
    }
    links
}

/// Everybody who decides, and what they saw.
struct Deciders {
    order: Order,
    stop: AtomicBool,
    /// One of them saw what must not be: nobody waits for the others.
    failed: AtomicBool,
    decided: AtomicU64,
    seen: Mutex<Vec<Seen>>,
}

/// Held by whoever decides.
struct Deciding(Arc<Deciders>);

impl Drop for Deciding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
        }
    }
}

impl Deciders {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            order: Order::default(),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            decided: AtomicU64::new(0),
            seen: Mutex::default(),
        })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn count(&self) {
        self.decided.fetch_add(1, Ordering::SeqCst);
    }

    fn keep(&self, mut seen: Vec<Seen>) {
        self.seen.lock().expect("nobody panicked").append(&mut seen);
    }

    /// Until so many more decisions were made.
    async fn more(&self, decisions: u64) {
        let until = self.decided.load(Ordering::SeqCst) + decisions;
        while self.decided.load(Ordering::SeqCst) < until && !self.failed.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    /// A thread that asks the decision point, one delegation after the other.
    fn checker(self: &Arc<Self>, world: &Arc<World>, links: &Arc<Links>) -> JoinHandle<()> {
        let (deciders, world, links) = (Arc::clone(self), Arc::clone(world), Arc::clone(links));
        std::thread::spawn(move || {
            let _deciding = Deciding(Arc::clone(&deciders));
            let (action, repo) = (
                Action::named("history.read"),
                ResourceRef::resource("repo:creto"),
            );
            let mut seen = Vec::new();
            for (link, bound) in links.bound.iter().enumerate().cycle() {
                if deciders.stopped() {
                    break;
                }
                let begun = deciders.order.next();
                let decision = world.authz.check(bound, &action, &repo, ASKED);
                let ended = deciders.order.next();
                let outcome = of_decision(decision);
                seen.push(Seen {
                    begun,
                    ended,
                    link,
                    outcome,
                });
                deciders.count();
            }
            deciders.keep(seen);
        })
    }

    /// A caller of governed actions: decided, durable, given back.
    async fn submitter(self: Arc<Self>, world: Arc<World>, links: Arc<Links>) {
        let _deciding = Deciding(Arc::clone(&self));
        let mut seen = Vec::new();
        for (link, caller) in links.callers.iter().enumerate().cycle() {
            if self.stopped() {
                break;
            }
            let begun = self.order.next();
            let answer = world.governor.submit(caller, read(ASKED), None).await;
            let ended = self.order.next();
            let answer = answer.expect("answers");
            if answer.reason.code == "too_many_questions" {
                // Nothing was decided.
                self.count();
                tokio::task::yield_now().await;
                continue;
            }
            let outcome = of_answer(&answer);
            if matches!(outcome, Outcome::Allowed(_)) {
                let given_back = world.governor.release(caller, answer.action_id, None).await;
                // Whoever lost its authority meanwhile leaves it to the sweep.
                drop(given_back);
            }
            seen.push(Seen {
                begun,
                ended,
                link,
                outcome,
            });
            self.count();
            tokio::task::yield_now().await;
        }
        self.keep(seen);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_change_is_seen_by_whatever_begins_after_it_returned() {
    let world = Arc::new(World::paced(1_000_000_000).await);
    let governor = &world.governor;
    let publish = async |version| {
        let published = governor.publish_policies(&world.owner, policies(version), None);
        published.await.expect("publishes");
    };
    let limited = async |round| {
        let request = set(limit(round));
        let done = governor.set_limit(&world.owner, request, None).await;
        done.expect("is set");
    };
    let links = Arc::new(links(&world).await);
    publish(0).await;
    limited(0).await;

    let deciders = Deciders::new();
    let order = &deciders.order;
    // The numbers of what was in force before anything is counted.
    order.next();
    let threads: Vec<_> = (0..3).map(|_| deciders.checker(&world, &links)).collect();
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let deciders = Arc::clone(&deciders);
            tokio::spawn(deciders.submitter(Arc::clone(&world), Arc::clone(&links)))
        })
        .collect();

    let mut versions = Register::new(0);
    let mut limits = Register::new(limit(0));
    let mut standing = Register::new(true);
    let mut revoked: Vec<Register<bool>> = (0..LINKS).map(|_| Register::new(false)).collect();
    let publishing = async {
        for version in 1..=10 {
            versions.change(order, version, publish(version)).await;
            deciders.more(40).await;
        }
    };
    let limiting = async {
        for round in 1..=40 {
            limits.change(order, limit(round), limited(round)).await;
            deciders.more(20).await;
        }
    };
    let suspending = async {
        let lead = "lead".parse().expect("a name");
        for round in 0..24 {
            let owner = &world.owner;
            let change = async {
                let done = if round % 2 == 0 {
                    governor
                        .suspend_principal(owner, &lead, because(), None)
                        .await
                } else {
                    governor
                        .resume_principal(owner, &lead, because(), None)
                        .await
                };
                done.expect("changes");
            };
            standing.change(order, round % 2 != 0, change).await;
            deciders.more(if round % 2 == 0 { 20 } else { 60 }).await;
        }
    };
    let revoking = async {
        for (link, register) in revoked.iter_mut().enumerate().take(REVOKED) {
            let id = links.ids.get(link).expect("one for each");
            let done = governor.revoke(&world.owner, id, None);
            register.change(order, true, done).await.expect("revokes");
            deciders.more(120).await;
        }
    };
    tokio::join!(publishing, limiting, suspending, revoking);
    deciders.more(100).await;
    deciders.stop.store(true, Ordering::SeqCst);
    for thread in threads {
        tokio::task::spawn_blocking(move || thread.join())
            .await
            .expect("is waited for")
            .expect("a thread saw what it must not");
    }
    for task in tasks {
        task.await.expect("a task saw what it must not");
    }

    let all = std::mem::take(&mut *deciders.seen.lock().expect("nobody panicked"));
    let mut kinds = [0_u64; 5];
    for seen in &all {
        let below_lead = seen.link < BELOW_LEAD;
        let revocation = revoked.get(seen.link).expect("one for each");
        match &seen.outcome {
            Outcome::Revoked => {
                revocation.check(seen, "the revocation", |revoked| *revoked);
                kinds[0] += 1;
                continue;
            }
            Outcome::Suspended => {
                assert!(below_lead, "{seen:?}");
                standing.check(seen, "the standing of lead", |good| !good);
                kinds[1] += 1;
                continue;
            }
            _ => {}
        }
        revocation.check(seen, "the revocation", |revoked| !revoked);
        if below_lead {
            standing.check(seen, "the standing of lead", |good| *good);
        }
        let decided_by = match &seen.outcome {
            Outcome::Denied(version) => {
                kinds[2] += 1;
                *version
            }
            Outcome::Exceeded(version, refusing) => {
                limits.check(seen, "the limit", |limit| limit == refusing);
                kinds[3] += 1;
                *version
            }
            Outcome::Allowed(version) => {
                limits.check(seen, "the limit", |limit| *limit >= ASKED);
                kinds[4] += 1;
                *version
            }
            Outcome::TooFast => panic!("no rate is that slow: {seen:?}"),
            Outcome::Revoked | Outcome::Suspended => panic!("looked at above"),
        };
        let denies = matches!(seen.outcome, Outcome::Denied(_));
        assert_eq!(denies, !decided_by.is_multiple_of(2), "{seen:?}");
        versions.check(seen, "the version", |version| *version == decided_by);
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
    nothing_is_granted_beyond_the_limit_before_it_in_the_log(&world);
    world.check_records().await.expect("the records hold");
}

/// A reservation and a limit become durable one after the other, so between the record
/// of one limit and that of the next no grant stands that the limit refuses.
fn nothing_is_granted_beyond_the_limit_before_it_in_the_log(world: &World) {
    let mut most = u64::MAX;
    for record in world.commits.evidence(world.owner.org()) {
        match record.kind.as_str() {
            "limit.set" => most = record.body["limit"]["units"].as_u64().expect("of units"),
            "action.decided" if record.body["outcome"] == "allow" => {
                let asked = record.body["units"].as_u64().expect("of units");
                assert!(asked <= most, "{asked} granted while {most} was the most");
            }
            _ => {}
        }
    }
}

/// Of one agent: told apart from [`limit`] by its size.
fn own_limit(round: u64) -> u64 {
    10 * limit(round)
}

/// Of every agent: the even ones let everybody go on, the odd ones nobody but the first
/// who asks.
fn rate(round: u64) -> RateRequest {
    let one = NonZeroU32::MIN;
    if round.is_multiple_of(2) {
        RateRequest::per_second(
            RateSubject::EveryAgent,
            NonZeroU32::MAX,
            one.saturating_add(1 << 29),
        )
    } else {
        RateRequest {
            per_second: None,
            per_hour: Some(one),
            ..RateRequest::per_second(RateSubject::EveryAgent, one, one)
        }
    }
}

/// The limit of the organization, that of the agent, and its rate change at once, and end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limits_and_rates_that_change_at_once_are_each_seen() {
    let world = Arc::new(World::paced(1_000_000_000).await);
    let (governor, owner) = (&world.governor, &world.owner);
    let links = Arc::new(links(&world).await);
    let published = governor.publish_policies(owner, policies(0), None);
    published.await.expect("publishes");
    let deciders = Deciders::new();
    let order = &deciders.order;
    order.next();
    let threads: Vec<_> = (0..3).map(|_| deciders.checker(&world, &links)).collect();
    let submitter = tokio::spawn(Arc::clone(&deciders).submitter(world.clone(), links.clone()));

    // Nothing is limited before and after: every third change is an end.
    let mut whole = Register::new(None);
    let mut own = Register::new(None);
    let mut rates = Register::new(0);
    let limiting = async |register: &mut Register<Option<u64>>, of: fn(u64) -> u64, scope| {
        for round in 0..30_u64 {
            let request = LimitRequest {
                scope: LimitSubject::clone(&scope),
                ..set(of(round))
            };
            let set = governor.set_limit(owner, request, None);
            let set = register.change(order, Some(of(round)), set).await;
            deciders.more(20).await;
            if round % 3 == 0 {
                let id = set.expect("is set").id.parse().expect("an id");
                let ended = governor.remove_limit(owner, id, None);
                let ended = register.change(order, None, ended).await;
                ended.expect("is ended");
                deciders.more(20).await;
            }
        }
    };
    let worker = LimitSubject::Agent("worker".parse().expect("a name"));
    let pacing = async {
        for round in 1..=30 {
            let set = async {
                let set = governor.set_rate(owner, rate(round), None).await;
                world.clock.advance(std::time::Duration::from_millis(100));
                set.expect("is set")
            };
            let set = rates.change(order, round, set).await;
            deciders.more(30).await;
            if round % 3 == 0 {
                let id = set.id.parse().expect("an id");
                let ended = async {
                    let ended = governor.remove_rate(owner, id, None).await;
                    world.clock.advance(std::time::Duration::from_millis(100));
                    ended.expect("is ended")
                };
                rates.change(order, 0, ended).await;
                deciders.more(30).await;
            }
        }
    };
    tokio::join!(
        limiting(&mut whole, limit, LimitSubject::Organization),
        limiting(&mut own, own_limit, worker),
        pacing
    );
    deciders.stop.store(true, Ordering::SeqCst);
    for thread in threads {
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined.expect("is waited for").expect("saw what it may");
    }
    submitter.await.expect("saw what it may");

    let all = std::mem::take(&mut *deciders.seen.lock().expect("nobody panicked"));
    let fits = |limit: &Option<u64>| limit.is_none_or(|most| most >= ASKED);
    let open = |round: &u64| round.is_multiple_of(2);
    let (mut kinds, mut firsts) = ([0_u64; 3], 0_u64);
    for seen in &all {
        match seen.outcome {
            Outcome::Allowed(_) => {
                whole.check(seen, "the organization's limit", fits);
                own.check(seen, "the agent's limit", fits);
                let fast = rates.possible(seen.begun, seen.ended).any(open);
                firsts += u64::from(!fast);
                kinds[0] += 1;
            }
            Outcome::Exceeded(_, most) => {
                let named = |limit: &Option<u64>| *limit == Some(most);
                let possible = |register: &Register<Option<u64>>| {
                    register.possible(seen.begun, seen.ended).any(named)
                };
                assert!(possible(&whole) || possible(&own), "{seen:?}");
                kinds[1] += 1;
            }
            Outcome::TooFast => {
                // While a rate is being set it is used up; time makes room at its end.
                let during = rates.possible(seen.begun, seen.ended).nth(1).is_some();
                rates.check(seen, "the rate", |round| during || !open(round));
                kinds[2] += 1;
            }
            _ => panic!("{seen:?}"),
        }
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
    let slow = rates.changes.iter().filter(|(_, _, round)| !open(round));
    let slow = u64::try_from(slow.count()).expect("few");
    assert!(firsts <= slow, "{firsts} went on under {slow} slow rates");
    world.check_records().await.expect("the records hold");
}

/// So many policies that putting them in force takes a while, each for a resource of
/// its own, named after their set.
const MANY: usize = 200;
const CALLERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_go_on_while_many_policies_are_published() {
    let world = Arc::new(World::paced(1_000_000_000).await);
    let links = Arc::new(links(&world).await);
    let publish = async |version: u64| {
        let text: String = (0..MANY)
            .map(|place| {
                format!(
                    "@id(\"v{version}.{place}\") permit (principal, action, \
                     resource == Creto::Resource::\"repo:{place}\");\n"
                )
            })
            .collect();
        let request = with_schema(text, "many");
        let published = world.governor.publish_policies(&world.owner, request, None);
        published.await.expect("publishes");
    };
    publish(0).await;
    let deciders = Deciders::new();
    deciders.order.next();
    let threads: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (deciders, world, links) = (
                Arc::clone(&deciders),
                Arc::clone(&world),
                Arc::clone(&links),
            );
            std::thread::spawn(move || {
                let _deciding = Deciding(Arc::clone(&deciders));
                let bound = links.bound.last().expect("a delegation that stays");
                let action = Action::named("history.read");
                let repos: Vec<_> = (0..MANY)
                    .filter(|place| place % CALLERS == caller)
                    .map(|place| (place, ResourceRef::resource(format!("repo:{place}"))))
                    .collect();
                let mut seen = Vec::new();
                for (place, repo) in repos.iter().cycle() {
                    if deciders.stopped() {
                        break;
                    }
                    let begun = deciders.order.next();
                    let decision = world.authz.check(bound, &action, repo, 1);
                    let ended = deciders.order.next();
                    let Decision::Allow { policies, .. } = decision else {
                        panic!("every set permits it: {decision:?}");
                    };
                    let [id] = &*policies else {
                        panic!("one policy permits it: {policies:?}");
                    };
                    let (version, of) = id.as_str().split_once('.').expect("a set and a place");
                    assert_eq!(of, place.to_string());
                    seen.push(Seen {
                        begun,
                        ended,
                        link: caller,
                        outcome: Outcome::Allowed(self::version(&[version])),
                    });
                    deciders.count();
                }
                deciders.keep(seen);
            })
        })
        .collect();
    let mut versions = Register::new(0);
    for round in 1..=4 {
        versions
            .change(&deciders.order, round, publish(round))
            .await;
        deciders.more(200).await;
    }
    deciders.stop.store(true, Ordering::SeqCst);
    for thread in threads {
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined
            .expect("is waited for")
            .expect("a thread saw what it must not");
    }
    let all = std::mem::take(&mut *deciders.seen.lock().expect("nobody panicked"));
    for seen in &all {
        versions.check(seen, "the version", |version| {
            seen.outcome == Outcome::Allowed(*version)
        });
    }
    for version in 0..=4 {
        let decided = |seen: &Seen| seen.outcome == Outcome::Allowed(version);
        assert!(
            all.iter().any(decided),
            "version {version} decided something"
        );
    }
}
