//! A million registered agents beside a thousand: adding one more, issuing its token,
//! finding it, revoking what it holds.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use creto_crypto::{Signature, SignatureAlgorithm};
use creto_nhi::test_util::{cheap_agent, name, rights};
use creto_nhi::{DelegationLink, KeyVersion, LinkId, Nhi, SignedLink};
use creto_state_sqlite::{Database, SqliteNhi};
use creto_types::{Commit, IdSource, OrgId, PrincipalName, SystemIds, SystemRandom};

use super::{DAY, Identities, OWNER, Outcome, record};
use crate::authz::Numbers;
use crate::lines::Ring;
use crate::report::{Entry, Report};
use crate::sample::Sample;
use crate::ticks::{Summary, Ticks};

const NAME: &str = "nhi/issue_1m";

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;

/// Of all agents, those that are added, issued tokens and revoked while it is timed.
const REAL: usize = 1_000;
/// Tokens of each of them.
const TOKENS_EACH: usize = 5;
const LOOKUPS: usize = 400_000;

/// How many rows are on their way to the store at once.
const AT_ONCE: usize = 2_048;

pub(super) fn run(report: &mut Report) -> Outcome {
    let entries = ["register", "lookup", "revoke"].map(|part| format!("{NAME}/{part}"));
    if !report.wants(NAME) && !entries.iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let few = runtime.block_on(measure(FEW))?;
    let many = runtime.block_on(measure(MANY))?;
    let limit = two_lines();
    let [register, lookup, revoke] = &entries;
    for (name, many, few, unit) in [
        (NAME, many.issue, few.issue, "us"),
        (register, many.register, few.register, "us"),
        (lookup, many.lookup, few.lookup, "ns"),
        (revoke, many.revoke, few.revoke, "us"),
    ] {
        let mut entry = Entry::p99(name, unit, many).beside("with 1,000 agents", few.p99);
        if name == lookup {
            entry = entry.beside("two lines of memory, one after the other", limit.p99);
        }
        report.add(entry);
    }
    Ok(())
}

struct Measured {
    register: Summary,
    issue: Summary,
    lookup: Summary,
    revoke: Summary,
}

/// With so many agents in one organization, each of which was delegated to.
async fn measure(agents: usize) -> Outcome<Measured> {
    let directory = tempfile::tempdir()?;
    let database = Database::open(&directory.path().join("bench.db"))?;
    let mut identities = Identities::new(Arc::new(SqliteNhi::new(database))).await?;
    let names = names(agents);
    let (fillers, real) = names.split_at(agents - REAL);
    let start = Instant::now();
    fill(&identities, fillers).await?;
    let filled = start.elapsed();
    identities.restart().await?;
    let opened = start.elapsed() - filled;
    eprintln!("  {agents} agents: made in {filled:.1?}, loaded in {opened:.1?}");

    let mut register = Sample::new();
    for agent in real {
        let start = Instant::now();
        identities.agent(agent.clone()).await?;
        register.add(start.elapsed());
    }
    let mut links = Vec::with_capacity(real.len());
    for agent in real {
        let link = identities.delegate(name(OWNER), agent.clone(), None);
        links.push(link.await?);
    }
    let lookup = lookups(&identities.nhi, identities.org, &names)?;
    let mut issue = Sample::new();
    for turn in 0..=TOKENS_EACH {
        for link in &links {
            let start = Instant::now();
            black_box(identities.token(*link)?);
            // The first turn verifies the links, once and for all.
            if turn > 0 {
                issue.add(start.elapsed());
            }
        }
    }
    let mut revoke = Sample::new();
    for link in links {
        let (nhi, org) = (&identities.nhi, identities.org);
        let at = identities.clock.now();
        let start = Instant::now();
        nhi.revoke(org, link, at, record(org, "delegation.revoked"))
            .await?;
        revoke.add(start.elapsed());
    }
    Ok(Measured {
        register: register.micros(),
        issue: issue.micros(),
        lookup,
        revoke: revoke.micros(),
    })
}

/// Different names in no order.
fn names(count: usize) -> Vec<PrincipalName> {
    let mut numbers = Numbers::new(1);
    let mut taken = HashSet::with_capacity(count);
    let mut names = Vec::with_capacity(count);
    while names.len() < count {
        let number = numbers.below(1 << 52);
        if taken.insert(number) {
            names.push(name(&format!("agent-{number:013x}")));
        }
    }
    names
}

/// An agent by its name, and the newest delegation it holds.
fn lookups(nhi: &Nhi, org: OrgId, names: &[PrincipalName]) -> Outcome<Summary> {
    let mut ticks = Ticks::new();
    let mut numbers = Numbers::new(2);
    for turn in 0..LOOKUPS {
        let Some(agent) = names.get(numbers.below(names.len())) else {
            continue;
        };
        // Whoever asks has the name at hand, and not somewhere in memory.
        black_box(agent.as_str().bytes().fold(0, |sum, byte| sum ^ byte));
        let found = ticks.time(|| {
            let agent = nhi.principal(org, black_box(agent))?;
            let held = nhi.held_by(org, &agent.name, 1);
            let link = held.into_iter().next()?;
            Some((agent, link))
        });
        if black_box(found).is_none() {
            return Err("an agent that was added is not found".into());
        }
        if turn == LOOKUPS / 10 {
            ticks.histogram.reset();
        }
    }
    Ok(ticks.summary())
}

/// The least that finding one of a million can take: its place leads to what it is.
fn two_lines() -> Summary {
    let ring = Ring::new();
    let mut ticks = Ticks::new();
    let mut numbers = Numbers::new(3);
    for _ in 0..LOOKUPS {
        let from = numbers.below(ring.lines());
        ticks.time(|| black_box(ring.walk(black_box(from), 2)));
    }
    ticks.summary()
}

/// Agents whose keys are of the cheapest algorithm, and delegations to them, all with one
/// signature that holds for none: nobody reads it. They go to the store by its port.
async fn fill(identities: &Identities, agents: &[PrincipalName]) -> Outcome {
    let org = identities.org;
    let clock = Arc::clone(&identities.clock);
    let now = clock.now();
    let until = now.checked_add(DAY)?;
    let ids = SystemIds::new(clock, Arc::new(SystemRandom));
    let signature = Signature::from_bytes(SignatureAlgorithm::Ed25519, &[0; 64])?;
    for batch in agents.chunks(AT_ONCE) {
        let mut added = Vec::with_capacity(batch.len());
        for agent in batch {
            let row = cheap_agent(&identities.nhi, org, agent.clone());
            let store = Arc::clone(&identities.store);
            let add = async move { store.insert_principal(row, Commit::default()).await };
            added.push(tokio::spawn(add));
        }
        for added in added {
            added.await??;
        }
    }
    for batch in agents.chunks(AT_ONCE) {
        let mut added = Vec::with_capacity(batch.len());
        for agent in batch {
            let id: LinkId = (&ids as &dyn IdSource).next();
            let link = SignedLink {
                link: Arc::new(DelegationLink {
                    id,
                    org,
                    delegator: name(OWNER),
                    delegatee: agent.clone(),
                    parent: None,
                    rights: rights(&[("*", "*")]),
                    not_before: now,
                    expires_at: until,
                    max_depth: 7,
                    budget: None,
                    issued_at: now,
                    key_version: KeyVersion::FIRST,
                }),
                signature: signature.clone(),
            };
            let store = Arc::clone(&identities.store);
            let add = async move { store.insert_link(link, Commit::default()).await };
            added.push(tokio::spawn(add));
        }
        for added in added {
            added.await??;
        }
    }
    Ok(())
}
